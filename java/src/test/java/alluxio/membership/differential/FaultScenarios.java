package alluxio.membership.differential;

import static alluxio.membership.differential.Side.A;
import static alluxio.membership.differential.Side.B;
import static alluxio.membership.differential.Side.id;
import static alluxio.membership.differential.Side.onlyId;
import static alluxio.membership.differential.Side.ringKey;
import static alluxio.membership.differential.Side.worker;

import io.etcd.jetcd.Auth;
import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.auth.Permission;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.PutOption;

import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/** What workers, clients and operators see of an etcd that does not answer or that refuses. */
final class FaultScenarios {
  private static final String LATE = " (late)";
  private static final String[] OPERATIONS =
      {"all", "live", "failed", "show", "decommission", "join"};
  /** Shorter than the stock classes try, with a wide margin for slow machines. */
  private static final String[] IN_TIME = {"alluxio.membership.native.operation.timeout", "4s",
      "alluxio.worker.failure.detection.timeout", "5min"};
  /** Longer than an operation of ours takes, shorter than the stock classes try. */
  private static final long LONG_SECONDS = 15;
  /** Longer than the stock classes try, which is 50 s. */
  private static final long EVER_SECONDS = 200;

  private FaultScenarios() {}

  static void downAtOpen(Side side) throws Exception {
    side.etcd().stopProcess();
    side.saw("open", side.open(A, IN_TIME));
    Map<String, CompletableFuture<String>> pending = all(side, A);
    side.does("stop of nobody", A, "stop", onlyId(9));
    saw(side, "down: ", pending);
    side.etcd().startProcess();
    side.saw("join in the end", side.isOurs() ? side.call(A, "join", worker(2))
        : pending.get("join").get(EVER_SECONDS, TimeUnit.SECONDS).replace(LATE, ""));
    side.look("in the end", "alluxio.worker.failure.detection.timeout", "5min");
  }

  static void downUnderWay(Side side) throws Exception {
    side.open(A, IN_TIME);
    side.open(B, IN_TIME);
    side.does("join", A, "join", worker(1));
    side.sees("before: all", () -> side.call(B, "all", null));
    side.etcd().stopProcess();
    Map<String, CompletableFuture<String>> pending = all(side, B);
    saw(side, "down: ", pending);
    side.etcd().startProcess();
    // After an error the caller tries again, like workers do.
    side.saw("join in the end", side.isOurs() ? side.call(B, "join", worker(2))
        : pending.get("join").get(EVER_SECONDS, TimeUnit.SECONDS).replace(LATE, ""));
    // The lease continues, and so does everything else.
    side.does("join after", A, "join", worker(3));
    side.sees("after: all", () -> side.call(A, "all", null));
    side.does("stop", A, "stop", worker(1));
    side.expire(id(1));
    side.sees("stopped: failed", () -> side.call(A, "failed", null));
  }

  /** A stop does not wait for etcd, and returns no error. */
  static void stoppingWhileDown(Side side) throws Exception {
    side.open(A, IN_TIME);
    side.open(B, IN_TIME);
    for (int i = 1; i <= 3; i++) {
      side.does("join " + i, i == 3 ? B : A, "join", worker(i));
    }
    side.etcd().stopProcess();
    side.does("stop", A, "stop", worker(1));
    side.does("stop of another process's", A, "stop", worker(3));
    side.does("close", A, "close", null);
    side.does("close again", A, "close", null);
    side.etcd().startProcess();
    // With the stock classes, workers of a closed manager continue until the process ends.
    side.end(A);
    side.expire(id(1));
    side.expire(id(2));
    side.look("up again");
  }

  static void noSuchPort(Side side) throws Exception {
    String opened = side.open(A, "alluxio.etcd.endpoints",
        side.etcd().endpoint() + ",http://127.0.0.1:99999");
    side.saw("open", opened);
    if (!side.isOurs()) {
      side.does("all", A, "all", null);
    }
  }

  static void ipv6(Side side) throws Exception {
    side.saw("open", side.open(A, "alluxio.etcd.endpoints", side.etcd().ipv6Endpoint()));
    side.does("all", A, "all", null);
  }

  static void twelveThousandWorkers(Side side) throws Exception {
    side.open(A);
    side.does("join", A, "join", worker(1));
    String record = side.etcd().get(ringKey(id(1))).get(ringKey(id(1))).getValue()
        .toString(StandardCharsets.UTF_8);
    // etcd accepts 128 operations in a transaction.
    for (int first = 1000; first < 13_000; first += 100) {
      Op[] puts = new Op[100];
      for (int i = 0; i < puts.length; i++) {
        String number = String.format("%08d", first + i);
        puts[i] = Op.put(bytes(ringKey(id(first + i))), bytes(record.replace("00000001", number)),
            PutOption.DEFAULT);
      }
      side.etcd().client().getKVClient().txn().Then(puts).commit().get(10, TimeUnit.SECONDS);
    }
    for (String listing : Side.list("live", "all")) {
      side.sees(listing, () -> side.call(A, listing, null)
          .replaceAll("(?s).*(size:[0-9]+ ).*", "$1"));
    }
  }

  static void auth(Side side) throws Exception {
    Auth auth = side.etcd().client().getAuthClient();
    for (String user : Side.list("root", "nothing")) {
      auth.userAdd(bytes(user), bytes("secret")).get(10, TimeUnit.SECONDS);
      auth.roleAdd(bytes(user)).get(10, TimeUnit.SECONDS);
      auth.userGrantRole(bytes(user), bytes(user)).get(10, TimeUnit.SECONDS);
    }
    auth.roleGrantPermission(bytes("nothing"), bytes("/x"), bytes("/y"), Permission.Type.READWRITE)
        .get(10, TimeUnit.SECONDS);
    auth.authEnable().get(10, TimeUnit.SECONDS);

    String[][] users = {{"nobody", null, null}, {"wrong password", "root", "wrong"},
        {"no permission", "nothing",
        "secret"}};
    Map<String, Map<String, CompletableFuture<String>>> pending = new LinkedHashMap<>();
    for (String[] user : users) {
      side.saw(user[0] + ": open",
          side.open(user[0], "alluxio.etcd.username", user[1], "alluxio.etcd.password", user[2]));
      pending.put(user[0], all(side, user[0]));
    }
    for (String[] user : users) {
      saw(side, user[0] + ": ", pending.get(user[0]));
    }
    side.open(A, "alluxio.etcd.username", "root", "alluxio.etcd.password", "secret");
    side.does("root: join", A, "join", worker(1));
    for (String operation : Side.list("all", "live", "failed", "show")) {
      side.does("root: " + operation, A, operation, null);
    }
  }

  /** Starts all operations at the same time. */
  private static Map<String, CompletableFuture<String>> all(Side side, String process) {
    Map<String, CompletableFuture<String>> all = new LinkedHashMap<>();
    for (String operation : OPERATIONS) {
      all.put(operation, CompletableFuture.supplyAsync(() -> {
        long start = System.nanoTime();
        try {
          String done = side.call(process, operation,
              operation.equals("join") ? worker(2) : operation.equals("decommission") ? onlyId(2)
              : null);
          return done + (System.nanoTime() - start > TimeUnit.SECONDS.toNanos(LONG_SECONDS) ? LATE
              : "");
        } catch (Exception e) {
          throw new AssertionError(e);
        }
      }, body -> new Thread(body).start()));
    }
    return all;
  }

  private static void saw(Side side, String label, Map<String, CompletableFuture<String>> pending)
      throws Exception {
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(EVER_SECONDS);
    for (Map.Entry<String, CompletableFuture<String>> each : pending.entrySet()) {
      // The last operation is the join, for which the others need not have waited.
      while (!each.getValue().isDone() && System.nanoTime() < end
          && !(each.getKey().equals("join") && !side.isOurs())) {
        Thread.sleep(20);
      }
      side.saw(label + each.getKey(), each.getValue().isDone() ? each.getValue().get() : "waits");
    }
  }

  private static ByteSequence bytes(String text) {
    return ByteSequence.from(text, StandardCharsets.UTF_8);
  }
}
