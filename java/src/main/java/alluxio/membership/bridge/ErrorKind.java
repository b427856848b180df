package alluxio.membership.bridge;

/**
 * What went wrong, in terms of what a caller can do about it. The numbers are the same in the Rust and C interfaces and
 * never change.
 */
public enum ErrorKind {
  /** An argument cannot be used, or the operation does not fit the worker's state. Not worth repeating. */
  INVALID_ARGUMENT(1),
  /** A property has a value that cannot be used. Correct the configuration. */
  INVALID_CONFIG(2),
  /** A property without a default is not set. Set it. */
  MISSING_CONFIG(3),
  /** A file named by the configuration does not exist. */
  NOT_FOUND(4),
  /** Another worker holds this identity. */
  ALREADY_EXISTS(5),
  /** A stored record that had to be understood could not be. */
  CORRUPT(6),
  /** etcd did not answer, or not in time. May be repeated. */
  UNAVAILABLE(7),
  /** etcd refused the user name or the password. */
  UNAUTHENTICATED(8),
  /** The etcd user lacks a permission. */
  PERMISSION_DENIED(9),
  /** A file could not be read. */
  IO(10),
  /** The manager was closed; methods throw {@link IllegalStateException} for it. */
  CLOSED(11),
  /** The process was forked after the library's start. Does not happen in a JVM. */
  FORKED(12),
  /** A bug in the library. */
  INTERNAL(13),
  /** The system grants this process no more threads or file descriptors. May be repeated. */
  RESOURCE_EXHAUSTED(14);

  private final int mNumber;

  ErrorKind(int number) {
    mNumber = number;
  }

  /**
   * @return the number of this kind
   */
  public int number() {
    return mNumber;
  }

  /**
   * @param number the number of a kind
   * @return the kind
   * @throws IllegalArgumentException if no kind has this number
   */
  public static ErrorKind of(int number) {
    for (ErrorKind kind : values()) {
      if (kind.mNumber == number) {
        return kind;
      }
    }
    throw new IllegalArgumentException("No error kind has number " + number);
  }
}
