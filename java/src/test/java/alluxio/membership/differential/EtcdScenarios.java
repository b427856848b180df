package alluxio.membership.differential;

import static alluxio.membership.differential.Side.A;
import static alluxio.membership.differential.Side.B;
import static alluxio.membership.differential.Side.id;
import static alluxio.membership.differential.Side.map;
import static alluxio.membership.differential.Side.onlyId;
import static alluxio.membership.differential.Side.ringKey;
import static alluxio.membership.differential.Side.worker;

import alluxio.membership.testing.Peer;

import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;

/** Actions of workers, clients and operators on membership in etcd. */
final class EtcdScenarios {
  private static final String[] K8S = {"alluxio.k8s.env.deployment", "true"};
  private static final String[] REGISTRY =
      {"alluxio.worker.membership.manager.type", "SERVICE_REGISTRY"};

  private EtcdScenarios() {}

  static Map<String, Scenario> all() {
    Map<String, Scenario> all = new LinkedHashMap<>();
    all.put("empty cluster", EtcdScenarios::emptyCluster);
    all.put("join", EtcdScenarios::join);
    all.put("identities", EtcdScenarios::identities);
    all.put("join again", EtcdScenarios::joinAgain);
    all.put("stop heartbeat", EtcdScenarios::stopHeartBeat);
    all.put("decommission", EtcdScenarios::decommission);
    all.put("removal right after stopping", EtcdScenarios::removalAfterStop);
    all.put("restart", EtcdScenarios::restart);
    all.put("restart with other optional fields", EtcdScenarios::optionalFields);
    all.put("conflict", EtcdScenarios::conflict);
    all.put("kubernetes", EtcdScenarios::kubernetes);
    all.put("kubernetes is read at each join", EtcdScenarios::kubernetesAtEachJoin);
    all.put("take-over of a running worker", EtcdScenarios::takeOver);
    all.put("two managers in a process", EtcdScenarios::twoManagers);
    all.put("two clusters in a process", EtcdScenarios::twoClusters);
    all.put("the process's manager", EtcdScenarios::managerOfTheProcess);
    all.put("close", EtcdScenarios::close);
    all.put("service registry", EtcdScenarios::serviceRegistry);
    all.put("one key only", EtcdScenarios::oneKeyOnly);
    all.put("unreadable records", EtcdScenarios::unreadableRecords);
    all.put("record without address", side -> record(side, "{}"));
    all.put("empty record", side -> record(side, ""));
    all.put("record without identity",
        side -> record(side, "{\"WorkerNetAddress\":{\"Host\":\"h\",\"RpcPort\":1}}"));
    all.put("live record without identity", EtcdScenarios::liveWithoutIdentity);
    all.put("live record without address", EtcdScenarios::liveWithoutAddress);
    all.put("two records without identity", EtcdScenarios::twoWithoutIdentity);
    all.put("records of one identity", EtcdScenarios::recordsOfOneIdentity);
    all.put("cluster whose name begins another's", EtcdScenarios::nameIsAPrefix);
    all.put("strange strings", EtcdScenarios::strangeStrings);
    all.put("strange workers", EtcdScenarios::strangeWorkers);
    all.put("corrupt ring record", EtcdScenarios::corruptRingRecord);
    all.put("endpoints", EtcdScenarios::endpoints);
    all.put("dead endpoint among several", EtcdScenarios::deadEndpoint);
    all.put("renewals", EtcdScenarios::renewals);
    all.put("interrupts", EtcdScenarios::interrupts);
    all.put("booleans", EtcdScenarios::booleans);
    all.put("credentials", EtcdScenarios::credentials);
    all.put("durations", EtcdScenarios::durations);
    all.put("time to live", EtcdScenarios::timeToLive);
    all.put("cluster names", EtcdScenarios::clusterNames);
    all.put("membership types", EtcdScenarios::membershipTypes);
    return all;
  }

  /**
   * The scenarios for versions before 312, whose leases last 2 s, because the property for the time
   * is newer.
   */
  static Map<String, Scenario> ofAllVersions() {
    Map<String, Scenario> all = all();
    all.remove("durations");
    // This worker exists for ever, so the scenario cannot be repeated.
    all.remove("the process's manager");
    all.remove("renewals");
    return all;
  }

  private static void emptyCluster(Side side) throws Exception {
    side.saw("open", side.open(A));
    side.look("empty");
    side.does("stop of nobody", A, "stop", onlyId(1));
    side.does("decommission of nobody", A, "decommission", onlyId(1));
    side.look("still empty");
  }

  private static void join(Side side) throws Exception {
    side.open(A);
    for (int i = 1; i <= 3; i++) {
      side.does("join " + i, A, "join", worker(i));
    }
    for (String operation : Side.list("all", "live", "failed", "show")) {
      side.does("own " + operation, A, operation, null);
    }
    side.look("joined");
  }

  private static void identities(Side side) throws Exception {
    side.open(A);
    for (String number : Side.list("5", "-1", "0", "9223372036854775807", "-9223372036854775808",
        "10")) {
      side.does("long " + number, A, "join", worker(1, Peer.IDENTITY, "worker-" + number));
    }
    for (String uuid : Side.list("ffffffff-ffff-ffff-ffff-ffffffffffff",
        "00000000-0000-0000-0000-000000000000",
        "ABCDEF00-0000-1000-8000-0000000000AB")) {
      side.does("uuid " + uuid, A, "join", worker(1, Peer.IDENTITY, "worker-" + uuid));
    }
    side.look("joined");
  }

  private static void joinAgain(Side side) throws Exception {
    side.open(A);
    side.does("join", A, "join", worker(1));
    side.does("the same", A, "join", worker(1));
    side.look("joined twice");
    side.does("another address", A, "join", worker(1, "Host", "elsewhere"));
    side.look("after the conflict");
    side.does("stop", A, "stop", onlyId(1));
    side.expireIfOld(id(1));
    side.does("join after stop", A, "join", worker(1, "HttpServerPort", "7"));
    side.look("joined after stop");
  }

  private static void stopHeartBeat(Side side) throws Exception {
    side.open(A);
    side.does("join 1", A, "join", worker(1));
    side.does("join 2", A, "join", worker(2));
    side.does("stop", A, "stop", worker(1));
    side.sees("live key right after",
        () -> side.etcd().get(Side.liveKey(id(1))).isEmpty() ? "no" : "yes");
    side.expire(id(1));
    side.look("stopped");
    side.does("stop again", A, "stop", worker(1));
    side.does("stop of another process's", A, "stop", worker(3));
    side.look("stopped twice");
  }

  private static void decommission(Side side) throws Exception {
    side.open(A);
    side.open(B);
    side.does("join 1", A, "join", worker(1));
    side.does("join 2", A, "join", worker(2));
    side.does("unknown", B, "decommission", onlyId(3));
    side.does("running", B, "decommission", onlyId(1));
    side.does("running, in its own process", A, "decommission", worker(1));
    side.look("nobody removed");
    side.does("stop", A, "stop", worker(1));
    side.expire(id(1));
    side.sees("listed as failed", () -> side.call(B, "failed", null));
    side.does("stopped", B, "decommission", onlyId(1));
    side.look("removed");
    if (side.version().equals("308")) {
      // The removal had no effect.
      return;
    }
    side.does("removed already", B, "decommission", onlyId(1));
    side.does("another takes the identity", B, "join", worker(1, "Host", "elsewhere"));
    side.look("taken");
  }

  private static void removalAfterStop(Side side) throws Exception {
    side.open(A);
    side.open(B);
    side.does("join", A, "join", worker(1));
    side.does("stop", A, "stop", worker(1));
    side.does("removal", B, "decommission", onlyId(1));
  }

  private static void restart(Side side) throws Exception {
    side.openMortal(A);
    side.does("join", A, "join", worker(1));
    side.kill(A);
    side.expireIfOld(id(1));
    side.look("killed");
    side.open(A);
    side.does("restarted", A, "join", worker(1));
    side.look("restarted at once");
    side.does("stop", A, "stop", worker(1));
    side.expire(id(1));
    side.end(A);
    side.open(A);
    side.does("restarted later", A, "join", worker(1));
    side.look("restarted after the lease");
  }

  private static void optionalFields(Side side) throws Exception {
    side.openMortal(A);
    side.does("join", A, "join", worker(1));
    side.kill(A);
    side.expireIfOld(id(1));
    side.open(A);
    side.does("restarted", A, "join", worker(1, "HttpServerPort", "17", "NettyDataPort", "18"));
    side.look("restarted");
  }

  private static void conflict(Side side) throws Exception {
    side.openMortal(A);
    side.does("join", A, "join", worker(1));
    side.open(B);
    for (String field : Side.list("Host", "ContainerHost", "DomainSocketPath", "RpcPort",
        "DataPort", "SecureRpcPort",
        "WebPort")) {
      side.does("other " + field, B, "join", worker(1, field, "99"));
    }
    side.look("after the conflicts");
    side.kill(A);
    side.expireIfOld(id(1));
    side.expire(id(1));
    side.does("even when lost", B, "join", worker(1, "Host", "elsewhere"));
    side.look("after the last conflict");
  }

  private static void kubernetes(Side side) throws Exception {
    side.openMortal(A, K8S);
    side.does("join", A, "join", worker(1));
    side.kill(A);
    side.expireIfOld(id(1));
    side.open(B, K8S);
    side.does("with another address", B, "join", worker(1, "Host", "10.0.0.2", "RpcPort", "77"));
    side.look("moved");
  }

  private static void kubernetesAtEachJoin(Side side) throws Exception {
    side.openMortal(A);
    side.does("join", A, "join", worker(1));
    side.kill(A);
    side.expireIfOld(id(1));
    side.open(B);
    side.does("before", B, "join", worker(1, "Host", "elsewhere"));
    side.call(B, "configure", map("alluxio.k8s.env.deployment", "true"));
    side.does("after", B, "join", worker(1, "Host", "elsewhere"));
    side.look("moved");
  }

  private static void takeOver(Side side) throws Exception {
    side.open(A);
    side.does("first", A, "join", worker(1));
    side.open(B);
    side.does("second", B, "join", worker(1));
    side.look("taken over");
    if (side.isOld()) {
      // No process has taken over from the stock process, and its key ends with it.
      return;
    }
    side.does("first stops", A, "stop", worker(1));
    side.look("first stopped");
  }

  private static void twoManagers(Side side) throws Exception {
    side.open(A);
    Map<String, String> properties = map("alluxio.worker.membership.manager.type", "ETCD",
        "alluxio.etcd.endpoints",
        side.etcd().endpoint(), "alluxio.cluster.name", Side.CLUSTER,
        "alluxio.worker.failure.detection.timeout",
        "30s");
    side.saw("second manager", side.call(A, "second", "open", properties));
    side.does("join", A, "join", worker(1));
    side.saw("second lists", side.call(A, "second", "all", null));
    side.saw("second joins the same", side.call(A, "second", "join", worker(1)));
    side.saw("second closes", side.call(A, "second", "close", null));
    side.look("second closed");
    side.does("first lists", A, "all", null);
  }

  private static void twoClusters(Side side) throws Exception {
    side.open(A);
    Map<String, String> properties = map("alluxio.worker.membership.manager.type", "ETCD",
        "alluxio.etcd.endpoints",
        side.etcd().endpoint(), "alluxio.cluster.name", "second");
    side.saw("second manager", side.call(A, "second", "open", properties));
    side.does("first joins", A, "join", worker(1));
    side.saw("second joins", side.call(A, "second", "join", worker(2)));
    side.saw("first's ring", String.join("\n", side.etcd().get(ringKey("")).keySet()));
    Set<String> others = new TreeSet<>(side.etcd().get("/").keySet());
    others.removeIf(key -> key.startsWith(ringKey("")));
    side.saw("keys of second's", String.join("\n", others));
    side.sees("first's live", () -> side.call(A, "live", null));
    side.sees("second's live", () -> side.call(A, "second", "live", null));
  }

  private static void managerOfTheProcess(Side side) throws Exception {
    side.open(A);
    side.does("join", A, "join", worker(1));
    Map<String, String> properties = map("alluxio.worker.membership.manager.type", "ETCD",
        "alluxio.etcd.endpoints",
        side.etcd().endpoint(), "alluxio.cluster.name", Side.CLUSTER);
    side.saw("one", side.call(A, "one", "get", properties));
    properties.put("alluxio.cluster.name", "not looked at");
    side.saw("two", side.call(A, "two", "get", properties));
    side.sees("two lists", () -> side.call(A, "two", "all", null));
    side.saw("one closes", side.call(A, "one", "close", null));
    side.saw("two lists after one has closed", side.call(A, "two", "all", null));
  }

  private static void close(Side side) throws Exception {
    side.open(A);
    side.open(B);
    side.does("join", A, "join", worker(1));
    side.does("close of a reader", B, "close", null);
    side.does("twice", B, "close", null);
    side.look("reader closed");
    for (String operation : Side.list("all", "live", "failed", "show")) {
      side.does("closed reader's " + operation, B, operation, null);
    }
    side.does("close of the worker's", A, "close", null);
    side.look("worker's closed");
  }

  private static void serviceRegistry(Side side) throws Exception {
    side.saw("open", side.open(A, REGISTRY));
    for (int i = 1; i <= 3; i++) {
      side.does("join " + i, A, "join", worker(i));
    }
    side.does("join again", A, "join", worker(1));
    side.does("decommission of nobody", A, "decommission", onlyId(9));
    side.does("decommission", A, "decommission", onlyId(1));
    side.does("stop of nobody", A, "stop", onlyId(9));
    side.look("joined", REGISTRY);
    if (!side.isOld()) {
      side.open(B, REGISTRY);
      side.does("another address", B, "join", worker(3, "Host", "elsewhere"));
      side.look("taken over", REGISTRY);
    }
    side.does("stop", A, "stop", onlyId(2));
    side.expire(id(2));
    side.look("stopped", REGISTRY);
  }

  private static void oneKeyOnly(Side side) throws Exception {
    side.open(A);
    side.does("join 1", A, "join", worker(1));
    side.does("join 2", A, "join", worker(2));
    byte[] third = side.etcd().get(ringKey(id(1))).get(ringKey(id(1))).getValue()
        .toString(StandardCharsets.UTF_8)
        .replace("00000001", "00000003").getBytes(StandardCharsets.UTF_8);
    side.etcd().put(ringKey(id(3)), third);
    side.etcd().put(Side.liveKey(id(4)),
        new String(third, StandardCharsets.UTF_8).replace("00000003", "00000004")
        .getBytes(StandardCharsets.UTF_8));
    side.look("3 in the ring only, 4 live only");
  }

  private static void unreadableRecords(Side side) throws Exception {
    side.open(A);
    side.does("join 1", A, "join", worker(1));
    String[] unreadable = {"garbage{", "[]", "7",
        "{\"Identity\":{\"version\":3,\"identifier\":\"00\"}}",
        "{\"Identity\":{\"version\":1}}", "{\"WorkerNetAddress\":{\"RpcPort\":\"x\"}}",
        "{\"Identity\":{\"version\":1,\"identifier\":\"00000002000040008000000000000000\"},\"WorkerNetAddress\":{}} x"};
    for (int i = 0; i < unreadable.length; i++) {
      side.etcd().put(ringKey("x" + i), unreadable[i].getBytes(StandardCharsets.UTF_8));
      side.etcd().put(Side.liveKey("x" + i), unreadable[i].getBytes(StandardCharsets.UTF_8));
    }
    side.etcd().put(ringKey("binary"), new byte[] {0, 4, (byte) 0xff, (byte) 0x80});
    side.look("unreadable");
  }

  private static void record(Side side, String value) throws Exception {
    side.open(A);
    side.does("join 1", A, "join", worker(1));
    side.etcd().put(ringKey("x"), value.getBytes(StandardCharsets.UTF_8));
    side.look("in the ring");
  }

  private static void liveWithoutIdentity(Side side) throws Exception {
    side.open(A);
    side.does("join 1", A, "join", worker(1));
    byte[] record = "{\"WorkerNetAddress\":{\"Host\":\"h\",\"RpcPort\":1}}".getBytes(
        StandardCharsets.UTF_8);
    side.etcd().put(ringKey("x"), record);
    side.etcd().put(Side.liveKey("x"), record);
    side.look("live");
  }

  private static void liveWithoutAddress(Side side) throws Exception {
    side.open(A);
    side.does("join 1", A, "join", worker(1));
    String record = side.etcd().get(ringKey(id(1))).get(ringKey(id(1))).getValue()
        .toString(StandardCharsets.UTF_8)
        .replace("00000001", "00000002");
    side.etcd().put(ringKey(id(2)), record.getBytes(StandardCharsets.UTF_8));
    side.etcd().put(Side.liveKey(id(2)),
        record.replace("WorkerNetAddress", "Unknown").getBytes(StandardCharsets.UTF_8));
    side.look("live");
  }

  private static void twoWithoutIdentity(Side side) throws Exception {
    side.open(A);
    side.does("join 1", A, "join", worker(1));
    for (String name : Side.list("y", "z")) {
      side.etcd().put(ringKey(name), ("{\"WorkerNetAddress\":{\"Host\":\"" + name
          + "\",\"RpcPort\":1}}")
          .getBytes(StandardCharsets.UTF_8));
    }
    side.look("in the ring");
  }

  private static void recordsOfOneIdentity(Side side) throws Exception {
    side.open(A);
    side.does("join 1", A, "join", worker(1));
    byte[] value = side.etcd().get(ringKey(id(1))).get(ringKey(id(1))).getValue().getBytes();
    // The record under the key of its own name counts, although it is not the first one.
    side.etcd().put(ringKey("worker-"),
        new String(value, StandardCharsets.UTF_8).replace("host1", "elsewhere")
        .getBytes(StandardCharsets.UTF_8));
    side.etcd().put(ringKey("worker-zzz"), value);
    side.look("a copy under another key");
  }

  private static void nameIsAPrefix(Side side) throws Exception {
    side.open(A, "alluxio.cluster.name", Side.CLUSTER + "-2");
    side.open(B);
    side.does("join of the longer", A, "join", worker(1));
    side.does("join of the shorter", B, "join", worker(2));
    side.look("both");
  }

  private static void strangeStrings(Side side) throws Exception {
    side.open(A);
    String[] strings = {"", " ", "\"'<&>=\\/", "a\tb\nc\u0000\u001f\u007f",
        "\u00e4\u00df\u4e2d\u6587", "\ud83d\ude00",
        "\u2028\u2029\ufeff", "fe80::1%eth0", "\ud800", "x\udc00y"};
    for (int i = 0; i < strings.length; i++) {
      side.does("string " + i, A, "join", worker(i, "Host", strings[i], "ContainerHost", strings[i],
          "DomainSocketPath", strings[i], "RpcPort", "2147483647", "DataPort", "-2147483648"));
    }
    side.look("joined");
  }

  private static void strangeWorkers(Side side) throws Exception {
    side.open(A);
    side.does("nothing", A, "join", null);
    side.does("identity alone", A, "join", onlyId(1));
    side.does("address alone", A, "join", map("Host", "h"));
    for (String field : Side.list("Host", "ContainerHost", "DomainSocketPath")) {
      side.does("no " + field, A, "join", worker(2 + field.length(), field, null));
    }
    side.does("stop of nothing", A, "stop", null);
    side.does("decommission of nothing", A, "decommission", null);
    side.look("joined");
  }

  private static void corruptRingRecord(Side side) throws Exception {
    side.open(A);
    String[] corrupt = {"garbage{", "", "{}", "null", "{\"Identity\":null}"};
    for (int i = 0; i < corrupt.length; i++) {
      side.etcd().put(ringKey(id(i)), corrupt[i].getBytes(StandardCharsets.UTF_8));
      side.does("join over " + corrupt[i], A, "join", worker(i));
    }
    side.sees("keys", () -> String.join("\n", side.etcd().get("/").keySet()));
  }

  private static void endpoints(Side side) throws Exception {
    String address = side.etcd().endpoint().substring("http://".length());
    String[] endpoints = {null, "", ",", "localhost:2379", "127.0.0.1", "http://", "http:///x",
        "http://:2379",
        "http://[::1", "ht tp://h", "http://h:port", "http://" + address, "https://" + address,
        "any://" + address,
        "http://" + address + "/path", " http://" + address + " , ,http://" + address,
        "http://u:p@" + address,
        "HTTP://" + address, "//" + address, "http://127.0.0.1:99999",
        "http://etcd_0.etcd:2379", "http://[::1]:2379", "http://127.0.0.1:0", "http://h:-1"};
    for (String text : endpoints) {
      String label = text == null ? "none" : text.replace(address, "<etcd>");
      String opened = side.open(A, "alluxio.etcd.endpoints", text).replace(address, "<etcd>");
      side.saw(label, opened);
      if (text != null && text.contains(address)) {
        side.does(label + ": list", A, "all", null);
      }
      side.end(A);
    }
  }

  private static void deadEndpoint(Side side) throws Exception {
    String dead = "http://127.0.0.1:1";
    for (String endpoints : Side.list(dead + "," + side.etcd().endpoint(),
        side.etcd().endpoint() + "," + dead,
        dead + "," + side.etcd().endpoint() + ",http://127.0.0.1:2")) {
      String label = endpoints.replace(side.etcd().endpoint(), "<etcd>");
      side.saw(label, side.open(A, "alluxio.etcd.endpoints", endpoints));
      side.does(label + ": join", A, "join", worker(1));
      for (String operation : Side.list("all", "live", "failed", "show")) {
        side.does(label + ": " + operation, A, operation, null);
      }
      side.does(label + ": stop", A, "stop", worker(1));
      side.expire(id(1));
      side.end(A);
    }
  }

  /** A worker lives for longer than its lease, on one lease. */
  private static void renewals(Side side) throws Exception {
    side.open(A, "alluxio.worker.failure.detection.timeout", "8s");
    side.does("join", A, "join", worker(1));
    long lease = side.lease(id(1));
    side.outlive(8);
    side.saw("same lease", String.valueOf(side.lease(id(1)) == lease));
    side.look("later");
  }

  private static void interrupts(Side side) throws Exception {
    side.open(A);
    side.does("join", A, "join", worker(1));
    side.does("all", A, "all", null);
    for (String operation : Side.list("all", "live", "failed", "show", "stop", "close")) {
      String done = side.call(A, "interrupted " + operation, onlyId(9));
      // The stock classes lose the worker whenever they have to wait.
      if (side.isOurs() && !done.endsWith(Peer.FLAG_KEPT)) {
        throw new AssertionError("The thread is not interrupted any more: " + operation + " "
            + done);
      }
      side.saw("interrupted " + operation,
          done.replace(Peer.FLAG_KEPT, "").replace(Peer.FLAG_LOST, ""));
    }
  }

  /** Like values from a file. */
  private static void booleans(Side side) throws Exception {
    for (String text : Side.list("true", "TRUE", "True", "false", "FALSE", "yes", "no", "1", "0",
        "on", "", " true ",
        "t")) {
      String[] property = {"raw alluxio.k8s.env.deployment", text};
      String opened = side.open(A, property);
      side.saw("open " + text, opened);
      if (opened.startsWith("alluxio.membership.")) {
        side.does("join " + text, A, "join", worker(1));
        side.end(A);
        side.expire(id(1));
        side.open(A, property);
        side.does("join elsewhere " + text, A, "join", worker(1, "Host", "elsewhere"));
        side.sees("all " + text, () -> side.call(A, "all", null));
      }
      side.end(A);
      side.wipe();
    }
  }

  private static void credentials(Side side) throws Exception {
    String[][] credentials = {{"root", null}, {null, "secret"}, {"root", ""}, {"", "secret"},
        {"", ""}};
    for (String[] pair : credentials) {
      side.saw(pair[0] + "/" + pair[1],
          side.open(A, "alluxio.etcd.username", pair[0], "alluxio.etcd.password", pair[1]));
      side.end(A);
    }
  }

  private static void durations(Side side) throws Exception {
    int number = 0;
    for (String duration : Side.list("7s", "7500", "7999ms", "1min", "2m", "1h", "1d", "0",
        "999ms", "-5s", "1.5s",
        "7 s", "abc", "7parsec", "")) {
      number++;
      String joined = null;
      String opened = side.open(A, "alluxio.worker.failure.detection.timeout", duration);
      side.saw("open with " + duration, opened);
      if (opened.startsWith("alluxio.membership.")) {
        joined = side.call(A, "join", worker(number));
        side.saw("join with " + duration, joined);
      }
      if ("".equals(joined)) {
        side.sees("keys with " + duration, side::keys);
      }
      side.end(A);
      side.wipe();
    }
  }

  /** Also for versions that do not know the property. */
  private static void timeToLive(Side side) throws Exception {
    side.open(A, "alluxio.worker.failure.detection.timeout", "77s");
    side.does("join", A, "join", worker(1));
    side.saw("granted", side.granted(side.lease(id(1))) + " s");
    side.end(A);
  }

  private static void clusterNames(Side side) throws Exception {
    for (String name : Side.list("", " ", " x ", "a/b", "/", "a b", "\u00e4\ud83d\ude00",
        "${alluxio.k8s.env.deployment}",
        "${no.such.name}", null)) {
      String opened = side.open(A, "alluxio.cluster.name", name);
      side.saw("open " + name, opened);
      if (opened.startsWith("alluxio.membership.")) {
        side.does("join " + name, A, "join", worker(1));
        side.does("all " + name, A, "all", null);
      }
      side.saw("keys " + name, String.join("\n", side.etcd().get("/").keySet()));
      side.end(A);
      side.wipe();
    }
  }

  private static void membershipTypes(Side side) throws Exception {
    for (String type : Side.list("ETCD", "etcd", "Service_Registry", "MASTER", "NOOP", "", null)) {
      String opened = side.open(A, "alluxio.worker.membership.manager.type", type);
      side.saw("open " + type, opened);
      if (opened.startsWith("alluxio.membership.")) {
        side.does("join " + type, A, "join", worker(1));
        side.does("all " + type, A, "all", null);
        side.does("show " + type, A, "show", null);
        side.does("decommission " + type, A, "decommission", worker(1));
        side.does("close " + type, A, "close", null);
      }
      side.end(A);
      side.wipe();
    }
  }
}
