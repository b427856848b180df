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
import java.util.stream.Stream;

/** A JVM of its own, whose standard output and error are read together, line by line. Killed when closed. */
public final class ChildJvm implements AutoCloseable {
  private final Process mProcess;
  private final BufferedWriter mIn;
  private final List<String> mLines = new ArrayList<>();
  private final Thread mReader;
  private final String mPid;
  private int mNext;

  /**
   * @param command the command line
   * @param directory the working directory, or null for that of this JVM
   * @param environment environment variables to set
   */
  private ChildJvm(List<String> command, Path directory, Map<String, String> environment) throws IOException {
    // The shell says the process id, which Java 8 does not know, and becomes the JVM.
    List<String> shell = new ArrayList<>(Arrays.asList("sh", "-c", "echo $$; exec \"$0\" \"$@\""));
    shell.addAll(command);
    ProcessBuilder builder = new ProcessBuilder(shell).redirectErrorStream(true);
    builder.environment().putAll(environment);
    if (directory != null) {
      builder.directory(directory.toFile());
    }
    mProcess = builder.start();
    mIn = new BufferedWriter(new OutputStreamWriter(mProcess.getOutputStream(), StandardCharsets.UTF_8));
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
  public static ChildJvm start(String classPath, Map<String, String> properties, List<String> options, Class<?> main,
      String... arguments) throws IOException {
