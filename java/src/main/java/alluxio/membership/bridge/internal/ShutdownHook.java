package alluxio.membership.bridge.internal;

import alluxio.membership.bridge.MembershipException;

import org.slf4j.LoggerFactory;

/**
 * Ends this process's registrations when the JVM ends in an orderly way, so that its workers are listed as lost at once.
 * Managers whose configuration says {@code alluxio.membership.native.leave.on.shutdown=false} are left alone.
 */
public final class ShutdownHook {
  private static final int LIMIT_MILLIS = 5000;

  private static boolean sInstalled;

  private ShutdownHook() {}

  /** Installs the hook, once. */
  public static synchronized void install() {
    if (!sInstalled) {
      try {
        Runtime.getRuntime().addShutdownHook(new Thread(ShutdownHook::run, "alluxio-membership-shutdown"));
      } catch (IllegalStateException e) {
        // The JVM is shutting down already; registrations made from now on end with their leases.
        LoggerFactory.getLogger(ShutdownHook.class).debug("No shutdown hook: {}", e.getMessage());
      }
      sInstalled = true;
    }
  }

  private static void run() {
    try {
      Operation.awaitOrDetach(Natives.leaveOnShutdown(), LIMIT_MILLIS);
    } catch (MembershipException | RuntimeException e) {
      LoggerFactory.getLogger(ShutdownHook.class)
          .warn("Not every worker of this process could leave; they are listed until their leases end", e);
    }
  }
}
