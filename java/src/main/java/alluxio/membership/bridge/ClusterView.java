package alluxio.membership.bridge;

import alluxio.membership.bridge.internal.Wire;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;

/**
 * All workers of a cluster at one revision. Immutable, and the same object for every caller while
 * nothing changes.
 *
 * <p>The lists never contradict one another. All lists are unmodifiable.
 */
public final class ClusterView {
  /** The view of a caller that knows no worker. */
  static final ClusterView EMPTY = new ClusterView(0, 0, Collections.emptyList(),
      Collections.emptyList(), Collections.emptyList(), Collections.emptyList(), 0);

  private final long mVersion;
  private final long mRevision;
  private final List<Member> mAll;
  private final List<Member> mLive;
  private final List<Member> mLost;
  private final List<SkippedRecord> mSkipped;
  private final int mSkippedMore;

  private ClusterView(long version, long revision, List<Member> all, List<Member> live,
      List<Member> lost, List<SkippedRecord> skipped, int skippedMore) {
    mVersion = version;
    mRevision = revision;
    mAll = all;
    mLive = live;
    mLost = lost;
    mSkipped = skipped;
    mSkippedMore = skippedMore;
  }

  static ClusterView read(Wire.Reader reply) {
    long version = reply.int64();
    long revision = reply.int64();
    Member[] distinct = new Member[reply.int32()];
    for (int i = 0; i < distinct.length; i++) {
      Worker worker = Worker.read(reply);
      distinct[i] = new Member(worker, WorkerState.of(reply.int32()));
    }
    List<Member> all = members(reply, distinct);
    List<Member> live = members(reply, distinct);
    List<Member> lost = members(reply, distinct);
    int count = reply.int32();
    List<SkippedRecord> skipped = new ArrayList<>(count);
    for (int i = 0; i < count; i++) {
      skipped.add(new SkippedRecord(reply.text(), reply.text()));
    }
    return new ClusterView(version, revision, all, live, lost,
        Collections.unmodifiableList(skipped), reply.int32());
  }

  private static List<Member> members(Wire.Reader reply, Member[] distinct) {
    Member[] members = new Member[reply.int32()];
    for (int i = 0; i < members.length; i++) {
      members[i] = distinct[reply.int32()];
    }
    return Collections.unmodifiableList(Arrays.asList(members));
  }

  /**
   * Returns the version, which grows with each change while the cluster stays open.
   *
   * @return the version; it may restart when the cluster is opened again
   */
  public long getVersion() {
    return mVersion;
  }

  /**
   * Returns the revision of etcd that this view shows, or 0 for a STATIC cluster.
   *
   * @return the revision
   */
  public long getRevision() {
    return mRevision;
  }

  /**
   * Returns every registered worker, in the order of the keys or of the hosts file.
   *
   * @return the members
   */
  public List<Member> getAllMembers() {
    return mAll;
  }

  /**
   * Returns the workers that renew their leases.
   *
   * @return the members
   */
  public List<Member> getLiveMembers() {
    return mLive;
  }

  /**
   * Returns the registered workers whose leases have ended.
   *
   * @return the members
   */
  public List<Member> getLostMembers() {
    return mLost;
  }

  /**
   * Returns the unreadable records, which are not listed, up to the first hundred.
   *
   * @return the records
   */
  public List<SkippedRecord> getSkippedRecords() {
    return mSkipped;
  }

  /**
   * Returns the number of all unreadable records, which may be more than a hundred.
   *
   * @return the number
   */
  public int getSkippedCount() {
    return mSkipped.size() + mSkippedMore;
  }

  /**
   * Finds a registered worker.
   *
   * @param identity the identity of the worker
   * @return the member, or empty if the worker is not registered
   */
  public Optional<Member> find(WorkerIdentity identity) {
    return Optional.ofNullable(in(mAll, identity));
  }

  /**
   * Returns whether a worker is live.
   *
   * @param identity the identity of the worker
   * @return true if the worker renews its lease
   */
  public boolean isLive(WorkerIdentity identity) {
    return in(mLive, identity) != null;
  }

  private static Member in(List<Member> members, WorkerIdentity identity) {
    for (Member member : members) {
      if (member.getWorker().getIdentity().equals(identity)) {
        return member;
      }
    }
    return null;
  }

  /**
   * Returns the changes since an older view of the same cluster, in the order of the identities.
   *
   * <p>A live worker that is not registered counts too, as for a listener.
   *
   * @param older the older view
   * @return the changes
   */
  public List<Change> changesSince(ClusterView older) {
    Map<WorkerIdentity, Member> before = older.byIdentity();
    Map<WorkerIdentity, Member> now = byIdentity();
    Map<WorkerIdentity, Change> changes = new TreeMap<>();
    before.forEach((identity, member) -> {
      if (!now.containsKey(identity)) {
        changes.put(identity, new Change(ChangeKind.REMOVED, member, this));
      }
    });
    now.forEach((identity, member) -> {
      ChangeKind kind = kindOf(before.get(identity), member);
      if (kind != null) {
        changes.put(identity, new Change(kind, member, this));
      }
    });
    return Collections.unmodifiableList(new ArrayList<>(changes.values()));
  }

  private static ChangeKind kindOf(Member before, Member now) {
    if (before == null) {
      return ChangeKind.ADDED;
    }
    if (before.getState() != now.getState()) {
      return now.getState() == WorkerState.LIVE ? ChangeKind.LIVE : ChangeKind.LOST;
    }
    return before.getWorker().equals(now.getWorker()) ? null : ChangeKind.MOVED;
  }

  /** Registered workers, and live workers that are not registered. */
  private Map<WorkerIdentity, Member> byIdentity() {
    Map<WorkerIdentity, Member> members = new TreeMap<>();
    mLive.forEach(member -> members.put(member.getWorker().getIdentity(), member));
    mAll.forEach(member -> members.put(member.getWorker().getIdentity(), member));
    return members;
  }

  @Override
  public String toString() {
    return "version " + mVersion + ", revision " + mRevision + ": " + mAll;
  }
}
