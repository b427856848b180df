package alluxio.membership;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import alluxio.exception.runtime.UnavailableRuntimeException;
import alluxio.membership.bridge.Membership;
import alluxio.membership.bridge.Worker;
import alluxio.membership.testing.Await;
import alluxio.membership.testing.ChildJvm;
import alluxio.membership.testing.EtcdServer;
import alluxio.membership.testing.Gate;
import alluxio.membership.testing.Log;
import alluxio.membership.testing.Peer;
import alluxio.membership.testing.SharedEtcd;
import alluxio.membership.testing.TestCluster;
import alluxio.membership.testing.Workers;
import alluxio.wire.WorkerIdentity;
import alluxio.wire.WorkerInfo;
import alluxio.wire.WorkerNetAddress;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

import java.io.File;
import java.net.URL;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/** The ends of JVMs with our jar, and what the cluster sees. */
@Execution(ExecutionMode.CONCURRENT)
class JvmLifeTest {
  private static final String ID = "worker-33333333-3333-3333-3333-333333333333";

  @RegisterExtension
  static final SharedEtcd ETCD = new SharedEtcd();

  @TempDir
  private Path mDirectory;

  private Function<Object[], String> mPeer;
  private final TestCluster mCluster = new TestCluster(ETCD.server(), "ETCD");

  private ChildJvm start(String... options) throws Exception {
    return ChildJvm.start(ChildJvm.ourClassPath(), mCluster.properties(), Arrays.asList(options),
        Peer.class);
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

  /** The configuration is Alluxio's global one, which comes from the system properties. */
  private String ask(String operation) {
    Map<String, String> worker = new HashMap<>();
    worker.put(Peer.IDENTITY, ID);
    worker.put("Host", "h");
    worker.put("RpcPort", "1000");
    return mPeer.apply(new Object[] {operation, "m",
        operation.equals("open") ? Collections.emptyMap() : worker});
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
    try (ChildJvm jvm = startJoined(); MembershipManager reader =
        MembershipManager.Factory.create(mCluster.conf())) {
      // A stalled machine may end the lease, but the library replaces it.
      Await.until("the worker is live", 30,
          () -> Workers.text(reader.getAllMembers()).equals(ID + "=h:1000/LIVE"));
      jvm.kill();
      jvm.awaitExit();
      Await.until("the worker is lost", 30,
          () -> Workers.text(reader.getAllMembers()).equals(ID + "=h:1000/LOST"));
      assertEquals(ID + "=h:1000/LOST", Workers.text(reader.getFailedMembers()));
    }
  }

  /**
   * Alluxio reads every system property with its prefix, also properties that only the JVM uses.
   */
  @Test
  void theLibraryMayBeNamedByASystemProperty() throws Exception {
    URL built = JvmLifeTest.class.getResource(
        "/META-INF/native/linux-x86_64/liballuxio_membership.so");
    for (String option : Arrays.asList("-Dalluxio.membership.native.library.path="
        + new File(built.toURI()),
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
      for (String operation : Arrays.asList("live", "failed", "show", "decommission", "stop",
          "all", "close", "all")) {
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

  /**
   * Alluxio's log pattern has no logger, only file and line, which are equal for all records of the
   * library.
   */
  @Test
  void openingIsLoggedInOneLine() throws Exception {
    mCluster.with("alluxio.cluster.name", "logged");
    try (ChildJvm jvm = startJoined("-Dtest.log.level=info")) {
      Await.until("the line", 60, () -> jvm.output().contains("Opened "));
      assertTrue(jvm.output()
          .matches(
          "(?s).* INFO alluxio\\.membership\\.native\\.jni - alluxio\\.membership\\.native\\.jni: "
          + "Opened cluster logged at " + ETCD.server().endpoint() + " \\(no user, no TLS\\); "
          + "alluxio-membership \\d\\S* from /\\S*/classes/, copied to /.*"), jvm.output());
      jvm.send(Peer.RETURN);
      assertEquals(0, jvm.awaitExit());
    }
  }

  @Test
  void joiningIsLoggedInOneLine() throws Exception {
    mCluster.with("alluxio.worker.failure.detection.timeout", "60s");
    try (ChildJvm jvm = startJoined("-Dtest.log.level=info")) {
      String key = mCluster.liveKey(ID);
      String registered = "Registered " + ID + " at h:1000: lease "
          + Long.toHexString(ETCD.server().get(key).get(key).getLease())
          + " with a TTL of 60 s, through etcd endpoint " + ETCD.server().endpoint();
      // A thread writes the log.
      Await.until("the line", 60, () -> jvm.output().contains(registered));
      jvm.send(Peer.RETURN);
      assertEquals(0, jvm.awaitExit());
      assertEquals(1, Arrays.stream(jvm.output().split("\n"))
          .filter(line -> line.contains(" INFO ") && line.endsWith(registered)).count(),
          jvm.output());
    }
  }

  /** Alluxio's worker logs the exception of each try. */
  @Test
  void aFailedJoinHasItsFramesInTheDebugLogOnly() throws Exception {
    try (EtcdServer etcd = EtcdServer.start(); Log log =
        Log.of(NativeMembershipManager.class.getName())) {
      TestCluster cluster = new TestCluster(etcd, "ETCD")
          .with("alluxio.membership.native.operation.timeout", "1s");
      MembershipManager manager = MembershipManager.Factory.create(cluster.conf());
      etcd.stopProcess();
      WorkerInfo worker = new WorkerInfo()
          .setIdentity(WorkerIdentity.ParserV0.INSTANCE.fromLong(1L))
          .setAddress(new WorkerNetAddress().setHost("h"));
      UnavailableRuntimeException error =
          assertThrows(UnavailableRuntimeException.class, () -> manager.join(worker));
      for (Throwable thrown = error; thrown != null; thrown = thrown.getCause()) {
        assertEquals(0, thrown.getStackTrace().length, thrown.toString());
      }
      assertTrue(error.getMessage().contains(etcd.endpoint())
          || error.getCause().getMessage().contains(etcd.endpoint()),
          error.toString());
      assertFalse(log.text().contains("Failed to join"), log.text());
      manager.close();
    }
  }

  /** Like frameworks with the threads of a group. */
  @Test
  void interruptsOfTheLibrarysThreadsCostNoLease() throws Exception {
    mCluster.with("alluxio.worker.failure.detection.timeout", "4s");
    try (MembershipManager manager = MembershipManager.Factory.create(mCluster.conf())) {
      WorkerIdentity identity = WorkerIdentity.ParserV0.INSTANCE.fromLong(1L);
      manager.join(new WorkerInfo().setIdentity(identity)
          .setAddress(new WorkerNetAddress().setHost("h")));
      String key = mCluster.liveKey(identity.toString());
      long lease = ETCD.server().get(key).get(key).getLease();
      long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(7);
      while (System.nanoTime() < end) {
        Thread.getAllStackTraces().keySet().stream()
            .filter(thread -> thread.getName().startsWith("alluxio-membership-"))
            .forEach(Thread::interrupt);
        Thread.sleep(20);
      }
      assertEquals(lease, ETCD.server().get(key).get(key).getLease());
    }
  }

  /** Joins in one thread, and exits on a command. */
  public static final class ExitDuringJoin {
    private ExitDuringJoin() {}

    /**
     * @param args none; the configuration is in the system properties
     */
    public static void main(String[] args) throws Exception {
      Map<String, String> properties = ChildJvm.alluxioProperties();
      Membership member = Membership.open(properties);
      Thread joining = new Thread(() -> {
        try {
          member.join(Worker.newBuilder(alluxio.membership.bridge.WorkerIdentity.parse(ID))
              .setHost("h").build());
          System.out.println("joined");
        } catch (Exception e) {
          System.out.println("join failed " + e);
        }
      });
      joining.setDaemon(true);
      joining.start();
      System.in.read();
      System.exit(0);
    }
  }

  @Test
  void exitDuringAJoinLeavesNoWorkerBehind() throws Exception {
    try (Gate gate = new Gate(ETCD.server())) {
      mCluster.with("alluxio.etcd.endpoints", gate.endpoint())
          .with("alluxio.membership.native.operation.timeout", "3s")
          .with("alluxio.worker.failure.detection.timeout", "5min");
      Gate.Hold write = gate.hold(mCluster.liveKey(ID));
      try (ChildJvm jvm = ChildJvm.start(ChildJvm.ourClassPath(), mCluster.properties(),
          Collections.emptyList(),
          ExitDuringJoin.class)) {
        write.awaitRequest();
        // etcd writes the keys, but the JVM does not receive the answer.
        gate.mute(true);
        write.release();
        Await.until("the worker is live", 60, this::isLive);
        jvm.send("");
        assertEquals(0, jvm.awaitExit());
        assertFalse(jvm.output().contains("joined"), jvm.output());
      }
      Await.until("the worker is lost, long before its lease ends", 60, () -> !isLive());
    }
  }

  @Test
  void aWorkerThatCannotLeaveAtExitIsLogged() throws Exception {
    try (EtcdServer etcd = EtcdServer.start()) {
      // Longer than the 5 s that a JVM might wait.
      mCluster.with("alluxio.etcd.endpoints", etcd.endpoint())
          .with("alluxio.membership.native.operation.timeout", "6s");
      try (ChildJvm jvm = start()) {
        mPeer = Peer.remote(jvm);
        ask("open");
        assertEquals("", ask("join"));
        etcd.stopProcess();
        jvm.terminate();
        assertEquals(143, jvm.awaitExit());
        assertTrue(jvm.output().contains("A worker of this process could not leave"), jvm.output());
      }
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
