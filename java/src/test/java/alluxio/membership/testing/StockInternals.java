package alluxio.membership.testing;

import alluxio.membership.AlluxioEtcdClient;
import alluxio.membership.DefaultServiceEntity;
import alluxio.membership.ServiceDiscoveryRecipe;

import io.etcd.jetcd.Client;

import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Function;

/**
 * Calls internals of the stock classes of an {@link AlluxioWorld} where nothing else shows a
 * weakness at a known moment. It takes an operation and the name of a worker.
 */
public final class StockInternals implements Function<Object[], String> {
  private static final String CHECKER = "service-discovery-checker";

  @Override
  public String apply(Object[] input) {
    try {
      return run((String) input[0], (String) input[1]);
    } catch (ReflectiveOperationException e) {
      throw new AssertionError(e);
    }
  }

  private static String run(String operation, String name) throws ReflectiveOperationException {
    AlluxioEtcdClient client = (AlluxioEtcdClient) get(AlluxioEtcdClient.class, null,
        "sAlluxioEtcdClient");
    ServiceDiscoveryRecipe recipe = client.mServiceDiscovery;
    DefaultServiceEntity worker = (DefaultServiceEntity)
        ((Map<?, ?>) get(ServiceDiscoveryRecipe.class, recipe, "mRegisteredServices")).get(name);
    switch (operation) {
      case "check":
        // Runs the check that the checker does every 5 s.
        Method check = ServiceDiscoveryRecipe.class.getDeclaredMethod("checkAllForReconnect");
        check.setAccessible(true);
        check.invoke(recipe);
        return "";
      case "needs reconnect":
        return String.valueOf(worker.mNeedReconnect.get());
      case "checker waits":
        return String.valueOf(checkerWaits());
      case "has thrown":
        return String.valueOf(((ThrowingLock) worker.mLock).mThrown.get());
      case "throw once":
        setLock(worker, new ThrowingLock());
        return "";
      case "lose at the end of a reconnect":
        setLock(worker, new LosingLock(client.getEtcdClient(), worker));
        return "";
      default:
        throw new AssertionError("Unknown operation " + operation);
    }
  }

  /**
   * Returns whether the thread that repairs all registrations of the process waits for an answer
   * without a limit.
   */
  private static boolean checkerWaits() {
    for (Map.Entry<Thread, StackTraceElement[]> thread : Thread.getAllStackTraces().entrySet()) {
      if (thread.getKey().getName().startsWith(CHECKER)) {
        for (StackTraceElement frame : thread.getValue()) {
          if (frame.getMethodName().equals("waitingGet")) {
            return true;
          }
        }
      }
    }
    return false;
  }

  private static Object get(Class<?> type, Object object, String field)
      throws ReflectiveOperationException {
    Field declared = type.getDeclaredField(field);
    declared.setAccessible(true);
    return declared.get(object);
  }

  private static void setLock(DefaultServiceEntity worker, ReentrantLock lock)
      throws ReflectiveOperationException {
    Field declared = DefaultServiceEntity.class.getDeclaredField("mLock");
    declared.setAccessible(true);
    declared.set(worker, lock);
  }

  /** Causes one unexpected exception while a worker is reconnected. */
  private static final class ThrowingLock extends ReentrantLock {
    private static final long serialVersionUID = 1;
    private final AtomicBoolean mThrown = new AtomicBoolean();

    @Override
    public void lock() {
      if (!mThrown.getAndSet(true)) {
        throw new IllegalStateException("unexpected");
      }
      super.lock();
    }
  }

  /** The new lease is lost before the checker notes it. */
  private static final class LosingLock extends ReentrantLock {
    private static final long serialVersionUID = 1;
    private final transient Client mClient;
    private final transient DefaultServiceEntity mWorker;
    private final AtomicBoolean mDone = new AtomicBoolean();

    LosingLock(Client client, DefaultServiceEntity worker) {
      mClient = client;
      mWorker = worker;
    }

    @Override
    public void unlock() {
      super.unlock();
      if (!mWorker.mNeedReconnect.get() || mDone.getAndSet(true)) {
        return;
      }
      try {
        mClient.getLeaseClient().revoke(mWorker.getLease().mLeaseId).get(10, TimeUnit.SECONDS);
        Map<?, ?> keepAlives = (Map<?, ?>) get(mClient.getLeaseClient().getClass(),
            mClient.getLeaseClient(),
            "keepAlives");
        Await.until("the loss is known", 30, keepAlives::isEmpty);
      } catch (Exception e) {
        throw new AssertionError(e);
      }
    }
  }
}
