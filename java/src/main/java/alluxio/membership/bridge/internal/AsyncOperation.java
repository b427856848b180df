package alluxio.membership.bridge.internal;

import alluxio.membership.bridge.MembershipException;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.LongConsumer;

/**
 * A native operation whose result completes a future.
 *
 * <p>The future completes on a thread of the common pool, and never on the poll thread, where the
 * caller's code could delay the renewal of leases.
 *
 * @param <T> the type of the result
 */
public final class AsyncOperation<T> extends Waiting implements Runnable {
  /** Set when an operation could not be passed to the pool. */
  private static volatile boolean sMissed;

  private static final byte[] NOTHING = new byte[0];
  private static final int USUAL_LENGTH = 512;

  private final Long mId = Operation.newId();
  private final Decoder<T> mDecoder;
  private final CompletableFuture<T> mFuture = new CompletableFuture<>();
  private final AtomicBoolean mHandedOver = new AtomicBoolean();
  private volatile boolean mFinished;

  private AsyncOperation(Decoder<T> decoder) {
    mDecoder = decoder;
  }

  /**
   * Reads the result of an operation.
   *
   * @param <T> the type of the result
   */
  public interface Decoder<T> {
    /**
     * Reads a result.
     *
     * @param reply the reply of the library
     * @return the result
     * @throws MembershipException if the reply is an error
     */
    T decode(Wire.Reader reply) throws MembershipException;
  }

  /**
   * Starts an operation.
   *
   * @param <T> the type of the result
   * @param start starts the native operation under the id it receives
   * @param decoder reads the result
   * @return the future of the result; cancelling it stops the operation
   */
  public static <T> CompletableFuture<T> start(LongConsumer start, Decoder<T> decoder) {
    AsyncOperation<T> operation = new AsyncOperation<>(decoder);
    operation.mFuture.whenComplete((result, failure) -> operation.end());
    Operation.RUNNING.put(operation.mId, operation);
    boolean started = false;
    try {
      start.accept(operation.mId);
      Background.ensureRunning();
      // Also if the operation could not be started. In that case its reply has the reason.
      if (Natives.fetch(operation.mId, NOTHING) >= 0) {
        operation.finished();
      }
      started = true;
    } finally {
      if (!started) {
        operation.end();
      }
    }
    return operation.mFuture;
  }

  /**
   * Passes operations to the pool again that it did not accept. Called by the poll thread when it
   * has time.
   */
  static void retry() {
    if (sMissed) {
      sMissed = false;
      for (Waiting waiting : Operation.RUNNING.values()) {
        if (waiting instanceof AsyncOperation && ((AsyncOperation<?>) waiting).mFinished) {
          waiting.finished();
        }
      }
    }
  }

  @Override
  void finished() {
    mFinished = true;
    if (!mHandedOver.compareAndSet(false, true)) {
      return;
    }
    boolean accepted = false;
    try {
      CompletableFuture.runAsync(this);
      accepted = true;
    } finally {
      if (!accepted) {
        mHandedOver.set(false);
        sMissed = true;
      }
    }
  }

  /** Reads the reply and completes the future. */
  @Override
  public void run() {
    T result;
    try {
      byte[] reply = new byte[USUAL_LENGTH];
      int length = Natives.fetch(mId, reply);
      if (length > reply.length) {
        reply = new byte[length];
        length = Natives.fetch(mId, reply);
      }
      result = mDecoder.decode(Wire.Reader.ofReply(reply, length));
    } catch (Throwable t) {
      mFuture.completeExceptionally(t);
      return;
    }
    mFuture.complete(result);
  }

  private void end() {
    Natives.release(mId);
    Operation.RUNNING.remove(mId);
  }
}
