package alluxio.membership.bridge;

import alluxio.membership.bridge.internal.Background;
import alluxio.membership.bridge.internal.NativeLibrary;
import alluxio.membership.bridge.internal.Natives;
import alluxio.membership.bridge.internal.Operation;
import alluxio.membership.bridge.internal.Wire;

import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.TimeUnit;

/**
 * Access to the worker membership of one Alluxio cluster, kept in etcd or in a static hosts file,
 * through the native library.
 *
 * <p>All methods may be called from any thread, also from virtual threads, which give their carrier
 * away while they wait. An interrupt ends the waiting at once with an {@link InterruptedException};
 * the interrupted operation may have taken effect or not. A thread that is interrupted before it
 * calls gets a result that needs no answer of etcd.
 *
 * <p>After {@link #close()} every method but {@code close} throws {@link IllegalStateException}.
 * Managers of one process share connections and views, so opening several is cheap. The library's
 * Java threads run while there is a manager that is not closed, and keep the class loader of this
 * class.
 */
public final class NativeMembership implements AutoCloseable {
  private static final int CONFIGURED = -1;

  private final long mId;
  /** The latest view that was decoded. */
  private volatile ClusterView mView;

  private NativeMembership(long id) {
    mId = id;
  }

  /**
   * Opens a manager. Never waits for the network, and for the files that the configuration names at
   * most for the operation timeout.
   *
   * @param properties Alluxio property names and their values; {@code
   *        alluxio.worker.membership.manager.type} says where the membership is kept
   * @return the manager, which must be closed
   * @throws MembershipException if the configuration cannot be used, or a file cannot be read, or
   *         not in time
   * @throws UnsatisfiedLinkError if the native library cannot be loaded
   */
  public static NativeMembership open(Map<String, String> properties) throws MembershipException {
    NativeLibrary.load();
    byte[] request = Wire.opening(NativeLibrary.origin(), properties);
    NativeMembership opening = new NativeMembership(Operation.newId());
    boolean opened = false;
    try (Operation operation = new Operation()) {
      long limit = Natives.open(operation.id(), opening.mId, request);
      Background.ensureRunning();
      operation.awaitUninterruptibly(limit);
      opened = true;
      return opening;
    } finally {
      if (!opened) {
        Natives.discard(opening.mId);
      }
    }
  }

  /**
   * @return the version of the native library
   * @throws UnsatisfiedLinkError if the native library cannot be loaded
   */
  public static String version() {
    return NativeLibrary.load();
  }

  /**
   * Registers the worker and keeps it registered until {@link #leave}, {@link #close} or the end of
   * the process. Joining again with the same worker succeeds.
   *
   * @param worker the worker
   * @throws MembershipException of kind ALREADY_EXISTS if another worker holds the identity, or of
   *         another kind
   * @throws InterruptedException if the thread was interrupted; the worker may be registered or not
   */
  public void join(Worker worker) throws MembershipException, InterruptedException {
    join(worker, CONFIGURED);
  }

  /**
   * As {@link #join(Worker)}, with another setting for {@code alluxio.k8s.env.deployment} than the
   * configured one.
   *
   * @param worker the worker
   * @param k8sDeployment whether a worker of this identity at another address is replaced instead
   *         of refused
   * @throws MembershipException of kind ALREADY_EXISTS if another worker holds the identity, or of
   *         another kind
   * @throws InterruptedException if the thread was interrupted; the worker may be registered or not
   */
  public void join(Worker worker, boolean k8sDeployment) throws MembershipException, InterruptedException {
    join(worker, k8sDeployment ? 1 : 0);
  }

  private void join(Worker worker, int k8sDeployment) throws MembershipException, InterruptedException {
    byte[] joining = Wire.worker(worker);
    try (Operation operation = new Operation()) {
      operation.await(Natives.join(operation.id(), mId, joining, k8sDeployment));
    }
  }

  /**
   * The workers of the cluster. Costs one native call and no allocation while nothing has changed.
   *
   * @return the view
   * @throws MembershipException if no view as fresh as configured can be had
   * @throws InterruptedException if the thread was interrupted
   */
  public ClusterView view() throws MembershipException, InterruptedException {
    ClusterView known = mView;
    long version = Natives.currentVersion(mId);
    if (known != null && known.getVersion() == version) {
      return known;
    }
    try (Operation operation = new Operation()) {
      return received(operation.await(Natives.view(operation.id(), mId, versionOf(known))), known);
    }
  }

  /**
   * Waits for a change. The view may be of any age, in each read mode.
   *
   * @param version the version of the view that the caller knows; 0 for none
   * @param timeout how long to wait
   * @param unit the unit of the timeout
   * @return the first view with a greater version, or nothing when the time is over
   * @throws MembershipException of kind INTERNAL, for a bug in the library
   * @throws InterruptedException if the thread was interrupted
   */
  public Optional<ClusterView> waitForChange(long version, long timeout, TimeUnit unit)
      throws MembershipException, InterruptedException {
    long millis = unit.toMillis(timeout);
    try (Operation operation = new Operation()) {
      Wire.Reader reply = operation.await(Natives.waitForChange(operation.id(), mId, version, millis));
      return reply.isEmpty() ? Optional.empty() : Optional.of(received(reply, null));
    }
  }

  /**
   * @return what {@code alluxio info nodes} prints: a table of the workers, their addresses and
   *         whether they are online
   * @throws MembershipException if no view as fresh as configured can be had
   * @throws InterruptedException if the thread was interrupted
   */
  public String showAllMembers() throws MembershipException, InterruptedException {
    try (Operation operation = new Operation()) {
      return operation.await(Natives.showAllMembers(operation.id(), mId)).text();
    }
  }

  /**
   * Ends the registration of a worker that this process registered: it is listed as lost at once.
   * Nothing happens if the process has not registered it.
   *
   * @param identity the worker's identity
   * @throws MembershipException if etcd does not answer
   * @throws InterruptedException if the thread was interrupted
   */
  public void stopHeartBeat(String identity) throws MembershipException, InterruptedException {
    byte[] text = Wire.utf8(identity);
    try (Operation operation = new Operation()) {
      operation.await(Natives.stopHeartBeat(operation.id(), mId, text));
    }
  }

  /**
   * Removes a lost worker from the cluster.
   *
   * @param identity the worker's identity
   * @throws MembershipException of kind INVALID_ARGUMENT if the worker is unknown or live, or of
   *         another kind
   * @throws InterruptedException if the thread was interrupted
   */
  public void decommission(String identity) throws MembershipException, InterruptedException {
    byte[] text = Wire.utf8(identity);
    try (Operation operation = new Operation()) {
      operation.await(Natives.decommission(operation.id(), mId, text));
    }
  }

  /**
   * Ends every registration that this manager made.
   *
   * @throws MembershipException if etcd does not answer; the registrations then end with their
   *         leases
   * @throws InterruptedException if the thread was interrupted
   */
  public void leave() throws MembershipException, InterruptedException {
    try (Operation operation = new Operation()) {
      operation.await(Natives.leave(operation.id(), mId));
    }
  }

  /**
   * Ends every registration that this manager made, and closes it. Closing twice does nothing. If
   * the thread is interrupted, this returns with the interrupt flag set, and leaving goes on in the
   * background; its error is logged.
   *
   * @throws MembershipException if a registration could not be ended; it then ends with its lease.
   *         The manager is closed nevertheless
   */
  @Override
  public void close() throws MembershipException {
    try (Operation operation = new Operation()) {
      operation.awaitOrDetach(Natives.close(operation.id(), mId));
    }
  }

  private ClusterView received(Wire.Reader reply, ClusterView known) {
    if (reply.isEmpty()) {
      return Objects.requireNonNull(known, "known");
    }
    ClusterView view = reply.view();
    ClusterView latest = mView;
    // Another thread may have received a later one meanwhile.
    if (versionOf(latest) < view.getVersion()) {
      mView = view;
    }
    return view;
  }

  private static long versionOf(ClusterView view) {
    return view == null ? 0 : view.getVersion();
  }
}
