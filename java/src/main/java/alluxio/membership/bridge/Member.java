package alluxio.membership.bridge;

import java.util.Objects;

/** A worker and its state in a view. Immutable. */
public final class Member {
  private final Worker mWorker;
  private final WorkerState mState;

  Member(Worker worker, WorkerState state) {
    mWorker = Objects.requireNonNull(worker, "worker");
    mState = Objects.requireNonNull(state, "state");
  }

  /**
   * Returns the identity and the addresses of the worker.
   *
   * @return the worker
   */
  public Worker getWorker() {
    return mWorker;
  }

  /**
   * Returns the state of the worker in the view.
   *
   * @return the state
   */
  public WorkerState getState() {
    return mState;
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof Member
        && mWorker.equals(((Member) other).mWorker)
        && mState == ((Member) other).mState;
  }

  @Override
  public int hashCode() {
    return Objects.hash(mWorker, mState);
  }

  @Override
  public String toString() {
    return mWorker + " " + mState;
  }
}
