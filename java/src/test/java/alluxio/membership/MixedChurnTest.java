package alluxio.membership;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import alluxio.membership.testing.AlluxioWorld;
import alluxio.membership.testing.Await;
import alluxio.membership.testing.ChildJvm;
import alluxio.membership.testing.EtcdServer;
import alluxio.membership.testing.Peer;
import alluxio.membership.testing.TestCluster;
import alluxio.wire.WorkerIdentity;
import alluxio.wire.WorkerInfo;
import alluxio.wire.WorkerState;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.KeyValue;
import io.etcd.jetcd.Watch;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.watch.WatchEvent;
import io.etcd.jetcd.watch.WatchResponse;
import org.junit.jupiter.api.Test;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.function.Function;
import java.util.stream.Collectors;

/**
 * Processes with and without our jar join, stop, restart, die, take over from each other and remove
 * each other in one cluster, in a random order. The test compares their listings with etcd, and
 * etcd with their actions: a running worker is never lost. {@code -Dchurn.seconds=...} sets the
 * time, {@code -Dseed=...} repeats the choices.
 */
class MixedChurnTest {
  private static final long SECONDS = Long.getLong("churn.seconds", 15);
  private static final int OPERATIONS_PER_CHECK = 12;
  private static final String[] LISTINGS = {"all", "live", "failed", "show"};
  private static final String MANAGER = "m";

  private final long mSeed = Long.getLong("seed", new Random().nextInt(1_000_000_000));
  private final Random mRandom = new Random(mSeed);
  private final List<Process> mProcesses = new ArrayList<>();
  private final Map<String, Worker> mWorkers = new LinkedHashMap<>();
  /** The revision from which on each live key must exist. */
  private final Map<String, Long> mMustLive = new ConcurrentHashMap<>();
  private final Set<String> mFalselyLost = ConcurrentHashMap.newKeySet();
  private final ConcurrentLinkedQueue<String> mLog = new ConcurrentLinkedQueue<>();
  private final Map<String, Integer> mDone = new HashMap<>();
  private EtcdServer mEtcd;
  private TestCluster mCluster;

  @Test
  void listsAgreeWithEtcdAndNobodyIsLost() throws Exception {
    System.out.println("Mixed churn for " + SECONDS + " s, -Dseed=" + mSeed);
    try (EtcdServer etcd = EtcdServer.start()) {
      mEtcd = etcd;
      mCluster = new TestCluster(etcd, "ETCD")
          .with("alluxio.worker.failure.detection.timeout", "10s");
      for (int i = 0; i < 6; i++) {
        // A process that can be killed, for each kind.
        mProcesses.add(new Process((i % 2 == 0 ? "stock" : "ours") + i / 2, i % 2 == 1,
            i / 2 == 2));
      }
      for (int i = 1; i <= 8; i++) {
        String identity = "worker-0000000" + i + "-0000-4000-8000-000000000000";
        mWorkers.put(identity, new Worker(identity, i));
      }
      ByteSequence live = ByteSequence.from(mCluster.liveKey(""), StandardCharsets.UTF_8);
      try (Watch.Watcher watcher = etcd.client().getWatchClient().watch(live,
          WatchOption.newBuilder().isPrefix(true).build(), Watch.listener(this::saw))) {
        inEachDirection();
        long end = System.nanoTime() + SECONDS * 1_000_000_000;
        while (System.nanoTime() < end) {
          for (int i = 0; i < OPERATIONS_PER_CHECK; i++) {
            operate();
          }
          check(1);
        }
        // The workers that stopped are lost in the end, and no others.
        Await.until("only those that run are live", 60,
            () -> live().equals(mWorkers.values().stream()
            .filter(worker -> worker.mAt != null).map(worker -> worker.mIdentity)
            .collect(Collectors.toSet())));
        check(LISTINGS.length);
      } finally {
        for (Process process : mProcesses) {
          process.end();
        }
      }
    } catch (Throwable t) {
      throw new AssertionError("-Dseed=" + mSeed + ": " + t.getMessage() + "\n"
          + String.join("\n", mLog), t);
    }
    System.out.println("Mixed churn did " + new TreeMap<>(mDone));
  }

  /**
   * Events that the random choices may have missed: each take-over, removal and return between the
   * two kinds, and a death of each kind.
   */
  private void inEachDirection() throws Exception {
    Process[] stock = {mProcesses.get(0), mProcesses.get(2), mProcesses.get(4)};
    Process[] ours = {mProcesses.get(1), mProcesses.get(3), mProcesses.get(5)};
    List<Worker> workers = new ArrayList<>(mWorkers.values());
    Process[][] takeOvers = {{stock[0], stock[1]}, {ours[0], ours[1]}, {ours[0], stock[0]},
        {stock[0], ours[0]}};
    for (int i = 0; i < takeOvers.length; i++) {
      join(workers.get(i), takeOvers[i][0]);
      takeOver(workers.get(i), takeOvers[i][1]);
    }
    Worker ofStock = workers.get(4);
    Worker ofOurs = workers.get(5);
    join(ofStock, stock[2]);
    join(ofOurs, ours[2]);
    check(LISTINGS.length);

    stock[2].restart();
    ours[2].restart();
    for (int i = 0; i < takeOvers.length; i++) {
      stop(workers.get(i));
    }
    Await.until("all are lost", 60, () -> live().isEmpty());
    check(LISTINGS.length);
    // The stock class had the first and the third worker last, and our class had the others.
    Process[] removers = {stock[0], stock[0], ours[0], ours[0]};
    for (int i = 0; i < removers.length; i++) {
      decommission(workers.get(i), removers[i]);
      assertFalse(workers.get(i).mRegistered, workers.get(i).mIdentity);
    }
    join(ofStock, ours[0]);
    count("return of a killed stock at ours");
    join(ofOurs, stock[0]);
    count("return of a killed ours at stock");
    check(LISTINGS.length);
    Set<String> missing = new TreeSet<>();
    for (String one : new String[] {"stock", "ours"}) {
      missing.add("kill of " + one);
      for (String other : new String[] {"stock", "ours"}) {
        missing.add("take-over of " + one + " by " + other);
        missing.add("removal of " + one + "'s by " + other);
      }
    }
    missing.removeAll(mDone.keySet());
    assertEquals(Collections.emptySet(), missing);
  }

  private void saw(WatchResponse response) {
    for (WatchEvent event : response.getEvents()) {
      String key = event.getKeyValue().getKey().toString(StandardCharsets.UTF_8);
      Long since = mMustLive.get(key);
      if (event.getEventType() == WatchEvent.EventType.DELETE && since != null
          && event.getKeyValue().getModRevision() > since) {
        mFalselyLost.add(key);
      }
    }
  }

  private void operate() throws Exception {
    Worker worker = any(new ArrayList<>(mWorkers.values()));
    Process process = any(mProcesses);
    int what = mRandom.nextInt(20);
    if (what < 7) {
      if (worker.mAt == null) {
        join(worker, process);
      } else {
        takeOver(worker, process);
      }
    } else if (what < 11) {
      if (worker.mAt != null) {
        stop(worker);
      }
    } else if (what < 14) {
      decommission(worker, process);
    } else if (what < 16) {
      conflict(worker, process);
    } else if (what < 19) {
      String listing = LISTINGS[mRandom.nextInt(LISTINGS.length)];
      agree(process, listing);
    } else {
      process.restart();
    }
  }

  private void join(Worker worker, Process process) throws Exception {
    worker.mFields.put("HttpServerPort", String.valueOf(mRandom.nextInt(3)));
    worker.mFields.put("NettyDataPort", String.valueOf(mRandom.nextInt(3)));
    assertEquals("", process.does("join", worker.mFields));
    worker.mAt = process;
    worker.mLast = process.kind();
    worker.mRegistered = true;
    String key = mCluster.liveKey(worker.mIdentity);
    KeyValue live = mEtcd.get(key).get(key);
    // The record of the earlier worker may have ended just then, so the new record was not written.
    assertTrue(live != null, worker.mIdentity + " joined but is not live");
    mMustLive.put(key, live.getModRevision());
  }

  /**
   * A second process joins with the identity while the first process runs. The first one stops a
   * little later.
   */
  private void takeOver(Worker worker, Process process) throws Exception {
    Process before = worker.mAt;
    if (before == process) {
      return;
    }
    count("take-over of " + before.kind() + " by " + process.kind());
    join(worker, process);
    if (mRandom.nextBoolean()) {
      agree(any(mProcesses), "live");
    }
    assertEquals("", before.does("stop", worker.onlyIdentity()));
  }

  private void stop(Worker worker) {
    Process process = worker.mAt;
    worker.stopped(mCluster, mMustLive);
    assertEquals("", process.does("stop", worker.onlyIdentity()));
  }

  private void decommission(Worker worker, Process process) throws Exception {
    // Our class returns etcd's state. A lease may or may not end during the call.
    boolean before = live().contains(worker.mIdentity);
    String done = process.does("decommission", worker.onlyIdentity());
    boolean after = live().contains(worker.mIdentity);
    if (before != after) {
      // Either listing, or either removal, is correct. The ring shows which happened.
      worker.mRegistered = mEtcd.get(mCluster.ringKey(worker.mIdentity)).size() == 1;
    } else if (!worker.mRegistered) {
      assertEquals(
          "alluxio.exception.status.InvalidArgumentException: Unrecognized or non-existing worker: "
          + worker.mIdentity + " [INVALID_ARGUMENT]", done);
    } else if (before) {
      assertEquals(
          "alluxio.exception.status.InvalidArgumentException: Can't remove running worker: "
          + worker.mIdentity + ", stop the worker before removing [INVALID_ARGUMENT]", done);
    } else {
      assertEquals("", done);
      worker.mRegistered = false;
      count("removal of " + worker.mLast + "'s by " + process.kind());
    }
  }

  private void conflict(Worker worker, Process process) {
    if (worker.mRegistered) {
      Map<String, String> other = new HashMap<>(worker.mFields);
      other.put("Host", "elsewhere");
      String done = process.does("join", other);
      assertTrue(
          done.startsWith("alluxio.exception.status.AlreadyExistsException: Some other member"),
          done);
    }
  }

  /** Returns whether a process lists the content of etcd, now or in a moment. */
  private void agree(Process process, String listing) throws Exception {
    String[] last = new String[2];
    try {
      Await.until("agreement", 20, () -> {
        String before = truth(listing);
        last[0] = process.apply(listing, null);
        last[1] = truth(listing);
        return last[0].equals(before) || last[0].equals(last[1]);
      });
    } catch (AssertionError e) {
      throw new AssertionError(process.mName + " lists as " + listing + ":\n" + last[0]
          + "in etcd is:\n" + last[1], e);
    }
  }

  /** Checks some listings of each process. */
  private void check(int listings) throws Exception {
    for (Process process : mProcesses) {
      int first = mRandom.nextInt(LISTINGS.length);
      for (int i = 0; i < listings; i++) {
        agree(process, LISTINGS[(first + i) % LISTINGS.length]);
      }
    }
    assertEquals(Collections.emptySet(), mFalselyLost);
    Set<String> live = live();
    Set<String> ring = entities(mCluster.ringKey("")).stream()
        .map(each -> each.getIdentity().toString())
        .collect(Collectors.toSet());
    for (Worker worker : mWorkers.values()) {
      assertTrue(worker.mAt == null || live.contains(worker.mIdentity),
          worker.mIdentity + " runs and is not live");
      assertEquals(worker.mRegistered, ring.contains(worker.mIdentity),
          worker.mIdentity + " in the ring");
    }
  }

  private Set<String> live() throws Exception {
    return entities(mCluster.liveKey("")).stream().map(each -> each.getIdentity().toString())
        .collect(Collectors.toCollection(HashSet::new));
  }

  private List<WorkerServiceEntity> entities(String prefix) throws Exception {
    List<WorkerServiceEntity> entities = new ArrayList<>();
    for (KeyValue kv : mEtcd.get(prefix).values()) {
      WorkerServiceEntity entity = new WorkerServiceEntity();
      entity.deserialize(kv.getValue().getBytes());
      entities.add(entity);
    }
    return entities;
  }

  /** Returns the expected listing, read from etcd. */
  private String truth(String listing) throws Exception {
    Set<String> live = live();
    List<WorkerInfo> workers = new ArrayList<>();
    StringBuilder table = new StringBuilder("WorkerId\tAddress\tStatus\n");
    for (WorkerServiceEntity each : entities(listing.equals("live") ? mCluster.liveKey("")
        : mCluster.ringKey(""))) {
      WorkerIdentity identity = each.getIdentity();
      boolean isLive = live.contains(identity.toString());
      if (!listing.equals("failed") || !isLive) {
        workers.add(new WorkerInfo().setIdentity(identity).setAddress(each.getWorkerNetAddress())
            .setState(isLive ? WorkerState.LIVE : WorkerState.LOST));
      }
      table.append(identity).append('\t').append(each.getWorkerNetAddress().getHost()).append(':')
          .append(each.getWorkerNetAddress().getRpcPort())
          .append(isLive ? "\tONLINE\n" : "\tOFFLINE\n");
    }
    return listing.equals("show") ? table.toString()
        : Peer.describe(new WorkerClusterView(workers));
  }

  private <T> T any(List<T> all) {
    return all.get(mRandom.nextInt(all.size()));
  }

  private void count(String what) {
    mDone.merge(what, 1, Integer::sum);
  }

  /** The identity of a worker, and the process that has joined with it. */
  private static final class Worker {
    private final String mIdentity;
    private final Map<String, String> mFields = new HashMap<>();
    private Process mAt;
    private boolean mRegistered;
    /** The kind of process that joined with the identity last. */
    private String mLast;

    Worker(String identity, int number) {
      mIdentity = identity;
      mFields.put(Peer.IDENTITY, identity);
      mFields.put("Host", "h" + number);
      mFields.put("RpcPort", String.valueOf(number));
    }

    Map<String, String> onlyIdentity() {
      return Collections.singletonMap(Peer.IDENTITY, mIdentity);
    }

    void stopped(TestCluster cluster, Map<String, Long> mustLive) {
      mustLive.remove(cluster.liveKey(mIdentity));
      mAt = null;
    }
  }

  /** A process of one kind: in a class loader, or in a JVM that can be killed. */
  private final class Process {
    private final String mName;
    private final boolean mOurs;
    private final boolean mMortal;
    private AlluxioWorld mWorld;
    private ChildJvm mJvm;
    private Function<Object[], String> mPeer;

    Process(String name, boolean ours, boolean mortal) throws Exception {
      mName = name;
      mOurs = ours;
      mMortal = mortal;
      if (!mortal) {
        mWorld = AlluxioWorld.open(AlluxioWorld.CURRENT, ours);
        mPeer = mWorld.start(Peer.class);
      }
      open();
    }

    private void open() throws Exception {
      if (mMortal) {
        mJvm = ChildJvm.start(AlluxioWorld.joinedClassPath(AlluxioWorld.CURRENT, mOurs),
            Collections.emptyMap(),
            Collections.emptyList(), Peer.class);
        mPeer = Peer.remote(mJvm);
      }
      assertEquals("alluxio.membership.EtcdMembershipManager",
          apply("open", mCluster.properties()));
    }

    String apply(String operation, Map<String, String> input) {
      return mPeer.apply(new Object[] {operation, MANAGER, input});
    }

    String does(String operation, Map<String, String> input) {
      String done = apply(operation, input);
      log(operation + (input == null ? "" : " " + input) + ": " + done);
      count(operation + " by " + kind());
      return done;
    }

    String kind() {
      return mOurs ? "ours" : "stock";
    }

    private void log(String what) {
      mLog.add(mName + " " + what);
      if (mLog.size() > 100) {
        mLog.remove();
      }
    }

    /** Ends the process, with or without an orderly exit, and starts another one in its place. */
    void restart() throws Exception {
      for (Worker worker : mWorkers.values()) {
        if (worker.mAt == this) {
          worker.stopped(mCluster, mMustLive);
        }
      }
      log("restarts");
      count((mMortal ? "kill of " : "restart of ") + kind());
      if (mMortal) {
        mJvm.kill();
        mJvm.awaitExit();
      } else {
        assertEquals("", apply("end", null));
      }
      open();
    }

    void end() throws Exception {
      if (mMortal) {
        mJvm.close();
      } else {
        apply("end", null);
        mWorld.close();
      }
    }
  }
}
