package alluxio.membership.differential;

import alluxio.membership.testing.AlluxioWorld;

import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.util.Map;
import java.util.Random;
import java.util.stream.Stream;

/**
 * Runs each scenario with the stock classes and with ours, on separate etcds, and compares all
 * visible results. Only the differences in {@link KnownDifferences} are allowed.
 */
@Execution(ExecutionMode.CONCURRENT)
class DifferentialTest {
  /** One after another, because the tests share the two etcds, but beside other classes. */
  @TestFactory
  @Execution(ExecutionMode.SAME_THREAD)
  @Retention(RetentionPolicy.RUNTIME)
  @interface InTurn {
  }

  private static final int SEQUENCES = Integer.getInteger("sequences", 6);

  private static Comparison sComparison;

  @BeforeAll
  static void start() throws Exception {
    sComparison = Comparison.start();
  }

  @AfterAll
  static void stop() throws Exception {
    sComparison.close();
  }

  @InTurn
  Stream<DynamicTest> etcd() {
    return tests(EtcdScenarios.all(), AlluxioWorld.CURRENT);
  }

  @InTurn
  Stream<DynamicTest> etcdWith311() {
    return tests(EtcdScenarios.ofAllVersions(), "311");
  }

  @InTurn
  Stream<DynamicTest> etcdWith308() {
    return tests(EtcdScenarios.ofAllVersions(), "308");
  }

  @InTurn
  Stream<DynamicTest> staticHosts() {
    return tests(StaticScenarios.all(), AlluxioWorld.CURRENT);
  }

  @InTurn
  Stream<DynamicTest> staticHostsWith311() {
    return tests(StaticScenarios.all(), "311");
  }

  @InTurn
  Stream<DynamicTest> staticHostsWith308() {
    return tests(StaticScenarios.all(), "308");
  }

  @InTurn
  Stream<DynamicTest> randomOperations() {
    return randomOperations(AlluxioWorld.CURRENT, SEQUENCES);
  }

  @InTurn
  Stream<DynamicTest> randomOperationsWith311() {
    return randomOperations("311", SEQUENCES / 2);
  }

  @InTurn
  Stream<DynamicTest> randomOperationsWith308() {
    return randomOperations("308", SEQUENCES / 2);
  }

  private static Stream<DynamicTest> randomOperations(String version, int sequences) {
    Long given = Long.getLong("seed");
    return new Random().longs(given == null ? sequences : 1, 0, 1_000_000_000).mapToObj(random -> {
      long seed = given == null ? random : given;
      String again = "-Dseed=" + seed + ", " + version;
      return DynamicTest.dynamicTest(again, () -> {
        try {
          compare("random operations", new RandomOperations(seed), version);
        } catch (AssertionError e) {
          throw new AssertionError("With " + again + ": " + e.getMessage(), e);
        }
      });
    });
  }

  private static Stream<DynamicTest> tests(Map<String, Scenario> scenarios, String version) {
    return scenarios.entrySet().stream()
        .map(scenario -> DynamicTest.dynamicTest(scenario.getKey() + ", " + version,
        () -> compare(scenario.getKey(), scenario.getValue(), version)));
  }

  /**
   * Before 312, leases last 2 s. A stalled machine makes workers lost, and then the stock classes
   * need another 2 s. Therefore only a repeated difference counts.
   */
  private static void compare(String name, Scenario scenario, String version) throws Exception {
    int tries = version.equals(AlluxioWorld.CURRENT) ? 1 : 5;
    while (true) {
      try {
        sComparison.compare(name, scenario, version);
        return;
      } catch (AssertionError e) {
        tries--;
        if (tries == 0) {
          throw e;
        }
        System.out.println("Once more, in case a lease of 2 s ended: " + name + ", " + version
            + ": " + e.getMessage());
      }
    }
  }
}
