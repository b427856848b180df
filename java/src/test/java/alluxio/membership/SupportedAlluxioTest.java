package alluxio.membership;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import alluxio.membership.testing.AlluxioWorld;
import alluxio.membership.testing.Peer;

import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;

class SupportedAlluxioTest {
  @ParameterizedTest
  @ValueSource(strings = {"alluxio.wire.WorkerState",
      "alluxio.wire.WorkerState,alluxio.membership.WorkerClusterView"})
  void anOlderAlluxioIsToldWhatIsNeeded(String missing) throws Exception {
    Map<String, String> properties = new HashMap<>();
    properties.put("alluxio.worker.membership.manager.type", "ETCD");
    properties.put("alluxio.etcd.endpoints", "http://127.0.0.1:1");
    try (AlluxioWorld world = AlluxioWorld.without(
        new HashSet<>(Arrays.asList(missing.split(","))))) {
      // Every time, not only the first time.
      for (String type : new String[] {"ETCD", "ETCD", "STATIC", "SERVICE_REGISTRY"}) {
        properties.put("alluxio.worker.membership.manager.type", type);
        String opened = world.start(Peer.class).apply(new Object[] {"open", "a", properties});
        assertTrue(
            opened.contains(
            "The alluxio-membership jar needs Alluxio 308 or newer, but this is 313: it has no "
            + "alluxio.wire.WorkerState"), opened);
      }
      properties.put("alluxio.worker.membership.manager.type", "ETCD");
    }
    try (AlluxioWorld world = AlluxioWorld.without(Collections.emptySet())) {
      assertEquals("alluxio.membership.EtcdMembershipManager",
          world.start(Peer.class).apply(new Object[] {"open", "a", properties}));
    }
  }
}
