//! Typed values, in Alluxio's formats.

use std::time::Duration;

use crate::config::properties::Properties;
use crate::error::{Cause, Error, ErrorKind, Result};

const ACCEPTED_DURATIONS: &str =
    "a whole number and one of ms, s, min, h, d without space, such as 500ms, 15s or 2min";

impl Properties {
    /// Parses `true` or `false` in any case. Alluxio reads every other text as false, which hides
    /// mistakes.
    pub(super) fn boolean(&self, name: &str) -> Result<bool> {
        let text = self.required(name)?;
        if text.eq_ignore_ascii_case("true") {
            Ok(true)
        } else if text.eq_ignore_ascii_case("false") {
            Ok(false)
        } else {
            Err(self.invalid(name, "true or false"))
        }
    }

    pub(super) fn port(&self, name: &str) -> Result<i32> {
        match self.required(name)?.parse() {
            Ok(port @ 0..=65535) => Ok(port),
            _ => Err(self.invalid(name, "a port number from 0 to 65535")),
        }
    }

    /// Parses one of the accepted names, in any case.
    pub(super) fn choice<T: Copy>(&self, name: &str, accepted: &[(&str, T)]) -> Result<T> {
        let text = self.required(name)?;
        let chosen = accepted
            .iter()
            .find(|(accepted, _)| accepted.eq_ignore_ascii_case(&text));
        if let Some((_, value)) = chosen {
            return Ok(*value);
        }
        let mut names: Vec<&str> = accepted.iter().map(|(name, _)| *name).collect();
        let last = names.pop().unwrap_or_default();
        Err(self.invalid(name, &format!("{} or {last}", names.join(", "))))
    }

    /// Splits at commas, trims the parts, and drops empty parts.
    pub(super) fn list(&self, name: &str) -> Result<Vec<String>> {
        Ok(self
            .required(name)?
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect())
    }

    /// Parses a duration. A negative duration is 0, as in etcd.
    pub(super) fn duration(&self, name: &str) -> Result<Duration> {
        let ms = self.milliseconds(name)?;
        Ok(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
    }

    /// Parses a whole number greater than 0, in milliseconds or in the unit that follows.
    pub fn positive_duration(&self, name: &str) -> Result<Duration> {
        match u64::try_from(self.milliseconds(name)?) {
            Ok(ms @ 1..) => Ok(Duration::from_millis(ms)),
            _ => Err(self.invalid(name, "a duration longer than 0")),
        }
    }

    fn milliseconds(&self, name: &str) -> Result<i64> {
        let text = self.required(name)?;
        milliseconds(&text).ok_or_else(|| {
            Error::with_cause(
                ErrorKind::InvalidConfig,
                format!("Fail to parse {text} to milliseconds"),
                Cause {
                    text: format!("({name} must be {ACCEPTED_DURATIONS}, but is \"{text}\")"),
                    timed_out: false,
                },
            )
        })
    }

    /// The error for an invalid value. Not for secrets, because the message contains the value.
    pub(super) fn invalid(&self, name: &str, accepted: &str) -> Error {
        let value = self.required(name).unwrap_or_default();
        Error::new(
            ErrorKind::InvalidConfig,
            format!("{name} must be {accepted}, but is \"{value}\""),
        )
    }
}

/// Parses like Alluxio's `FormatUtils.parseTimeSize`: an integer and a unit, computed in `double`
/// and clamped to the range of the result.
fn milliseconds(text: &str) -> Option<i64> {
    let unit_at = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let digits = number.strip_prefix('-').unwrap_or(number);
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let value: f64 = digits.parse().ok()?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "ms" | "millisecond" => 1.0,
        "s" | "sec" | "second" => 1_000.0,
        "m" | "min" | "minute" => 60_000.0,
        "h" | "hr" | "hour" => 3_600_000.0,
        "d" | "day" => 86_400_000.0,
        _ => return None,
    };
    let ms = (value * factor) as i64;
    Some(if number.starts_with('-') { -ms } else { ms })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::golden::vectors;

    #[test]
    fn durations_are_read_as_the_real_class_reads_them() {
        let rows = vectors("durations.jsonl");
        assert!(rows.len() >= 56);
        for row in rows {
            let ms = milliseconds(row["text"].as_str().unwrap());
            assert_eq!(ms, row["ms"].as_i64(), "{row}");
        }
    }
}
