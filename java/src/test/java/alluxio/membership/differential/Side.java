package alluxio.membership.differential;

import alluxio.membership.testing.AlluxioWorld;
import alluxio.membership.testing.Await;
import alluxio.membership.testing.ChildJvm;
import alluxio.membership.testing.EtcdServer;
import alluxio.membership.testing.Peer;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.KeyValue;
import io.etcd.jetcd.options.DeleteOption;
import io.etcd.jetcd.options.LeaseOption;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.function.BiPredicate;
import java.util.function.Function;

/**
 * One of the two sides of a comparison: an etcd, processes with either the stock classes or ours,
 * and the results.
 */
final class Side implements AutoCloseable {
  static final String CLUSTER = "cluster";
  /** The first process. Its manager has the same name. */
  static final String A = "a";
  /** The second process. */
  static final String B = "b";

  private static final Object[] END = {"end", null, null};
  private static final long PATIENCE_NANOS = TimeUnit.SECONDS.toNanos(10);

  private final boolean mOurs;
  private final EtcdServer mEtcd;
  private final Map<String, AlluxioWorld> mWorlds = new HashMap<>();
  private final Map<String, Function<Object[], String>> mPeers = new HashMap<>();
  private final Map<String, ChildJvm> mMortals = new HashMap<>();
  private final Set<String> mStarted = new HashSet<>();
  private final String mVersion;
  private Map<String, String> mSeen = new LinkedHashMap<>();
  private BiPredicate<String, String> mExpected;
  private long mPatienceNanos;

  /**
   * @param version the version of Alluxio
   * @param ours whether the processes of this side have our classes
   * @param etcd the etcd of this side
   */
  Side(String version, boolean ours, EtcdServer etcd) {
    mVersion = version;
    mOurs = ours;
    mEtcd = etcd;
  }

  /**
   * Begins a scenario.
   *
   * @param expected whether a text is expected under a label
   */
  void begin(BiPredicate<String, String> expected) throws Exception {
    mSeen = new LinkedHashMap<>();
    mExpected = expected;
    mPatienceNanos = PATIENCE_NANOS;
    wipe();
  }

  /** Ends the processes of a scenario. */
  void end() {
    for (String name : new ArrayList<>(mMortals.keySet())) {
      mMortals.remove(name).close();
      mPeers.remove(name);
      mStarted.remove(name);
    }
    // The stock classes take time.
    new ArrayList<>(mStarted).parallelStream().forEach(name -> mPeers.get(name).apply(END));
    mStarted.clear();
  }

  /** The results of this scenario, by label. */
  Map<String, String> seen() {
    return mSeen;
  }

  String seen(String label) {
    return mSeen.get(label);
  }

  boolean isOurs() {
    return mOurs;
  }

  String version() {
    return mVersion;
  }

  /**
   * Whether the version is before 312. These stock classes have leases of 2 s, whatever is
   * configured.
   */
  boolean isOld() {
    return !mVersion.equals(AlluxioWorld.CURRENT);
  }

  EtcdServer etcd() {
    return mEtcd;
  }

  /**
   * Opens the manager of a process.
   *
   * @param process a process
   * @param properties pairs of names and values in addition to the usual ones; null unsets
   * @return the visible result
   */
  String open(String process, String... properties) throws Exception {
    Map<String, String> all = new HashMap<>();
    all.put("alluxio.worker.membership.manager.type", "ETCD");
    all.put("alluxio.etcd.endpoints", mEtcd.endpoint());
    all.put("alluxio.cluster.name", CLUSTER);
    all.put("alluxio.worker.failure.detection.timeout", "30s");
    all.putAll(map(properties));
    return call(process, "open", all);
  }

  String call(String process, String operation, Map<String, String> input) throws Exception {
    return call(process, process, operation, input);
  }

  String call(String process, String manager, String operation, Map<String, String> input)
      throws Exception {
    mStarted.add(process);
    return peer(process, mOurs).apply(new Object[] {operation, manager, input})
        .replace(mEtcd.endpoint(), "<etcd>");
  }

  /** Ends a process in order. */
  void end(String process) {
    mStarted.remove(process);
    mPeers.get(process).apply(END);
  }

  /** Opens the manager of a process that can be killed. */
  String openMortal(String process, String... properties) throws Exception {
    // The end of a stock process does not differ from its death.
    if (mOurs) {
      ChildJvm jvm = ChildJvm.start(AlluxioWorld.joinedClassPath(mVersion, true),
          Collections.emptyMap(),
          Collections.emptyList(), Peer.class);
      mMortals.put(process, jvm);
      mPeers.put(process, Peer.remote(jvm));
    }
    return open(process, properties);
  }

  /** Kills a process: its keys stay until its lease ends. */
  void kill(String process) throws Exception {
    if (mOurs) {
      mStarted.remove(process);
      mPeers.remove(process);
      ChildJvm jvm = mMortals.remove(process);
      jvm.kill();
      jvm.awaitExit();
    } else {
      end(process);
    }
  }

  /** Records a result. */
  void saw(String label, String text) {
    if (mSeen.put(label, text) != null) {
      throw new AssertionError("Twice the same label: " + label);
    }
  }

  /** Runs an action and records its result. */
  void does(String label, String process, String operation, Map<String, String> input)
      throws Exception {
    saw(label, call(process, operation, input));
  }

  /** Records a result as soon as it is the expected one, or after a while. */
  void sees(String label, Callable<String> look) throws Exception {
    long deadline = System.nanoTime() + mPatienceNanos;
    String text = look.call();
    while (!mExpected.test(label, text)) {
      if (System.nanoTime() > deadline) {
        // The test has failed. Later results may differ for the same reason.
        mPatienceNanos = 0;
        break;
      }
      Thread.sleep(10);
      text = look.call();
    }
    saw(label, text);
  }

  /** Records the keys, and the listings of a process of this kind and of the other kind. */
  void look(String label, String... properties) throws Exception {
    sees(label + ": keys", this::keys);
    look(label, "reader", mOurs, properties);
    look(label, "other reader", !mOurs, properties);
  }

  private void look(String label, String process, boolean ours, String... properties)
      throws Exception {
    Function<Object[], String> reader = peer(process, ours);
    if (mStarted.add(process)) {
      open(process, properties);
    }
    for (String operation : Arrays.asList("all", "live", "failed", "show")) {
      sees(label + ": " + operation + " by " + process,
          () -> reader.apply(new Object[] {operation, process, null}));
    }
  }

  private Function<Object[], String> peer(String process, boolean ours) throws IOException {
    Function<Object[], String> peer = mPeers.get(process);
    if (peer == null) {
      AlluxioWorld world = mWorlds.get(process);
      if (world == null) {
        world = AlluxioWorld.open(mVersion, ours);
        mWorlds.put(process, world);
      }
      peer = world.start(Peer.class);
      mPeers.put(process, peer);
    }
    return peer;
  }

  /** Removes all keys. */
  void wipe() throws Exception {
    mEtcd.client().getKVClient().delete(ByteSequence.from(new byte[] {0}),
        DeleteOption.newBuilder().withRange(ByteSequence.from(new byte[] {0})).build())
        .get(10, TimeUnit.SECONDS);
  }

  /** Waits until the lease of a worker that no process renews has ended. */
  void expire(String identity) throws Exception {
    expire(lease(identity));
  }

  /**
   * Before 312, leases last 2 s, and no process can join until the lease ends. This ends the lease
   * at one moment on both sides.
   */
  void expireIfOld(String identity) throws Exception {
    if (isOld()) {
      expire(identity);
    }
  }

  /** Returns the lease of a worker's live key, or 0 without such a key. */
  long lease(String identity) throws Exception {
    KeyValue live = mEtcd.get(liveKey(identity)).get(liveKey(identity));
    return live == null ? 0 : live.getLease();
  }

  /** Waits until a lease that no process renews has ended. */
  void expire(long lease) throws Exception {
    try {
      mEtcd.client().getLeaseClient().revoke(lease).get(10, TimeUnit.SECONDS);
    } catch (ExecutionException e) {
      if (!e.getMessage().contains("lease not found")) {
        throw e;
      }
    }
  }

  /** Returns the granted seconds of a lease. */
  long granted(long lease) throws Exception {
    return mEtcd.client().getLeaseClient().timeToLive(lease, LeaseOption.DEFAULT)
        .get(10, TimeUnit.SECONDS)
        .getGrantedTTL();
  }

  /** Waits until a lease that starts now, and that no process renews, has ended. */
  void outlive(int seconds) throws Exception {
    long lease = mEtcd.client().getLeaseClient().grant(seconds).get(10, TimeUnit.SECONDS).getID();
    Await.until("a lease of " + seconds + " s has run out", 60 + seconds,
        () -> mEtcd.client().getLeaseClient()
        .timeToLive(lease, LeaseOption.DEFAULT).get(10, TimeUnit.SECONDS).getTTl() <= 0);
  }

  String keys() throws Exception {
    StringBuilder text = new StringBuilder();
    for (Map.Entry<String, KeyValue> entry : new TreeMap<>(mEtcd.get("/")).entrySet()) {
      KeyValue kv = entry.getValue();
      String value = kv.getValue().toString(StandardCharsets.UTF_8);
      if (!Arrays.equals(value.getBytes(StandardCharsets.UTF_8), kv.getValue().getBytes())) {
        value = Arrays.toString(kv.getValue().getBytes());
      }
      String lease = kv.getLease() == 0 ? "no lease" : "lease";
      if (kv.getLease() != 0 && !isOld()) {
        lease += " of " + granted(kv.getLease()) + " s";
      }
      text.append(entry.getKey()).append(" (").append(lease).append(") ").append(value)
          .append('\n');
    }
    return text.toString();
  }

  @Override
  public void close() throws IOException {
    end();
    for (AlluxioWorld world : mWorlds.values()) {
      world.close();
    }
  }

  /**
   * @param pairs names and values in turn
   * @return the map
   */
  static Map<String, String> map(String... pairs) {
    Map<String, String> map = new LinkedHashMap<>();
    for (int i = 0; i < pairs.length; i += 2) {
      map.put(pairs[i], pairs[i + 1]);
    }
    return map;
  }

  /**
   * @param number which worker
   * @param changes pairs of names and values of fields
   * @return a worker with every field set
   */
  static Map<String, String> worker(int number, String... changes) {
    Map<String, String> fields = map(Peer.IDENTITY, id(number), "Host", "host" + number,
        "ContainerHost",
        "container" + number, "RpcPort", "1", "DataPort", "2", "SecureRpcPort", "3",
        "NettyDataPort", "4", "WebPort",
        "5", "DomainSocketPath", "/s" + number, "HttpServerPort", "6");
    fields.putAll(map(changes));
    return fields;
  }

  static String id(int number) {
    return String.format("worker-%08d-0000-4000-8000-00000000abcd", number);
  }

  /** Returns a worker like the command line does. */
  static Map<String, String> onlyId(int number) {
    return Collections.singletonMap(Peer.IDENTITY, id(number));
  }

  static String ringKey(String name) {
    return "/DHT/" + CLUSTER + "/AUTHORIZED/" + name;
  }

  static String liveKey(String name) {
    return "/ServiceDiscovery/" + CLUSTER + "/" + name;
  }

  static List<String> list(String... texts) {
    return Arrays.asList(texts);
  }
}
