package alluxio.membership.differential;

import static alluxio.membership.differential.Side.liveKey;
import static alluxio.membership.differential.Side.map;
import static alluxio.membership.differential.Side.ringKey;

import alluxio.membership.testing.Peer;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import java.util.Set;

/**
 * A sequence of operations that a seed decides: the actions of a few processes with five
 * identities. The sequence does not depend on results, so both sides do the same.
 *
 * <p>It omits what the stock classes do differently, which scenarios and {@code WeaknessesTest}
 * show: a second join in one process, the end of a joined manager without the end of its leases,
 * and the end of a worker while another process has its identity.
 */
final class RandomOperations implements Scenario {
  private static final int OPERATIONS = 30;
  private static final String[] IDENTITIES =
      {Side.id(1), Side.id(2), Side.id(3), "worker-7", "worker--1"};
  private static final String[] LISTINGS = {"all", "live", "failed", "show"};
  private static final String[] TEXTS =
      {"h", "host-2.example", "", "\u00e4\ud83d\ude00", "<a href='x=y'>&", "\\\"\n\u2028",
      "fe80::1%eth0", "\u0000\u007f\ufeff"};
  private static final String[] OPTIONAL = {"HttpServerPort", "NettyDataPort"};
  private static final String[] REQUIRED =
      {"Host", "ContainerHost", "DomainSocketPath", "RpcPort", "DataPort",
      "SecureRpcPort", "WebPort"};
  private static final String[] JUNK =
      {"garbage{", "[]", "7", "{\"Identity\":{}}", "{\"WorkerNetAddress\":[]}"};

  private final long mSeed;

  RandomOperations(long seed) {
    mSeed = seed;
  }

  @Override
  public void run(Side side) throws Exception {
    new Run(side, new Random(mSeed)).all();
  }

  /** Runs the sequence on one side. */
  private static final class Run {
    private final Side mSide;
    private final Random mRandom;
    private final boolean mOld;
    private final boolean mRegistry;
    private final String[] mProcesses;
    /**
     * For each identity, the processes that have joined it and not stopped; the key belongs to the
     * last one.
     */
    private final Map<String, List<String>> mHolders = new HashMap<>();
    /** By process and identity. */
    private final Map<String, Long> mLeases = new HashMap<>();
    /** The records in the ring, by identity. */
    private final Map<String, Map<String, String>> mRing = new HashMap<>();
    private final Set<String> mInK8s = new HashSet<>();
    private int mNumber;

    Run(Side side, Random random) {
      mSide = side;
      mRandom = random;
      // No process can join before the earlier lease has ended.
      mOld = side.isOld();
      mRegistry = random.nextInt(6) == 0;
      mProcesses = mOld ? new String[] {Side.A, Side.B} : new String[] {Side.A, Side.B, "c"};
    }

    void all() throws Exception {
      for (String process : mProcesses) {
        open(process);
      }
      for (mNumber = 1; mNumber <= OPERATIONS; mNumber++) {
        one();
        mSide.saw(mNumber + " keys", mSide.keys());
        if (mNumber % 6 == 0 || mNumber == OPERATIONS) {
          mSide.look(mNumber + " listed", properties());
        }
      }
    }

    private void one() throws Exception {
      String process = any(mProcesses);
      String identity = any(IDENTITIES);
      switch (mRandom.nextInt(12)) {
        case 0:
        case 1:
        case 2:
        case 3:
          join(process, identity);
          break;
        case 4:
        case 5:
          List<String> holders = mHolders.getOrDefault(identity, new ArrayList<>());
          stop(holders.isEmpty() ? process : any(holders.toArray(new String[0])), identity);
          break;
        case 6:
          decommission(process, identity);
          break;
        case 7:
        case 8:
          String listing = any(LISTINGS);
          mSide.sees(label(process, listing, ""), () -> mSide.call(process, listing, null));
          break;
        case 9:
          boolean k8s = mRandom.nextBoolean();
          if (k8s ? mInK8s.add(process) : mInK8s.remove(process)) {
            does(process, "configure", map("alluxio.k8s.env.deployment", String.valueOf(k8s)));
          }
          break;
        case 10:
          junk();
          break;
        default:
          restart(process);
      }
    }

    private void open(String process) throws Exception {
      mInK8s.remove(process);
      mSide.saw(label(process, "open", ""), mSide.open(process, properties()));
    }

    private String[] properties() {
      return mRegistry ? new String[] {"alluxio.worker.membership.manager.type",
          "SERVICE_REGISTRY"} : new String[0];
    }

    private void join(String process, String identity) throws Exception {
      Map<String, String> before = mRing.get(identity);
      Map<String, String> fields = fields(identity, before);
      boolean conflict = !mRegistry && before != null && !mInK8s.contains(process)
          && Arrays.stream(REQUIRED).anyMatch(field ->
          !Objects.equals(before.get(field), fields.get(field)));
      List<String> holders = mHolders.computeIfAbsent(identity, any -> new ArrayList<>());
      if (!conflict && (holders.contains(process) || mOld && !holders.isEmpty())) {
        return;
      }
      does(process, "join", fields);
      if (!conflict) {
        mRing.put(identity, fields);
        holders.add(process);
        mLeases.put(process + identity, mSide.lease(identity));
      }
    }

    private Map<String, String> fields(String identity, Map<String, String> before) {
      Map<String, String> fields = Side.worker(1, Peer.IDENTITY, identity);
      if (before == null) {
        for (String field : REQUIRED) {
          fields.put(field, any(field));
        }
        return fields;
      }
      fields.putAll(before);
      if (mRandom.nextInt(3) == 0) {
        String field = REQUIRED[mRandom.nextInt(REQUIRED.length)];
        fields.put(field, any(field));
      }
      if (mRandom.nextBoolean()) {
        String field = OPTIONAL[mRandom.nextInt(OPTIONAL.length)];
        fields.put(field, any(field));
      }
      return fields;
    }

    private String any(String field) {
      return field.endsWith("Port")
          ? String.valueOf(mRandom.nextInt(8) == 0 ? Integer.MIN_VALUE : mRandom.nextInt(65536))
          : any(TEXTS);
    }

    /**
     * Whether the key of the identity belongs to this process, and another process waits for it.
     */
    private boolean hidesAnother(String process, String identity) {
      List<String> holders = mHolders.getOrDefault(identity, new ArrayList<>());
      return holders.size() > 1 && holders.get(holders.size() - 1).equals(process);
    }

    private void stop(String process, String identity) throws Exception {
      // In a SERVICE_REGISTRY, too, a stop affects only the process and its lease.
      if (!hidesAnother(process, identity)) {
        does(process, "stop", map(Peer.IDENTITY, identity));
        ended(process, identity);
      }
    }

    private void ended(String process, String identity) throws Exception {
      mHolders.getOrDefault(identity, new ArrayList<>()).remove(process);
      Long lease = mLeases.remove(process + identity);
      if (lease != null) {
        mSide.expire(lease);
      }
    }

    private void decommission(String process, String identity) throws Exception {
      if (mSide.version().equals("308")) {
        return;
      }
      boolean lost = mHolders.getOrDefault(identity, new ArrayList<>()).isEmpty();
      if (lost && !mRegistry) {
        // Our class may not have noticed yet that the worker is lost.
        mSide.sees(label(process, "failed", " before"), () -> mSide.call(process, "failed", null));
        mRing.remove(identity);
      }
      does(process, "decommission", map(Peer.IDENTITY, identity));
    }

    /** Unreadable records have no effect. */
    private void junk() throws Exception {
      String name = "junk-" + mRandom.nextInt(3);
      byte[] value = JUNK[mRandom.nextInt(JUNK.length)].getBytes(StandardCharsets.UTF_8);
      mSide.etcd().put(mRandom.nextBoolean() ? ringKey(name) : liveKey(name), value);
    }

    /**
     * A process ends, or only its manager is closed, and starts again. Its workers return at once
     * or not at all.
     */
    private void restart(String process) throws Exception {
      List<String> held = new ArrayList<>();
      for (String identity : IDENTITIES) {
        if (hidesAnother(process, identity)) {
          return;
        }
        if (mHolders.getOrDefault(identity, new ArrayList<>()).contains(process)) {
          held.add(identity);
        }
      }
      if (held.isEmpty() && mRandom.nextBoolean()) {
        does(process, "close", null);
      } else {
        mSide.end(process);
      }
      boolean quick = mRandom.nextBoolean() && !mOld;
      for (String identity : held) {
        // A worker that another process has taken over would take the key back.
        boolean own = mHolders.get(identity).size() == 1;
        if (quick && own) {
          mHolders.get(identity).clear();
        } else {
          ended(process, identity);
        }
      }
      open(process);
      for (String identity : held) {
        Long lease = mLeases.get(process + identity);
        if (lease != null) {
          does(process, "join", mRing.get(identity));
          mSide.expire(lease);
          mHolders.get(identity).add(process);
          mLeases.put(process + identity, mSide.lease(identity));
        }
      }
    }

    private void does(String process, String operation, Map<String, String> input)
        throws Exception {
      mSide.does(label(process, operation, input == null ? "" : " " + input), process, operation,
          input);
    }

    private String label(String process, String operation, String input) {
      return mNumber + " " + process + " " + operation + input;
    }

    private String any(String[] texts) {
      return texts[mRandom.nextInt(texts.length)];
    }
  }
}
