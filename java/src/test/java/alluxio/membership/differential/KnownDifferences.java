package alluxio.membership.differential;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;

/** Where ours is meant to differ from the stock classes, and why. A difference that is not there is an error, too. */
final class KnownDifferences {
  private static final String MANAGER = "alluxio.membership.EtcdMembershipManager";
  private static final String NOBODY = "size:0 .*";
  private static final String ALREADY =
      "alluxio.exception.status.AlreadyExistsException: Service .* already registered. .*";
  private static final String DUPLICATE = "java.lang.IllegalArgumentException: duplicate workers with the same ID.*";

  private final String mScenario;
  private final List<Difference> mDifferences = new ArrayList<>();

  KnownDifferences(String scenario, String version) {
    mScenario = scenario;
    for (Difference difference : ALL) {
      if (difference.mScenario.equals(scenario) && version.matches(difference.mVersions)) {
        mDifferences.add(difference);
      }
    }
  }

  private static final List<Difference> ALL = new ArrayList<>();

  static {
    String join = "Joining is documented as idempotent; ours is.";
    differ("join again", "the same", ALREADY, "", join);
    differ("two managers in a process", "second joins the same", ALREADY, "", join);
    differ("service registry", "join again", ALREADY, "", join);

    String leave = "A worker that stops in order is not listed as live until its lease ends.";
    differ("stop heartbeat", "live key right after", "yes", "no", leave);
    differ("close", "worker's closed: keys", ".*/ServiceDiscovery/.*", "[^\n]*\n", leave);
    differ("close", "worker's closed: (all|show) by .*", ".*(LIVE|ONLINE).*", ".*(LOST|OFFLINE).*", leave);
    differ("close", "worker's closed: live by .*", "Identity.*size:1.*", NOBODY, leave);
    differ("close", "worker's closed: failed by .*", NOBODY, "Identity.*size:1.*", leave);
    differ("close", "closed reader's .*", "(?!java).*", "java.lang.IllegalStateException: The membership manager is "
        + "closed", "Using what is closed is a mistake, and is said to be one.");

    for (String scenario : new String[] {"record without address", "empty record"}) {
      broken(scenario, "in the ring: (all|failed|show) by ", "java.lang.NullPointerException: address");
    }
    broken("two records without identity", "in the ring: (all|failed|show) by ", DUPLICATE);
    broken("records of one identity", "a copy under another key: (all|show) by ", DUPLICATE);
    String unset = "The identity that getIdentity() answers is also the one that equals compares.";
    differ("record without identity", "in the ring: (all|failed) by reader", ".*equal:false.*", "(?!.*equal:false).*",
        unset);
    differ("record without identity", "in the ring: (all|failed) by other reader", "(?!.*equal:false).*",
        ".*equal:false.*", unset);

    String foreign = "Another cluster's workers are not listed only because its name begins with this one's.";
    differ("cluster whose name begins another's", "both: live by reader", ".*size:2.*", ".*size:1.*", foreign);
    differ("cluster whose name begins another's", "both: live by other reader", ".*size:1.*", ".*size:2.*", foreign);

    differ("strange workers", "nothing", "java.lang.NullPointerException: .*", "java.lang.NullPointerException: .*",
        "The JVM words the message.");
    differ("corrupt ring record", "join over garbage\\{", "java.io.IOException: Existing .* corrupted",
        "java.io.IOException: Existing .* corrupted <- java.io.IOException", "The cause says what is wrong with it.");
    differ("corrupt ring record", "join over (|\\{\\}|null|\\{\"Identity\":null\\})", "java.lang.NullPointerException: .*",
        "alluxio.exception.status.AlreadyExistsException: .*addr:null, worker identity:null.*",
        "A record without content is a conflict that can be understood.");

    differ("endpoints", "(,|localhost:2379|127.0.0.1|http:///x|http://:2379|http://h:port)",
        "java.lang.IllegalArgumentException: (Unable to compute target from endpoints?: '.*')",
        "java.lang.IllegalArgumentException: (Unable to compute target from endpoints?: '.*') <- java.io.IOException",
        "The cause names the property and what it must be.");
    differ("endpoints", "(http://|http://\\[::1|ht tp://h)",
        "java.lang.IllegalArgumentException: .* at index .* <- java.net.URISyntaxException",
        "java.lang.IllegalArgumentException: Unable to compute target from endpoint: '.*' <- java.io.IOException",
        "One text for every endpoint that cannot be used; the cause names the property.");
    differ("endpoints", "http://127.0.0.1:99999", MANAGER, "java.lang.IllegalArgumentException: Unable to .*",
        "There is no such port, and no need to wait for a connection to it.");

    differ("durations", "open with -5s", MANAGER, "java.lang.IllegalArgumentException: alluxio.worker.failure.*",
        "A negative time is a mistake.");
    differ("cluster names", "open  ", MANAGER, "java.lang.IllegalArgumentException: alluxio.cluster.name must be .*",
        "Space around a value is no part of it.");
    differ("cluster names", "(join|all|keys)  (x )?", ".*", "(null||/DHT/x/.*)", "See the line above.");
    differ("cluster names", "open \\$\\{no.such.name\\}", "java.lang.RuntimeException: (Invalid property key no.such.name)",
        "java.lang.IllegalArgumentException: (Invalid property key no.such.name) <- java.io.IOException",
        "A more exact class; the cause names the property that refers to it.");
    differ("durations", "(join|keys) with -5s", ".*", "null", "See the line above.");
    differ("308", "strange workers", "decommission of nothing", "", "java.lang.NullPointerException: .*",
        "decommission does something in all versions, not only from 311 on.");

    String live = "Clients use only workers that are live, and would use none of a hosts file.";
    differ("static: hosts", "hosts: (all|live)", "(?!.*State=).*", ".*State=LIVE.*", live);
    differ("static: hosts", "hosts: order of (all|live|show)", ".*", ".*z9.*a1.*m # x.*", "The order is that of the file.");
    differ("static: properties", "(one|no http server): (order of )?(all|live)", "(?!.*State=).*", ".*State=LIVE.*",
        live);
    differ("static: properties", "data port: .*", "(.*h:1001.*|.*DataPort=29997.*)", "(.*h:1001.*|.*DataPort=1002.*)",
        "The data port is that of the manager's configuration, not of the process's.");
    differ("static: joining", "(joined|decommissioned): .*", ".*5000.*", ".*1001.*",
        "One worker's ports are not those of all others.");
    differ("static: files", "(not UTF-8|directory)", "alluxio.membership.StaticMembershipManager",
        "java.io.UncheckedIOException: Failed to read the static worker config file .* <- java.io.IOException",
        "A file that cannot be read is not a cluster without workers.");
  }

  private static void differ(String scenario, String label, String stock, String ours, String why) {
    differ("...", scenario, label, stock, ours, why);
  }

  private static void differ(String versions, String scenario, String label, String stock, String ours, String why) {
    ALL.add(new Difference(scenario, versions, label, stock, ours, why));
  }

  /** One bad record makes every listing of the stock classes fail, by whichever process. */
  private static void broken(String scenario, String label, String error) {
    String why = "One record that cannot be used is left out and reported; the others are listed.";
    differ(scenario, label + "reader", error, "(?!java).*", why);
    differ(scenario, label + "other reader", "(?!java).*", error, why);
  }

  /** Whether a text is what a known difference expects. */
  boolean allows(String label, String text, boolean ours) {
    return mDifferences.stream().anyMatch(difference -> difference.mLabel.matcher(label).matches()
        && (ours ? difference.mOurs : difference.mStock).matcher(text).matches());
  }

  /** Removes what differs as it should. */
  void removeFrom(Map<String, String> stock, Map<String, String> ours) {
    for (Difference difference : mDifferences) {
      boolean found = stock.entrySet().removeIf(seen -> {
        String our = String.valueOf(ours.get(seen.getKey()));
        boolean differs = !our.equals(seen.getValue())
            && difference.mLabel.matcher(seen.getKey()).matches()
            && difference.mStock.matcher(seen.getValue()).matches() && difference.mOurs.matcher(our).matches();
        if (differs) {
          ours.remove(seen.getKey());
        }
        return differs;
      });
      if (!found) {
        throw new AssertionError("No longer different in \"" + mScenario + "\": " + difference.mLabel + " ("
            + difference.mWhy + ")\nstock: " + stock + "\nours: " + ours);
      }
    }
  }

  private static final class Difference {
    private final String mScenario;
    private final String mVersions;
    private final Pattern mLabel;
    private final Pattern mStock;
    private final Pattern mOurs;
    private final String mWhy;

    Difference(String scenario, String versions, String label, String stock, String ours, String why) {
      mScenario = scenario;
      mVersions = versions;
      mLabel = Pattern.compile(label);
      mStock = Pattern.compile(stock, Pattern.DOTALL);
      mOurs = Pattern.compile(ours, Pattern.DOTALL);
      mWhy = why;
    }
  }
}
