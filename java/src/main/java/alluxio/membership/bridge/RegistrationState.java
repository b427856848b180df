package alluxio.membership.bridge;

/** The state of a registration. */
public enum RegistrationState {
  /** The first registration is in progress. */
  JOINING,
  /** The lease is renewed in time. */
  REGISTERED,
  /** No renewal was answered for two thirds of the lease. */
  SUSPECT,
  /** The lease has ended, or may have ended. Others may list the worker as lost. */
  LOST,
  /** The lease has ended or a key is missing, and the library registers the worker again. */
  REJOINING,
  /** The registration ended on purpose. */
  LEFT
}
