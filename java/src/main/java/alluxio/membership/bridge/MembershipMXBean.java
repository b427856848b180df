package alluxio.membership.bridge;

import java.util.List;

/**
 * The management interface of an open manager.
 *
 * <p>The object name is {@code alluxio.membership:type=Membership,cluster=...,manager=...} with the
 * name of the cluster and a number. The bean is removed when the manager is closed. Attributes are
 * read from memory, without a request to etcd.
 */
public interface MembershipMXBean {
  /**
   * Returns the name of the cluster, or the path of the hosts file.
   *
   * @return the name
   */
  String getCluster();

  /**
   * Returns the state of the view: STARTING before the first listing, FAILING while it cannot be
   * updated, and CURRENT otherwise.
   *
   * @return the state
   */
  String getState();

  /**
   * Returns the last error: why the view cannot be updated, or why an endpoint failed.
   *
   * @return the error, or null if there is none
   */
  String getLastError();

  /**
   * Returns the version of the view, or 0 before the first listing.
   *
   * @return the version
   */
  long getViewVersion();

  /**
   * Returns the seconds since the view was last compared with etcd, or -1 before the first listing.
   *
   * @return the age
   */
  double getViewAgeSeconds();

  /**
   * Returns the number of live workers.
   *
   * @return the number
   */
  int getLiveWorkers();

  /**
   * Returns the number of lost workers.
   *
   * @return the number
   */
  int getLostWorkers();

  /**
   * Returns the number of unreadable records.
   *
   * @return the number
   */
  int getSkippedRecords();

  /**
   * Returns how often all workers were listed.
   *
   * @return the count
   */
  long getListings();

  /**
   * Returns how often etcd opened a watch.
   *
   * @return the count
   */
  long getWatches();

  /**
   * Returns how often a comparison with etcd showed that the view is complete.
   *
   * @return the count
   */
  long getChecks();

  /**
   * Returns how often a comparison with etcd found changes that were not delivered yet.
   *
   * @return the count
   */
  long getChecksBehind();

  /**
   * Returns how often etcd did not answer a comparison.
   *
   * @return the count
   */
  long getChecksFailed();

  /**
   * Returns how many listings showed that etcd was wiped or restored.
   *
   * @return the count
   */
  long getOtherHistories();

  /**
   * Returns the endpoints of etcd and their health.
   *
   * @return the endpoints
   */
  List<EndpointStatus> getEndpoints();

  /**
   * Returns the workers that this process registers, and their leases.
   *
   * @return the registrations
   */
  List<Registration> getRegistrations();

  /** A registration in the types that management tools show. */
  final class Registration {
    private final RegistrationStatus mStatus;

    Registration(RegistrationStatus status) {
      mStatus = status;
    }

    /**
     * Returns the identity of the worker.
     *
     * @return the identity
     */
    public String getIdentity() {
      return mStatus.getIdentity().toString();
    }

    /**
     * Returns the state of the registration.
     *
     * @return the state
     */
    public RegistrationState getState() {
      return mStatus.getState();
    }

    /**
     * Returns the id of the lease in etcd, in hexadecimal like in {@code etcdctl}.
     *
     * @return the id
     */
    public String getLeaseId() {
      return Long.toHexString(mStatus.getLeaseId());
    }

    /**
     * Returns the seconds until the lease ends if it is not renewed.
     *
     * @return the time left
     */
    public double getLeaseLeftSeconds() {
      return mStatus.getLeaseLeft().toMillis() / 1000.0;
    }

    /**
     * Returns how often the worker was registered again.
     *
     * @return the count
     */
    public long getReRegistrations() {
      return mStatus.getReRegistrations();
    }

    /**
     * Returns how often no renewal was answered for two thirds of the lease.
     *
     * @return the count
     */
    public long getLateRenewals() {
      return mStatus.getLateRenewals();
    }

    /**
     * Returns whether another process has registered the same identity and is listed instead.
     *
     * @return true if the registration is displaced
     */
    public boolean isDisplaced() {
      return mStatus.isDisplaced();
    }
  }
}
