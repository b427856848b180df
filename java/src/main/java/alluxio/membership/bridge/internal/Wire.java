package alluxio.membership.bridge.internal;

import alluxio.membership.bridge.ErrorKind;
import alluxio.membership.bridge.MembershipException;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.TimeoutException;

/**
 * The encoding between Java and Rust. The library's {@code src/jni/wire.rs} describes the format.
 */
public final class Wire {
  private static final byte OK = 0;
  /** In the order of their numbers, which begin at 1. */
  private static final ErrorKind[] KINDS = ErrorKind.values();

  private Wire() {}

  /**
   * Encodes the request of {@link Natives#open}.
   *
   * @param origin where the library was loaded from, for messages
   * @param properties property names and values; entries with a null value are omitted
   * @return the request
   */
  public static byte[] opening(String origin, Map<String, String> properties) {
    Writer writer = new Writer();
    writer.text(origin);
    writer.int32((int) properties.values().stream().filter(value -> value != null).count());
    properties.forEach((name, value) -> {
      if (value != null) {
        writer.text(name);
        writer.text(value);
      }
    });
    return writer.bytes();
  }

  /**
   * Encodes a text as UTF-8.
   *
   * @param text the text
   * @return the bytes
   */
  public static byte[] utf8(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }

  /** Writes a request. */
  public static final class Writer {
    private final ByteArrayOutputStream mOut = new ByteArrayOutputStream(256);

    /**
     * Writes a number.
     *
     * @param number the number
     * @return this writer
     */
    public Writer int32(int number) {
      mOut.write(number >>> 24);
      mOut.write(number >>> 16);
      mOut.write(number >>> 8);
      mOut.write(number);
      return this;
    }

    /**
     * Writes a text, or null.
     *
     * @param text the text
     * @return this writer
     */
    public Writer text(String text) {
      if (text == null) {
        return int32(-1);
      }
      byte[] bytes = utf8(text);
      int32(bytes.length);
      mOut.write(bytes, 0, bytes.length);
      return this;
    }

    /**
     * Returns the written bytes.
     *
     * @return the bytes
     */
    public byte[] bytes() {
      return mOut.toByteArray();
    }
  }

  /** Reads a reply. */
  public static final class Reader {
    private final ByteBuffer mBytes;

    Reader(byte[] bytes, int length) {
      mBytes = ByteBuffer.wrap(bytes, 0, length);
    }

    /**
     * Reads the status byte of a reply, and throws the error if the reply is one.
     *
     * @param reply an array that begins with a reply of the library
     * @param length the length of the reply
     * @return a reader of its result
     * @throws MembershipException if it is an error
     * @throws IllegalStateException if it says that the manager is closed
     */
    public static Reader ofReply(byte[] reply, int length) throws MembershipException {
      if (length < 1) {
        throw new MembershipException(ErrorKind.INTERNAL, false,
            "The membership library failed without a reply; its log has the reason", null);
      }
      Reader reader = new Reader(reply, length);
      if (reader.mBytes.get() == OK) {
        return reader;
      }
      ErrorKind kind = KINDS[reader.int32() - 1];
      boolean retryable = reader.mBytes.get() != 0;
      boolean timedOut = reader.mBytes.get() != 0;
      String message = reader.text();
      String cause = reader.text();
      if (kind == ErrorKind.CLOSED) {
        throw new IllegalStateException(message);
      }
      throw new MembershipException(kind, retryable, message,
          cause == null ? null : timedOut ? new TimeoutException(cause) : new IOException(cause));
    }

    /**
     * Returns whether everything was read.
     *
     * @return true at the end
     */
    public boolean isEmpty() {
      return !mBytes.hasRemaining();
    }

    /**
     * Reads a number of 32 bits.
     *
     * @return the number
     */
    public int int32() {
      return mBytes.getInt();
    }

    /**
     * Reads a number of 64 bits.
     *
     * @return the number
     */
    public long int64() {
      return mBytes.getLong();
    }

    /**
     * Reads a byte that is 0 or 1.
     *
     * @return whether the byte is 1
     */
    public boolean bool() {
      return mBytes.get() != 0;
    }

    /**
     * Reads a text, or null.
     *
     * @return the text
     */
    public String text() {
      int length = mBytes.getInt();
      if (length < 0) {
        return null;
      }
      String text = new String(mBytes.array(), mBytes.position(), length, StandardCharsets.UTF_8);
      mBytes.position(mBytes.position() + length);
      return text;
    }
  }
}
