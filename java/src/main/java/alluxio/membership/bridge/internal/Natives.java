package alluxio.membership.bridge.internal;

/**
 * The native methods, bound by {@code src/jni} of the library. {@link Wire} describes the encoding
 * of arguments and replies.
 *
 * <p>Methods with a parameter {@code operation} start an operation under that id, and return how
 * many milliseconds it may take; see {@link Operation}. Only {@link #poll} and {@link
 * #awaitLogRecords} wait. No method allocates or throws.
 */
public final class Natives {
  /** Must equal the library's {@code INTERFACE}. */
  static final int INTERFACE = 4;
  /**
   * An id is the session's number, shifted by this, and a counter of this class. Must equal the
   * library's.
   */
  static final int SESSION_SHIFT = 40;

  private Natives() {}

  /**
   * Binds all other methods of this class if the library has the same interface, and returns the
   * length of the reply. The reply is the number of a session and the version.
   */
  static native int register(int interfaceNumber, byte[] reply);

  /** Opens a manager under an id that is not in use. */
  public static native long open(long operation, long manager, byte[] request);

  /** Closes a manager in the background, or stops opening it. */
  public static native void discard(long manager);

  /** Returns the version of the view in memory, or 0 if there is no view that is fresh enough. */
  public static native long currentVersion(long manager);

  /**
   * Starts an operation whose result is a view, without the members that the view of the known
   * version has, or empty if its version is the known one.
   */
  public static native long view(long operation, long manager, long knownVersion);

  /**
   * Starts an operation whose result is a view of a version greater than {@code version}, without
   * the members that the view of the known version has, or empty after the timeout.
   */
  public static native long waitForChange(long operation, long manager, long version,
      long knownVersion, long millis);

  /** Starts a join. {@code k8sDeployment}: 0 no, 1 yes, -1 as configured. */
  public static native long join(long operation, long manager, byte[] worker, int k8sDeployment);

  /**
   * Writes the status of a manager and returns its length. Writes nothing if the status is longer
   * than the array.
   */
  public static native int status(long manager, byte[] into);

  /** Starts an operation whose result is the version of a view, and its text. */
  public static native long showAllMembers(long operation, long manager);

  public static native long leaveWorker(long operation, long manager, byte[] identity);

  public static native long remove(long operation, long manager, byte[] identity);

  public static native long leave(long operation, long manager);

  /** Starts to close a manager. The id of the manager is invalid when this returns. */
  public static native long close(long operation, long manager);

  /** Closes all managers that are configured to leave when the process ends. */
  static native long leaveOnShutdown(long operation);

  /**
   * Waits for operations that have finished, and returns how many ids it wrote. It is also a sign
   * of life of this JVM, without which leases are not renewed.
   */
  static native int poll(long session, long[] finished, int millis);

  /**
   * Writes the reply of an operation and returns its length, or -1 while the operation is running.
   * Writes nothing if the reply is longer than the array.
   */
  static native int fetch(long operation, byte[] into);

  /** Drops an operation and its reply, and stops it if it is running. */
  static native void release(long operation);

  /**
   * Lets an operation continue without a caller; the library logs its error. Returns false if it
   * has already finished.
   */
  static native boolean detach(long operation);

  /**
   * Whether the session has neither managers nor operations, and the library keeps no worker
   * registered.
   */
  static native boolean isUnused(long session);

  /** Waits for log records. */
  static native boolean awaitLogRecords(int millis);

  /** Writes log records and returns the length of what it wrote. */
  static native int nextLogRecords(byte[] into);

  /** Sets the level: 0 is off, 1 errors, 2 warnings, 3 info, 4 debug, 5 trace. */
  static native void setLogLevel(int level);
}
