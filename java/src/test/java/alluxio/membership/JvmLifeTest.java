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
import java.util.List;

/** How JVMs with our jar end, and what the cluster sees of it. */
class JvmLifeTest {
  private static final String ID = "worker-33333333-3333-3333-3333-333333333333";

  private static EtcdServer sEtcd;

  private final TestCluster mCluster = new TestCluster(sEtcd, "ETCD");

  @BeforeAll
  static void startEtcd() throws Exception {
    sEtcd = EtcdServer.start();
  }

  @AfterAll
  static void stopEtcd() throws Exception {
    sEtcd.close();
  }

  private ChildJvm startJoined(String... options) throws Exception {
    ChildJvm jvm = ChildJvm.start(ChildJvm.ourClassPath(), mCluster.properties(), Arrays.asList(options),
        MembershipProgram.class);
    for (String command : new String[] {"join " + ID + " h 1000", "all"}) {
      jvm.send(command);
      String answer = jvm.awaitLine(command, line -> line.startsWith("ok ") || line.startsWith("error "));
      assertTrue(answer.startsWith("ok "), answer);
    }
    assertTrue(isLive());
    return jvm;
  }

  private boolean isLive() throws Exception {
    return !sEtcd.get(mCluster.liveKey(ID)).isEmpty();
  }

  private boolean isRegistered() throws Exception {
    return !sEtcd.get(mCluster.ringKey(ID)).isEmpty();
  }

  @Test
  void exitsWhenMainReturnsAndLeaves() throws Exception {
    try (ChildJvm jvm = startJoined()) {
      jvm.send("return");
      assertEquals(0, jvm.awaitExit());
      assertFalse(isLive());
      assertTrue(isRegistered());
    }
  }

  @Test
  void exitsFromSystemExitAndLeaves() throws Exception {
    try (ChildJvm jvm = startJoined()) {
      jvm.send("exit");
      assertEquals(0, jvm.awaitExit());
      assertFalse(isLive());
    }
  }

  @Test
  void leavesOnSigterm() throws Exception {
    try (ChildJvm jvm = startJoined()) {
      jvm.terminate();
      assertEquals(143, jvm.awaitExit());
      assertFalse(isLive());
      assertTrue(isRegistered());
    }
  }

  @Test
  void staysOnSigtermIfToldSo() throws Exception {
    mCluster.with("alluxio.membership.native.leave.on.shutdown", "false");
    try (ChildJvm jvm = startJoined()) {
      jvm.terminate();
      assertEquals(143, jvm.awaitExit());
      assertTrue(isLive());
    }
  }

  @Test
  void aKilledWorkerIsLostAfterItsTtl() throws Exception {
    mCluster.with("alluxio.worker.failure.detection.timeout", "3s");
    try (ChildJvm jvm = startJoined(); MembershipManager reader = MembershipManager.Factory.create(mCluster.conf())) {
      assertEquals(ID + "=h:1000/LIVE", MembershipProgram.text(reader.getAllMembers()));
      jvm.kill();
      jvm.awaitExit();
      Await.until("the worker is lost", 30,
          () -> MembershipProgram.text(reader.getAllMembers()).equals(ID + "=h:1000/LOST"));
      assertEquals(ID + "=h:1000/LOST", MembershipProgram.text(reader.getFailedMembers()));
    }
  }

  @Test
  void isCleanUnderCheckJni() throws Exception {
    try (ChildJvm jvm = startJoined("-Xcheck:jni")) {
      List<String> commands = Arrays.asList("live", "failed", "show", "decommission " + ID, "stop " + ID, "all", "close",
          "all");
      for (String command : commands) {
        jvm.send(command);
        jvm.awaitLine(command, line -> line.startsWith("ok ") || line.startsWith("error "));
      }
      jvm.send("return");
      assertEquals(0, jvm.awaitExit());
      assertFalse(jvm.output().contains("WARNING in native method"), jvm.output());
      assertFalse(jvm.output().contains("WARNING: JNI"), jvm.output());
      assertFalse(jvm.output().contains("FATAL ERROR"), jvm.output());
    }
  }

  @Test
  void nativeLogRecordsArriveInSlf4j() throws Exception {
    try (ChildJvm jvm = startJoined("-Dtest.log.level=trace")) {
      Await.until("a record of the native library", 60,
          () -> jvm.output().matches("(?s).* INFO alluxio\\.membership\\.native\\.\\S+ - \\S.*"));
    }
    try (ChildJvm jvm = startJoined("-Dtest.log.level=off")) {
      jvm.send("return");
      assertEquals(0, jvm.awaitExit());
      assertFalse(jvm.output().contains("alluxio.membership.native"), jvm.output());
    }
  }

  @Test
  void thePasswordIsNotLogged() throws Exception {
    mCluster.with("alluxio.etcd.username", "root").with("alluxio.etcd.password", "s3cr3t-passw0rd");
    try (ChildJvm jvm = ChildJvm.start(ChildJvm.ourClassPath(), mCluster.properties(),
        Collections.singletonList("-Dtest.log.level=trace"), MembershipProgram.class)) {
      for (String command : new String[] {"all", "show", "close"}) {
        jvm.send(command);
        jvm.awaitLine(command, line -> line.startsWith("ok ") || line.startsWith("error "));
      }
      jvm.send("return");
      jvm.awaitExit();
      assertFalse(jvm.output().contains("s3cr3t"), jvm.output());
    }
  }
}
