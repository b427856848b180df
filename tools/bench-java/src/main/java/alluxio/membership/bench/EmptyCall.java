package alluxio.membership.bench;

import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;

/** A native method without content: the least cost of a call into a library. */
@State(Scope.Benchmark)
public class EmptyCall {
  private long mValue = 1;

  /** Loads the library that {@code bench.empty} names. */
  @Setup
  public void load() {
    System.load(System.getProperty("bench.empty"));
  }

  /**
   * Calls the native method.
   *
   * @return its argument
   */
  @Benchmark
  public long call() {
    return identity(mValue);
  }

  private static native long identity(long value);
}
