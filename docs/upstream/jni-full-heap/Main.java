public class Main {
  static native byte[] bytes();

  public static void main(String[] args) {
    System.load(args[0]);
    System.out.println("with an empty heap: " + bytes().length);
    byte[][] heap = new byte[200_000][];
    int blocks = 0;
    for (int size = 1 << 20; size >= 64;) {
      try {
        heap[blocks] = new byte[size];
        blocks++;
      } catch (OutOfMemoryError e) {
        size /= 2;
      }
    }
    Throwable thrown = null;
    try {
      bytes();
    } catch (Throwable t) {
      thrown = t;
    }
    heap = null;
    System.out.println("with a full heap: " + thrown);
  }
}
