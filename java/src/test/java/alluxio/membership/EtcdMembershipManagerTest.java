package alluxio.membership;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import alluxio.conf.InstancedConfiguration;
import alluxio.conf.PropertyKey;
import alluxio.exception.runtime.UnavailableRuntimeException;
import alluxio.exception.status.AlreadyExistsException;
import alluxio.exception.status.InvalidArgumentException;
import alluxio.membership.testing.Await;
import alluxio.membership.testing.EtcdServer;
import alluxio.membership.testing.SharedEtcd;
import alluxio.membership.testing.TestCluster;
import alluxio.wire.WorkerIdentity;
import alluxio.wire.WorkerInfo;
import alluxio.wire.WorkerNetAddress;
import alluxio.wire.WorkerState;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.KeyValue;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.api.function.Executable;

import java.io.IOException;
import java.io.InterruptedIOException;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Collectors;

class EtcdMembershipManagerTest {
  @RegisterExtension
  static final SharedEtcd ETCD = new SharedEtcd();

  private final TestCluster mCluster = new TestCluster(ETCD.server(), "ETCD");

  private static WorkerInfo worker(String host) {
    return new WorkerInfo().setIdentity(
        WorkerIdentity.ParserV1.INSTANCE.fromUUID(UUID.randomUUID()))
        .setAddress(new WorkerNetAddress().setHost(host).setContainerHost("c").setRpcPort(1)
        .setDataPort(2)
            .setNettyDataPort(3).setWebPort(4).setHttpServerPort(5).setDomainSocketPath("/s"));
  }

  private static WorkerInfo listed(WorkerInfo worker, WorkerState state) {
    return new WorkerInfo().setIdentity(worker.getIdentity()).setAddress(worker.getAddress())
        .setState(state);
  }

  private static List<WorkerInfo> list(WorkerClusterView view) {
    return view.stream().collect(Collectors.toList());
  }

  private MembershipManager open() {
    return MembershipManager.Factory.create(mCluster.conf());
  }

  @Test
  void alluxiosFactoryMakesOurs() throws Exception {
    try (MembershipManager manager = open();
        MembershipManager constructed = new EtcdMembershipManager(mCluster.conf());
        MembershipManager withClient = new EtcdMembershipManager(mCluster.conf(), null)) {
      for (MembershipManager each : Arrays.asList(manager, constructed, withClient)) {
        assertInstanceOf(NativeMembershipManager.class, each);
        assertTrue(each.getAllMembers().isEmpty());
      }
    }
  }

  @Test
  void listsWhatTheStockManagerLists() throws Exception {
    WorkerInfo stays = worker("stays");
    WorkerInfo goes = worker("goes");
    try (MembershipManager manager = open()) {
      manager.join(stays);
      manager.join(goes);
      manager.stopHeartBeat(goes);
      List<WorkerInfo> all = Arrays.asList(listed(stays, WorkerState.LIVE),
          listed(goes, WorkerState.LOST));
      all.sort((a, b) -> a.getIdentity().toString().compareTo(b.getIdentity().toString()));
      assertEquals(all, list(manager.getAllMembers()));
      assertEquals(Collections.singletonList(listed(stays, WorkerState.LIVE)),
          list(manager.getLiveMembers()));
      assertEquals(Collections.singletonList(listed(goes, WorkerState.LOST)),
          list(manager.getFailedMembers()));
      // WorkerNetAddress.equals ignores this field.
      assertEquals(3, list(manager.getLiveMembers()).get(0).getAddress().getNettyDataPort());
      StringBuilder table = new StringBuilder("WorkerId\tAddress\tStatus\n");
      for (WorkerInfo info : all) {
        table.append(info.getIdentity()).append('\t').append(info.getAddress().getHost())
            .append(":1\t")
            .append(info.getState() == WorkerState.LIVE ? "ONLINE" : "OFFLINE").append('\n');
      }
      assertEquals(table.toString(), manager.showAllMembers());
    }
  }

  @Test
  void recordsAreTheStockClassesBytes() throws Exception {
    String[] names = {"plain", "", "\"'<&>=\\/", "a\tb\nc\u0000\u001f\u007f",
        "\u00e4\u00df\u4e2d\u6587",
        "\ud83d\ude00", "\u2028\u2029\ufeff", "fe80::1%eth0"};
    try (MembershipManager manager = open()) {
      for (int i = 0; i < names.length; i++) {
        for (WorkerIdentity identity : Arrays.asList(
            WorkerIdentity.ParserV1.INSTANCE.fromUUID(UUID.randomUUID()),
            WorkerIdentity.ParserV0.INSTANCE.fromLong(i % 2 == 0 ? i : Long.MIN_VALUE + i))) {
          WorkerNetAddress address = new WorkerNetAddress().setHost(names[i])
              .setContainerHost(names[(i + 1) % names.length])
              .setDomainSocketPath(names[(i + 2) % names.length])
              .setRpcPort(i).setDataPort(-1).setWebPort(65535).setNettyDataPort(7)
              .setHttpServerPort(8)
              .setSecureRpcPort(9);
          byte[] expected = new WorkerServiceEntity(identity, address).serialize();
          manager.join(new WorkerInfo().setIdentity(identity).setAddress(address));
          KeyValue ring = ETCD.server().get(mCluster.ringKey(identity.toString()))
              .get(mCluster.ringKey(identity.toString()));
          KeyValue live = ETCD.server().get(mCluster.liveKey(identity.toString()))
              .get(mCluster.liveKey(identity.toString()));
          assertNotNull(ring);
          assertNotNull(live);
          assertArrayEquals(expected, ring.getValue().getBytes(), identity + " " + names[i]);
          assertArrayEquals(expected, live.getValue().getBytes(), identity + " " + names[i]);
          assertEquals(0, ring.getLease());
          assertNotEquals(0, live.getLease());
        }
      }
      assertEquals(2 * names.length, manager.getLiveMembers().size());
    }
  }

  @Test
  void optionalFieldsMayChange() throws Exception {
    WorkerInfo worker = worker("h");
    try (MembershipManager manager = open()) {
      manager.join(worker);
      worker.getAddress().setHttpServerPort(6).setNettyDataPort(7);
      manager.join(worker);
      byte[] expected = new WorkerServiceEntity(worker.getIdentity(), worker.getAddress())
          .serialize();
      for (String key : Arrays.asList(mCluster.ringKey(worker.getIdentity().toString()),
          mCluster.liveKey(worker.getIdentity().toString()))) {
        assertArrayEquals(expected, ETCD.server().get(key).get(key).getValue().getBytes());
      }
    }
  }

  @Test
  void anotherWorkerWithTheIdentityIsAConflict() throws Exception {
    WorkerInfo worker = worker("h1");
    WorkerInfo other = worker("h2").setIdentity(worker.getIdentity());
    String expected =
        "Some other member with same id registered on the ring, bail.Conflicting worker addr:"
        + worker.getAddress() + ", worker identity:" + worker.getIdentity()
        + ".Different workers can't assume same "
        + "worker identity in non-k8s env,clean local worker identity settings to continue.";
    try (MembershipManager first = open(); MembershipManager second = open()) {
      first.join(worker);
      AlreadyExistsException error = assertThrows(AlreadyExistsException.class,
          () -> second.join(other));
      assertEquals(expected, error.getMessage());
      assertEquals(Collections.singletonList(listed(worker, WorkerState.LIVE)),
          list(first.getAllMembers()));
    }
  }

  @Test
  void kubernetesSettingIsReadAtEachJoin() throws Exception {
    WorkerInfo worker = worker("h1");
    WorkerInfo other = worker("h2").setIdentity(worker.getIdentity());
    InstancedConfiguration conf = mCluster.conf();
    try (MembershipManager first = open(); MembershipManager second =
        new EtcdMembershipManager(conf)) {
      first.join(worker);
      first.close();
      assertThrows(AlreadyExistsException.class, () -> second.join(other));
      conf.set(PropertyKey.K8S_ENV_DEPLOYMENT, true);
      second.join(other);
      assertEquals(Collections.singletonList(listed(other, WorkerState.LIVE)),
          list(second.getAllMembers()));
    }
  }

  @Test
  void corruptRecordStopsTheJoin() throws Exception {
    WorkerInfo worker = worker("h");
    String key = mCluster.ringKey(worker.getIdentity().toString());
    ETCD.server().put(key, "garbage{".getBytes(StandardCharsets.UTF_8));
    try (MembershipManager manager = open()) {
      IOException error = assertThrows(IOException.class, () -> manager.join(worker));
      assertSame(IOException.class, error.getClass());
      assertEquals("Existing WorkerServiceEntity for path:" + key + " corrupted",
          error.getMessage());
    }
  }

  @Test
  void decommissionSaysWhatIsWrong() throws Exception {
    WorkerInfo worker = worker("h");
    WorkerInfo onlyIdentity = new WorkerInfo().setIdentity(worker.getIdentity());
    try (MembershipManager manager = open()) {
      assertEquals("Unrecognized or non-existing worker: " + worker.getIdentity(),
          assertThrows(InvalidArgumentException.class, () -> manager.decommission(onlyIdentity))
          .getMessage());
      manager.join(worker);
      assertEquals("Can't remove running worker: " + worker.getIdentity()
          + ", stop the worker before removing",
          assertThrows(InvalidArgumentException.class, () -> manager.decommission(onlyIdentity))
          .getMessage());
      manager.stopHeartBeat(onlyIdentity);
      manager.decommission(onlyIdentity);
      assertTrue(manager.getAllMembers().isEmpty());
      assertTrue(ETCD.server().get(mCluster.ringKey("")).isEmpty());
    }
  }

  @Test
  void configurationErrorsAreTheStockOnes() {
    InstancedConfiguration none = mCluster.conf();
    none.unset(PropertyKey.ETCD_ENDPOINTS);
    RuntimeException missing = assertThrows(RuntimeException.class,
        () -> EtcdMembershipManager.create(none));
    assertSame(RuntimeException.class, missing.getClass());
    assertEquals("No value set for configuration key alluxio.etcd.endpoints", missing.getMessage());

    InstancedConfiguration half = mCluster.with("alluxio.etcd.username", "root").conf();
    assertEquals("Need to set both username/password for etcd connection, only one is set.",
        assertThrows(IllegalArgumentException.class, () -> EtcdMembershipManager.create(half))
        .getMessage());

    mCluster.properties().remove("alluxio.etcd.username");
    InstancedConfiguration schemeless =
        mCluster.with("alluxio.etcd.endpoints", "localhost:2379").conf();
    assertEquals("Unable to compute target from endpoint: 'localhost:2379'",
        assertThrows(IllegalArgumentException.class, () -> EtcdMembershipManager.create(schemeless))
        .getMessage());
  }

  @Test
  void unreachableEtcdIsUnavailable() throws Exception {
    try (EtcdServer etcd = EtcdServer.start()) {
      TestCluster cluster =
          new TestCluster(etcd, "ETCD").with("alluxio.membership.native.operation.timeout", "1s");
      etcd.stopProcess();
      MembershipManager manager = MembershipManager.Factory.create(cluster.conf());
      for (Executable call : Arrays.<Executable>asList(manager::getAllMembers,
          manager::getLiveMembers,
          manager::getFailedMembers, manager::showAllMembers)) {
        UnavailableRuntimeException error = assertThrows(UnavailableRuntimeException.class, call);
        assertTrue(error.getCause() instanceof TimeoutException
            || error.getCause() instanceof IOException,
            String.valueOf(error.getCause()));
        assertTrue(error.getCause().getMessage().contains(etcd.endpoint()),
            error.getCause().getMessage());
        // Alluxio's commands print no cause.
        assertTrue(error.getMessage().endsWith(", last exception: " + error.getCause()
            .getMessage()), error.getMessage());
        assertTrue(error.isRetryable());
      }
      Thread.currentThread().interrupt();
      manager.close();
      assertTrue(Thread.interrupted());
    }
  }

  @Test
  void theOperationTimeoutIsTheConfiguredOne() throws Exception {
    try (EtcdServer etcd = EtcdServer.start()) {
      etcd.stopProcess();
      TestCluster cluster = new TestCluster(etcd, "ETCD");
      AtomicReference<Throwable> thrown = new AtomicReference<>();
      MembershipManager patient =
          new EtcdMembershipManager(cluster.with("alluxio.membership.native.operation.timeout",
          "1h").conf());
      Thread waiting = new Thread(() -> {
        try {
          patient.join(worker("h"));
        } catch (IOException | RuntimeException e) {
          thrown.set(e);
        }
      });
      waiting.start();
      // The second join starts later and ends earlier, although it has the default limit of 10 s.
      for (String timeout : new String[] {"1s", "10s"}) {
        MembershipManager hasty =
            new EtcdMembershipManager(cluster.with("alluxio.membership.native.operation.timeout",
            timeout).conf());
        assertThrows(UnavailableRuntimeException.class, () -> hasty.join(worker("h")));
        hasty.close();
      }
      assertTrue(waiting.isAlive(), String.valueOf(thrown.get()));
      waiting.interrupt();
      waiting.join(60_000);
      assertInstanceOf(InterruptedIOException.class, thrown.get());
      // A new manager would have the new limit.
      etcd.startProcess();
      patient.close();
    }
  }

  @Test
  void usesUserAndPassword() throws Exception {
    try (EtcdServer etcd = EtcdServer.start(); Client client =
        Client.builder().endpoints(etcd.endpoint()).build()) {
      ByteSequence root = ByteSequence.from("root", StandardCharsets.UTF_8);
      ByteSequence password = ByteSequence.from("s=cret '\u00e4\\ $", StandardCharsets.UTF_8);
      client.getAuthClient().userAdd(root, password).get(10, TimeUnit.SECONDS);
      client.getAuthClient().roleAdd(root).get(10, TimeUnit.SECONDS);
      client.getAuthClient().userGrantRole(root, root).get(10, TimeUnit.SECONDS);
      client.getAuthClient().authEnable().get(10, TimeUnit.SECONDS);
      TestCluster cluster = new TestCluster(etcd, "ETCD").with("alluxio.etcd.username", "root");
      WorkerInfo worker = worker("h");
      try (MembershipManager manager =
          MembershipManager.Factory.create(
          cluster.with("alluxio.etcd.password", "s=cret '\u00e4\\ $").conf())) {
        manager.join(worker);
        assertEquals(Collections.singletonList(listed(worker, WorkerState.LIVE)),
            list(manager.getAllMembers()));
      }
      try (MembershipManager manager =
          MembershipManager.Factory.create(cluster.with("alluxio.etcd.password", "wrong").conf())) {
        assertThrows(UnavailableRuntimeException.class, manager::getAllMembers);
      }
    }
  }

  /** Lists are created again each second, so most calls allocate nothing, but not all. */
  @Test
  void unchangedListIsTheSameObjectAndAllocatesNothing() throws Exception {
    com.sun.management.ThreadMXBean threads =
        (com.sun.management.ThreadMXBean) ManagementFactory.getThreadMXBean();
    try (MembershipManager manager = open()) {
      manager.join(worker("h"));
      Map<String, Callable<Object>> listings = new LinkedHashMap<>();
      listings.put("all", manager::getAllMembers);
      listings.put("live", manager::getLiveMembers);
      listings.put("failed", manager::getFailedMembers);
      listings.put("table", manager::showAllMembers);
      long id = Thread.currentThread().getId();
      for (Map.Entry<String, Callable<Object>> listing : listings.entrySet()) {
        Callable<Object> list = listing.getValue();
        Await.until("the same object without an allocation: " + listing.getKey(), 20, () -> {
          Object first = list.call();
          long before = threads.getThreadAllocatedBytes(id);
          boolean same = true;
          for (int i = 0; i < 1000; i++) {
            same &= list.call() == first;
          }
          return threads.getThreadAllocatedBytes(id) == before && same;
        });
      }
    }
  }

  @Test
  void snapshotTimeGoesOnWithoutAChange() throws Exception {
    try (MembershipManager manager = open()) {
      manager.join(worker("h"));
      Instant first = manager.getAllMembers().getSnapshotTime();
      assertFalse(first.isAfter(Instant.now()));
      Await.until("a later snapshot time", 20,
          () -> manager.getAllMembers().getSnapshotTime().isAfter(first.plusMillis(900)));
    }
  }

  @Test
  void aChangedListingDoesNotReachOtherCallersForLong() throws Exception {
    WorkerInfo worker = worker("h");
    try (MembershipManager manager = open()) {
      manager.join(worker);
      list(manager.getAllMembers()).get(0).getAddress().setHost("changed by a caller");
      Await.until("the real host is back", 20,
          () -> list(manager.getAllMembers()).get(0).getAddress().getHost().equals("h"));
    }
  }

  @Test
  void afterCloseEveryMethodSaysSo() throws Exception {
    MembershipManager manager = open();
    WorkerInfo worker = worker("h");
    manager.getAllMembers();
    manager.close();
    manager.close();
    Map<String, Executable> calls = new LinkedHashMap<>();
    calls.put("join", () -> manager.join(worker));
    calls.put("getAllMembers", manager::getAllMembers);
    calls.put("getLiveMembers", manager::getLiveMembers);
    calls.put("getFailedMembers", manager::getFailedMembers);
    calls.put("showAllMembers", manager::showAllMembers);
    calls.put("stopHeartBeat", () -> manager.stopHeartBeat(worker));
    calls.put("decommission", () -> manager.decommission(worker));
    calls.forEach((name, call) -> assertThrows(IllegalStateException.class, call, name));
  }

  @Test
  void nullsAreRefused() throws Exception {
    assertThrows(NullPointerException.class, () -> EtcdMembershipManager.create(null));
    try (MembershipManager manager = open()) {
      assertThrows(NullPointerException.class, () -> manager.join(null));
      assertThrows(NullPointerException.class, () -> manager.stopHeartBeat(null));
      assertThrows(NullPointerException.class, () -> manager.decommission(null));
    }
  }

  @Test
  void anInterruptedWaitKeepsTheFlag() throws Exception {
    try (EtcdServer etcd = EtcdServer.start()) {
      MembershipManager manager = MembershipManager.Factory.create(new TestCluster(etcd, "ETCD")
          .conf());
      etcd.stopProcess();
      AtomicReference<Throwable> thrown = new AtomicReference<>();
      AtomicReference<Boolean> flag = new AtomicReference<>();
      Thread thread = new Thread(() -> {
        Thread.currentThread().interrupt();
        try {
          manager.join(worker("h"));
        } catch (IOException | RuntimeException e) {
          thrown.set(e);
          flag.set(Thread.currentThread().isInterrupted());
        }
        try {
          manager.close();
        } catch (Exception e) {
          throw new AssertionError(e);
        }
      });
      thread.start();
      thread.join(60_000);
      assertInstanceOf(InterruptedIOException.class, thrown.get());
      assertEquals(Boolean.TRUE, flag.get());
    }
  }
}
