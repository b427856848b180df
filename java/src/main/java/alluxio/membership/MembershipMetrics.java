package alluxio.membership;

import alluxio.membership.bridge.EndpointStatus;
import alluxio.membership.bridge.Membership;
import alluxio.membership.bridge.MembershipStatus;
import alluxio.membership.bridge.RegistrationState;
import alluxio.membership.bridge.RegistrationStatus;

import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

import java.lang.reflect.InvocationHandler;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.function.ToDoubleFunction;
import java.util.function.ToLongFunction;

/**
 * The gauges of the open managers in Alluxio's {@code MetricsSystem}. All of Alluxio's sinks and
 * servlets report them.
 *
 * <p>The managers of one cluster share one set of gauges. The first cluster of a JVM has plain
 * names. The name of each further open cluster is part of the names of its gauges. The gauges are
 * removed with the last manager of their cluster.
 *
 * <p>{@code MetricsSystem} is found by name, and a proxy implements its gauges, because Alluxio's
 * shaded client has other names for the interface of a gauge. A JVM without it has no metrics.
 */
final class MembershipMetrics {
  private static final Logger LOG = LoggerFactory.getLogger(MembershipMetrics.class);

  /** The gauges by their names without prefix. */
  private static final Map<String, Gauge> GAUGES = new HashMap<>();

  static {
    count("MembershipLiveWorkers", MembershipStatus::getLiveWorkers);
    count("MembershipLostWorkers", MembershipStatus::getLostWorkers);
    count("MembershipSkippedRecords", MembershipStatus::getSkippedRecords);
    count("MembershipViewVersion", MembershipStatus::getViewVersion);
    number("MembershipViewAgeSeconds",
        status -> status.getViewAge().map(age -> age.toMillis() / 1000.0).orElse(-1.0));
    count("MembershipListings", MembershipStatus::getListings);
    count("MembershipWatches", MembershipStatus::getWatches);
    count("MembershipChecks", MembershipStatus::getChecks);
    count("MembershipChecksBehind", MembershipStatus::getChecksBehind);
    count("MembershipChecksFailed", MembershipStatus::getChecksFailed);
    count("MembershipOtherHistories", MembershipStatus::getOtherHistories);
    count("MembershipEndpoints", status -> status.getEndpoints().size());
    count("MembershipEndpointsUp",
        status -> status.getEndpoints().stream().filter(EndpointStatus::isHealthy).count());
    count("MembershipRegistrations", status -> status.getRegistrations().size());
    count("MembershipRegistered", status -> status.getRegistrations().stream()
        .filter(MembershipMetrics::isRegistered).count());
    number("MembershipLeaseLeftSeconds", MembershipMetrics::leaseLeft);
    count("MembershipLateRenewals", status -> status.getRegistrations().stream()
        .mapToLong(RegistrationStatus::getLateRenewals).sum());
    count("MembershipReRegistrations", status -> status.getRegistrations().stream()
        .mapToLong(RegistrationStatus::getReRegistrations).sum());
  }

  /** The clusters with an open manager. Also the lock of all registered gauges. */
  private static final Map<String, Cluster> CLUSTERS = new HashMap<>();

  private MembershipMetrics() {}

  private static void count(String name, ToLongFunction<MembershipStatus> value) {
    GAUGES.put(name, value::applyAsLong);
  }

  private static void number(String name, ToDoubleFunction<MembershipStatus> value) {
    GAUGES.put(name, value::applyAsDouble);
  }

  /** Whether others list the worker as live, as far as this process knows. */
  private static boolean isRegistered(RegistrationStatus registration) {
    return !registration.isDisplaced() && (registration.getState() == RegistrationState.REGISTERED
        || registration.getState() == RegistrationState.SUSPECT);
  }

  /** Returns the shortest time left of the leases of this process, or 0 without a lease. */
  private static double leaseLeft(MembershipStatus status) {
    return status.getRegistrations().stream()
        .mapToLong(each -> Math.max(0, each.getLeaseLeft().toMillis())).min().orElse(0) / 1000.0;
  }

  /**
   * Registers the gauges of a manager that was opened. Never fails.
   *
   * @param membership the manager
   */
  static void add(Membership membership) {
    try {
      String name = membership.status().getCluster();
      synchronized (CLUSTERS) {
        Cluster cluster = CLUSTERS.get(name);
        if (cluster == null) {
          boolean isFirst = CLUSTERS.values().stream().noneMatch(each -> each.mSuffix.isEmpty());
          cluster = new Cluster(isFirst ? "" : "." + name.replace('.', '_'));
          CLUSTERS.put(name, cluster);
          cluster.mManagers.add(membership);
          cluster.register();
        } else {
          cluster.mManagers.add(membership);
        }
      }
    } catch (ReflectiveOperationException | RuntimeException | LinkageError e) {
      LOG.debug("Failed to register metrics; the manager works without them", e);
    }
  }

  /**
   * Removes the gauges of a manager that is closed, unless another manager of its cluster is open.
   * Never fails.
   *
   * @param membership the manager
   */
  static void remove(Membership membership) {
    try {
      synchronized (CLUSTERS) {
        for (Map.Entry<String, Cluster> entry : CLUSTERS.entrySet()) {
          Cluster cluster = entry.getValue();
          if (cluster.mManagers.remove(membership)) {
            if (cluster.mManagers.isEmpty()) {
              CLUSTERS.remove(entry.getKey());
              cluster.unregister();
            }
            return;
          }
        }
      }
    } catch (ReflectiveOperationException | RuntimeException | LinkageError e) {
      LOG.debug("Failed to remove metrics", e);
    }
  }

  private interface Gauge {
    Object value(MembershipStatus status);
  }

  /** The gauges of one cluster. */
  private static final class Cluster {
    /** One status serves all gauges of one scrape. */
    private static final long REUSE_NANOS = TimeUnit.SECONDS.toNanos(1);

    private final String mSuffix;
    private final List<Membership> mManagers = new CopyOnWriteArrayList<>();
    private final List<String> mNames = new ArrayList<>();
    private MembershipStatus mStatus;
    private long mReadNanos;

    Cluster(String suffix) {
      mSuffix = suffix;
    }

    void register() throws ReflectiveOperationException {
      Class<?> metrics = metricsSystem();
      Method prefixed = metrics.getMethod("getMetricName", String.class);
      Method register = registering(metrics);
      Class<?> type = register.getParameterTypes()[1];
      for (Map.Entry<String, Gauge> entry : GAUGES.entrySet()) {
        String name = prefixed.invoke(null, entry.getKey() + mSuffix).toString();
        register.invoke(null, name, gauge(type, entry.getValue()));
        mNames.add(name);
      }
    }

    void unregister() throws ReflectiveOperationException {
      Method remove = metricsSystem().getMethod("removeMetrics", String.class);
      for (String name : mNames) {
        remove.invoke(null, name);
      }
      mNames.clear();
    }

    private Object gauge(Class<?> type, Gauge gauge) {
      InvocationHandler handler = (proxy, method, arguments) -> {
        switch (method.getName()) {
          case "getValue":
            MembershipStatus status = status();
            return status == null ? null : gauge.value(status);
          case "equals":
            return proxy == arguments[0];
          case "hashCode":
            return System.identityHashCode(proxy);
          default:
            return "a gauge of the membership";
        }
      };
      ClassLoader loader = MembershipMetrics.class.getClassLoader();
      return Proxy.newProxyInstance(loader, new Class<?>[] {type}, handler);
    }

    /** Takes no lock that is held while gauges are registered. Returns null without a manager. */
    private MembershipStatus status() {
      synchronized (mManagers) {
        long now = System.nanoTime();
        if (mStatus == null || now - mReadNanos > REUSE_NANOS) {
          for (Membership manager : mManagers) {
            try {
              mStatus = manager.status();
              mReadNanos = now;
              break;
            } catch (IllegalStateException e) {
              LOG.trace("A manager is being closed", e);
            }
          }
        }
        return mStatus;
      }
    }

    private static Class<?> metricsSystem() throws ClassNotFoundException {
      ClassLoader loader = MembershipMetrics.class.getClassLoader();
      return Class.forName("alluxio.metrics.MetricsSystem", true, loader);
    }

    private static Method registering(Class<?> metrics) throws NoSuchMethodException {
      for (Method method : metrics.getMethods()) {
        if (method.getName().equals("registerGaugeIfAbsent") && method.getParameterCount() == 2) {
          return method;
        }
      }
      throw new NoSuchMethodException("registerGaugeIfAbsent");
    }
  }
}
