package alluxio.membership.testing;

import alluxio.conf.Configuration;
import alluxio.membership.MembershipManager;
import alluxio.membership.WorkerClusterView;
import alluxio.wire.WorkerIdentity;
import alluxio.wire.WorkerInfo;
import alluxio.wire.WorkerNetAddress;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;

/**
 * A membership manager under remote control, for a JVM of its own with or without our jar: commands on standard input,
 * one line beginning with {@code ok} or {@code error} for each on standard output. The configuration is Alluxio's global
 * one. Ends when {@code main} returns, at {@code return} or at the end of the input.
 */
public final class MembershipProgram {
  private MembershipProgram() {}

  /**
   * @param args none
   */
  public static void main(String[] args) throws Exception {
    MembershipManager manager = MembershipManager.Factory.create(Configuration.global());
    System.out.println("ready " + manager.getClass().getName() + " from "
        + manager.getClass().getProtectionDomain().getCodeSource().getLocation());
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      String[] words = line.split(" ");
      if (words[0].equals("return")) {
        return;
      }
      if (words[0].equals("exit")) {
        System.exit(0);
      }
      String answer;
      try {
        answer = "ok " + run(manager, words);
      } catch (Throwable t) {
        answer = "error " + t.getClass().getName() + ": " + t.getMessage();
      }
      System.out.println(answer.replace("\n", "\\n"));
    }
  }

  private static String run(MembershipManager manager, String[] words) throws Exception {
    switch (words[0]) {
      case "join":
        manager.join(worker(words[1], words[2], Integer.parseInt(words[3])));
        return "";
      case "stop":
        manager.stopHeartBeat(worker(words[1], "", 0));
        return "";
      case "decommission":
        manager.decommission(worker(words[1], "", 0));
        return "";
      case "all":
        return text(manager.getAllMembers());
      case "live":
        return text(manager.getLiveMembers());
      case "failed":
        return text(manager.getFailedMembers());
      case "show":
        return manager.showAllMembers();
      case "close":
        manager.close();
        return "";
      default:
        throw new IllegalArgumentException("Unknown command " + words[0]);
    }
  }

  /**
   * @param identity an identity's text
   * @param host the host
   * @param port the RPC port; the others follow it
   * @return the worker
   */
  public static WorkerInfo worker(String identity, String host, int port) throws Exception {
    return new WorkerInfo().setIdentity(WorkerIdentity.fromString(identity)).setAddress(new WorkerNetAddress()
        .setHost(host).setRpcPort(port).setDataPort(port + 1).setNettyDataPort(port + 1).setWebPort(port + 2));
  }

  /**
   * @param view a view
   * @return {@code identity=host:port/STATE} for each worker, in order
   */
  public static String text(WorkerClusterView view) {
    StringBuilder text = new StringBuilder();
    for (WorkerInfo worker : view) {
      text.append(text.length() == 0 ? "" : " ").append(worker.getIdentity()).append('=')
          .append(worker.getAddress().getHost()).append(':').append(worker.getAddress().getRpcPort()).append('/')
          .append(worker.getState().name());
    }
    return text.toString();
  }
}
