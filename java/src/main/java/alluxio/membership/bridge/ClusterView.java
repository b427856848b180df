package alluxio.membership.bridge;

import alluxio.membership.bridge.internal.Wire;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/**
 * All workers of a cluster at one revision. Immutable, and the same object for every caller while
 * nothing changes.
 *
 * <p>The lists never contradict one another. All lists are unmodifiable.
 */
public final class ClusterView {
  /** The view of a caller that knows no worker. */
  static final ClusterView EMPTY =
      new ClusterView(0, 0, new Chunk[0], Collections.emptyList(), 0);

  private final long mVersion;
  private final long mRevision;
  private final Chunk[] mChunks;
  private final List<Member> mAll;
  private final List<Member> mLive;
  private final List<Member> mLost;
  private final List<SkippedRecord> mSkipped;
  private final int mSkippedMore;

  private ClusterView(long version, long revision, Chunk[] chunks, List<SkippedRecord> skipped,
      int skippedMore) {
    mVersion = version;
    mRevision = revision;
    mChunks = chunks;
    Member[][] all = new Member[chunks.length][];
    Member[][] live = new Member[chunks.length][];
    Member[][] lost = new Member[chunks.length][];
    for (int i = 0; i < chunks.length; i++) {
      all[i] = chunks[i].mAll;
      live[i] = chunks[i].mLive;
      lost[i] = chunks[i].mLost;
    }
    mAll = new ChunkedList(all);
    mLive = new ChunkedList(live);
    mLost = new ChunkedList(lost);
    mSkipped = skipped;
    mSkippedMore = skippedMore;
  }

  /**
   * Reads a view.
   *
   * @param reply the reply of the library
   * @param known the view that the library was told to be known; the new view shares its members
   */
  static ClusterView read(Wire.Reader reply, ClusterView known) {
    long version = reply.int64();
    long revision = reply.int64();
    Chunk[] chunks = new Chunk[reply.int32()];
    int next = 0;
    for (int i = 0; i < chunks.length; i++) {
      long id = reply.int64();
      if (reply.bool()) {
        chunks[i] = Chunk.read(id, reply);
      } else {
        while (known.mChunks[next].mId != id) {
          next++;
        }
        chunks[i] = known.mChunks[next];
      }
    }
    int count = reply.int32();
    List<SkippedRecord> skipped = new ArrayList<>(count);
    for (int i = 0; i < count; i++) {
      skipped.add(new SkippedRecord(reply.text(), reply.text()));
    }
    return new ClusterView(version, revision, chunks, Collections.unmodifiableList(skipped),
        reply.int32());
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
    Map<WorkerIdentity, Member> before = byIdentity(older.mChunks, mChunks);
    Map<WorkerIdentity, Member> now = byIdentity(mChunks, older.mChunks);
    List<Change> changes = new ArrayList<>();
    before.forEach((identity, member) -> {
      if (!now.containsKey(identity)) {
        changes.add(new Change(ChangeKind.REMOVED, member, this));
      }
    });
    now.forEach((identity, member) -> {
      ChangeKind kind = kindOf(before.get(identity), member);
      if (kind != null) {
        changes.add(new Change(kind, member, this));
      }
    });
    changes.sort(Comparator.comparing(change -> change.getMember().getWorker().getIdentity()));
    return Collections.unmodifiableList(changes);
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

  /**
   * Returns the members of the chunks that are not among the others: registered workers, and live
   * workers that are not registered. A chunk that is in both views holds the same workers in both.
   */
  private static Map<WorkerIdentity, Member> byIdentity(Chunk[] chunks, Chunk[] others) {
    Set<Chunk> shared = new HashSet<>(Arrays.asList(others));
    Map<WorkerIdentity, Member> members = new HashMap<>();
    for (Chunk chunk : chunks) {
      if (!shared.contains(chunk)) {
        for (Member member : chunk.mLive) {
          members.put(member.getWorker().getIdentity(), member);
        }
        for (Member member : chunk.mAll) {
          members.put(member.getWorker().getIdentity(), member);
        }
      }
    }
    return members;
  }

  @Override
  public String toString() {
    return "version " + mVersion + ", revision " + mRevision + ": " + mAll;
  }

  /** Some members that follow each other. Views that follow each other share most chunks. */
  private static final class Chunk {
    private static final Member[] NO_MEMBERS = new Member[0];

    private final long mId;
    private final Member[] mAll;
    private final Member[] mLive;
    private final Member[] mLost;

    private Chunk(long id, Member[] all, Member[] live) {
      mId = id;
      mAll = all;
      mLive = Arrays.equals(all, live) ? all : live;
      mLost = mLive == mAll ? NO_MEMBERS : lost(all);
    }

    private static Member[] lost(Member[] all) {
      Member[] lost = new Member[all.length];
      int count = 0;
      for (Member member : all) {
        if (member.getState() == WorkerState.LOST) {
          lost[count++] = member;
        }
      }
      return Arrays.copyOf(lost, count);
    }

    private static Chunk read(long id, Wire.Reader reply) {
      Member[] distinct = new Member[reply.int32()];
      for (int i = 0; i < distinct.length; i++) {
        Worker worker = Worker.read(reply);
        distinct[i] = new Member(worker, WorkerState.of(reply.int32()));
      }
      return new Chunk(id, members(reply, distinct), members(reply, distinct));
    }

    private static Member[] members(Wire.Reader reply, Member[] distinct) {
      Member[] members = new Member[reply.int32()];
      for (int i = 0; i < members.length; i++) {
        members[i] = distinct[reply.int32()];
      }
      return members;
    }
  }
}
