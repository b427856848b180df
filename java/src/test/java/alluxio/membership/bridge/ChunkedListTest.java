package alluxio.membership.bridge;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import org.junit.jupiter.api.Test;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;

class ChunkedListTest {
  private static Member member(long number) {
    return new Member(Worker.newBuilder(WorkerIdentity.of(number)).build(), WorkerState.LIVE);
  }

  @Test
  void isTheListOfItsParts() {
    int[][] shapes = {{}, {0}, {1}, {0, 3, 0, 0, 2, 1, 0}, {5, 5}};
    for (int[] shape : shapes) {
      List<Member> expected = new ArrayList<>();
      Member[][] parts = new Member[shape.length][];
      for (int i = 0; i < shape.length; i++) {
        parts[i] = new Member[shape[i]];
        for (int j = 0; j < shape[i]; j++) {
          parts[i][j] = member(expected.size());
          expected.add(parts[i][j]);
        }
      }
      List<Member> list = new ChunkedList(parts);
      assertEquals(expected, list, Arrays.toString(shape));
      for (int i = 0; i < expected.size(); i++) {
        assertEquals(expected.get(i), list.get(i));
      }
      for (int outside : new int[] {-1, expected.size()}) {
        assertThrows(IndexOutOfBoundsException.class, () -> list.get(outside));
      }
      Iterator<Member> members = list.iterator();
      expected.forEach(member -> assertEquals(member, members.next()));
      assertThrows(NoSuchElementException.class, members::next);
      assertThrows(UnsupportedOperationException.class, () -> list.add(member(1)));
    }
  }

  @Test
  void cannotBeChanged() {
    List<Member> list = new ChunkedList(new Member[][] {{member(1)}});
    assertThrows(UnsupportedOperationException.class, () -> list.set(0, member(2)));
    assertThrows(UnsupportedOperationException.class, () -> list.remove(0));
    assertEquals(Collections.singletonList(member(1)), list);
  }
}
