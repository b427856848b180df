package alluxio.membership;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.junit.platform.commons.annotation.Testable;
import org.junit.platform.commons.support.AnnotationSupport;

import java.io.File;
import java.io.IOException;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** The tests that docs/compatibility.md names are there. */
class CompatibilityTableTest {
  private static final Pattern JAVA = Pattern.compile("(\\w+Test)\\.(\\w+)(?:/(.+))?");
  private static final Pattern RUST = Pattern.compile("(.+\\.rs)/(\\w+)");

  private final Path mRoot = Paths.get(System.getProperty("basedir", ""), "..").toAbsolutePath().normalize();

  private static String read(Path file) throws IOException {
    return new String(Files.readAllBytes(file), StandardCharsets.UTF_8);
  }

  @Test
  void everyRowNamesATestThatIsThere() throws Exception {
    List<String> wrong = new ArrayList<>();
    int rows = 0;
    for (String line : read(mRoot.resolve("docs/compatibility.md")).split("\n")) {
      String[] cells = line.split("\\|");
      if (cells.length < 3 || cells[1].trim().equals("behaviour") || cells[1].trim().equals("weakness")
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
        if (!exists(test.replace("`", ""))) {
          wrong.add("no such test: " + test);
        }
      }
    }
    assertTrue(rows > 50, "only " + rows + " rows");
    assertEquals(new ArrayList<>(), wrong);
  }

  private boolean exists(String test) throws Exception {
    Matcher rust = RUST.matcher(test);
    if (rust.matches()) {
      Path file = mRoot.resolve(rust.group(1).contains("/") ? rust.group(1) : "tests/" + rust.group(1));
      String name = rust.group(2);
      // A test says so right before it, or is in a list of tests.
      return Files.exists(file) && Pattern.compile("#\\[(tokio::)?test\\b[^\\]]*\\]\\s*(async )?fn " + name + "\\("
          + "|on_every_etcd!\\([^;]*\\b" + name + "\\b").matcher(read(file)).find();
    }
    Matcher java = JAVA.matcher(test);
    if (!java.matches()) {
      return false;
    }
    Path sources = mRoot.resolve("java/src/test/java");
    List<Path> files;
    try (Stream<Path> all = Files.walk(sources)) {
      files = all.filter(file -> file.toString().endsWith(".java")).collect(Collectors.toList());
    }
    boolean method = false;
    boolean scenario = java.group(3) == null;
    for (Path file : files) {
      if (file.getFileName().toString().equals(java.group(1) + ".java")) {
        String name = sources.relativize(file).toString().replace(".java", "").replace(File.separatorChar, '.');
        for (Method each : Class.forName(name).getDeclaredMethods()) {
          method |= each.getName().equals(java.group(2))
              && AnnotationSupport.isAnnotated(each, Testable.class);
        }
      }
      scenario |= read(file).contains("all.put(\"" + java.group(3) + "\"");
    }
    return method && scenario;
  }
}
