package alluxio.membership;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import alluxio.membership.testing.Await;
import alluxio.membership.testing.ChildJvm;
import alluxio.membership.testing.Peer;
import alluxio.membership.testing.SharedEtcd;
import alluxio.membership.testing.TestCluster;
import alluxio.membership.testing.Workers;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.api.io.TempDir;

import java.io.File;
import java.net.URL;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.Map;
import java.util.function.Function;

/** How JVMs with our jar end, and what the cluster sees of it. */
class JvmLifeTest {
  private static final String ID = "worker-33333333-3333-3333-3333-333333333333";

  @RegisterExtension
  static final SharedEtcd ETCD = new SharedEtcd();

  @TempDir
  private Path mDirectory;

  private Function<Object[], String> mPeer;
  private final TestCluster mCluster = new TestCluster(ETCD.server(), "ETCD");

  private ChildJvm start(String... options) throws Exception {
    return ChildJvm.start(ChildJvm.ourClassPath(), mCluster.properties(), Arrays.asList(options), Peer.class);
  }

  private ChildJvm startJoined(String... options) throws Exception {
    ChildJvm jvm = start(options);
    mPeer = Peer.remote(jvm);
    assertEquals("alluxio.membership.EtcdMembershipManager", ask("open"));
    assertEquals("", ask("join"));
    assertTrue(ask("all").contains(ID));
    assertTrue(isLive());
    return jvm;
  }

  /** The configuration is Alluxio's global one, from the system properties. */
  private String ask(String operation) {
    Map<String, String> worker = new HashMap<>();
    worker.put(Peer.IDENTITY, ID);
    worker.put("Host", "h");
    worker.put("RpcPort", "1000");
    return mPeer.apply(new Object[] {operation, "m", operation.equals("open") ? Collections.emptyMap() : worker});
  }

  private boolean isLive() throws Exception {
    return !ETCD.server().get(mCluster.liveKey(ID)).isEmpty();
  }

  private boolean isRegistered() throws Exception {
    return !ETCD.server().get(mCluster.ringKey(ID)).isEmpty();
  }

  @Test
  void exitsWhenMainReturnsAndLeaves() throws Exception {
    try (ChildJvm jvm = startJoined()) {
      jvm.send(Peer.RETURN);
      assertEquals(0, jvm.awaitExit());
      assertFalse(isLive());
      assertTrue(isRegistered());
    }
  }

  @Test
  void exitsFromSystemExitAndLeaves() throws Exception {
    try (ChildJvm jvm = startJoined()) {
      jvm.send(Peer.EXIT);
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
    mCluster.with("alluxio.worker.failure.detection.timeout", "6s");
    try (ChildJvm jvm = startJoined(); MembershipManager reader = MembershipManager.Factory.create(mCluster.conf())) {
      // A stalled machine may cost the lease, which comes back.
      Await.until("the worker is live", 30, () -> Workers.text(reader.getAllMembers()).equals(ID + "=h:1000/LIVE"));
      jvm.kill();
      jvm.awaitExit();
      Await.until("the worker is lost", 30,
          () -> Workers.text(reader.getAllMembers()).equals(ID + "=h:1000/LOST"));
      assertEquals(ID + "=h:1000/LOST", Workers.text(reader.getFailedMembers()));
    }
  }

  /** Alluxio takes every system property of its names into its configuration, also those that are for the JVM alone. */
  @Test
  void theLibraryMayBeNamedByASystemProperty() throws Exception {
    URL built = JvmLifeTest.class.getResource("/META-INF/native/linux-x86_64/liballuxio_membership.so");
    for (String option : Arrays.asList("-Dalluxio.membership.native.library.path=" + new File(built.toURI()),
        "-Dalluxio.membership.native.library.tmpdir=" + mDirectory)) {
      try (ChildJvm jvm = startJoined(option)) {
        assertEquals("", ask("close"));
        jvm.send(Peer.RETURN);
        assertEquals(0, jvm.awaitExit());
      }
    }
  }

  @Test
  void isCleanUnderCheckJni() throws Exception {
    try (ChildJvm jvm = startJoined("-Xcheck:jni")) {
      for (String operation : Arrays.asList("live", "failed", "show", "decommission", "stop", "all", "close", "all")) {
        ask(operation);
      }
      jvm.send(Peer.RETURN);
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
      jvm.send(Peer.RETURN);
      assertEquals(0, jvm.awaitExit());
      assertFalse(jvm.output().contains("alluxio.membership.native"), jvm.output());
    }
  }

  @Test
  void thePasswordIsNotLogged() throws Exception {
    mCluster.with("alluxio.etcd.username", "root").with("alluxio.etcd.password", "s3cr3t-passw0rd");
    try (ChildJvm jvm = start("-Dtest.log.level=trace")) {
      mPeer = Peer.remote(jvm);
      for (String operation : new String[] {"open", "all", "show", "close"}) {
        String answer = ask(operation);
        assertFalse(answer.contains("s3cr3t"), answer);
      }
      jvm.send(Peer.RETURN);
      jvm.awaitExit();
      assertFalse(jvm.output().contains("s3cr3t"), jvm.output());
    }
  }
}
