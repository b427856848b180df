package alluxio.membership.bridge.internal;

import alluxio.membership.bridge.ErrorKind;
import alluxio.membership.bridge.MembershipException;
import alluxio.membership.bridge.WorkerState;

import org.slf4j.LoggerFactory;

import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.security.CodeSource;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;

/**
 * Finds and loads the native library, once per class loader. It tries in turn:
 *
 * <ol>
 * <li>the file named by the system property {@value #PATH_PROPERTY}. If that property is set,
 * nothing else is tried. A JVM loads a file for one class loader only, so other class loaders load
 * a private copy of the file.
 * <li>{@code alluxio_membership-<interface>} on {@code java.library.path}. The number prevents the
 * use of an older file.
 * <li>the library in this jar, which is copied to a private directory and deleted as soon as it is
 * loaded. The directories are tried in turn: {@value #DIRECTORY_PROPERTY}, {@code java.io.tmpdir},
 * {@code ~/.cache}, the working directory.
 * </ol>
 */
public final class NativeLibrary {
  static final String PATH_PROPERTY = "alluxio.membership.native.library.path";
  static final String DIRECTORY_PROPERTY = "alluxio.membership.native.library.tmpdir";
  static final String FILE_NAME = "liballuxio_membership.so";

  private static final int LONGEST_REPLY = 4096;

  /** Set once: the loaded version, or the reason why loading failed. */
  private static String sVersion;
  private static String sFailure;
  /** Where the library was loaded from, for messages. */
  private static volatile String sOrigin;
  private static volatile long sSession;

  private NativeLibrary() {}

  /**
   * Loads the library, unless it is loaded.
   *
   * @return the version of the library
   * @throws UnsatisfiedLinkError if it cannot be loaded, every time with the reason
   */
  public static synchronized String load() {
    if (sVersion == null && sFailure == null) {
      try {
        sOrigin = loadLibrary();
        byte[] bytes = new byte[LONGEST_REPLY];
        Wire.Reader reply = Wire.Reader.ofReply(bytes, Natives.register(Natives.INTERFACE, bytes));
        sSession = reply.int64();
        sVersion = reply.text();
        LogThread.setLevel();
        // A class whose initialization lacks memory is unusable for ever. These classes are needed
        // only later.
        ErrorKind.values();
        WorkerState.values();
      } catch (LinkageError | RuntimeException | MembershipException e) {
        // Not as the cause, which would fill a log with stack traces of the JVM's loader.
        LoggerFactory.getLogger(NativeLibrary.class).debug("The native library cannot be used", e);
        sFailure = "The native library of alluxio-membership cannot be used: "
            + (e instanceof Unusable ? e.getMessage() : LoadFailure.reason(e));
      }
    }
    if (sVersion == null) {
      throw new UnsatisfiedLinkError(sFailure);
    }
    return sVersion;
  }

  /**
   * Returns where the library was loaded from, for messages.
   *
   * @return the text
   */
  public static String origin() {
    return sOrigin;
  }

  /** The number that the library gave this class loader. */
  static long session() {
    return sSession;
  }

  /** The reason why the library cannot be loaded, for the users of this class. */
  private static final class Unusable extends RuntimeException {
    private static final long serialVersionUID = 1L;

    Unusable(String message, List<Throwable> causes) {
      super(message);
      causes.forEach(this::addSuppressed);
    }
  }

  private static String loadLibrary() {
    String path = System.getProperty(PATH_PROPERTY);
    if (path != null && !path.isEmpty()) {
      return loadNamed(new File(path).getAbsoluteFile());
    }
    String name = "alluxio_membership-" + Natives.INTERFACE;
    try {
      System.loadLibrary(name);
      return System.mapLibraryName(name) + " on java.library.path";
    } catch (UnsatisfiedLinkError e) {
      return loadFromJar(e);
    }
  }

  private static String loadNamed(File file) {
    try {
      System.load(file.getPath());
      return file.getPath();
    } catch (UnsatisfiedLinkError e) {
      LibraryCopy.Source source = () -> Files.newInputStream(file.toPath());
      String message = e.getMessage();
      if (message != null && message.contains("already loaded in another classloader")) {
        return file + ", copied to " + loadCopy(source, e);
      }
      String why = LoadFailure.ofTheMachine(e, source);
      if (why == null) {
        throw e;
      }
      throw new Unusable(why, Collections.singletonList(e));
    }
  }

  private static String loadFromJar(UnsatisfiedLinkError notOnLibraryPath) {
    String resource = "/META-INF/native/" + platform() + "/" + FILE_NAME;
    if (NativeLibrary.class.getResource(resource) == null) {
      throw unusable("this jar has no library for " + platform() + ", which is this JVM's platform",
          Collections.singletonList(notOnLibraryPath));
    }
    return jar() + ", copied to "
        + loadCopy(() -> NativeLibrary.class.getResourceAsStream(resource), notOnLibraryPath);
  }

  private static String jar() {
    try {
      CodeSource source = NativeLibrary.class.getProtectionDomain().getCodeSource();
      return source == null || source.getLocation() == null
          ? "the jar" : source.getLocation().getPath();
    } catch (SecurityException e) {
      return "the jar";
    }
  }

  /**
   * Loads a copy from the first directory that allows it.
   *
   * @return that directory
   */
  private static String loadCopy(LibraryCopy.Source source, UnsatisfiedLinkError why) {
    List<String> failures = new ArrayList<>();
    List<Throwable> causes = new ArrayList<>();
    causes.add(why);
    for (String directory : directories()) {
      try {
        boolean make = directory.equals(System.getProperty(DIRECTORY_PROPERTY));
        LibraryCopy.load(source, Paths.get(directory), make);
        return directory;
      } catch (IOException | LinkageError | RuntimeException e) {
        causes.add(e);
        String everywhere = LoadFailure.ofTheMachine(e, source);
        if (everywhere != null) {
          throw new Unusable(everywhere, causes);
        }
        failures.add(directory + ": " + LoadFailure.reason(e));
      }
    }
    throw unusable(String.join("; ", failures), causes);
  }

  private static Unusable unusable(String why, List<Throwable> causes) {
    return new Unusable(why + ". Name the library file with -D" + PATH_PROPERTY
        + ", or a directory that files may be executed in with -D" + DIRECTORY_PROPERTY, causes);
  }

  private static Set<String> directories() {
    Set<String> directories = new LinkedHashSet<>();
    for (String property : new String[] {DIRECTORY_PROPERTY, "java.io.tmpdir"}) {
      String directory = System.getProperty(property);
      if (directory != null && !directory.isEmpty()) {
        directories.add(directory);
      }
    }
    // The home is "?" for a user without an entry in the passwd file.
    File home = new File(System.getProperty("user.home", ""));
    if (home.isAbsolute()) {
      directories.add(new File(home, ".cache").getPath());
    }
    directories.add(new File("").getAbsolutePath());
    return directories;
  }

  /** Returns the platform, for example {@code linux-x86_64} or {@code linux-aarch64-musl}. */
  static String platform() {
    String os = System.getProperty("os.name", "").toLowerCase(Locale.ROOT);
    String arch = System.getProperty("os.arch", "").toLowerCase(Locale.ROOT);
    if (arch.equals("amd64")) {
      arch = "x86_64";
    } else if (arch.equals("arm64")) {
      arch = "aarch64";
    }
    return (os.startsWith("mac") ? "osx" : os.replace(' ', '_')) + "-" + arch
        + (isMusl(arch) ? "-musl" : "");
  }

  /**
   * Whether this JVM runs on musl. A machine may have both C libraries, so this checks which one
   * this process has loaded.
   */
  private static boolean isMusl(String arch) {
    String loader = "/ld-musl-" + arch;
    Path path = Paths.get("/proc/self/maps");
    try (BufferedReader maps = Files.newBufferedReader(path, StandardCharsets.ISO_8859_1)) {
      for (String line = maps.readLine(); line != null; line = maps.readLine()) {
        if (line.contains(loader)) {
          return true;
        }
      }
      return false;
    } catch (IOException | SecurityException e) {
      return new File("/lib" + loader + ".so.1").exists() && !new File("/etc/ld.so.cache").exists();
    }
  }
}
