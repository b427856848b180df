package alluxio.membership.bridge;

import alluxio.membership.bridge.internal.AsyncOperation;
import alluxio.membership.bridge.internal.Background;
import alluxio.membership.bridge.internal.NativeLibrary;
import alluxio.membership.bridge.internal.Natives;
import alluxio.membership.bridge.internal.Operation;
import alluxio.membership.bridge.internal.Wire;

import java.time.Duration;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/**
 * A manager: access to the worker membership of one Alluxio cluster, in etcd or in a static hosts
 * file.
 *
 * <p>All methods may be called from any thread. A virtual thread that waits releases its carrier.
 * An interrupt ends a wait at once with an {@link InterruptedException}; the interrupted operation
 * may or may not have taken effect. A thread that was interrupted before the call receives a result
 * if the call needs no answer of etcd.
 *
 * <p>The {@code Async} methods return at once. Their futures complete on threads of the common
 * pool. A future fails with the exception that the method without {@code Async} throws. Cancelling
 * a future stops the operation, which may or may not have taken effect.
 *
 * <p>After {@link #close()} every method except {@code close} and {@code closeAsync} throws {@link
 * IllegalStateException}, or returns a future that fails with it. Managers of one process share
 * connections and views, so several managers cost little. The library's Java threads run while a
 * manager is open, and keep the class loader of this class in memory.
 */
public final class Membership implements AutoCloseable {
  /** Large enough for a cluster with three endpoints and one worker of this process. */
  private static final int USUAL_STATUS = 2048;

  private final long mId;
  private final ManagementBean mManagement = new ManagementBean(this);
  /** The latest decoded view. */
  private volatile ClusterView mView;
  /** The latest table that was decoded. */
  private volatile Table mTable;

  private Membership(long id) {
    mId = id;
  }

  /**
   * Opens a manager.
   *
   * <p>Never waits for the network. Waits for the files that the configuration names, at most for
   * the operation timeout.
   *
   * @param properties Alluxio property names and their values; {@code
   *     alluxio.worker.membership.manager.type} selects the type of the membership
   * @return the manager, which must be closed
   * @throws MembershipException if the configuration is invalid, or a file cannot be read in time
   * @throws UnsatisfiedLinkError if the native library cannot be loaded
   */
  public static Membership open(Map<String, String> properties) throws MembershipException {
    NativeLibrary.load();
    byte[] request = Wire.opening(NativeLibrary.origin(), properties);
    Membership opening = new Membership(Operation.newId());
    boolean opened = false;
    try (Operation operation = new Operation()) {
      long limit = Natives.open(operation.id(), opening.mId, request);
      Background.ensureRunning();
      operation.awaitUninterruptibly(limit);
      opening.mManagement.register();
      opened = true;
      return opening;
    } finally {
      if (!opened) {
        opening.mManagement.unregister();
        Natives.discard(opening.mId);
      }
    }
  }

  /**
   * Returns the version of the native library.
   *
   * @return the version
   * @throws UnsatisfiedLinkError if the native library cannot be loaded
   */
  public static String version() {
    return NativeLibrary.load();
  }

  /**
   * Registers a worker with the configured options. See {@link #join(Worker, JoinOptions)}.
   *
   * @param worker the worker
   * @throws MembershipException of kind ALREADY_EXISTS if another worker has the identity, or of
   *     another kind
   * @throws InterruptedException if the thread was interrupted; the worker may or may not be
   *     registered
   */
  public void join(Worker worker) throws MembershipException, InterruptedException {
    join(worker, JoinOptions.defaults());
  }

  /**
   * Registers a worker, and keeps it registered until {@link #leave}, {@link #close} or the end of
   * the process. Joining again with the same worker succeeds.
   *
   * @param worker the worker
   * @param options the options
   * @throws MembershipException of kind ALREADY_EXISTS if another worker has the identity, or of
   *     another kind
   * @throws InterruptedException if the thread was interrupted; the worker may or may not be
   *     registered
   */
  public void join(Worker worker, JoinOptions options)
      throws MembershipException, InterruptedException {
    byte[] joining = worker.toBytes();
    int k8sDeployment = options.k8sDeployment();
    try (Operation operation = new Operation()) {
      operation.await(Natives.join(operation.id(), mId, joining, k8sDeployment));
    }
  }

  /**
   * Registers a worker like {@link #join(Worker, JoinOptions)}, without waiting.
   *
   * @param worker the worker
   * @param options the options
   * @return a future that completes when the worker is registered
   */
  public CompletableFuture<Void> joinAsync(Worker worker, JoinOptions options) {
    byte[] joining = worker.toBytes();
    int k8sDeployment = options.k8sDeployment();
    return AsyncOperation.start(
        operation -> Natives.join(operation, mId, joining, k8sDeployment), reply -> null);
  }

  /**
   * Returns the workers of the cluster. Costs one native call and no allocation while nothing has
   * changed.
   *
   * @return the view
   * @throws MembershipException if no view is as fresh as configured and etcd does not answer
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
   * Returns the workers of the cluster like {@link #view()}, without waiting.
   *
   * @return a future of the view
   */
  public CompletableFuture<ClusterView> viewAsync() {
    ClusterView known = mView;
    return AsyncOperation.start(
        operation -> Natives.view(operation, mId, versionOf(known)),
        reply -> received(reply, known));
  }

  /**
   * Waits for a change. Ignores the age of the view and the read mode.
   *
   * @param version the version of the view that the caller knows; 0 for none
   * @param timeout how long to wait
   * @param unit the unit of the timeout
   * @return the first view with a greater version, or empty after the timeout
   * @throws MembershipException of kind INTERNAL, for a bug in the library
   * @throws InterruptedException if the thread was interrupted
   */
  public Optional<ClusterView> waitForChange(long version, long timeout, TimeUnit unit)
      throws MembershipException, InterruptedException {
    long millis = unit.toMillis(timeout);
    ClusterView known = mView;
    try (Operation operation = new Operation()) {
      Wire.Reader reply = operation.await(
          Natives.waitForChange(operation.id(), mId, version, versionOf(known), millis));
      if (!reply.isEmpty()) {
        return Optional.of(received(reply, known));
      }
    }
    return Optional.empty();
  }

  /**
   * Reports the changes of the cluster to a listener.
   *
   * <p>The listener first receives {@link ChangeKind#ADDED} for each listed worker, then each
   * change. It receives one call at a time, in tasks of the executor. Changes that arrive faster
   * than the listener handles them may be combined. While etcd does not answer there are no
   * changes, and {@link #status()} reports the problem. The reports end when the subscription or
   * the manager is closed.
   *
   * <p>If a listener throws a {@link RuntimeException}, the exception is logged, and the listener
   * receives the next changes.
   *
   * @param listener the listener
   * @param executor runs the listener
   * @return the subscription
   */
  public Subscription addListener(Consumer<? super Change> listener, Executor executor) {
    Objects.requireNonNull(listener, "listener");
    Objects.requireNonNull(executor, "executor");
    status();
    Subscription subscription = new Subscription(mId, listener, executor);
    subscription.start();
    return subscription;
  }

  /**
   * Returns the status of this manager, from memory. Never waits.
   *
   * @return the status
   */
  public MembershipStatus status() {
    byte[] reply = new byte[USUAL_STATUS];
    int length = Natives.status(mId, reply);
    while (length > reply.length) {
      // Longer than needed, because the status may grow in between.
      reply = new byte[2 * length];
      length = Natives.status(mId, reply);
    }
    try {
      return MembershipStatus.read(Wire.Reader.ofReply(reply, length));
    } catch (MembershipException e) {
      throw new IllegalStateException(e.getMessage(), e);
    }
  }

  /**
   * Returns the time since the view in memory was last compared with etcd. Never waits.
   *
   * @return the age, zero for a STATIC cluster, or empty before the first listing
   */
  public Optional<Duration> viewAge() {
    return status().getViewAge();
  }

  /**
   * Returns the state of this process's registration of a worker. Never waits.
   *
   * @param identity the identity of the worker
   * @return the state, or empty if this process has not registered the worker
   */
  public Optional<RegistrationState> registrationState(WorkerIdentity identity) {
    Objects.requireNonNull(identity, "identity");
    return status().findRegistration(identity).map(RegistrationStatus::getState);
  }

  /**
   * Returns the table that {@code alluxio info nodes} prints: the workers, their addresses and
   * whether they are online. Costs one native call and no allocation while nothing has changed.
   *
   * @return the table
   * @throws MembershipException if no view is as fresh as configured and etcd does not answer
   * @throws InterruptedException if the thread was interrupted
   */
  public String showAllMembers() throws MembershipException, InterruptedException {
    Table known = mTable;
    if (known != null && known.mVersion == Natives.currentVersion(mId)) {
      return known.mText;
    }
    try (Operation operation = new Operation()) {
      Wire.Reader reply = operation.await(Natives.showAllMembers(operation.id(), mId));
      Table table = new Table(reply.int64(), reply.text());
      mTable = table;
      return table.mText;
    }
  }

  /**
   * Ends the registration of a worker that this process registered. The worker is then listed as
   * lost. Does nothing if the process has not registered the worker.
   *
   * @param identity the identity of the worker
   * @throws MembershipException if etcd does not answer
   * @throws InterruptedException if the thread was interrupted
   */
  public void leave(WorkerIdentity identity) throws MembershipException, InterruptedException {
    byte[] text = Wire.utf8(identity.toString());
    try (Operation operation = new Operation()) {
      operation.await(Natives.leaveWorker(operation.id(), mId, text));
    }
  }

  /**
   * Removes a lost worker from the cluster.
   *
   * @param identity the identity of the worker
   * @throws MembershipException of kind INVALID_ARGUMENT if the worker is unknown or live, or of
   *         another kind
   * @throws InterruptedException if the thread was interrupted
   */
  public void remove(WorkerIdentity identity) throws MembershipException, InterruptedException {
    byte[] text = Wire.utf8(identity.toString());
    try (Operation operation = new Operation()) {
      operation.await(Natives.remove(operation.id(), mId, text));
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
   * Ends every registration that this manager made, and closes the manager. Closing twice does
   * nothing.
   *
   * <p>If the thread is interrupted, this returns with the interrupt flag set, and leaving
   * continues in the background. The library logs its errors.
   *
   * @throws MembershipException if a registration could not be ended; it then ends with its lease.
   *     The manager is closed nevertheless
   */
  @Override
  public void close() throws MembershipException {
    mManagement.unregister();
    try (Operation operation = new Operation()) {
      operation.awaitOrDetach(Natives.close(operation.id(), mId));
    }
  }

  /**
   * Closes the manager like {@link #close()}, without waiting.
   *
   * @return a future that completes when the registrations have ended; cancelling it does not keep
   *     the manager open
   */
  public CompletableFuture<Void> closeAsync() {
    mManagement.unregister();
    return AsyncOperation.start(operation -> Natives.close(operation, mId), reply -> null);
  }

  private ClusterView received(Wire.Reader reply, ClusterView known) {
    if (reply.isEmpty()) {
      return Objects.requireNonNull(known, "known");
    }
    ClusterView view = ClusterView.read(reply, known);
    if (versionOf(known) == view.getVersion()) {
      return known;
    }
    ClusterView latest = mView;
    // Another thread may have received a later view meanwhile.
    if (versionOf(latest) < view.getVersion()) {
      mView = view;
    }
    return view;
  }

  private static long versionOf(ClusterView view) {
    return view == null ? 0 : view.getVersion();
  }

  /** The table of the view of a version. */
  private static final class Table {
    private final long mVersion;
    private final String mText;

    Table(long version, String text) {
      mVersion = version;
      mText = text;
    }
  }
}
