package alluxio.membership;

import static alluxio.membership.differential.Comparison.unescaped;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import alluxio.membership.testing.AlluxioWorld;
import alluxio.membership.testing.Peer;
import alluxio.membership.testing.RecordPeer;
import alluxio.membership.testing.SharedEtcd;
import alluxio.membership.testing.TestCluster;
import alluxio.wire.WorkerIdentity;
import alluxio.wire.WorkerNetAddress;

import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.options.DeleteOption;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/**
 * Random records: our class writes the bytes of the real classes, and reads damaged records like
 * the real classes. {@code -Drecords=...} sets the number, {@code -Dseed=...} repeats the records
 * of a failure.
 */
class RandomRecordsTest {
  private static final int RECORDS = Integer.getInteger("records", 2000);
  private static final int BATCH = 25;
  /** The number of batches. */
  private static final int KEYS_REMOVED_EVERY = 3;
  private static final int LONG_TEXT = 20_000;
  private static final String[] PIECES =
      {"\"", "'", "null", "7", "7.0", "\"7\"", "-1", "1e3", "true", "{}", "[]", ",",
      ":", "{", "}", "\\u00e4", "\u00e4", "\ud83d\ude00", " ", "\n", "#\n", "//\n", "/*x*/",
      "\ufeff", "99999999999",
      "\"Host\":\"other\",", "\"Unknown\":{\"a\":[1,{}]},", "\"Identity\":null,", "Host"};
  private static final String[] TEXTS =
      {"", " ", "<", ">", "&", "=", "'", "\"", "\\", "/", "\u2028", "\u2029", "\ufeff",
      "\u0000", "\b\f\n\r\t", "\u007f", "\u0085", "\ud800", "\udfff", "\udc00\ud800",
      "\ud83d\ude00", "\uffff",
      "\\u003d", "</script>"};
  private static final int[] PORTS = {0, -1, 1, 65535, 65536, Integer.MAX_VALUE, Integer.MIN_VALUE};

  @RegisterExtension
  static final SharedEtcd ETCD = new SharedEtcd();

  private final long mSeed = Long.getLong("seed", System.nanoTime());
  private final Random mRandom = new Random(mSeed);
  private final String mAgain = ", -Dseed=" + mSeed;
  private final TestCluster mCluster = new TestCluster(ETCD.server(), "ETCD");

  /** Also checks that it reads its own records like the real class. */
  @ParameterizedTest
  @ValueSource(strings = {AlluxioWorld.CURRENT, "311", "308"})
  void writesWhatTheRealClassWrites(String version) throws Exception {
    Set<String> identities = new HashSet<>();
    try (AlluxioWorld stockWorld = AlluxioWorld.open(version, false);
        AlluxioWorld ourWorld = AlluxioWorld.open(version, true)) {
      Function<Object[], String> real = stockWorld.start(RecordPeer.class);
      Function<Object[], String> ours = open(ourWorld);
      for (int i = 0; i < records(version); i++) {
        Map<String, String> fields = new HashMap<>();
        String identity = "worker-" + (mRandom.nextBoolean()
            ? new UUID(mRandom.nextLong(), mRandom.nextLong())
            : String.valueOf(mRandom.nextBoolean() ? mRandom.nextLong() : mRandom.nextInt(9)));
        if (!identities.add(identity)) {
          continue;
        }
        fields.put(Peer.IDENTITY, identity);
        for (String field : new String[] {"Host", "ContainerHost", "DomainSocketPath"}) {
          fields.put(field, text());
        }
        for (String field : new String[] {"Rpc", "Data", "Web", "NettyData", "HttpServer",
            "SecureRpc"}) {
          fields.put(field + "Port", String.valueOf(port()));
        }
        byte[] expected = Base64.getDecoder().decode(real.apply(new Object[] {"write", fields}));
        assertEquals("", ours.apply(new Object[] {"join", "m", fields}));
        for (String key : Arrays.asList(mCluster.ringKey(identity), mCluster.liveKey(identity))) {
          assertArrayEquals(expected, ETCD.server().get(key).get(key).getValue().getBytes(),
              () -> identity + " "
              + new String(expected, StandardCharsets.UTF_8) + mAgain);
        }
        // Joined workers are renewed, which this test does not need.
        assertEquals("", ours.apply(new Object[] {"stop", "m", fields}));
      }
      String[] listed = ours.apply(new Object[] {"all", "m", null}).split("\n");
      String[] read = real.apply(new Object[] {"all", stored()}).split("\n");
      assertTrue(read.length > identities.size(), read.length + mAgain);
      for (int i = 0; i < Math.min(listed.length, read.length); i++) {
        assertEquals(read[i], listed[i], mAgain);
      }
      assertEquals(read.length, listed.length, mAgain);
      ours.apply(new Object[] {"close", "m", null});
    }
  }

  private static int records(String version) {
    return version.equals(AlluxioWorld.CURRENT) ? RECORDS : RECORDS / 5;
  }

  /** The stock classes read etcd for each listing, so ours does it too. */
  private Function<Object[], String> open(AlluxioWorld world) {
    mCluster.with("alluxio.membership.native.read.mode", "LINEARIZABLE");
    Function<Object[], String> peer = world.start(Peer.class);
    assertEquals("alluxio.membership.EtcdMembershipManager",
        peer.apply(new Object[] {"open", "m", mCluster.properties()}));
    return peer;
  }

  private Map<String, String> stored() throws Exception {
    Map<String, String> records = new TreeMap<>();
    for (String prefix : Arrays.asList(mCluster.ringKey(""), mCluster.liveKey(""))) {
      ETCD.server().get(prefix).forEach((key, value) -> records.put(key,
          Base64.getEncoder().encodeToString(value.getValue().getBytes())));
    }
    return records;
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

  /** Many damaged records at once: the listing has the result of each record alone. */
  @ParameterizedTest
  @ValueSource(strings = {AlluxioWorld.CURRENT, "311", "308"})
  void readsWhatTheRealClassReads(String version) throws Exception {
    int records = records(version);
    for (int i = 0; i < records; i++) {
      ETCD.server().put(mCluster.ringKey(identity(i).toString()), damaged(i));
    }
    try (AlluxioWorld stockWorld = AlluxioWorld.open(version, false);
        AlluxioWorld ourWorld = AlluxioWorld.open(version, true)) {
      Function<Object[], String> ours = open(ourWorld);
      String[] listed = ours.apply(new Object[] {"all", "m", null}).split("\n");
      String[] read = stockWorld.start(RecordPeer.class).apply(new Object[] {"all", stored()})
          .split("\n");
      assertTrue(read.length > records / 4 && read.length < records, read.length + mAgain);
      for (int i = 0; i < Math.min(listed.length, read.length); i++) {
        assertEquals(read[i], listed[i], mAgain);
      }
      assertEquals(read.length, listed.length, mAgain);
      ours.apply(new Object[] {"close", "m", null});
    }
  }

  /** The vectors that the library's unit tests use are still the results of the real class. */
  @Test
  void goldenRecordsAreTheRealClasses() throws Exception {
    Path golden = Paths.get(System.getProperty("basedir", ""), "..", "tests", "golden",
        "decode.jsonl");
    List<String> lines = Files.readAllLines(golden, StandardCharsets.UTF_8);
    for (String line : lines) {
      JsonObject row = JsonParser.parseString(line).getAsJsonObject();
      byte[] bytes = row.has("text") ? row.get("text").getAsString()
          .getBytes(StandardCharsets.UTF_8)
          : hex(row.get("hex").getAsString());
      WorkerServiceEntity entity = new WorkerServiceEntity();
      String error = null;
      try {
        entity.deserialize(bytes);
      } catch (RuntimeException | StackOverflowError e) {
        error = e.getClass().getName();
      }
      assertEquals(text(row.get("error")), error, line);
      if (error == null) {
        assertEquals(text(row.get("identity")),
            entity.getIdentity() == null ? null : entity.getIdentity().toString(), line);
        assertEquals(text(row.get("service_entity_name")), entity.getServiceEntityName(), line);
        assertEquals(row.get("address"), address(entity.getWorkerNetAddress()), line);
      }
    }
    assertTrue(lines.size() > 400, lines.size() + " records");
  }

  private static String text(JsonElement element) {
    return element == null || element.isJsonNull() ? null : element.getAsString();
  }

  private static JsonElement address(WorkerNetAddress address) {
    if (address == null) {
      return JsonNull.INSTANCE;
    }
    JsonObject fields = new JsonObject();
    fields.addProperty("host", address.getHost());
    fields.addProperty("container_host", address.getContainerHost());
    fields.addProperty("rpc_port", address.getRpcPort());
    fields.addProperty("data_port", address.getDataPort());
    fields.addProperty("secure_rpc_port", address.getSecureRpcPort());
    fields.addProperty("netty_data_port", address.getNettyDataPort());
    fields.addProperty("web_port", address.getWebPort());
    fields.addProperty("domain_socket_path", address.getDomainSocketPath());
    fields.addProperty("http_server_port", address.getHttpServerPort());
    return fields;
  }

  private static byte[] hex(String hex) {
    byte[] bytes = new byte[hex.length() / 2];
    for (int i = 0; i < bytes.length; i++) {
      bytes[i] = (byte) Integer.parseInt(hex.substring(2 * i, 2 * i + 2), 16);
    }
    return bytes;
  }

  /**
   * Compares with the listing of the stock class: both list the same workers, or the stock class
   * fails. Ours always has the result of each record alone.
   */
  @ParameterizedTest
  @ValueSource(strings = {AlluxioWorld.CURRENT, "311", "308"})
  void listsWhatTheStockClassListsOrMore(String version) throws Exception {
    String[] listings = {"all", "live", "failed", "show"};
    int listed = 0;
    int broken = 0;
    try (AlluxioWorld stockWorld = AlluxioWorld.open(version, false);
        AlluxioWorld ourWorld = AlluxioWorld.open(version, true)) {
      Function<Object[], String> stock = open(stockWorld);
      Function<Object[], String> ours = open(ourWorld);
      Function<Object[], String> real = stockWorld.start(RecordPeer.class);
      for (int batch = 0; batch < records(version) / BATCH; batch++) {
        int damaged = 1 + mRandom.nextInt(4);
        for (int i = 0; i < damaged; i++) {
          int number = mRandom.nextInt(20);
          String identity = identity(number).toString();
          // Random records may break no listing of the stock class, or every listing. An empty
          // object breaks all of them.
          byte[] bytes = batch == 0 ? "{}".getBytes(StandardCharsets.UTF_8)
              : batch == KEYS_REMOVED_EVERY ? sound(number) : damaged(number);
          if (batch == 0 || mRandom.nextInt(4) > 0) {
            ETCD.server().put(mCluster.ringKey(identity), bytes);
          }
          if (batch == 0 || mRandom.nextInt(4) > 0) {
            ETCD.server().put(mCluster.liveKey(identity), bytes);
          }
        }
        String live = stock.apply(new Object[] {"live", "m", null});
        // KnownDifferences has these differences: the listings that contain a live record without
        // an address or an identity.
        boolean withoutAddress = live.startsWith("java.lang.NullPointer");
        boolean withoutIdentity =
            live.contains("worker-0]") || live.contains("worker-0,")
            || live.contains("identity=null");
        for (String listing : listings) {
          String seen = unescaped(stock.apply(new Object[] {listing, "m", null}));
          String seenByOurs = unescaped(ours.apply(new Object[] {listing, "m", null}));
          assertEquals(unescaped(real.apply(new Object[] {listing, stored()})), seenByOurs,
              listing + mAgain);
          if (seen.startsWith("java.lang.")) {
            broken++;
          } else if (withoutAddress ? listing.equals("all") : !withoutIdentity
              || !listing.equals("failed")) {
            listed++;
            seen = seen.replace("equal:false", "equal:true");
            assertEquals(withoutAddress ? seen.replace("LOST", "LIVE") : seen,
                withoutAddress ? seenByOurs.replace("LOST", "LIVE") : seenByOurs, listing + mAgain);
          }
        }
        if ((batch + 1) % KEYS_REMOVED_EVERY == 0) {
          for (String prefix : Arrays.asList(mCluster.ringKey(""), mCluster.liveKey(""))) {
            ETCD.server().client().getKVClient()
                .delete(ByteSequence.from(prefix, StandardCharsets.UTF_8),
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

  private static byte[] sound(int number) {
    return new WorkerServiceEntity(identity(number),
        new WorkerNetAddress().setHost("h" + number).setRpcPort(number)
        .setContainerHost("<\u4e2d&\u2028>")).serialize();
  }

  private byte[] damaged(int number) {
    StringBuilder text = new StringBuilder(new String(sound(number), StandardCharsets.UTF_8));
    for (int damages = mRandom.nextInt(3); damages > 0; damages--) {
      int at = mRandom.nextInt(text.length());
      int end = Math.min(text.length(), at + mRandom.nextInt(3));
      text.replace(at, mRandom.nextBoolean() ? at : end, PIECES[mRandom.nextInt(PIECES.length)]);
    }
    return text.toString().getBytes(StandardCharsets.UTF_8);
  }
}
