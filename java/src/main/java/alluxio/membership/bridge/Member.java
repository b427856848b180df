package alluxio.membership.bridge;

import java.util.Objects;

/** A worker in a view, and its state there. Immutable. */
public final class Member {
  private final Worker mWorker;
  private final WorkerState mState;

  /**
   * @param worker who and where
   * @param state its state
   */
  public Member(Worker worker, WorkerState state) {
    mWorker = Objects.requireNonNull(worker, "worker");
    mState = Objects.requireNonNull(state, "state");
  }

  /**
   * @return who and where
   */
  public Worker getWorker() {
    return mWorker;
  }

  /**
   * @return live or lost, at the view's revision
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
