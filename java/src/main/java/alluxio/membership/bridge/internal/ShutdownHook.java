package alluxio.membership.bridge.internal;

import alluxio.membership.bridge.MembershipException;

import org.slf4j.LoggerFactory;

/**
 * Ends this process's registrations when the JVM exits in an orderly way, so that its workers are
 * listed as lost at once. Does not affect managers with {@code
 * alluxio.membership.native.leave.on.shutdown=false}.
 */
final class ShutdownHook extends Thread {
  ShutdownHook() {
    super("alluxio-membership-shutdown");
  }

  @Override
  public void run() {
    try (Operation operation = new Operation()) {
      operation.awaitUninterruptibly(Natives.leaveOnShutdown(operation.id()));
    } catch (MembershipException | RuntimeException e) {
      LoggerFactory.getLogger(ShutdownHook.class)
          .warn("A worker of this process could not leave; it is listed until its lease ends", e);
    }
    LogThread.flush();
  }
}
