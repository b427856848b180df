package alluxio.membership.bench;

import alluxio.conf.AlluxioConfiguration;
import alluxio.conf.Configuration;
import alluxio.membership.MembershipManager;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;

/**
 * A process that uses a membership manager as {@code make bench} asks it to. It reads one command
 * per line from standard input, and answers with one line: {@value #ANSWER} and numbers. Times are
 * in nanoseconds.
 *
 * <ul>
 * <li>{@code open} opens the manager and lists the workers; answers with the time and the number of
 * workers. The configuration was loaded before.
 * <li>{@code list N} lists the workers N times; answers with N times.
 * <li>{@code during PAUSE MILLIS} lists the live workers again and again for so many milliseconds,
 * with a pause from one start to the next; answers with pairs of a start, counted from the first
 * one, and a time. The time of a call that fails is negative.
 * <li>{@code show} opens the manager and prints the table of all workers after the line of the
 * answer.
 * <li>{@code memory} collects garbage; answers with the number of loaded classes and the used bytes
 * of the heap.
 * </ul>
 */
public final class Probe {
  private static final String ANSWER = "answer:";

  private final AlluxioConfiguration mConf = Configuration.global();
  private MembershipManager mManager;

  private Probe() {}

  /**
   * Serves commands until standard input ends.
   *
   * @param args none
   */
  public static void main(String[] args) throws Exception {
    Probe probe = new Probe();
    BufferedReader in =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      System.out.println(ANSWER + probe.run(line.split(" ")));
    }
    // The stock classes leave threads that are not daemons.
    System.exit(0);
  }

  private String run(String[] command) throws Exception {
    switch (command[0]) {
      case "open":
        return open();
      case "list":
        return list(Integer.parseInt(command[1]));
      case "during":
        return during(Long.parseLong(command[1]) * 1_000_000,
            Long.parseLong(command[2]) * 1_000_000);
      case "show":
        mManager = MembershipManager.Factory.create(mConf);
        return "\n" + mManager.showAllMembers();
      case "memory":
        return memory();
      default:
        throw new IllegalArgumentException("Unknown command " + command[0]);
    }
  }

  private String open() throws IOException {
    long start = System.nanoTime();
    mManager = MembershipManager.Factory.create(mConf);
    int workers = mManager.getAllMembers().size();
    return " " + (System.nanoTime() - start) + " " + workers;
  }

  private String list(int count) throws IOException {
    StringBuilder answer = new StringBuilder();
    for (int i = 0; i < count; i++) {
      long start = System.nanoTime();
      mManager.getAllMembers();
      answer.append(' ').append(System.nanoTime() - start);
    }
    return answer.toString();
  }

  private String during(long pauseNanos, long nanos) throws InterruptedException {
    StringBuilder answer = new StringBuilder();
    long first = System.nanoTime();
    long next = first;
    while (next - first < nanos) {
      long wait = next - System.nanoTime();
      if (wait > 0) {
        Thread.sleep(wait / 1_000_000, (int) (wait % 1_000_000));
      }
      long start = System.nanoTime();
      boolean listed = true;
      try {
        mManager.getLiveMembers();
      } catch (IOException | RuntimeException e) {
        listed = false;
      }
      long end = System.nanoTime();
      answer.append(' ').append(start - first).append(' ')
          .append(listed ? end - start : start - end);
      // After a slow call, missed calls are not repeated.
      next = Math.max(next + pauseNanos, end);
    }
    return answer.toString();
  }

  private static String memory() {
    System.gc();
    System.gc();
    return " " + ManagementFactory.getClassLoadingMXBean().getLoadedClassCount() + " "
        + ManagementFactory.getMemoryMXBean().getHeapMemoryUsage().getUsed();
  }
}
