package alluxio.membership.bridge.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import alluxio.membership.bridge.NativeMembership;
import alluxio.membership.testing.ChildJvm;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import java.io.File;
import java.lang.reflect.InvocationTargetException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

class NativeLibraryTest {
  @TempDir
  private Path mDirectory;

  /** Says the version, or why there is none, twice. */
  public static final class Program {
    private Program() {}

    /**
     * @param args none
     */
    public static void main(String[] args) {
      for (int i = 0; i < 2; i++) {
        try {
          System.out.println("version " + NativeMembership.version());
        } catch (UnsatisfiedLinkError e) {
          System.out.println("refused " + e.getMessage());
        }
      }
    }
  }

  private static List<String> run(Map<String, String> properties) throws Exception {
    return run(Program.class, properties);
  }

  private static List<String> run(Class<?> program, Map<String, String> properties) throws Exception {
    try (ChildJvm jvm = ChildJvm.start(ChildJvm.ourClassPath(), properties, Collections.emptyList(), program)) {
      List<String> answers = new ArrayList<>();
      for (int i = 0; i < 2; i++) {
        answers.add(jvm.awaitLine("an answer", line -> line.startsWith("version ") || line.startsWith("refused ")));
      }
      assertEquals(0, jvm.awaitExit());
      return answers;
    }
  }

  private static Path builtLibrary() throws Exception {
    return new File(NativeLibrary.class
        .getResource("/META-INF/native/" + NativeLibrary.platform() + "/liballuxio_membership.so").toURI()).toPath();
  }

  @Test
  void leavesNoFileBehind() throws Exception {
    Map<String, String> properties = new HashMap<>();
    properties.put(NativeLibrary.DIRECTORY_PROPERTY, mDirectory.resolve("new").toString());
    properties.put("java.io.tmpdir", mDirectory.resolve("unused").toString());
    String version = "version " + NativeMembership.version();
    assertEquals(Collections.nCopies(2, version), run(properties));
    try (Stream<Path> left = Files.list(mDirectory.resolve("new"))) {
      assertEquals(0, left.count());
    }
    assertTrue(Files.notExists(mDirectory.resolve("unused")));
  }

  @Test
  void triesTheNextDirectory() throws Exception {
    Path file = Files.createFile(mDirectory.resolve("file"));
    Map<String, String> properties = Collections.singletonMap(NativeLibrary.DIRECTORY_PROPERTY, file.toString());
    assertEquals(Collections.nCopies(2, "version " + NativeMembership.version()), run(properties));
  }

  @Test
  void takesTheNamedFileAndNoOther() throws Exception {
    Map<String, String> properties = new HashMap<>();
    Path copy = Files.copy(builtLibrary(), mDirectory.resolve("copy.so"));
    properties.put(NativeLibrary.PATH_PROPERTY, copy.toString());
    properties.put("java.io.tmpdir", "/no/such/directory");
    properties.put("user.home", "/no/such/directory");
    assertEquals(Collections.nCopies(2, "version " + NativeMembership.version()), run(properties));

    properties.put(NativeLibrary.PATH_PROPERTY, "/no/such/library.so");
    List<String> refused = run(properties);
    assertTrue(refused.get(0).startsWith("refused "), refused.get(0));
    assertTrue(refused.get(0).contains("/no/such/library.so"), refused.get(0));
    assertEquals(refused.get(0), refused.get(1));
  }

  /** Opens it from two class loaders. */
  public static final class TwoLoaders {
    private TwoLoaders() {}

    /**
     * @param args none
     */
    public static void main(String[] args) throws Exception {
      for (int i = 0; i < 2; i++) {
        try {
          System.out.println("version " + versionInALoaderOfItsOwn());
        } catch (InvocationTargetException e) {
          System.out.println("refused " + e.getCause().getMessage());
        }
      }
    }
  }

  private static String versionInALoaderOfItsOwn() throws Exception {
    List<URL> urls = new ArrayList<>();
    for (String entry : ChildJvm.ourClassPath().split(File.pathSeparator)) {
      urls.add(new File(entry).toURI().toURL());
    }
    // No parent but the platform's classes, so that everything is loaded once more.
    try (URLClassLoader loader =
        new URLClassLoader(urls.toArray(new URL[0]), ClassLoader.getSystemClassLoader().getParent())) {
      Class<?> bridge = loader.loadClass(NativeMembership.class.getName());
      assertNotSame(NativeMembership.class, bridge);
      return (String) bridge.getMethod("version").invoke(null);
    }
  }

  @Test
  void theNamedFileAlsoWorksFromSeveralClassLoaders() throws Exception {
    Map<String, String> properties = new HashMap<>();
    properties.put("basedir", System.getProperty("basedir", ""));
    properties.put(NativeLibrary.PATH_PROPERTY, Files.copy(builtLibrary(), mDirectory.resolve("copy.so")).toString());
    properties.put(NativeLibrary.DIRECTORY_PROPERTY, mDirectory.resolve("copies").toString());
    assertEquals(Collections.nCopies(2, "version " + NativeMembership.version()), run(TwoLoaders.class, properties));
    try (Stream<Path> left = Files.list(mDirectory.resolve("copies"))) {
      assertEquals(0, left.count());
    }
  }

  /** As on NFS, where another file appears when one is deleted that is in use. */
  @Test
  void aFileThatCannotBeDeletedIsNoFailure() throws Exception {
    Path directory = Files.createDirectory(mDirectory.resolve("private"));
    Files.createFile(directory.resolve(".nfs0001"));
    Path file = Files.createFile(directory.resolve("library.so"));
    NativeLibrary.delete(file, directory);
    assertTrue(Files.notExists(file));
    assertTrue(Files.exists(directory));
  }

  @Test
  void takesTheLibraryPath() throws Exception {
    Files.copy(builtLibrary(), mDirectory.resolve("liballuxio_membership-" + Natives.INTERFACE + ".so"));
    Map<String, String> properties = new HashMap<>();
    properties.put("java.library.path", mDirectory.toString());
    properties.put(NativeLibrary.DIRECTORY_PROPERTY, mDirectory.resolve("unused").toString());
    assertEquals(Collections.nCopies(2, "version " + NativeMembership.version()), run(properties));
    assertTrue(Files.notExists(mDirectory.resolve("unused")));
  }

  @Test
  void saysWhatItTriedAndWhatToDo() throws Exception {
    Map<String, String> properties = new HashMap<>();
    properties.put("os.arch", "pdp11");
    String refused = run(properties).get(0);
    assertTrue(refused.contains("no library for this platform (/META-INF/native/linux-pdp11/"), refused);
    assertTrue(refused.contains("-D" + NativeLibrary.PATH_PROPERTY), refused);
  }

  @Test
  void refusesALibraryThatDoesNotBelongToTheJar() {
    assertThrows(alluxio.membership.bridge.MembershipException.class, () -> {
      NativeLibrary.load();
      Wire.Reader.ofReply(Natives.register(Natives.INTERFACE + 1));
    });
  }

  @Test
  void worksFromSeveralClassLoaders() throws Exception {
    for (int i = 0; i < 2; i++) {
      assertEquals(NativeMembership.version(), versionInALoaderOfItsOwn());
    }
  }

  @Test
  void loggersAreNamedAfterModules() {
    assertEquals("alluxio.membership.native", LogThread.loggerName("alluxio_membership"));
    assertEquals("alluxio.membership.native.etcd.roster", LogThread.loggerName("alluxio_membership::etcd::roster"));
  }
}
