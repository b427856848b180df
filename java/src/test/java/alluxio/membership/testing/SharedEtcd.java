package alluxio.membership.testing;

import org.junit.jupiter.api.extension.AfterAllCallback;
import org.junit.jupiter.api.extension.BeforeAllCallback;
import org.junit.jupiter.api.extension.ExtensionContext;

import java.io.IOException;

/** One etcd for all tests of a class. */
public final class SharedEtcd implements BeforeAllCallback, AfterAllCallback {
  private EtcdServer mServer;

  @Override
  public void beforeAll(ExtensionContext context) throws Exception {
    mServer = EtcdServer.start();
  }

  @Override
  public void afterAll(ExtensionContext context) throws IOException {
    mServer.close();
  }

  /**
   * @return the server
   */
  public EtcdServer server() {
    return mServer;
  }
}
