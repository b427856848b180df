package alluxio.membership;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import alluxio.membership.testing.AlluxioWorld;
import alluxio.membership.testing.Peer;
import alluxio.membership.testing.SharedEtcd;
import alluxio.membership.testing.TestCluster;
import alluxio.wire.WorkerIdentity;
import alluxio.wire.WorkerInfo;
import alluxio.wire.WorkerNetAddress;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.options.DeleteOption;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/**
 * Records of every kind: the bytes that ours writes, and what it reads of damaged ones, are the real classes'.
 * {@code -Drecords=...} says how many, {@code -Dseed=...} runs the ones of a failure again.
 */
class RandomRecordsTest {
  private static final int RECORDS = Integer.getInteger("records", 2000);
  private static final int BATCH = 25;
  private static final int LONG_TEXT = 20_000;
  private static final String[] PIECES = {"\"", "'", "null", "7", "7.0", "\"7\"", "-1", "1e3", "true", "{}", "[]", ",",
      ":", "{", "}", "\\u00e4", "\u00e4", "\ud83d\ude00", " ", "\n", "#\n", "//\n", "/*x*/", "\ufeff", "99999999999",
      "\"Host\":\"other\",", "\"Unknown\":{\"a\":[1,{}]},", "\"Identity\":null,", "Host"};
  private static final String[] TEXTS = {"", " ", "<", ">", "&", "=", "'", "\"", "\\", "/", "\u2028", "\u2029", "\ufeff",
      "\u0000", "\b\f\n\r\t", "\u007f", "\u0085", "\ud800", "\udfff", "\udc00\ud800", "\ud83d\ude00", "\uffff",
      "\\u003d", "</script>"};
  private static final int[] PORTS = {0, -1, 1, 65535, 65536, Integer.MAX_VALUE, Integer.MIN_VALUE};

  @RegisterExtension
  static final SharedEtcd ETCD = new SharedEtcd();

  private final long mSeed = Long.getLong("seed", System.nanoTime());
  private final Random mRandom = new Random(mSeed);
  private final String mAgain = ", -Dseed=" + mSeed;
  private final TestCluster mCluster = new TestCluster(ETCD.server(), "ETCD");

  @Test
  void writesWhatTheRealClassWrites() throws Exception {
    Set<WorkerIdentity> identities = new HashSet<>();
    try (MembershipManager manager = MembershipManager.Factory.create(mCluster.conf())) {
      for (int i = 0; i < RECORDS; i++) {
        WorkerIdentity identity = mRandom.nextBoolean()
            ? WorkerIdentity.ParserV1.INSTANCE.fromUUID(new UUID(mRandom.nextLong(), mRandom.nextLong()))
            : WorkerIdentity.ParserV0.INSTANCE.fromLong(mRandom.nextBoolean() ? mRandom.nextLong() : mRandom.nextInt(9));
        if (!identities.add(identity)) {
          continue;
        }
        WorkerNetAddress address = new WorkerNetAddress().setHost(text()).setContainerHost(text())
            .setDomainSocketPath(text()).setRpcPort(port()).setDataPort(port()).setWebPort(port())
            .setNettyDataPort(port()).setHttpServerPort(port()).setSecureRpcPort(port());
        WorkerInfo worker = new WorkerInfo().setIdentity(identity).setAddress(address);
        byte[] expected = new WorkerServiceEntity(identity, address).serialize();
        manager.join(worker);
        for (String key : Arrays.asList(mCluster.ringKey(identity.toString()), mCluster.liveKey(identity.toString()))) {
          assertArrayEquals(expected, ETCD.server().get(key).get(key).getValue().getBytes(), () -> identity + " "
              + new String(expected, StandardCharsets.UTF_8) + mAgain);
        }
        // Joined workers are renewed, which is not the point here.
        manager.stopHeartBeat(worker);
      }
    }
  }

  private String text() {
    StringBuilder text = new StringBuilder();
    for (int pieces = mRandom.nextInt(5); pieces > 0; pieces--) {
      switch (mRandom.nextInt(8)) {
        case 0:
          text.appendCodePoint(mRandom.nextInt(Character.MAX_CODE_POINT + 1));
          break;
        case 1:
          text.append((char) mRandom.nextInt(Character.MAX_VALUE + 1));
          break;
        case 2:
          text.append((char) mRandom.nextInt(0x80));
          break;
        case 3:
          text.append((char) (Character.MIN_SURROGATE + mRandom.nextInt(0x800)));
          break;
        default:
          text.append(TEXTS[mRandom.nextInt(TEXTS.length)]);
      }
    }
    if (mRandom.nextInt(200) == 0) {
      String once = text + "x";
      while (text.length() < LONG_TEXT) {
        text.append(once);
      }
    }
    return text.toString();
  }

  private int port() {
    return mRandom.nextBoolean() ? PORTS[mRandom.nextInt(PORTS.length)] : mRandom.nextInt();
  }

  /** Reads each record alone, which is what the stock listing does unless one of them breaks it. */
  @Test
  void readsWhatTheRealClassReads() throws Exception {
    Map<String, String> expected = new TreeMap<>();
    for (int i = 0; i < RECORDS; i++) {
      String identity = identity(i).toString();
      byte[] bytes = damaged(i);
      ETCD.server().put(mCluster.ringKey(identity), bytes);
      WorkerServiceEntity entity = new WorkerServiceEntity();
      try {
        entity.deserialize(bytes);
      } catch (RuntimeException e) {
        // Mostly JsonParseException, sometimes NumberFormatException, with which the stock class could list nobody.
        continue;
      }
      // Without an address, and without an identity for the second time, the stock class could list nobody.
      if (entity.getWorkerNetAddress() != null) {
        WorkerInfo worker = new WorkerInfo().setAddress(entity.getWorkerNetAddress());
        if (entity.getIdentity() != null) {
          worker.setIdentity(entity.getIdentity());
        }
        expected.putIfAbsent(worker.getIdentity().toString(), describe(worker));
      }
    }
    Map<String, String> listed = new TreeMap<>();
    try (MembershipManager manager = MembershipManager.Factory.create(mCluster.conf())) {
      for (WorkerInfo worker : manager.getAllMembers()) {
        listed.put(worker.getIdentity().toString(), describe(worker));
      }
    }
    assertTrue(expected.size() > RECORDS / 4 && expected.size() < RECORDS, expected.size() + mAgain);
    for (String identity : expected.keySet()) {
      assertEquals(expected.get(identity), listed.get(identity), identity + mAgain);
    }
    assertEquals(expected.keySet(), listed.keySet(), mAgain);
  }

  /** Through the stock class's own listing: it and ours list the same, or it fails and ours leaves some out. */
  @Test
  void listsWhatTheStockClassListsOrMore() throws Exception {
    String[] listings = {"all", "live", "failed", "show"};
    int listed = 0;
    int broken = 0;
    try (AlluxioWorld stockWorld = AlluxioWorld.open(AlluxioWorld.CURRENT, false);
        AlluxioWorld ourWorld = AlluxioWorld.open(AlluxioWorld.CURRENT, true)) {
      Function<Object[], String> stock = stockWorld.start(Peer.class);
      Function<Object[], String> ours = ourWorld.start(Peer.class);
      // The stock class looks into etcd at each listing, so does this.
      mCluster.with("alluxio.membership.native.read.mode", "LINEARIZABLE");
      for (Function<Object[], String> peer : Arrays.asList(stock, ours)) {
        String opened = peer.apply(new Object[] {"open", "m", mCluster.properties()});
        assertTrue(opened.startsWith("alluxio.membership."), opened);
      }
      for (int batch = 0; batch < RECORDS / BATCH; batch++) {
        int damaged = 1 + mRandom.nextInt(4);
        for (int i = 0; i < damaged; i++) {
          int number = mRandom.nextInt(20);
          String identity = identity(number).toString();
          byte[] bytes = damaged(number);
          if (mRandom.nextInt(4) > 0) {
            ETCD.server().put(mCluster.ringKey(identity), bytes);
          }
          if (mRandom.nextInt(4) > 0) {
            ETCD.server().put(mCluster.liveKey(identity), bytes);
          }
        }
        String live = stock.apply(new Object[] {"live", "m", null});
        // These differences are in KnownDifferences: which listings a live record without an address or an identity is in.
        boolean withoutAddress = live.startsWith("java.lang.NullPointer");
        boolean withoutIdentity = live.contains("worker-0]") || live.contains("worker-0,");
        for (String listing : listings) {
          String seen = stock.apply(new Object[] {listing, "m", null});
          String seenByOurs = ours.apply(new Object[] {listing, "m", null});
          if (seen.startsWith("java.lang.")) {
            broken++;
            assertFalse(seenByOurs.startsWith("java.lang."), seenByOurs + mAgain);
          } else if (withoutAddress ? listing.equals("all") : !withoutIdentity || !listing.equals("failed")) {
            listed++;
            seen = seen.replace("equal:false", "equal:true");
            assertEquals(withoutAddress ? seen.replace("LOST", "LIVE") : seen,
                withoutAddress ? seenByOurs.replace("LOST", "LIVE") : seenByOurs, mAgain);
          }
        }
        if (batch % 3 == 2) {
          for (String prefix : Arrays.asList(mCluster.ringKey(""), mCluster.liveKey(""))) {
            ETCD.server().client().getKVClient().delete(ByteSequence.from(prefix, StandardCharsets.UTF_8),
                DeleteOption.newBuilder().isPrefix(true).build()).get(10, TimeUnit.SECONDS);
          }
        }
      }
      stock.apply(new Object[] {"end", null, null});
      ours.apply(new Object[] {"close", "m", null});
    }
    assertTrue(listed > 0 && broken > 0, listed + " listed, " + broken + " broken" + mAgain);
  }

  private static WorkerIdentity identity(int number) {
    return WorkerIdentity.ParserV1.INSTANCE.fromUUID(new UUID(0x4000, 0x8000L << 48 | number));
  }

  private byte[] damaged(int number) {
    StringBuilder text = new StringBuilder(new String(new WorkerServiceEntity(identity(number), new WorkerNetAddress()
        .setHost("h" + number).setRpcPort(number).setContainerHost("<\u4e2d&\u2028>")).serialize(),
        StandardCharsets.UTF_8));
    for (int damages = mRandom.nextInt(3); damages > 0; damages--) {
      int at = mRandom.nextInt(text.length());
      int end = Math.min(text.length(), at + mRandom.nextInt(3));
      text.replace(at, mRandom.nextBoolean() ? at : end, PIECES[mRandom.nextInt(PIECES.length)]);
    }
    return text.toString().getBytes(StandardCharsets.UTF_8);
  }

  private static String describe(WorkerInfo worker) {
    return worker.getAddress() + " " + worker.getAddress().getNettyDataPort();
  }
}
