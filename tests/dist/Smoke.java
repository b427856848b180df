import alluxio.membership.bridge.Membership;
import alluxio.membership.bridge.Worker;
import alluxio.membership.bridge.WorkerIdentity;

import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.CountDownLatch;

/**
 * Joins a worker from the jar, lists it, and exits while it is registered and another thread waits:
 * {@code Smoke ETCD IDENTITY}. Java 8.
 */
public final class Smoke {
  public static void main(String[] args) throws Exception {
    Map<String, String> properties = new HashMap<>();
    properties.put("alluxio.worker.membership.manager.type", "ETCD");
    properties.put("alluxio.etcd.endpoints", args[0]);
    properties.put("alluxio.cluster.name", "dist");
    Membership membership = Membership.open(properties);
    membership.join(Worker.newBuilder(WorkerIdentity.parse(args[1])).setHost("host").build());
    int live = membership.view().getLiveMembers().size();
    if (live != 1) {
      throw new AssertionError(live + " live workers");
    }
    CountDownLatch waiting = new CountDownLatch(1);
    Thread other = new Thread(() -> {
      waiting.countDown();
      try {
        membership.waitForChange(Long.MAX_VALUE, 1, java.util.concurrent.TimeUnit.HOURS);
      } catch (Exception e) {
        // The end of the JVM, which nothing waits for.
      }
    });
    other.setDaemon(true);
    other.start();
    waiting.await();
    System.out.println("listed with " + Membership.version());
    System.exit(0);
  }
}
