//! A pull parser for JSON that accepts exactly what Gson's lenient `JsonReader` accepts: comments,
//! single quotes, unquoted names and texts, `=` and `=>` for `:`, `;` for `,`, empty array
//! elements, keywords in any case. No JSON crate accepts all of this. Every record that Alluxio can
//! read must be readable here, with the same result.
//!
//! Nothing here recurses, so deeply nested input needs no stack.

use std::borrow::Cow;

use memchr::memchr2;

/// The problem of a document, and its position.
pub(super) type SyntaxError = String;

/// A value, or the beginning of an array or object.
#[derive(Debug, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Boolean(bool),
    /// The text of a number in JSON's grammar.
    Number(&'a str),
    /// A quoted or unquoted text.
    Text(Cow<'a, str>),
    /// An object. The `{` was read, and the members follow.
    Object,
    /// An array. The `[` was read, and the elements follow.
    Array,
}

impl Value<'_> {
    /// Returns the name for error messages.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Boolean(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "a string",
            Value::Object => "an object",
            Value::Array => "an array",
        }
    }
}

pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Reader {
            text: text.strip_prefix('\u{feff}').unwrap_or(text),
            at: 0,
        }
    }

    /// Returns the value of the document, or `None` if it has only space and comments.
    pub(super) fn document(&mut self) -> Result<Option<Value<'a>>, SyntaxError> {
        self.peek()?;
        // Gson skips this prefix, which protects JSON that is served to browsers.
        if let Some(rest) = self.rest().strip_prefix(")]}'\n") {
            self.at = self.text.len() - rest.len();
        }
        match self.peek()? {
            None => Ok(None),
            Some(_) => self.value().map(Some),
        }
    }

    /// Checks that only space follows. Gson is strict here and does not accept a comment.
    pub(super) fn end(&mut self) -> Result<(), SyntaxError> {
        self.skip_space();
        if self.rest().is_empty() {
            Ok(())
        } else {
            Err(self.error("Expected the end"))
        }
    }

    /// Returns the name of the next member of an object, or `None` at the end. `first` is true
    /// before the first member.
    pub(super) fn name(&mut self, first: bool) -> Result<Option<Cow<'a, str>>, SyntaxError> {
        if !first {
            match self.next()? {
                Some(b'}') => return Ok(None),
                Some(b',' | b';') => {}
                _ => return Err(self.error("Unterminated object")),
            }
        }
        let name = match self.peek()? {
            Some(b'}') if first => {
                self.at += 1;
                return Ok(None);
            }
            Some(quote @ (b'"' | b'\'')) => {
                self.at += 1;
                self.quoted(quote)?
            }
            _ => match self.unquoted() {
                "" => return Err(self.error("Expected a name")),
                name => name.into(),
            },
        };
        match self.next()? {
            Some(b':') => {}
            Some(b'=') => {
                if self.rest().starts_with('>') {
                    self.at += 1;
                }
            }
            _ => return Err(self.error("Expected ':'")),
        }
        Ok(Some(name))
    }

    /// Returns the value at this position.
    pub(super) fn value(&mut self) -> Result<Value<'a>, SyntaxError> {
        match self.peek()? {
            Some(b'{') => {
                self.at += 1;
                Ok(Value::Object)
            }
            Some(b'[') => {
                self.at += 1;
                Ok(Value::Array)
            }
            Some(quote @ (b'"' | b'\'')) => {
                self.at += 1;
                self.quoted(quote).map(Value::Text)
            }
            _ => {
                let text = self.unquoted();
                Ok(if text.is_empty() {
                    return Err(self.error("Expected a value"));
                } else if text.eq_ignore_ascii_case("null") {
                    Value::Null
                } else if text.eq_ignore_ascii_case("true") {
                    Value::Boolean(true)
                } else if text.eq_ignore_ascii_case("false") {
                    Value::Boolean(false)
                } else if is_number(text) {
                    Value::Number(text)
                } else {
                    Value::Text(text.into())
                })
            }
        }
    }

    /// Reads to the end of a value that [`value`](Self::value) returned.
    pub(super) fn skip(&mut self, value: &Value<'_>) -> Result<(), SyntaxError> {
        enum Within {
            Object,
            Array,
        }
        let mut open = match value {
            Value::Object => vec![(Within::Object, true)],
            Value::Array => vec![(Within::Array, true)],
            _ => return Ok(()),
        };
        while let Some((within, first)) = open.last_mut() {
            let was_first = std::mem::replace(first, false);
            let more = match within {
                Within::Object => self.name(was_first)?.is_some(),
                Within::Array => self.element(was_first)?,
            };
            if !more {
                open.pop();
                continue;
            }
            // An omitted element counts as null.
            if matches!(within, Within::Array) && matches!(self.peek()?, Some(b',' | b';' | b']')) {
                continue;
            }
            match self.value()? {
                Value::Object => open.push((Within::Object, true)),
                Value::Array => open.push((Within::Array, true)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the array has another element, which must be read next.
    fn element(&mut self, first: bool) -> Result<bool, SyntaxError> {
        if first {
            if self.peek()? == Some(b']') {
                self.at += 1;
                return Ok(false);
            }
            return Ok(true);
        }
        match self.next()? {
            Some(b']') => Ok(false),
            Some(b',' | b';') => Ok(true),
            _ => Err(self.error("Unterminated array")),
        }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Returns the next byte. All characters before it were read completely.
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.byte() {
            self.at += 1;
        }
    }

    /// Returns the first byte after space and comments, without reading it.
    #[inline]
    fn peek(&mut self) -> Result<Option<u8>, SyntaxError> {
        match self.byte() {
            // Neither space nor the beginning of a comment, as nearly always.
            Some(next) if next > b' ' && !matches!(next, b'#' | b'/') => Ok(Some(next)),
            _ => self.peek_after_space(),
        }
    }

    fn peek_after_space(&mut self) -> Result<Option<u8>, SyntaxError> {
        loop {
            self.skip_space();
            let next = self.byte();
            if !matches!(next, Some(b'#' | b'/')) {
                return Ok(next);
            }
            let rest = self.rest();
            if rest.starts_with('#') || rest.starts_with("//") {
                self.at += rest.find(['\n', '\r']).unwrap_or(rest.len());
            } else if let Some(comment) = rest.strip_prefix("/*") {
                let end = comment.find("*/");
                self.at += "/**/".len() + end.ok_or_else(|| self.error("Unterminated comment"))?;
            } else {
                return Ok(next);
            }
        }
    }

    /// Reads the first byte of the next character after space and comments.
    fn next(&mut self) -> Result<Option<u8>, SyntaxError> {
        let next = self.peek()?;
        self.at += match next {
            Some(byte) if byte.is_ascii() => 1,
            _ => self.rest().chars().next().map_or(0, char::len_utf8),
        };
        Ok(next)
    }

    /// Reads a text without quotes; empty if there is none here.
    fn unquoted(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest
            .bytes()
            .position(|byte| {
                matches!(
                    byte,
                    b'/' | b'\\'
                        | b';'
                        | b'#'
                        | b'='
                        | b'{'
                        | b'}'
                        | b'['
                        | b']'
                        | b':'
                        | b','
                        | b' '
                        | b'\t'
                        | b'\x0c'
                        | b'\r'
                        | b'\n'
                )
            })
            .unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// Reads the rest of a text whose opening quote was read. Copies the text only if it has
    /// escapes.
    fn quoted(&mut self, quote: u8) -> Result<Cow<'a, str>, SyntaxError> {
        let mut text = Cow::Borrowed("");
        loop {
            let rest = self.rest();
            let Some(special) = memchr2(quote, b'\\', rest.as_bytes()) else {
                return Err(self.error("Unterminated string"));
            };
            self.at += special + 1;
            let is_end = rest.as_bytes()[special] == quote;
            let rest = &rest[..special];
            if is_end && text.is_empty() {
                return Ok(Cow::Borrowed(rest));
            }
            text += rest;
            if is_end {
                return Ok(text);
            }
            let character = self.escape()?;
            text.to_mut().push(character);
        }
    }

    /// Reads the character of an escape whose backslash was read.
    fn escape(&mut self) -> Result<char, SyntaxError> {
        let Some(escape) = self.rest().chars().next() else {
            return Err(self.error("Unterminated escape sequence"));
        };
        let character = match escape {
            'u' => {
                self.at += 1;
                return self.unicode();
            }
            't' => '\t',
            'b' => '\u{8}',
            'n' => '\n',
            'r' => '\r',
            'f' => '\u{c}',
            '\n' | '\'' | '"' | '\\' | '/' => escape,
            _ => return Err(self.error("Invalid escape sequence")),
        };
        self.at += 1;
        Ok(character)
    }

    /// Reads the character of one escaped UTF-16 unit or of a pair. Half of a pair is replaced,
    /// because it is no Rust character; Java would keep it.
    fn unicode(&mut self) -> Result<char, SyntaxError> {
        let unit = self.unit()?;
        if let Some(character) = char::from_u32(unit) {
            return Ok(character);
        }
        let after = self.at;
        if unit < 0xdc00 && self.rest().starts_with("\\u") {
            self.at += 2;
            let low = self.unit()?;
            if (0xdc00..0xe000).contains(&low) {
                let code = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = after;
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn unit(&mut self) -> Result<u32, SyntaxError> {
        let digits = self.rest().as_bytes().get(..4).and_then(|digits| {
            digits.iter().try_fold(0, |unit, digit| {
                char::from(*digit)
                    .to_digit(16)
                    .map(|digit| unit * 16 + digit)
            })
        });
        let unit = digits.ok_or_else(|| self.error("Invalid \\u escape"))?;
        self.at += 4;
        Ok(unit)
    }

    pub(super) fn error(&self, what: &str) -> SyntaxError {
        format!("{what} at byte {}", self.at)
    }
}

/// Whether the text is a number in JSON's grammar. Any other unquoted text is a text.
fn is_number(text: &str) -> bool {
    fn digits(text: &str) -> Option<&str> {
        let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
        (rest.len() < text.len()).then_some(rest)
    }
    let integer = text.strip_prefix('-').unwrap_or(text);
    let rest = match integer.strip_prefix('0') {
        Some(rest) => Some(rest),
        None => digits(integer),
    };
    let rest = rest.and_then(|rest| match rest.strip_prefix('.') {
        Some(fraction) => digits(fraction),
        None => Some(rest),
    });
    let rest = rest.and_then(|rest| match rest.strip_prefix(['e', 'E']) {
        Some(exponent) => digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)),
        None => Some(rest),
    });
    rest == Some("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_json_numbers() {
        for number in [
            "0", "-0", "7", "-70", "0.5", "1.50", "1e5", "1E+05", "10.0e-1",
        ] {
            assert!(is_number(number), "{number}");
        }
        for text in [
            "", "-", "00", "01", "1.", ".5", "+1", "1e", "1e+", "e1", "0x1", "1_0", "7d", "NaN",
        ] {
            assert!(!is_number(text), "{text}");
        }
    }
}
