package alluxio.membership;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import alluxio.conf.InstancedConfiguration;
import alluxio.exception.runtime.NotFoundRuntimeException;
import alluxio.membership.testing.Await;
import alluxio.membership.testing.Log;
import alluxio.membership.testing.TestCluster;
import alluxio.membership.testing.Workers;
import alluxio.wire.WorkerIdentity;
import alluxio.wire.WorkerInfo;
import alluxio.wire.WorkerState;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.stream.Collectors;

class StaticMembershipManagerTest {
  @TempDir
  private Path mDirectory;

  private InstancedConfiguration conf(Path file) {
    Map<String, String> properties = new HashMap<>();
    properties.put("alluxio.worker.membership.manager.type", "STATIC");
    properties.put("alluxio.worker.static.membership.manager.config.file", file.toString());
    properties.put("alluxio.worker.rpc.port", "1001");
    properties.put("alluxio.worker.data.port", "1002");
    properties.put("alluxio.worker.web.port", "1003");
    return TestCluster.conf(properties);
  }

  private Path hosts(String text) throws Exception {
    Path file = mDirectory.resolve("workers");
    Files.write(file, text.getBytes(StandardCharsets.UTF_8));
    return file;
  }

  private static List<String> names(WorkerClusterView view) {
    return view.stream().map(worker -> worker.getAddress().getHost()).collect(Collectors.toList());
  }

  @Test
  void listsTheFileInItsOrder() throws Exception {
    try (MembershipManager manager =
        MembershipManager.Factory.create(conf(hosts("# workers\n\n z9 \na1\nz9\nm # x\n")))) {
      assertInstanceOf(NativeMembershipManager.class, manager);
      List<String> expected = Arrays.asList("z9", "a1", "m # x");
      assertEquals(expected, names(manager.getAllMembers()));
      assertEquals(expected, names(manager.getLiveMembers()));
      assertTrue(manager.getFailedMembers().isEmpty());
      for (WorkerInfo worker : manager.getAllMembers()) {
        assertEquals(WorkerState.LIVE, worker.getState());
        assertEquals(WorkerIdentity.ParserV1.INSTANCE.fromUUID(
            UUID.nameUUIDFromBytes(worker.getAddress().getHost().getBytes(StandardCharsets.UTF_8))),
            worker.getIdentity());
        assertEquals(1001, worker.getAddress().getRpcPort());
        assertEquals(1002, worker.getAddress().getDataPort());
        assertEquals(1002, worker.getAddress().getNettyDataPort());
        assertEquals(1003, worker.getAddress().getWebPort());
      }
      assertEquals(4, manager.showAllMembers().split("\n").length);
      assertTrue(manager.showAllMembers().contains("\ta1:1001\tN/A\n"), manager.showAllMembers());
    }
  }

  @Test
  void aHostThatIsListedTwiceCountsOnceAndIsLogged() throws Exception {
    Path file = hosts("h1\nh2\n h1 \n");
    try (Log log = Log.of("alluxio.membership.native");
        MembershipManager manager = StaticMembershipManager.create(conf(file))) {
      assertEquals(Arrays.asList("h1", "h2"), names(manager.getAllMembers()));
      Await.until("the message", 60,
          () -> log.text()
          .contains(
          "WARN alluxio.membership.native.static_hosts: Duplicate node hostname h1 found in " + file
              + "\n"));
    }
  }

  @Test
  void joiningDoesNotChangeTheOthers() throws Exception {
    try (MembershipManager manager = StaticMembershipManager.create(conf(hosts("h1\nh2\n")))) {
      manager.join(Workers.worker("worker-" + UUID.randomUUID(), "h1", 5000));
      for (WorkerInfo worker : manager.getAllMembers()) {
        if (worker.getAddress().getHost().equals("h2")) {
          assertEquals(1001, worker.getAddress().getRpcPort());
        }
      }
      manager.stopHeartBeat(Workers.worker("worker-7", "h1", 1));
    }
  }

  @Test
  void missingFileIsNotFound() {
    Path file = mDirectory.resolve("none");
    assertEquals("Not found for static worker config file:" + file,
        assertThrows(NotFoundRuntimeException.class,
        () -> StaticMembershipManager.create(conf(file))).getMessage());
  }

  @Test
  void unreadableFileIsAnErrorThatNamesIt() throws Exception {
    Path file = mDirectory.resolve("latin1");
    Files.write(file, new byte[] {'h', (byte) 0xe4, '\n'});
    UncheckedIOException error =
        assertThrows(UncheckedIOException.class, () -> StaticMembershipManager.create(conf(file)));
    assertTrue(error.getMessage().contains(file.toString()), error.getMessage());
  }
}
