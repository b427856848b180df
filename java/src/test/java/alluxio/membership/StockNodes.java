package alluxio.membership;

import alluxio.conf.AlluxioConfiguration;
import alluxio.conf.Configuration;
import alluxio.conf.PropertyKey;
import alluxio.wire.WorkerIdentity;
import alluxio.wire.WorkerNetAddress;
import java.util.Optional;
import java.util.UUID;

/**
 * Prints the table of {@code alluxio info nodes} with Alluxio's own classes. With {@code fill} and
 * a number, writes the records of this number of live workers instead.
 */
public final class StockNodes {
  private StockNodes() {}

  /**
   * @param args none, or {@code fill} and a number
   */
  public static void main(String[] args) throws Exception {
    String jar = EtcdMembershipManager.class.getProtectionDomain().getCodeSource().getLocation()
        .getPath();
    if (!jar.contains("alluxio-core-common")) {
      throw new IllegalStateException("EtcdMembershipManager is from " + jar);
    }
    AlluxioConfiguration conf = Configuration.global();
    if (args.length == 2 && args[0].equals("fill")) {
      fill(conf, Integer.parseInt(args[1]));
    } else {
      System.out.print(EtcdMembershipManager.create(conf).showAllMembers());
    }
    // The etcd client leaves threads that are not daemons.
    System.exit(0);
  }

  private static void fill(AlluxioConfiguration conf, int workers) {
    AlluxioEtcdClient etcd = AlluxioEtcdClient.getInstance(conf);
    String cluster = conf.getString(PropertyKey.ALLUXIO_CLUSTER_NAME);
    for (int i = 0; i < workers; i++) {
      WorkerIdentity identity = WorkerIdentity.ParserV1.INSTANCE.fromUUID(
          new UUID(0x4000, 0x8000000000000000L + i));
      WorkerNetAddress address = new WorkerNetAddress().setHost("worker" + i + ".example.com")
          .setRpcPort(29999)
          .setDataPort(29997).setWebPort(30000).setNettyDataPort(29997).setHttpServerPort(28080);
      byte[] record = new WorkerServiceEntity(identity, address).serialize();
      etcd.createForPath("/DHT/" + cluster + "/AUTHORIZED/" + identity, Optional.of(record));
      etcd.createForPath("/ServiceDiscovery/" + cluster + "/" + identity, Optional.of(record));
    }
  }
}
