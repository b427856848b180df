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

  /**
   * @return the number of this state
   */
  public int number() {
    return mNumber;
  }

  /**
   * @param number the number of a state
   * @return the state
   * @throws IllegalArgumentException if no state has this number
   */
  public static WorkerState of(int number) {
    for (WorkerState state : values()) {
      if (state.mNumber == number) {
        return state;
      }
    }
    throw new IllegalArgumentException("No worker state has number " + number);
  }
}
