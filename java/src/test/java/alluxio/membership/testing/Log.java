package alluxio.membership.testing;

import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.core.LogEvent;
import org.apache.logging.log4j.core.LoggerContext;
import org.apache.logging.log4j.core.appender.AbstractAppender;
import org.apache.logging.log4j.core.config.LoggerConfig;
import org.apache.logging.log4j.core.config.Property;

/** The records of a logger of this JVM and of the loggers below it, while this is open. */
public final class Log implements AutoCloseable {
  /** An existing appender, because loggers that are created meanwhile might miss a new one. */
  private final LoggerConfig mConfig;
  private final Appender mAppender;

  private Log(String name) {
    mConfig = ((LoggerContext) LogManager.getContext(false)).getConfiguration()
        .getLoggerConfig(name);
    mAppender = new Appender(name);
    mAppender.start();
    mConfig.addAppender(mAppender, null, null);
  }

  /**
   * @param name the name of a logger
   * @return the records from now on
   */
  public static Log of(String name) {
    return new Log(name);
  }

  /** @return the records so far, with their exceptions */
  public String text() {
    synchronized (mAppender.mText) {
      return mAppender.mText.toString();
    }
  }

  @Override
  public void close() {
    mConfig.removeAppender(mAppender.getName());
    mAppender.stop();
  }

  private static final class Appender extends AbstractAppender {
    private final String mLogger;
    private final StringBuilder mText = new StringBuilder();

    Appender(String logger) {
      super("test of " + logger, null, null, true, Property.EMPTY_ARRAY);
      mLogger = logger;
    }

    @Override
    public void append(LogEvent event) {
      if (!event.getLoggerName().startsWith(mLogger)) {
        return;
      }
      synchronized (mText) {
        mText.append(event.getLevel()).append(' ').append(event.getMessage().getFormattedMessage());
        for (Throwable thrown = event.getThrown(); thrown != null; thrown = thrown.getCause()) {
          mText.append(" <- ").append(thrown);
        }
        mText.append('\n');
      }
    }
  }
}
