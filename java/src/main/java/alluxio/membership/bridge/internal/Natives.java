package alluxio.membership.bridge.internal;

/**
 * The native methods, bound by {@code src/jni} of the library. {@link Wire} says how arguments and replies are encoded.
 * Methods that return {@code long}, except {@link #currentVersion}, start an operation whose id they return; see
 * {@link Operation}.
 */
public final class Natives {
  /** Must equal the library's {@code INTERFACE}. */
  static final int INTERFACE = 1;

  private Natives() {}

  /** Binds all other methods of this class, if the library has the same interface; the reply is its version. */
  static native byte[] register(int interfaceNumber);

  /** The reply is the id of a manager. */
  public static native byte[] open(byte[] properties);

  /** The version of the view that is in memory; 0 if there is none, or none that is fresh enough. */
  public static native long currentVersion(long manager);

  /** The result is a view, or empty if its version is the known one. */
  public static native long view(long manager, long knownVersion);

  /** The result is a view, or empty when the time is over. */
  public static native long waitForChange(long manager, long version, long millis);

  /** {@code k8sDeployment}: 0 no, 1 yes, -1 as configured. */
  public static native long join(long manager, byte[] worker, int k8sDeployment);

  /** The result is a text. */
  public static native long showAllMembers(long manager);

  public static native long stopHeartBeat(long manager, byte[] identity);

  public static native long decommission(long manager, byte[] identity);

  public static native long leave(long manager);

  /** The id of the manager is not valid any more when this returns. */
  public static native long close(long manager);

  /** Ends the registrations of all managers that are configured to leave when the process ends. */
  static native long leaveOnShutdown();

  /** A sign of life of this JVM, without which leases are not renewed. */
  static native void beat();

  /** The reply of an operation, or null if it is still under way after this time. A reply is given once. */
  static native byte[] awaitResult(long operation, int millis);

  /** Stops an operation; does nothing if it is over. */
  static native void abandon(long operation);

  /** Log records as soon as there are any, or null when the time is over. */
  static native byte[] nextLogRecords(int millis);

  /** 0 is off, 1 errors, 2 warnings, 3 info, 4 debug, 5 trace. */
  static native void setLogLevel(int level);
}
