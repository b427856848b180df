package alluxio.membership;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import alluxio.membership.testing.Await;
import alluxio.membership.testing.ChildJvm;
import alluxio.membership.testing.EtcdServer;
import alluxio.membership.testing.MembershipProgram;
import alluxio.membership.testing.TestCluster;

import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

import java.util.Arrays;
import java.util.Collections;

/** JVMs with and without our jar in one cluster. */
class MixedClusterTest {
  private static final String[] IDS =
      {"worker-11111111-1111-1111-1111-111111111111", "worker-22222222-2222-2222-2222-222222222222"};

  private static EtcdServer sEtcd;

  private final TestCluster mCluster =
      new TestCluster(sEtcd, "ETCD").with("alluxio.worker.failure.detection.timeout", "3s");

  @BeforeAll
  static void startEtcd() throws Exception {
    sEtcd = EtcdServer.start();
  }

  @AfterAll
  static void stopEtcd() throws Exception {
    sEtcd.close();
  }

  private ChildJvm start(String classPath, boolean ours) throws Exception {
    ChildJvm jvm = ChildJvm.start(classPath, mCluster.properties(), Collections.emptyList(), MembershipProgram.class);
    String ready = jvm.awaitLine("ready", line -> line.startsWith("ready "));
    assertEquals(ours, ready.endsWith("/target/classes/"), ready);
    return jvm;
  }

  private static String ask(ChildJvm jvm, String command) throws Exception {
    jvm.send(command);
    return jvm.awaitLine("answer to " + command, line -> line.startsWith("ok ") || line.startsWith("error "));
  }

  @Test
  void stockAndOursListEachOther() throws Exception {
    try (ChildJvm stock = start(ChildJvm.stockClassPath(), false);
        ChildJvm ours = start(ChildJvm.ourClassPath(), true)) {
      assertEquals("ok ", ask(stock, "join " + IDS[0] + " stock 1000"));
      assertEquals("ok ", ask(ours, "join " + IDS[1] + " ours 2000"));
      String both = "ok " + IDS[0] + "=stock:1000/LIVE " + IDS[1] + "=ours:2000/LIVE";
      for (ChildJvm jvm : Arrays.asList(stock, ours)) {
        for (String which : new String[] {"all", "live"}) {
          Await.until(which + " shows both", 20, () -> ask(jvm, which).equals(both));
        }
        assertEquals("ok ", ask(jvm, "failed"));
      }
      assertEquals(ask(stock, "show"), ask(ours, "show"));

      // Each takes the other's identity: both refuse, with the same words.
      String conflict = ask(stock, "join " + IDS[1] + " stock 1000");
      assertTrue(conflict.startsWith("error alluxio.exception.status.AlreadyExistsException: "), conflict);
      assertEquals(conflict.replace("ours", "HOST").replace("2000", "PORT").replace("2001", "DATA")
          .replace("2002", "WEB").replace(IDS[1], "ID"),
          ask(ours, "join " + IDS[0] + " ours 2000").replace("stock", "HOST").replace("1000", "PORT")
              .replace("1001", "DATA").replace("1002", "WEB").replace(IDS[0], "ID"));
      assertEquals(ask(stock, "decommission " + IDS[1]).replace(IDS[1], "ID"),
          ask(ours, "decommission " + IDS[0]).replace(IDS[0], "ID"));

      // Each stops, is seen as lost by the other, and is removed by the other.
      assertEquals("ok ", ask(ours, "stop " + IDS[1]));
      Await.until("the stock JVM sees our worker lost", 20,
          () -> ask(stock, "failed").equals("ok " + IDS[1] + "=ours:2000/LOST"));
      assertEquals("ok ", ask(stock, "decommission " + IDS[1]));
      assertEquals("ok ", ask(stock, "stop " + IDS[0]));
      Await.until("we see the stock worker lost", 30,
          () -> ask(ours, "all").equals("ok " + IDS[0] + "=stock:1000/LOST"));
      assertEquals("ok ", ask(ours, "decommission " + IDS[0]));
      assertEquals("ok ", ask(stock, "all"));
      assertEquals("ok ", ask(ours, "all"));
      assertFalse(ours.output().contains("error java.lang"), ours.output());
    }
  }
}
