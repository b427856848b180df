package alluxio.membership.bridge;

import static org.junit.jupiter.api.Assertions.assertEquals;

import alluxio.membership.testing.Await;
import alluxio.membership.testing.ChildJvm;
import alluxio.membership.testing.SharedEtcd;
import alluxio.membership.testing.TestCluster;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

import java.io.File;
import java.io.IOException;
import java.lang.ref.WeakReference;
import java.lang.reflect.Method;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/** Programs that load the jar repeatedly, like application servers. */
@Execution(ExecutionMode.CONCURRENT)
class ClassLoadersTest {
  private static final int LOADERS = 12;

  @RegisterExtension
  static final SharedEtcd ETCD = new SharedEtcd();

  /**
   * Opens, lists and closes in one class loader after another, and waits until all class loaders
   * are collected.
   */
  public static final class Program {
    private Program() {}

    /**
     * @param args the class path of the class loaders; the configuration is in the system
     *         properties
     */
    public static void main(String[] args) throws Exception {
      Map<String, String> properties = ChildJvm.alluxioProperties();
      List<WeakReference<ClassLoader>> loaders = new ArrayList<>();
      for (int i = 0; i < LOADERS; i++) {
        loaders.add(new WeakReference<>(use(args[0], properties)));
      }
      Await.until("all class loaders are collected", 60, () -> {
        System.gc();
        return loaders.stream().allMatch(loader -> loader.get() == null);
      });
      long threads = Thread.getAllStackTraces().keySet().stream()
          .filter(thread -> thread.getName().startsWith("alluxio-membership")).count();
      System.out.println("collected, with " + threads + " threads left");
      Await.until("the library's own threads have ended", 60, () -> nativeThreads() == 0);
      // One remaining runtime has several threads. The JVM may have one of its own.
      System.out.println("ended, with " + (sockets() < LOADERS ? "few" : sockets())
          + " sockets left");
    }

    private static long nativeThreads() throws IOException {
      long count = 0;
      try (DirectoryStream<Path> tasks = Files.newDirectoryStream(Paths.get("/proc/self/task"))) {
        for (Path task : tasks) {
          try {
            count += new String(Files.readAllBytes(task.resolve("comm")), StandardCharsets.UTF_8)
                .startsWith("axm") ? 1 : 0;
          } catch (NoSuchFileException e) {
            // It has just ended.
          }
        }
      }
      return count;
    }

    /** Includes the descriptors for events, of which each runtime has some. */
    private static long sockets() throws IOException {
      try (Stream<Path> files = Files.list(Paths.get("/proc/self/fd"))) {
        return files.filter(file -> {
          try {
            return Files.readSymbolicLink(file).toString().matches("(socket|anon_inode):.*");
          } catch (IOException e) {
            return false;
          }
        }).count();
      }
    }

    private static ClassLoader use(String classPath, Map<String, String> properties)
        throws Exception {
      List<URL> urls = new ArrayList<>();
      for (String entry : classPath.split(File.pathSeparator)) {
        urls.add(new File(entry).toURI().toURL());
      }
      try (URLClassLoader loader =
          new URLClassLoader(urls.toArray(new URL[0]),
          ClassLoader.getSystemClassLoader().getParent())) {
        Class<?> bridge = loader.loadClass(Membership.class.getName());
        Method open = bridge.getMethod("open", Map.class);
        // A second use after a pause restarts the threads that ended in the meantime.
        for (int i = 0; i < 2; i++) {
          Object member = open.invoke(null, properties);
          bridge.getMethod("view").invoke(member);
          bridge.getMethod("close").invoke(member);
        }
        return loader;
      }
    }
  }

  @Test
  void aClassLoaderIsCollectedAfterItsLastManagerIsClosed() throws Exception {
    TestCluster cluster = new TestCluster(ETCD.server(), "ETCD");
    // Without a logging library, because its shutdown hook would keep the class loader.
    StringBuilder classPath = new StringBuilder(ChildJvm.ourClassPath()
        .split(File.pathSeparator)[0]);
    for (String entry : ChildJvm.stockClassPath().split(File.pathSeparator)) {
      if (new File(entry).getName().startsWith("slf4j-api-")) {
        classPath.append(File.pathSeparator).append(entry);
      }
    }
    try (ChildJvm jvm = ChildJvm.start(ChildJvm.ourClassPath(), cluster.properties(),
        new ArrayList<>(), Program.class,
        classPath.toString())) {
      assertEquals("collected, with 0 threads left",
          jvm.awaitLine("the collection", line -> line.startsWith("collected")));
      assertEquals("ended, with few sockets left",
          jvm.awaitLine("the end", line -> line.startsWith("ended")));
      assertEquals(0, jvm.awaitExit());
    }
  }
}
