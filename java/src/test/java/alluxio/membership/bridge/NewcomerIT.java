package alluxio.membership.bridge;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import alluxio.membership.testing.EtcdServer;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.slf4j.Logger;

import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * The Java programs of the documents list, watch and join: in a fresh folder, by the README's
 * command, with the bridge jar that was built.
 */
class NewcomerIT {
  private static final long PATIENCE_SECONDS = 120;

  @TempDir
  Path mFolder;

  private final List<Process> mProcesses = new ArrayList<>();

  private static String read(String document) throws IOException {
    Path path = Paths.get(System.getProperty("basedir", ""), "..", document);
    return new String(Files.readAllBytes(path), StandardCharsets.UTF_8);
  }

  /** Writes every Java program of a document into the folder. */
  private void writePrograms(String document) throws IOException {
    Matcher block = Pattern.compile("\n```java\n(.*?)\n```\n", Pattern.DOTALL)
        .matcher(read(document));
    while (block.find()) {
      Matcher name = Pattern.compile("public class (\\w+)").matcher(block.group(1));
      assertTrue(name.find(), block.group(1));
      Files.write(mFolder.resolve(name.group(1) + ".java"),
          block.group(1).getBytes(StandardCharsets.UTF_8));
    }
  }

  /** Copies the jars of the command's class path into the folder. */
  private void copyJars(String command) throws Exception {
    Matcher classPath = Pattern.compile("java -cp (\\S+)").matcher(command);
    assertTrue(classPath.find(), command);
    for (String jar : classPath.group(1).split(":")) {
      Path source = jar.startsWith("slf4j-api")
          ? Paths.get(Logger.class.getProtectionDomain().getCodeSource().getLocation().toURI())
          : Paths.get(System.getProperty("jars"), jar);
      assertEquals(jar, source.getFileName().toString());
      Files.copy(source, mFolder.resolve(jar));
    }
  }

  private Process start(String command, String program, EtcdServer etcd) throws IOException {
    String line = command.replace("Nodes.java", program)
        .replace("http://127.0.0.1:2379", etcd.endpoint());
    assertTrue(line.contains(program) && line.contains(etcd.endpoint()), line);
    ProcessBuilder builder = new ProcessBuilder("sh", "-c", "exec " + line)
        .directory(mFolder.toFile()).redirectError(ProcessBuilder.Redirect.INHERIT);
    String path = Paths.get(System.getProperty("java.home"), "bin").toString();
    builder.environment().merge("PATH", path, (old, java) -> java + File.pathSeparator + old);
    Process process = builder.start();
    mProcesses.add(process);
    return process;
  }

  private static String line(Process process) throws IOException {
    return new BufferedReader(
        new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8)).readLine();
  }

  private static void assertEnds(Process process) throws Exception {
    process.getOutputStream().close();
    assertTrue(process.waitFor(PATIENCE_SECONDS, TimeUnit.SECONDS));
    assertEquals(0, process.exitValue());
  }

  @Test
  void programsListWatchAndJoin() throws Exception {
    writePrograms("README.md");
    writePrograms("docs/jvm.md");
    Matcher block = Pattern.compile("\n```sh\n(java .*?)\n```\n", Pattern.DOTALL)
        .matcher(read("README.md"));
    assertTrue(block.find());
    String command = block.group(1);
    copyJars(command);
    try (EtcdServer etcd = EtcdServer.start()) {
      Process join = start(command, "Join.java", etcd);
      assertEquals("joined", line(join));
      Process nodes = start(command, "Nodes.java", etcd);
      String member = line(nodes);
      assertTrue(member.matches("worker-\\S{36} at host1:29999 LIVE"), member);
      assertEnds(nodes);
      Process watch = start(command, "Watch.java", etcd);
      BufferedReader changes = new BufferedReader(
          new InputStreamReader(watch.getInputStream(), StandardCharsets.UTF_8));
      assertEquals("ADDED " + member, changes.readLine());
      assertEnds(join);
      String lost = changes.readLine();
      assertTrue(lost.startsWith("LOST ") && lost.contains(member.split(" ")[0]), lost);
      assertEnds(watch);
    } finally {
      for (Process process : mProcesses) {
        process.destroyForcibly();
      }
    }
  }
}
