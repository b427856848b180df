package alluxio.membership.bridge;

import java.util.List;

/**
 * All workers of a cluster at one revision; {@code all}, {@code live} and {@code failed} never contradict one another.
 * Immutable, and the same object for every caller as long as nothing changes.
 */
public final class ClusterView {
  private final long mVersion;
  private final long mRevision;
  private final List<Member> mAll;
  private final List<Member> mLive;
  private final List<Member> mFailed;
  private final List<SkippedRecord> mSkipped;

  /**
   * @param version the version, counted while the cluster stays open
   * @param revision the etcd revision
   * @param all every registered worker
   * @param live workers that renew their lease
   * @param failed registered workers whose lease has ended
   * @param skipped records that are not listed
   */
  public ClusterView(long version, long revision, List<Member> all, List<Member> live, List<Member> failed,
      List<SkippedRecord> skipped) {
    mVersion = version;
    mRevision = revision;
    mAll = all;
    mLive = live;
    mFailed = failed;
    mSkipped = skipped;
  }

  /**
   * @return a number that grows with each change, while the cluster stays open; it may begin anew when it is opened again
   */
  public long getVersion() {
    return mVersion;
  }

  /**
   * @return the etcd revision this view shows; 0 for a STATIC cluster
   */
  public long getRevision() {
    return mRevision;
  }

  /**
   * @return every registered worker, in the order of their keys (STATIC: of the hosts file); unmodifiable
   */
  public List<Member> getAllMembers() {
    return mAll;
  }

  /**
   * @return the workers that renew their lease; unmodifiable
   */
  public List<Member> getLiveMembers() {
    return mLive;
  }

  /**
   * @return the registered workers whose lease has ended; unmodifiable
   */
  public List<Member> getFailedMembers() {
    return mFailed;
  }

  /**
   * @return records that could not be read and are not listed; unmodifiable
   */
  public List<SkippedRecord> getSkippedRecords() {
    return mSkipped;
  }

  @Override
  public String toString() {
    return "version " + mVersion + ", revision " + mRevision + ": " + mAll;
  }
}
