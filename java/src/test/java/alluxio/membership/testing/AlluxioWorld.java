package alluxio.membership.testing;

import java.io.File;
import java.io.IOException;
import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.function.Function;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/**
 * Alluxio's classes of one version, with or without ours in front of them, in a class loader of
 * their own. A world is like a separate process, but starts faster: it has its own static fields,
 * native library and threads.
 */
public final class AlluxioWorld implements AutoCloseable {
  /** The version that the tests are compiled against. */
  public static final String CURRENT = "313";

  private static final Pattern CORE_JAR =
      Pattern.compile("(alluxio-core-(?:common|transport))-" + CURRENT + "\\.jar");

  private final Loader mLoader;

  private AlluxioWorld(List<Path> classPath, Set<String> hidden) throws MalformedURLException {
    List<URL> urls = new ArrayList<>();
    for (Path entry : classPath) {
      urls.add(entry.toUri().toURL());
    }
    mLoader = new Loader(urls.toArray(new URL[0]), hidden);
  }

  /**
   * @param version a version of Alluxio
   * @param ours whether our classes come first
   * @return the world
   */
  public static AlluxioWorld open(String version, boolean ours) throws IOException {
    return new AlluxioWorld(classPath(version, ours), new HashSet<>());
  }

  /**
   * @param hidden names of classes that this Alluxio does not have
   * @return our classes before an Alluxio that lacks some
   */
  public static AlluxioWorld without(Set<String> hidden) throws IOException {
    return new AlluxioWorld(classPath(CURRENT, true), hidden);
  }

  /**
   * @param ours whether our classes come first
   * @return the client for Hadoop and others, which has all its libraries under other names
   */
  public static AlluxioWorld shadedClient(boolean ours) throws IOException {
    List<Path> classPath = new ArrayList<>();
    if (ours) {
      classPath.add(Paths.get(ChildJvm.ourClasses()));
    }
    classPath.add(target("test-classes"));
    classPath.add(target("alluxio-jars").resolve("alluxio-shaded-client-" + CURRENT + ".jar"));
    for (String jar : ChildJvm.stockClassPath().split(File.pathSeparator)) {
      // The libraries that the shaded client lacks, and that every program with it has.
      if (Paths.get(jar).getFileName().toString().matches("(slf4j-api|log4j)-.*")) {
        classPath.add(Paths.get(jar));
      }
    }
    return new AlluxioWorld(classPath, new HashSet<>());
  }

  /**
   * @param version a version of Alluxio
   * @param ours whether our classes come first
   * @return the class path with which a JVM is that world
   */
  public static String joinedClassPath(String version, boolean ours) throws IOException {
    return classPath(version, ours).stream().map(Path::toString)
        .collect(Collectors.joining(File.pathSeparator));
  }

  private static List<Path> classPath(String version, boolean ours) throws IOException {
    List<Path> classPath = new ArrayList<>();
    for (String entry : (ours ? ChildJvm.ourClassPath() : ChildJvm.stockClassPath())
        .split(File.pathSeparator)) {
      Path path = Paths.get(entry);
      Matcher core = CORE_JAR.matcher(path.getFileName().toString());
      // The libraries are equal in all versions.
      classPath.add(version.equals(CURRENT) || !core.matches() ? path
          : target("alluxio-jars").resolve(core.group(1) + "-" + version + ".jar"));
    }
    return classPath;
  }

  private static Path target(String name) {
    return Paths.get(System.getProperty("basedir", ""), "target", name).toAbsolutePath();
  }

  /**
   * @param program a class with a public constructor without parameters
   * @return an object of that class in this world; while it runs, this world's class loader is the
   * thread's
   */
  @SuppressWarnings("unchecked")
  public Function<Object[], String> start(Class<? extends Function<Object[], String>> program) {
    Function<Object[], String> started = in(() -> (Function<Object[], String>)
        Class.forName(program.getName(), true, mLoader).getConstructor().newInstance());
    return input -> in(() -> started.apply(input));
  }

  private <T> T in(Callable<T> body) {
    Thread thread = Thread.currentThread();
    ClassLoader before = thread.getContextClassLoader();
    thread.setContextClassLoader(mLoader);
    try {
      return body.call();
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Exception e) {
      throw new AssertionError(e);
    } finally {
      thread.setContextClassLoader(before);
    }
  }

  @Override
  public void close() throws IOException {
    mLoader.close();
  }

  private static final class Loader extends URLClassLoader {
    private final Set<String> mHidden;

    Loader(URL[] urls, Set<String> hidden) {
      super(urls, ClassLoader.getSystemClassLoader().getParent());
      mHidden = hidden;
    }

    @Override
    protected Class<?> findClass(String name) throws ClassNotFoundException {
      if (mHidden.contains(name)) {
        throw new ClassNotFoundException(name);
      }
      return super.findClass(name);
    }
  }
}
