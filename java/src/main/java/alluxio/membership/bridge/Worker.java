package alluxio.membership.bridge;

import java.util.Objects;

/**
 * A worker: who it is and where it answers. Immutable. Ports are 0 and texts empty where there is nothing; a text is null
 * only where a stored record says so.
 */
public final class Worker {
  private final String mIdentity;
  private final String mHost;
  private final String mContainerHost;
  private final int mRpcPort;
  private final int mDataPort;
  private final int mSecureRpcPort;
  private final int mNettyDataPort;
  private final int mWebPort;
  private final String mDomainSocketPath;
  private final int mHttpServerPort;

  private Worker(Builder builder) {
    mIdentity = builder.mIdentity;
    mHost = builder.mHost;
    mContainerHost = builder.mContainerHost;
    mRpcPort = builder.mRpcPort;
    mDataPort = builder.mDataPort;
    mSecureRpcPort = builder.mSecureRpcPort;
    mNettyDataPort = builder.mNettyDataPort;
    mWebPort = builder.mWebPort;
    mDomainSocketPath = builder.mDomainSocketPath;
    mHttpServerPort = builder.mHttpServerPort;
  }

  /**
   * @param identity the worker's identity as text: {@code worker-} and a UUID or a decimal number
   * @return a builder whose texts are empty and whose ports are 0
   */
  public static Builder newBuilder(String identity) {
    return new Builder(identity);
  }

  /**
   * @return the identity's text, {@code worker-<uuid>} or {@code worker-<number>}
   */
  public String getIdentity() {
    return mIdentity;
  }

  /**
   * @return host name or IP address of the worker's services
   */
  public String getHost() {
    return mHost;
  }

  /**
   * @return host name of the container, if the worker runs in one
   */
  public String getContainerHost() {
    return mContainerHost;
  }

  /**
   * @return the RPC port
   */
  public int getRpcPort() {
    return mRpcPort;
  }

  /**
   * @return the data port
   */
  public int getDataPort() {
    return mDataPort;
  }

  /**
   * @return the port of the secure RPC service, which Alluxio leaves at 0
   */
  public int getSecureRpcPort() {
    return mSecureRpcPort;
  }

  /**
   * @return the port of the Netty data service
   */
  public int getNettyDataPort() {
    return mNettyDataPort;
  }

  /**
   * @return the port of the web server
   */
  public int getWebPort() {
    return mWebPort;
  }

  /**
   * @return the path of the domain socket for short-circuit reads
   */
  public String getDomainSocketPath() {
    return mDomainSocketPath;
  }

  /**
   * @return the port of the HTTP server
   */
  public int getHttpServerPort() {
    return mHttpServerPort;
  }

  @Override
  public boolean equals(Object other) {
    if (this == other) {
      return true;
    }
    if (!(other instanceof Worker)) {
      return false;
    }
    Worker that = (Worker) other;
    return mIdentity.equals(that.mIdentity)
        && Objects.equals(mHost, that.mHost)
        && Objects.equals(mContainerHost, that.mContainerHost)
        && mRpcPort == that.mRpcPort
        && mDataPort == that.mDataPort
        && mSecureRpcPort == that.mSecureRpcPort
        && mNettyDataPort == that.mNettyDataPort
        && mWebPort == that.mWebPort
        && Objects.equals(mDomainSocketPath, that.mDomainSocketPath)
        && mHttpServerPort == that.mHttpServerPort;
  }

  @Override
  public int hashCode() {
    return Objects.hash(mIdentity, mHost, mRpcPort);
  }

  @Override
  public String toString() {
    return mIdentity + " at " + mHost + ":" + mRpcPort;
  }

  /** Collects the parts of a {@link Worker}. */
  public static final class Builder {
    private final String mIdentity;
    private String mHost = "";
    private String mContainerHost = "";
    private int mRpcPort;
    private int mDataPort;
    private int mSecureRpcPort;
    private int mNettyDataPort;
    private int mWebPort;
    private String mDomainSocketPath = "";
    private int mHttpServerPort;

    private Builder(String identity) {
      mIdentity = Objects.requireNonNull(identity, "identity");
    }

    /**
     * @param host host name or IP address of the worker's services
     * @return this builder
     */
    public Builder setHost(String host) {
      mHost = host;
      return this;
    }

    /**
     * @param containerHost host name of the container
     * @return this builder
     */
    public Builder setContainerHost(String containerHost) {
      mContainerHost = containerHost;
      return this;
    }

    /**
     * @param port the RPC port
     * @return this builder
     */
    public Builder setRpcPort(int port) {
      mRpcPort = port;
      return this;
    }

    /**
     * @param port the data port
     * @return this builder
     */
    public Builder setDataPort(int port) {
      mDataPort = port;
      return this;
    }

    /**
     * @param port the port of the secure RPC service
     * @return this builder
     */
    public Builder setSecureRpcPort(int port) {
      mSecureRpcPort = port;
      return this;
    }

    /**
     * @param port the port of the Netty data service
     * @return this builder
     */
    public Builder setNettyDataPort(int port) {
      mNettyDataPort = port;
      return this;
    }

    /**
     * @param port the port of the web server
     * @return this builder
     */
    public Builder setWebPort(int port) {
      mWebPort = port;
      return this;
    }

    /**
     * @param path the path of the domain socket
     * @return this builder
     */
    public Builder setDomainSocketPath(String path) {
      mDomainSocketPath = path;
      return this;
    }

    /**
     * @param port the port of the HTTP server
     * @return this builder
     */
    public Builder setHttpServerPort(int port) {
      mHttpServerPort = port;
      return this;
    }

    /**
     * @return the worker
     */
    public Worker build() {
      return new Worker(this);
    }
  }
}
