//! Makes foreign text safe to show: text from etcd, a server, a file or a command line.
//!
//! Foreign text could break a line or a column, forge a log line, move a terminal's cursor, or hide
//! and reorder the text beside it. Every log, error and table shows foreign text through this
//! module.

use std::fmt::{self, Display, Write};

/// The maximum number of bytes of a quoted text.
const QUOTE: usize = 200;
/// The maximum number of bytes of a log message or an error's text.
const MESSAGE: usize = 4096;

/// Displays a text and escapes every invisible character: control characters, line and paragraph
/// separators, marks of the writing direction, and characters without a width.
///
/// The escapes are Rust's, such as `\n` or `\u{202e}`. Backslashes stay as they are, so that
/// escaping a text twice does not change it.
#[derive(Debug, Clone, Copy)]
pub struct Safe<T>(pub T);

impl<T: Display> Display for Safe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(f, &self.0, usize::MAX, is_unsafe)
    }
}

/// Displays a text with only its control characters escaped, as [`Safe`] escapes them. For tables
/// that other programs read: a text cannot break a row or a column, and is unchanged otherwise.
#[derive(Debug, Clone, Copy)]
pub struct OneLine<T>(pub T);

impl<T: Display> Display for OneLine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(f, &self.0, usize::MAX, char::is_control)
    }
}

/// Displays the beginning of a text like [`Safe`]: at most 200 bytes, and the length of a longer
/// text.
#[derive(Debug, Clone, Copy)]
pub struct Quote<T>(pub T);

impl<T: Display> Display for Quote<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(f, &self.0, QUOTE, is_unsafe)
    }
}

/// Displays a log message or an error's text like [`Safe`], and cuts it after 4 KiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<T>(pub(crate) T);

impl<T: Display> Display for Message<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(f, &self.0, MESSAGE, is_unsafe)
    }
}

/// Whether a character is invisible, or could act on a terminal, a line or its neighbours.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

fn escape(
    out: &mut dyn Write,
    text: impl Display,
    limit: usize,
    escapes: fn(char) -> bool,
) -> fmt::Result {
    let mut escaping = Escaping {
        out,
        escapes,
        room: limit,
        length: 0,
    };
    write!(escaping, "{text}")?;
    match escaping {
        Escaping {
            room: 0, length, ..
        } if length > limit => {
            write!(escaping.out, "... ({length} bytes)")
        }
        _ => Ok(()),
    }
}

/// Writes escaped text until the limit is reached.
struct Escaping<'a> {
    out: &'a mut dyn Write,
    /// Whether a character is escaped.
    escapes: fn(char) -> bool,
    /// The number of bytes that may still be written; 0 after the first part that did not fit.
    room: usize,
    /// The number of bytes of the whole escaped text.
    length: usize,
}

impl Escaping<'_> {
    fn put(&mut self, piece: &str) -> fmt::Result {
        self.length = self.length.saturating_add(piece.len());
        let end = (0..=self.room.min(piece.len()))
            .rev()
            .find(|at| piece.is_char_boundary(*at))
            .unwrap_or(0);
        self.out.write_str(&piece[..end])?;
        self.room = match end < piece.len() {
            true => 0,
            false => self.room - end,
        };
        Ok(())
    }
}

impl Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| (self.escapes)(*c)) {
            self.put(&rest[..at])?;
            let escaped = c.escape_default();
            match escaped.len() <= self.room {
                true => self.put(&escaped.to_string())?,
                // Half of an escape is not written.
                false => {
                    self.length = self.length.saturating_add(escaped.len());
                    self.room = 0;
                }
            }
            rest = &rest[at + c.len_utf8()..];
        }
        self.put(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_or_hides_is_escaped() {
        for (text, shown) in [
            (
                "worker-1:29999 größe 漢字 😀 \\n",
                "worker-1:29999 größe 漢字 😀 \\n",
            ),
            ("a\tb\r\nc\0", "a\\tb\\r\\nc\\u{0}"),
            (
                "\u{1b}[2J\u{7f}\u{9b}1A\u{85}",
                "\\u{1b}[2J\\u{7f}\\u{9b}1A\\u{85}",
            ),
            ("a\u{2028}b\u{2029}c", "a\\u{2028}b\\u{2029}c"),
            (
                "\u{202e}enilno\u{2066}\u{200f}",
                "\\u{202e}enilno\\u{2066}\\u{200f}",
            ),
            (
                "\u{feff}host\u{200b}\u{e0041}",
                "\\u{feff}host\\u{200b}\\u{e0041}",
            ),
        ] {
            assert_eq!(Safe(text).to_string(), shown);
            assert_eq!(Safe(Safe(text)).to_string(), shown, "escaped once only");
        }
    }

    #[test]
    fn a_quote_is_short_and_says_how_long_the_text_is() {
        let fits = "x".repeat(QUOTE);
        assert_eq!(Quote(&fits).to_string(), fits);
        let long = "x".repeat(1_400_000);
        assert_eq!(
            Quote(&long).to_string(),
            format!("{fits}... (1400000 bytes)")
        );
        // Neither a character nor an escape is cut in two.
        for text in [
            "ü".repeat(300),
            "\u{1b}".repeat(300),
            format!("x{}", "\n漢".repeat(300)),
        ] {
            let shown = Quote(&text).to_string();
            let (quote, length) = shown.rsplit_once("... (").unwrap();
            assert!(quote.len() <= QUOTE && quote.len() > QUOTE - 8, "{shown}");
            assert!(Safe(&text).to_string().starts_with(quote), "{shown}");
            assert_eq!(length, format!("{} bytes)", Safe(&text).to_string().len()));
        }
    }

    #[test]
    fn a_text_in_pieces_is_one_text() {
        let piece = "a\n".repeat(60);
        let pieces = Quote(format_args!("{piece}{piece}")).to_string();
        assert_eq!(pieces, Quote(format!("{piece}{piece}")).to_string());
    }
}
