package alluxio.membership.bridge;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import alluxio.membership.testing.Await;
import alluxio.membership.testing.EtcdServer;
import alluxio.membership.testing.Log;
import alluxio.membership.testing.SharedEtcd;
import alluxio.membership.testing.TestCluster;

import io.etcd.jetcd.ByteSequence;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.api.function.Executable;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;

class MembershipTest {
  @RegisterExtension
  static final SharedEtcd ETCD = new SharedEtcd();

  private final TestCluster mCluster = new TestCluster(ETCD.server(), "ETCD");

  private static Worker worker(String host) {
    return Worker.newBuilder(WorkerIdentity.of(UUID.randomUUID())).setHost(host).setRpcPort(29999)
        .build();
  }

  private static Member live(Worker worker) {
    return new Member(worker, WorkerState.LIVE);
  }

  private static Member lost(Worker worker) {
    return new Member(worker, WorkerState.LOST);
  }

  private static ErrorKind kindOf(Executable call) {
    return assertThrows(MembershipException.class, call).getKind();
  }

  @Test
  void joinsAndLeaves() throws Exception {
    Worker worker = worker("h1");
    try (Membership member = Membership.open(mCluster.properties());
        Membership reader = Membership.open(mCluster.properties())) {
      assertEquals(Collections.emptyList(), reader.view().getAllMembers());
      member.join(worker);
      ClusterView joined = member.view();
      assertEquals(Collections.singletonList(live(worker)), joined.getAllMembers());
      assertEquals(Collections.singletonList(live(worker)), joined.getLiveMembers());
      assertEquals(Collections.emptyList(), joined.getLostMembers());
      assertEquals(Collections.emptyList(), joined.getSkippedRecords());
      assertTrue(joined.getRevision() > 0);
      assertEquals("WorkerId\tAddress\tStatus\n" + worker.getIdentity() + "\th1:29999\tONLINE\n",
          member.showAllMembers());

      member.leave();
      ClusterView left = member.view();
      assertEquals(Collections.singletonList(lost(worker)), left.getAllMembers());
      assertEquals(Collections.emptyList(), left.getLiveMembers());
      assertEquals(Collections.singletonList(lost(worker)), left.getLostMembers());
      assertTrue(left.getVersion() > joined.getVersion());
      Await.until("the other manager sees it", 20,
          () -> reader.view().getAllMembers().equals(Collections.singletonList(lost(worker))));
    }
  }

  @Test
  void joiningAgainSucceeds() throws Exception {
    Worker worker = worker("h");
    try (Membership member = Membership.open(mCluster.properties())) {
      member.join(worker);
      member.join(worker);
      assertEquals(Collections.singletonList(live(worker)), member.view().getLiveMembers());
    }
  }

  @Test
  void closingEndsTheRegistrationsOfThisManagerOnly() throws Exception {
    Worker first = worker("h1");
    Worker second = worker("h2");
    try (Membership stays = Membership.open(mCluster.properties())) {
      Membership goes = Membership.open(mCluster.properties());
      Membership reader = Membership.open(mCluster.properties());
      stays.join(first);
      goes.join(second);
      reader.close();
      assertEquals(2, stays.view().getLiveMembers().size());
      goes.close();
      Await.until("the second worker is lost", 20,
          () -> stays.view().getLostMembers().equals(Collections.singletonList(lost(second))));
      assertEquals(Collections.singletonList(live(first)), stays.view().getLiveMembers());
    }
  }

  @Test
  void viewIsTheSameObjectWhileNothingChanges() throws Exception {
    Worker worker = worker("h");
    try (Membership member = Membership.open(mCluster.properties())) {
      ClusterView empty = member.view();
      for (int i = 0; i < 100; i++) {
        assertSame(empty, member.view());
      }
      member.join(worker);
      assertNotSame(empty, member.view());
      assertThrows(UnsupportedOperationException.class,
          () -> member.view().getAllMembers().clear());
    }
  }

  /** Writes the key of a worker whose UUID consists of this number. */
  private void put(String key, int number, int port) throws Exception {
    String hex = new UUID(number * 0x9e3779b97f4a7c15L, number).toString().replace("-", "");
    String record = "{\"Identity\":{\"version\":1,\"identifier\":\"" + hex + "\"},"
        + "\"WorkerNetAddress\":{\"Host\":\"h" + number + "\",\"RpcPort\":" + port + "}}";
    ETCD.server().put(key, record.getBytes(StandardCharsets.UTF_8));
  }

  private static String identity(int number) {
    return "worker-" + new UUID(number * 0x9e3779b97f4a7c15L, number);
  }

  @Test
  void viewSharesUnchangedMembersWithTheViewBefore() throws Exception {
    final int workers = 1000;
    final int chunk = 512;
    for (int i = 0; i < workers; i++) {
      put(mCluster.ringKey(identity(i)), i, 1);
      put(mCluster.liveKey(identity(i)), i, 1);
    }
    List<Change> changes = Collections.synchronizedList(new ArrayList<>());
    try (Membership member = Membership.open(mCluster.properties())) {
      ClusterView before = member.view();
      assertEquals(workers, before.getLiveMembers().size());
      try (Subscription subscription = member.addListener(changes::add, Runnable::run)) {
        Await.until("all members", 20, () -> changes.size() == workers);
        for (int round = 0; round < 20; round++) {
          int number = round * 37;
          ClusterView known = before;
          if (round % 2 == 0) {
            String key = mCluster.liveKey(identity(number));
            ETCD.server().client().getKVClient()
                .delete(ByteSequence.from(key, StandardCharsets.UTF_8)).get();
          } else {
            put(mCluster.ringKey(identity(number)), number, 2 + round);
          }
          Await.until("the change", 20, () -> member.view() != known);
          ClusterView now = member.view();
          List<Change> difference = now.changesSince(known);
          assertEquals(1, difference.size());
          assertEquals(round % 2 == 0 ? ChangeKind.LOST : ChangeKind.MOVED,
              difference.get(0).getKind());
          assertEquals(identity(number), difference.get(0).getMember().getWorker().getIdentity()
              .toString());
          int kept = 0;
          for (int i = 0; i < workers; i++) {
            kept += now.getAllMembers().get(i) == known.getAllMembers().get(i) ? 1 : 0;
          }
          assertTrue(kept >= workers - chunk && kept < workers, kept + " members are shared");
          try (Membership other = Membership.open(mCluster.properties())) {
            ClusterView whole = other.view();
            assertEquals(whole.getAllMembers(), now.getAllMembers());
            assertEquals(whole.getLiveMembers(), now.getLiveMembers());
            assertEquals(whole.getLostMembers(), now.getLostMembers());
            assertEquals(Optional.of(whole.getVersion()),
                other.waitForChange(0, 20, TimeUnit.SECONDS)
                .map(ClusterView::getVersion));
          }
          int reported = workers + round + 1;
          Await.until("the report", 20, () -> changes.size() == reported);
          before = now;
        }
      }
    }
  }

  @Test
  void waitsForAChange() throws Exception {
    Worker worker = worker("h");
    try (Membership member = Membership.open(mCluster.properties())) {
      ClusterView before = member.view();
      assertEquals(Optional.empty(), member.waitForChange(before.getVersion(), 150,
          TimeUnit.MILLISECONDS));
      assertTrue(member.waitForChange(0, 20, TimeUnit.SECONDS).isPresent());
      ExecutorService executor = Executors.newSingleThreadExecutor();
      try {
        Future<Optional<ClusterView>> change =
            executor.submit(() -> member.waitForChange(before.getVersion(), 60, TimeUnit.SECONDS));
        member.join(worker);
        ClusterView after = change.get(60, TimeUnit.SECONDS).get();
        assertTrue(after.getVersion() > before.getVersion());
        assertEquals(1, after.getAllMembers().size());
      } finally {
        executor.shutdownNow();
      }
    }
  }

  @Test
  void refusesAnotherWorkerWithTheSameIdentity() throws Exception {
    Worker worker = worker("h1");
    Worker other = Worker.newBuilder(worker.getIdentity()).setHost("h2").build();
    try (Membership first = Membership.open(mCluster.properties());
        Membership second = Membership.open(mCluster.properties())) {
      first.join(worker);
      first.leave();
      MembershipException error = assertThrows(MembershipException.class, () -> second.join(other));
      assertEquals(ErrorKind.ALREADY_EXISTS, error.getKind());
      assertFalse(error.isRetryable());
      assertTrue(error.getMessage().startsWith(
          "Some other member with same id registered on the ring, bail."
          + "Conflicting worker addr:WorkerNetAddress{host=h1, "), error.getMessage());
      second.join(other, JoinOptions.defaults().withK8sDeployment(true));
      assertEquals(Collections.singletonList(live(other)), second.view().getAllMembers());
    }
  }

  @Test
  void removesOnlyLostWorkers() throws Exception {
    Worker worker = worker("h");
    WorkerIdentity identity = worker.getIdentity();
    try (Membership member = Membership.open(mCluster.properties())) {
      assertEquals(ErrorKind.INVALID_ARGUMENT, kindOf(() -> member.remove(identity)));
      member.join(worker);
      assertEquals(ErrorKind.INVALID_ARGUMENT, kindOf(() -> member.remove(identity)));
      member.leave(identity);
      member.remove(identity);
      assertEquals(Collections.emptyList(), member.view().getAllMembers());
      member.leave(identity);
    }
  }

  @Test
  void identitiesMustBeIdentities() {
    for (String bad : new String[] {"", "worker-", "w", "worker-\ud83d\ude00", "worker-1\0",
        "worker-1-2-3-4",
        "worker-00000000-0000-0000-0000-0000000000000"}) {
      assertThrows(IllegalArgumentException.class, () -> WorkerIdentity.parse(bad), bad);
    }
    String uuid = "worker-00000001-0000-4000-8000-00000000000a";
    assertEquals(uuid, WorkerIdentity.parse(uuid).toString());
    assertEquals(WorkerIdentity.parse(uuid), WorkerIdentity.parse("worker-1-0-4000-8000-A"));
    assertEquals(WorkerIdentity.of(-7), WorkerIdentity.parse("worker--7"));
    List<WorkerIdentity> sorted = new ArrayList<>();
    for (String text : new String[] {"worker-f0000000-0000-4000-8000-000000000000", uuid,
        "worker-10", "worker-9"}) {
      sorted.add(WorkerIdentity.parse(text));
    }
    Collections.sort(sorted);
    assertEquals("[worker-9, worker-10, " + uuid
        + ", worker-f0000000-0000-4000-8000-000000000000]", sorted.toString());
  }

  @Test
  void everyTextAndNumberSurvives() throws Exception {
    String hostile =
        "\"quoted\" = <a> & 'b' \u00e4\u4e2d\ud83d\ude00 \u2028\u2029 \u0000\u0001\t\n\\ /";
    Worker worker = Worker.newBuilder(WorkerIdentity.of(Long.MIN_VALUE)).setHost(hostile)
        .setContainerHost("")
        .setDomainSocketPath(hostile + hostile).setRpcPort(Integer.MAX_VALUE)
        .setDataPort(Integer.MIN_VALUE)
        .setSecureRpcPort(1).setNettyDataPort(2).setWebPort(3).setHttpServerPort(4).build();
    try (Membership member = Membership.open(mCluster.properties())) {
      member.join(worker);
      assertEquals(Collections.singletonList(live(worker)), member.view().getAllMembers());
    }
  }

  @Test
  void lonelySurrogatesBecomeQuestionMarks() throws Exception {
    WorkerIdentity identity = worker("h").getIdentity();
    try (Membership member = Membership.open(mCluster.properties())) {
      member.join(Worker.newBuilder(identity).setHost("a\ud83db").build());
      assertEquals("a?b", member.view().getAllMembers().get(0).getWorker().getHost());
    }
  }

  @Test
  void brokenRecordsAreSkippedAndNamed() throws Exception {
    Worker worker = worker("h");
    String broken = mCluster.ringKey("worker-" + UUID.randomUUID());
    ETCD.server().put(broken, new byte[] {'{', '}'});
    try (Membership member = Membership.open(mCluster.properties())) {
      member.join(worker);
      assertEquals(Collections.singletonList(live(worker)), member.view().getAllMembers());
      assertEquals(broken, member.view().getSkippedRecords().get(0).getKey());
    }
  }

  @Test
  void afterCloseEveryMethodSaysSo() throws Exception {
    Membership member = Membership.open(mCluster.properties());
    Worker worker = worker("h");
    member.join(worker);
    member.view();
    member.close();
    Map<String, Executable> calls = new LinkedHashMap<>();
    calls.put("join", () -> member.join(worker));
    calls.put("join k8s", () -> member.join(worker,
        JoinOptions.defaults().withK8sDeployment(true)));
    calls.put("view", member::view);
    calls.put("waitForChange", () -> member.waitForChange(0, 1, TimeUnit.SECONDS));
    calls.put("showAllMembers", member::showAllMembers);
    calls.put("leave one", () -> member.leave(worker.getIdentity()));
    calls.put("remove", () -> member.remove(worker.getIdentity()));
    calls.put("leave", member::leave);
    calls.put("status", member::status);
    calls.put("addListener", () -> member.addListener(change -> { }, Runnable::run));
    calls.forEach((name, call) -> assertThrows(IllegalStateException.class, call, name));
    for (CompletableFuture<?> call : Arrays.asList(member.viewAsync(),
        member.joinAsync(worker, JoinOptions.defaults()))) {
      assertInstanceOf(IllegalStateException.class,
          assertThrows(ExecutionException.class, () -> call.get(60, TimeUnit.SECONDS)).getCause());
    }
    member.close();
    member.closeAsync().get(60, TimeUnit.SECONDS);
  }

  @Test
  void closeDuringCallsIsClean() throws Exception {
    ExecutorService executor = Executors.newFixedThreadPool(4);
    try {
      for (int round = 0; round < 20; round++) {
        Membership member = Membership.open(mCluster.properties());
        Callable<Void> caller = () -> {
          while (true) {
            member.view();
            member.showAllMembers();
            member.waitForChange(member.view().getVersion(), 10, TimeUnit.SECONDS);
          }
        };
        List<Future<Void>> callers = new ArrayList<>();
        for (int i = 0; i < 4; i++) {
          callers.add(executor.submit(caller));
        }
        member.view();
        member.close();
        for (Future<Void> future : callers) {
          ExecutionException end = assertThrows(ExecutionException.class,
              () -> future.get(60, TimeUnit.SECONDS));
          assertInstanceOf(IllegalStateException.class, end.getCause());
        }
      }
    } finally {
      executor.shutdownNow();
    }
  }

  @Test
  void nullsAreRefused() throws Exception {
    assertThrows(NullPointerException.class, () -> Membership.open(null));
    assertThrows(NullPointerException.class, () -> Worker.newBuilder(null));
    try (Membership member = Membership.open(mCluster.properties())) {
      assertThrows(NullPointerException.class, () -> member.join(null));
      assertThrows(NullPointerException.class, () -> member.join(null, JoinOptions.defaults()));
      assertThrows(NullPointerException.class, () -> member.leave(null));
      assertThrows(NullPointerException.class, () -> member.remove(null));
      assertThrows(NullPointerException.class, () -> member.waitForChange(0, 1, null));
    }
  }

  @Test
  void badConfigurationsAreNamed() {
    Map<String, String> properties = new HashMap<>(mCluster.properties());
    properties.remove("alluxio.etcd.endpoints");
    MembershipException missing = assertThrows(MembershipException.class,
        () -> Membership.open(properties));
    assertEquals(ErrorKind.MISSING_CONFIG, missing.getKind());
    assertEquals("No value set for configuration key alluxio.etcd.endpoints", missing.getMessage());

    properties.put("alluxio.etcd.endpoints", ETCD.server().endpoint());
    properties.put("alluxio.worker.failure.detection.timeout", "soon");
    MembershipException bad = assertThrows(MembershipException.class,
        () -> Membership.open(properties));
    assertEquals(ErrorKind.INVALID_CONFIG, bad.getKind());

    Map<String, String> hosts = new HashMap<>();
    hosts.put("alluxio.worker.membership.manager.type", "STATIC");
    hosts.put("alluxio.worker.static.membership.manager.config.file", "/no/such/file");
    assertEquals(ErrorKind.NOT_FOUND, kindOf(() -> Membership.open(hosts)));
  }

  /** The operation continues without its caller, and its error is logged. */
  @Test
  void anErrorAfterAnInterruptedCloseIsLogged() throws Exception {
    try (EtcdServer etcd = EtcdServer.start()) {
      TestCluster cluster =
          new TestCluster(etcd, "ETCD").with("alluxio.membership.native.operation.timeout", "2s");
      Membership member = Membership.open(cluster.properties());
      member.join(worker("h"));
      etcd.stopProcess();
      try (Log log = Log.of("alluxio.membership.native.jni")) {
        Thread.currentThread().interrupt();
        member.close();
        assertTrue(Thread.interrupted());
        Await.until("the error is logged", 60,
            () -> log.text().contains("A call whose caller was interrupted has failed"));
        assertTrue(log.text().contains(etcd.endpoint()), log.text());
      }
    }
  }

  @Test
  void waitsCanBeInterrupted() throws Exception {
    try (EtcdServer etcd = EtcdServer.start()) {
      TestCluster cluster = new TestCluster(etcd, "ETCD");
      Membership member = Membership.open(cluster.properties());
      etcd.stopProcess();
      Map<String, Executable> calls = new LinkedHashMap<>();
      calls.put("join", () -> member.join(worker("h")));
      calls.put("waitForChange", () -> member.waitForChange(Long.MAX_VALUE, 1, TimeUnit.HOURS));
      for (Map.Entry<String, Executable> call : calls.entrySet()) {
        assertTrue(nanosFromInterruptToEnd(call.getValue()) < TimeUnit.SECONDS.toNanos(60),
            call.getKey());
      }
      // If the thread is interrupted, closing does not wait for an etcd that does not answer.
      Thread.currentThread().interrupt();
      member.close();
      assertTrue(Thread.interrupted());
    }
  }

  /** A thread that checked every 100 ms would take 50 ms on average. */
  @Test
  void interruptsAreNoticedAtOnce() throws Exception {
    try (Membership member = Membership.open(mCluster.properties())) {
      List<Long> nanos = new ArrayList<>();
      for (int i = 0; i < 15; i++) {
        nanos.add(nanosFromInterruptToEnd(() ->
            member.waitForChange(Long.MAX_VALUE, 1, TimeUnit.HOURS)));
      }
      Collections.sort(nanos);
      assertTrue(nanos.get(7) < TimeUnit.MILLISECONDS.toNanos(35), nanos.toString());
    }
  }

  private static long nanosFromInterruptToEnd(Executable call) throws Exception {
    AtomicReference<Throwable> thrown = new AtomicReference<>();
    long[] end = new long[1];
    Thread thread = new Thread(() -> {
      try {
        call.execute();
      } catch (Throwable t) {
        end[0] = System.nanoTime();
        thrown.set(t);
      }
    });
    thread.start();
    Await.until("the call waits", 20, () -> {
      for (StackTraceElement frame : thread.getStackTrace()) {
        if (frame.getMethodName().equals("parkNanos")) {
          return true;
        }
      }
      return false;
    });
    long start = System.nanoTime();
    thread.interrupt();
    thread.join(60_000);
    assertInstanceOf(InterruptedException.class, thrown.get());
    return end[0] - start;
  }
}
