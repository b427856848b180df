package alluxio.membership.bridge;

import java.util.Objects;
import java.util.UUID;

/**
 * The identity of a worker, which stays the same when the worker restarts or changes its address.
 * Immutable.
 *
 * <p>Its text is {@code worker-} and a UUID, or {@code worker-} and a decimal number for a worker
 * of an older version.
 */
public final class WorkerIdentity implements Comparable<WorkerIdentity> {
  private static final String PREFIX = "worker-";
  private static final int UUID_LENGTH = 36;

  /** In canonical form, so that equal identities have equal texts. */
  private final String mText;

  private WorkerIdentity(String text) {
    mText = text;
  }

  /**
   * Creates the identity of a UUID.
   *
   * @param uuid the UUID
   * @return the identity
   */
  public static WorkerIdentity of(UUID uuid) {
    return new WorkerIdentity(PREFIX + Objects.requireNonNull(uuid, "uuid"));
  }

  /**
   * Creates the identity of a number.
   *
   * @param number the number
   * @return the identity
   */
  public static WorkerIdentity of(long number) {
    return new WorkerIdentity(PREFIX + number);
  }

  /**
   * Parses the text of an identity.
   *
   * @param text {@code worker-} and a UUID or a decimal number
   * @return the identity
   * @throws IllegalArgumentException if the text is not the text of an identity
   */
  public static WorkerIdentity parse(String text) {
    if (text.startsWith(PREFIX)) {
      String id = text.substring(PREFIX.length());
      try {
        return isUuid(id) ? of(UUID.fromString(id)) : of(Long.parseLong(id));
      } catch (IllegalArgumentException e) {
        // The error below names the whole text.
      }
    }
    throw new IllegalArgumentException("Unrecognized worker identity string: " + text);
  }

  /** Wraps a text that the native library wrote, which is canonical. */
  static WorkerIdentity ofCanonical(String text) {
    return new WorkerIdentity(text);
  }

  /** Whether the text has five groups of digits. Java also accepts short groups. */
  private static boolean isUuid(String id) {
    return id.length() <= UUID_LENGTH && id.chars().filter(each -> each == '-').count() == 4;
  }

  /** Orders numbers before UUIDs, and both by value. */
  @Override
  public int compareTo(WorkerIdentity other) {
    boolean isUuid = hasUuid();
    if (isUuid != other.hasUuid()) {
      return isUuid ? 1 : -1;
    }
    return isUuid ? mText.compareTo(other.mText) : Long.compare(number(), other.number());
  }

  /** Whether the identity has a UUID. No number has that many characters. */
  private boolean hasUuid() {
    return mText.length() == PREFIX.length() + UUID_LENGTH;
  }

  private long number() {
    return Long.parseLong(mText.substring(PREFIX.length()));
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof WorkerIdentity && mText.equals(((WorkerIdentity) other).mText);
  }

  @Override
  public int hashCode() {
    return mText.hashCode();
  }

  /**
   * Returns the text of the identity.
   *
   * @return {@code worker-<uuid>} or {@code worker-<number>}
   */
  @Override
  public String toString() {
    return mText;
  }
}
