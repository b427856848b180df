package alluxio.membership.differential;

import static alluxio.membership.differential.Side.A;
import static alluxio.membership.differential.Side.map;
import static alluxio.membership.differential.Side.worker;

import alluxio.membership.testing.Peer;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;

/** Actions of workers, clients and operators on membership in a hosts file. */
final class StaticScenarios {
  /** The hosts of the scenario, in order. */
  static final String[] HOSTS = {"z9", "a1", "m # x", "10.0.0.1", "fe80::1%eth0", "h:123",
      "\u00e4\u00df\u4e2d", "A1",
      "last"};

  private static final String FILE = "alluxio.worker.static.membership.manager.config.file";

  private StaticScenarios() {}

  static Map<String, Scenario> all() {
    Map<String, Scenario> all = new LinkedHashMap<>();
    all.put("static: hosts", StaticScenarios::hosts);
    all.put("static: properties", StaticScenarios::properties);
    all.put("static: properties of the process", StaticScenarios::propertiesOfTheProcess);
    all.put("static: joining", StaticScenarios::joining);
    all.put("static: decommission", StaticScenarios::decommission);
    all.put("static: changing what is listed", StaticScenarios::changing);
    all.put("static: files", StaticScenarios::files);
    return all;
  }

  private static String open(Side side, byte[] file, String... properties) throws Exception {
    Path path = Files.createTempFile("hosts", "");
    Files.write(path, file);
    Map<String, String> all =
        map("alluxio.worker.membership.manager.type", "STATIC", FILE, path.toString(),
        "alluxio.worker.rpc.port", "1001",
            "alluxio.worker.web.port", "1003", "alluxio.worker.http.server.port",
            "1004");
    all.putAll(map(properties));
    try {
      return side.call(A, "open", all).replace(path.toString(), "<file>");
    } finally {
      Files.delete(path);
    }
  }

  private static void look(Side side, String label) throws Exception {
    for (String operation : Side.list("all", "live", "failed", "show")) {
      // The stock class returns the hosts in any order.
      String[] lines = side.call(A, operation, null).replaceAll(" ids:.*", "").split("\n");
      side.saw(label + ": order of " + operation, String.join("\n", lines));
      Arrays.sort(lines, operation.equals("show") ? 1 : 0, lines.length);
      side.saw(label + ": " + operation, String.join("\n", lines));
    }
  }

  private static byte[] bytes(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }

  private static void hosts(Side side) throws Exception {
    side.saw("open", open(side, bytes(
        "# workers\n\n z9 \na1\r\nz9\nm # x\n\t# no\n10.0.0.1\nfe80::1%eth0\nh:123\n"
        + "\u00e4\u00df\u4e2d\nA1\nlast")));
    look(side, "hosts");
  }

  private static void properties(Side side) throws Exception {
    open(side, bytes("h"), "alluxio.worker.port", "77",
        "alluxio.user.netty.data.transmission.enabled", "true");
    look(side, "one");
    open(side, bytes("h"), "alluxio.worker.http.server.enabled", "false");
    look(side, "no http server");
    open(side, bytes("h"), "alluxio.worker.data.port", "1002");
    look(side, "data port");
  }

  /**
   * Set for the whole process, like in a configuration file, because the stock class reads some of
   * them only there.
   */
  private static void propertiesOfTheProcess(Side side) throws Exception {
    String[][] all = {{"alluxio.user.netty.data.transmission.enabled", "false"},
        {"alluxio.user.netty.data.transmission.enabled", "false", "alluxio.worker.data.port",
        "1002"},
        {"alluxio.user.netty.data.transmission.enabled", "true", "alluxio.worker.data.port", "0"},
        {"alluxio.worker.data.port", "1002"}, {"alluxio.worker.container.hostname", "a container"},
        {"alluxio.worker.rpc.port", "0"}};
    for (String[] properties : all) {
      Map<String, String> process = map("alluxio.worker.rpc.port", "1001");
      process.putAll(map(properties));
      side.call(A, "configure process", process);
      try {
        String label = String.join(" ", properties);
        side.saw("open " + label, open(side, bytes("h"), properties));
        look(side, label);
      } finally {
        process.replaceAll((name, value) -> null);
        side.call(A, "configure process", process);
      }
    }
  }

  private static void joining(Side side) throws Exception {
    open(side, bytes("host1\n"));
    side.does("join", A, "join", worker(7, "RpcPort", "5000", "HttpServerPort", "5001"));
    look(side, "joined");
    side.does("stop", A, "stop", worker(7));
    side.does("decommission", A, "decommission",
        map(Peer.IDENTITY, "worker-" + java.util.UUID.nameUUIDFromBytes(bytes("host1"))));
    look(side, "decommissioned");
    side.does("close", A, "close", null);
  }

  private static void decommission(Side side) throws Exception {
    open(side, bytes("host1\n"));
    side.does("decommission", A, "decommission listed", null);
    look(side, "decommissioned");
    open(side, bytes("host1\n"));
    look(side, "opened again");
  }

  private static void changing(Side side) throws Exception {
    open(side, bytes("host1\n"));
    side.does("change", A, "change listed", null);
    side.sees("changed: all", () -> side.call(A, "all", null));
  }

  private static void files(Side side) throws Exception {
    for (String text : Side.list("", "\n\n", "# nothing")) {
      side.saw("open " + text, open(side, bytes(text)));
      look(side, text);
    }
    side.saw("not UTF-8", open(side, new byte[] {'h', (byte) 0xe4, '\n'}));
    Path documented = Files.createTempFile("hosts", "");
    side.saw("the documented name", side.call(A, "open",
        map("alluxio.worker.membership.manager.type", "STATIC",
        "alluxio.worker.static.config.file", documented.toString())));
    Files.delete(documented);
    for (String property : new String[] {null, "alluxio.conf.dir"}) {
      Map<String, String> unset = map("alluxio.worker.membership.manager.type", "STATIC", FILE,
          null);
      if (property != null) {
        unset.put(property, "/no/such");
      }
      side.saw("not named, " + property, side.call(A, "open", unset));
    }
    side.saw("no file", side.call(A, "open",
        map("alluxio.worker.membership.manager.type", "STATIC", FILE,
        "/no/such/file")));
    side.saw("directory", side.call(A, "open",
        map("alluxio.worker.membership.manager.type", "STATIC", FILE, "/tmp")));
  }
}
