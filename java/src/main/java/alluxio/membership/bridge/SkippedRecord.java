package alluxio.membership.bridge;

/** A key of the cluster that is not listed, with the reason. Immutable. */
public final class SkippedRecord {
  private final String mKey;
  private final String mReason;

  SkippedRecord(String key, String reason) {
    mKey = key;
    mReason = reason;
  }

  /**
   * Returns the key in etcd.
   *
   * @return the key
   */
  public String getKey() {
    return mKey;
  }

  /**
   * Returns why the value of the key is unusable.
   *
   * @return the reason
   */
  public String getReason() {
    return mReason;
  }

  @Override
  public String toString() {
    return mKey + ": " + mReason;
  }
}
