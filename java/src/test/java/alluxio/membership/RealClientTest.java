package alluxio.membership;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import alluxio.membership.testing.AlluxioWorld;
import alluxio.membership.testing.ClientPeer;
import alluxio.membership.testing.EtcdServer;
import alluxio.membership.testing.TestCluster;
import alluxio.membership.testing.Workers;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Function;

/** Real clients list and place in the same way with and without our jar. */
class RealClientTest {
  private static final String[] OPERATIONS = {"all", "live", "lost", "cached", "place"};

  private static final String INACTIVE =
      "java.lang.RuntimeException: The preferred worker is not active.";

  @TempDir
  private Path mDirectory;

  private static Map<String, String> clientProperties(Map<String, String> properties) {
    Map<String, String> all = new HashMap<>(properties);
    // There is no master.
    all.put("alluxio.master.hostname", "127.0.0.1");
    all.put("alluxio.user.conf.cluster.default.enabled", "false");
    all.put("alluxio.user.metrics.collection.enabled", "false");
    return all;
  }

  private static String ask(Function<Object[], String> client, String operation, Map<String,
      String> properties) {
    return client.apply(new Object[] {operation, properties});
  }

  @Test
  void clientsSeeTheSameThroughBoth() throws Exception {
    try (EtcdServer etcd = EtcdServer.start()) {
      TestCluster cluster = new TestCluster(etcd, "ETCD");
      MembershipManager workers = MembershipManager.Factory.create(cluster.conf());
      for (int i = 1; i <= 5; i++) {
        workers.join(Workers.worker("worker-0000000" + i + "-0000-4000-8000-000000000000", "h" + i,
            1000));
      }
      workers.stopHeartBeat(Workers.worker("worker-00000003-0000-4000-8000-000000000000", "h3",
          1000));
      for (boolean ring : new boolean[] {true, false}) {
        Map<String, String> properties = clientProperties(cluster.properties());
        properties.put("alluxio.user.dynamic.consistent.hash.ring.enabled", String.valueOf(ring));
        List<Map<String, String>> seen = new ArrayList<>();
        for (AlluxioWorld world : new AlluxioWorld[
            ] {AlluxioWorld.open(AlluxioWorld.CURRENT, false),
            AlluxioWorld.open(AlluxioWorld.CURRENT, true), AlluxioWorld.shadedClient(true)}) {
          Function<Object[], String> client = world.start(ClientPeer.class);
          assertEquals("4 live", ask(client, "open", properties));
          // A context caches the first list of either kind.
          Map<String, String> all = look(client, "");
          assertEquals("", ask(client, "reinit", null));
          all.putAll(look(client, "after reinit: "));
          for (String operation : new String[] {"all", "live", "lost"}) {
            assertEquals(all.get(operation), all.get("after reinit: " + operation));
          }
          assertEquals("", ask(client, "close", null));
          for (String first : new String[] {"cached all", "addresses"}) {
            assertEquals("4 live", ask(client, "open", properties));
            all.put("first " + first, ask(client, first, null));
            all.put("cached after " + first, ask(client, "cached", null));
            assertEquals("", ask(client, "close", null));
          }
          seen.add(all);
        }
        Map<String, String> stock = seen.get(0);
        assertTrue(stock.get("lost").startsWith("worker-00000003-0000-4000-8000-000000000000 "),
            seen.toString());
        assertEquals(5, stock.get("all").split("\n").length, seen.toString());
        assertEquals(stock.get("all"), stock.get("first cached all"));
        // With the dynamic ring, the client uses the live workers, or all workers if none is live,
        // and fails if its choice is not live.
        assertEquals(stock.get(ring ? "live" : "all"), stock.get("cached after addresses"));
        Set<String> addresses = new HashSet<>(
            Arrays.asList(stock.get("first addresses").split("\n")));
        assertEquals(ring ? 4 : 5, addresses.size(), addresses.toString());
        assertEquals(!ring, addresses.contains(INACTIVE), addresses.toString());
        for (Map<String, String> each : seen) {
          assertEquals(stock, each);
        }
      }
      workers.close();
    }
  }

  /**
   * Its etcd library was moved to another package together with names of the JDK, so it cannot be
   * loaded.
   */
  @Test
  void theShadedClientAloneCannotUseEtcd() throws Exception {
    try (EtcdServer etcd = EtcdServer.start(); AlluxioWorld world =
        AlluxioWorld.shadedClient(false)) {
      assertEquals(
          "java.lang.NoClassDefFoundError: alluxio/shaded/client/javax/net/ssl/SSLException",
          ask(world.start(ClientPeer.class), "open",
          clientProperties(new TestCluster(etcd, "ETCD").properties())));
    }
  }

  private static Map<String, String> look(Function<Object[], String> client, String label) {
    Map<String, String> seen = new HashMap<>();
    for (String operation : OPERATIONS) {
      seen.put(label + operation, ask(client, operation, null));
    }
    return seen;
  }

  @Test
  void clientsOfAStaticClusterFindTheWorkers() throws Exception {
    Path hosts = mDirectory.resolve("workers");
    Files.write(hosts, "h1\nh2\nh3\n".getBytes(StandardCharsets.UTF_8));
    Map<String, String> cluster = new HashMap<>();
    cluster.put("alluxio.worker.membership.manager.type", "STATIC");
    cluster.put("alluxio.worker.static.membership.manager.config.file", hosts.toString());
    Map<String, String> properties = clientProperties(cluster);

    List<String> placements = new ArrayList<>();
    for (boolean ours : new boolean[] {false, true}) {
      for (AlluxioWorld world : new AlluxioWorld[] {AlluxioWorld.open(AlluxioWorld.CURRENT, ours),
          AlluxioWorld.shadedClient(ours)}) {
        Function<Object[], String> client = world.start(ClientPeer.class);
        assertEquals("3 live", ask(client, "open", properties));
        placements.add(ask(client, "place", null));
        Set<String> addresses = new HashSet<>(
            Arrays.asList(ask(client, "addresses", null).split("\n")));
        if (ours) {
          assertEquals(3, addresses.size(), addresses.toString());
          assertTrue(addresses.stream().allMatch(each ->
              each.startsWith("WorkerNetAddress{host=h")),
              addresses.toString());
        } else {
          assertEquals(Collections.singleton(INACTIVE), addresses);
        }
        ask(client, "close", null);
      }
    }
    // On the same workers, but with the stock classes the client may use none of them.
    assertFalse(placements.get(0).contains(" active"), placements.get(0));
    assertEquals(placements.get(0), placements.get(1));
    assertFalse(placements.get(2).contains(" inactive"), placements.get(2));
    assertEquals(placements.get(2), placements.get(3));
    assertEquals(placements.get(0).replace(" inactive", ""),
        placements.get(2).replace(" active", ""));
  }
}
