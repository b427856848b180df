package alluxio.membership.testing;

import java.util.concurrent.Callable;

/** Waits for conditions. */
public final class Await {
  private Await() {}

  /**
   * Waits until a condition holds.
   *
   * @param what the condition in words
   * @param seconds the limit, on a very slow machine
   * @param condition the condition; an exception ends the wait
   */
  public static void until(String what, int seconds, Callable<Boolean> condition) throws Exception {
    long deadline = System.nanoTime() + seconds * 1_000_000_000L;
    while (!condition.call()) {
      if (System.nanoTime() > deadline) {
        throw new AssertionError("Not within " + seconds + " s: " + what);
      }
      Thread.sleep(20);
    }
  }
}
