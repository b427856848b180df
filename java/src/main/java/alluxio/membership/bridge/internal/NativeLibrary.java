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
import java.util.Collections;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;

/**
 * Finds and loads the native library, once per class loader:
 *
 * <ol>
 * <li>the file named by the system property {@value #PATH_PROPERTY}, and then nothing else; a JVM loads a file for one
 * class loader only, so others load a private copy of it;
 * <li>{@code alluxio_membership-<interface>} on {@code java.library.path}; the number keeps an older file from being taken;
 * <li>the one in this jar, copied to a private directory and deleted as soon as it is loaded. Directories in turn:
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
      loadNamed(new File(path).getAbsoluteFile());
      return;
    }
    try {
      System.loadLibrary("alluxio_membership-" + Natives.INTERFACE);
    } catch (UnsatisfiedLinkError e) {
      loadFromJar(e);
    }
  }

  private static void loadNamed(File file) {
    try {
      System.load(file.getPath());
    } catch (UnsatisfiedLinkError e) {
      if (e.getMessage() == null || !e.getMessage().contains("already loaded in another classloader")) {
        throw e;
      }
      loadCopy(() -> Files.newInputStream(file.toPath()), e);
    }
  }

  private static void loadFromJar(UnsatisfiedLinkError notOnLibraryPath) {
    String resource = "/META-INF/native/" + platform() + "/" + FILE_NAME;
    if (NativeLibrary.class.getResource(resource) == null) {
      throw unusable("this jar has no library for this platform (" + resource + ")",
          Collections.singletonList(notOnLibraryPath));
    }
    loadCopy(() -> NativeLibrary.class.getResourceAsStream(resource), notOnLibraryPath);
  }

  /** Loads a copy from the first directory that allows it. */
  private static void loadCopy(Source source, UnsatisfiedLinkError why) {
    List<String> failures = new ArrayList<>();
    List<Throwable> causes = new ArrayList<>();
    causes.add(why);
    for (Path directory : directories()) {
      try {
        loadCopy(source, directory);
        return;
      } catch (IOException | LinkageError | SecurityException e) {
        failures.add(directory + ": " + e.getMessage());
        causes.add(e);
      }
    }
    throw unusable(String.join("; ", failures), causes);
  }

  private static UnsatisfiedLinkError unusable(String why, List<Throwable> causes) {
    UnsatisfiedLinkError error = new UnsatisfiedLinkError(why + ". Name the library file with -D" + PATH_PROPERTY
        + ", or a directory that files may be executed in with -D" + DIRECTORY_PROPERTY);
    causes.forEach(error::addSuppressed);
    return error;
  }

  private static void loadCopy(Source source, Path parent) throws IOException {
    Path directory = Files.createTempDirectory(Files.createDirectories(parent), "alluxio-membership-");
    Path file = directory.resolve(FILE_NAME);
    try {
      try (InputStream in = source.open()) {
        Files.copy(in, file, StandardCopyOption.REPLACE_EXISTING);
      }
      if (!file.toFile().setExecutable(true, true) || !file.toFile().canExecute()) {
        throw new IOException("files may not be executed there (mounted noexec?)");
      }
      System.load(file.toAbsolutePath().toString());
    } finally {
      // The mapping stays valid without the file, and nothing is left behind however the JVM ends.
      delete(file, directory);
    }
  }

  /** A library that is loaded is none the worse for its file staying, as on NFS, where one in use is only renamed. */
  static void delete(Path file, Path directory) {
    for (Path path : new Path[] {file, directory}) {
      try {
        Files.deleteIfExists(path);
      } catch (IOException | SecurityException e) {
        path.toFile().deleteOnExit();
      }
    }
  }

  private interface Source {
    InputStream open() throws IOException;
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
