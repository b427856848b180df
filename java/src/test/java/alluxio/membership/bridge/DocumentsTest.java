package alluxio.membership.bridge;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import alluxio.membership.testing.ChildJvm;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.tools.ToolProvider;

/** The Java programs of the documents compile. {@link NewcomerIT} runs them. */
class DocumentsTest {
  @TempDir
  Path mDirectory;

  /** Compiles every Java program of a document, and returns how many there are. */
  private int compile(String document) throws IOException {
    Path path = Paths.get(System.getProperty("basedir", ""), "..", document);
    String text = new String(Files.readAllBytes(path), StandardCharsets.UTF_8);
    Matcher block = Pattern.compile("\n```java\n(.*?)\n```\n", Pattern.DOTALL).matcher(text);
    int count = 0;
    while (block.find()) {
      Matcher name = Pattern.compile("public class (\\w+)").matcher(block.group(1));
      assertTrue(name.find(), block.group(1));
      Path source = mDirectory.resolve(name.group(1) + ".java");
      Files.write(source, block.group(1).getBytes(StandardCharsets.UTF_8));
      String classes = ChildJvm.ourClassPath().split(File.pathSeparator)[0];
      assertEquals(0, ToolProvider.getSystemJavaCompiler().run(null, null, null, "-Xlint:all",
          "-Werror", "-proc:none", "-cp", classes, "-d", mDirectory.toString(),
          source.toString()));
      count++;
    }
    return count;
  }

  @Test
  void programsCompileWithoutWarnings() throws IOException {
    assertEquals(1, compile("README.md"));
    assertEquals(2, compile("docs/jvm.md"));
  }
}
