package alluxio.membership.bridge;

import java.time.Duration;

/** The status of a worker that this process registers. Immutable. */
public final class RegistrationStatus {
  private final WorkerIdentity mIdentity;
  private final RegistrationState mState;
  private final long mLeaseId;
  private final Duration mLeaseLeft;
  private final long mLeases;
  private final long mLateRenewals;
  private final boolean mDisplaced;

  RegistrationStatus(WorkerIdentity identity, RegistrationState state, long leaseId,
      Duration leaseLeft, long leases, long lateRenewals, boolean displaced) {
    mIdentity = identity;
    mState = state;
    mLeaseId = leaseId;
    mLeaseLeft = leaseLeft;
    mLeases = leases;
    mLateRenewals = lateRenewals;
    mDisplaced = displaced;
  }

  /**
   * Returns the identity of the worker.
   *
   * @return the identity
   */
  public WorkerIdentity getIdentity() {
    return mIdentity;
  }

  /**
   * Returns the state of the registration.
   *
   * @return the state
   */
  public RegistrationState getState() {
    return mState;
  }

  /**
   * Returns the id of the lease in etcd, or 0 while there is no lease.
   *
   * @return the id
   */
  public long getLeaseId() {
    return mLeaseId;
  }

  /**
   * Returns the time until the lease ends if it is not renewed.
   *
   * @return the time left, zero without a lease
   */
  public Duration getLeaseLeft() {
    return mLeaseLeft;
  }

  /**
   * Returns how often the library registered the worker again after its registration was lost.
   *
   * @return the count
   */
  public long getReRegistrations() {
    return Math.max(0, mLeases - 1);
  }

  /**
   * Returns how often no renewal was answered for two thirds of the lease.
   *
   * @return the count
   */
  public long getLateRenewals() {
    return mLateRenewals;
  }

  /**
   * Returns whether another process has registered the same identity and is listed instead.
   *
   * @return true if the registration is displaced
   */
  public boolean isDisplaced() {
    return mDisplaced;
  }

  @Override
  public String toString() {
    return mIdentity + " " + mState + ", lease " + Long.toHexString(mLeaseId);
  }
}
