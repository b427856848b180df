package alluxio.membership.bridge;

import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

import java.lang.management.ManagementFactory;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import javax.management.InstanceAlreadyExistsException;
import javax.management.InstanceNotFoundException;
import javax.management.JMException;
import javax.management.MBeanServer;
import javax.management.ObjectName;

/**
 * The bean of one manager in the platform's MBean server. A JVM without that server works without
 * the bean.
 */
final class ManagementBean implements MembershipMXBean {
  private static final Logger LOG = LoggerFactory.getLogger("alluxio.membership.native.management");
  private static final AtomicInteger NEXT = new AtomicInteger();

  private final Membership mMembership;
  private ObjectName mName;
  private boolean mClosed;

  ManagementBean(Membership membership) {
    mMembership = membership;
  }

  synchronized void register() {
    try {
      MBeanServer server = ManagementFactory.getPlatformMBeanServer();
      String cluster = mMembership.status().getCluster();
      while (mName == null && !mClosed) {
        ObjectName name = new ObjectName("alluxio.membership:type=Membership,cluster="
            + quoted(cluster) + ",manager=" + NEXT.incrementAndGet());
        try {
          server.registerMBean(this, name);
          mName = name;
        } catch (InstanceAlreadyExistsException e) {
          LOG.trace("Another class loader has {}", name);
        }
      }
    } catch (JMException | RuntimeException | LinkageError e) {
      LOG.debug("Failed to register a management bean; the manager works without it", e);
    }
  }

  /** Removes the bean, because the server would keep the class loader in memory. */
  synchronized void unregister() {
    mClosed = true;
    if (mName == null) {
      return;
    }
    try {
      ManagementFactory.getPlatformMBeanServer().unregisterMBean(mName);
    } catch (InstanceNotFoundException e) {
      LOG.trace("{} was removed already", mName);
    } catch (JMException | RuntimeException e) {
      LOG.debug("Failed to remove the management bean {}", mName, e);
    }
    mName = null;
  }

  private static String quoted(String value) {
    for (int i = 0; i < value.length(); i++) {
      if (",=:\"*?\\\n".indexOf(value.charAt(i)) >= 0) {
        return ObjectName.quote(value);
      }
    }
    return value.isEmpty() ? "\"\"" : value;
  }

  @Override
  public String getCluster() {
    return mMembership.status().getCluster();
  }

  @Override
  public String getState() {
    MembershipStatus status = mMembership.status();
    return status.getViewError().isPresent() ? "FAILING"
        : status.getViewAge().isPresent() ? "CURRENT" : "STARTING";
  }

  @Override
  public String getLastError() {
    MembershipStatus status = mMembership.status();
    String error = status.getViewError().orElse(null);
    for (EndpointStatus endpoint : status.getEndpoints()) {
      if (error == null && endpoint.getLastError() != null) {
        error = endpoint.getUrl() + ": " + endpoint.getLastError();
      }
    }
    return error;
  }

  @Override
  public long getViewVersion() {
    return mMembership.status().getViewVersion();
  }

  @Override
  public double getViewAgeSeconds() {
    return mMembership.status().getViewAge().map(age -> age.toMillis() / 1000.0).orElse(-1.0);
  }

  @Override
  public int getLiveWorkers() {
    return mMembership.status().getLiveWorkers();
  }

  @Override
  public int getLostWorkers() {
    return mMembership.status().getLostWorkers();
  }

  @Override
  public int getSkippedRecords() {
    return mMembership.status().getSkippedRecords();
  }

  @Override
  public long getListings() {
    return mMembership.status().getListings();
  }

  @Override
  public long getWatches() {
    return mMembership.status().getWatches();
  }

  @Override
  public long getChecks() {
    return mMembership.status().getChecks();
  }

  @Override
  public long getChecksBehind() {
    return mMembership.status().getChecksBehind();
  }

  @Override
  public long getChecksFailed() {
    return mMembership.status().getChecksFailed();
  }

  @Override
  public long getOtherHistories() {
    return mMembership.status().getOtherHistories();
  }

  @Override
  public List<EndpointStatus> getEndpoints() {
    return mMembership.status().getEndpoints();
  }

  @Override
  public List<Registration> getRegistrations() {
    List<Registration> registrations = new ArrayList<>();
    for (RegistrationStatus status : mMembership.status().getRegistrations()) {
      registrations.add(new Registration(status));
    }
    return registrations;
  }
}
