package alluxio.membership.bridge.internal;

import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.ReentrantLock;

/** The thread that passes log records to SLF4J, and the log level to the library. */
final class LogThread extends Thread {
  /** The loggers are this one and its children, which are named after the library's modules. */
  private static final String LOGGER = "alluxio.membership.native";
  private static final String RUST_ROOT = "alluxio_membership";
  /** How long a change of the log level may remain unnoticed, because SLF4J does not report it. */
  private static final int POLL_MILLIS = 1000;
  /** How long the end of the JVM waits for an appender. */
  private static final int FLUSH_MILLIS = 1000;
  private static final int BUFFER_LENGTH = 64 * 1024;

  /**
   * Held while records are taken and written, so that {@link #flush} finds no record in between.
   */
  private static final ReentrantLock WRITING = new ReentrantLock();

  private final byte[] mBuffer = new byte[BUFFER_LENGTH];

  LogThread() {
    super("alluxio-membership-log");
  }

  @Override
  public void run() {
    int level = -1;
    while (true) {
      try {
        int current = levelOf(LoggerFactory.getLogger(LOGGER));
        if (current != level) {
          Natives.setLogLevel(current);
          level = current;
        }
        if (Natives.awaitLogRecords(POLL_MILLIS)) {
          WRITING.lock();
          try {
            write(mBuffer);
          } finally {
            WRITING.unlock();
          }
        } else if (Background.endsLog()) {
          return;
        }
      } catch (RuntimeException | Error e) {
        // No exception of an appender may end this thread, also during a shutdown of the JVM.
      }
    }
  }

  /** Sets the library's log level before its first records. */
  static void setLevel() {
    Natives.setLogLevel(levelOf(LoggerFactory.getLogger(LOGGER)));
  }

  /** Writes all records that the library has logged so far. */
  static void flush() {
    try {
      if (WRITING.tryLock(FLUSH_MILLIS, TimeUnit.MILLISECONDS)) {
        try {
          write(new byte[BUFFER_LENGTH]);
        } finally {
          WRITING.unlock();
        }
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  private static void write(byte[] buffer) {
    for (int length = Natives.nextLogRecords(buffer); length > 0;
        length = Natives.nextLogRecords(buffer)) {
      Wire.Reader records = new Wire.Reader(buffer, length);
      while (!records.isEmpty()) {
        write(records.int32(), loggerName(records.text()), records.text());
      }
    }
  }

  /** Logs one record. The message begins with the logger's name, which Alluxio's pattern omits. */
  private static void write(int level, String name, String text) {
    Logger logger = LoggerFactory.getLogger(name);
    String message = name + ": " + text;
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
