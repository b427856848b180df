package alluxio.membership;

import alluxio.conf.AlluxioProperties;
import alluxio.conf.InstancedConfiguration;
import alluxio.conf.PropertyKey;
import alluxio.conf.Source;
import alluxio.util.FormatUtils;
import alluxio.util.HashUtils;
import alluxio.wire.WorkerIdentity;
import alluxio.wire.WorkerNetAddress;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.UUID;

/**
 * Writes the golden vectors with the real classes. It is in Alluxio's package because of
 * package-private fields.
 */
public final class GoldenVectors {
  private static final Gson GSON =
      new GsonBuilder().disableHtmlEscaping().serializeNulls().create();

  private static final String UUID_TEXT = "cb157baa-afe0-4b98-8af0-1a4645d38456";
  private static final String IDENTITY =
      "\"Identity\":{\"version\":1,\"identifier\":\"cb157baaafe04b988af01a4645d38456\"}";

  /** Texts that are easy to write or read wrongly. */
  private static final List<String> HOSTILE = Arrays.asList(
      "", "worker1", "192.168.4.36", "::1", "[fe80::1%eth0]", "a b", " ", "null", "\"", "\\", "/",
      "\\\"",
      "a\"b\\c/d", "=", "<", ">", "&", "'", "<a href='x'>&amp;=</a>", "\b\t\n\f\r", "\u0000",
      "\u0001\u001f",
      "\u007f", "\u0080\u009f", "\u00a0", "\u00e4\u00f6\u00fc\u00df", "\u0416\u65e5\u672c\u8a9e",
      "\ud83d\ude00",
      "a\ud83d\ude00b\ud83c\udde9\ud83c\uddea", "\u2027\u2028\u2029\u202a", "\ufeff", "\ufffd",
      "\uffff", "e\u0301",
      "</script>", "\\u003d", "{\"Host\":1}", "\ud800\udc00", "\udbff\udfff");

  private GoldenVectors() {}

  public static void main(String[] args) throws Exception {
    Path folder = Paths.get(args[0]);
    write(folder.resolve("encode.jsonl"), encode());
    write(folder.resolve("decode.jsonl"), decode());
    write(folder.resolve("durations.jsonl"), durations());
    write(folder.resolve("site_properties.jsonl"), siteProperties());
    write(folder.resolve("references.jsonl"), references());
    write(folder.resolve("static.jsonl"), staticIds());
    write(folder.resolve("identities.jsonl"), identities());
    write(folder.resolve("defaults.jsonl"), defaults());
    System.exit(0);
  }

  private static void write(Path file, List<Map<String, Object>> rows) throws IOException {
    List<String> lines = new ArrayList<>();
    for (Map<String, Object> row : rows) {
      lines.add(GSON.toJson(row));
    }
    Files.write(file, lines, StandardCharsets.UTF_8);
  }

  private static Map<String, Object> row(Object... fields) {
    Map<String, Object> row = new LinkedHashMap<>();
    for (int i = 0; i < fields.length; i += 2) {
      row.put((String) fields[i], fields[i + 1]);
    }
    return row;
  }

  // Encoding

  private static List<Map<String, Object>> encode() {
    List<Map<String, Object>> rows = new ArrayList<>();
    List<WorkerIdentity> identities = Arrays.asList(
        WorkerIdentity.ParserV1.INSTANCE.fromUUID(UUID.fromString(UUID_TEXT)),
        WorkerIdentity.ParserV1.INSTANCE.fromUUID(new UUID(0, 0)),
        WorkerIdentity.ParserV1.INSTANCE.fromUUID(new UUID(-1, -1)),
        WorkerIdentity.ParserV0.INSTANCE.fromLong(0),
        WorkerIdentity.ParserV0.INSTANCE.fromLong(7),
        WorkerIdentity.ParserV0.INSTANCE.fromLong(-7),
        WorkerIdentity.ParserV0.INSTANCE.fromLong(Long.MAX_VALUE),
        WorkerIdentity.ParserV0.INSTANCE.fromLong(Long.MIN_VALUE));
    for (WorkerIdentity identity : identities) {
      rows.add(encode(identity, address("192.168.4.36", "", "", 29999, 29997, 0, 29997, 30000,
          28080)));
    }
    for (String text : HOSTILE) {
      rows.add(encode(identities.get(0), address(text, "c" + text, text + "/d", 1, 2, 3, 4, 5, 6)));
    }
    rows.add(encode(identities.get(0), new WorkerNetAddress()));
    // The setters refuse null, but the reader accepts it.
    WorkerServiceEntity nulls = new WorkerServiceEntity();
    nulls.deserialize(
        utf8("{WorkerNetAddress:{Host:null,ContainerHost:null,DomainSocketPath:null}}"));
    rows.add(encode(identities.get(0), nulls.getWorkerNetAddress()));
    rows.add(encode(identities.get(0),
        address("h", "", "", Integer.MAX_VALUE, Integer.MIN_VALUE, -1, 0, 65535, 1)));
    return rows;
  }

  private static Map<String, Object> encode(WorkerIdentity identity, WorkerNetAddress address) {
    byte[] bytes = new WorkerServiceEntity(identity, address).serialize();
    return row("identity", identity.toString(), "address", fields(address),
        "bytes", new String(bytes, StandardCharsets.UTF_8));
  }

  private static WorkerNetAddress address(String host, String container, String socket, int rpc,
      int data,
      int secureRpc, int nettyData, int web, int http) {
    return new WorkerNetAddress().setHost(host).setContainerHost(container)
        .setDomainSocketPath(socket)
        .setRpcPort(rpc).setDataPort(data).setSecureRpcPort(secureRpc).setNettyDataPort(nettyData)
        .setWebPort(web).setHttpServerPort(http);
  }

  private static Map<String, Object> fields(WorkerNetAddress address) {
    return row("host", address.getHost(), "container_host", address.getContainerHost(),
        "rpc_port", address.getRpcPort(), "data_port", address.getDataPort(),
        "secure_rpc_port", address.getSecureRpcPort(), "netty_data_port",
        address.getNettyDataPort(),
        "web_port", address.getWebPort(), "domain_socket_path", address.getDomainSocketPath(),
        "http_server_port", address.getHttpServerPort());
  }

  // Decoding

  private static List<Map<String, Object>> decode() {
    List<byte[]> inputs = new ArrayList<>();
    for (Map<String, Object> row : encode()) {
      inputs.add(utf8((String) row.get("bytes")));
    }
    for (String text : Arrays.asList(
        // Whole documents
        "", " ", "\n", "null", "NULL", "Null", " null ", "null x", "null null", "null{", "{}",
            "{} ", " {}", "{}x", "{}{}",
        "{},", "{}}", "{}]", "{} // end", "{} # end", "{} /* end */", "{} /* open", "{}/", "[]",
        "[{}]", "7", "\"a\"", "true", "x",
        "{", "}", "{\"", "{\"a", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,", "{\"a\":1,}", "{,}",
        "{\"a\"}", "{:1}", "{\"a\":}",
        "\ufeff{}", "\ufeff\ufeff{}", " \ufeff{}", "\ufeff", ")]}'\n{}", ")]}'\n", ")]}'", ")]}{}",
        "//c\n{}", "#c\n{}", "/*c*/{}", "/*c{}",
        "\u0000{}", "\f{}", "\u000b{}", "\u00a0{}", "\r\n\t {}", "# only", "/",
        // Members
        "{'Host':1}", "{Host:1}", "{Host=1}", "{Host=>1}", "{\"Host\"=>\"x\"}", "{a:1;b:2}",
            "{a:1,,b:2}", "{a:1;;b:2}", "{a:1;}", "{;}",
        "{a b:1}", "{a:1 b:2}", "{\"a\" /*c*/ : /*d*/ 1 /*e*/, //f\n b:2 #g\n}", "{null:1}",
        "{1:2}", "{true:false}", "{\"\":1}", "{'':1}",
        "{\"\\u0053tate\":\"AUTHORIZED\"}", "{[]:1}", "{{}:1}", "{a=:1}", "{a:=1}", "{a:/}",
        "{a:\\}",
        // Values that are skipped
        "{x:[]}", "{x:[1,2,[3,{y:4}]]}", "{x:[,]}", "{x:[,,1,]}", "{x:[1;2]}", "{x:[1 2]}",
            "{x:[}", "{x:[1}", "{x:{]}", "{x:{y:}}",
        "{x:'a\\'b'}", "{x:\"a\nb\"}", "{x:\"\\\n\"}", "{x:\"\\q\"}", "{x:\"\\u12\"}",
        "{x:\"\\u12g4\"}", "{x:\"\\ud800\"}", "{x:\"\\u00e4\"}", "{x:'open}",
        "{x:\"\\", "{x:\"\\u", "{x:\"\\u1", "{x:nul}", "{x:truefalse}", "{x:-}", "{x:01}",
        "{x:1.}", "{x:.5}", "{x:+1}", "{x:0x10}", "{x:NaN}", "{x:a\u0000b}",
        // Top-level fields
        "{\"ServiceEntityName\":null}", "{\"ServiceEntityName\":\"n\"}",
            "{\"ServiceEntityName\":5}", "{\"ServiceEntityName\":5.50}",
        "{\"ServiceEntityName\":true}", "{\"ServiceEntityName\":TRUE}",
        "{\"ServiceEntityName\":tRuE}", "{\"ServiceEntityName\":n}", "{\"ServiceEntityName\":[]}",
        "{\"ServiceEntityName\":{}}", "{\"ServiceEntityName\":'n'}", "{\"ServiceEntityName\":-0}",
        "{\"ServiceEntityName\":1e5}", "{\"ServiceEntityName\":007}",
        "{\"ServiceEntityName\":99999999999999999999}", "{\"ServiceEntityName\":NaN}",
        "{\"ServiceEntityName\":a'b\"c}", "{\"serviceEntityName\":\"n\"}",
        "{\"ServiceEntityName\":\"a\",\"ServiceEntityName\":\"b\"}",
        "{\"ServiceEntityName\":\"a\",\"ServiceEntityName\":null}",
        "{\"ServiceEntityName\":\"\\ud83d\\ude00\"}",
        "{\"ServiceEntityName\":\"\\u003d\\u0027\\/\\b\\f\\n\\r\\t\\\\\\\"\\'\"}",
        "{\"ServiceEntityName\":\"a\\\nb\"}",
        "{\"ServiceEntityName\":\"\\uD83D\\uDE00\\u00E4\"}", "{\"ServiceEntityName\":\"\\u+123\"}",
        "{\"ServiceEntityName\":\"\\q\"}", "{\"ServiceEntityName\":\"\\u12g4\"}",
        "{\"ServiceEntityName\":\"\\x41\"}", "{\"ServiceEntityName\":\"\\0\"}",
        "{\"ServiceEntityName\":\"a\tb\u0000\"}",
        "{\"State\":\"AUTHORIZED\"}", "{\"State\":\"authorized\"}", "{\"State\":\"X\"}",
        "{\"State\":null}", "{\"State\":1}", "{\"State\":true}", "{\"State\":{}}",
        "{\"State\":[]}", "{State:JOINED}", "{\"State\":X,\"ServiceEntityName\":\"n\"}",
        "{\"GenerationNumber\":-1}", "{\"GenerationNumber\":null}", "{\"GenerationNumber\":\"x\"}",
        "{\"GenerationNumber\":1.5}", "{\"GenerationNumber\":true}",
        "{\"GenerationNumber\":{}}", "{\"GenerationNumber\":2147483648}",
        "{\"mRevision\":[],\"mNeedReconnect\":7,\"Revision\":true}")) {
      inputs.add(utf8(text));
    }
    for (String value : Arrays.asList(
        "null", "7", "\"7\"", "'7'", "7.0", "\"7.0\"", "7.5", "\"7.5\"", "7e0", "7E+0", "70e-1",
        "\"7e0\"", "-7", "+7", "\"+7\"", "007", "\"007\"", "7.", ".7e1",
        "\" 7 \"", "\" 7.0 \"", "\"7 0\"", "\"\"", "''", "\"x\"", "x", "true", "[]", "[7]", "{}",
        "2147483647", "2147483648", "-2147483648", "-2147483649",
        "\"2147483648\"", "4294967296", "99999999999999999999", "1e9", "1e10", "1e400", "-0",
        "-0.0", "\"-0\"", "0", "00", "-", "7d", "7f", "\"7D\"", "7dd", "7L", "0x7",
        "NaN", "\"NaN\"", "Infinity", "-Infinity", "\"inf\"", "\"infinity\"", "7_0", "1e", "e1",
        "\".\"", "\"7\\u0000\"", "\"\\u00a07\"", "0.1e1", "1E1", "2147483647.0", "2147483647.5")) {
      inputs.add(utf8("{\"WorkerNetAddress\":{\"RpcPort\":" + value + "}}"));
    }
    for (String value : Arrays.asList(
        "null", "\"h\"", "7", "7.50", "true", "FALSE", "h", "[]", "{}", "''", "-", "1.2.3.4",
        "fe80", "a:b", "a/b", "a=b")) {
      inputs.add(utf8("{\"WorkerNetAddress\":{\"Host\":" + value + "}}"));
      inputs.add(utf8("{\"WorkerNetAddress\":{\"DomainSocketPath\":" + value
          + ",\"ContainerHost\":" + value + "}}"));
    }
    for (String value : Arrays.asList(
        "null", "{}", "[]", "7", "\"h\"", "true", "{Host:a},\"WorkerNetAddress\":{RpcPort:1}",
        "{Host:a},\"WorkerNetAddress\":null",
        "{Host:a,Host:b}", "{RpcPort:1,RpcPort:null}", "{Host:a,Host:null}", "{host:a,HOST:b}",
        "{Tiered:{x:[1]},Host:a}", "{Host:a}x", "{Host:a",
        "{\"Host\":\"192.168.4.36\",\"ContainerHost\":\"\",\"RpcPort\":29999,\"DataPort\":29997,\"SecureRpcPort\":0,\"NettyDataPort\":29997,"
            + "\"WebPort\":30000,\"DomainSocketPath\":\"\"}")) {
      inputs.add(utf8("{\"WorkerNetAddress\":" + value + "}"));
    }
    for (String value : Arrays.asList(
        "null", "{}", "[]", "7", "\"worker-1\"", "true", "x", "{\"version\":1}",
        "{\"identifier\":\"00\"}",
        identity("1", "\"cb157baaafe04b988af01a4645d38456\""),
        identity("1", "\"CB157BAAAFE04B988AF01A4645D38456\""),
        identity("1", "'cb157baaafe04b988af01a4645d38456'"),
        identity("1", "cb157baaafe04b988af01a4645d38456"),
        identity("1", "\"cb157baaafe04b988af01a4645d3845\""),
        identity("1", "\"cb157baaafe04b988af01a4645d384\""),
        identity("1", "\"cb157baaafe04b988af01a4645d3845g\""),
        identity("1", "\"cb157baa-afe0-4b98-8af0-1a4645d38456\""),
        identity("1", "\"\""), identity("1", "null"), identity("1", "7"),
        identity("1", "12345678901234567890123456789012"), identity("1", "[]"),
        identity("1", "true"), identity("0", "\"0000000000000007\""),
        identity("0", "\"fffffffffffffff9\""), identity("0", "\"00\""),
        identity("0", "0000000000000007"), identity("0", "1000000000000007"),
        identity("0", "\"cb157baaafe04b988af01a4645d38456\""),
        identity("2", "\"00\""), identity("-1", "\"00\""), identity("null", "\"00\""),
        identity("\"1\"", "\"cb157baaafe04b988af01a4645d38456\""),
        identity("'0'", "\"0000000000000007\""), identity("true", "\"00\""),
        identity("[0]", "\"0000000000000007\""), identity("{}", "\"00\""),
        identity("0.9", "\"0000000000000007\""), identity("-0.9", "\"0000000000000007\""),
        identity("1.9", "\"cb157baaafe04b988af01a4645d38456\""),
        identity("1e0", "\"cb157baaafe04b988af01a4645d38456\""),
        identity("10e-1", "\"cb157baaafe04b988af01a4645d38456\""),
        identity("4294967296", "\"0000000000000007\""),
        identity("4294967297", "\"cb157baaafe04b988af01a4645d38456\""),
        identity("4294967297.5", "\"cb157baaafe04b988af01a4645d38456\""),
        identity("-4294967296", "\"0000000000000007\""),
        identity("00", "\"0000000000000007\""),
        identity("1,\"version\":0", "\"0000000000000007\""),
        identity("{},\"version\":0", "\"0000000000000007\""),
        identity("0", "[],\"identifier\":\"0000000000000007\""),
        identity("0", "\"0000000000000007\",\"more\":{\"x\":[1,{}]}"),
        identity("0", "\"0000000000000007\",\"identifier\":null"), identity("NaN", "\"00\""),
        "{version:0,identifier:'0000000000000007'}",
        "{version=0;identifier='0000000000000007'}",
        "{\"version\":0,\"identifier\":\"0000000000000007\",}",
        "{\"Version\":0,\"Identifier\":\"0000000000000007\"}",
        identity("0", "\"0000000000000007\"") + ",\"Identity\":null",
        "null,\"Identity\":" + identity("0", "\"0000000000000007\""),
        "{},\"Identity\":" + identity("0", "\"0000000000000007\""))) {
      inputs.add(utf8("{\"Identity\":" + value + "}"));
    }
    inputs.add(
        utf8("{" + IDENTITY
        + ",\"WorkerNetAddress\":{\"Host\":\"192.168.4.36\",\"ContainerHost\":\"\",\"RpcPort\":29999,\"DataPort\":29997,"
        + "\"SecureRpcPort\":0,\"NettyDataPort\":29997,\"WebPort\":30000,\"DomainSocketPath\":\"\"},\"State\":\"AUTHORIZED\",\"GenerationNumber\":-1,"
        + "\"ServiceEntityName\":\"worker-" + UUID_TEXT + "\"}"));
    inputs.add(utf8("{x:" + "[".repeat(5000) + "]".repeat(5000) + "}"));
    inputs.add(utf8("{x:" + "{y:".repeat(5000) + "1" + "}".repeat(5000) + ",ServiceEntityName:n}"));
    inputs.add(utf8("{x:" + "[".repeat(5000)));
    // Bytes that are not UTF-8, and the binary record of Alluxio 303
    for (String hex : Arrays.asList("ff", "c3", "c3a4", "c328", "e282", "e28228", "f09f98",
        "f09f9828", "c080", "eda080", "edb080", "eda0bdedb880", "f4908080",
        "f8888080", "80", "bf80", "e28080ff", "f0808080", "fe", "c2c2", "e2e282ac")) {
      inputs.add(concat(utf8("{ServiceEntityName:\"a"), hex(hex), utf8("b\"}")));
    }
    inputs.add(hex("fffe7b007d00"));
    inputs.add(hex("feff007b007d"));
    inputs.add(hex("efbb7b7d"));
    inputs.add(hex("0008776f726b65722d31000000000000000000000001000000070a056c6f63616c"));

    List<Map<String, Object>> rows = new ArrayList<>();
    for (byte[] input : inputs) {
      rows.add(decode(input));
    }
    return rows;
  }

  private static Map<String, Object> decode(byte[] input) {
    Map<String, Object> row = input(input);
    WorkerServiceEntity entity = new WorkerServiceEntity();
    try {
      entity.deserialize(input);
      row.put("identity", entity.getIdentity() == null ? null : entity.getIdentity().toString());
      row.put("address", entity.getWorkerNetAddress() == null ? null
          : fields(entity.getWorkerNetAddress()));
      row.put("service_entity_name", entity.getServiceEntityName());
    } catch (RuntimeException | StackOverflowError e) {
      row.put("error", e.getClass().getName());
    }
    return row;
  }

  private static String identity(String version, String identifier) {
    return "{\"version\":" + version + ",\"identifier\":" + identifier + "}";
  }

  // Configuration

  private static List<Map<String, Object>> durations() {
    List<Map<String, Object>> rows = new ArrayList<>();
    for (String text : Arrays.asList("", "0", "5", "-5", "+5", "5ms", "5millisecond",
        "5milliseconds", "5s", "5sec", "5second", "5seconds", "5m", "5min", "5minute",
        "5minutes", "5h", "5hr", "5hour", "5hours", "5d", "5day", "5days", "5us", "5w", "5S",
        "5Sec", "5MIN", "5H", "5D", "5MS", "-5s", "1.5s", "5 ms", " 5s", "5s ",
        "-", "--5", "5-", "s", "ms", "5s5", "1_0", "007s", "-0s", "99999999999999999999",
        "9223372036854775807d", "-9223372036854775807d", "9007199254740993", "123456789012345ms",
        "5\u00b5",
        "\uff15s", "0x5", "1e3", "infinity", "nan")) {
      Map<String, Object> row = row("text", text);
      try {
        row.put("ms", FormatUtils.parseTimeSize(text));
      } catch (IllegalArgumentException e) {
        row.put("error", e.getMessage());
      }
      rows.add(row);
    }
    return rows;
  }

  private static List<Map<String, Object>> siteProperties() {
    List<byte[]> inputs = new ArrayList<>();
    for (String text : Arrays.asList("", "a=b", "a = b", "a:b", "a b", "a\tb", "a", "a=", "=b",
        ":b", "a==b", "a=b=c", "a = = b", "  a=b", "a=b  ", "a=b\nc=d", "a=b\r\nc=d", "a=b\rc=d",
        "#c\na=b", "!c\na=b", "  # c\na=b", "# C:\\users\\x\na=b", "#c\\\na=b", "a=b#c",
        "a=b\\\n  c", "a=b\\\n\tc", "a=b\\\r\nc", "a=b\\\n#c", "a=b\\\\\nc=d", "a=b\\\n\nc=d",
        "a=b\\", "a=b\\\n",
        "a\\=b=c", "a\\:b=c", "a\\ b=c", "a\\\\=b", "a=\\t\\n\\r\\f\\b\\q\\\"", "a=\\u0041\\u00e4",
        "a=\\ud83d\\ude00", "a=\\u12", "a=\\u12g4", "a=\\", "a=\u00e4", "a=b\n\n\nc=d", "\fa=b",
        "a=b\f",
        "a=1\na=2", "a\\\nb=c", "a=\\ b", "a \\\n = b", "${a}=${b}", "a=C:\\\\x", "\\u0061=b",
        "\\#a=b", "a\u00a0=b", "a=b\\\n\u00a0c", "a=\u0000", "\ufeffa=b", "a=b\u0085c=d",
        "a=\\u+041", "  ", "\\", "\\\na=b")) {
      inputs.add(text.getBytes(text.equals("\ufeffa=b") ? StandardCharsets.UTF_8
          : StandardCharsets.ISO_8859_1));
    }
    inputs.add(utf8("a=\u00e4\u65e5"));
    inputs.add(hex("613d808590ff"));
    List<Map<String, Object>> rows = new ArrayList<>();
    for (byte[] input : inputs) {
      Map<String, Object> row = input(input);
      Properties properties = new Properties();
      try {
        properties.load(new ByteArrayInputStream(input));
        row.put("properties", new TreeMap<>(properties));
      } catch (IOException | IllegalArgumentException e) {
        row.put("error", e.getClass().getName());
      }
      rows.add(row);
    }
    return rows;
  }

  private static List<Map<String, Object>> references() {
    List<Map<String, Object>> rows = new ArrayList<>();
    for (String value : Arrays.asList("plain", "  spaces  ", "${alluxio.home}",
        "a${alluxio.home}b${alluxio.worker.rpc.port}c", "${ alluxio.home }", "${}",
        "$alluxio.home", "${alluxio.home",
        "$${alluxio.home}", "${alluxio.cluster.name}", "${alluxio.conf.dir}/x", "${my.x}",
        "${my.x}${my.x}", "${my.loop.a}", "${my.undefined}", "${my.${my.name}}",
        "${alluxio.etcd.username}",
        "${alluxio.worker.port}", "${alluxio.k8s.env.deployment}",
        "${alluxio.worker.membership.manager.type}", "${alluxio.worker.failure.detection.timeout}",
        "a${my.y}{b}", "{${my.y}}", "${my.dollar}",
        "${alluxio.worker.static.membership.manager.config.file}", "${my.to.undefined}",
        "${my.y}${my.y", "}${my.y}{")) {
      Map<String, String> values = new TreeMap<>();
      values.put("alluxio.cluster.name", value);
      values.put("my.x", "v${my.y}");
      values.put("my.y", "w");
      values.put("my.name", "y");
      values.put("my.loop.a", "${my.loop.b}");
      values.put("my.loop.b", "${my.loop.a}");
      values.put("my.dollar", "$1 \\ $");
      values.put("my.to.undefined", "${alluxio.etcd.password}");
      values.put("alluxio.worker.port", "1234");
      AlluxioProperties properties = new AlluxioProperties();
      properties.merge(values, Source.siteProperty("test"));
      InstancedConfiguration conf = new InstancedConfiguration(properties);
      Map<String, Object> row = row("properties", values);
      try {
        row.put("resolved", conf.get(PropertyKey.fromString("alluxio.cluster.name")).toString());
      } catch (RuntimeException e) {
        row.put("error", e.getMessage());
      }
      rows.add(row);
    }
    return rows;
  }

  private static List<Map<String, Object>> defaults() {
    List<Map<String, Object>> rows = new ArrayList<>();
    for (String name : Arrays.asList("alluxio.home", "alluxio.conf.dir",
        "alluxio.worker.membership.manager.type",
        "alluxio.worker.static.membership.manager.config.file", "alluxio.cluster.name",
        "alluxio.etcd.endpoints", "alluxio.etcd.username", "alluxio.etcd.password",
        "alluxio.worker.failure.detection.timeout", "alluxio.k8s.env.deployment",
        "alluxio.worker.container.hostname", "alluxio.worker.port", "alluxio.worker.rpc.port",
        "alluxio.worker.data.port", "alluxio.worker.web.port", "alluxio.worker.http.server.port",
        "alluxio.user.netty.data.transmission.enabled")) {
      PropertyKey key = PropertyKey.fromString(name);
      Object value = key.getDefaultValue();
      rows.add(row("name", name, "stands_for", key.getName(), "default",
          value == null ? null : value.toString()));
    }
    return rows;
  }

  // Identities

  private static List<Map<String, Object>> identities() {
    List<Map<String, Object>> rows = new ArrayList<>();
    for (String text : Arrays.asList("worker-" + UUID_TEXT, "worker-" + UUID_TEXT.toUpperCase(),
        "worker-0", "worker-7", "worker--7", "worker-+7", "worker-007",
        "worker-9223372036854775807", "worker--9223372036854775808", "worker-9223372036854775808",
        "", "worker", "worker-", "worker-x", "Worker-7", " worker-7", "worker-7 ", "worker- 7", "7",
        UUID_TEXT, "worker-worker-7", "worker-1-2-3-4-5", "worker-1-2-3-4", "worker-1-2-3-4-5-6",
        "worker-1-2-3-4-", "worker--1-2-3-4-5", "worker-1--3-4-5", "worker-g-2-3-4-5",
        "worker-+1-2-3-4-5",
        "worker-123456789-12345-12345-12345-1234567890123", "worker-1-2-3-4-7fffffffffffffff",
        "worker-1-2-3-4-8000000000000000", "worker-1-2-3-4-ffffffffffffffffff",
        "worker-cb157baaafe04b988af01a4645d38456", "worker-{" + UUID_TEXT + "}",
        "worker-" + UUID_TEXT + "0", "worker-7.0", "worker-0x7",
        "worker-00000000-0000-0000-0000-000000000000")) {
      Map<String, Object> row = row("text", text);
      try {
        row.put("identity", WorkerIdentity.fromString(text).toString());
      } catch (Exception e) {
        row.put("error", e.getMessage());
      }
      rows.add(row);
    }
    return rows;
  }

  // STATIC

  private static List<Map<String, Object>> staticIds() {
    List<Map<String, Object>> rows = new ArrayList<>();
    for (String host : HOSTILE) {
      WorkerNetAddress address = address(host, "c", "", 29999, 29997, 0, 29997, 30000, 28080);
      rows.add(row("host", host, "container_host", "c", "rpc_port", 29999, "data_port", 29997,
          "netty_data_port", 29997, "web_port", 30000, "http_server_port", 28080,
          "identity", WorkerIdentity.ParserV1.INSTANCE.fromUUID(
          UUID.nameUUIDFromBytes(host.getBytes(StandardCharsets.UTF_8))).toString(),
          "id", HashUtils.hashAsStringMD5(address.dumpMainInfo())));
    }
    return rows;
  }

  // Bytes

  /** As text where the bytes are text. */
  private static Map<String, Object> input(byte[] input) {
    try {
      return row("text", StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(input))
          .toString());
    } catch (CharacterCodingException e) {
      StringBuilder hex = new StringBuilder();
      for (byte b : input) {
        hex.append(String.format("%02x", b));
      }
      return row("hex", hex.toString());
    }
  }

  private static byte[] utf8(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }

  private static byte[] hex(String hex) {
    byte[] bytes = new byte[hex.length() / 2];
    for (int i = 0; i < bytes.length; i++) {
      bytes[i] = (byte) Integer.parseInt(hex.substring(2 * i, 2 * i + 2), 16);
    }
    return bytes;
  }

  private static byte[] concat(byte[]... parts) {
    int length = 0;
    for (byte[] part : parts) {
      length += part.length;
    }
    ByteBuffer buffer = ByteBuffer.allocate(length);
    for (byte[] part : parts) {
      buffer.put(part);
    }
    return buffer.array();
  }
}
