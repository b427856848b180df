package alluxio.membership.testing;

import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.core.LogEvent;
import org.apache.logging.log4j.core.Logger;
import org.apache.logging.log4j.core.appender.AbstractAppender;
import org.apache.logging.log4j.core.config.Property;

/** What a logger of this JVM is given while this is open. */
public final class Log implements AutoCloseable {
  private final Logger mLogger;
  private final Appender mAppender = new Appender();

  private Log(Logger logger) {
    mLogger = logger;
    mAppender.start();
    mLogger.addAppender(mAppender);
  }

  /**
   * @param name the name of a logger
   * @return what it is given from now on
   */
  public static Log of(String name) {
    return new Log((Logger) LogManager.getLogger(name));
  }

  /**
   * @return the records so far, with what was thrown
   */
  public String text() {
    synchronized (mAppender.mText) {
      return mAppender.mText.toString();
    }
  }

  @Override
  public void close() {
    mLogger.removeAppender(mAppender);
    mAppender.stop();
  }

  private static final class Appender extends AbstractAppender {
    private final StringBuilder mText = new StringBuilder();

    Appender() {
      super("test", null, null, true, Property.EMPTY_ARRAY);
    }

    @Override
    public void append(LogEvent event) {
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
