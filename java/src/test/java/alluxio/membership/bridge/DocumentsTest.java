package alluxio.membership.bridge;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import alluxio.membership.testing.ChildJvm;
import alluxio.membership.testing.EtcdServer;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.tools.ToolProvider;

/** The Java programs of the documents work as they stand there. */
class DocumentsTest {
  @TempDir
  Path mDirectory;

  /** Compiles every Java program of a document, and returns how many there are. */
  private int compile(String document) throws IOException {
    String text = new String(Files.readAllBytes(Paths.get(System.getProperty("basedir", ""), "..", document)),
        StandardCharsets.UTF_8);
    Matcher block = Pattern.compile("\n```java\n(.*?)\n```\n", Pattern.DOTALL).matcher(text);
    int count = 0;
    while (block.find()) {
      Matcher name = Pattern.compile("public class (\\w+)").matcher(block.group(1));
      assertTrue(name.find(), block.group(1));
      Path source = mDirectory.resolve(name.group(1) + ".java");
      Files.write(source, block.group(1).getBytes(StandardCharsets.UTF_8));
      assertEquals(0, ToolProvider.getSystemJavaCompiler().run(null, null, null, "-Xlint:all", "-Werror", "-proc:none",
          "-cp", ChildJvm.ourClassPath().split(File.pathSeparator)[0], "-d", mDirectory.toString(), source.toString()));
      count++;
    }
    return count;
  }

  private Process start(String program, EtcdServer etcd) throws IOException {
    return new ProcessBuilder(Paths.get(System.getProperty("java.home"), "bin", "java").toString(), "-cp",
        mDirectory + File.pathSeparator + ChildJvm.ourClassPath(), program, etcd.endpoint())
        .redirectError(ProcessBuilder.Redirect.INHERIT).start();
  }

  private static BufferedReader output(Process process) {
    return new BufferedReader(new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8));
  }

  /** The next line that is not of the log. */
  private static String line(BufferedReader output) throws IOException {
    String line = output.readLine();
    while (line != null && !line.matches("joined|(ADDED )?worker-.*")) {
      line = output.readLine();
    }
    return line;
  }

  @Test
  void programsListWatchAndJoin() throws Exception {
    assertEquals(1, compile("README.md"));
    assertEquals(2, compile("docs/jvm.md"));
    try (EtcdServer etcd = EtcdServer.start()) {
      Process join = start("Join", etcd);
      Process watch = null;
      Process nodes = null;
      try {
        assertEquals("joined", line(output(join)));
        nodes = start("Nodes", etcd);
        String member = line(output(nodes));
        assertTrue(member.matches("worker-\\S{36} at host1:29999 LIVE"), member);
        assertTrue(nodes.waitFor(60, TimeUnit.SECONDS));
        assertEquals(0, nodes.exitValue());
        watch = start("Watch", etcd);
        assertEquals("ADDED " + member, line(output(watch)));
        for (Process process : new Process[] {watch, join}) {
          process.getOutputStream().close();
          assertTrue(process.waitFor(60, TimeUnit.SECONDS));
          assertEquals(0, process.exitValue());
        }
      } finally {
        for (Process process : new Process[] {join, watch, nodes}) {
          if (process != null) {
            process.destroyForcibly();
          }
        }
      }
    }
  }
}
