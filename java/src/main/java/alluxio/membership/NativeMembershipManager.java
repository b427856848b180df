package alluxio.membership;

import alluxio.conf.AlluxioConfiguration;
import alluxio.conf.PropertyKey;
import alluxio.exception.runtime.NotFoundRuntimeException;
import alluxio.exception.runtime.UnavailableRuntimeException;
import alluxio.exception.status.AlreadyExistsException;
import alluxio.exception.status.InvalidArgumentException;
import alluxio.membership.bridge.ClusterView;
import alluxio.membership.bridge.ErrorKind;
import alluxio.membership.bridge.JoinOptions;
import alluxio.membership.bridge.Member;
import alluxio.membership.bridge.MembershipException;
import alluxio.membership.bridge.Membership;
import alluxio.membership.bridge.Worker;
import alluxio.membership.bridge.WorkerState;
import alluxio.wire.WorkerIdentity;
import alluxio.wire.WorkerInfo;
import alluxio.wire.WorkerNetAddress;

import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

import java.io.IOException;
import java.io.InterruptedIOException;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReferenceArray;
import java.util.function.Function;

/**
 * The common part of the drop-in classes: converts between Alluxio's types and exceptions and those
 * of {@link Membership}. After {@link #close} every method throws {@link IllegalStateException}.
 */
abstract class NativeMembershipManager implements MembershipManager {
  /**
   * How long a view is returned again while nothing changes. One thread then replaces it, so that
   * {@link WorkerClusterView#getSnapshotTime} is hardly older than this, although nothing is read
   * from etcd.
   */
  private static final long REUSE_NANOS = TimeUnit.SECONDS.toNanos(1);

  private static final String LAST_EXCEPTION = "last exception:";

  private static final Logger LOG = LoggerFactory.getLogger(NativeMembershipManager.class);

  private final AlluxioConfiguration mConf;
  private final Membership mMembership;
  /** The latest view for each {@link Filter}. */
  private final AtomicReferenceArray<CachedView> mViews =
      new AtomicReferenceArray<>(Filter.values().length);

  /**
   * Opens a manager.
   *
   * @param conf the configuration
   * @param type the membership type, which overrides the configured type
   */
  NativeMembershipManager(AlluxioConfiguration conf, String type) {
    // Not in a static initializer: if that failed, later uses would only report that the class is
    // unusable.
    SupportedAlluxio.check();
    mConf = conf;
    try {
      mMembership = Membership.open(ConfigurationProperties.of(conf, type));
    } catch (MembershipException e) {
      throw unchecked(e);
    }
    MembershipMetrics.add(mMembership);
  }

  @Override
  public void join(WorkerInfo worker) throws IOException {
    Worker joining = toBridge(worker);
    boolean k8sDeployment = mConf.isSet(PropertyKey.K8S_ENV_DEPLOYMENT)
        && mConf.getBoolean(PropertyKey.K8S_ENV_DEPLOYMENT);
    try {
      join(joining, k8sDeployment);
    } catch (IOException | UnavailableRuntimeException e) {
      // Alluxio's worker logs each of its many tries as an error, with every frame.
      LOG.debug("Failed to join {}", joining.getIdentity(), e);
      for (Throwable thrown = e; thrown != null; thrown = thrown.getCause()) {
        thrown.setStackTrace(new StackTraceElement[0]);
      }
      throw e;
    }
  }

  private void join(Worker worker, boolean k8sDeployment) throws IOException {
    try {
      mMembership.join(worker, JoinOptions.defaults().withK8sDeployment(k8sDeployment));
    } catch (MembershipException | InterruptedException e) {
      throw toAlluxio(e);
    }
  }

  @Override
  public WorkerClusterView getAllMembers() throws IOException {
    return members(Filter.ALL);
  }

  @Override
  public WorkerClusterView getLiveMembers() throws IOException {
    return members(Filter.LIVE);
  }

  @Override
  public WorkerClusterView getFailedMembers() throws IOException {
    return members(Filter.LOST);
  }

  @Override
  public String showAllMembers() {
    try {
      return mMembership.showAllMembers();
    } catch (MembershipException | InterruptedException e) {
      return "Exception happened:" + toAlluxio(e).getMessage();
    }
  }

  /**
   * Ends the registration. Succeeds without etcd too, as with Alluxio's own class, because the
   * lease is no longer renewed and ends by itself.
   */
  @Override
  public void stopHeartBeat(WorkerInfo worker) throws IOException {
    alluxio.membership.bridge.WorkerIdentity identity = toBridge(worker.getIdentity());
    try {
      mMembership.leave(identity);
    } catch (MembershipException | InterruptedException e) {
      throwUnlessEtcdsFault(e, identity.toString());
    }
  }

  @Override
  public void decommission(WorkerInfo worker) throws IOException {
    alluxio.membership.bridge.WorkerIdentity identity = toBridge(worker.getIdentity());
    try {
      mMembership.remove(identity);
    } catch (MembershipException | InterruptedException e) {
      throw toAlluxio(e);
    }
  }

  /**
   * Ends the registrations that this manager made, but no others of the process. Closing twice does
   * nothing. Succeeds without etcd too: a registration that cannot be ended there ends with its
   * lease.
   */
  @Override
  public void close() throws IOException {
    MembershipMetrics.remove(mMembership);
    try {
      mMembership.close();
    } catch (MembershipException e) {
      throwUnlessEtcdsFault(e, "the workers of a closed manager");
    }
  }

  /**
   * Logs an error of etcd instead of throwing it, because the lease ends by itself.
   */
  private static void throwUnlessEtcdsFault(Exception e, String worker) throws IOException {
    if (!(e instanceof MembershipException)
        || !isUnavailable(((MembershipException) e).getKind())) {
      throw toAlluxio(e);
    }
    LOG.warn("Failed to end the registration of {} in etcd, which lists it as live until its "
        + "lease ends: {}{}",
        worker, e.getMessage(), e.getCause() == null ? "" : ": " + e.getCause().getMessage());
  }

  private WorkerClusterView members(Filter filter) throws IOException {
    ClusterView source = view();
    CachedView cached = mViews.get(filter.ordinal());
    boolean isCurrent = cached != null && cached.mSource == source;
    if (isCurrent && !cached.isDue(System.nanoTime())) {
      return cached.mView;
    }
    try {
      CachedView built = new CachedView(source, toAlluxio(filter.mMembers.apply(source)));
      mViews.set(filter.ordinal(), built);
      return built.mView;
    } finally {
      if (isCurrent) {
        cached.mIsReplacing.set(false);
      }
    }
  }

  private ClusterView view() throws IOException {
    try {
      return mMembership.view();
    } catch (MembershipException | InterruptedException e) {
      throw toAlluxio(e);
    }
  }

  /**
   * Converts an exception of the bridge to the exception that Alluxio's own classes throw. Returns
   * a checked exception, and throws an unchecked one.
   */
  private static IOException toAlluxio(Exception failure) {
    if (failure instanceof InterruptedException) {
      Thread.currentThread().interrupt();
      IOException interrupted = new InterruptedIOException(failure.getMessage());
      interrupted.initCause(failure);
      return interrupted;
    }
    MembershipException e = (MembershipException) failure;
    ErrorKind kind = e.getKind();
    if (kind == ErrorKind.INVALID_ARGUMENT) {
      return new InvalidArgumentException(e.getMessage(), e.getCause());
    }
    if (kind == ErrorKind.ALREADY_EXISTS) {
      return new AlreadyExistsException(e.getMessage(), e.getCause());
    }
    if (kind == ErrorKind.CORRUPT || kind == ErrorKind.IO) {
      return new IOException(e.getMessage(), e.getCause());
    }
    throw unchecked(e);
  }

  private static RuntimeException unchecked(MembershipException e) {
    ErrorKind kind = e.getKind();
    if (isUnavailable(kind)) {
      return new UnavailableRuntimeException(completed(e), e.getCause());
    }
    if (kind == ErrorKind.NOT_FOUND) {
      return new NotFoundRuntimeException(e.getMessage());
    }
    if (kind == ErrorKind.INVALID_CONFIG || kind == ErrorKind.INVALID_ARGUMENT) {
      return new IllegalArgumentException(e.getMessage(), e.getCause());
    }
    if (kind == ErrorKind.IO) {
      return new UncheckedIOException(e.getMessage(),
          new IOException(e.getMessage(), e.getCause()));
    }
    return new RuntimeException(e.getMessage(), e.getCause());
  }

  /**
   * This method and the one above use no switch: the table of a switch is made at its first use,
   * and never if memory is short then.
   */
  private static boolean isUnavailable(ErrorKind kind) {
    return kind == ErrorKind.UNAVAILABLE || kind == ErrorKind.UNAUTHENTICATED
        || kind == ErrorKind.PERMISSION_DENIED || kind == ErrorKind.RESOURCE_EXHAUSTED;
  }

  /**
   * Alluxio's text ends with "last exception:" and leaves the exception to the cause, which its
   * commands do not print. This text continues with the exception.
   */
  private static String completed(MembershipException e) {
    String message = e.getMessage();
    return message.endsWith(LAST_EXCEPTION) && e.getCause() != null
        ? message + " " + e.getCause().getMessage() : message;
  }

  private static Worker toBridge(WorkerInfo worker) {
    WorkerNetAddress address = worker.getAddress();
    return Worker.newBuilder(toBridge(worker.getIdentity()))
        .setHost(address.getHost())
        .setContainerHost(address.getContainerHost())
        .setRpcPort(address.getRpcPort())
        .setDataPort(address.getDataPort())
        .setSecureRpcPort(address.getSecureRpcPort())
        .setNettyDataPort(address.getNettyDataPort())
        .setWebPort(address.getWebPort())
        .setDomainSocketPath(address.getDomainSocketPath())
        .setHttpServerPort(address.getHttpServerPort())
        .build();
  }

  private static alluxio.membership.bridge.WorkerIdentity toBridge(WorkerIdentity identity) {
    return alluxio.membership.bridge.WorkerIdentity.parse(identity.toString());
  }

  private static WorkerClusterView toAlluxio(List<Member> members) {
    List<WorkerInfo> workers = new ArrayList<>(members.size());
    for (Member member : members) {
      Worker worker = member.getWorker();
      workers.add(new WorkerInfo()
          .setIdentity(toIdentity(worker.getIdentity().toString()))
          .setAddress(new WorkerNetAddress()
              .setHost(worker.getHost())
              .setContainerHost(worker.getContainerHost())
              .setRpcPort(worker.getRpcPort())
              .setDataPort(worker.getDataPort())
              .setSecureRpcPort(worker.getSecureRpcPort())
              .setNettyDataPort(worker.getNettyDataPort())
              .setWebPort(worker.getWebPort())
              .setDomainSocketPath(worker.getDomainSocketPath())
              .setHttpServerPort(worker.getHttpServerPort()))
          .setState(member.getState() == WorkerState.LIVE
              ? alluxio.wire.WorkerState.LIVE : alluxio.wire.WorkerState.LOST));
    }
    return new WorkerClusterView(workers);
  }

  /** {@code WorkerIdentity.fromString} exists only since Alluxio 311. */
  private static WorkerIdentity toIdentity(String text) {
    String id = text.substring("worker-".length());
    // A UUID has 36 characters, a decimal number at most 20.
    return id.length() == 36
        ? WorkerIdentity.ParserV1.INSTANCE.fromUUID(UUID.fromString(id))
        : WorkerIdentity.ParserV0.INSTANCE.fromLong(Long.parseLong(id));
  }

  private enum Filter {
    ALL(ClusterView::getAllMembers),
    LIVE(ClusterView::getLiveMembers),
    LOST(ClusterView::getLostMembers);

    private final Function<ClusterView, List<Member>> mMembers;

    Filter(Function<ClusterView, List<Member>> members) {
      mMembers = members;
    }
  }

  private static final class CachedView {
    private final ClusterView mSource;
    private final WorkerClusterView mView;
    private final long mBuiltNanos = System.nanoTime();
    private final AtomicBoolean mIsReplacing = new AtomicBoolean();

    CachedView(ClusterView source, WorkerClusterView view) {
      mSource = source;
      mView = view;
    }

    /** Whether the caller has to replace this view. Other threads return it meanwhile. */
    boolean isDue(long now) {
      return now - mBuiltNanos > REUSE_NANOS && mIsReplacing.compareAndSet(false, true);
    }
  }
}
