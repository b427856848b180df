package alluxio.membership.bridge;

/** What happened to a worker between two views. */
public enum ChangeKind {
  /** The worker is new. */
  ADDED,
  /** The worker is no longer listed. */
  REMOVED,
  /** The worker was lost and is live again. */
  LIVE,
  /** The worker was live and is lost. */
  LOST,
  /** The worker has another address. Its state did not change. */
  MOVED
}
