package alluxio.membership.testing;

import java.io.DataInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;

/**
 * A proxy to etcd that can hold requests, so that something else happens between two requests of a
 * process. It reads the HTTP/2 frames to etcd. A request with a given text in its body waits, and
 * all others pass.
 */
public final class Gate implements AutoCloseable {
  private static final int PREFACE_LENGTH = 24;
  private static final int HEAD_LENGTH = 9;
  private static final int DATA = 0;
  /**
   * The start of such a request: a message whose only field is a number. Few messages have less
   * than 7 bytes.
   */
  private static final Pattern RENEWAL = Pattern.compile("\\x00\\x00\\x00\\x00[\\x08-\\x0b]\\x08");

  private final ServerSocket mServer = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
  private final int mTarget;
  private final List<Socket> mSockets = new ArrayList<>();
  private final List<Hold> mHolds = new ArrayList<>();
  private final List<String> mRequests = new ArrayList<>();
  private boolean mMute;

  /** @param etcd the server behind the gate */
  public Gate(EtcdServer etcd) throws IOException {
    mTarget = Integer.parseInt(etcd.endpoint().substring(etcd.endpoint().lastIndexOf(':') + 1));
    start("gate-accept", this::accept);
  }

  /**
   * @return the URL for clients
   */
  public String endpoint() {
    return "http://127.0.0.1:" + mServer.getLocalPort();
  }

  /** A request that is held. */
  public static final class Hold {
    private final String mText;
    private final boolean mRepeats;
    private final CountDownLatch mReached = new CountDownLatch(1);
    private final CountDownLatch mReleased = new CountDownLatch(1);
    private boolean mTaken;

    private Hold(String text, boolean repeats) {
      mText = text;
      mRepeats = repeats;
    }

    private boolean takes(String body) {
      return body.contains(mText) && (!mTaken || mRepeats && mReleased.getCount() > 0);
    }

    /** Waits until a request with the text has arrived. */
    public void awaitRequest() throws InterruptedException {
      if (!mReached.await(60, TimeUnit.SECONDS)) {
        throw new AssertionError("No request has " + mText);
      }
    }

    /** Returns whether a request with the text has arrived. */
    public boolean isReached() {
      return mReached.getCount() == 0;
    }

    /** Lets the request pass, now or when it arrives. */
    public void release() {
      mReleased.countDown();
    }
  }

  /**
   * @param text a text in the body of a request
   * @return the next request with the text, which will be held
   */
  public synchronized Hold hold(String text) {
    return hold(text, false);
  }

  /**
   * @param text a text in the body of a request
   * @return the next request with the text, and all later ones until the release, such as retries
   */
  public synchronized Hold holdAll(String text) {
    return hold(text, true);
  }

  private Hold hold(String text, boolean repeats) {
    Hold hold = new Hold(text, repeats);
    mHolds.add(hold);
    return hold;
  }

  /** @param mute whether the gate keeps back the answers of etcd */
  public synchronized void mute(boolean mute) {
    mMute = mute;
    notifyAll();
  }

  private synchronized void awaitVoice() throws InterruptedException {
    while (mMute) {
      wait();
    }
  }

  /** @return how many pieces of requests with the text have passed */
  public synchronized long passed(String text) {
    return mRequests.stream().filter(request -> request.contains(text)).count();
  }

  /** @return how many requests that renew or revoke a lease have passed */
  public synchronized long renewals() {
    return mRequests.stream().filter(request -> RENEWAL.matcher(request).find()).count();
  }

  private synchronized Hold holdFor(String body) {
    mRequests.add(body);
    for (Hold hold : mHolds) {
      if (hold.takes(body)) {
        hold.mTaken = true;
        return hold;
      }
    }
    return null;
  }

  private void accept() throws IOException {
    while (true) {
      Socket client = mServer.accept();
      Socket etcd = new Socket(InetAddress.getLoopbackAddress(), mTarget);
      synchronized (this) {
        mSockets.add(client);
        mSockets.add(etcd);
      }
      start("gate-to-etcd", () -> toEtcd(client, etcd));
      start("gate-from-etcd", () -> copy(etcd.getInputStream(), client.getOutputStream(), client));
    }
  }

  private void toEtcd(Socket client, Socket etcd) throws IOException {
    DataInputStream in = new DataInputStream(client.getInputStream());
    OutputStream out = etcd.getOutputStream();
    Map<Integer, List<byte[]>> held = new HashMap<>();
    try {
      byte[] preface = new byte[PREFACE_LENGTH];
      in.readFully(preface);
      write(out, preface);
      while (true) {
        byte[] head = new byte[HEAD_LENGTH];
        in.readFully(head);
        byte[] frame = new byte[HEAD_LENGTH
            + ((head[0] & 0xff) << 16 | (head[1] & 0xff) << 8 | head[2] & 0xff)];
        System.arraycopy(head, 0, frame, 0, HEAD_LENGTH);
        in.readFully(frame, HEAD_LENGTH, frame.length - HEAD_LENGTH);
        int stream = (head[5] & 0x7f) << 24 | (head[6] & 0xff) << 16 | (head[7] & 0xff) << 8 | head[
            8] & 0xff;
        Hold hold = head[3] == DATA && frame.length > HEAD_LENGTH
            ? holdFor(new String(frame, HEAD_LENGTH, frame.length - HEAD_LENGTH,
            StandardCharsets.ISO_8859_1)) : null;
        synchronized (out) {
          if (held.containsKey(stream)) {
            // Later frames of the stream must not overtake the request.
            held.get(stream).add(frame);
          } else if (hold == null) {
            write(out, frame);
          } else {
            held.put(stream, new ArrayList<>(Collections.singletonList(frame)));
            start("gate-held", () -> {
              hold.mReleased.await();
              synchronized (out) {
                for (byte[] each : held.remove(stream)) {
                  write(out, each);
                }
              }
            });
            hold.mReached.countDown();
          }
        }
      }
    } catch (EOFException e) {
      etcd.shutdownOutput();
    }
  }

  private static void write(OutputStream out, byte[] bytes) throws IOException {
    out.write(bytes);
    out.flush();
  }

  private void copy(InputStream in, OutputStream out, Socket client) throws IOException,
      InterruptedException {
    byte[] buffer = new byte[8192];
    for (int read = in.read(buffer); read >= 0; read = in.read(buffer)) {
      awaitVoice();
      out.write(buffer, 0, read);
      out.flush();
    }
    client.close();
  }

  private interface Body {
    void run() throws IOException, InterruptedException;
  }

  private static void start(String name, Body body) {
    Thread thread = new Thread(() -> {
      try {
        body.run();
      } catch (IOException | InterruptedException e) {
        // The end of a connection, or of the gate.
      }
    }, name);
    thread.setDaemon(true);
    thread.start();
  }

  @Override
  public synchronized void close() throws IOException {
    mServer.close();
    for (Hold hold : mHolds) {
      hold.release();
    }
    for (Socket socket : mSockets) {
      socket.close();
    }
  }
}
