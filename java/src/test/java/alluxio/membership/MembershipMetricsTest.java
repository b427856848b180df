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

import com.codahale.metrics.MetricRegistry;

import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.server.handler.ContextHandler;
import org.eclipse.jetty.server.handler.ContextHandlerCollection;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;

import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.net.InetSocketAddress;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.Properties;
import java.util.Scanner;
import java.util.Set;
import java.util.UUID;
import javax.management.MBeanServer;
import javax.management.ObjectName;

/**
 * The gauges of the drop-in in Alluxio's registry, as reported by Alluxio's sinks and by the
 * servlets of Alluxio's web server. The servlets come from Alluxio 2.9.4, because Maven Central
 * lacks those of 313. They show the registry of the tested version.
 */
class MembershipMetricsTest {
  private static final Server WEB = new Server(new InetSocketAddress("127.0.0.1", 0));
  private static URLClassLoader sServlets;

  @RegisterExtension
  static final SharedEtcd ETCD = new SharedEtcd();

  private final TestCluster mCluster = new TestCluster(ETCD.server(), "ETCD");
  private final TestCluster mOther = new TestCluster(ETCD.server(), "ETCD");

  @BeforeAll
  static void startWebServer() throws Exception {
    Path jar = Paths.get(System.getProperty("basedir", ""), "target", "alluxio-jars",
        "alluxio-core-server-common-2.9.4.jar");
    sServlets = new URLClassLoader(new URL[] {jar.toUri().toURL()},
        MembershipMetricsTest.class.getClassLoader());
    WEB.setHandler(new ContextHandlerCollection(handler("MetricsServlet"),
        handler("PrometheusMetricsServlet")));
    WEB.start();
  }

  @AfterAll
  static void stopWebServer() throws Exception {
    WEB.stop();
    sServlets.close();
  }

  /** Returns the handler that Alluxio's web server has for a servlet. */
  private static ContextHandler handler(String servlet) throws ReflectiveOperationException {
    Class<?> type = Class.forName("alluxio.metrics.sink." + servlet, true, sServlets);
    Object made =
        type.getConstructor(MetricRegistry.class).newInstance(MetricsSystem.METRIC_REGISTRY);
    return (ContextHandler) type.getMethod("getHandler").invoke(made);
  }

  private static String get(String path) throws IOException {
    int port = ((ServerConnector) WEB.getConnectors()[0]).getLocalPort();
    URL url = new URL("http", "127.0.0.1", port, path);
    try (Scanner answer = new Scanner(url.openStream(), "UTF-8").useDelimiter("\\A")) {
      return answer.hasNext() ? answer.next() : "";
    }
  }

  private static String prometheus() throws IOException {
    return get("/metrics/prometheus/");
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
    return MetricsSystem.METRIC_REGISTRY.getNames().stream()
        .filter(name -> name.contains("Membership")).count();
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

    String json = get("/metrics/json/");
    assertTrue(json.contains("\"Client.MembershipLiveWorkers\""), json);

    JmxSink sink = new JmxSink(new Properties(), MetricsSystem.METRIC_REGISTRY);
    sink.start();
    try {
      MBeanServer server = ManagementFactory.getPlatformMBeanServer();
      Set<ObjectName> names = server.queryNames(
          new ObjectName("*:name=Client.MembershipLiveWorkers,*"), null);
      assertEquals(1, names.size());
      assertEquals(1L, server.getAttribute(names.iterator().next(), "Value"));
    } finally {
      sink.stop();
    }

    // Another cluster has gauges of its own. The end of the first manager does not remove gauges.
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
