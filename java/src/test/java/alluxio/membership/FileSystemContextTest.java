package alluxio.membership;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import alluxio.membership.testing.ChildJvm;
import alluxio.membership.testing.EtcdServer;
import alluxio.membership.testing.TestCluster;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.stream.Collectors;

/** The demo's programs with the configuration file of an Alluxio user. */
class FileSystemContextTest {
  private static final String UUID_TEXT = "44444444-4444-4444-8444-444444444444";

  @TempDir
  private Path mConf;

  private ChildJvm start(Class<?> main, String... arguments) throws Exception {
    return ChildJvm.start(ChildJvm.ourClassPath(),
        Collections.singletonMap("alluxio.conf.dir", mConf.toString()),
        Collections.emptyList(), main, arguments);
  }

  private String run(String begin, String... arguments) throws Exception {
    try (ChildJvm jvm = start(DemoClient.class, arguments)) {
      assertEquals(0, jvm.awaitExit(), jvm.output());
      // The process id and, on newer JVMs, a warning about native code come first.
      return jvm.output().substring(jvm.output().indexOf(begin));
    }
  }

  @Test
  void aRealClientListsAndAWorkerLeavesAndIsRemoved() throws Exception {
    try (EtcdServer etcd = EtcdServer.start()) {
      Map<String, String> site = new LinkedHashMap<>(new TestCluster(etcd, "ETCD").properties());
      site.put("alluxio.cluster.name", "${alluxio.worker.hostname}-cluster");
      site.put("alluxio.worker.hostname", "demo");
      site.put("alluxio.worker.rpc.port", "4711");
      site.put("alluxio.master.hostname", "127.0.0.1");
      site.put("alluxio.user.conf.cluster.default.enabled", "false");
      site.put("alluxio.user.metrics.collection.enabled", "false");
      Files.write(mConf.resolve("alluxio-site.properties"), site.entrySet().stream()
          .map(entry -> entry.getKey() + "=" + entry.getValue()).collect(Collectors.toList()),
          StandardCharsets.UTF_8);
      Files.write(mConf.resolve("worker_identity"),
          ("# written by a test\n" + UUID_TEXT + "\n").getBytes(
          StandardCharsets.UTF_8));
      String header = "WorkerId\tAddress\tStatus";
      String row = "\nworker-" + UUID_TEXT + "\tdemo:4711\t";
      try (ChildJvm worker = start(DemoWorker.class)) {
        worker.awaitLine("the worker's join",
            line -> line.equals("JOINED worker-" + UUID_TEXT + " demo:4711"));
        assertTrue(worker.output().contains("alluxio.membership.EtcdMembershipManager from "),
            worker.output());
        assertEquals(header + row + "ONLINE", run(header));
        worker.terminate();
        assertEquals(143, worker.awaitExit());
        assertEquals(header + row + "OFFLINE", run(header));
      }
      assertEquals("Successfully removed worker: worker-" + UUID_TEXT,
          run("Success", "remove", "worker-" + UUID_TEXT));
      assertEquals(header, run(header));
      assertTrue(etcd.get("/DHT/demo-cluster/").isEmpty());
    }
  }
}
