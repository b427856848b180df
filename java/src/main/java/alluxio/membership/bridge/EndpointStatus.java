package alluxio.membership.bridge;

/** The status of an endpoint of etcd. Immutable. */
public final class EndpointStatus {
  private final String mUrl;
  private final boolean mHealthy;
  private final long mAnswered;
  private final long mFailed;
  private final String mLastError;

  EndpointStatus(String url, boolean healthy, long answered, long failed, String lastError) {
    mUrl = url;
    mHealthy = healthy;
    mAnswered = answered;
    mFailed = failed;
    mLastError = lastError;
  }

  /**
   * Returns the URL of the endpoint.
   *
   * @return the URL, {@code http://host:port} or {@code https://host:port}
   */
  public String getUrl() {
    return mUrl;
  }

  /**
   * Returns whether the endpoint is in use. An endpoint that did not answer is quarantined until it
   * answers again.
   *
   * @return false while the endpoint is quarantined
   */
  public boolean isHealthy() {
    return mHealthy;
  }

  /**
   * Returns how many requests the endpoint answered.
   *
   * @return the count
   */
  public long getAnswered() {
    return mAnswered;
  }

  /**
   * Returns how many requests to the endpoint failed.
   *
   * @return the count
   */
  public long getFailed() {
    return mFailed;
  }

  /**
   * Returns why the endpoint is quarantined, or why its last failed request failed.
   *
   * @return the reason, or null if no request has failed
   */
  public String getLastError() {
    return mLastError;
  }

  @Override
  public String toString() {
    return mUrl + (mHealthy ? " in use" : " quarantined: " + mLastError);
  }
}
