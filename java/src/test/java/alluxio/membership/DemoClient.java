package alluxio.membership;

import alluxio.client.file.FileSystemContext;
import alluxio.conf.Configuration;
import alluxio.wire.WorkerIdentity;
import alluxio.wire.WorkerInfo;
import alluxio.wire.WorkerState;

/**
 * A client of Alluxio and its shell. Without arguments, lists the workers that a {@code
 * FileSystemContext} knows, in the format of {@code alluxio info nodes}. With {@code remove} and an
 * identity, removes a worker like {@code alluxio process remove-worker}.
 *
 * <p>Without a master, listing needs {@code alluxio.master.hostname}, and the value false for
 * {@code alluxio.user.conf.cluster.default.enabled} and {@code
 * alluxio.user.metrics.collection.enabled}.
 */
public final class DemoClient {
  private DemoClient() {}

  /**
   * @param args none, or {@code remove} and a worker's identity
   */
  public static void main(String[] args) throws Exception {
    if (args.length == 0) {
      list();
    } else if (args.length == 2 && args[0].equals("remove")) {
      remove(args[1]);
    } else {
      throw new IllegalArgumentException("Expected no argument, or: remove <worker identity>");
    }
    // A FileSystemContext leaves threads that are not daemons.
    System.exit(0);
  }

  private static void list() throws Exception {
    FileSystemContext context = FileSystemContext.create(Configuration.global());
    try {
      System.out.println("WorkerId\tAddress\tStatus");
      for (WorkerInfo worker : context.getAllWorkers()) {
        System.out.println(worker.getIdentity() + "\t" + worker.getAddress().getHost() + ":"
            + worker.getAddress().getRpcPort() + "\t"
            + (worker.getState() == WorkerState.LIVE ? "ONLINE" : "OFFLINE"));
      }
    } finally {
      context.close();
    }
  }

  private static void remove(String identity) throws Exception {
    try (MembershipManager manager = MembershipManager.Factory.create(Configuration.global())) {
      manager.decommission(new WorkerInfo().setIdentity(WorkerIdentity.fromString(identity)));
    }
    System.out.println("Successfully removed worker: " + identity);
  }
}
