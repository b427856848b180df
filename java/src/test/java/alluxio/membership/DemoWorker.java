package alluxio.membership;

import alluxio.conf.AlluxioConfiguration;
import alluxio.conf.Configuration;
import alluxio.conf.PropertyKey;
import alluxio.util.network.NetworkAddressUtils;
import alluxio.util.network.NetworkAddressUtils.ServiceType;
import alluxio.wire.WorkerIdentity;
import alluxio.wire.WorkerInfo;
import alluxio.wire.WorkerNetAddress;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.Collections;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;

/**
 * The membership of an Alluxio worker. It is configured by {@code alluxio-site.properties}, which
 * also has its identity or names the identity file. It joins through {@code
 * MembershipManager.Factory}, and stays until it is terminated.
 */
public final class DemoWorker {
  private DemoWorker() {}

  /**
   * @param args none
   */
  public static void main(String[] args) throws Exception {
    AlluxioConfiguration conf = Configuration.global();
    MembershipManager manager = MembershipManager.Factory.create(conf);
    System.out.println(manager.getClass().getName() + " from "
        + manager.getClass().getProtectionDomain().getCodeSource().getLocation().getPath());
    WorkerInfo worker = new WorkerInfo().setIdentity(identity(conf)).setAddress(address(conf));
    manager.join(worker);
    System.out.println("JOINED " + worker.getIdentity() + " " + worker.getAddress().getHost() + ":"
        + worker.getAddress().getRpcPort());
    new CountDownLatch(1).await();
  }

  private static WorkerIdentity identity(AlluxioConfiguration conf) throws IOException {
    UUID uuid;
    if (conf.isSetByUser(PropertyKey.WORKER_IDENTITY_UUID)) {
      uuid = UUID.fromString(conf.getString(PropertyKey.WORKER_IDENTITY_UUID));
    } else {
      Path file = Paths.get(conf.getString(PropertyKey.WORKER_IDENTITY_UUID_FILE_PATH));
      if (!Files.exists(file)) {
        Files.write(file, Collections.singletonList(UUID.randomUUID().toString()),
            StandardCharsets.UTF_8);
      }
      uuid = Files.readAllLines(file, StandardCharsets.UTF_8).stream().map(String::trim)
          .filter(line -> !line.isEmpty() && !line.startsWith("#")).findFirst()
          .map(UUID::fromString)
          .orElseThrow(() -> new IOException("No identity in " + file));
    }
    return WorkerIdentity.ParserV1.INSTANCE.fromUUID(uuid);
  }

  private static WorkerNetAddress address(AlluxioConfiguration conf) {
    boolean netty = conf.getBoolean(PropertyKey.USER_NETTY_DATA_TRANSMISSION_ENABLED);
    int dataPort = conf.getInt(PropertyKey.WORKER_DATA_PORT);
    return new WorkerNetAddress()
        .setHost(NetworkAddressUtils.getConnectHost(ServiceType.WORKER_RPC, conf))
        .setContainerHost(conf.getOrDefault(PropertyKey.WORKER_CONTAINER_HOSTNAME, ""))
        .setRpcPort(conf.getInt(PropertyKey.WORKER_RPC_PORT))
        .setDataPort(dataPort)
        .setNettyDataPort(netty ? dataPort : 0)
        .setWebPort(conf.getInt(PropertyKey.WORKER_WEB_PORT))
        .setHttpServerPort(conf.getBoolean(PropertyKey.WORKER_HTTP_SERVER_ENABLED)
            ? conf.getInt(PropertyKey.WORKER_HTTP_SERVER_PORT) : 0);
  }
}
