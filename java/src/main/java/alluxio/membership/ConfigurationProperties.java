package alluxio.membership;

import alluxio.conf.AlluxioConfiguration;
import alluxio.conf.ConfigurationValueOptions;
import alluxio.conf.PropertyKey;

import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;

/** Alluxio's configuration as the property names and values that the native library reads. */
final class ConfigurationProperties {
  /**
   * System properties for finding the library. Alluxio takes all of the JVM's into its configuration, but the library,
   * which refuses names it does not know, has no use for these.
   */
  private static final Set<String> OF_THE_JVM = new HashSet<>(
      Arrays.asList("alluxio.membership.native.library.path", "alluxio.membership.native.library.tmpdir"));

  private ConfigurationProperties() {}

  /**
   * @param conf the configuration
   * @param type the membership type to use, whatever the configuration says
   * @return every set property of Alluxio, also defaults and names that Alluxio does not know, with references resolved
   *         and passwords in clear
   */
  static Map<String, String> of(AlluxioConfiguration conf, String type) {
    ConfigurationValueOptions resolved = ConfigurationValueOptions.defaults();
    ConfigurationValueOptions raw = ConfigurationValueOptions.defaults().useRawValue(true);
    Set<PropertyKey> setByUser = conf.userKeySet();
    Map<String, String> properties = new HashMap<>();
    for (PropertyKey key : conf.keySet()) {
      if (!key.getName().startsWith("alluxio.") || OF_THE_JVM.contains(key.getName())) {
        continue;
      }
      Object value = get(conf, key, resolved);
      if (value == null && setByUser.contains(key)) {
        // As it stands it makes an error message that names it, if it is needed at all.
        value = get(conf, key, raw);
      }
      if (value != null) {
        properties.put(key.getName(), String.valueOf(value));
      }
    }
    properties.put(PropertyKey.WORKER_MEMBERSHIP_MANAGER_TYPE.getName(), type);
    return properties;
  }

  /**
   * The value, or null if there is none: references that lead nowhere, or a property that was unset a moment ago, must
   * not matter where the property is not needed.
   */
  private static Object get(AlluxioConfiguration conf, PropertyKey key, ConfigurationValueOptions options) {
    try {
      return options.shouldUseRawValue() || conf.isSet(key) ? conf.get(key, options) : null;
    } catch (RuntimeException e) {
      return null;
    }
  }
}
