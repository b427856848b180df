package alluxio.membership;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import alluxio.metrics.MetricsSystem;
import alluxio.metrics.sink.JmxSink;
import alluxio.membership.testing.Await;
import alluxio.membership.testing.SharedEtcd;
import alluxio.membership.testing.TestCluster;
import alluxio.membership.testing.Workers;

import io.prometheus.client.CollectorRegistry;
import io.prometheus.client.dropwizard.DropwizardExports;
import io.prometheus.client.exporter.common.TextFormat;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

import java.io.IOException;
import java.io.StringWriter;
import java.lang.management.ManagementFactory;
import java.util.Properties;
import java.util.Set;
import java.util.UUID;
import javax.management.MBeanServer;
import javax.management.ObjectName;

/** The gauges of the drop-in in Alluxio's own registry, as its sinks and servlets report them. */
class MembershipMetricsTest {
  @RegisterExtension
  static final SharedEtcd ETCD = new SharedEtcd();

  private final TestCluster mCluster = new TestCluster(ETCD.server(), "ETCD");
  private final TestCluster mOther = new TestCluster(ETCD.server(), "ETCD");

  /** The text of /metrics/prometheus for the registry of Alluxio. */
  private static String prometheus() throws IOException {
    CollectorRegistry registry = new CollectorRegistry();
    registry.register(new DropwizardExports(MetricsSystem.METRIC_REGISTRY));
    StringWriter text = new StringWriter();
    TextFormat.write004(text, registry.metricFamilySamples());
    return text.toString();
  }

  private static double value(String name) throws IOException {
    for (String line : prometheus().split("\n")) {
      if (line.startsWith(name + " ")) {
        return Double.parseDouble(line.substring(name.length() + 1));
      }
    }
    throw new AssertionError("No metric " + name + " in\n" + prometheus());
  }

  private static long count() {
    return MetricsSystem.METRIC_REGISTRY.getNames().stream().filter(name -> name.contains("Membership")).count();
  }

  @Test
  void gaugesAppearInTheReportsOfAlluxioAndGoWithTheLastManager() throws Exception {
    ETCD.server().put(mCluster.ringKey("worker-" + UUID.randomUUID()), new byte[] {'{', '}'});
    assertEquals(0, count());
    EtcdMembershipManager manager = new EtcdMembershipManager(mCluster.conf());
    EtcdMembershipManager second = new EtcdMembershipManager(mCluster.conf());
    long gauges = count();
    assertTrue(gauges >= 15, MetricsSystem.METRIC_REGISTRY.getNames().toString());
    manager.join(Workers.worker("worker-" + UUID.randomUUID(), "h1", 1));
    manager.getAllMembers();
    Await.until("the gauges show the worker", 20, () -> value("Client_MembershipLiveWorkers") == 1);
    assertEquals(0, value("Client_MembershipLostWorkers"));
    assertEquals(1, value("Client_MembershipSkippedRecords"));
    assertEquals(1, value("Client_MembershipRegistered"));
    assertEquals(1, value("Client_MembershipEndpointsUp"));
    assertTrue(value("Client_MembershipLeaseLeftSeconds") > 1);
    assertTrue(value("Client_MembershipListings") >= 1);
    assertTrue(value("Client_MembershipViewVersion") >= 1);
    assertTrue(value("Client_MembershipViewAgeSeconds") >= 0);
    assertEquals(0, value("Client_MembershipLateRenewals"));
    assertEquals(0, value("Client_MembershipReRegistrations"));

    JmxSink sink = new JmxSink(new Properties(), MetricsSystem.METRIC_REGISTRY);
    sink.start();
    try {
      MBeanServer server = ManagementFactory.getPlatformMBeanServer();
      Set<ObjectName> names = server.queryNames(new ObjectName("*:name=Client.MembershipLiveWorkers,*"), null);
      assertEquals(1, names.size());
      assertEquals(1L, server.getAttribute(names.iterator().next(), "Value"));
    } finally {
      sink.stop();
    }

    // Another cluster has gauges of its own, and the first manager's end changes nothing.
    EtcdMembershipManager other = new EtcdMembershipManager(mOther.conf());
    String suffix = mOther.properties().get("alluxio.cluster.name").replace('-', '_');
    assertEquals(0, value("Client_MembershipLiveWorkers_" + suffix));
    manager.close();
    Await.until("the worker left", 20, () -> value("Client_MembershipLostWorkers") == 1);
    assertEquals(0, value("Client_MembershipRegistered"));
    assertEquals(2 * gauges, count());
    second.close();
    assertEquals(gauges, count());
    other.close();
    other.close();
    assertEquals(0, count());
    assertFalse(prometheus().contains("Membership"));
  }
}
