package alluxio.membership.bridge;

import java.util.AbstractList;
import java.util.Arrays;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.RandomAccess;

/** An unmodifiable list of members that lies in several arrays, which other lists may share. */
final class ChunkedList extends AbstractList<Member> implements RandomAccess {
  /** None of them is empty. */
  private final Member[][] mParts;
  /** The index behind the last member of each part. */
  private final int[] mEnds;

  /**
   * Creates a list.
   *
   * @param parts the members; the list keeps the arrays in it
   */
  ChunkedList(Member[][] parts) {
    Member[][] filled = new Member[parts.length][];
    int[] ends = new int[parts.length];
    int count = 0;
    int end = 0;
    for (Member[] part : parts) {
      if (part.length > 0) {
        end += part.length;
        filled[count] = part;
        ends[count] = end;
        count++;
      }
    }
    mParts = count == parts.length ? filled : Arrays.copyOf(filled, count);
    mEnds = count == parts.length ? ends : Arrays.copyOf(ends, count);
  }

  @Override
  public int size() {
    return mEnds.length == 0 ? 0 : mEnds[mEnds.length - 1];
  }

  @Override
  public Member get(int index) {
    if (index < 0 || index >= size()) {
      throw new IndexOutOfBoundsException("Index " + index + " of " + size() + " members");
    }
    int found = Arrays.binarySearch(mEnds, index + 1);
    int part = found < 0 ? -found - 1 : found;
    return mParts[part][index - (part == 0 ? 0 : mEnds[part - 1])];
  }

  @Override
  public Iterator<Member> iterator() {
    return new Iterator<Member>() {
      private int mPart;
      private int mNext;

      @Override
      public boolean hasNext() {
        return mPart < mParts.length;
      }

      @Override
      public Member next() {
        if (!hasNext()) {
          throw new NoSuchElementException();
        }
        Member member = mParts[mPart][mNext++];
        if (mNext == mParts[mPart].length) {
          mPart++;
          mNext = 0;
        }
        return member;
      }
    };
  }
}
