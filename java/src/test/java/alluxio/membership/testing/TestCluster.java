package alluxio.membership.testing;

import alluxio.conf.Configuration;
import alluxio.conf.InstancedConfiguration;
import alluxio.conf.PropertyKey;

import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;

/** A separate cluster on a shared etcd: its properties and its keys. */
public final class TestCluster {
  private static final AtomicInteger NEXT = new AtomicInteger();

  private final EtcdServer mEtcd;
  private final Map<String, String> mProperties = new HashMap<>();

  /**
   * @param etcd the server
   * @param type the membership type
   */
  public TestCluster(EtcdServer etcd, String type) {
    mEtcd = etcd;
    mProperties.put("alluxio.worker.membership.manager.type", type);
    mProperties.put("alluxio.etcd.endpoints", etcd.endpoint());
    mProperties.put("alluxio.cluster.name", "cluster-" + NEXT.incrementAndGet());
    mProperties.put("alluxio.worker.failure.detection.timeout", "20s");
  }

  /**
   * @param name a property's name
   * @param value its value
   * @return this
   */
  public TestCluster with(String name, String value) {
    mProperties.put(name, value);
    return this;
  }

  /**
   * @return the properties
   */
  public Map<String, String> properties() {
    return mProperties;
  }

  /**
   * @return the properties as Alluxio's configuration
   */
  public InstancedConfiguration conf() {
    return conf(mProperties);
  }

  /**
   * @param properties property names and values
   * @return Alluxio's configuration
   */
  public static InstancedConfiguration conf(Map<String, String> properties) {
    InstancedConfiguration conf = Configuration.copyGlobal();
    properties.forEach((name, value) -> {
      PropertyKey key = PropertyKey.isValid(name) ? PropertyKey.fromString(name)
          : PropertyKey.getOrBuildCustom(name);
      conf.set(key, key.parseValue(value));
    });
    return conf;
  }

  /**
   * @param identity a worker's identity
   * @return its key in the ring
   */
  public String ringKey(String identity) {
    return "/DHT/" + mProperties.get("alluxio.cluster.name") + "/AUTHORIZED/" + identity;
  }

  /**
   * @param identity a worker's identity
   * @return its live key
   */
  public String liveKey(String identity) {
    return "/ServiceDiscovery/" + mProperties.get("alluxio.cluster.name") + "/" + identity;
  }

  /**
   * @return the server
   */
  public EtcdServer etcd() {
    return mEtcd;
  }
}
