package alluxio.membership.differential;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

import alluxio.membership.testing.AlluxioWorld;
import alluxio.membership.testing.EtcdServer;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

/**
 * Like {@link DifferentialTest}, with an etcd that does not answer or that refuses. The stock
 * classes try for most of a minute, so the tests run in parallel.
 */
@Execution(ExecutionMode.CONCURRENT)
class FaultDifferentialTest {
  @Test
  void downAtOpen() throws Exception {
    compare("etcd is down at open", FaultScenarios::downAtOpen);
  }

  @Test
  void downUnderWay() throws Exception {
    compare("etcd goes down under way", FaultScenarios::downUnderWay);
  }

  @Test
  void stoppingWhileDown() throws Exception {
    compare("stopping while etcd is down", FaultScenarios::stoppingWhileDown);
  }

  @Test
  void noSuchPort() throws Exception {
    compare("a port that does not exist", FaultScenarios::noSuchPort);
  }

  @Test
  void ipv6() throws Exception {
    try (EtcdServer etcd = EtcdServer.start()) {
      assumeTrue(etcd.ipv6Endpoint() != null, "no IPv6 here");
    }
    compare("an endpoint with an IPv6 address", FaultScenarios::ipv6);
  }

  @Test
  void twelveThousandWorkers() throws Exception {
    compare("twelve thousand workers", FaultScenarios::twelveThousandWorkers);
  }

  @Test
  void auth() throws Exception {
    compare("etcd asks for credentials", FaultScenarios::auth);
  }

  private static void compare(String name, Scenario scenario) throws Exception {
    try (Comparison comparison = Comparison.start()) {
      comparison.compare(name, scenario, AlluxioWorld.CURRENT);
    }
  }
}
