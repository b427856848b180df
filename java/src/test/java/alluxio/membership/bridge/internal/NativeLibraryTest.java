package alluxio.membership.bridge.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import alluxio.membership.bridge.Membership;
import alluxio.membership.testing.ChildJvm;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

import java.io.File;
import java.io.IOException;
import java.lang.reflect.InvocationTargetException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.charset.StandardCharsets;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.FileTime;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

class NativeLibraryTest {
  @TempDir
  private Path mDirectory;

  /** Prints the version, or why there is none, twice. */
  public static final class Program {
    private Program() {}

    /**
     * @param args none
     */
    public static void main(String[] args) {
      for (int i = 0; i < 2; i++) {
        try {
          System.out.println("version " + Membership.version());
        } catch (UnsatisfiedLinkError e) {
          System.out.println("refused " + e.getMessage());
        }
      }
    }
  }

  private static List<String> run(Map<String, String> properties) throws Exception {
    return run(Program.class, properties);
  }

  private static List<String> run(Class<?> program, Map<String, String> properties)
      throws Exception {
    return run(program, new ChildJvm.Launch(ChildJvm.ourClassPath()).properties(properties));
  }

  private static List<String> run(Class<?> program, ChildJvm.Launch launch) throws Exception {
    try (ChildJvm jvm = launch.start(program)) {
      List<String> answers = new ArrayList<>();
      for (int i = 0; i < 2; i++) {
        answers.add(jvm.awaitLine("an answer", line -> line.startsWith("version ")
            || line.startsWith("refused ")));
      }
      assertEquals(0, jvm.awaitExit());
      return answers;
    }
  }

  private static Path builtLibrary() throws Exception {
    return new File(NativeLibrary.class
        .getResource("/META-INF/native/" + NativeLibrary.platform() + "/liballuxio_membership.so")
        .toURI()).toPath();
  }

  @Test
  void leavesNoFileBehind() throws Exception {
    Map<String, String> properties = new HashMap<>();
    properties.put(NativeLibrary.DIRECTORY_PROPERTY, mDirectory.resolve("new").toString());
    properties.put("java.io.tmpdir", mDirectory.resolve("unused").toString());
    String version = "version " + Membership.version();
    assertEquals(Collections.nCopies(2, version), run(properties));
    try (Stream<Path> left = Files.list(mDirectory.resolve("new"))) {
      assertEquals(0, left.count());
    }
    assertTrue(Files.notExists(mDirectory.resolve("unused")));
  }

  @Test
  void triesTheNextDirectory() throws Exception {
    Path file = Files.createFile(mDirectory.resolve("file"));
    Map<String, String> properties = Collections.singletonMap(NativeLibrary.DIRECTORY_PROPERTY,
        file.toString());
    assertEquals(Collections.nCopies(2, "version " + Membership.version()), run(properties));
  }

  @Test
  void takesTheNamedFileAndNoOther() throws Exception {
    Map<String, String> properties = new HashMap<>();
    Path copy = Files.copy(builtLibrary(), mDirectory.resolve("copy.so"));
    properties.put(NativeLibrary.PATH_PROPERTY, copy.toString());
    properties.put("java.io.tmpdir", "/no/such/directory");
    properties.put("user.home", "/no/such/directory");
    assertEquals(Collections.nCopies(2, "version " + Membership.version()), run(properties));

    properties.put(NativeLibrary.PATH_PROPERTY, "/no/such/library.so");
    List<String> refused = run(properties);
    assertTrue(refused.get(0).startsWith("refused "), refused.get(0));
    assertTrue(refused.get(0).contains("/no/such/library.so"), refused.get(0));
    assertEquals(refused.get(0), refused.get(1));
  }

  /** Opens the library from two class loaders. */
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
    // The parent has only the platform's classes, so everything is loaded again.
    try (URLClassLoader loader =
        new URLClassLoader(urls.toArray(new URL[0]),
        ClassLoader.getSystemClassLoader().getParent())) {
      Class<?> bridge = loader.loadClass(Membership.class.getName());
      assertNotSame(Membership.class, bridge);
      return (String) bridge.getMethod("version").invoke(null);
    }
  }

  @Test
  void theNamedFileAlsoWorksFromSeveralClassLoaders() throws Exception {
    Map<String, String> properties = new HashMap<>();
    properties.put("basedir", System.getProperty("basedir", ""));
    properties.put(NativeLibrary.PATH_PROPERTY,
        Files.copy(builtLibrary(), mDirectory.resolve("copy.so")).toString());
    properties.put(NativeLibrary.DIRECTORY_PROPERTY, mDirectory.resolve("copies").toString());
    assertEquals(Collections.nCopies(2, "version " + Membership.version()),
        run(TwoLoaders.class, properties));
    try (Stream<Path> left = Files.list(mDirectory.resolve("copies"))) {
      assertEquals(0, left.count());
    }
  }

  /** Like on NFS, where a used file that is deleted appears under another name. */
  @Test
  void aFileThatCannotBeDeletedIsNoFailure() throws Exception {
    Path directory = Files.createDirectory(mDirectory.resolve("private"));
    Files.createFile(directory.resolve(".nfs0001"));
    Path file = Files.createFile(directory.resolve("library.so"));
    LibraryCopy.delete(file, directory);
    assertTrue(Files.notExists(file));
    assertTrue(Files.exists(directory));
  }

  @Test
  void takesTheLibraryPath() throws Exception {
    Files.copy(builtLibrary(), mDirectory.resolve("liballuxio_membership-" + Natives.INTERFACE
        + ".so"));
    Map<String, String> properties = new HashMap<>();
    properties.put("java.library.path", mDirectory.toString());
    properties.put(NativeLibrary.DIRECTORY_PROPERTY, mDirectory.resolve("unused").toString());
    assertEquals(Collections.nCopies(2, "version " + Membership.version()), run(properties));
    assertTrue(Files.notExists(mDirectory.resolve("unused")));
  }

  @Test
  void saysWhatItTriedAndWhatToDo() throws Exception {
    Map<String, String> properties = new HashMap<>();
    properties.put("os.arch", "pdp11");
    String refused = run(properties).get(0);
    assertTrue(refused.contains("no library for linux-pdp11, which is this JVM's platform"),
        refused);
    assertTrue(refused.contains("-D" + NativeLibrary.PATH_PROPERTY), refused);
  }

  private static final List<String> LOADED =
      Collections.nCopies(2, "version " + Membership.version());

  private Map<String, String> onlyTheTemporaryDirectory(String directory) {
    Map<String, String> properties = new HashMap<>();
    properties.put("java.io.tmpdir", directory);
    properties.put("user.home", "?");
    return properties;
  }

  @Test
  void aTemporaryDirectoryMayBeALink() throws Exception {
    Path link = Files.createSymbolicLink(mDirectory.resolve("link"),
        Files.createDirectory(mDirectory.resolve("target")));
    // No other directory is usable.
    ChildJvm.Launch launch = new ChildJvm.Launch(ChildJvm.ourClassPath())
        .directory(Paths.get("/proc"))
        .properties(onlyTheTemporaryDirectory(link.toString()));
    assertEquals(LOADED, run(Program.class, launch));
  }

  /** The {@code user.home} of a user without an entry in the passwd file. */
  @Test
  void aHomeWithoutAPathIsNoDirectory() throws Exception {
    ChildJvm.Launch launch = new ChildJvm.Launch(ChildJvm.ourClassPath()).directory(mDirectory)
        .properties(onlyTheTemporaryDirectory("/no/such/directory"));
    assertEquals(LOADED, run(Program.class, launch));
    try (Stream<Path> left = Files.list(mDirectory)) {
      assertEquals(0, left.count());
    }
  }

  @Test
  void aDirectoryThatTheLocaleCannotNameCostsNoOther() throws Exception {
    Path link = Files.createDirectory(mDirectory.resolve("tmp"));
    for (String name : new String[] {"java.io.tmpdir", "user.home"}) {
      Map<String, String> properties = new HashMap<>();
      properties.put("java.io.tmpdir", link.toString());
      properties.put("user.home", "/no/such/directory");
      // Under the locale C, a JVM cannot convert this name to a path.
      properties.put(name, "/home/j\u00fcrgen");
      ChildJvm.Launch launch = new ChildJvm.Launch(ChildJvm.ourClassPath()).directory(mDirectory)
          .environment("LC_ALL", "C").options("-Dsun.jnu.encoding=ANSI_X3.4-1968")
          .properties(properties);
      assertEquals(LOADED, run(Program.class, launch));
    }
  }

  @Test
  void eachDirectoryIsNamedWithItsReason() throws Exception {
    Map<String, String> properties = new HashMap<>();
    properties.put(NativeLibrary.DIRECTORY_PROPERTY,
        Files.createFile(mDirectory.resolve("file")).toString());
    properties.put("java.io.tmpdir", "/no/such/directory");
    properties.put("user.home", "/nonexistent");
    ChildJvm.Launch launch =
        new ChildJvm.Launch(ChildJvm.ourClassPath()).directory(Paths.get("/proc"))
        .properties(properties);
    String refused = run(Program.class, launch).get(0);
    assertTrue(
        refused.startsWith("refused The native library of alluxio-membership cannot be used: "
        + mDirectory
        + "/file: not a directory; /no/such/directory: no such directory; /nonexistent/.cache: no "
        + "such directory; /proc: "),
        refused);
    assertTrue(refused.contains("-D" + NativeLibrary.DIRECTORY_PROPERTY), refused);
  }

  @Test
  void aFailureIsSaidInWords() {
    assertEquals("permission denied", LoadFailure.reason(new AccessDeniedException("/x")));
    assertEquals("Read-only file system",
        LoadFailure.reason(new FileSystemException("/x", null, "Read-only file system")));
    assertEquals("No space left on device",
        LoadFailure.reason(new IOException("No space left on device")));
    assertEquals("NullPointerException", LoadFailure.reason(new NullPointerException()));
    assertEquals("a b", LoadFailure.reason(new IOException("a\n  b\n")));
  }

  @Test
  void refusedNativeAccessNamesTheOption() throws Exception {
    ChildJvm.Launch launch = new ChildJvm.Launch(ChildJvm.ourClassPath())
        .java(ChildJvm.javaHome(24))
        .options("--illegal-native-access=deny");
    String refused = run(Program.class, launch).get(0);
    assertTrue(refused.contains("--enable-native-access=ALL-UNNAMED"), refused);
  }

  /**
   * Writes a library that needs a glibc that no machine has, by another version name and its hash
   * in the file.
   */
  @Test
  void aGlibcThatIsTooOldIsSaidOnce() throws Exception {
    String library = new String(Files.readAllBytes(builtLibrary()), StandardCharsets.ISO_8859_1);
    Matcher version = Pattern.compile("\0(GLIBC_2\\.\\d\\d)(?=\0)").matcher(library);
    assertTrue(version.find());
    String name = version.group(1);
    String changed = library.replace("\0" + name + "\0", "\0GLIBC_2.98\0")
        .replace(elfHash(name), elfHash("GLIBC_2.98"));
    Path file = Files.write(mDirectory.resolve("newer.so"),
        changed.getBytes(StandardCharsets.ISO_8859_1));
    String refused = run(Collections.singletonMap(NativeLibrary.PATH_PROPERTY, file.toString()))
        .get(0);
    assertTrue(refused.matches("refused The native library of alluxio-membership cannot be used: "
        + "this machine has glibc 2\\.\\d+, the library needs 2\\.98\\. Use a jar .*"), refused);
  }

  private static String elfHash(String name) {
    long hash = 0;
    for (char each : name.toCharArray()) {
      hash = (hash << 4) + each;
      hash = (hash ^ (hash & 0xf0000000L) >> 24) & 0x0fffffff;
    }
    byte[] bytes = ByteBuffer.allocate(4).order(ByteOrder.LITTLE_ENDIAN).putInt((int) hash).array();
    return new String(bytes, StandardCharsets.ISO_8859_1);
  }

  @Test
  void whatKilledProcessesLeftIsRemoved() throws Exception {
    Path partial = leftover("partial", true);
    Path empty = leftover("empty", false);
    Path foreign = leftover("foreign", false);
    Files.createFile(foreign.resolve("something else"));
    old(foreign);
    Path recent = leftover("recent", true);
    Files.setLastModifiedTime(recent, FileTime.fromMillis(System.currentTimeMillis()));
    Path copying = leftover("copying", true);
    try (FileChannel file = FileChannel.open(copying.resolve(NativeLibrary.FILE_NAME),
        StandardOpenOption.WRITE);
        FileLock lock = file.lock()) {
      assertTrue(lock.isValid());
      assertEquals(LOADED, run(onlyTheTemporaryDirectory(mDirectory.toString())));
    }
    assertTrue(Files.notExists(partial));
    assertTrue(Files.notExists(empty));
    assertTrue(Files.exists(foreign.resolve("something else")));
    assertTrue(Files.exists(recent.resolve(NativeLibrary.FILE_NAME)));
    assertTrue(Files.exists(copying.resolve(NativeLibrary.FILE_NAME)));
  }

  private Path leftover(String name, boolean file) throws IOException {
    Path directory = Files.createDirectory(mDirectory.resolve(LibraryCopy.PREFIX + name));
    if (file) {
      Files.write(directory.resolve(NativeLibrary.FILE_NAME), new byte[100]);
    }
    old(directory);
    return directory;
  }

  private static void old(Path directory) throws IOException {
    Files.setLastModifiedTime(directory, FileTime.fromMillis(System.currentTimeMillis() - 60_000));
  }

  @Test
  void refusesALibraryThatDoesNotBelongToTheJar() {
    assertThrows(alluxio.membership.bridge.MembershipException.class, () -> {
      NativeLibrary.load();
      byte[] reply = new byte[1024];
      Wire.Reader.ofReply(reply, Natives.register(Natives.INTERFACE + 1, reply));
    });
  }

  @Test
  void worksFromSeveralClassLoaders() throws Exception {
    for (int i = 0; i < 2; i++) {
      assertEquals(Membership.version(), versionInALoaderOfItsOwn());
    }
  }

  @Test
  void loggersAreNamedAfterModules() {
    assertEquals("alluxio.membership.native", LogThread.loggerName("alluxio_membership"));
    assertEquals("alluxio.membership.native.etcd.roster",
        LogThread.loggerName("alluxio_membership::etcd::roster"));
  }
}
