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
   * System properties that name the library's file. Alluxio's configuration contains all system
   * properties, but the native library does not read these, and warns about unknown names.
   */
  private static final Set<String> OF_THE_JVM = new HashSet<>(
      Arrays.asList("alluxio.membership.native.library.path",
          "alluxio.membership.native.library.tmpdir"));

  private ConfigurationProperties() {}

  /**
   * Returns every property that is set, including defaults and names unknown to Alluxio.
   *
   * @param conf the configuration
   * @param type the membership type, which overrides the configured type
   * @return the properties, with references resolved and passwords in clear text
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
        // The unresolved value leads to an error that names the property, if the property is
        // needed.
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
   * Returns the value, or null if there is none. A broken reference, or a property that was unset
   * a moment ago, must not fail a manager that does not need the property.
   */
  private static Object get(AlluxioConfiguration conf, PropertyKey key,
      ConfigurationValueOptions options) {
    try {
      return options.shouldUseRawValue() || conf.isSet(key) ? conf.get(key, options) : null;
    } catch (RuntimeException e) {
      return null;
    }
  }
}
