package alluxio.membership.bridge;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

import java.io.IOException;
import java.lang.reflect.Field;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.Arrays;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Function;
import java.util.function.ToIntFunction;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/** Java and Rust have equal numbers. */
class InterfaceParityTest {
  @Test
  void errorKindsAreRusts() throws IOException {
    assertEquals(rustEnum("src/error.rs", "ErrorKind"),
        javaEnum(ErrorKind.values(), ErrorKind::number));
  }

  @Test
  void workerStatesAreRusts() throws IOException {
    assertEquals(rustEnum("src/worker.rs", "WorkerState"),
        javaEnum(WorkerState.values(), WorkerState::number));
  }

  @Test
  void changeKindsAreRusts() throws IOException {
    assertEquals(rustEnum("src/view/mod.rs", "ChangeKind"),
        javaEnum(ChangeKind.values(), kind -> kind.ordinal() + 1));
  }

  @Test
  void registrationStatesAreRusts() throws IOException {
    assertEquals(rustEnum("src/etcd/registration/session.rs", "RegistrationState"),
        javaEnum(RegistrationState.values(), state -> state.ordinal() + 1));
  }

  @Test
  void versionIsTheCrates() throws IOException {
    assertTrue(source("Cargo.toml").contains("\nversion = \"" + Membership.version() + "\"\n"));
  }

  @Test
  void idsAreMadeAsInRust() throws Exception {
    Field shift = Class.forName("alluxio.membership.bridge.internal.Natives")
        .getDeclaredField("SESSION_SHIFT");
    shift.setAccessible(true);
    assertTrue(source("src/jni/mod.rs")
        .contains("\nconst SESSION_SHIFT: u32 = " + shift.get(null) + ";\n"));
  }

  @Test
  void numbersLeadBack() {
    for (ErrorKind kind : ErrorKind.values()) {
      assertEquals(kind, ErrorKind.of(kind.number()));
      assertEquals(kind.ordinal() + 1, kind.number());
    }
    for (WorkerState state : WorkerState.values()) {
      assertEquals(state, WorkerState.of(state.number()));
    }
    assertThrows(IllegalArgumentException.class, () -> ErrorKind.of(0));
    assertThrows(IllegalArgumentException.class, () -> WorkerState.of(0));
  }

  private static <E extends Enum<E>> Map<String,
      Integer> javaEnum(E[] values, ToIntFunction<E> number) {
    Function<E, String> name = value -> value.name().replace("_", "").toLowerCase();
    return new TreeMap<>(Arrays.stream(values).collect(Collectors.toMap(name, number::applyAsInt)));
  }

  private static Map<String, Integer> rustEnum(String file, String name) throws IOException {
    Matcher body = Pattern.compile("pub enum " + name + " \\{(.*?)\n}", Pattern.DOTALL)
        .matcher(source(file));
    assertTrue(body.find(), name);
    Map<String, Integer> found = new TreeMap<>();
    Matcher variant = Pattern.compile("^    (\\w+) = (\\d+),$", Pattern.MULTILINE)
        .matcher(body.group(1));
    while (variant.find()) {
      found.put(variant.group(1).toLowerCase(), Integer.valueOf(variant.group(2)));
    }
    assertFalse(found.isEmpty());
    return found;
  }

  private static String source(String file) throws IOException {
    return new String(Files.readAllBytes(Paths.get(System.getProperty("basedir", ""), "..", file)),
        StandardCharsets.UTF_8);
  }
}
