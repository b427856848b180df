package alluxio.membership.bridge;

import alluxio.membership.bridge.internal.Wire;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Optional;

/**
 * The status of a membership manager, as far as this process knows it without a request. Immutable.
 *
 * <p>The counters are shared by all managers of the cluster in this process.
 */
public final class MembershipStatus {
  private static final RegistrationState[] STATES = RegistrationState.values();

  private final String mCluster;
  private final long mViewVersion;
  private final long mViewAgeMillis;
  private final String mViewError;
  private final int mLiveWorkers;
  private final int mLostWorkers;
  private final int mSkippedRecords;
  private final long mListings;
  private final long mWatches;
  private final long mChecks;
  private final long mChecksBehind;
  private final long mChecksFailed;
  private final long mOtherHistories;
  private final List<EndpointStatus> mEndpoints;
  private final List<RegistrationStatus> mRegistrations;

  private MembershipStatus(Wire.Reader reply) {
    mCluster = reply.text();
    mViewVersion = reply.int64();
    mViewAgeMillis = reply.int64();
    mViewError = reply.text();
    mLiveWorkers = reply.int32();
    mLostWorkers = reply.int32();
    mSkippedRecords = reply.int32();
    mListings = reply.int64();
    mWatches = reply.int64();
    mChecks = reply.int64();
    mChecksBehind = reply.int64();
    mChecksFailed = reply.int64();
    mOtherHistories = reply.int64();
    int endpoints = reply.int32();
    List<EndpointStatus> endpointList = new ArrayList<>(endpoints);
    for (int i = 0; i < endpoints; i++) {
      endpointList.add(new EndpointStatus(reply.text(), reply.bool(), reply.int64(), reply.int64(),
          reply.text()));
    }
    mEndpoints = Collections.unmodifiableList(endpointList);
    int registrations = reply.int32();
    List<RegistrationStatus> registrationList = new ArrayList<>(registrations);
    for (int i = 0; i < registrations; i++) {
      registrationList.add(new RegistrationStatus(WorkerIdentity.ofCanonical(reply.text()),
          STATES[reply.int32() - 1], reply.int64(), Duration.ofMillis(reply.int64()),
          reply.int64(), reply.int64(), reply.bool()));
    }
    mRegistrations = Collections.unmodifiableList(registrationList);
  }

  static MembershipStatus read(Wire.Reader reply) {
    return new MembershipStatus(reply);
  }

  /**
   * Returns the name of the cluster, or the path of the hosts file.
   *
   * @return the name
   */
  public String getCluster() {
    return mCluster;
  }

  /**
   * Returns the version of the view in memory, or 0 before the first listing.
   *
   * @return the version
   */
  public long getViewVersion() {
    return mViewVersion;
  }

  /**
   * Returns the time since the view in memory was last compared with etcd.
   *
   * @return the age, or empty before the first listing
   */
  public Optional<Duration> getViewAge() {
    return mViewAgeMillis < 0 ? Optional.empty() : Optional.of(Duration.ofMillis(mViewAgeMillis));
  }

  /**
   * Returns why the view in memory cannot be updated at present.
   *
   * @return the reason, or empty if the view is updated
   */
  public Optional<String> getViewError() {
    return Optional.ofNullable(mViewError);
  }

  /**
   * Returns the number of live workers in the view.
   *
   * @return the number
   */
  public int getLiveWorkers() {
    return mLiveWorkers;
  }

  /**
   * Returns the number of lost workers in the view.
   *
   * @return the number
   */
  public int getLostWorkers() {
    return mLostWorkers;
  }

  /**
   * Returns the number of unreadable records, which are not listed.
   *
   * @return the number
   */
  public int getSkippedRecords() {
    return mSkippedRecords;
  }

  /**
   * Returns how often all workers were listed: first when the manager was used, and later whenever
   * changes may have been lost.
   *
   * @return the count
   */
  public long getListings() {
    return mListings;
  }

  /**
   * Returns how often etcd opened a watch: after each listing, and after each watch that broke.
   *
   * @return the count
   */
  public long getWatches() {
    return mWatches;
  }

  /**
   * Returns how often a comparison with etcd showed that the view is complete.
   *
   * @return the count
   */
  public long getChecks() {
    return mChecks;
  }

  /**
   * Returns how often a comparison with etcd found changes that the watch had not delivered yet.
   *
   * @return the count
   */
  public long getChecksBehind() {
    return mChecksBehind;
  }

  /**
   * Returns how often etcd did not answer a comparison.
   *
   * @return the count
   */
  public long getChecksFailed() {
    return mChecksFailed;
  }

  /**
   * Returns how many listings showed that etcd was wiped, or restored from a backup.
   *
   * @return the count
   */
  public long getOtherHistories() {
    return mOtherHistories;
  }

  /**
   * Returns the configured endpoints of etcd. A STATIC cluster has none.
   *
   * @return the endpoints; unmodifiable
   */
  public List<EndpointStatus> getEndpoints() {
    return mEndpoints;
  }

  /**
   * Returns the workers that this process registers in the cluster, through any manager.
   *
   * @return the registrations; unmodifiable
   */
  public List<RegistrationStatus> getRegistrations() {
    return mRegistrations;
  }

  /**
   * Finds the registration of a worker.
   *
   * @param identity the identity of the worker
   * @return the registration, or empty if this process has not registered the worker
   */
  public Optional<RegistrationStatus> findRegistration(WorkerIdentity identity) {
    return mRegistrations.stream().filter(each -> each.getIdentity().equals(identity)).findFirst();
  }

  @Override
  public String toString() {
    return "cluster " + mCluster + ", version " + mViewVersion + ", " + mLiveWorkers + " live, "
        + mLostWorkers + " lost, endpoints " + mEndpoints + ", registrations " + mRegistrations;
  }
}
