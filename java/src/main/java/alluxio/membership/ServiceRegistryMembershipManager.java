package alluxio.membership;

import alluxio.conf.AlluxioConfiguration;

/**
 * Membership in etcd without a ring of registered workers, kept by the native library: a worker is a member while it is
 * live. Takes the place of Alluxio's class of this name when this jar comes first on the class path.
 */
public class ServiceRegistryMembershipManager extends NativeMembershipManager {
  /**
   * @param conf the configuration
   * @return a manager; nothing is read from etcd yet
   */
  public static ServiceRegistryMembershipManager create(AlluxioConfiguration conf) {
    return new ServiceRegistryMembershipManager(conf);
  }

  /**
   * @param conf the configuration
   */
  public ServiceRegistryMembershipManager(AlluxioConfiguration conf) {
    super(conf, MembershipType.SERVICE_REGISTRY.name());
  }

  /**
   * @param conf the configuration
   * @param alluxioEtcdClient not used: the native library connects to the endpoints of the configuration itself
   */
  public ServiceRegistryMembershipManager(AlluxioConfiguration conf, AlluxioEtcdClient alluxioEtcdClient) {
    this(conf);
  }
}
