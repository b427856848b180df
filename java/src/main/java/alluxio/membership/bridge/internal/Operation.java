package alluxio.membership.bridge.internal;

import alluxio.membership.bridge.ErrorKind;
import alluxio.membership.bridge.MembershipException;

import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;

/**
 * A native operation and the thread that waits for it.
 *
 * <p>The thread waits in Java, so that a virtual thread does not hold its carrier, and an interrupt
 * ends the wait at once. The poll thread wakes it. Everything that the wait needs is allocated
 * before the operation starts, and the library keeps the reply until it is released. An {@link
 * OutOfMemoryError} therefore reaches the caller and leaves nothing behind. This code uses no
 * lambda: a lambda that is linked while the heap is full fails for ever.
 */
public final class Operation extends Waiting implements AutoCloseable {
  private static final AtomicLong NEXT = new AtomicLong();
  static final ConcurrentMap<Long, Waiting> RUNNING = new ConcurrentHashMap<>();

  /**
   * How often a waiting thread looks for the reply itself, in case the poll thread fails to wake
   * it.
   */
  private static final long SLICE_MILLIS = 250;
  /**
   * How long a thread that is already interrupted waits for a result that needs no answer of etcd.
   */
  private static final long INTERRUPTED_MILLIS = 100;
  /** Operations end within their limits. The margin is for a machine that has no time for them. */
  private static final long MARGIN_MILLIS = 30_000;
  /** Only views have longer replies. */
  private static final int USUAL_LENGTH = 512;

  private final Long mId = newId();
  private final Thread mCaller = Thread.currentThread();
  private byte[] mReply = new byte[USUAL_LENGTH];
  private int mLength = -1;
  private boolean mDetached;
  private volatile boolean mFinished;

  /** Prepares an operation of the calling thread. */
  public Operation() {
    RUNNING.put(mId, this);
  }

  /**
   * Returns an id that this JVM has not used before.
   *
   * @return the id
   */
  public static long newId() {
    return (NativeLibrary.session() << Natives.SESSION_SHIFT) + NEXT.incrementAndGet();
  }

  /**
   * Returns the id under which to start the operation.
   *
   * @return the id
   */
  public long id() {
    return mId;
  }

  /**
   * Waits for the end of the operation. A thread that was interrupted before the call receives the
   * result of an operation that needs no answer of etcd.
   *
   * @param limitMillis how long the operation may take, as returned by the method that started it
   * @return its result
   * @throws MembershipException if it failed
   * @throws IllegalStateException if the manager is closed
   * @throws InterruptedException if the thread was interrupted
   */
  public Wire.Reader await(long limitMillis) throws MembershipException, InterruptedException {
    if (!finishes(limitMillis)) {
      Thread.interrupted();
      throw new InterruptedException("Interrupted while waiting for the membership library");
    }
    return result();
  }

  /**
   * Like {@link #await}, but an interrupt does not end the wait. The thread is still interrupted
   * afterwards.
   *
   * @param limitMillis how long the operation may take
   * @throws MembershipException if it failed
   */
  public void awaitUninterruptibly(long limitMillis) throws MembershipException {
    boolean interrupted = false;
    try {
      while (!finishes(limitMillis)) {
        interrupted |= Thread.interrupted();
      }
      result();
    } finally {
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
    }
  }

  /**
   * Like {@link #await}, but if the thread is interrupted, this returns with the interrupt flag
   * set, and the operation continues alone. The library then logs an error of the operation.
   *
   * @param limitMillis how long the operation may take
   * @throws MembershipException if it failed
   */
  public void awaitOrDetach(long limitMillis) throws MembershipException {
    mDetached = !finishes(limitMillis) && Natives.detach(mId);
    if (!mDetached) {
      mLength = Natives.fetch(mId, mReply);
      result();
    }
  }

  /** Drops the operation, and stops it if it is running and not detached. Allocates nothing. */
  @Override
  public void close() {
    if (!mDetached) {
      Natives.release(mId);
    }
    RUNNING.remove(mId);
  }

  /** Notifies the caller of the operation, if there is one. */
  static void finished(long id) {
    Waiting waiting = RUNNING.get(id);
    if (waiting != null) {
      waiting.finished();
    }
  }

  @Override
  void finished() {
    mFinished = true;
    LockSupport.unpark(mCaller);
  }

  /**
   * Waits for the end of the operation.
   *
   * @return false if the thread is interrupted
   */
  private boolean finishes(long limitMillis) throws MembershipException {
    boolean interrupted = Thread.interrupted();
    try {
      if (interrupted) {
        return finishesWithin(INTERRUPTED_MILLIS);
      }
      // Counts slices of time, because a JVM that was stopped for a while has not waited meanwhile.
      long millis = limitMillis >= Long.MAX_VALUE - MARGIN_MILLIS
          ? Long.MAX_VALUE : limitMillis + MARGIN_MILLIS;
      long slices = millis / SLICE_MILLIS;
      for (; slices > 0; slices--) {
        if (finishesWithin(SLICE_MILLIS)) {
          return true;
        }
        if (Thread.currentThread().isInterrupted()) {
          return false;
        }
      }
      throw new MembershipException(ErrorKind.INTERNAL, false,
          "The membership library has not answered within " + limitMillis + " ms and "
          + MARGIN_MILLIS + " ms more", null);
    } finally {
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
    }
  }

  /** Returns early if the thread is interrupted. */
  private boolean finishesWithin(long millis) {
    long deadline = System.nanoTime() + millis * 1_000_000;
    while (!mFinished) {
      long left = deadline - System.nanoTime();
      if (left <= 0 || Thread.currentThread().isInterrupted()) {
        break;
      }
      LockSupport.parkNanos(this, left);
    }
    mLength = Natives.fetch(mId, mReply);
    return mLength >= 0;
  }

  private Wire.Reader result() throws MembershipException {
    if (mLength > mReply.length) {
      mReply = new byte[mLength];
      Natives.fetch(mId, mReply);
    }
    return Wire.Reader.ofReply(mReply, mLength);
  }
}
