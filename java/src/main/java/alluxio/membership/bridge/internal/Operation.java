package alluxio.membership.bridge.internal;

import alluxio.membership.bridge.MembershipException;

import org.slf4j.LoggerFactory;

/** Waits for native operations. A thread that waits in native code cannot be interrupted, so it waits in slices. */
public final class Operation {
  /** The name of threads that take replies nobody waits for any more. */
  static final String DETACHED = "alluxio-membership-detached";
  private static final int SLICE_MILLIS = 100;

  private Operation() {}

  /**
   * Waits for the end of an operation.
   *
   * @param operation the operation
   * @return its result
   * @throws MembershipException if it failed
   * @throws IllegalStateException if the manager is closed
   * @throws InterruptedException if the thread was interrupted; the operation is then stopped
   */
  public static Wire.Reader await(long operation) throws MembershipException, InterruptedException {
    byte[] reply = null;
    try {
      while ((reply = Natives.awaitResult(operation, SLICE_MILLIS)) == null) {
        if (Thread.interrupted()) {
          throw new InterruptedException("Interrupted while waiting for the membership library");
        }
      }
    } finally {
      if (reply == null) {
        Natives.abandon(operation);
      }
    }
    return Wire.Reader.ofReply(reply);
  }

  /**
   * Waits for the end of an operation, but if the thread is interrupted, lets the operation go on alone and returns, with
   * the interrupt flag set. An error that comes later is logged.
   *
   * @param operation the operation
   * @throws MembershipException if it failed
   */
  public static void awaitOrDetach(long operation) throws MembershipException {
    awaitUntil(operation, Long.MAX_VALUE);
  }

  /** As {@link #awaitOrDetach}, and returns when the time is over. */
  static void awaitOrDetach(long operation, int millis) throws MembershipException {
    awaitUntil(operation, System.nanoTime() + millis * 1_000_000L);
  }

  private static void awaitUntil(long operation, long deadlineNanos) throws MembershipException {
    byte[] reply;
    while ((reply = Natives.awaitResult(operation, SLICE_MILLIS)) == null) {
      if (Thread.currentThread().isInterrupted() || deadlineNanos - System.nanoTime() < 0) {
        detach(operation);
        return;
      }
    }
    Wire.Reader.ofReply(reply);
  }

  /** Somebody must take the reply, or the library keeps it for ever. Every operation has a deadline, so this ends. */
  private static void detach(long operation) {
    Thread thread = new Thread(() -> {
      byte[] reply = null;
      while (reply == null) {
        reply = Natives.awaitResult(operation, SLICE_MILLIS);
      }
      try {
        Wire.Reader.ofReply(reply);
      } catch (MembershipException | RuntimeException e) {
        LoggerFactory.getLogger(Operation.class).warn("What nobody waited for any more has failed", e);
      }
    }, DETACHED);
    thread.setDaemon(true);
    thread.start();
  }
}
