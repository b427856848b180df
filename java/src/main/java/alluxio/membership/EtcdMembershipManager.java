package alluxio.membership;

import alluxio.conf.AlluxioConfiguration;

/**
 * Membership in etcd, kept by the native library. Takes the place of Alluxio's class of this name when this jar comes
 * first on the class path.
 */
public class EtcdMembershipManager extends NativeMembershipManager {
  /**
   * @param conf the configuration
   * @return a manager; nothing is read from etcd yet
   */
  public static EtcdMembershipManager create(AlluxioConfiguration conf) {
    return new EtcdMembershipManager(conf);
  }

  /**
   * @param conf the configuration
   */
  public EtcdMembershipManager(AlluxioConfiguration conf) {
    super(conf, MembershipType.ETCD.name());
  }

  /**
   * @param conf the configuration
   * @param alluxioEtcdClient not used: the native library connects to the endpoints of the configuration itself
   */
  public EtcdMembershipManager(AlluxioConfiguration conf, AlluxioEtcdClient alluxioEtcdClient) {
    this(conf);
  }
}
