package alluxio.membership.bench;

import alluxio.conf.Configuration;
import alluxio.membership.MembershipManager;
import alluxio.membership.WorkerClusterView;

import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;

import java.io.IOException;

/** Listings of a cluster without changes, by the manager that the configuration names. */
@State(Scope.Benchmark)
public class Listing {
  private MembershipManager mManager;

  /** Opens the manager and lists the workers once. */
  @Setup
  public void open() throws IOException {
    mManager = MembershipManager.Factory.create(Configuration.global());
    int expected = Integer.getInteger("bench.workers");
    int listed = mManager.getAllMembers().size();
    if (listed != expected) {
      throw new IllegalStateException(listed + " workers are listed instead of " + expected);
    }
  }

  /** Closes the manager. */
  @TearDown
  public void close() throws Exception {
    mManager.close();
  }

  /**
   * Lists all workers.
   *
   * @return the workers
   */
  @Benchmark
  public WorkerClusterView all() throws IOException {
    return mManager.getAllMembers();
  }

  /**
   * Lists the live workers.
   *
   * @return the workers
   */
  @Benchmark
  public WorkerClusterView live() throws IOException {
    return mManager.getLiveMembers();
  }

  /**
   * Lists the lost workers.
   *
   * @return the workers
   */
  @Benchmark
  public WorkerClusterView failed() throws IOException {
    return mManager.getFailedMembers();
  }

  /**
   * Prints the table of all workers.
   *
   * @return the table
   */
  @Benchmark
  public String show() {
    return mManager.showAllMembers();
  }
}
