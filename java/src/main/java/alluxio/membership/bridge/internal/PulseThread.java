package alluxio.membership.bridge.internal;

/**
 * Tells the library that this JVM lives. Renewal of leases depends on it: the library's own threads would go on in a JVM
 * whose Java threads do not run any more, where Alluxio's own classes would lose the lease. A thread of its own, because
 * a log that cannot be written must not cost a lease.
 */
public final class PulseThread {
  /** Must be well below a third of the shortest lease that etcd grants. */
  private static final int BEAT_MILLIS = 200;

  private static boolean sStarted;

  private PulseThread() {}

  /** Starts the thread, once. A daemon, so it never keeps a JVM from exiting. */
  public static synchronized void start() {
    if (!sStarted) {
      Natives.beat();
      Thread thread = new Thread(PulseThread::run, "alluxio-membership-pulse");
      thread.setDaemon(true);
      thread.setContextClassLoader(PulseThread.class.getClassLoader());
      thread.start();
      sStarted = true;
    }
  }

  private static void run() {
    while (true) {
      try {
        Thread.sleep(BEAT_MILLIS);
        Natives.beat();
      } catch (InterruptedException | RuntimeException | Error e) {
        // Nobody has a reason to interrupt it. Whatever it is, the workers of this JVM still live.
      }
    }
  }
}
