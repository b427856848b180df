package alluxio.membership.bridge;

/**
 * A membership operation failed. The cause, if there is one, is a {@link java.util.concurrent.TimeoutException} where no
 * answer came in time, else an {@link java.io.IOException}; its message says which endpoint, key or file is meant and what
 * it answered.
 */
public final class MembershipException extends Exception {
  private static final long serialVersionUID = 1L;

  private final ErrorKind mKind;
  private final boolean mRetryable;

  /**
   * @param kind what went wrong
   * @param retryable whether the same call may succeed later
   * @param message what was attempted
   * @param cause the reason below, or null
   */
  public MembershipException(ErrorKind kind, boolean retryable, String message, Throwable cause) {
    super(message, cause);
    mKind = kind;
    mRetryable = retryable;
  }

  /**
   * @return what went wrong
   */
  public ErrorKind getKind() {
    return mKind;
  }

  /**
   * @return whether the same call may succeed later without anybody correcting anything
   */
  public boolean isRetryable() {
    return mRetryable;
  }
}
