package alluxio.membership.bridge.internal;

import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Takes log records of the library to SLF4J, and the log level to the library. A daemon, so it never keeps a JVM from
 * exiting.
 */
final class LogThread {
  /** The loggers are this one and its children, named after the library's modules. */
  private static final String LOGGER = "alluxio.membership.native";
  private static final String RUST_ROOT = "alluxio_membership";
  /** How long a change of the log level may take to be noticed; SLF4J does not report it. */
  private static final int POLL_MILLIS = 1000;

  private LogThread() {}

  static void start() {
    Logger logger = LoggerFactory.getLogger(LOGGER);
    Natives.setLogLevel(levelOf(logger));
    Thread thread = new Thread(() -> run(logger), "alluxio-membership-log");
    thread.setDaemon(true);
    // The creator's class loader has no business here and could never be unloaded.
    thread.setContextClassLoader(LogThread.class.getClassLoader());
    thread.start();
  }

  private static void run(Logger logger) {
    int level = levelOf(logger);
    while (true) {
      try {
        byte[] records = Natives.nextLogRecords(POLL_MILLIS);
        if (records != null) {
          write(new Wire.Reader(records));
        }
        int current = levelOf(logger);
        if (current != level) {
          Natives.setLogLevel(current);
          level = current;
        }
      } catch (RuntimeException | Error e) {
        // Whatever an appender throws, also while the JVM shuts down, must not end this thread.
      }
    }
  }

  private static void write(Wire.Reader records) {
    for (int count = records.int32(); count > 0; count--) {
      int level = records.int32();
      Logger logger = LoggerFactory.getLogger(loggerName(records.text()));
      String message = records.text();
      switch (level) {
        case 1:
          logger.error(message);
          break;
        case 2:
          logger.warn(message);
          break;
        case 3:
          logger.info(message);
          break;
        case 4:
          logger.debug(message);
          break;
        default:
          logger.trace(message);
      }
    }
  }

  static String loggerName(String target) {
    return LOGGER + target.substring(RUST_ROOT.length()).replace("::", ".");
  }

  private static int levelOf(Logger logger) {
    if (logger.isTraceEnabled()) {
      return 5;
    }
    if (logger.isDebugEnabled()) {
      return 4;
    }
    if (logger.isInfoEnabled()) {
      return 3;
    }
    if (logger.isWarnEnabled()) {
      return 2;
    }
    return logger.isErrorEnabled() ? 1 : 0;
  }
}
