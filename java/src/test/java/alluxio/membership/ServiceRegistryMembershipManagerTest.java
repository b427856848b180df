package alluxio.membership;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertTrue;

import alluxio.membership.testing.EtcdServer;
import alluxio.membership.testing.TestCluster;
import alluxio.membership.testing.Workers;
import alluxio.wire.WorkerInfo;

import org.junit.jupiter.api.Test;

import java.util.Collections;
import java.util.Map;

class ServiceRegistryMembershipManagerTest {
  @Test
  void keepsLiveWorkersOnly() throws Exception {
    try (EtcdServer etcd = EtcdServer.start()) {
      TestCluster cluster = new TestCluster(etcd, "SERVICE_REGISTRY");
      WorkerInfo worker = Workers.worker("worker-5", "h", 1);
      try (MembershipManager manager = MembershipManager.Factory.create(cluster.conf());
          MembershipManager withClient = new ServiceRegistryMembershipManager(cluster.conf(),
              null)) {
        assertInstanceOf(NativeMembershipManager.class, manager);
        manager.join(worker);
        assertEquals(Collections.singleton(cluster.liveKey("worker-5")), keys(etcd).keySet());
        assertEquals("worker-5=h:1/LIVE", Workers.text(manager.getAllMembers()));
        assertEquals("worker-5=h:1/LIVE", Workers.text(withClient.getLiveMembers()));
        assertTrue(manager.getFailedMembers().isEmpty());
        assertEquals("WorkerId\tAddress\tStatus\nworker-5\th:1\tONLINE\n",
            manager.showAllMembers());
        manager.decommission(worker);
        assertEquals("worker-5=h:1/LIVE", Workers.text(manager.getAllMembers()));
        manager.stopHeartBeat(worker);
        assertTrue(manager.getAllMembers().isEmpty());
        assertTrue(keys(etcd).isEmpty());
      }
    }
  }

  private static Map<String, ?> keys(EtcdServer etcd) throws Exception {
    return etcd.get("/");
  }
}
