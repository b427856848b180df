package alluxio.membership.testing;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.security.KeyStore;
import java.util.Base64;
import java.util.concurrent.TimeUnit;

/**
 * A certificate for a server on 127.0.0.1 and a certificate for its clients, both self-signed, in
 * files in PEM format.
 */
public final class Certificates {
  private static final String PASSWORD = "password";

  private final Path mDirectory;

  /**
   * @param directory where to put the files
   */
  public Certificates(Path directory) throws Exception {
    mDirectory = directory;
    make("server");
    make("client");
  }

  /**
   * @return the server's certificate
   */
  public Path serverCertificate() {
    return mDirectory.resolve("server.pem");
  }

  /**
   * @return its key
   */
  public Path serverKey() {
    return mDirectory.resolve("server.key");
  }

  /**
   * @return the clients' certificate
   */
  public Path clientCertificate() {
    return mDirectory.resolve("client.pem");
  }

  /**
   * @return its key
   */
  public Path clientKey() {
    return mDirectory.resolve("client.key");
  }

  private void make(String name) throws Exception {
    Path store = mDirectory.resolve(name + ".p12");
    Process keytool = new ProcessBuilder(
        Paths.get(System.getProperty("java.home"), "bin", "keytool").toString(),
        "-genkeypair", "-alias", name, "-keyalg", "RSA", "-dname", "CN=" + name, "-ext",
        "san=ip:127.0.0.1",
        "-storetype", "PKCS12", "-keystore", store.toString(), "-storepass", PASSWORD)
            .redirectErrorStream(true).redirectOutput(mDirectory.resolve(name + ".log").toFile())
            .start();
    if (!keytool.waitFor(60, TimeUnit.SECONDS) || keytool.exitValue() != 0) {
      keytool.destroyForcibly();
      throw new IOException("keytool failed, see " + mDirectory);
    }
    KeyStore entries = KeyStore.getInstance("PKCS12");
    try (InputStream in = Files.newInputStream(store)) {
      entries.load(in, PASSWORD.toCharArray());
    }
    write(name + ".pem", "CERTIFICATE", entries.getCertificate(name).getEncoded());
    write(name + ".key", "PRIVATE KEY", entries.getKey(name, PASSWORD.toCharArray()).getEncoded());
  }

  private void write(String file, String label, byte[] content) throws IOException {
    String pem = "-----BEGIN " + label + "-----\n"
        + Base64.getMimeEncoder(64, "\n".getBytes(StandardCharsets.US_ASCII))
        .encodeToString(content)
        + "\n-----END " + label + "-----\n";
    Files.write(mDirectory.resolve(file), pem.getBytes(StandardCharsets.US_ASCII));
  }
}
