package alluxio.membership.bridge;

/** A key of the cluster that is not listed, and why. */
public final class SkippedRecord {
  private final String mKey;
  private final String mReason;

  /**
   * @param key the etcd key
   * @param reason why its value could not be used
   */
  public SkippedRecord(String key, String reason) {
    mKey = key;
    mReason = reason;
  }

  /**
   * @return the etcd key
   */
  public String getKey() {
    return mKey;
  }

  /**
   * @return why its value could not be used
   */
  public String getReason() {
    return mReason;
  }

  @Override
  public String toString() {
    return mKey + ": " + mReason;
  }
}
