package alluxio.membership.testing;

import alluxio.conf.Configuration;
import alluxio.conf.InstancedConfiguration;
import alluxio.conf.PropertyKey;
import alluxio.conf.Source;
import alluxio.exception.runtime.AlluxioRuntimeException;
import alluxio.exception.status.AlluxioStatusException;
import alluxio.membership.MembershipManager;
import alluxio.membership.WorkerClusterView;
import alluxio.wire.WorkerIdentity;
import alluxio.wire.WorkerInfo;
import alluxio.wire.WorkerNetAddress;

import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.ObjectInputStream;
import java.io.ObjectOutputStream;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Base64;
import java.util.Collections;
import java.util.Comparator;
import java.util.Map;
import java.util.Objects;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Function;

/**
 * A process that uses membership managers, for an {@link AlluxioWorld}. It takes an operation, the
 * name of a manager, and a map of properties or of a worker's fields. It returns the visible result
 * as a text.
 */
public final class Peer implements Function<Object[], String> {
  /** The field of a worker that is not part of its address. */
  public static final String IDENTITY = "identity";

  /** A line for the standard input of a separate process: its {@code main} returns. */
  public static final String RETURN = "return";
  /** The last line that such a process prints. */
  public static final String RETURNED = "main returns";
  /** A line for the standard input of a separate process: it calls {@code System.exit}. */
  public static final String EXIT = "exit";

  /** The end of the answer of a thread that was interrupted before and after the operation. */
  public static final String FLAG_KEPT = " (still interrupted)";
  /** The end of the answer of a thread that was interrupted before and not after the operation. */
  public static final String FLAG_LOST = " (not interrupted any more)";

  private static final String INTERRUPTED = "interrupted ";
  private static final String RAW = "raw ";
  private static final String READY = "peer is ready";
  private static final String ANSWER = "answer ";

  private final Map<String, MembershipManager> mManagers = new ConcurrentHashMap<>();
  private final Map<String, InstancedConfiguration> mConfs = new ConcurrentHashMap<>();

  /**
   * Serves a separate process: see {@link #remote}. Ends at {@link #RETURN} and at the end of the
   * input.
   *
   * @param args none
   */
  public static void main(String[] args) throws Exception {
    Peer peer = new Peer();
    System.out.println(READY);
    BufferedReader in = new BufferedReader(
        new InputStreamReader(System.in, StandardCharsets.US_ASCII));
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      if (line.equals(RETURN)) {
        System.out.println(RETURNED);
        return;
      }
      if (line.equals(EXIT)) {
        System.exit(0);
      }
      try (ObjectInputStream input = new ObjectInputStream(
          new ByteArrayInputStream(Base64.getDecoder().decode(line)))) {
        String answer = peer.apply((Object[]) input.readObject());
        // Not UTF-8, which has no lone surrogates.
        System.out.println(ANSWER + Base64.getEncoder()
            .encodeToString(answer.getBytes(StandardCharsets.UTF_16BE)));
      }
    }
  }

  /**
   * @param jvm a JVM that runs this class
   * @return the peer in it
   */
  public static Function<Object[], String> remote(ChildJvm jvm) throws Exception {
    jvm.awaitLine("the peer", READY::equals);
    return input -> {
      try {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (ObjectOutputStream out = new ObjectOutputStream(bytes)) {
          out.writeObject(input);
        }
        jvm.send(Base64.getEncoder().encodeToString(bytes.toByteArray()));
        String answer = jvm.awaitLine("the answer", line -> line.startsWith(ANSWER));
        return new String(Base64.getDecoder().decode(answer.substring(ANSWER.length())),
            StandardCharsets.UTF_16BE);
      } catch (Exception e) {
        throw new AssertionError(e);
      }
    };
  }

  @Override
  @SuppressWarnings("unchecked")
  public String apply(Object[] input) {
    try {
      return run((String) input[0], (String) input[1], (Map<String, String>) input[2]);
    } catch (Throwable t) {
      return describe(t);
    }
  }

  private String run(String operation, String name, Map<String, String> input) throws Exception {
    if (operation.equals("open") || operation.equals("get")) {
      InstancedConfiguration conf = Configuration.copyGlobal();
      configure(conf, input);
      mConfs.put(name, conf);
      mManagers.put(name, operation.equals("open") ? MembershipManager.Factory.create(conf)
          : MembershipManager.Factory.get(conf));
      return mManagers.get(name).getClass().getName();
    }
    if (operation.equals("configure")) {
      configure(mConfs.get(name), input);
      return "";
    }
    if (operation.equals("configure process")) {
      input.forEach((key, value) -> {
        if (value == null) {
          Configuration.unset(key(key));
        } else {
          Configuration.set(key(key), key(key).parseValue(value));
        }
      });
      return "";
    }
    if (operation.equals("end")) {
      end();
      return "";
    }
    if (operation.startsWith(INTERRUPTED)) {
      return interrupted(operation.substring(INTERRUPTED.length()), name, input);
    }
    MembershipManager manager = mManagers.get(name);
    switch (operation) {
      case "join":
        manager.join(worker(input));
        return "";
      case "stop":
        manager.stopHeartBeat(worker(input));
        return "";
      case "decommission":
        manager.decommission(worker(input));
        return "";
      case "change listed":
        manager.getAllMembers().iterator().next().getAddress().setHost("changed");
        return "";
      case "decommission listed":
        manager.decommission(manager.getAllMembers().iterator().next());
        return "";
      case "all":
        return describe(manager.getAllMembers());
      case "live":
        return describe(manager.getLiveMembers());
      case "failed":
        return describe(manager.getFailedMembers());
      case "show":
        return manager.showAllMembers();
      case "close":
        manager.close();
        return "";
      default:
        throw new AssertionError("Unknown operation " + operation);
    }
  }

  /** In a separate thread, because the stock classes may leave the flag set. */
  private String interrupted(String operation, String name, Map<String, String> input)
      throws InterruptedException {
    String[] done = new String[1];
    Thread thread = new Thread(() -> {
      Thread.currentThread().interrupt();
      done[0] = apply(new Object[] {operation, name, input});
      done[0] += Thread.interrupted() ? FLAG_KEPT : FLAG_LOST;
    });
    thread.setContextClassLoader(Thread.currentThread().getContextClassLoader());
    thread.start();
    thread.join();
    return done[0];
  }

  /** Ends a process. The stock classes do this in their shutdown hook. */
  private void end() throws Exception {
    for (MembershipManager manager : mManagers.values()) {
      manager.close();
    }
    mManagers.clear();
    // The stock classes' state of the process, which ours does not have. Without relocated
    // libraries it can exist.
    Class.forName("alluxio.membership.AlluxioEtcdClient").getMethod("destroy").invoke(null);
  }

  /**
   * @param conf the configuration to change
   * @param properties names and values, null to unset
   */
  static void configure(InstancedConfiguration conf, Map<String, String> properties) {
    properties.forEach((name, value) -> {
      if (name.startsWith(RAW)) {
        conf.merge(Collections.singletonMap(name.substring(RAW.length()), value),
            Source.siteProperty("test"));
        return;
      }
      PropertyKey key = key(name);
      if (value == null) {
        conf.unset(key);
      } else {
        conf.set(key, key.parseValue(value));
      }
    });
  }

  private static PropertyKey key(String name) {
    return PropertyKey.isValid(name) ? PropertyKey.fromString(name)
        : PropertyKey.getOrBuildCustom(name);
  }

  /**
   * @param fields the fields of a worker
   * @return the worker
   */
  static WorkerInfo worker(Map<String, String> fields) throws ReflectiveOperationException {
    if (fields == null) {
      return null;
    }
    WorkerInfo worker = new WorkerInfo();
    WorkerNetAddress address = null;
    for (Map.Entry<String, String> field : fields.entrySet()) {
      if (field.getKey().equals(IDENTITY)) {
        worker.setIdentity(identity(field.getValue()));
        continue;
      }
      if (address == null) {
        address = new WorkerNetAddress();
      }
      boolean number = field.getKey().endsWith("Port");
      Method setter = WorkerNetAddress.class.getMethod("set" + field.getKey(),
          number ? int.class : String.class);
      setter.invoke(address, number ? (Object) Integer.valueOf(field.getValue())
          : field.getValue());
    }
    return address == null ? worker : worker.setAddress(address);
  }

  /** {@code WorkerIdentity.fromString} exists only from Alluxio 311 on. */
  private static WorkerIdentity identity(String text) {
    String id = text.substring("worker-".length());
    return id.length() == 36 ? WorkerIdentity.ParserV1.INSTANCE.fromUUID(UUID.fromString(id))
        : WorkerIdentity.ParserV0.INSTANCE.fromLong(Long.parseLong(id));
  }

  /**
   * @param view a view
   * @return a line for each worker, in order, with every property that is not the default
   */
  public static String describe(WorkerClusterView view) throws ReflectiveOperationException {
    StringBuilder text = new StringBuilder();
    for (WorkerInfo worker : view) {
      text.append(properties(worker)).append(' ').append(properties(worker.getAddress()));
      WorkerInfo equal = new WorkerInfo().setIdentity(worker.getIdentity())
          .setAddress(worker.getAddress())
          .setState(worker.getState());
      text.append(" equal:").append(worker.equals(equal) && equal.equals(worker));
      text.append(" found:").append(view.getWorkerById(worker.getIdentity()).get() == worker)
          .append('\n');
    }
    return text + "size:" + view.size() + " empty:" + view.isEmpty() + " ids:" + view.workerIds()
        + '\n';
  }

  private static String properties(Object bean) throws ReflectiveOperationException {
    Object fresh = bean.getClass().getConstructor().newInstance();
    StringBuilder text = new StringBuilder();
    Method[] methods = bean.getClass().getMethods();
    Arrays.sort(methods, Comparator.comparing(Method::getName));
    for (Method method : methods) {
      if (method.getName().matches("(get|is)[A-Z].*") && method.getParameterCount() == 0
          && method.getDeclaringClass() == bean.getClass()
          && !method.getName().equals("getAddress")) {
        Object value = method.invoke(bean);
        if (!Objects.equals(value, method.invoke(fresh))) {
          text.append(text.length() == 0 ? "" : " ")
              .append(method.getName().replaceFirst("get|is", "")).append('=')
              .append(value);
        }
      }
    }
    return text.toString();
  }

  private static String describe(Throwable thrown) {
    String text = thrown.getClass().getName() + ": " + thrown.getMessage();
    if (thrown instanceof AlluxioRuntimeException) {
      text += " [" + status(thrown) + (((AlluxioRuntimeException) thrown).isRetryable()
          ? ", retryable]" : "]");
    } else if (thrown instanceof AlluxioStatusException) {
      text += " [" + status(thrown) + "]";
    }
    return text + (thrown.getCause() == null ? ""
        : " <- " + thrown.getCause().getClass().getName());
  }

  /** The class of the status has another name in the shaded client. */
  private static Object status(Throwable thrown) {
    try {
      Object status = thrown.getClass().getMethod("getStatus").invoke(thrown);
      return status.getClass().getMethod("getCode").invoke(status);
    } catch (ReflectiveOperationException e) {
      throw new AssertionError(e);
    }
  }
}
