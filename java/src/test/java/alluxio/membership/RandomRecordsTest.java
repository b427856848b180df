package alluxio.membership;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import alluxio.membership.testing.EtcdServer;
import alluxio.membership.testing.TestCluster;
import alluxio.wire.WorkerIdentity;
import alluxio.wire.WorkerInfo;
import alluxio.wire.WorkerNetAddress;

import org.junit.jupiter.api.Test;

import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.UUID;

/** Damaged records: what the real class reads of them is listed, and what it does not read is left out. */
class RandomRecordsTest {
  private static final int RECORDS = Integer.getInteger("test.random.records", 2000);
  private static final String[] PIECES = {"\"", "'", "null", "7", "7.0", "\"7\"", "-1", "1e3", "true", "{}", "[]", ",",
      ":", "{", "}", "\\u00e4", "\u00e4", "\ud83d\ude00", " ", "\n", "#\n", "//\n", "/*x*/", "\ufeff", "99999999999",
      "\"Host\":\"other\",", "\"Unknown\":{\"a\":[1,{}]},", "\"Identity\":null,", "Host"};

  @Test
  void readsWhatTheRealClassReads() throws Exception {
    long seed = Long.getLong("test.seed", System.nanoTime());
    Random random = new Random(seed);
    Map<String, String> expected = new TreeMap<>();
    try (EtcdServer etcd = EtcdServer.start()) {
      TestCluster cluster = new TestCluster(etcd, "ETCD");
      for (int i = 0; i < RECORDS; i++) {
        WorkerIdentity identity = WorkerIdentity.ParserV1.INSTANCE.fromUUID(new UUID(0x4000, 0x8000L << 48 | i));
        StringBuilder text = new StringBuilder(new String(new WorkerServiceEntity(identity, new WorkerNetAddress()
            .setHost("h" + i).setRpcPort(i).setContainerHost("<\u4e2d&\u2028>")).serialize(), StandardCharsets.UTF_8));
        for (int damages = random.nextInt(3); damages > 0; damages--) {
          int at = random.nextInt(text.length());
          int end = Math.min(text.length(), at + random.nextInt(3));
          text.replace(at, random.nextBoolean() ? at : end, PIECES[random.nextInt(PIECES.length)]);
        }
        byte[] bytes = text.toString().getBytes(StandardCharsets.UTF_8);
        etcd.put(cluster.ringKey(identity.toString()), bytes);
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
      try (MembershipManager manager = MembershipManager.Factory.create(cluster.conf())) {
        for (WorkerInfo worker : manager.getAllMembers()) {
          listed.put(worker.getIdentity().toString(), describe(worker));
        }
      }
      assertTrue(expected.size() > RECORDS / 4 && expected.size() < RECORDS, expected.size() + ", seed " + seed);
      for (String identity : expected.keySet()) {
        assertEquals(expected.get(identity), listed.get(identity), identity + ", -Dtest.seed=" + seed);
      }
      assertEquals(expected.keySet(), listed.keySet(), "-Dtest.seed=" + seed);
    }
  }

  private static String describe(WorkerInfo worker) {
    return worker.getAddress() + " " + worker.getAddress().getNettyDataPort();
  }
}
