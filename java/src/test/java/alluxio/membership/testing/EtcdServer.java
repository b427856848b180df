package alluxio.membership.testing;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.KeyValue;
import io.etcd.jetcd.options.GetOption;

import java.io.File;
import java.io.IOException;
import java.net.BindException;
import java.net.HttpURLConnection;
import java.net.InetAddress;
import java.net.NetworkInterface;
import java.net.ServerSocket;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Comparator;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/**
 * A real etcd of one member, on free ports and in a temporary directory. It is killed and removed
 * when this is closed. The environment variable {@code AXM_ETCD} names the program, else {@code
 * AXM_ETCD_3_4}, else {@code etcd} in the path.
 */
public final class EtcdServer implements AutoCloseable {
  private static final Set<Integer> GIVEN_OUT = ConcurrentHashMap.newKeySet();

  private final Path mDirectory;
  private final int mClientPort;
  private final int mPeerPort;
  private final int mTlsPort;
  private final Certificates mCertificates;
  private Process mProcess;
  private Client mClient;

  private EtcdServer(Certificates certificates) throws IOException {
    mCertificates = certificates;
    mDirectory = Files.createTempDirectory("axm-etcd-");
    mClientPort = freePort();
    mPeerPort = freePort();
    mTlsPort = freePort();
  }

  /**
   * Returns a port below the ports of outgoing connections, because an outgoing connection could
   * take the port of a stopped server. For the same reason, each port is returned once.
   */
  private static int freePort() throws IOException {
    while (true) {
      int port = 12_000 + ThreadLocalRandom.current().nextInt(20_000);
      try (ServerSocket socket = new ServerSocket(port, 1, InetAddress.getLoopbackAddress())) {
        if (GIVEN_OUT.add(socket.getLocalPort())) {
          return port;
        }
      } catch (BindException e) {
        // The port is in use, so this tries another one.
      }
    }
  }

  /**
   * @return a server that answers
   */
  public static EtcdServer start() throws Exception {
    return startWith(null);
  }

  /**
   * @param certificates the server's certificate, and the certificate that it demands from clients
   * @return a server that answers, also by TLS
   */
  public static EtcdServer startWithTls(Certificates certificates) throws Exception {
    return startWith(certificates);
  }

  private static EtcdServer startWith(Certificates certificates) throws Exception {
    Exception last = null;
    // The ports were free a moment ago. Another process may have taken one of them since.
    for (int attempt = 0; attempt < 5; attempt++) {
      EtcdServer server = new EtcdServer(certificates);
      try {
        server.startProcess();
        return server;
      } catch (IOException e) {
        last = e;
        server.close();
      }
    }
    throw last;
  }

  /** Starts the stopped server again, on its ports and its data. */
  public void startProcess() throws Exception {
    String clientUrl = endpoint();
    String peerUrl = "http://127.0.0.1:" + mPeerPort;
    File log = mDirectory.resolve("etcd.log").toFile();
    String listenUrls = clientUrl + (mCertificates == null ? "" : "," + tlsEndpoint())
        + (ipv6Endpoint() == null ? "" : "," + ipv6Endpoint());
    ProcessBuilder builder = new ProcessBuilder(binary(), "--name", "test", "--data-dir",
        mDirectory.resolve("data").toString(), "--listen-client-urls", listenUrls,
        "--advertise-client-urls", clientUrl,
        "--listen-peer-urls", peerUrl, "--initial-advertise-peer-urls", peerUrl,
        "--initial-cluster", "test=" + peerUrl,
        // Short, because the shortest lease is 1.5 times the election timeout.
        "--heartbeat-interval", "50", "--election-timeout", "500")
            .redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.appendTo(log));
    if (mCertificates != null) {
      builder.command().addAll(Arrays.asList("--cert-file",
          mCertificates.serverCertificate().toString(), "--key-file",
          mCertificates.serverKey().toString(), "--client-cert-auth", "--trusted-ca-file",
          mCertificates.clientCertificate().toString()));
    }
    builder.environment().keySet().removeIf(name -> name.startsWith("ETCD_"));
    mProcess = builder.start();
    try {
      Await.until("etcd is healthy", 120, () -> {
        if (!mProcess.isAlive()) {
          throw new IOException("etcd ended: "
              + new String(Files.readAllBytes(log.toPath()), StandardCharsets.UTF_8));
        }
        return isHealthy();
      });
    } catch (Exception e) {
      stopProcess();
      throw e;
    }
  }

  /** Kills the server. {@link #startProcess} starts it again. */
  public void stopProcess() {
    mProcess.destroyForcibly();
    try {
      mProcess.waitFor();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  /**
   * @return the URL for clients
   */
  public String endpoint() {
    return "http://127.0.0.1:" + mClientPort;
  }

  /**
   * @return the URL for clients with IPv6, null if this machine has none
   */
  public String ipv6Endpoint() throws IOException {
    boolean has = NetworkInterface.getByInetAddress(InetAddress.getByName("::1")) != null;
    return has ? "http://[::1]:" + mClientPort : null;
  }

  /** @return the URL for clients with TLS */
  public String tlsEndpoint() {
    return "https://127.0.0.1:" + mTlsPort;
  }

  /** @return a client for reading and writing the server's keys */
  public synchronized Client client() {
    if (mClient == null) {
      // Long tests read more at once than the default of 4 MiB.
      mClient = Client.builder().endpoints(endpoint()).maxInboundMessageSize(64 << 20).build();
    }
    return mClient;
  }

  /**
   * @param prefix the beginning of keys
   * @return the keys and their values
   */
  public Map<String, KeyValue> get(String prefix) throws Exception {
    ByteSequence key = ByteSequence.from(prefix, StandardCharsets.UTF_8);
    Map<String, KeyValue> found = new TreeMap<>();
    client().getKVClient().get(key, GetOption.newBuilder().isPrefix(true).build())
        .get(10, TimeUnit.SECONDS).getKvs()
        .forEach(kv -> found.put(kv.getKey().toString(StandardCharsets.UTF_8), kv));
    return found;
  }

  /**
   * @param key a key
   * @param value its new value
   */
  public void put(String key, byte[] value) throws Exception {
    client().getKVClient().put(ByteSequence.from(key, StandardCharsets.UTF_8),
        ByteSequence.from(value))
        .get(10, TimeUnit.SECONDS);
  }

  @Override
  public void close() throws IOException {
    if (mClient != null) {
      mClient.close();
    }
    if (mProcess != null) {
      stopProcess();
    }
    try (Stream<Path> files = Files.walk(mDirectory)) {
      files.sorted(Comparator.reverseOrder()).forEach(file -> file.toFile().delete());
    }
  }

  private boolean isHealthy() {
    try {
      HttpURLConnection connection = (HttpURLConnection) new URL(endpoint() + "/health")
          .openConnection();
      connection.setConnectTimeout(1000);
      connection.setReadTimeout(1000);
      return connection.getResponseCode() == 200;
    } catch (IOException e) {
      return false;
    }
  }

  private static String binary() {
    for (String variable : new String[] {"AXM_ETCD", "AXM_ETCD_3_4"}) {
      String configured = System.getenv(variable);
      if (configured != null && !configured.isEmpty()) {
        return configured;
      }
    }
    return "etcd";
  }
}
