package alluxio.membership;

/** Checks that this Alluxio has the classes that the drop-in classes need. */
final class SupportedAlluxio {
  /** Classes that Alluxio has since 308 and 307. They are not in this jar. */
  private static final String[] NEEDED =
      {"alluxio.wire.WorkerState", "alluxio.membership.WorkerClusterView"};

  private SupportedAlluxio() {}

  /**
   * Fails at once on an old Alluxio, before a missing class or method fails later.
   *
   * @throws LinkageError if this Alluxio is too old
   */
  static void check() {
    ClassLoader loader = SupportedAlluxio.class.getClassLoader();
    for (String name : NEEDED) {
      try {
        Class.forName(name, false, loader);
      } catch (ClassNotFoundException | LinkageError e) {
        throw new LinkageError("The alluxio-membership jar needs Alluxio 308 or newer, but this is "
            + version(loader) + ": it has no " + name, e);
      }
    }
  }

  private static String version(ClassLoader loader) {
    try {
      // By reflection, because the compiler would copy the constant.
      Class<?> constants = Class.forName("alluxio.ProjectConstants", true, loader);
      return String.valueOf(constants.getField("VERSION").get(null));
    } catch (ReflectiveOperationException | LinkageError e) {
      return "an unknown version";
    }
  }
}
