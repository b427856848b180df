package alluxio.membership.bridge.internal;

import alluxio.membership.bridge.MembershipException;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;

/**
 * Finds and loads the native library, once per class loader:
 *
 * <ol>
 * <li>the file named by the system property {@value #PATH_PROPERTY}, and then nothing else;
 * <li>{@code alluxio_membership-<interface>} on {@code java.library.path}; the number keeps an older file from being taken;
 * <li>the copy in this jar, written to a private directory and deleted as soon as it is loaded. Directories in turn:
 * {@value #DIRECTORY_PROPERTY}, {@code java.io.tmpdir}, {@code ~/.cache}, the working directory.
 * </ol>
 */
public final class NativeLibrary {
  static final String PATH_PROPERTY = "alluxio.membership.native.library.path";
  static final String DIRECTORY_PROPERTY = "alluxio.membership.native.library.tmpdir";

  private static final String FILE_NAME = "liballuxio_membership.so";

  /** Set once, together: the version that was loaded, or why it could not be. */
  private static String sVersion;
  private static String sFailure;
  private static Throwable sFailureCause;

  private NativeLibrary() {}

  /**
   * Loads the library, if that has not been done.
   *
   * @return the version of the library
   * @throws UnsatisfiedLinkError if it cannot be loaded, every time with the reason
   */
  public static synchronized String load() {
    if (sVersion == null && sFailure == null) {
      try {
        loadLibrary();
        sVersion = Wire.Reader.ofReply(Natives.register(Natives.INTERFACE)).text();
        LogThread.start();
      } catch (LinkageError | MembershipException e) {
        sFailure = "The native library of alluxio-membership cannot be used: " + e.getMessage();
        sFailureCause = e;
      }
    }
    if (sVersion == null) {
      UnsatisfiedLinkError error = new UnsatisfiedLinkError(sFailure);
      error.initCause(sFailureCause);
      throw error;
    }
    return sVersion;
  }

  private static void loadLibrary() {
    String path = System.getProperty(PATH_PROPERTY);
    if (path != null && !path.isEmpty()) {
      System.load(new File(path).getAbsolutePath());
      return;
    }
    try {
      System.loadLibrary("alluxio_membership-" + Natives.INTERFACE);
    } catch (UnsatisfiedLinkError e) {
      loadFromJar(e);
    }
  }

  private static void loadFromJar(UnsatisfiedLinkError notOnLibraryPath) {
    String resource = "/META-INF/native/" + platform() + "/" + FILE_NAME;
    List<String> failures = new ArrayList<>();
    List<Throwable> causes = new ArrayList<>();
    causes.add(notOnLibraryPath);
    if (NativeLibrary.class.getResource(resource) == null) {
      failures.add("this jar has no library for this platform (" + resource + ")");
    } else {
      for (Path directory : directories()) {
        try {
          loadFromJar(resource, directory);
          return;
        } catch (IOException | LinkageError | SecurityException e) {
          failures.add(directory + ": " + e.getMessage());
          causes.add(e);
        }
      }
    }
    UnsatisfiedLinkError error = new UnsatisfiedLinkError(String.join("; ", failures)
        + ". Name the library file with -D" + PATH_PROPERTY + ", or a directory that files may be executed in with -D"
        + DIRECTORY_PROPERTY);
    causes.forEach(error::addSuppressed);
    throw error;
  }

  private static void loadFromJar(String resource, Path parent) throws IOException {
    Path directory = Files.createTempDirectory(Files.createDirectories(parent), "alluxio-membership-");
    Path file = directory.resolve(FILE_NAME);
    try {
      try (InputStream in = NativeLibrary.class.getResourceAsStream(resource)) {
        Files.copy(in, file, StandardCopyOption.REPLACE_EXISTING);
      }
      if (!file.toFile().setExecutable(true, true) || !file.toFile().canExecute()) {
        throw new IOException("files may not be executed there (mounted noexec?)");
      }
      System.load(file.toAbsolutePath().toString());
    } finally {
      // The mapping stays valid without the file, and nothing is left behind however the JVM ends.
      Files.deleteIfExists(file);
      Files.deleteIfExists(directory);
    }
  }

  private static Set<Path> directories() {
    Set<Path> directories = new LinkedHashSet<>();
    for (String property : new String[] {DIRECTORY_PROPERTY, "java.io.tmpdir"}) {
      String directory = System.getProperty(property);
      if (directory != null && !directory.isEmpty()) {
        directories.add(Paths.get(directory));
      }
    }
    String home = System.getProperty("user.home");
    if (home != null && !home.isEmpty()) {
      directories.add(Paths.get(home, ".cache"));
    }
    directories.add(Paths.get("").toAbsolutePath());
    return directories;
  }

  /** For example {@code linux-x86_64}, {@code linux-aarch64-musl}. */
  static String platform() {
    String os = System.getProperty("os.name", "").toLowerCase(Locale.ROOT);
    String arch = System.getProperty("os.arch", "").toLowerCase(Locale.ROOT);
    if (arch.equals("amd64")) {
      arch = "x86_64";
    } else if (arch.equals("arm64")) {
      arch = "aarch64";
    }
    return (os.startsWith("mac") ? "osx" : os.replace(' ', '_')) + "-" + arch + (isMusl(arch) ? "-musl" : "");
  }

  private static boolean isMusl(String arch) {
    return new File("/lib/ld-musl-" + arch + ".so.1").exists()
        && !new File("/lib64/ld-linux-x86-64.so.2").exists()
        && !new File("/lib/ld-linux-aarch64.so.1").exists();
  }
}
