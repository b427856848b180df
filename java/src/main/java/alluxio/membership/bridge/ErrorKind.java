package alluxio.membership.bridge;

/**
 * The kind of an error, by what the caller can do about it.
 *
 * <p>Each kind has the same number in the Rust and C interfaces, in this order from 1.
 */
public enum ErrorKind {
  /** An argument cannot be used, or the operation does not fit the worker's state. */
  INVALID_ARGUMENT(1),
  /** A property has a value that cannot be used. Correct the configuration. */
  INVALID_CONFIG(2),
  /** A property without a default is not set. Set it. */
  MISSING_CONFIG(3),
  /** A file named by the configuration does not exist. */
  NOT_FOUND(4),
  /** Another worker holds this identity. */
  ALREADY_EXISTS(5),
  /** A stored record that the operation needs cannot be read. */
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
