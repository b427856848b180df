package alluxio.membership;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import alluxio.membership.testing.ChildJvm;

import org.junit.jupiter.api.Test;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Paths;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

class DependenciesTest {
  /** Alluxio's shaded client has all other packages under other names. */
  private static final Pattern DROP_IN = Pattern.compile("(java|alluxio|org\\.slf4j)\\..*");
  /** The bridge needs no class of Alluxio. Every JDK has the management interface. */
  private static final Pattern BRIDGE =
      Pattern.compile("(java|javax\\.management|alluxio\\.membership\\.bridge|org\\.slf4j)\\..*");

  @Test
  void onlyNamesThatAreTheSameEverywhere() throws Exception {
    Process jdeps = new ProcessBuilder(jdk("jdeps"), "-verbose:class", "-filter:none",
        ChildJvm.ourClasses()).redirectErrorStream(true).start();
    Set<String> wrong = new TreeSet<>();
    int seen = 0;
    try (BufferedReader out =
        new BufferedReader(new InputStreamReader(jdeps.getInputStream(), StandardCharsets.UTF_8))) {
      Pattern dependency = Pattern.compile(" +(alluxio\\S+) +-> (\\S+) .*");
      for (String line = out.readLine(); line != null; line = out.readLine()) {
        Matcher found = dependency.matcher(line);
        if (found.matches()) {
          seen++;
          boolean bridge = found.group(1).startsWith("alluxio.membership.bridge.");
          if (!(bridge ? BRIDGE : DROP_IN).matcher(found.group(2)).matches()) {
            wrong.add(line);
          }
        }
      }
    }
    assertEquals(0, jdeps.waitFor());
    assertTrue(seen > 100, "jdeps named " + seen + " dependencies");
    assertEquals(new TreeSet<>(), wrong);
  }

  private static String jdk(String tool) {
    // On Java 8, java.home is the runtime inside the JDK.
    String home = System.getProperty("java.home");
    return (Paths.get(home, "bin", tool).toFile().exists() ? Paths.get(home, "bin", tool)
        : Paths.get(home, "..", "bin", tool)).toString();
  }
}
