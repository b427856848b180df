package alluxio.membership.testing;

import alluxio.membership.WorkerClusterView;
import alluxio.wire.WorkerIdentity;
import alluxio.wire.WorkerInfo;
import alluxio.wire.WorkerNetAddress;

/** Workers, and short texts of listings. */
public final class Workers {
  private Workers() {}

  /**
   * @param identity the text of an identity
   * @param host the host
   * @param port the RPC port; the other ports are the next numbers
   * @return the worker
   */
  public static WorkerInfo worker(String identity, String host, int port) throws Exception {
    return new WorkerInfo().setIdentity(WorkerIdentity.fromString(identity))
        .setAddress(new WorkerNetAddress()
        .setHost(host).setRpcPort(port).setDataPort(port + 1).setNettyDataPort(port + 1)
        .setWebPort(port + 2));
  }

  /**
   * @param view a view
   * @return {@code identity=host:port/STATE} for each worker, in order
   */
  public static String text(WorkerClusterView view) {
    StringBuilder text = new StringBuilder();
    for (WorkerInfo worker : view) {
      text.append(text.length() == 0 ? "" : " ").append(worker.getIdentity()).append('=')
          .append(worker.getAddress().getHost()).append(':')
          .append(worker.getAddress().getRpcPort()).append('/')
          .append(worker.getState().name());
    }
    return text.toString();
  }
}
