package alluxio.membership;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import alluxio.conf.AlluxioProperties;
import alluxio.conf.InstancedConfiguration;
import alluxio.conf.PropertyKey;
import alluxio.conf.Source;
import alluxio.membership.testing.TestCluster;

import org.junit.jupiter.api.Test;

import java.util.HashMap;
import java.util.Map;

class ConfigurationPropertiesTest {
  @Test
  void passesWhatAlluxioWouldRead() {
    Map<String, String> set = new HashMap<>();
    set.put("alluxio.conf.dir", "/somewhere");
    set.put("alluxio.etcd.password", "in clear");
    set.put("alluxio.cluster.name", "${alluxio.worker.hostname}-cluster");
    set.put("alluxio.worker.hostname", "h");
    set.put("alluxio.worker.membership.manager.type", "MASTER");
    set.put("alluxio.membership.native.test", "own");
    set.put("fs.other.secret", "not ours");
    set.put("alluxio.etcd.username", "${alluxio.no.such.property}");
    InstancedConfiguration conf = TestCluster.conf(set);
    Map<String, String> properties = ConfigurationProperties.of(conf, "ETCD");

    assertEquals("ETCD", properties.get("alluxio.worker.membership.manager.type"));
    assertEquals("/somewhere/workers",
        properties.get("alluxio.worker.static.membership.manager.config.file"));
    assertEquals("in clear", properties.get("alluxio.etcd.password"));
    assertEquals("h-cluster", properties.get("alluxio.cluster.name"));
    assertEquals("own", properties.get("alluxio.membership.native.test"));
    assertEquals("2min", properties.get("alluxio.worker.failure.detection.timeout"));
    assertEquals("29999", properties.get("alluxio.worker.rpc.port"));
    assertEquals("false", properties.get("alluxio.k8s.env.deployment"));
    assertEquals("${alluxio.no.such.property}", properties.get("alluxio.etcd.username"));
    assertFalse(properties.containsKey("alluxio.etcd.endpoints"));
    assertTrue(properties.keySet().stream().allMatch(name -> name.startsWith("alluxio.")));
  }

  @Test
  void aPropertyWithoutAValueDoesNotMatter() {
    AlluxioProperties properties = new AlluxioProperties();
    PropertyKey empty = PropertyKey.fromString("alluxio.worker.hostname");
    properties.put(empty, null, Source.RUNTIME);
    properties.put(PropertyKey.fromString("alluxio.etcd.endpoints"), "http://h:1", Source.RUNTIME);
    InstancedConfiguration conf = new InstancedConfiguration(properties);
    // Alluxio itself reports this when the value is read.
    assertTrue(conf.userKeySet().contains(empty));
    assertThrows(RuntimeException.class, () -> conf.get(empty));
    Map<String, String> passed = ConfigurationProperties.of(conf, "ETCD");
    assertFalse(passed.containsKey("alluxio.worker.hostname"));
    assertEquals("http://h:1", passed.get("alluxio.etcd.endpoints"));
  }

  @Test
  void whatTellsTheJvmWhereTheLibraryIsIsNoneOfItsProperties() {
    Map<String, String> set = new HashMap<>();
    for (String name : new String[] {"path", "tmpdir"}) {
      set.put("alluxio.membership.native.library." + name, "/somewhere");
    }
    assertTrue(ConfigurationProperties.of(TestCluster.conf(set), "ETCD").keySet().stream()
        .noneMatch(name -> name.startsWith("alluxio.membership.native.library.")));
  }
}
