package alluxio.membership.bridge;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import alluxio.membership.testing.ChildJvm;
import alluxio.membership.testing.SharedEtcd;
import alluxio.membership.testing.TestCluster;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;

/** A completely full Java heap affects neither the JVM, nor a worker, nor a manager. */
@Execution(ExecutionMode.CONCURRENT)
class FullHeapTest {
  private static final String ID = "worker-77777777-7777-7777-7777-777777777777";

  @RegisterExtension
  static final SharedEtcd ETCD = new SharedEtcd();

  @TempDir
  private Path mDirectory;

  /**
   * Joins, fills the heap, lists, waits for longer than the lease, and lists again with an empty
   * heap.
   */
  public static final class Program {
    /** The free bytes of each round: none, or so few that the error occurs within a call. */
    private static final int[] FREED_BLOCKS = {0, 4, 32, 128};
    private static final int LEAST_BLOCK = 64;

    private static byte[][] sHeap = new byte[200_000][];
    private static int sBlocks;
    private static int sSucceeded;
    private static int sOutOfMemory;
    private static int sOther;
    private static Throwable sLast;

    private Program() {}

    /**
     * @param args a hosts file; the configuration of a cluster in etcd is in the system properties
     */
    public static void main(String[] args) throws Exception {
      Map<String, String> properties = ChildJvm.alluxioProperties();
      Map<String, String> hosts = new HashMap<>();
      hosts.put("alluxio.worker.membership.manager.type", "STATIC");
      hosts.put("alluxio.worker.static.membership.manager.config.file", args[0]);
      Membership registered = Membership.open(properties);
      registered.join(Worker.newBuilder(WorkerIdentity.parse(ID)).setHost("h").build());
      registered.view();
      System.out.println("joined");
      System.in.read();
      Membership[] fresh = new Membership[FREED_BLOCKS.length];
      for (int i = 0; i < fresh.length; i++) {
        // The first view of each manager must be copied to Java.
        fresh[i] = Membership.open(hosts);
      }
      Callable<?>[][] calls = new Callable<?>[FREED_BLOCKS.length][];
      for (int i = 0; i < FREED_BLOCKS.length; i++) {
        Membership manager = fresh[i];
        calls[i] = new Callable<?>[] {manager::view, manager::showAllMembers,
            registered::showAllMembers,
            () -> registered.waitForChange(0, 1, TimeUnit.MILLISECONDS),
            () -> Membership.open(properties)};
      }
      for (int i = 0; i < FREED_BLOCKS.length; i++) {
        fill();
        for (int j = 0; j < FREED_BLOCKS[i] && sBlocks > 0; j++) {
          sHeap[--sBlocks] = null;
        }
        for (int j = 0; j < calls[i].length; j++) {
          attempt(calls[i][j]);
        }
      }
      fill();
      LockSupport.parkNanos(TimeUnit.SECONDS.toNanos(7));
      sHeap = null;
      System.out.println("succeeded " + sSucceeded + " out of memory " + sOutOfMemory + " other "
          + sOther);
      if (sLast != null) {
        sLast.printStackTrace(System.out);
      }
      for (Membership manager : fresh) {
        if (manager.view().getAllMembers().size() != 2) {
          System.out.println("a listing is wrong");
        }
      }
      System.out.println("listed " + registered.view().getLiveMembers().size());
      System.in.read();
      registered.close();
      System.out.println("closed");
      System.exit(0);
    }

    private static void fill() {
      for (int size = 1 << 20; size >= LEAST_BLOCK;) {
        try {
          sHeap[sBlocks] = new byte[size];
          sBlocks++;
        } catch (OutOfMemoryError e) {
          size /= 2;
        }
      }
    }

    private static void attempt(Callable<?> call) {
      try {
        call.call();
        sSucceeded++;
      } catch (OutOfMemoryError e) {
        sOutOfMemory++;
      } catch (Throwable t) {
        sOther++;
        sLast = t;
      }
    }
  }

  @Test
  void anOutOfMemoryErrorReachesTheCallerAndNothingIsLost() throws Exception {
    survivesAFullHeap(System.getProperty("test.child.java.home", System.getProperty("java.home")));
  }

  @Test
  void alsoOnTheNewestJava() throws Exception {
    survivesAFullHeap(ChildJvm.javaHome(25));
  }

  private void survivesAFullHeap(String javaHome) throws Exception {
    Path hosts = Files.write(mDirectory.resolve("hosts"),
        "h1\nh2\n".getBytes(StandardCharsets.UTF_8));
    TestCluster cluster =
        new TestCluster(ETCD.server(), "ETCD")
        .with("alluxio.worker.failure.detection.timeout", "4s");
    try (ChildJvm jvm = new ChildJvm.Launch(ChildJvm.ourClassPath()).java(javaHome)
        .properties(cluster.properties())
        .options("-Xmx24m", "-XX:+UseSerialGC", "-Xcheck:jni")
        .start(Program.class, hosts.toString())) {
      jvm.awaitLine("the worker", "joined"::equals);
      long lease = leaseIn(cluster);
      jvm.send("");
      String counts = jvm.awaitLine("the calls", line -> line.startsWith("succeeded "));
      assertTrue(counts.matches("succeeded \\d+ out of memory [1-9]\\d* other 0"),
          counts + "\n" + jvm.output());
      assertEquals("listed 1", jvm.awaitLine("the listing",
          line -> line.matches("listed .*|a listing is wrong")));
      assertEquals(lease, leaseIn(cluster));
      jvm.send("");
      jvm.awaitLine("the end", "closed"::equals);
      assertEquals(0, jvm.awaitExit());
      assertTrue(ETCD.server().get(cluster.liveKey(ID)).isEmpty());
      assertFalse(jvm.output().contains("WARNING in native method"), jvm.output());
    }
  }

  private static long leaseIn(TestCluster cluster) throws Exception {
    return ETCD.server().get(cluster.liveKey(ID)).get(cluster.liveKey(ID)).getLease();
  }
}
