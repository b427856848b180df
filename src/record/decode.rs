//! Decodes records as leniently as Alluxio does.

use std::borrow::Cow;

use crate::record::lenient_json::{Reader, SyntaxError, Value};
use crate::text::Quote;
use crate::worker::{WorkerIdentity, WorkerNetAddress};

/// A decoded record, with the fields that listings and joins use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredRecord {
    /// The field `Identity`, which records of Alluxio 304 do not have.
    pub identity: Option<WorkerIdentity>,
    /// The field `WorkerNetAddress`, which empty records do not have.
    pub address: Option<WorkerNetAddress>,
    /// The field `ServiceEntityName`.
    pub service_entity_name: Option<String>,
}

/// Decodes a record as leniently as Alluxio's Gson. It accepts exactly the records that
/// `WorkerServiceEntity.deserialize` accepts, with the same result. The error names the problem and
/// its position. It is safe to show and quotes at most 200 bytes.
///
/// Empty bytes and `null` are records without fields. Bytes that are not UTF-8 are replaced.
pub fn decode(bytes: &[u8]) -> Result<StoredRecord, String> {
    let text = java_utf8(bytes);
    let mut reader = Reader::new(&text);
    let mut record = StoredRecord::default();
    match reader.document()? {
        // Gson checks the rest of the document only after an object.
        None | Some(Value::Null) => {}
        Some(Value::Object) => {
            read_record(&mut reader, &mut record)?;
            reader.end()?;
        }
        Some(other) => return Err(unexpected("an object", &other, "The record")),
    }
    Ok(record)
}

fn read_record(reader: &mut Reader, record: &mut StoredRecord) -> Result<(), SyntaxError> {
    let mut first = true;
    while let Some(name) = reader.name(first)? {
        first = false;
        let value = reader.value()?;
        match &*name {
            "Identity" => record.identity = read_identity(reader, value)?,
            "WorkerNetAddress" => record.address = read_address(reader, value)?,
            "ServiceEntityName" => record.service_entity_name = text(value, &name)?,
            // This field is not used, but Alluxio cannot read a record in which its type is wrong.
            "State" => match value {
                Value::Null | Value::Text(_) | Value::Number(_) => {}
                other => return Err(unexpected("a string", &other, &name)),
            },
            "GenerationNumber" => {
                integer(value, &name)?;
            }
            _ => reader.skip(&value)?,
        }
    }
    Ok(())
}

fn read_identity(reader: &mut Reader, value: Value) -> Result<Option<WorkerIdentity>, SyntaxError> {
    match value {
        Value::Null => return Ok(None),
        Value::Object => {}
        other => return Err(unexpected("an object", &other, "Identity")),
    }
    let (mut version, mut identifier) = (None, None);
    let mut first = true;
    while let Some(name) = reader.name(first)? {
        first = false;
        let value = reader.value()?;
        reader.skip(&value)?;
        match &*name {
            "version" => version = Some(value),
            "identifier" => identifier = Some(value),
            _ => {}
        }
    }
    let version = match version {
        Some(Value::Number(number)) => truncated(number)
            .ok_or_else(|| format!("Identity has the unknown version {}", Quote(number)))?,
        Some(other) => return Err(unexpected("a number", &other, "The version of Identity")),
        None => return Err("Identity has no version".to_owned()),
    };
    let identifier = match identifier {
        Some(Value::Text(hex)) => hex_bytes(&hex).ok_or_else(|| {
            format!(
                "The identifier of Identity is not hexadecimal: \"{}\"",
                Quote(hex)
            )
        })?,
        Some(other) => return Err(unexpected("a string", &other, "The identifier of Identity")),
        None => return Err("Identity has no identifier".to_owned()),
    };
    WorkerIdentity::from_parts(version, &identifier)
        .map(Some)
        .map_err(|error| error.to_string())
}

fn read_address(
    reader: &mut Reader,
    value: Value,
) -> Result<Option<WorkerNetAddress>, SyntaxError> {
    match value {
        Value::Null => return Ok(None),
        Value::Object => {}
        other => return Err(unexpected("an object", &other, "WorkerNetAddress")),
    }
    let mut address = WorkerNetAddress::new("");
    let mut first = true;
    while let Some(name) = reader.name(first)? {
        first = false;
        let value = reader.value()?;
        let port = match &*name {
            "Host" => {
                address.host = text(value, &name)?;
                continue;
            }
            "ContainerHost" => {
                address.container_host = text(value, &name)?;
                continue;
            }
            "DomainSocketPath" => {
                address.domain_socket_path = text(value, &name)?;
                continue;
            }
            "RpcPort" => &mut address.rpc_port,
            "DataPort" => &mut address.data_port,
            "SecureRpcPort" => &mut address.secure_rpc_port,
            "NettyDataPort" => &mut address.netty_data_port,
            "WebPort" => &mut address.web_port,
            "HttpServerPort" => &mut address.http_server_port,
            _ => {
                reader.skip(&value)?;
                continue;
            }
        };
        if let Some(number) = integer(value, &name)? {
            *port = number;
        }
    }
    Ok(Some(address))
}

/// Decodes like Gson's adapter for `String`.
fn text(value: Value, name: &str) -> Result<Option<String>, SyntaxError> {
    match value {
        Value::Null => Ok(None),
        Value::Boolean(boolean) => Ok(Some(boolean.to_string())),
        Value::Number(text) => Ok(Some(text.to_owned())),
        Value::Text(text) => Ok(Some(text.into_owned())),
        other => Err(unexpected("a string", &other, name)),
    }
}

/// Decodes like Gson's adapter for `int`, which leaves the field as it is for null.
fn integer(value: Value, name: &str) -> Result<Option<i32>, SyntaxError> {
    let text = match value {
        Value::Null => return Ok(None),
        Value::Number(text) => Cow::Borrowed(text),
        Value::Text(text) => text,
        other => return Err(unexpected("an integer", &other, name)),
    };
    match text.parse().ok().or_else(|| whole_double(&text)) {
        Some(number) => Ok(Some(number)),
        None => Err(format!(
            "{name} is not a 32-bit integer: \"{}\"",
            Quote(text)
        )),
    }
}

/// Parses like `Double.parseDouble`, and returns whole numbers that fit: Gson reads `"7.0"`, `" 7e0
/// "` and `7d` as 7.
fn whole_double(text: &str) -> Option<i32> {
    let text = text.trim_matches(|c| c <= ' ');
    let text = match text.strip_suffix(['d', 'D', 'f', 'F']) {
        Some(digits) if digits.ends_with(|c: char| c.is_ascii_digit() || c == '.') => digits,
        _ => text,
    };
    // Rust also accepts "inf" and "nan".
    if text.contains(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-' | 'e' | 'E')) {
        return None;
    }
    let double: f64 = text.parse().ok()?;
    let number = double as i32;
    (f64::from(number) == double).then_some(number)
}

/// Converts a JSON number like `Number.intValue`, which cuts off fractions and keeps the low 32
/// bits. Returns `None` beyond 64 bits.
fn truncated(number: &str) -> Option<i32> {
    if let Ok(whole) = number.parse::<i64>() {
        return Some(whole as i32);
    }
    let double: f64 = number.parse().ok()?;
    (double.abs() < 9.0e18).then_some(double as i64 as i32)
}

fn hex_bytes(hex: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let bytes = pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    rest.is_empty().then(|| bytes.collect()).flatten()
}

fn unexpected(expected: &str, found: &Value, what: &str) -> String {
    format!("{what} is not {expected} but {}", found.name())
}

/// Replaces malformed bytes by U+FFFD like Java, which replaces an encoded surrogate as one
/// character, not as three.
fn java_utf8(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut mended = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        if let [0xed, 0xa0..=0xbf, 0x80..=0xbf, after @ ..] = rest {
            mended.extend_from_slice("\u{fffd}".as_bytes());
            rest = after;
        } else {
            mended.push(*byte);
            rest = after;
        }
    }
    Cow::Owned(String::from_utf8_lossy(&mended).into_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, RngExt, SeedableRng};

    use super::*;
    use crate::record::golden::{input_of, vectors};

    pub(crate) fn address_of(row: &serde_json::Value) -> WorkerNetAddress {
        let text = |name: &str| row[name].as_str().map(str::to_owned);
        let number = |name: &str| i32::try_from(row[name].as_i64().unwrap()).unwrap();
        WorkerNetAddress {
            host: text("host"),
            container_host: text("container_host"),
            rpc_port: number("rpc_port"),
            data_port: number("data_port"),
            secure_rpc_port: number("secure_rpc_port"),
            netty_data_port: number("netty_data_port"),
            web_port: number("web_port"),
            domain_socket_path: text("domain_socket_path"),
            http_server_port: number("http_server_port"),
        }
    }

    #[test]
    fn records_are_read_as_the_real_class_reads_them() {
        let rows = vectors("decode.jsonl");
        assert!(rows.len() >= 400);
        for row in rows {
            let result = decode(&input_of(&row));
            if row["error"].is_string() {
                assert!(result.is_err(), "{row}\nwas read as {result:?}");
                continue;
            }
            let expected = StoredRecord {
                identity: row["identity"]
                    .as_str()
                    .map(|text| WorkerIdentity::parse(text).unwrap()),
                address: row["address"]
                    .is_object()
                    .then(|| address_of(&row["address"])),
                service_entity_name: row["service_entity_name"].as_str().map(str::to_owned),
            };
            assert_eq!(result.as_ref(), Ok(&expected), "{row}");
        }
    }

    #[test]
    fn half_a_surrogate_pair_is_replaced() {
        for (escaped, read) in [
            ("\\ud800", "\u{fffd}"),
            ("\\udc00", "\u{fffd}"),
            ("\\ud800\\ud800\\udc00", "\u{fffd}\u{10000}"),
            ("\\ud800\\n", "\u{fffd}\n"),
            ("\\ud800\\u0041", "\u{fffd}A"),
        ] {
            let record = decode(format!("{{ServiceEntityName:'{escaped}'}}").as_bytes()).unwrap();
            assert_eq!(
                record.service_entity_name.as_deref(),
                Some(read),
                "{escaped}"
            );
        }
        assert!(decode(b"{x:'\\ud800\\uzzzz'}").is_err());
    }

    #[test]
    fn errors_say_what_and_where() {
        for (bytes, message) in [
            (&b"{\"a\":1,}"[..], "Expected a name at byte 7"),
            (b"{} x", "Expected the end at byte 3"),
            (b"[]", "The record is not an object but an array"),
            (b"{State:true}", "State is not a string but a boolean"),
            (
                b"{WorkerNetAddress:{RpcPort:x}}",
                "RpcPort is not a 32-bit integer: \"x\"",
            ),
            (
                b"{Identity:{version:3,identifier:'00'}}",
                "Unknown worker identity version 3, expected 0 or 1",
            ),
        ] {
            assert_eq!(decode(bytes), Err(message.to_owned()));
        }
    }

    #[test]
    fn errors_quote_little_and_nothing_unsafe() {
        let long = "\u{1b}[31m\u{202e}".repeat(100_000);
        for record in [
            format!("{{WorkerNetAddress:{{RpcPort:'{long}'}}}}"),
            format!("{{Identity:{{version:1,identifier:'{long}'}}}}"),
            format!(
                "{{Identity:{{version:1{},identifier:'00'}}}}",
                "0".repeat(1_000_000)
            ),
            format!("{{{long}"),
            format!("{{State:[{long}"),
        ] {
            let error = decode(record.as_bytes()).unwrap_err();
            assert!(error.len() < 300, "{error}");
            assert_eq!(crate::text::Safe(&error).to_string(), error);
        }
    }

    #[test]
    fn nesting_costs_no_stack() {
        let deep = 100_000;
        let closed = format!("{{x:{}{}}}", "[{y:".repeat(deep), "}]".repeat(deep));
        assert!(decode(closed.as_bytes()).is_err());
        let closed = format!("{{x:{}1{}}}", "[{y:".repeat(deep), "}]".repeat(deep));
        assert_eq!(decode(closed.as_bytes()), Ok(StoredRecord::default()));
        let identity = format!("{{Identity:{{x:{}", "[".repeat(deep));
        assert!(decode(identity.as_bytes()).is_err());
    }

    /// Any bytes lead to a result, not to a panic.
    #[test]
    fn no_bytes_panic() {
        let seed = rand::rng().random();
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let records: Vec<Vec<u8>> = vectors("decode.jsonl")
            .iter()
            .map(input_of)
            .filter(|bytes| bytes.len() < 1000)
            .collect();
        let pieces: [&[u8]; 24] = [
            b"{",
            b"}",
            b"[",
            b"]",
            b":",
            b",",
            b";",
            b"=",
            b"=>",
            b"\"",
            b"'",
            b"\\",
            b"\\u",
            b"\\ud83d",
            b"/*",
            b"*/",
            b"//",
            b"#",
            b"null",
            b"Identity",
            b"\xf0\x9f\x98\x80",
            b"\xed\xa0\x80",
            b"\xff",
            b"\n",
        ];
        for _ in 0..20_000 {
            let mut bytes = records[random.random_range(0..records.len())].clone();
            for _ in 0..random.random_range(1..6) {
                let at = random.random_range(0..=bytes.len());
                match random.random_range(0..4) {
                    0 => bytes.truncate(at),
                    1 => bytes.insert(at, random.random()),
                    2 => {
                        let piece = pieces[random.random_range(0..pieces.len())];
                        bytes.splice(at..at, piece.iter().copied());
                    }
                    _ => {
                        let end = random.random_range(at..=bytes.len());
                        bytes.drain(at..end);
                    }
                }
            }
            let _ = decode(&bytes);
            let mut noise = vec![0; random.random_range(0..64)];
            random.fill_bytes(&mut noise);
            let _ = decode(&noise);
        }
    }
}
