package alluxio.membership.differential;

import alluxio.util.HashUtils;
import alluxio.wire.WorkerNetAddress;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.function.Function;
import java.util.function.UnaryOperator;
import java.util.regex.Pattern;

/**
 * The intended differences between our classes and the stock classes, with reasons. A listed
 * difference that does not occur is an error too.
 */
final class KnownDifferences {
  private static final String MANAGER = "alluxio.membership.EtcdMembershipManager";
  private static final String READER = " by reader";
  private static final String OTHER = " by other reader";
  private static final String[] READERS = {"reader", "other reader"};
  private static final String INVALID = "alluxio.exception.status.InvalidArgumentException: ";
  private static final String NO_SUCH_PORT =
      "With such an endpoint the stock class reaches no other one either; ours says so at once.";
  private static final String NOBODY = "size:0 .*";
  private static final String ALREADY =
      "alluxio.exception.status.AlreadyExistsException: Service .* already registered. .*";
  private static final String DUPLICATE =
      "java.lang.IllegalArgumentException: duplicate workers with the same ID.*";

  private final String mScenario;
  private final List<Difference> mDifferences = new ArrayList<>();
  private final List<Change> mChanges = new ArrayList<>();

  KnownDifferences(String scenario, String version) {
    mScenario = scenario;
    for (Difference difference : ALL) {
      if (difference.mScenario.equals(scenario) && version.matches(difference.mVersions)) {
        mDifferences.add(difference);
      }
    }
    for (Change change : CHANGES) {
      if (change.mScenario.equals(scenario)) {
        mChanges.add(change);
      }
    }
  }

  private static final List<Difference> ALL = new ArrayList<>();
  private static final List<Change> CHANGES = new ArrayList<>();

  static {
    String join = "Alluxio documents that joining is idempotent, and our join is.";
    differ("join again", "the same", ALREADY, "", join);
    differ("two managers in a process", "second joins the same", ALREADY, "", join);
    differ("service registry", "join again", ALREADY, "", join);

    String leave = "A worker that stops in order is not listed as live until its lease ends.";
    differ("stop heartbeat", "live key right after", "yes", "no", leave);
    differ("311|313", "removal right after stopping", "removal",
        INVALID + "Can't remove running worker: .*", "", leave);
    differ("close", "worker's closed: keys", ".*/ServiceDiscovery/.*", "[^\n]*\n", leave);
    for (String reader : READERS) {
      differ("close", "worker's closed: all by " + reader, ".*State=LIVE.*", ".*State=LOST.*",
          leave);
      differ("close", "worker's closed: show by " + reader, ".*ONLINE.*", ".*OFFLINE.*", leave);
      differ("close", "worker's closed: live by " + reader, "Identity.*size:1.*", NOBODY, leave);
      differ("close", "worker's closed: failed by " + reader, NOBODY, "Identity.*size:1.*", leave);
    }
    String closed = "java.lang.IllegalStateException: The membership manager is closed";
    String mistake = "The use of a closed manager is a mistake, so it is an error.";
    differ("the process's manager", "two lists after one has closed", ".*size:1 .*", closed,
        mistake);
    differ("close", "closed reader's all", "Identity.*size:1.*", closed, mistake);
    differ("close", "closed reader's live", "Identity.*size:1.*", closed, mistake);
    differ("close", "closed reader's failed", NOBODY, closed, mistake);
    differ("close", "closed reader's show", "WorkerId.*ONLINE\n", closed, mistake);

    for (String scenario : new String[] {"record without address", "empty record"}) {
      broken(scenario, "in the ring: all", "java.lang.NullPointerException: address",
          ".*size:1 .*");
      broken(scenario, "in the ring: failed", "java.lang.NullPointerException: address", NOBODY);
      broken(scenario, "in the ring: show", "java.lang.NullPointerException: address",
          "WorkerId.*ONLINE\n");
    }
    broken("live record without address", "live: live", "java.lang.NullPointerException: address",
        ".*size:1 .*");
    broken("live record without address", "live: show", "java.lang.NullPointerException: address",
        "WorkerId.*ONLINE\\n.*OFFLINE\\n");
    String lost = "A worker without a usable live record is lost, in every listing.";
    differ("live record without address", "live: all by reader", "(?!.*LOST).*size:2.*",
        ".*LIVE.*LOST.*size:2.*", lost);
    differ("live record without address", "live: all by other reader", ".*LIVE.*LOST.*size:2.*",
        "(?!.*LOST).*size:2.*",
        lost);
    differ("live record without address", "live: failed by reader", NOBODY, ".*LOST.*size:1 .*",
        lost);
    differ("live record without address", "live: failed by other reader", ".*LOST.*size:1 .*",
        NOBODY, lost);
    broken("two records without identity", "in the ring: all", DUPLICATE, ".*size:2 .*");
    broken("two records without identity", "in the ring: failed", DUPLICATE, ".*size:1 .*");
    broken("two records without identity", "in the ring: show", DUPLICATE,
        "WorkerId.*ONLINE\n.*OFFLINE\n");
    broken("records of one identity", "a copy under another key: all", DUPLICATE,
        "(?!.*elsewhere).*State=LIVE.* Host=host1 .*size:1 .*");
    broken("records of one identity", "a copy under another key: show", DUPLICATE,
        "WorkerId[^\n]*\n[^\n]*\thost1:1\tONLINE\n");
    String unset = "equals compares the identity that getIdentity() returns.";
    for (String listing : new String[] {"all", "failed"}) {
      changes("record without identity", "in the ring: " + listing,
          text -> text.replace("equal:false", "equal:true"),
          unset);
    }
    for (String listing : new String[] {"all", "live"}) {
      changes("live record without identity", "live: " + listing,
          text -> text.replace("equal:false", "equal:true"),
          unset);
    }
    String agree = "A worker that is lost in the list of all is in the list of the failed.";
    changes("live record without identity", "live: failed",
        text -> text.replace("size:0 empty:true ids:[]",
        "State=LOST Host=h RpcPort=1 equal:true found:true\nsize:1 empty:false ids:[worker-0]"),
        agree);

    String foreign =
        "Another cluster's workers are not listed only because its name begins with this one's.";
    differ("cluster whose name begins another's", "both: live by reader", ".*size:2.*",
        ".*size:1.*", foreign);
    differ("cluster whose name begins another's", "both: live by other reader", ".*size:1.*",
        ".*size:2.*", foreign);
    String own =
        "Each manager has its own configuration; the stock classes keep the first of the process.";
    differ("two clusters in a process", "keys of second's",
        "/DHT/second/AUTHORIZED/" + Side.id(2) + "\n/ServiceDiscovery/cluster/" + Side.id(1)
        + "\n/ServiceDiscovery/cluster/"
            + Side.id(2), "/DHT/second/AUTHORIZED/" + Side.id(2) + "\n/ServiceDiscovery/cluster/"
            + Side.id(1)
            + "\n/ServiceDiscovery/second/" + Side.id(2), own);
    differ("two clusters in a process", "first's live", ".*size:2 .*", ".*size:1 .*", own);
    differ("two clusters in a process", "second's live", ".*size:2 .*", ".*size:1 .*", own);

    differ("strange workers", "nothing", "java.lang.NullPointerException: .*",
        "java.lang.NullPointerException: .*",
        "The JVM words the message.");
    differ("corrupt ring record", "join over garbage{",
        "java.io.IOException: Existing .* corrupted",
        "java.io.IOException: Existing .* corrupted <- java.io.IOException",
        "The cause says what is wrong with it.");
    for (String record : new String[] {"", "{}", "null", "{\"Identity\":null}"}) {
      differ("corrupt ring record", "join over " + record, "java.lang.NullPointerException: .*",
          "alluxio.exception.status.AlreadyExistsException: .*addr:null, worker identity:null.*",
          "A record without content is a conflict that can be understood.");
    }

    String unusable =
        "java.lang.IllegalArgumentException: Unable to compute target from endpoint: ";
    for (String endpoint : new String[] {"localhost:2379", "127.0.0.1", "http:///x",
        "http://:2379", "http://h:port",
        "http://h:-1"}) {
      String text = quoted(unusable + "'" + endpoint + "'");
      differ("endpoints", endpoint, text, text + " <- java.io.IOException",
          "The cause names the property and what it must be.");
    }
    String none =
        quoted("java.lang.IllegalArgumentException: Unable to compute target from endpoints: '[]'");
    differ("endpoints", ",", none, none + " <- java.io.IOException",
        "The cause names the property and what it must be.");
    for (String endpoint : new String[] {"http://", "http://[::1", "ht tp://h"}) {
      differ("endpoints", endpoint,
          "java.lang.IllegalArgumentException: .* at index .* <- java.net.URISyntaxException",
          quoted(unusable + "'" + endpoint + "'") + " <- java.io.IOException",
          "One text for every endpoint that cannot be used; the cause names the property.");
    }
    differ("endpoints", "http://etcd_0.etcd:2379", quoted(unusable + "'http://etcd_0.etcd:2379'"),
        MANAGER,
        "Not a name of a host by the book, but names of containers and services look like that.");
    differ("endpoints", "http://127.0.0.1:99999", MANAGER,
        quoted(unusable + "'http://127.0.0.1:99999'") + " <- java.io.IOException",
        NO_SUCH_PORT);
    differ("a port that does not exist", "open", MANAGER,
        quoted(unusable + "'http://127.0.0.1:99999'") + " <- java.io.IOException", NO_SUCH_PORT);
    differ("a port that does not exist", "all",
        ".*Exhausted retry.*<- java.lang.IllegalArgumentException", "null",
        NO_SUCH_PORT);

    differ("an endpoint with an IPv6 address", "all",
        ".*Exhausted retry.*<- java.lang.IllegalArgumentException",
        "size:0 .*", "The stock class takes the brackets for a part of the address.");

    String reference = "java.lang.RuntimeException: Invalid property key no.such.name";
    differ("cluster names", "open ${no.such.name}", reference,
        "java.lang.IllegalArgumentException: Invalid property key no.such.name <- "
        + "java.io.IOException",
        "A more exact class; the cause names the property that refers to it.");
    differ("308", "strange workers", "decommission of nothing", "",
        "java.lang.NullPointerException: .*",
        "decommission does something in all versions, not only from 311 on.");

    String old = "Our class behaves in all versions like Alluxio since 312.";
    differ("308|311", "take-over of a running worker", "second",
        "alluxio.exception.status.AlreadyExistsException: Same service kv pair already exists.*",
        "", old);
    differ("308|311", "time to live", "granted", "2 s", "77 s", old);
    String removal = "Our class removes workers in all versions, like Alluxio since 311.";
    differ("308", "empty cluster", "decommission of nobody", "",
        INVALID + "Unrecognized or non-existing worker: .*",
        removal);
    differ("308", "decommission", "unknown", "",
        INVALID + "Unrecognized or non-existing worker: .*", removal);
    for (String running : new String[] {"running", "running, in its own process"}) {
      differ("308", "decommission", running, "", INVALID + "Can't remove running worker: .*",
          removal);
    }
    for (String type : new String[] {"ETCD", "etcd"}) {
      differ("308", "membership types", "decommission " + type, "",
          INVALID + "Can't remove running worker: .*", removal);
    }
    for (String label : new String[] {"keys", "all by reader", "failed by reader", "show by reader",
        "all by other reader", "failed by other reader", "show by other reader"}) {
      differ("308", "decommission", "removed: " + label, ".*00000001-.*", "(?!.*00000001-).*",
          removal);
    }

    String gave =
        "alluxio.exception.runtime.UnavailableRuntimeException: Exhausted retry for (Getting "
        + "children for "
        + "path:/ServiceDiscovery/cluster), retries:";
    String soon =
        "An operation ends in time. The cause is the last failure, with endpoint and address.";
    String unavailable = quoted(gave)
        + "[0-9]+, last exception: .*\\[UNAVAILABLE, retryable\\] <- java.io.IOException";
    String late = quoted(gave + "6, last exception: [UNAVAILABLE, retryable] <- ")
        + "java.util.concurrent.TimeoutException \\(late\\)";
    String notCreated =
        quoted("alluxio.exception.runtime.UnavailableRuntimeException: Exhausted retry for (Create "
        + "for "
        + "path:/DHT/cluster/AUTHORIZED/" + Side.id(2) + ", value bytes len:")
        + ".* <- java.io.IOException";
    String forEver = "The stock class waits without a limit; workers try again after an error.";
    for (String label : new String[] {"all", "live", "failed", "show", "decommission"}) {
      differ("etcd is down at open", "down: " + label, late, unavailable, soon);
    }
    differ("etcd is down at open", "down: join", "waits", notCreated, forEver);
    String memory = "Our class lists from memory while the view is not older than configured.";
    for (String label : new String[] {"all", "live"}) {
      differ("etcd goes down under way", "down: " + label, late,
          "Identity=.*State=LIVE.*size:1 .*", memory);
    }
    differ("etcd goes down under way", "down: failed", late, NOBODY, memory);
    differ("etcd goes down under way", "down: show", late, "WorkerId.*ONLINE\n", memory);
    differ("etcd goes down under way", "down: decommission", late, unavailable, soon);
    differ("etcd goes down under way", "down: join", "waits", notCreated, forEver);
    differ("twelve thousand workers", "all",
        quoted("alluxio.exception.runtime.UnavailableRuntimeException: Exhausted retry "
        + "for (Getting children for path:/DHT/cluster/AUTHORIZED/), retries:6, ") + ".*",
        "size:12001 ",
        "A listing larger than a message of gRPC is read in pages.");
    String hopeless = "A request that etcd refuses is not repeated.";
    String one = "One exception for all refusals of etcd. Workers retry after both.";
    String[][] refused = {{"nobody", "INVALID_ARGUMENT: etcdserver: user name is empty"},
        {"wrong password", "UNAUTHENTICATED"},
        {"no permission", "PERMISSION_DENIED: etcdserver: permission denied"}};
    for (String[] user : refused) {
      for (String label : new String[] {"all", "live", "failed", "show", "decommission"}) {
        differ("etcd asks for credentials", user[0] + ": " + label,
            quoted(gave + "6, last exception: [UNAVAILABLE, "
            + "retryable] <- java.util.concurrent.ExecutionException (late)"),
            unavailable.replace("[0-9]+", "1"),
            hopeless);
      }
      differ("etcd asks for credentials", user[0] + ": join", quoted("java.io.IOException: "
          + "java.util.concurrent.ExecutionException: io.grpc.StatusRuntimeException: " + user[1]
          + " <- java.util.concurrent.ExecutionException"), notCreated, one);
    }

    String live = "Clients use only live workers, so they would use none of a hosts file.";
    String order = "The order is the order of the file.";
    for (String listing : new String[] {"all", "live"}) {
      changes("static: hosts", "hosts: " + listing, KnownDifferences::live, live);
      changes("static: hosts", "hosts: order of " + listing, text -> inOrder(live(text)),
          live + " " + order);
      for (String each : new String[] {"", "order of "}) {
        for (String label : new String[] {"one", "no http server"}) {
          changes("static: properties", label + ": " + each + listing, KnownDifferences::live,
              live);
        }
        changes("static: properties of the process", ".*: " + each + listing,
            KnownDifferences::live, live);
        changes("static: decommission", "opened again: " + each + listing, KnownDifferences::live,
            live);
      }
    }
    changes("static: hosts", "hosts: order of show", KnownDifferences::inOrder, order);
    String dataPort = "The data port is that of the manager's configuration, not of the process's.";
    String oneForAll = "One worker's ports are not those of all others.";
    String file = "A worker in the file is a member, whichever worker was removed.";
    for (String each : new String[] {"", "order of "}) {
      for (String listing : new String[] {"all", "live"}) {
        changes("static: properties", "data port: " + each + listing,
            text -> live(text).replace("DataPort=29997", "DataPort=1002"), dataPort);
        for (String when : new String[] {"joined: ", "decommissioned: "}) {
          changes("static: joining", when + each + listing, text -> live(text)
              .replace("DataPort=2 DomainSocketPath=/s7 ", "DataPort=29997 ")
              .replace(
              "HttpServerPort=5001 NettyDataPort=4 RpcPort=5000 SecureRpcPort=3 WebPort=5 ",
                  "HttpServerPort=1004 NettyDataPort=29997 RpcPort=1001 WebPort=1003 "), oneForAll);
        }
        changes("static: decommission", "decommissioned: " + each + listing,
            text -> text.replace("size:0 empty:true",
            "Identity=worker-" + UUID.nameUUIDFromBytes("host1".getBytes(StandardCharsets.UTF_8))
            + " State=LIVE "
                + "DataPort=29997 Host=host1 HttpServerPort=1004 NettyDataPort=29997 RpcPort=1001 "
                + "WebPort=1003 equal:true "
                + "found:true\nsize:1 empty:false"), file);
      }
      // The first column is a hash of the address.
      changes("static: properties", "data port: " + each + "show",
          text -> text.replace(hash("h", 1001, 29997, 1003, "",
          1004), hash("h", 1001, 1002, 1003, "", 1004)), dataPort);
      String ofAll = hash("host1", 5000, 2, 5, "/s7", 5001) + "\thost1:5000";
      String ownRow = hash("host1", 1001, 29997, 1003, "", 1004) + "\thost1:1001";
      for (String when : new String[] {"joined: ", "decommissioned: "}) {
        changes("static: joining", when + each + "show", text -> text.replace(ofAll, ownRow),
            oneForAll);
      }
      changes("static: decommission", "decommissioned: " + each + "show",
          text -> text + "\n" + ownRow + "\tN/A", file);
    }
    changes("static: changing what is listed", "changed: all",
        text -> live(text).replace("Host=changed", "Host=host1"),
        "What a caller does with a listing does not reach others for long.");
    for (String label : new String[] {"not UTF-8", "directory"}) {
      differ("static: files", label, "alluxio.membership.StaticMembershipManager",
          "java.io.UncheckedIOException: Failed to read the static worker config file .* <- "
          + "java.io.IOException",
          "A file that cannot be read is not a cluster without workers.");
    }
    differ("static: files", "the documented name",
        "alluxio.exception.runtime.NotFoundRuntimeException: .*",
        "alluxio.membership.StaticMembershipManager",
        "The documentation names a property that does not exist.");
  }

  private static String quoted(String text) {
    return Pattern.quote(text);
  }

  private static void differ(String scenario, String label, String stock, String ours, String why) {
    differ("...", scenario, label, stock, ours, why);
  }

  private static void differ(String versions, String scenario, String label, String stock,
      String ours, String why) {
    ALL.add(new Difference(scenario, versions, label, stock, ours, why));
  }

  /** One bad record makes every listing of the stock classes fail, in every process. */
  private static void broken(String scenario, String listing, String error, String ours) {
    String why = "A record that cannot be used is skipped and reported. The others are listed.";
    differ(scenario, listing + " by reader", error, ours, why);
    differ(scenario, listing + " by other reader", ours, error, why);
  }

  private static void changes(String scenario, String label, UnaryOperator<String> change,
      String why) {
    CHANGES.add(new Change(scenario, label, change, why));
  }

  /** Our listing of a hosts file where the stock class has the other one. */
  private static String live(String text) {
    return text.replaceAll("(?m)^(Identity=\\S+) ", "$1 State=LIVE ");
  }

  /** The lines in the order of the scenario's file. */
  private static String inOrder(String text) {
    String[] lines = text.split("\n");
    Arrays.sort(lines, Comparator.comparing(KnownDifferences::place));
    return String.join("\n", lines);
  }

  private static int place(String line) {
    for (int i = 0; i < StaticScenarios.HOSTS.length; i++) {
      String host = StaticScenarios.HOSTS[i];
      if (line.contains(" Host=" + host + " ") || line.contains("\t" + host + ":1001\t")) {
        return i;
      }
    }
    return line.startsWith("WorkerId") ? -1 : StaticScenarios.HOSTS.length;
  }

  private static String hash(String host, int rpcPort, int dataPort, int webPort, String socket,
      int httpPort) {
    return HashUtils.hashAsStringMD5(new WorkerNetAddress().setHost(host).setRpcPort(rpcPort)
        .setDataPort(dataPort)
        .setWebPort(webPort).setDomainSocketPath(socket).setHttpServerPort(httpPort)
        .dumpMainInfo());
  }

  /** Whether a text is expected under a label on the stock side, where ours is the other reader. */
  boolean allowsOnStockSide(String label, String text, Function<String, String> seen) {
    if (!label.endsWith(OTHER)) {
      return true;
    }
    String reader = seen.apply(label.replace(OTHER, READER));
    Change change = changeOf(label);
    return change == null ? allows(label, text, false) || text.equals(reader)
        : text.equals(change.mChange.apply(reader));
  }

  /** Whether a text is expected under a label on our side. */
  boolean allowsOnOurSide(String label, String text, String stock) {
    Change change = changeOf(label);
    if (change != null && stock != null) {
      return label.endsWith(OTHER) ? change.mChange.apply(text).equals(stock)
          : text.equals(change.mChange.apply(stock));
    }
    return allows(label, text, true) || text.equals(stock);
  }

  /** Whether a known difference expects a text. */
  private boolean allows(String label, String text, boolean ours) {
    return mDifferences.stream().anyMatch(difference -> difference.mLabel.equals(label)
        && (ours ? difference.mOurs : difference.mStock).matcher(text).matches());
  }

  private Change changeOf(String label) {
    String ofReader = label.replace(OTHER, "").replace(READER, "");
    return mChanges.stream().filter(change -> ofReader.matches(change.mLabel)).findFirst()
        .orElse(null);
  }

  /** Removes the expected differences. */
  void removeFrom(Map<String, String> stock, Map<String, String> ours) {
    Set<Change> found = new HashSet<>();
    for (String label : new ArrayList<>(stock.keySet())) {
      Change change = changeOf(label);
      if (change != null && ours.containsKey(label)) {
        found.add(change);
        String stockText = stock.remove(label);
        String ourText = ours.remove(label);
        boolean other = label.endsWith(OTHER);
        String before = other ? ourText : stockText;
        String after = other ? stockText : ourText;
        if (before.equals(after) || !change.mChange.apply(before).equals(after)) {
          throw new AssertionError("Not different as in KnownDifferences in \"" + mScenario
              + "\": " + label + " ("
              + change.mWhy + ")\nstock:    " + before + "\nexpected: "
              + change.mChange.apply(before) + "\nours:     "
              + after);
        }
      }
    }
    if (found.size() != mChanges.size()) {
      mChanges.removeAll(found);
      throw new AssertionError("Not seen in \"" + mScenario + "\": " + mChanges.get(0).mLabel);
    }
    for (Difference difference : mDifferences) {
      String stockText = String.valueOf(stock.remove(difference.mLabel));
      String ourText = String.valueOf(ours.remove(difference.mLabel));
      if (stockText.equals(ourText) || !difference.mStock.matcher(stockText).matches()
          || !difference.mOurs.matcher(ourText).matches()) {
        throw new AssertionError("No longer different as in KnownDifferences in \"" + mScenario
            + "\": "
            + difference.mLabel + " (" + difference.mWhy + ")\nstock: " + stockText + "\nours:  "
            + ourText);
      }
    }
  }

  private static final class Difference {
    private final String mScenario;
    private final String mVersions;
    private final String mLabel;
    private final Pattern mStock;
    private final Pattern mOurs;
    private final String mWhy;

    Difference(String scenario, String versions, String label, String stock, String ours,
        String why) {
      mScenario = scenario;
      mVersions = versions;
      mLabel = label;
      mStock = Pattern.compile(stock, Pattern.DOTALL);
      mOurs = Pattern.compile(ours, Pattern.DOTALL);
      mWhy = why;
    }
  }

  /** Makes our text from the text of the stock class. Everything else must be equal. */
  private static final class Change {
    private final String mScenario;
    private final String mLabel;
    private final UnaryOperator<String> mChange;
    private final String mWhy;

    /** The label is a pattern, without the reader. */
    Change(String scenario, String label, UnaryOperator<String> change, String why) {
      mScenario = scenario;
      mLabel = label;
      mChange = change;
      mWhy = why;
    }
  }
}
