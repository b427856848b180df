package alluxio.membership;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import alluxio.exception.runtime.UnavailableRuntimeException;
import alluxio.membership.testing.Certificates;
import alluxio.membership.testing.EtcdServer;
import alluxio.membership.testing.TestCluster;
import alluxio.wire.WorkerIdentity;
import alluxio.wire.WorkerInfo;
import alluxio.wire.WorkerNetAddress;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import java.nio.file.Path;
import java.util.UUID;

/**
 * The properties of the enterprise edition reach the library through the configuration of Alluxio,
 * which does not know them.
 */
class TlsTest {
  @Test
  void alluxiosConfigurationSwitchesTlsOn(@TempDir Path directory) throws Exception {
    Certificates certificates = new Certificates(directory);
    try (EtcdServer etcd = EtcdServer.startWithTls(certificates)) {
      TestCluster cluster = new TestCluster(etcd, "ETCD")
          .with("alluxio.etcd.endpoints", etcd.tlsEndpoint())
          .with("alluxio.membership.native.operation.timeout", "4s")
          .with("alluxio.etcd.tls.enabled", "true")
          .with("alluxio.etcd.tls.ca.cert", certificates.serverCertificate().toString());
      try (MembershipManager manager = MembershipManager.Factory.create(cluster.conf())) {
        String message = assertThrows(UnavailableRuntimeException.class, manager::getAllMembers)
            .getCause().toString();
        assertTrue(message.contains("alluxio.etcd.tls.client.cert"), message);
      }
      cluster.with("alluxio.etcd.tls.client.cert", certificates.clientCertificate().toString())
          .with("alluxio.etcd.tls.client.key", certificates.clientKey().toString());
      try (MembershipManager manager = MembershipManager.Factory.create(cluster.conf())) {
        WorkerInfo worker =
            new WorkerInfo().setIdentity(WorkerIdentity.ParserV1.INSTANCE.fromUUID(
            UUID.randomUUID()))
                .setAddress(new WorkerNetAddress().setHost("host").setRpcPort(1));
        manager.join(worker);
        assertEquals(1, manager.getLiveMembers().size());
        assertTrue(etcd.get("/DHT/").containsKey(cluster.ringKey(worker.getIdentity().toString())));
      }
    }
  }
}
