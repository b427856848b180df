package alluxio.membership.bridge;

/**
 * The failure of a membership operation.
 *
 * <p>The cause, if there is one, is a {@link java.util.concurrent.TimeoutException} if no answer
 * arrived in time, and an {@link java.io.IOException} otherwise. The message of the cause names the
 * endpoint, key or file, and its answer or problem.
 */
public final class MembershipException extends Exception {
  private static final long serialVersionUID = 1L;

  private final ErrorKind mKind;
  private final boolean mRetryable;

  /**
   * Creates an exception.
   *
   * @param kind the kind of the error
   * @param retryable whether the same call may succeed later
   * @param message the message
   * @param cause the cause, or null
   */
  public MembershipException(ErrorKind kind, boolean retryable, String message, Throwable cause) {
    super(message, cause);
    mKind = kind;
    mRetryable = retryable;
  }

  /**
   * Returns the kind of the error.
   *
   * @return the kind
   */
  public ErrorKind getKind() {
    return mKind;
  }

  /**
   * Returns whether the same call may succeed later without a correction.
   *
   * @return true if a retry may succeed
   */
  public boolean isRetryable() {
    return mRetryable;
  }
}
