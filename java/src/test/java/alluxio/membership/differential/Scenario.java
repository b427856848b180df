package alluxio.membership.differential;

/** Something that is done once with the stock classes and once with ours. */
interface Scenario {
  void run(Side side) throws Exception;
}
