package alluxio.membership.bridge.internal;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.NoSuchFileException;
import java.nio.file.NotDirectoryException;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Describes why the library could not be loaded. */
final class LoadFailure {
  /**
   * The dynamic linker's message about a C library that is too old, with the library's directory.
   */
  private static final Pattern TOO_OLD = Pattern.compile(
      "(/\\S*)/lib[^/]+\\.so\\.\\d+: version `GLIBC_[\\d.]+' not found");
  /** The versions that a library needs, as in its table of strings. */
  private static final Pattern NEEDED = Pattern.compile("\0GLIBC_(\\d+)\\.(\\d+)");
  private static final Pattern PRESENT = Pattern.compile(
      "GNU C Library [^\0\n]*release version (\\d+\\.\\d+)");
  private static final int LONGEST_REASON = 300;

  private LoadFailure() {}

  /**
   * Describes a failure that another directory cannot avoid.
   *
   * @param failure the failure to load a copy of the library
   * @param library the library
   * @return the description, or null if another directory may help
   */
  static String ofTheMachine(Throwable failure, LibraryCopy.Source library) {
    if (isDenied(failure)) {
      return reason(failure);
    }
    Matcher tooOld = TOO_OLD.matcher(String.valueOf(failure.getMessage()));
    if (!(failure instanceof UnsatisfiedLinkError) || !tooOld.find()) {
      return null;
    }
    return "this machine has glibc " + present(Paths.get(tooOld.group(1), "libc.so.6"))
        + ", the library needs " + needed(library)
        + ". Use a jar that was built for this machine's glibc or an older one";
  }

  /**
   * Describes a failure in one line. The message of a file's exception is often only the path.
   *
   * @param failure the failure
   * @return the description
   */
  static String reason(Throwable failure) {
    if (isDenied(failure)) {
      return "this JVM refuses native libraries. Start it with --enable-native-access=ALL-UNNAMED";
    }
    String reason = failure.getMessage();
    if (failure instanceof AccessDeniedException) {
      reason = "permission denied";
    } else if (failure instanceof NoSuchFileException) {
      reason = "no such directory";
    } else if (failure instanceof NotDirectoryException) {
      reason = "not a directory";
    } else if (failure instanceof InvalidPathException) {
      reason = "this name cannot be used in the locale of this JVM";
    } else if (failure instanceof FileSystemException
        && ((FileSystemException) failure).getReason() != null) {
      reason = ((FileSystemException) failure).getReason();
    } else if (reason == null) {
      reason = failure.getClass().getSimpleName();
    }
    String line = reason.trim().replaceAll("\\s+", " ");
    return line.length() <= LONGEST_REASON ? line : line.substring(0, LONGEST_REASON) + "...";
  }

  /**
   * Whether the exception is of a class that Java 8 does not have. Java 24 and later throw it with
   * {@code --illegal-native-access=deny}.
   */
  private static boolean isDenied(Throwable failure) {
    return failure.getClass().getName().equals("java.lang.IllegalCallerException");
  }

  private static String present(Path libc) {
    try {
      String bytes = new String(Files.readAllBytes(libc), StandardCharsets.ISO_8859_1);
      Matcher version = PRESENT.matcher(bytes);
      return version.find() ? version.group(1) : "of an older version";
    } catch (IOException | RuntimeException e) {
      return "of an older version";
    }
  }

  private static String needed(LibraryCopy.Source library) {
    int major = 0;
    int minor = 0;
    try (InputStream in = library.open()) {
      ByteArrayOutputStream bytes = new ByteArrayOutputStream();
      byte[] buffer = new byte[64 * 1024];
      for (int read = in.read(buffer); read >= 0; read = in.read(buffer)) {
        bytes.write(buffer, 0, read);
      }
      String text = new String(bytes.toByteArray(), StandardCharsets.ISO_8859_1);
      Matcher version = NEEDED.matcher(text);
      while (version.find()) {
        int[] found = {Integer.parseInt(version.group(1)), Integer.parseInt(version.group(2))};
        if (found[0] > major || found[0] == major && found[1] > minor) {
          major = found[0];
          minor = found[1];
        }
      }
    } catch (IOException | RuntimeException e) {
      // Returns what was found so far, or nothing.
    }
    return major == 0 ? "a newer one" : major + "." + minor;
  }
}
