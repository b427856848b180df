package alluxio.membership;

import alluxio.conf.AlluxioConfiguration;

/**
 * The workers of a hosts file, read by the native library. Takes the place of Alluxio's class of this name when this jar
 * comes first on the class path.
 */
public class StaticMembershipManager extends NativeMembershipManager {
  /**
   * @param conf the configuration
   * @return a manager of the workers in the file
   */
  public static StaticMembershipManager create(AlluxioConfiguration conf) {
    return new StaticMembershipManager(conf);
  }

  private StaticMembershipManager(AlluxioConfiguration conf) {
    super(conf, MembershipType.STATIC.name());
  }
}
