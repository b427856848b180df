package alluxio.membership.differential;

/** A sequence of actions for both the stock classes and ours. */
interface Scenario {
  void run(Side side) throws Exception;
}
