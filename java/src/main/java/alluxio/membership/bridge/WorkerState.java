package alluxio.membership.bridge;

/** The state of a worker in a view. */
public enum WorkerState {
  /** Registered and renewing its lease. */
  LIVE(1),
  /** Registered, but its lease has ended. */
  LOST(2);

  private final int mNumber;

  WorkerState(int number) {
    mNumber = number;
  }

  int number() {
    return mNumber;
  }

  static WorkerState of(int number) {
    for (WorkerState state : values()) {
      if (state.mNumber == number) {
        return state;
      }
    }
    throw new IllegalArgumentException("No worker state has number " + number);
  }
}
