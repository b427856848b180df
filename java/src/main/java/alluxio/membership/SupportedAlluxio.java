package alluxio.membership;

/** What the drop-in classes need of the Alluxio around them. */
final class SupportedAlluxio {
  /** Classes of Alluxio, none of them in our own jar, that came with 308 or, the second, with 307. */
  private static final String[] NEEDED = {"alluxio.wire.WorkerState", "alluxio.membership.WorkerClusterView"};

  private SupportedAlluxio() {}

  /**
   * @throws LinkageError if this Alluxio is too old, instead of errors about missing classes and
   *         methods at some later time
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
      // By reflection, since the compiler would copy the constant.
      return String.valueOf(Class.forName("alluxio.ProjectConstants", true, loader).getField("VERSION").get(null));
    } catch (ReflectiveOperationException | LinkageError e) {
      return "an unknown version";
    }
  }
}
