package alluxio.membership.bridge;

import static org.junit.jupiter.api.Assertions.assertEquals;

import alluxio.membership.testing.ChildJvm;
import alluxio.membership.testing.Gate;
import alluxio.membership.testing.SharedEtcd;
import alluxio.membership.testing.TestCluster;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

import java.lang.reflect.Method;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;

/** Virtual threads, which exist since Java 21. */
@Execution(ExecutionMode.CONCURRENT)
class VirtualThreadsTest {
  private static final int CARRIERS = 2;

  @RegisterExtension
  static final SharedEtcd ETCD = new SharedEtcd();

  /**
   * Lists on more virtual threads than there are carriers, and checks that another virtual thread
   * makes progress.
   */
  public static final class Program {
    private Program() {}

    /**
     * @param args none; the configuration is in the system properties
     */
    public static void main(String[] args) throws Exception {
      Map<String, String> properties = ChildJvm.alluxioProperties();
      // These classes are compiled for Java 8.
      Method start = Thread.class.getMethod("startVirtualThread", Runnable.class);
      Membership member = Membership.open(properties);
      member.view();
      System.out.println("ready");
      System.in.read();
      AtomicInteger listed = new AtomicInteger();
      CountDownLatch listing = new CountDownLatch(2 * CARRIERS);
      Thread[] readers = new Thread[2 * CARRIERS];
      for (int i = 0; i < readers.length; i++) {
        readers[i] = (Thread) start.invoke(null, (Runnable) () -> {
          listing.countDown();
          try {
            member.view();
          } catch (Exception e) {
            System.out.println("listing ended: " + e.getMessage());
          }
          listed.incrementAndGet();
        });
      }
      Thread other = (Thread) start.invoke(null, (Runnable) () -> {
        try {
          listing.await();
          for (int i = 0; i < 10; i++) {
            Thread.sleep(20);
          }
        } catch (InterruptedException e) {
          System.out.println("interrupted");
        }
      });
      other.join();
      System.out.println("other virtual thread ended after " + listed + " listings");
      System.in.read();
      for (Thread reader : readers) {
        reader.join();
      }
      System.out.println("listed " + listed);
    }
  }

  @Test
  void aListingThatWaitsHoldsNoCarrier() throws Exception {
    try (Gate gate = new Gate(ETCD.server())) {
      TestCluster cluster = new TestCluster(ETCD.server(), "ETCD")
          .with("alluxio.etcd.endpoints", gate.endpoint())
          .with("alluxio.membership.native.read.mode", "LINEARIZABLE")
          .with("alluxio.membership.native.operation.timeout", "60s");
      try (ChildJvm jvm = new ChildJvm.Launch(ChildJvm.ourClassPath()).java(ChildJvm.javaHome(21))
          .properties(cluster.properties())
          .options("-Djdk.virtualThreadScheduler.parallelism=" + CARRIERS,
              "-Djdk.virtualThreadScheduler.maxPoolSize=" + CARRIERS)
          .start(Program.class)) {
        jvm.awaitLine("the first listing", "ready"::equals);
        gate.mute(true);
        jvm.send("");
        assertEquals("other virtual thread ended after 0 listings",
            jvm.awaitLine("the other thread", line -> line.startsWith("other ")));
        gate.mute(false);
        jvm.send("");
        assertEquals("listed " + 2 * CARRIERS,
            jvm.awaitLine("the listings", line -> line.startsWith("listed ")));
        assertEquals(0, jvm.awaitExit());
      }
    }
  }
}
