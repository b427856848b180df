//! Parses the exact syntax of `java.util.Properties`. The existing crate stops at a `\u` in a
//! comment and at emoji (pairs of `\u` escapes), and loses a last line that ends in a backslash.

use zeroize::Zeroizing;

use super::secret::append;

/// A line that cannot be parsed, counted from 1.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) line: usize,
    pub(super) what: &'static str,
}

/// A name and its value.
type Property = (Zeroizing<String>, Zeroizing<String>);

/// Returns the names and values of a file, in its order. Any value may be a password, so no text is
/// reallocated, which would leave copies.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Property>, Problem> {
    // The encoding is ISO 8859-1: each byte is a character of at most two bytes in UTF-8.
    let mut text = Zeroizing::new(String::with_capacity(2 * bytes.len()));
    for (at, byte) in bytes.iter().enumerate() {
        if !bytes[at..].starts_with(b"\r\n") {
            text.push(char::from(*byte));
        }
    }
    let mut lines = text.split(['\n', '\r']).zip(1..);
    let mut properties = Vec::new();
    while let Some((start, line)) = lines.next() {
        let start = start.trim_start_matches(SPACE);
        if start.is_empty() || start.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = Zeroizing::new(start.to_owned());
        let mut latest = start;
        while is_continued(latest) {
            logical.pop();
            let Some((next, _)) = lines.next() else { break };
            latest = next.trim_start_matches(SPACE);
            append(&mut logical, latest);
        }
        // A backslash followed only by empty lines.
        if logical.is_empty() && lines.clone().next().is_some() {
            continue;
        }
        let (name, value) = split(&logical);
        let problem = |what| Problem { line, what };
        properties.push((
            unescape(name).map_err(problem)?,
            unescape(value).map_err(problem)?,
        ));
    }
    Ok(properties)
}

const SPACE: [char; 3] = [' ', '\t', '\x0c'];

/// Whether a line ends in an odd number of backslashes. Only the last piece has to be checked,
/// because a continued line keeps an even number.
fn is_continued(line: &str) -> bool {
    (line.len() - line.trim_end_matches('\\').len()) % 2 == 1
}

/// The name ends at the first `=`, `:` or space that is not escaped.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.find(|c| {
        let ends = !escaped && (c == '=' || c == ':' || SPACE.contains(&c));
        escaped = !escaped && c == '\\';
        ends
    });
    let (name, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start_matches(SPACE);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (name, value.trim_start_matches(SPACE))
}

fn unescape(text: &str) -> Result<Zeroizing<String>, &'static str> {
    let mut units = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let unescaped = match c {
            '\\' => match chars.next() {
                Some('u') => {
                    units.push(unit(&mut chars).ok_or("Malformed \\uxxxx encoding.")?);
                    continue;
                }
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\x0c',
                Some(other) => other,
                None => break,
            },
            other => other,
        };
        units.extend_from_slice(unescaped.encode_utf16(&mut [0; 2]));
    }
    let mut unescaped = Zeroizing::new(String::with_capacity(3 * units.len()));
    let chars = char::decode_utf16(units.iter().copied());
    unescaped.extend(chars.map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)));
    Ok(unescaped)
}

/// Parses four hexadecimal digits.
fn unit(chars: &mut std::str::Chars) -> Option<u16> {
    (0..4).try_fold(0, |unit, _| {
        let digit = chars.next()?.to_digit(16)?;
        Some(unit << 4 | digit as u16)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::growth::assert_linear;
    use crate::record::golden::{input_of, vectors};

    #[test]
    fn files_are_read_as_java_reads_them() {
        let rows = vectors("site_properties.jsonl");
        assert!(rows.len() >= 65);
        for row in rows {
            match parse(&input_of(&row)) {
                Ok(properties) => {
                    let read: BTreeMap<&str, &str> = properties
                        .iter()
                        .map(|(name, value)| (name.as_str(), value.as_str()))
                        .collect();
                    let read = serde_json::to_value(read).unwrap();
                    assert_eq!(read, row["properties"], "{row}");
                }
                Err(_) => assert!(row["error"].is_string(), "{row}"),
            }
        }
    }

    /// A check of the whole value at each line would make the cost quadratic.
    #[test]
    fn a_long_continued_line_is_read_in_linear_time() {
        let text = |lines| format!("a=x{}y", "\\\\\\\n".repeat(lines));
        assert_eq!(parse(text(3).as_bytes()).unwrap()[0].1.as_str(), r"x\\\y");
        assert_linear(1_000, text, |text| drop(parse(text.as_bytes()).unwrap()));
    }

    #[test]
    fn lines_are_counted_from_the_start_of_the_logical_line() {
        for (text, line) in [
            ("\\u", 1),
            ("a=b\r\n\r\nc\\\r\nd=\\uzzzz", 3),
            ("a\rb\r\\u1", 3),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().line, line, "{text:?}");
        }
    }
}
