package alluxio.membership.bridge;

import alluxio.membership.bridge.internal.AsyncOperation;
import alluxio.membership.bridge.internal.Natives;

import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/** A listener that receives the changes of a cluster until this subscription is closed. */
public final class Subscription implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger("alluxio.membership.native.listener");
  /** The library limits a wait to a year. */
  private static final long WAIT_MILLIS = TimeUnit.DAYS.toMillis(365);

  private final long mManager;
  private final Consumer<? super Change> mListener;
  private final Executor mExecutor;
  /** The view that the listener knows. Only one task at a time uses it. */
  private ClusterView mKnown = ClusterView.EMPTY;
  private volatile boolean mClosed;
  private volatile CompletableFuture<ClusterView> mNext;

  Subscription(long manager, Consumer<? super Change> listener, Executor executor) {
    mManager = manager;
    mListener = listener;
    mExecutor = executor;
  }

  /** Starts the wait for a view that the listener does not know. */
  void start() {
    ClusterView known = mKnown;
    long version = known.getVersion();
    CompletableFuture<ClusterView> next = AsyncOperation.start(
        operation -> Natives.waitForChange(operation, mManager, version, version, WAIT_MILLIS),
        reply -> reply.isEmpty() ? null : ClusterView.read(reply, known));
    mNext = next;
    next.whenComplete(this::received);
    if (mClosed) {
      next.cancel(false);
    }
  }

  private void received(ClusterView view, Throwable failure) {
    if (mClosed) {
      return;
    }
    if (failure != null) {
      // A closed manager is the usual end.
      LOG.debug("A listener receives no more changes: {}", failure.toString());
      return;
    }
    try {
      mExecutor.execute(() -> report(view));
    } catch (RejectedExecutionException e) {
      LOG.warn("A listener receives no more changes, because its executor refused a task: {}",
          e.toString());
    }
  }

  private void report(ClusterView view) {
    if (view != null) {
      for (Change change : view.changesSince(mKnown)) {
        if (mClosed) {
          return;
        }
        try {
          mListener.accept(change);
        } catch (RuntimeException e) {
          LOG.warn("A listener failed at the change {}; it receives the next changes nevertheless",
              change, e);
        }
      }
      mKnown = view;
    }
    if (!mClosed) {
      start();
    }
  }

  /**
   * Ends the subscription. A call of the listener that is running continues, and is the last one.
   * Closing twice does nothing.
   */
  @Override
  public void close() {
    mClosed = true;
    CompletableFuture<ClusterView> next = mNext;
    if (next != null) {
      next.cancel(false);
    }
  }
}
