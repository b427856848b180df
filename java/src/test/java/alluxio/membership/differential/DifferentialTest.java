package alluxio.membership.differential;

import static org.junit.jupiter.api.Assertions.assertEquals;

import alluxio.membership.testing.AlluxioWorld;
import alluxio.membership.testing.EtcdServer;

import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;

import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.stream.Stream;

/**
 * Does everything once with the stock classes and once with ours, each on an etcd of their own, and compares all that
 * can be seen. What may differ is in {@link KnownDifferences}, and nothing else.
 */
class DifferentialTest {
  private static EtcdServer sStockEtcd;
  private static EtcdServer sOurEtcd;
  private static final Map<String, Side[]> SIDES = new HashMap<>();

  @BeforeAll
  static void start() throws Exception {
    sStockEtcd = EtcdServer.start();
    sOurEtcd = EtcdServer.start();
  }

  @AfterAll
  static void stop() throws Exception {
    for (Side[] sides : SIDES.values()) {
      for (Side side : sides) {
        side.close();
      }
    }
    sStockEtcd.close();
    sOurEtcd.close();
  }

  @TestFactory
  Stream<DynamicTest> etcd() {
    return tests(EtcdScenarios.all(), AlluxioWorld.CURRENT);
  }

  @TestFactory
  Stream<DynamicTest> etcdWith311() {
    return tests(EtcdScenarios.ofAllVersions(), "311");
  }

  @TestFactory
  Stream<DynamicTest> etcdWith308() {
    return tests(EtcdScenarios.ofAllVersions(), "308");
  }

  @TestFactory
  Stream<DynamicTest> staticHosts() {
    return tests(StaticScenarios.all(), AlluxioWorld.CURRENT);
  }

  @TestFactory
  Stream<DynamicTest> staticHostsWith308() {
    return tests(StaticScenarios.all(), "308");
  }

  private static Stream<DynamicTest> tests(Map<String, Scenario> scenarios, String version) {
    return scenarios.entrySet().stream().map(scenario -> DynamicTest.dynamicTest(scenario.getKey() + ", " + version,
        () -> compare(scenario.getKey(), scenario.getValue(), version)));
  }

  private static void compare(String name, Scenario scenario, String version) throws Exception {
    Side[] sides = SIDES.computeIfAbsent(version,
        any -> new Side[] {new Side(version, false, sStockEtcd), new Side(version, true, sOurEtcd)});
    KnownDifferences known = new KnownDifferences(name, version);

    sides[0].begin((label, text) -> !label.endsWith(" by other reader") || known.allows(label, text, false)
        || text.equals(sides[0].seen(label.replace("other reader", "reader"))));
    scenario.run(sides[0]);
    Map<String, String> stock = sides[0].end();

    sides[1].begin((label, text) -> known.allows(label, text, true) || text.equals(stock.get(label)));
    scenario.run(sides[1]);
    Map<String, String> ours = sides[1].end();

    known.removeFrom(stock, ours);
    StringBuilder differences = new StringBuilder();
    Set<String> labels = new LinkedHashSet<>(stock.keySet());
    labels.addAll(ours.keySet());
    for (String label : labels) {
      if (!Objects.equals(stock.get(label), ours.get(label))) {
        differences.append("\n--- ").append(label).append("\nstock: ").append(stock.get(label)).append("\nours:  ")
            .append(ours.get(label));
      }
    }
    assertEquals("", differences.toString());
  }
}
