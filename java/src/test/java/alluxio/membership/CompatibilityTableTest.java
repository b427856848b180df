package alluxio.membership;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Disabled;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.platform.commons.annotation.Testable;
import org.junit.platform.commons.support.AnnotationSupport;

import java.io.File;
import java.io.IOException;
import java.lang.reflect.Constructor;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * Each test that docs/compatibility.md names exists. {@code make test} runs it, or its row names
 * the target that does.
 */
class CompatibilityTableTest {
  private static final Pattern JAVA = Pattern.compile("(\\w+Test)\\.(\\w+)(?:/(.+))?");
  private static final Pattern RUST = Pattern.compile("(.+\\.rs)/(\\w+)");
  /** The words of a row whose Rust test is too slow for {@code make test}. */
  private static final String SLOW = "make test-faults";

  private final Path mRoot = Paths.get(System.getProperty("basedir", ""), "..").toAbsolutePath()
      .normalize();

  private static String read(Path file) throws IOException {
    return new String(Files.readAllBytes(file), StandardCharsets.UTF_8);
  }

  @Test
  void everyRowNamesATestThatIsThere() throws Exception {
    List<String> wrong = new ArrayList<>();
    int rows = 0;
    for (String line : read(mRoot.resolve("docs/compatibility.md")).split("\n")) {
      String[] cells = line.split("\\|");
      if (cells.length < 3 || cells[1].trim().equals("behaviour")
          || cells[1].trim().equals("weakness")
          || cells[1].startsWith("---")) {
        continue;
      }
      rows++;
      String tests = cells.length > 3 ? cells[3].trim() : "";
      if (tests.isEmpty()) {
        if (!cells[2].trim().startsWith("not covered")) {
          wrong.add("no test: " + line);
        }
        continue;
      }
      for (String test : tests.split("`, `")) {
        String problem = problem(test.replace("`", ""), line.contains(SLOW));
        if (!problem.isEmpty()) {
          wrong.add(problem + ": " + test);
        }
      }
    }
    assertTrue(rows > 50, "only " + rows + " rows");
    assertEquals(new ArrayList<>(), wrong);
  }

  @Test
  void testsThatAreNotRunAreFound() throws Exception {
    assertEquals("", problem("DifferentialTest.etcd/join", false));
    assertEquals("no such scenario", problem("DifferentialTest.etcd/static: hosts", false));
    assertEquals("no such scenario", problem("DifferentialTest.etcdWith308/durations", false));
    assertEquals("no such scenario", problem("DifferentialTest.etcd/joi", false));
    assertEquals("no such test", problem("DifferentialTest.start", false));
    assertEquals("no such test", problem("NoSuchTest.etcd", false));
    String slow = "tests/faults/network.rs/one_of_three_endpoints_stalls";
    assertEquals("ignored, and the row does not say make test-faults", problem(slow, false));
    assertEquals("", problem(slow, true));
    assertEquals("", problem("tests/faults/network.rs/the_only_endpoint_stalls", false));
    assertEquals("no such test", problem("tests/faults/network.rs/no_such_test", true));
    assertEquals("ignored, and the row does not say make test-faults",
        problem("tests/faults/connections.rs/" + ignoredAlone("tests/faults/connections.rs"),
        false));
  }

  /** A test with the attribute that makes cargo ignore it. */
  private String ignoredAlone(String file) throws IOException {
    Matcher ignored =
        Pattern.compile("#\\[ignore[^\\]]*\\]\\s*(?:async )?fn (\\w+)")
        .matcher(read(mRoot.resolve(file)));
    assertTrue(ignored.find(), file);
    return ignored.group(1);
  }

  /** Returns the problem of a test, or nothing. */
  private String problem(String test, boolean mayBeSlow) throws Exception {
    Matcher rust = RUST.matcher(test);
    if (rust.matches()) {
      Path file = mRoot.resolve(rust.group(1).contains("/") ? rust.group(1)
          : "tests/" + rust.group(1));
      String name = rust.group(2);
      // The mark is right before a test, or before a list of tests.
      Matcher found =
          Pattern.compile(
          "(?:#\\[(?:tokio::)?test\\b[^\\]]*\\]\\s*((?:#\\[[^\\]]*\\]\\s*)*)(?:async )?fn "
          + name + "\\()|on_every_etcd!\\(([^;]*\\b)" + name + "\\b")
          .matcher(Files.exists(file) ? read(file) : "");
      if (!found.find()) {
        return "no such test";
      }
      String attributes = found.group(1) == null ? found.group(2) : found.group(1);
      return attributes.contains("#[ignore")
          && !mayBeSlow ? "ignored, and the row does not say " + SLOW : "";
    }
    Matcher java = JAVA.matcher(test);
    if (!java.matches()) {
      return "no such test";
    }
    Path sources = mRoot.resolve("java/src/test/java");
    List<Path> files;
    try (Stream<Path> all = Files.walk(sources)) {
      files = all.filter(file -> file.getFileName().toString().equals(java.group(1) + ".java"))
          .collect(Collectors.toList());
    }
    for (Path file : files) {
      String name = sources.relativize(file).toString().replace(".java", "")
          .replace(File.separatorChar, '.');
      for (Method each : Class.forName(name).getDeclaredMethods()) {
        if (each.getName().equals(java.group(2))
            && AnnotationSupport.isAnnotated(each, Testable.class)
            && !AnnotationSupport.isAnnotated(each, Disabled.class)) {
          return java.group(3) == null || scenarios(each).contains(java.group(3)) ? ""
              : "no such scenario";
        }
      }
    }
    return "no such test";
  }

  /** Returns the names that a factory gives its tests, without the version of Alluxio. */
  private static Set<String> scenarios(Method factory) throws Exception {
    Constructor<?> constructor = factory.getDeclaringClass().getDeclaredConstructor();
    constructor.setAccessible(true);
    factory.setAccessible(true);
    try (Stream<?> tests = (Stream<?>) factory.invoke(constructor.newInstance())) {
      return tests.map(test -> ((DynamicTest) test).getDisplayName().replaceFirst(", \\d+$", ""))
          .collect(Collectors.toSet());
    }
  }
}
