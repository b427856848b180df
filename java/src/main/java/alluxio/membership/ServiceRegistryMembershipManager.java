package alluxio.membership;

import alluxio.conf.AlluxioConfiguration;

/**
 * Membership in etcd without registered workers, through the native library.
 *
 * <p>A worker is a member while it is live. This class replaces Alluxio's class of the same name if
 * this jar comes first on the class path.
 */
public class ServiceRegistryMembershipManager extends NativeMembershipManager {
  /**
   * Creates a manager. Asks etcd nothing yet.
   *
   * @param conf the configuration
   * @return the manager
   */
  public static ServiceRegistryMembershipManager create(AlluxioConfiguration conf) {
    return new ServiceRegistryMembershipManager(conf);
  }

  /**
   * Creates a manager.
   *
   * @param conf the configuration
   */
  public ServiceRegistryMembershipManager(AlluxioConfiguration conf) {
    super(conf, MembershipType.SERVICE_REGISTRY.name());
  }

  /**
   * Creates a manager.
   *
   * @param conf the configuration
   * @param alluxioEtcdClient not used, because the native library has its own connections
   */
  public ServiceRegistryMembershipManager(AlluxioConfiguration conf,
      AlluxioEtcdClient alluxioEtcdClient) {
    this(conf);
  }
}
