package alluxio.membership;

import alluxio.conf.AlluxioConfiguration;

/**
 * Membership in etcd, through the native library.
 *
 * <p>This class replaces Alluxio's class of the same name if this jar comes first on the class
 * path.
 */
public class EtcdMembershipManager extends NativeMembershipManager {
  /**
   * Creates a manager. Asks etcd nothing yet.
   *
   * @param conf the configuration
   * @return the manager
   */
  public static EtcdMembershipManager create(AlluxioConfiguration conf) {
    return new EtcdMembershipManager(conf);
  }

  /**
   * Creates a manager.
   *
   * @param conf the configuration
   */
  public EtcdMembershipManager(AlluxioConfiguration conf) {
    super(conf, MembershipType.ETCD.name());
  }

  /**
   * Creates a manager.
   *
   * @param conf the configuration
   * @param alluxioEtcdClient not used, because the native library has its own connections
   */
  public EtcdMembershipManager(AlluxioConfiguration conf, AlluxioEtcdClient alluxioEtcdClient) {
    this(conf);
  }
}
