package alluxio.membership.bridge;

import alluxio.membership.bridge.internal.Wire;

import java.util.Objects;

/**
 * The identity and the addresses of a worker. Immutable.
 *
 * <p>A port that is not used is 0, and a text that is not used is empty. A text is null only if a
 * stored record says so.
 */
public final class Worker {
  private final WorkerIdentity mIdentity;
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

  static Worker read(Wire.Reader reply) {
    return newBuilder(WorkerIdentity.ofCanonical(reply.text()))
        .setHost(reply.text())
        .setContainerHost(reply.text())
        .setRpcPort(reply.int32())
        .setDataPort(reply.int32())
        .setSecureRpcPort(reply.int32())
        .setNettyDataPort(reply.int32())
        .setWebPort(reply.int32())
        .setDomainSocketPath(reply.text())
        .setHttpServerPort(reply.int32())
        .build();
  }

  byte[] toBytes() {
    return new Wire.Writer()
        .text(mIdentity.toString())
        .text(mHost)
        .text(mContainerHost)
        .int32(mRpcPort)
        .int32(mDataPort)
        .int32(mSecureRpcPort)
        .int32(mNettyDataPort)
        .int32(mWebPort)
        .text(mDomainSocketPath)
        .int32(mHttpServerPort)
        .bytes();
  }

  /**
   * Creates a builder with empty texts and with ports that are 0.
   *
   * @param identity the identity of the worker
   * @return the builder
   */
  public static Builder newBuilder(WorkerIdentity identity) {
    return new Builder(identity);
  }

  /**
   * Returns the identity.
   *
   * @return the identity
   */
  public WorkerIdentity getIdentity() {
    return mIdentity;
  }

  /**
   * Returns the host name or IP address of the worker's services.
   *
   * @return the value
   */
  public String getHost() {
    return mHost;
  }

  /**
   * Returns the host name of the container, if the worker runs in one.
   *
   * @return the value
   */
  public String getContainerHost() {
    return mContainerHost;
  }

  /**
   * Returns the RPC port.
   *
   * @return the value
   */
  public int getRpcPort() {
    return mRpcPort;
  }

  /**
   * Returns the data port.
   *
   * @return the value
   */
  public int getDataPort() {
    return mDataPort;
  }

  /**
   * Returns the port of the secure RPC service, which Alluxio leaves at 0.
   *
   * @return the value
   */
  public int getSecureRpcPort() {
    return mSecureRpcPort;
  }

  /**
   * Returns the port of the Netty data service.
   *
   * @return the value
   */
  public int getNettyDataPort() {
    return mNettyDataPort;
  }

  /**
   * Returns the port of the web server.
   *
   * @return the value
   */
  public int getWebPort() {
    return mWebPort;
  }

  /**
   * Returns the path of the domain socket for short-circuit reads.
   *
   * @return the value
   */
  public String getDomainSocketPath() {
    return mDomainSocketPath;
  }

  /**
   * Returns the port of the HTTP server.
   *
   * @return the value
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

  /** A builder of a {@link Worker}. */
  public static final class Builder {
    private final WorkerIdentity mIdentity;
    private String mHost = "";
    private String mContainerHost = "";
    private int mRpcPort;
    private int mDataPort;
    private int mSecureRpcPort;
    private int mNettyDataPort;
    private int mWebPort;
    private String mDomainSocketPath = "";
    private int mHttpServerPort;

    private Builder(WorkerIdentity identity) {
      mIdentity = Objects.requireNonNull(identity, "identity");
    }

    /**
     * Sets the host name or IP address of the worker's services.
     *
     * @param host the value
     * @return this builder
     */
    public Builder setHost(String host) {
      mHost = host;
      return this;
    }

    /**
     * Sets the host name of the container.
     *
     * @param containerHost the value
     * @return this builder
     */
    public Builder setContainerHost(String containerHost) {
      mContainerHost = containerHost;
      return this;
    }

    /**
     * Sets the RPC port.
     *
     * @param port the value
     * @return this builder
     */
    public Builder setRpcPort(int port) {
      mRpcPort = port;
      return this;
    }

    /**
     * Sets the data port.
     *
     * @param port the value
     * @return this builder
     */
    public Builder setDataPort(int port) {
      mDataPort = port;
      return this;
    }

    /**
     * Sets the port of the secure RPC service.
     *
     * @param port the value
     * @return this builder
     */
    public Builder setSecureRpcPort(int port) {
      mSecureRpcPort = port;
      return this;
    }

    /**
     * Sets the port of the Netty data service.
     *
     * @param port the value
     * @return this builder
     */
    public Builder setNettyDataPort(int port) {
      mNettyDataPort = port;
      return this;
    }

    /**
     * Sets the port of the web server.
     *
     * @param port the value
     * @return this builder
     */
    public Builder setWebPort(int port) {
      mWebPort = port;
      return this;
    }

    /**
     * Sets the path of the domain socket.
     *
     * @param path the value
     * @return this builder
     */
    public Builder setDomainSocketPath(String path) {
      mDomainSocketPath = path;
      return this;
    }

    /**
     * Sets the port of the HTTP server.
     *
     * @param port the value
     * @return this builder
     */
    public Builder setHttpServerPort(int port) {
      mHttpServerPort = port;
      return this;
    }

    /**
     * Creates the worker.
     *
     * @return the worker
     */
    public Worker build() {
      return new Worker(this);
    }
  }
}
