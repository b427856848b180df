package alluxio.membership.testing;

import alluxio.client.block.BlockWorkerInfo;
import alluxio.client.file.FileSystemContext;
import alluxio.client.file.FileSystemContext.GetWorkerListType;
import alluxio.client.file.dora.ConsistentHashPolicy;
import alluxio.client.file.dora.DoraCacheClient;
import alluxio.conf.Configuration;
import alluxio.conf.InstancedConfiguration;
import alluxio.master.MasterInquireClient;
import alluxio.membership.WorkerClusterView;
import alluxio.wire.WorkerInfo;

import java.lang.reflect.Method;
import java.util.Map;
import java.util.function.Function;

/** A real Alluxio client in an {@link AlluxioWorld}: takes an operation and a map of properties. */
public final class ClientPeer implements Function<Object[], String> {
  private static final int PATHS = 200;

  private InstancedConfiguration mConf;
  private FileSystemContext mContext;

  @Override
  @SuppressWarnings("unchecked")
  public String apply(Object[] input) {
    try {
      return run((String) input[0], (Map<String, String>) input[1]);
    } catch (Throwable t) {
      return t.getClass().getName() + ": " + t.getMessage();
    }
  }

  private String run(String operation, Map<String, String> properties) throws Exception {
    switch (operation) {
      case "open":
        mConf = Configuration.copyGlobal();
        Peer.configure(mConf, properties);
        mContext = FileSystemContext.create(mConf);
        // The manager was created with this configuration, and its cache is still empty.
        return mContext.getLiveWorkers().size() + " live";
      case "all":
        return text(mContext.getAllWorkers());
      case "live":
        return text(mContext.getLiveWorkers());
      case "lost":
        return text(mContext.getLostWorkers());
      case "cached":
        return text(mContext.getCachedWorkers());
      case "cached all":
        return text(mContext.getCachedWorkers(GetWorkerListType.ALL));
      case "reinit":
        // FileSystemContext.reinit does this after it has received a new configuration from a
        // master.
        call("closeContext");
        call("initContext", mContext.getClientContext(), MasterInquireClient.Factory
            .create(mContext.getClientContext().getClusterConf(),
            mContext.getClientContext().getUserState()));
        return "";
      case "place":
        return placement();
      case "addresses":
        return addresses();
      case "close":
        mContext.close();
        return "";
      default:
        throw new AssertionError("Unknown operation " + operation);
    }
  }

  private void call(String method, Object... arguments) throws ReflectiveOperationException {
    for (Method each : FileSystemContext.class.getDeclaredMethods()) {
      if (each.getName().equals(method) && each.getParameterCount() == arguments.length) {
        each.setAccessible(true);
        each.invoke(mContext, arguments);
        return;
      }
    }
    throw new NoSuchMethodException(method);
  }

  private String placement() throws Exception {
    ConsistentHashPolicy policy = new ConsistentHashPolicy(mConf);
    StringBuilder text = new StringBuilder();
    for (int i = 0; i < PATHS; i++) {
      for (BlockWorkerInfo worker : policy.getPreferredWorkers(mContext.getCachedWorkers(),
          "/path/" + i, 1)) {
        text.append(worker.getIdentity()).append(worker.isActive() ? " active\n" : " inactive\n");
      }
    }
    return text.toString();
  }

  /** The worker that the client chooses for each path. */
  private String addresses() {
    DoraCacheClient client = new DoraCacheClient(mContext);
    StringBuilder text = new StringBuilder();
    for (int i = 0; i < PATHS; i++) {
      String address;
      try {
        address = String.valueOf(client.getWorkerNetAddress("/path/" + i));
      } catch (RuntimeException e) {
        address = e.getClass().getName() + ": " + e.getMessage();
      }
      text.append(address).append('\n');
    }
    return text.toString();
  }

  private static String text(WorkerClusterView view) {
    StringBuilder text = new StringBuilder();
    for (WorkerInfo worker : view) {
      text.append(worker.getIdentity()).append(' ').append(worker.getAddress()).append(' ')
          .append(worker.getState())
          .append('\n');
    }
    return text.toString();
  }
}
