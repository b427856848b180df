package alluxio.membership.bridge.internal;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.channels.Channels;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.channels.OverlappingFileLockException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.NoSuchFileException;
import java.nio.file.NotDirectoryException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.FileAttribute;
import java.nio.file.attribute.PosixFilePermissions;
import java.nio.file.attribute.UserPrincipal;
import java.util.UUID;
import java.util.concurrent.TimeUnit;

/** A copy of the library in a private directory, which exists only while it is loaded. */
final class LibraryCopy {
  static final String PREFIX = "alluxio-membership-";

  /** How long a new directory is kept before its file must exist and be locked. */
  private static final long NEW_MILLIS = TimeUnit.SECONDS.toMillis(10);
  private static final FileAttribute<?> FOR_THE_OWNER =
      PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------"));
  private static final int BUFFER_LENGTH = 64 * 1024;

  private LibraryCopy() {}

  /** The bytes of the library. */
  interface Source {
    InputStream open() throws IOException;
  }

  /**
   * Loads a copy.
   *
   * @param source the library
   * @param parent where to create the private directory
   * @param make whether to create the parent if it is missing
   */
  static void load(Source source, Path parent, boolean make) throws IOException {
    prepare(parent, make);
    // createTempDirectory would fail for every directory if java.io.tmpdir is no path in the locale
    // of the JVM.
    Path directory =
        Files.createDirectory(parent.resolve(PREFIX + UUID.randomUUID()), FOR_THE_OWNER);
    Path file = directory.resolve(NativeLibrary.FILE_NAME);
    UserPrincipal self = ownerOf(directory);
    try (FileChannel copy =
        FileChannel.open(file, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
      // Shows other processes that this process is alive. Not every file system has locks.
      lock(copy);
      try (InputStream in = source.open()) {
        OutputStream out = Channels.newOutputStream(copy);
        byte[] buffer = new byte[BUFFER_LENGTH];
        for (int read = in.read(buffer); read >= 0; read = in.read(buffer)) {
          out.write(buffer, 0, read);
        }
      }
      if (!file.toFile().setExecutable(true, true) || !file.toFile().canExecute()) {
        throw new IOException("files may not be executed there (mounted noexec?)");
      }
      System.load(file.toAbsolutePath().toString());
    } finally {
      // The mapping stays valid without the file.
      delete(file, directory);
    }
    removeLeftovers(parent, self);
  }

  private static void prepare(Path parent, boolean make) throws IOException {
    // A link to a directory counts too. createDirectories refuses it before Java 19.
    if (Files.isDirectory(parent)) {
      return;
    }
    if (Files.exists(parent)) {
      throw new NotDirectoryException(parent.toString());
    }
    if (make) {
      Files.createDirectories(parent);
    } else if (parent.endsWith(".cache") && Files.isDirectory(parent.getParent())) {
      Files.createDirectory(parent);
    } else {
      throw new NoSuchFileException(parent.toString());
    }
  }

  private static void lock(FileChannel file) {
    try {
      file.tryLock();
    } catch (IOException e) {
      // After a while another process takes the file for a leftover.
    }
  }

  /**
   * Deletes the file. A loaded library works even if its file stays, as on NFS, which renames a
   * file that is in use.
   */
  static void delete(Path file, Path directory) {
    for (Path path : new Path[] {file, directory}) {
      try {
        Files.deleteIfExists(path);
      } catch (IOException | SecurityException e) {
        path.toFile().deleteOnExit();
      }
    }
  }

  /** Removes the files of killed processes of this user that were copying the library. */
  private static void removeLeftovers(Path parent, UserPrincipal self) {
    try (DirectoryStream<Path> directories = Files.newDirectoryStream(parent, PREFIX + "*")) {
      for (Path directory : directories) {
        if (isOld(directory) && self.equals(ownerOf(directory))
            && isUnused(directory.resolve(NativeLibrary.FILE_NAME))) {
          delete(directory.resolve(NativeLibrary.FILE_NAME), directory);
        }
      }
    } catch (IOException | RuntimeException e) {
      // The leftovers stay, which does no harm.
    }
  }

  private static UserPrincipal ownerOf(Path path) throws IOException {
    return Files.getOwner(path, LinkOption.NOFOLLOW_LINKS);
  }

  private static boolean isOld(Path path) throws IOException {
    long modified = Files.getLastModifiedTime(path, LinkOption.NOFOLLOW_LINKS).toMillis();
    long age = System.currentTimeMillis() - modified;
    return age > NEW_MILLIS && Files.isDirectory(path, LinkOption.NOFOLLOW_LINKS);
  }

  private static boolean isUnused(Path file) {
    try (FileChannel copy =
            FileChannel.open(file, StandardOpenOption.WRITE, LinkOption.NOFOLLOW_LINKS);
        FileLock lock = copy.tryLock()) {
      return lock != null;
    } catch (NoSuchFileException e) {
      return true;
    } catch (IOException | OverlappingFileLockException e) {
      return false;
    }
  }
}
