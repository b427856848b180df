package alluxio.membership.bridge.internal;

import org.slf4j.LoggerFactory;

/**
 * The Java threads and the shutdown hook of the library. They exist while this class loader has a
 * manager or an operation, or while the library keeps a worker registered. Afterwards nothing keeps
 * the class loader in memory.
 */
public final class Background {
  /**
   * The interval of the signs of life that renewals depend on. The library's own threads continue
   * in a JVM whose Java threads have stopped, but the lease must end then, as with Alluxio's own
   * classes. The interval must be well below a third of the shortest lease that etcd grants.
   */
  private static final int BEAT_MILLIS = 200;
  private static final int MOST_FINISHED = 64;

  /** Guards the fields below. */
  private static final Object LOCK = new Object();
  private static Thread sPoll;
  private static Thread sLog;
  private static Thread sHook;

  private Background() {}

  /**
   * Starts the threads if they are not running. Called when the library is in use, because a thread
   * that finds it unused ends.
   */
  public static void ensureRunning() {
    synchronized (LOCK) {
      if (sPoll == null) {
        sPoll = started(new PollThread());
      }
      if (sLog == null) {
        sLog = started(new LogThread());
      }
      if (sHook == null) {
        installHook();
      }
    }
  }

  private static Thread started(Thread thread) {
    thread.setDaemon(true);
    thread.setPriority(Thread.NORM_PRIORITY);
    // Without this, the class loader of the creator could not be collected.
    thread.setContextClassLoader(Background.class.getClassLoader());
    thread.start();
    return thread;
  }

  private static void installHook() {
    Thread hook = new ShutdownHook();
    try {
      Runtime.getRuntime().addShutdownHook(hook);
    } catch (IllegalStateException e) {
      LoggerFactory.getLogger(Background.class)
          .debug("The JVM is shutting down; workers that join now end with their leases");
    }
    sHook = hook;
  }

  private static void removeHook() {
    try {
      Runtime.getRuntime().removeShutdownHook(sHook);
    } catch (IllegalStateException e) {
      // The JVM is shutting down, and no class loader is collected any more.
    }
    sHook = null;
  }

  /**
   * A separate thread, because a log that cannot be written must cost no lease. It waits in native
   * code, where an interrupt does not reach it.
   */
  private static final class PollThread extends Thread {
    private final long[] mFinished = new long[MOST_FINISHED];

    PollThread() {
      super("alluxio-membership-pulse");
    }

    @Override
    public void run() {
      while (true) {
        try {
          int count = Natives.poll(NativeLibrary.session(), mFinished, BEAT_MILLIS);
          for (int i = 0; i < count; i++) {
            Operation.finished(mFinished[i]);
          }
          AsyncOperation.retry();
          if (count == 0 && endsPoll()) {
            return;
          }
        } catch (RuntimeException | Error e) {
          // For example without memory. A waiting thread that was not notified finds its reply by
          // itself, and the workers of this JVM stay registered.
          pause();
        }
      }
    }

    private static void pause() {
      try {
        Thread.sleep(BEAT_MILLIS / 10);
      } catch (InterruptedException e) {
        // An interrupted beat counts as a beat.
      }
    }
  }

  private static boolean endsPoll() {
    synchronized (LOCK) {
      if (!Natives.isUnused(NativeLibrary.session())) {
        return false;
      }
      sPoll = null;
      if (sHook != null) {
        removeHook();
      }
      return true;
    }
  }

  /** Whether the log thread must end, because nothing can be logged any more. */
  static boolean endsLog() {
    synchronized (LOCK) {
      if (sPoll != null || !Natives.isUnused(NativeLibrary.session())) {
        return false;
      }
      sLog = null;
      return true;
    }
  }
}
