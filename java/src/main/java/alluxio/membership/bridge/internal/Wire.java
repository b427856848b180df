package alluxio.membership.bridge.internal;

import alluxio.membership.bridge.ClusterView;
import alluxio.membership.bridge.ErrorKind;
import alluxio.membership.bridge.Member;
import alluxio.membership.bridge.MembershipException;
import alluxio.membership.bridge.SkippedRecord;
import alluxio.membership.bridge.Worker;
import alluxio.membership.bridge.WorkerState;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeoutException;

/**
 * What crosses between Java and Rust as bytes. The format is described in the library's {@code
 * src/jni/wire.rs}.
 */
public final class Wire {
  private static final byte OK = 0;

  private Wire() {}

  /**
   * @param origin where the library was loaded from, in words
   * @param properties property names and values; entries with a null value are left out
   * @return them as {@link Natives#open} takes them
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
   * @param worker a worker
   * @return it as {@link Natives#join} takes it
   */
  public static byte[] worker(Worker worker) {
    Writer writer = new Writer();
    writer.text(worker.getIdentity());
    writer.text(worker.getHost());
    writer.text(worker.getContainerHost());
    writer.int32(worker.getRpcPort());
    writer.int32(worker.getDataPort());
    writer.int32(worker.getSecureRpcPort());
    writer.int32(worker.getNettyDataPort());
    writer.int32(worker.getWebPort());
    writer.text(worker.getDomainSocketPath());
    writer.int32(worker.getHttpServerPort());
    return writer.bytes();
  }

  /**
   * @param text a text
   * @return its bytes
   */
  public static byte[] utf8(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }

  private static final class Writer {
    private final ByteArrayOutputStream mOut = new ByteArrayOutputStream(256);

    void int32(int number) {
      mOut.write(number >>> 24);
      mOut.write(number >>> 16);
      mOut.write(number >>> 8);
      mOut.write(number);
    }

    void text(String text) {
      if (text == null) {
        int32(-1);
        return;
      }
      byte[] bytes = utf8(text);
      int32(bytes.length);
      mOut.write(bytes, 0, bytes.length);
    }

    byte[] bytes() {
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
     * @param reply an array that begins with a reply of the library
     * @param length the length of the reply
     * @return a reader of its result
     * @throws MembershipException if it is an error
     * @throws IllegalStateException if it says that the manager is closed
     */
    static Reader ofReply(byte[] reply, int length) throws MembershipException {
      Reader reader = new Reader(reply, length);
      if (reader.mBytes.get() == OK) {
        return reader;
      }
      ErrorKind kind = ErrorKind.of(reader.int32());
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
     * @return whether there is nothing to read any more
     */
    public boolean isEmpty() {
      return !mBytes.hasRemaining();
    }

    int int32() {
      return mBytes.getInt();
    }

    long int64() {
      return mBytes.getLong();
    }

    /**
     * @return a text, or null
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

    /**
     * @return a view
     */
    public ClusterView view() {
      long version = int64();
      long revision = int64();
      Member[] distinct = new Member[int32()];
      for (int i = 0; i < distinct.length; i++) {
        distinct[i] = new Member(worker(), WorkerState.of(int32()));
      }
      List<Member> all = members(distinct);
      List<Member> live = members(distinct);
      List<Member> failed = members(distinct);
      int count = int32();
      List<SkippedRecord> skipped = new ArrayList<>(count);
      for (int i = 0; i < count; i++) {
        skipped.add(new SkippedRecord(text(), text()));
      }
      return new ClusterView(version, revision, all, live, failed, Collections.unmodifiableList(skipped));
    }

    private List<Member> members(Member[] distinct) {
      Member[] members = new Member[int32()];
      for (int i = 0; i < members.length; i++) {
        members[i] = distinct[int32()];
      }
      return Collections.unmodifiableList(Arrays.asList(members));
    }

    private Worker worker() {
      return Worker.newBuilder(text())
          .setHost(text())
          .setContainerHost(text())
          .setRpcPort(int32())
          .setDataPort(int32())
          .setSecureRpcPort(int32())
          .setNettyDataPort(int32())
          .setWebPort(int32())
          .setDomainSocketPath(text())
          .setHttpServerPort(int32())
          .build();
    }
  }
}
