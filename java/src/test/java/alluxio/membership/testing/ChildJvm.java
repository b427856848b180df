package alluxio.membership.testing;

import org.junit.jupiter.api.Assumptions;

import java.io.BufferedReader;
import java.io.BufferedWriter;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStreamWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.function.Predicate;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * A separate JVM, whose standard output and error are read together, line by line. It is killed
 * when this is closed.
 */
public final class ChildJvm implements AutoCloseable {
  private final Process mProcess;
  private final BufferedWriter mIn;
  private final List<String> mLines = new ArrayList<>();
  private final Thread mReader;
  private final String mPid;
  private int mNext;

  /**
   * @param command the command line
   * @param directory the working directory, or null for the directory of this JVM
   * @param environment environment variables to set
   */
  private ChildJvm(List<String> command, Path directory, Map<String, String> environment)
      throws IOException {
    // The shell prints the process id, which Java 8 does not know, and becomes the JVM.
    List<String> shell = new ArrayList<>(Arrays.asList("sh", "-c", "echo $$; exec \"$0\" \"$@\""));
    shell.addAll(command);
    ProcessBuilder builder = new ProcessBuilder(shell).redirectErrorStream(true);
    builder.environment().putAll(environment);
    if (directory != null) {
      builder.directory(directory.toFile());
    }
    mProcess = builder.start();
    mIn = new BufferedWriter(new OutputStreamWriter(mProcess.getOutputStream(),
        StandardCharsets.UTF_8));
    mReader = new Thread(this::read, "child-jvm-output");
    mReader.setDaemon(true);
    mReader.start();
    try {
      mPid = awaitLine("the process id", line -> true);
    } catch (Exception e) {
      close();
      throw new IOException(e);
    }
  }

  /**
   * Starts a JVM.
   *
   * @param classPath the class path
   * @param properties system properties; Alluxio reads {@code alluxio.*} from them
   * @param options further options of the JVM
   * @param main the class to run
   * @param arguments its arguments
   * @return the JVM
   */
  public static ChildJvm start(String classPath, Map<String, String> properties,
      List<String> options, Class<?> main,
      String... arguments) throws IOException {
    return new Launch(classPath).properties(properties).options(options.toArray(new String[0]))
        .start(main, arguments);
  }

  /** A JVM that is about to be started. */
  public static final class Launch {
    private final String mClassPath;
    private final List<String> mOptions = new ArrayList<>();
    private final Map<String, String> mEnvironment = new HashMap<>();
    private String mHome = System.getProperty("test.child.java.home",
        System.getProperty("java.home"));
    private Path mDirectory;

    /**
     * @param classPath the class path
     */
    public Launch(String classPath) {
      mClassPath = classPath;
    }

    /**
     * @param home the folder of another Java
     * @return this
     */
    public Launch java(String home) {
      mHome = home;
      return this;
    }

    /**
     * @param directory the working directory
     * @return this
     */
    public Launch directory(Path directory) {
      mDirectory = directory;
      return this;
    }

    /**
     * @param name the name of an environment variable
     * @param value its value
     * @return this
     */
    public Launch environment(String name, String value) {
      mEnvironment.put(name, value);
      return this;
    }

    /**
     * @param properties system properties
     * @return this
     */
    public Launch properties(Map<String, String> properties) {
      properties.forEach((name, value) -> mOptions.add("-D" + name + "=" + value));
      return this;
    }

    /**
     * @param options further options of the JVM
     * @return this
     */
    public Launch options(String... options) {
      mOptions.addAll(Arrays.asList(options));
      return this;
    }

    /**
     * @param main the class to run
     * @param arguments its arguments
     * @return the JVM
     */
    public ChildJvm start(Class<?> main, String... arguments) throws IOException {
      List<String> command = new ArrayList<>();
      command.add(Paths.get(mHome, "bin", "java").toString());
      command.add("-Dfile.encoding=UTF-8");
      command.add("-Dvertx.cacheDirBase="
          + System.getProperty("vertx.cacheDirBase", System.getProperty("java.io.tmpdir")));
      command.addAll(mOptions);
      command.add("-cp");
      command.add(mClassPath);
      command.add(main.getName());
      command.addAll(Arrays.asList(arguments));
      return new ChildJvm(command, mDirectory, mEnvironment);
    }
  }

  /** @return the system properties of this program that Alluxio reads */
  public static Map<String, String> alluxioProperties() {
    return System.getProperties().stringPropertyNames().stream()
        .filter(name -> name.startsWith("alluxio."))
        .collect(Collectors.toMap(name -> name, System::getProperty));
  }

  /**
   * @param atLeast a version of Java
   * @return the folder of an installed Java of this version or a newer one; without one, the test
   * is skipped
   */
  public static String javaHome(int atLeast) throws IOException {
    List<Path> homes = new ArrayList<>(
        Collections.singletonList(Paths.get(System.getProperty("java.home"))));
    Path installed = Paths.get("/usr/lib/jvm");
    if (Files.isDirectory(installed)) {
      try (Stream<Path> found = Files.list(installed)) {
        found.forEach(homes::add);
      }
    }
    for (Path home : homes) {
      Path release = home.resolve("release");
      if (!Files.exists(release)) {
        continue;
      }
      Matcher version = Pattern.compile("JAVA_VERSION=\"(\\d+)")
          .matcher(new String(Files.readAllBytes(release), StandardCharsets.UTF_8));
      if (version.find() && Integer.parseInt(version.group(1)) >= atLeast) {
        return home.toString();
      }
    }
    return Assumptions.abort("No Java " + atLeast + " or newer is installed");
  }

  /**
   * @return our classes in front of Alluxio's
   */
  public static String ourClassPath() throws IOException {
    return ourClasses() + File.pathSeparator + stockClassPath();
  }

  /**
   * @return the folder or the jar of our classes
   */
  public static String ourClasses() {
    return System.getProperty("tested.classes", target("classes"));
  }

  /**
   * @return Alluxio's classes without ours
   */
  public static String stockClassPath() throws IOException {
    return target("test-classes") + File.pathSeparator
        + new String(Files.readAllBytes(Paths.get(target("dependencies.classpath"))),
        StandardCharsets.UTF_8).trim();
  }

  private static String target(String name) {
    return Paths.get(System.getProperty("basedir", ""), "target", name).toAbsolutePath().toString();
  }

  /**
   * Sends a line to the standard input.
   *
   * @param line the line
   */
  public void send(String line) throws IOException {
    mIn.write(line);
    mIn.newLine();
    mIn.flush();
  }

  /**
   * @param what the expected line, in words
   * @param wanted the condition for a line; each line is checked once
   * @return the first matching line
   */
  public String awaitLine(String what, Predicate<String> wanted) throws Exception {
    String[] found = new String[1];
    Await.until(what + "; output so far:\n" + output(), 60, () -> {
      boolean alive = mReader.isAlive();
      synchronized (mLines) {
        while (mNext < mLines.size()) {
          String line = mLines.get(mNext++);
          if (wanted.test(line)) {
            found[0] = line;
            return true;
          }
        }
      }
      if (!alive) {
        throw new AssertionError("The JVM ended before: " + what + "\n" + output());
      }
      return false;
    });
    return found[0];
  }

  /** Sends only SIGTERM. {@code Process.destroy} would also end the standard input. */
  public void terminate() throws Exception {
    new ProcessBuilder("kill", "-TERM", mPid).inheritIO().start().waitFor();
  }

  /** Sends SIGKILL. */
  public void kill() {
    mProcess.destroyForcibly();
  }

  /**
   * @param seconds the time to wait
   * @return whether the JVM ends in this time
   */
  public boolean exitsWithin(int seconds) throws InterruptedException {
    return mProcess.waitFor(seconds, TimeUnit.SECONDS);
  }

  /**
   * @return the exit status, after the end of the JVM
   */
  public int awaitExit() throws Exception {
    if (!mProcess.waitFor(60, TimeUnit.SECONDS)) {
      throw new AssertionError("The JVM does not exit:\n" + output());
    }
    mReader.join(10_000);
    return mProcess.exitValue();
  }

  /**
   * @return all output so far
   */
  public String output() {
    synchronized (mLines) {
      return String.join("\n", mLines);
    }
  }

  @Override
  public void close() {
    mProcess.destroyForcibly();
  }

  private void read() {
    try (BufferedReader out =
        new BufferedReader(new InputStreamReader(mProcess.getInputStream(),
        StandardCharsets.UTF_8))) {
      for (String line = out.readLine(); line != null; line = out.readLine()) {
        synchronized (mLines) {
          mLines.add(line);
        }
      }
    } catch (IOException e) {
      // The JVM was killed while its output was being read.
    }
  }
}
