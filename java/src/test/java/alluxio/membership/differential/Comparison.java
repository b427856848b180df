package alluxio.membership.differential;

import static org.junit.jupiter.api.Assertions.assertEquals;

import alluxio.membership.testing.EtcdServer;

import java.io.IOException;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Two etcds: the stock classes run a scenario on one, and ours on the other. */
public final class Comparison implements AutoCloseable {
  private static final Pattern ESCAPE = Pattern.compile("\\\\u\\{([0-9a-f]{1,6})}|\\\\[tnr]");

  private final EtcdServer mStockEtcd;
  private final EtcdServer mOurEtcd;
  private final Map<String, Side[]> mSides = new HashMap<>();

  private Comparison(EtcdServer stockEtcd, EtcdServer ourEtcd) {
    mStockEtcd = stockEtcd;
    mOurEtcd = ourEtcd;
  }

  static Comparison start() throws Exception {
    return new Comparison(EtcdServer.start(), EtcdServer.start());
  }

  /**
   * Runs a scenario on both sides.
   *
   * @param name its name in {@link KnownDifferences}
   * @param scenario what to do
   * @param version the version of Alluxio
   * @throws AssertionError if they differ other than they are known to
   */
  void compare(String name, Scenario scenario, String version) throws Exception {
    Side[] sides = mSides.computeIfAbsent(version,
        any -> new Side[] {new Side(version, false, mStockEtcd),
        new Side(version, true, mOurEtcd)});
    KnownDifferences known = new KnownDifferences(name, version);

    sides[0].begin((label, text) -> known.allowsOnStockSide(label, text, sides[0]::seen));
    Map<String, String> stock = run(scenario, sides[0]);
    sides[1].begin((label, text) -> known.allowsOnOurSide(label, text, stock.get(label)));
    Map<String, String> ours = run(scenario, sides[1]);

    known.removeFrom(stock, ours);
    StringBuilder differences = new StringBuilder();
    Set<String> labels = new LinkedHashSet<>(stock.keySet());
    labels.addAll(ours.keySet());
    for (String label : labels) {
      if (!Objects.equals(unescaped(stock.get(label)), unescaped(ours.get(label)))) {
        differences.append("\n--- ").append(label).append("\nstock: ").append(stock.get(label))
            .append("\nours:  ")
            .append(ours.get(label));
      }
    }
    assertEquals("", differences.toString());
  }

  /**
   * Our class escapes characters that would break a line, a column or a terminal, in tables and in
   * exceptions. The stock classes do not. Other tests check the escaping.
   */
  public static String unescaped(String text) {
    if (text == null) {
      return null;
    }
    StringBuffer raw = new StringBuffer();
    Matcher escape = ESCAPE.matcher(text);
    while (escape.find()) {
      String character = escape.group(1) != null
          ? new String(Character.toChars(Integer.parseInt(escape.group(1), 16)))
          : escape.group().replace("\\t", "\t").replace("\\n", "\n").replace("\\r", "\r");
      escape.appendReplacement(raw, Matcher.quoteReplacement(character));
    }
    return escape.appendTail(raw).toString();
  }

  private static Map<String, String> run(Scenario scenario, Side side) throws Exception {
    try {
      scenario.run(side);
    } finally {
      side.end();
    }
    return side.seen();
  }

  @Override
  public void close() throws IOException {
    for (Side[] sides : mSides.values()) {
      for (Side side : sides) {
        side.close();
      }
    }
    mStockEtcd.close();
    mOurEtcd.close();
  }
}
