package alluxio.membership;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import alluxio.membership.testing.AlluxioWorld;
import alluxio.membership.testing.Await;
import alluxio.membership.testing.ChildJvm;
import alluxio.membership.testing.Gate;
import alluxio.membership.testing.Peer;
import alluxio.membership.testing.SharedEtcd;
import alluxio.membership.testing.StockInternals;
import alluxio.membership.testing.TestCluster;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.KeyValue;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;
import org.junit.jupiter.api.parallel.ResourceLock;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/**
 * Weaknesses of Alluxio's classes. Each test shows one on the stock class, and that our class does
 * not have it. {@code DifferentialTest} has the weaknesses that a sequence of calls shows. These
 * tests need an event during a call. They mostly wait for the stock class, so they run beside other
 * classes. The tests share their processes.
 */
@Execution(ExecutionMode.CONCURRENT)
@ResourceLock("the processes of WeaknessesTest")
class WeaknessesTest {
  /** A text that only requests for a worker's record contain. */
  private static final String WRITES_RECORD = "\"ServiceEntityName\"";
  private static final String CONFLICT =
      "alluxio.exception.status.AlreadyExistsException: Some other member";

  @RegisterExtension
  static final SharedEtcd ETCD = new SharedEtcd();

  private static final Map<Boolean, AlluxioWorld> FIRST = new HashMap<>();
  private static final Map<Boolean, AlluxioWorld> SECOND = new HashMap<>();

  private final List<Scene> mScenes = new ArrayList<>();
  private final List<Process> mProcesses = new ArrayList<>();

  @BeforeAll
  static void start() throws Exception {
    for (boolean ours : new boolean[] {false, true}) {
      FIRST.put(ours, AlluxioWorld.open(AlluxioWorld.CURRENT, ours));
      SECOND.put(ours, AlluxioWorld.open(AlluxioWorld.CURRENT, ours));
    }
  }

  @AfterAll
  static void stop() throws Exception {
    for (boolean ours : new boolean[] {false, true}) {
      FIRST.get(ours).close();
      SECOND.get(ours).close();
    }
  }

  @AfterEach
  void endScenes() throws Exception {
    for (Process process : mProcesses) {
      process.does("end", null);
    }
    for (Scene scene : mScenes) {
      scene.close();
    }
  }

  private Scene stock() throws Exception {
    return new Scene(false);
  }

  private Scene ours() throws Exception {
    return new Scene(true);
  }

  @Test
  void listingsMixTwoMoments() throws Exception {
    Scene stock = stock();
    Gate.Hold ring = stock.mGate.holdAll("/DHT/");
    CompletableFuture<String> listing = stock.first("all", null);
    ring.awaitRequest();
    assertEquals("", stock.mSecond.does("join", worker(1)));
    ring.release();
    // The worker was always live.
    assertTrue(get(listing).contains("State=LOST"), get(listing));

    // Whichever request comes first.
    for (String later : new String[] {"/DHT/", "/ServiceDiscovery/"}) {
      Scene ours = ours();
      Gate.Hold held = ours.mGate.holdAll(later);
      CompletableFuture<String> ourListing = ours.first("all", null);
      held.awaitRequest();
      assertEquals("", ours.mSecond.does("join", worker(1)));
      held.release();
      assertTrue(get(ourListing).contains("State=LIVE") && get(ourListing).contains("size:1 "),
          get(ourListing));
      assertEquals(get(ourListing), ours.mFirst.does("live", null));
      assertTrue(ours.mFirst.does("failed", null).contains("size:0 "),
          ours.mFirst.does("failed", null));
    }
  }

  @Test
  void eachListingReadsEverything() throws Exception {
    for (Scene scene : new Scene[] {stock(), ours()}) {
      assertEquals("", scene.mSecond.does("join", worker(1)));
      Await.until("the worker is listed", 60,
          () -> scene.mFirst.does("all", null).contains("size:1"));
      long before = scene.mGate.passed("/DHT/");
      for (int i = 0; i < 30; i++) {
        scene.mFirst.does("all", null);
      }
      long read = scene.mGate.passed("/DHT/") - before;
      assertTrue(scene.mOurs ? read < 10 : read >= 30, read + " requests");
    }
  }

  @Test
  void joiningWaitsForEver() throws Exception {
    Scene stock = stock();
    Gate.Hold held = stock.mGate.hold(WRITES_RECORD);
    Thread[] thread = new Thread[1];
    CompletableFuture<String> join = CompletableFuture.supplyAsync(() ->
        stock.mFirst.does("join", worker(1)), body -> {
      thread[0] = new Thread(body);
      thread[0].start();
    });
    held.awaitRequest();

    Scene ours = ours();
    ours.open("6s", "3s");
    // A held request is sent again.
    ours.mGate.mute(true);
    String failed = get(ours.first("join", worker(1)));
    assertTrue(failed.startsWith("alluxio.exception.runtime.UnavailableRuntimeException"), failed);

    assertFalse(join.isDone());
    List<String> frames = new ArrayList<>();
    for (StackTraceElement frame : thread[0].getStackTrace()) {
      frames.add(frame.getMethodName());
    }
    // Not timedGet, because there is no limit.
    assertTrue(frames.contains("waitingGet"), frames.toString());
    held.release();
    assertEquals("", get(join));
  }

  @Test
  void oneWorkerThatWaitsKeepsOthersFromComingBack() throws Exception {
    Scene stock = stock();
    Scene ours = ours();
    for (Scene scene : new Scene[] {stock, ours}) {
      assertEquals("", scene.mFirst.does("join", worker(1)));
      assertEquals("", scene.mFirst.does("join", worker(2)));
      Gate.Hold held = scene.mGate.hold(WRITES_RECORD);
      scene.revoke(1);
      scene.revoke(2);
      held.awaitRequest();
      if (scene.mOurs) {
        Await.until("the other worker is back", 60, () -> scene.live(1) != null
            || scene.live(2) != null);
      } else {
        Await.until("the checker waits", 60,
            () -> scene.internals("checker waits", 1).equals("true"));
        // The etcd client notices the end of each lease by itself.
        Await.until("both are known to be lost", 60,
            () -> scene.internals("needs reconnect", 1).equals("true")
            && scene.internals("needs reconnect", 2).equals("true"));
        assertTrue(scene.live(1) == null && scene.live(2) == null);
      }
      held.release();
      Await.until("both are back", 60, () -> scene.live(1) != null && scene.live(2) != null);
    }
  }

  @Test
  void updatingTheRingOverwritesAnother() throws Exception {
    for (Scene scene : new Scene[] {stock(), ours()}) {
      assertEquals("", scene.mSecond.does("join", worker(1)));
      assertEquals("", scene.mSecond.does("stop", worker(1)));
      scene.revoke(1);
      Gate.Hold read = scene.mGate.holdAll(scene.ringKey(1));
      CompletableFuture<String> join = scene.first("join", worker(1, "HttpServerPort", "77"));
      read.awaitRequest();
      Gate.Hold write = scene.mGate.holdAll(scene.ringKey(1));
      read.release();
      write.awaitRequest();
      byte[] foreign = new String(ETCD.server().get(scene.ringKey(1)).get(scene.ringKey(1))
          .getValue().getBytes(),
          StandardCharsets.UTF_8).replace("host1", "elsewhere").getBytes(StandardCharsets.UTF_8);
      ETCD.server().put(scene.ringKey(1), foreign);
      write.release();
      String joined = get(join);
      String ring = ETCD.server().get(scene.ringKey(1)).get(scene.ringKey(1)).getValue()
          .toString(StandardCharsets.UTF_8);
      if (scene.mOurs) {
        assertTrue(joined.startsWith(CONFLICT), joined);
        assertTrue(ring.contains("elsewhere"), ring);
      } else {
        assertEquals("", joined);
        assertFalse(ring.contains("elsewhere"), ring);
      }
    }
  }

  @Test
  void aWorkerThatComesBackIsRemoved() throws Exception {
    for (Scene scene : new Scene[] {stock(), ours()}) {
      assertEquals("", scene.mSecond.does("join", worker(1)));
      assertEquals("", scene.mSecond.does("stop", worker(1)));
      scene.revoke(1);
      Await.until("the worker is lost", 60,
          () -> scene.mFirst.does("failed", null).contains("size:1"));
      Gate.Hold held = scene.mGate.holdAll(scene.ringKey(1));
      CompletableFuture<String> removal = scene.first("decommission", worker(1));
      held.awaitRequest();
      assertEquals("", scene.mSecond.does("join", worker(1)));
      held.release();
      String removed = get(removal);
      assertEquals(scene.mOurs, removed.contains("Can't remove running worker"), removed);
      assertEquals(scene.mOurs, !ETCD.server().get(scene.ringKey(1)).isEmpty());
      assertNotEquals(null, scene.live(1));
    }
  }

  @Test
  void deletedKeysDoNotComeBack() throws Exception {
    Scene stock = stock();
    Scene ours = ours();
    for (Scene scene : new Scene[] {stock, ours}) {
      assertEquals("", scene.mFirst.does("join", worker(1)));
      scene.delete(scene.liveKey(1));
    }
    Await.until("our key is back", 60, () -> ours.live(1) != null);
    stock.internals("check", 1);
    assertEquals("false", stock.internals("needs reconnect", 1));
    assertEquals(null, stock.live(1));

    // After the lease ended, the stock class writes only the live key again.
    for (Scene scene : new Scene[] {stock, ours}) {
      assertEquals("", scene.mFirst.does("join", worker(2)));
      scene.delete(scene.ringKey(2));
      scene.revoke(2);
      Await.until("the live key is back", 60, () -> scene.live(2) != null);
    }
    Await.until("our ring key is back", 60, () -> !ETCD.server().get(ours.ringKey(2)).isEmpty());
    assertTrue(ETCD.server().get(stock.ringKey(2)).isEmpty());
  }

  @Test
  void aLostLeaseIsReplacedLate() throws Exception {
    Scene stock = stock();
    Scene ours = ours();
    for (Scene scene : new Scene[] {stock, ours}) {
      scene.open("10min");
      long before = scene.mGate.renewals();
      assertEquals("", scene.mFirst.does("join", worker(1)));
      if (!scene.mOurs) {
        Await.until("the first renewal, after which the next is 200 s later", 60,
            () -> scene.mGate.renewals() > before);
        // The answer of the other request comes first.
        scene.mFirst.does("all", null);
      }
      scene.revoke(1);
    }
    Await.until("ours is back", 60, () -> ours.live(1) != null);
    assertEquals("false", stock.internals("needs reconnect", 1));
    assertEquals(null, stock.live(1));
  }

  @Test
  void whoTookOverLosesTheKeyToTheOneBefore() throws Exception {
    for (boolean oursTookOver : new boolean[] {false, true}) {
      Scene scene = stock();
      Process after = scene.mSecond;
      if (oursTookOver) {
        after = new Process(SECOND.get(true));
        mProcesses.add(after);
        Map<String, String> properties = scene.properties("6s", "20s");
        assertEquals("alluxio.membership.EtcdMembershipManager", after.does("open", properties));
      }
      assertEquals("", scene.mFirst.does("join", worker(1)));
      long before = scene.live(1).getLease();
      assertEquals("", after.does("join", worker(1)));
      long taken = scene.live(1).getLease();
      assertNotEquals(before, taken);
      revokeLease(before);
      // The stock class does not check who owns the key now.
      Await.until("the one before has taken the key back", 60, () -> scene.live(1) != null
          && scene.live(1).getLease() != taken && scene.live(1).getLease() != before);
      scene.mFirst.does("end", null);
      scene.revoke(1);
      if (oursTookOver) {
        Await.until("the one that took over is live", 60, () -> scene.live(1) != null);
        Process reader = after;
        Await.until("it is listed", 60, () -> reader.does("live", null).contains("size:1 "));
      } else {
        after.internals("check", 1);
        assertEquals("false", after.internals("needs reconnect", 1));
        assertEquals(null, scene.live(1));
      }
    }
  }

  /**
   * Two processes of ours: the earlier one leaves the key alone, and gets it back after the other
   * one has ended.
   */
  @Test
  void whoWasTakenOverComesBack() throws Exception {
    Scene ours = ours();
    assertEquals("", ours.mFirst.does("join", worker(1)));
    assertEquals("", ours.mSecond.does("join", worker(1)));
    long taken = ours.live(1).getLease();
    // Without a lease the worker could return only as the owner of the key.
    ours.mFirst.does("join", worker(2));
    ours.outlivesItsLease(2);
    assertEquals(taken, ours.live(1).getLease());
    ours.mSecond.does("end", null);
    Await.until("the one before is back", 60, () -> ours.live(1) != null);
    assertNotEquals(taken, ours.live(1).getLease());
    ours.outlivesItsLease(1);
  }

  @Test
  void twoJoinsAtOnceLeaveTheKeyOnADyingLease() throws Exception {
    Scene stock = stock();
    Gate.Hold held = stock.mGate.hold(stock.liveKey(1));
    CompletableFuture<String> first = stock.first("join", worker(1));
    held.awaitRequest();
    assertEquals("", stock.mFirst.does("join", worker(1)));
    held.release();
    assertTrue(get(first).contains("already registered"), get(first));

    Scene ours = ours();
    Gate.Hold ourHeld = ours.mGate.hold(ours.liveKey(1));
    CompletableFuture<String> ourFirst = ours.first("join", worker(1));
    ourHeld.awaitRequest();
    CompletableFuture<String> ourSecond = ours.first("join", worker(1));
    ourHeld.release();
    assertEquals("", get(ourFirst));
    assertEquals("", get(ourSecond));

    Await.until("the stock key has gone with its lease", 60, () -> stock.live(1) == null);
    stock.internals("check", 1);
    assertEquals("false", stock.internals("needs reconnect", 1));
    assertEquals(null, stock.live(1));
    ours.outlivesItsLease(1);
  }

  @Test
  void aLossDuringARepairIsForgotten() throws Exception {
    Scene stock = stock();
    assertEquals("", stock.mFirst.does("join", worker(1)));
    stock.internals("lose at the end of a reconnect", 1);
    stock.revoke(1);
    Await.until("the worker is lost, and no process has noticed", 60,
        () -> stock.live(1) == null && stock.internals("needs reconnect", 1).equals("false"));
    stock.internals("check", 1);
    assertEquals(null, stock.live(1));

    Scene ours = ours();
    assertEquals("", ours.mFirst.does("join", worker(1)));
    for (int i = 0; i < 20; i++) {
      Await.until("the worker is back", 60, () -> ours.live(1) != null);
      ours.revoke(1);
    }
    Await.until("the worker is back", 60, () -> ours.live(1) != null);
    ours.outlivesItsLease(1);
  }

  @Test
  void oneUnexpectedExceptionEndsAllRepairs() throws Exception {
    Scene stock = stock();
    Scene ours = ours();
    for (Scene scene : new Scene[] {stock, ours}) {
      assertEquals("", scene.mFirst.does("join", worker(1)));
      assertEquals("", scene.mFirst.does("join", worker(2)));
      if (!scene.mOurs) {
        scene.internals("throw once", 1);
      }
      scene.revoke(1);
    }
    Await.until("ours is back", 60, () -> ours.live(1) != null);
    Await.until("the stock checker has thrown", 60,
        () -> stock.internals("has thrown", 1).equals("true"));
    stock.revoke(2);
    ours.revoke(2);
    Await.until("our other worker is back", 60, () -> ours.live(2) != null);
    Await.until("the stock class knows", 60,
        () -> stock.internals("needs reconnect", 2).equals("true"));
    // It checks every 5 s.
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(7);
    while (System.nanoTime() < end) {
      assertEquals(null, stock.live(2));
      Thread.sleep(100);
    }
  }

  @Test
  void stoppingDuringARepairLeavesAnImmortalRecord() throws Exception {
    Scene stock = stock();
    Scene ours = ours();
    for (Scene scene : new Scene[] {stock, ours}) {
      assertEquals("", scene.mFirst.does("join", worker(1)));
      Gate.Hold held = scene.mGate.holdAll(WRITES_RECORD);
      scene.revoke(1);
      held.awaitRequest();
      Thread[] thread = new Thread[1];
      CompletableFuture<String> stop =
          CompletableFuture.supplyAsync(() -> scene.mFirst.does("stop", worker(1)), body -> {
            thread[0] = new Thread(body);
            thread[0].start();
          });
      // Until the stock class has stopped, and ours has finished a running repair.
      Await.until("the stop is under way", 60, () -> stop.isDone()
          || isIn(thread[0], "finishesWithin"));
      assertEquals(!scene.mOurs, stop.isDone());
      held.release();
      assertEquals("", get(stop));
    }
    Await.until("the record is back", 60, () -> stock.live(1) != null);
    stock.outlivesItsLease(1);

    assertEquals("", ours.mFirst.does("join", worker(2)));
    ours.outlivesItsLease(2);
    assertEquals(null, ours.live(1));
  }

  private static boolean isIn(Thread thread, String method) {
    return Arrays.stream(thread.getStackTrace())
        .anyMatch(frame -> frame.getMethodName().equals(method));
  }

  @Test
  void renewalsFloodASilentEtcd() throws Exception {
    Scene stock = stock();
    Scene ours = ours();
    Map<Scene, Long> before = new HashMap<>();
    for (Scene scene : new Scene[] {stock, ours}) {
      scene.open("9s");
      assertEquals("", scene.mFirst.does("join", worker(1)));
      Await.until("a renewal that the gate counts", 60, () -> scene.mGate.renewals() > 0);
      scene.mGate.mute(true);
      before.put(scene, scene.mGate.renewals());
    }
    Await.until("many renewals by the stock class", 60,
        () -> stock.mGate.renewals() - before.get(stock) >= 8);
    long sent = ours.mGate.renewals() - before.get(ours);
    assertTrue(sent <= 4, sent + " renewals");
    stock.mGate.mute(false);
    ours.mGate.mute(false);
  }

  @Test
  void theCharsetOfTheJvmDecidesWhatIsRead() throws Exception {
    String host = "h\u00e4\u4e2d";
    Scene scene = ours();
    assertEquals("", scene.mFirst.does("join", worker(1, "Host", host)));
    for (boolean ours : new boolean[] {false, true}) {
      try (ChildJvm jvm = jvm(ours, "-Dfile.encoding=ISO-8859-1")) {
        Function<Object[], String> peer = Peer.remote(jvm);
        peer.apply(new Object[] {"open", "m", scene.properties("30s", "20s")});
        String all = peer.apply(new Object[] {"all", "m", null});
        assertTrue(all.contains("size:1 "), all);
        assertEquals(ours, all.contains("Host=" + host + " "), all);
        // Our class always writes UTF-8.
        int number = ours ? 2 : 3;
        assertEquals("", peer.apply(new Object[] {"join", "m", worker(number, "Host", host)}));
        String written = scene.live(number).getValue().toString(StandardCharsets.UTF_8);
        assertTrue(written.contains("\"Host\":\"" + host + "\""), written);
        assertEquals("", peer.apply(new Object[] {"stop", "m", worker(number)}));
        scene.revoke(number);
        scene.delete(scene.ringKey(number));
      }
    }
  }

  /** The first column of the table for a hosts file is a hash of the address. */
  @Test
  void theCharsetOfTheJvmDecidesTheIdsOfHosts() throws Exception {
    Path hosts = Files.createTempFile("hosts", "");
    try {
      Files.write(hosts, "h\u00e4\u4e2d\n".getBytes(StandardCharsets.UTF_8));
      Map<String, String> properties = new HashMap<>();
      properties.put("alluxio.worker.membership.manager.type", "STATIC");
      properties.put("alluxio.worker.static.membership.manager.config.file", hosts.toString());
      Map<String, String> tables = new HashMap<>();
      for (boolean ours : new boolean[] {false, true}) {
        for (String charset : new String[] {"ISO-8859-1", "UTF-8"}) {
          try (ChildJvm jvm = jvm(ours, "-Dfile.encoding=" + charset)) {
            Function<Object[], String> peer = Peer.remote(jvm);
            peer.apply(new Object[] {"open", "m", properties});
            String table = peer.apply(new Object[] {"show", "m", null});
            assertTrue(table.contains("\th\u00e4\u4e2d:29999\tN/A\n"), table);
            tables.put(ours + charset, table);
          }
        }
      }
      assertNotEquals(tables.get("falseISO-8859-1"), tables.get("falseUTF-8"));
      assertEquals(tables.get("trueISO-8859-1"), tables.get("trueUTF-8"));
      assertEquals(tables.get("falseUTF-8"), tables.get("trueUTF-8"));
    } finally {
      Files.delete(hosts);
    }
  }

  @Test
  void aJvmDoesNotExitAfterItsMainReturned() throws Exception {
    Scene scene = ours();
    try (ChildJvm stock = jvm(false); ChildJvm ours = jvm(true)) {
      for (ChildJvm jvm : new ChildJvm[] {stock, ours}) {
        Function<Object[], String> peer = Peer.remote(jvm);
        peer.apply(new Object[] {"open", "m", scene.properties("30s", "20s")});
        assertEquals("", peer.apply(new Object[] {"join", "m", worker(jvm == stock ? 1 : 2)}));
        if (jvm == stock) {
          // The stock class fails even then. Ours may be opened.
          assertEquals("", peer.apply(new Object[] {"close", "m", null}));
        }
        jvm.send(Peer.RETURN);
        jvm.awaitLine("the end of main", Peer.RETURNED::equals);
      }
      assertEquals(0, ours.awaitExit());
      assertFalse(stock.exitsWithin(5));
    }
  }

  private static ChildJvm jvm(boolean ours, String... options) throws Exception {
    return ChildJvm.start(AlluxioWorld.joinedClassPath(AlluxioWorld.CURRENT, ours),
        Collections.emptyMap(),
        Arrays.asList(options), Peer.class);
  }

  private static Map<String, String> worker(int number, String... changes) {
    Map<String, String> fields = new HashMap<>();
    fields.put(Peer.IDENTITY, id(number));
    fields.put("Host", "host" + number);
    fields.put("RpcPort", "1");
    for (int i = 0; i < changes.length; i += 2) {
      fields.put(changes[i], changes[i + 1]);
    }
    return fields;
  }

  private static String id(int number) {
    return "worker-0000000" + number + "-0000-4000-8000-000000000000";
  }

  private static String get(CompletableFuture<String> result) throws Exception {
    return result.get(60, TimeUnit.SECONDS);
  }

  private static void revokeLease(long lease) throws Exception {
    ETCD.server().client().getLeaseClient().revoke(lease).get(10, TimeUnit.SECONDS);
  }

  /** A process of one kind. */
  private static final class Process {
    private final Function<Object[], String> mPeer;
    private final AlluxioWorld mWorld;

    Process(AlluxioWorld world) {
      mWorld = world;
      mPeer = world.start(Peer.class);
    }

    String does(String operation, Map<String, String> input) {
      return mPeer.apply(new Object[] {operation, "m", input});
    }

    String internals(String operation, int worker) {
      return mWorld.start(StockInternals.class).apply(new Object[] {operation, id(worker)});
    }
  }

  /** A cluster with two processes of one kind. The first process reaches etcd through a gate. */
  private final class Scene implements AutoCloseable {
    private final boolean mOurs;
    private final TestCluster mCluster = new TestCluster(ETCD.server(), "ETCD");
    private final Gate mGate = new Gate(ETCD.server());
    private final Process mFirst;
    private final Process mSecond;

    Scene(boolean ours) throws Exception {
      mOurs = ours;
      mFirst = new Process(FIRST.get(ours));
      mSecond = new Process(SECOND.get(ours));
      mScenes.add(this);
      open("6s");
    }

    /** Opens the managers. Closes them first if they are open. */
    void open(String timeout) {
      // Longer than any request is held, also on a slow machine.
      open(timeout, "20s");
    }

    void open(String timeout, String operationTimeout) {
      Map<String, String> properties = properties(timeout, operationTimeout);
      for (Process process : new Process[] {mFirst, mSecond}) {
        process.does("end", null);
        properties.put("alluxio.etcd.endpoints",
            process == mFirst ? mGate.endpoint() : ETCD.server().endpoint());
        assertEquals("alluxio.membership.EtcdMembershipManager", process.does("open", properties));
      }
    }

    Map<String, String> properties(String timeout, String operationTimeout) {
      Map<String, String> properties = new HashMap<>(mCluster.properties());
      properties.put("alluxio.worker.failure.detection.timeout", timeout);
      properties.put("alluxio.membership.native.operation.timeout", operationTimeout);
      return properties;
    }

    /** Starts an action of the first process that may have to wait. */
    CompletableFuture<String> first(String operation, Map<String, String> input) {
      return CompletableFuture.supplyAsync(() -> mFirst.does(operation, input),
          body -> new Thread(body).start());
    }

    String internals(String operation, int worker) {
      return mFirst.internals(operation, worker);
    }

    String ringKey(int worker) {
      return mCluster.ringKey(id(worker));
    }

    String liveKey(int worker) {
      return mCluster.liveKey(id(worker));
    }

    KeyValue live(int worker) throws Exception {
      return ETCD.server().get(liveKey(worker)).get(liveKey(worker));
    }

    /** Ends the lease of a live key. */
    void revoke(int worker) throws Exception {
      KeyValue live = live(worker);
      if (live != null) {
        revokeLease(live.getLease());
      }
    }

    void delete(String key) throws Exception {
      ETCD.server().client().getKVClient().delete(ByteSequence.from(key, StandardCharsets.UTF_8))
          .get(10, TimeUnit.SECONDS);
    }

    /** Returns whether a process renews the lease of a live key. */
    void outlivesItsLease(int worker) throws Exception {
      KeyValue before = live(worker);
      long renewals = mGate.renewals();
      // Renewals come after each third of the lease.
      Await.until("the lease is renewed for longer than it lasts", 60,
          () -> mGate.renewals() >= renewals + 4);
      assertEquals(before.getLease(), live(worker).getLease());
    }

    @Override
    public void close() throws Exception {
      mGate.mute(false);
      mFirst.does("end", null);
      mSecond.does("end", null);
      mGate.close();
    }
  }
}
