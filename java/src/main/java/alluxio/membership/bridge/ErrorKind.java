package alluxio.membership.bridge;

/**
 * The category of an error, which tells a caller how to react.
 *
 * <p>Each kind has the same number in the Rust and C interfaces, in this order from 1.
 */
public enum ErrorKind {
  /** An argument is invalid, or the operation does not fit the worker's state. */
  INVALID_ARGUMENT(1),
  /** A property has an invalid value. Correct the configuration. */
  INVALID_CONFIG(2),
  /** A property without a default is not set. Set it. */
  MISSING_CONFIG(3),
  /** A file that the configuration names does not exist. */
  NOT_FOUND(4),
  /** Another worker has this identity. */
  ALREADY_EXISTS(5),
  /** A stored record that the operation needs is unreadable. */
  CORRUPT(6),
  /** etcd did not answer in time, or could not be reached. A retry may succeed. */
  UNAVAILABLE(7),
  /** etcd refused the user name or the password. */
  UNAUTHENTICATED(8),
  /** The etcd user lacks a permission. */
  PERMISSION_DENIED(9),
  /** A file could not be read. */
  IO(10),
  /** The manager was closed. Methods throw {@link IllegalStateException} for it. */
  CLOSED(11),
  /** The process was forked after the library's start. Does not happen in a JVM. */
  FORKED(12),
  /** A bug in the library. */
  INTERNAL(13),
  /** The system grants this process no more threads or file descriptors. A retry may succeed. */
  RESOURCE_EXHAUSTED(14);

  private final int mNumber;

  ErrorKind(int number) {
    mNumber = number;
  }

  int number() {
    return mNumber;
  }

  static ErrorKind of(int number) {
    for (ErrorKind kind : values()) {
      if (kind.mNumber == number) {
        return kind;
      }
    }
    throw new IllegalArgumentException("No error kind has number " + number);
  }
}
