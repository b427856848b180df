package alluxio.membership.bridge.internal;

/** A caller that the poll thread notifies when its operation has finished. */
abstract class Waiting {
  /** Notifies the caller. Runs on the poll thread, so it must not wait. */
  abstract void finished();
}
