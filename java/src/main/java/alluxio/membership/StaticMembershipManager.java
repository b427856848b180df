package alluxio.membership;

import alluxio.conf.AlluxioConfiguration;

/**
 * The workers of a hosts file, read by the native library.
 *
 * <p>This class replaces Alluxio's class of the same name if this jar comes first on the class
 * path.
 */
public class StaticMembershipManager extends NativeMembershipManager {
  /**
   * Creates a manager.
   *
   * @param conf the configuration
   * @return the manager
   */
  public static StaticMembershipManager create(AlluxioConfiguration conf) {
    return new StaticMembershipManager(conf);
  }

  private StaticMembershipManager(AlluxioConfiguration conf) {
    super(conf, MembershipType.STATIC.name());
  }
}
