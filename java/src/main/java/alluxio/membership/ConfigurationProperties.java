package alluxio.membership;

import alluxio.conf.AlluxioConfiguration;
import alluxio.conf.ConfigurationValueOptions;
import alluxio.conf.PropertyKey;

import java.util.HashMap;
import java.util.Map;
import java.util.Set;

/** Alluxio's configuration as the property names and values that the native library reads. */
final class ConfigurationProperties {
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
      if (!key.getName().startsWith("alluxio.")) {
        continue;
      }
      Object value = null;
      try {
        if (conf.isSet(key)) {
          value = conf.get(key, resolved);
        }
      } catch (RuntimeException e) {
        // Its references lead nowhere. That must not matter for a property that is not needed here.
      }
      if (value == null && setByUser.contains(key)) {
        // As it stands it makes an error message that names it, if it is needed at all.
        value = conf.get(key, raw);
      }
      if (value != null) {
        properties.put(key.getName(), String.valueOf(value));
      }
    }
    properties.put(PropertyKey.WORKER_MEMBERSHIP_MANAGER_TYPE.getName(), type);
    return properties;
  }
}
