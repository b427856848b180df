package alluxio.membership.bridge;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertTrue;

import alluxio.membership.testing.Await;
import alluxio.membership.testing.EtcdServer;
import alluxio.membership.testing.SharedEtcd;
import alluxio.membership.testing.TestCluster;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

import java.lang.management.ManagementFactory;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import javax.management.MBeanServer;
import javax.management.ObjectName;
import javax.management.openmbean.CompositeData;

/** Listeners, futures, the status and the management bean. */
class StatusTest {
  @RegisterExtension
  static final SharedEtcd ETCD = new SharedEtcd();

  private final TestCluster mCluster = new TestCluster(ETCD.server(), "ETCD");
  private final MBeanServer mServer = ManagementFactory.getPlatformMBeanServer();

  private static Worker worker(String host) {
    return Worker.newBuilder(WorkerIdentity.of(UUID.randomUUID())).setHost(host).setRpcPort(1)
        .build();
  }

  private static String take(BlockingQueue<Change> changes) throws InterruptedException {
    Change change = changes.poll(60, TimeUnit.SECONDS);
    return change == null ? "nothing"
        : change.getKind() + " " + change.getMember().getWorker().getHost();
  }

  private Set<ObjectName> beans() throws Exception {
    return mServer.queryNames(new ObjectName("alluxio.membership:type=Membership,cluster="
        + mCluster.properties().get("alluxio.cluster.name") + ",*"), null);
  }

  @Test
  void listenersReceiveEveryChange() throws Exception {
    ExecutorService executor = Executors.newSingleThreadExecutor(task ->
        new Thread(task, "listener"));
    Worker first = worker("h1");
    Worker second = worker("h2");
    try (Membership member = Membership.open(mCluster.properties());
        Membership reader = Membership.open(mCluster.properties())) {
      member.join(first);
      BlockingQueue<Change> changes = new LinkedBlockingQueue<>();
      List<String> threads = Collections.synchronizedList(new ArrayList<>());
      Subscription subscription = reader.addListener(change -> {
        threads.add(Thread.currentThread().getName());
        changes.add(change);
        throw new IllegalArgumentException("of the test");
      }, executor);
      assertEquals("ADDED h1", take(changes));
      member.join(second);
      Change added = changes.poll(60, TimeUnit.SECONDS);
      assertEquals("ADDED " + new Member(second, WorkerState.LIVE), added.toString());
      assertEquals(2, added.getView().getLiveMembers().size());
      member.leave(second.getIdentity());
      assertEquals("LOST h2", take(changes));
      member.remove(second.getIdentity());
      assertEquals("REMOVED h2", take(changes));
      assertEquals(Collections.nCopies(4, "listener"), threads);
      subscription.close();
      subscription.close();
      member.leave();
      Await.until("the reader sees it", 20, () -> reader.view().getLostMembers().size() == 1);
      assertEquals(0, changes.size());
    } finally {
      executor.shutdownNow();
    }
  }

  /** A listener may close the manager, and its executor may run tasks on the calling thread. */
  @Test
  void aListenerEndsWithItsManager() throws Exception {
    Membership member = Membership.open(mCluster.properties());
    member.join(worker("h"));
    CompletableFuture<Void> closed = new CompletableFuture<>();
    member.addListener(change -> {
      try {
        assertFalse(Thread.currentThread().getName().startsWith("alluxio-membership"));
        member.close();
        closed.complete(null);
      } catch (MembershipException | AssertionError e) {
        closed.completeExceptionally(e);
      }
    }, Runnable::run);
    closed.get(60, TimeUnit.SECONDS);
  }

  @Test
  void futuresCompleteAsTheirMethodsDo() throws Exception {
    Worker worker = worker("h");
    Membership member = Membership.open(mCluster.properties());
    member.joinAsync(worker, JoinOptions.defaults()).get(60, TimeUnit.SECONDS);
    ClusterView view = member.viewAsync().get(60, TimeUnit.SECONDS);
    assertSame(view, member.view());
    assertSame(view, member.viewAsync().get(60, TimeUnit.SECONDS));
    assertTrue(view.isLive(worker.getIdentity()));
    assertEquals(Optional.of(new Member(worker, WorkerState.LIVE)),
        view.find(worker.getIdentity()));
    assertEquals(Optional.empty(), view.find(WorkerIdentity.of(1)));
    assertFalse(view.isLive(WorkerIdentity.of(1)));
    CompletableFuture<Void> refused = member.joinAsync(
        Worker.newBuilder(worker.getIdentity()).setHost("elsewhere").build(),
        JoinOptions.defaults());
    assertEquals(ErrorKind.ALREADY_EXISTS, refused.handle((result, failure) ->
        ((MembershipException) failure).getKind()).get(60, TimeUnit.SECONDS));
    member.closeAsync().get(60, TimeUnit.SECONDS);
    try (Membership reader = Membership.open(mCluster.properties())) {
      assertFalse(reader.view().isLive(worker.getIdentity()));
    }
  }

  @Test
  void aCancelledFutureStopsItsOperation() throws Exception {
    try (EtcdServer etcd = EtcdServer.start()) {
      TestCluster cluster =
          new TestCluster(etcd, "ETCD").with("alluxio.membership.native.operation.timeout", "2s");
      try (Membership member = Membership.open(cluster.properties())) {
        etcd.stopProcess();
        CompletableFuture<ClusterView> view = member.viewAsync();
        assertTrue(view.cancel(true));
        assertEquals(ErrorKind.UNAVAILABLE, member.viewAsync().handle((result, failure) ->
            ((MembershipException) failure).getKind()).get(60, TimeUnit.SECONDS));
        Await.until("the status has the error", 20,
            () -> member.status().getViewError().isPresent());
        EndpointStatus endpoint = member.status().getEndpoints().get(0);
        assertEquals(etcd.endpoint(), endpoint.getUrl());
        assertTrue(endpoint.getFailed() > 0, endpoint.toString());
      }
    }
  }

  @Test
  void theStatusAndTheBeanSayHowTheManagerIsDoing() throws Exception {
    Worker worker = worker("h");
    for (int i = 0; i < 103; i++) {
      ETCD.server().put(mCluster.ringKey("worker-" + UUID.randomUUID()), new byte[] {'{', '}'});
    }
    assertEquals(Collections.emptySet(), beans());
    Membership member = Membership.open(mCluster.properties());
    assertEquals(Optional.empty(), member.viewAge());
    assertEquals(Optional.empty(), member.registrationState(worker.getIdentity()));
    ObjectName bean = beans().iterator().next();
    assertEquals("STARTING", mServer.getAttribute(bean, "State"));
    member.join(worker);
    ClusterView view = member.view();
    assertEquals(100, view.getSkippedRecords().size());
    assertEquals(103, view.getSkippedCount());
    assertTrue(member.viewAge().isPresent());
    Await.until("the registration is shown", 20,
        () -> member.registrationState(worker.getIdentity())
        .equals(Optional.of(RegistrationState.REGISTERED)));
    MembershipStatus status = member.status();
    assertEquals(mCluster.properties().get("alluxio.cluster.name"), status.getCluster());
    assertEquals(1, status.getLiveWorkers());
    assertEquals(0, status.getLostWorkers());
    assertEquals(103, status.getSkippedRecords());
    assertTrue(status.getListings() >= 1 && status.getWatches() >= 0, status.toString());
    RegistrationStatus registration = status.findRegistration(worker.getIdentity()).get();
    assertTrue(registration.getLeaseId() != 0);
    assertTrue(registration.getLeaseLeft().toMillis() > 1000, registration.toString());
    assertEquals(0, registration.getReRegistrations());
    assertFalse(registration.isDisplaced());

    assertEquals("CURRENT", mServer.getAttribute(bean, "State"));
    assertEquals(1, mServer.getAttribute(bean, "LiveWorkers"));
    assertEquals(103, mServer.getAttribute(bean, "SkippedRecords"));
    CompositeData shown = ((CompositeData[]) mServer.getAttribute(bean, "Registrations"))[0];
    assertEquals(worker.getIdentity().toString(), shown.get("identity"));
    assertEquals("REGISTERED", shown.get("state"));
    assertEquals(Long.toHexString(registration.getLeaseId()), shown.get("leaseId"));
    CompositeData endpoint = ((CompositeData[]) mServer.getAttribute(bean, "Endpoints"))[0];
    assertEquals(true, endpoint.get("healthy"));
    assertEquals(ETCD.server().endpoint(), endpoint.get("url"));
    // Every attribute can be read.
    for (javax.management.MBeanAttributeInfo attribute
        : mServer.getMBeanInfo(bean).getAttributes()) {
      mServer.getAttribute(bean, attribute.getName());
    }
    try (Membership second = Membership.open(mCluster.properties())) {
      assertEquals(2, beans().size());
      assertEquals(0, second.status().getOtherHistories());
    }
    member.close();
    assertEquals(Collections.emptySet(), beans());
  }
}
