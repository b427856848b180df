package alluxio.membership.bridge;

/** A change of one worker between two views. Immutable. */
public final class Change {
  private final ChangeKind mKind;
  private final Member mMember;
  private final ClusterView mView;

  Change(ChangeKind kind, Member member, ClusterView view) {
    mKind = kind;
    mMember = member;
    mView = view;
  }

  /**
   * Returns what happened to the worker.
   *
   * @return the kind of the change
   */
  public ChangeKind getKind() {
    return mKind;
  }

  /**
   * Returns the worker after the change, or before it if the worker was removed.
   *
   * @return the member
   */
  public Member getMember() {
    return mMember;
  }

  /**
   * Returns the workers after this change and all changes that are reported with it.
   *
   * @return the view
   */
  public ClusterView getView() {
    return mView;
  }

  @Override
  public String toString() {
    return mKind + " " + mMember;
  }
}
