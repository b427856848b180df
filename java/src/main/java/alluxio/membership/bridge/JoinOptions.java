package alluxio.membership.bridge;

/** Options of a join. Immutable; each {@code with} method returns changed options. */
public final class JoinOptions {
  private static final JoinOptions DEFAULT = new JoinOptions(-1);

  /** As {@code Natives.join} takes it: 0 no, 1 yes, -1 as configured. */
  private final int mK8sDeployment;

  private JoinOptions(int k8sDeployment) {
    mK8sDeployment = k8sDeployment;
  }

  /**
   * Returns the options of a join that follows the configuration.
   *
   * @return the options
   */
  public static JoinOptions defaults() {
    return DEFAULT;
  }

  /**
   * Overrides the property {@code alluxio.k8s.env.deployment}.
   *
   * @param k8sDeployment whether a worker of the same identity at another address is replaced
   *        instead of refused
   * @return the changed options
   */
  public JoinOptions withK8sDeployment(boolean k8sDeployment) {
    return new JoinOptions(k8sDeployment ? 1 : 0);
  }

  int k8sDeployment() {
    return mK8sDeployment;
  }
}
