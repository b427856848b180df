package alluxio.membership.testing;

import alluxio.membership.WorkerClusterView;
import alluxio.membership.WorkerServiceEntity;
import alluxio.wire.WorkerIdentity;
import alluxio.wire.WorkerInfo;
import alluxio.wire.WorkerState;

import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Function;

/**
 * The real classes that write and read records, for an {@link AlluxioWorld}. {@code write} takes
 * the fields of a worker. The name of a listing takes records in base64 by their keys, and returns
 * the answer of {@link Peer} if each record had its result alone: nothing or one worker, which
 * counts once, and if possible under the key of its name.
 */
public final class RecordPeer implements Function<Object[], String> {
  /** The prefix of the keys in the ring. Other keys are live. */
  public static final String RING = "/DHT/";

  @Override
  @SuppressWarnings("unchecked")
  public String apply(Object[] input) {
    try {
      String operation = (String) input[0];
      Map<String, String> map = (Map<String, String>) input[1];
      return operation.equals("write") ? write(map) : list(operation, map);
    } catch (ReflectiveOperationException e) {
      throw new AssertionError(e);
    }
  }

  private static String write(Map<String, String> fields) throws ReflectiveOperationException {
    WorkerInfo worker = Peer.worker(fields);
    return Base64.getEncoder()
        .encodeToString(new WorkerServiceEntity(worker.getIdentity(), worker.getAddress())
        .serialize());
  }

  private static String list(String listing, Map<String, String> records)
      throws ReflectiveOperationException {
    Set<WorkerIdentity> live = new HashSet<>();
    List<WorkerInfo> liveWorkers = workers(records, false, live);
    // The table searches the list of live workers, where workers without an identity have the
    // number 0.
    Set<WorkerIdentity> online = new HashSet<>();
    liveWorkers.forEach(worker -> online.add(worker.getIdentity()));
    List<WorkerInfo> workers = new ArrayList<>();
    StringBuilder table = new StringBuilder("WorkerId\tAddress\tStatus\n");
    for (WorkerInfo worker : workers(records, true, new HashSet<>())) {
      boolean isLive = live.contains(worker.getIdentity());
      worker.setState(isLive ? WorkerState.LIVE : WorkerState.LOST);
      if (!listing.equals("failed") || !isLive) {
        workers.add(worker);
      }
      table.append(worker.getIdentity()).append('\t').append(worker.getAddress().getHost())
          .append(':')
          .append(worker.getAddress().getRpcPort())
          .append(online.contains(worker.getIdentity()) ? "\tONLINE\n" : "\tOFFLINE\n");
    }
    if (listing.equals("show")) {
      return table.toString();
    }
    return Peer.describe(new WorkerClusterView(listing.equals("live") ? liveWorkers : workers));
  }

  private static List<WorkerInfo> workers(Map<String, String> records, boolean ring,
      Set<WorkerIdentity> named) {
    Map<String, WorkerInfo> byKey = new LinkedHashMap<>();
    Map<WorkerIdentity, String> keys = new HashMap<>();
    records.forEach((key, record) -> {
      if (key.startsWith(RING) != ring) {
        return;
      }
      WorkerServiceEntity entity = new WorkerServiceEntity();
      try {
        entity.deserialize(Base64.getDecoder().decode(record));
      } catch (RuntimeException e) {
        // Mostly JsonParseException, sometimes NumberFormatException.
        return;
      }
      if (entity.getWorkerNetAddress() == null) {
        return;
      }
      WorkerInfo worker = new WorkerInfo().setAddress(entity.getWorkerNetAddress())
          .setState(WorkerState.LIVE);
      if (entity.getIdentity() != null) {
        named.add(entity.getIdentity());
      }
      // Without an identity it is the worker of the number 0.
      worker.setIdentity(entity.getIdentity() == null ? worker.getIdentity()
          : entity.getIdentity());
      byKey.put(key, worker);
      if (key.endsWith("/" + worker.getIdentity())) {
        keys.put(worker.getIdentity(), key);
      } else {
        keys.putIfAbsent(worker.getIdentity(), key);
      }
    });
    byKey.keySet().retainAll(keys.values());
    return new ArrayList<>(byKey.values());
  }
}
