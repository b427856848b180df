//! What was measured, line by line: as a table for people and as JSON for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::common::EtcdVersion;

/// What a number of a line counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unit {
    Seconds,
    Bytes,
    Calls,
    PerSecond,
    Count,
}

/// The sections of `docs/profiles.md`, which say what stands in the way of a target, with a part of
/// the names of their lines.
const PROFILES: &[(&str, &str)] = &[
    ("unchanged", "unchanged-lists"),
    ("first listing", "first-listings"),
    ("after one change", "lists-after-a-change"),
];

/// What a line is meant to reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// At most so many times the bound.
    TimesBound(f64),
    /// At least so many times less than the stock class.
    TimesLessThanStock(f64),
    /// Less than this part of what the stock class has, in percent.
    PercentOfStock(f64),
    /// Less than the stock class.
    BelowStock,
    /// At most so much, whatever others have.
    AtMost(f64),
    /// At least as much as the bound.
    AtLeastBound,
    /// Nothing: the number is only shown.
    None,
}

/// One measured thing. What was not measured, or does not exist, is `None`.
#[derive(Debug, Clone)]
pub struct Line {
    pub what: String,
    pub etcd: Option<EtcdVersion>,
    pub unit: Unit,
    pub stock: Option<f64>,
    pub ours: f64,
    pub bound: Option<f64>,
    pub target: Target,
    /// More than so many times the bound fails the whole run.
    pub promise: Option<f64>,
}

impl Line {
    /// A line without a promise, of no particular etcd.
    pub fn new(what: impl Into<String>, unit: Unit, ours: f64, target: Target) -> Line {
        Line {
            what: what.into(),
            etcd: None,
            unit,
            stock: None,
            ours,
            bound: None,
            target,
            promise: None,
        }
    }

    pub fn stock(mut self, stock: f64) -> Line {
        self.stock = Some(stock);
        self
    }

    pub fn bound(mut self, bound: f64) -> Line {
        self.bound = Some(bound);
        self
    }

    pub fn etcd(mut self, etcd: EtcdVersion) -> Line {
        self.etcd = Some(etcd);
        self
    }

    pub fn promise(mut self, limit: f64) -> Line {
        self.promise = Some(limit);
        self
    }

    fn of_bound(&self) -> f64 {
        self.ours / self.bound.expect("a line with a bound")
    }

    fn of_stock(&self) -> f64 {
        self.ours / self.stock.expect("a line with the stock class")
    }

    /// Whether the target is met.
    pub fn is_met(&self) -> bool {
        match self.target {
            Target::TimesBound(limit) => self.of_bound() <= limit,
            Target::TimesLessThanStock(wanted) => self.of_stock() * wanted <= 1.0,
            Target::PercentOfStock(limit) => self.of_stock() * 100.0 < limit,
            // Neither of them may have anything of it.
            Target::BelowStock => self.ours == 0.0 || Some(self.ours) < self.stock,
            Target::AtMost(limit) => self.ours <= limit,
            Target::AtLeastBound => self.of_bound() >= 1.0,
            Target::None => true,
        }
    }

    /// Whether the run may succeed.
    pub fn is_promise_kept(&self) -> bool {
        self.promise.is_none_or(|limit| self.of_bound() <= limit)
    }

    fn ratio(&self) -> String {
        match self.target {
            Target::TimesBound(_) | Target::AtLeastBound => format!("{:.2}", self.of_bound()),
            Target::TimesLessThanStock(_) => format!("1/{:.0}", 1.0 / self.of_stock()),
            Target::BelowStock if self.stock <= Some(0.0) => String::new(),
            Target::PercentOfStock(_) | Target::BelowStock => {
                format!("{} %", significant(self.of_stock() * 100.0))
            }
            Target::AtMost(_) | Target::None => String::new(),
        }
    }

    fn wanted(&self) -> String {
        match self.target {
            Target::TimesBound(limit) => format!("≤ {limit} of the bound"),
            Target::TimesLessThanStock(wanted) => format!("≤ 1/{wanted} of stock"),
            Target::PercentOfStock(limit) => format!("< {limit} % of stock"),
            Target::BelowStock => "below stock".to_string(),
            Target::AtMost(limit) => format!("≤ {}", short_amount(self.unit, limit)),
            Target::AtLeastBound => "≥ the bound".to_string(),
            Target::None => String::new(),
        }
    }

    fn verdict(&self) -> String {
        match self.promise {
            Some(limit) if !self.is_promise_kept() => format!("**promise of {limit} broken**"),
            _ if self.target == Target::None => String::new(),
            _ if self.is_met() => "kept".to_string(),
            _ => self.missed(),
        }
    }

    /// The verdict of a missed target, which links its profile.
    fn missed(&self) -> String {
        let profile = PROFILES.iter().find(|(part, _)| self.what.contains(part));
        match profile {
            Some((_, section)) => format!("[**missed**](profiles.md#{section})"),
            None => "**missed**".to_string(),
        }
    }
}

/// All lines, in the order in which they were measured.
#[derive(Default)]
pub struct Table {
    lines: Vec<Line>,
}

impl Table {
    /// Adds a line, and prints it for those who wait.
    pub fn add(&mut self, line: Line) {
        println!("{}", row(&line));
        self.lines.push(line);
    }

    pub fn is_every_promise_kept(&self) -> bool {
        self.lines.iter().all(Line::is_promise_kept)
    }

    /// The first line whose name begins like this.
    pub fn starting_with(&self, beginning: &str) -> Option<&Line> {
        self.lines
            .iter()
            .find(|line| line.what.starts_with(beginning))
    }

    pub fn markdown(&self) -> String {
        let mut text = String::from(
            "| measured | etcd | stock class | this library | bound | ratio | target | |\n\
             |---|---|--:|--:|--:|--:|--:|---|\n",
        );
        for line in &self.lines {
            writeln!(text, "{}", row(line)).expect("a text");
        }
        text
    }

    pub fn json(&self) -> Value {
        let lines = self.lines.iter().map(|line| {
            json!({
                "measured": line.what,
                "etcd": line.etcd.map(|version| version.to_string()),
                "unit": format!("{:?}", line.unit),
                "stock": line.stock,
                "ours": line.ours,
                "bound": line.bound,
                "target": line.wanted(),
                "met": line.is_met(),
                "promise": line.promise,
            })
        });
        lines.collect()
    }
}

fn row(line: &Line) -> String {
    let optional =
        |value: Option<f64>| value.map_or(String::new(), |value| amount(line.unit, value));
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} |",
        line.what,
        line.etcd
            .map_or(String::new(), |version| version.to_string()),
        optional(line.stock),
        amount(line.unit, line.ours),
        optional(line.bound),
        line.ratio(),
        line.wanted(),
        line.verdict()
    )
}

/// A number with its unit, to three digits.
pub fn amount(unit: Unit, value: f64) -> String {
    let scales: &[(f64, &str)] = match unit {
        Unit::Seconds => &[(1.0, " s"), (1e-3, " ms"), (1e-6, " µs"), (1e-9, " ns")],
        Unit::Bytes => &[(1e9, " GB"), (1e6, " MB"), (1e3, " kB"), (1.0, " B")],
        Unit::Calls => &[(1e6, " M/s"), (1e3, " k/s"), (1.0, "/s")],
        Unit::PerSecond => &[(1.0, "/s")],
        Unit::Count => &[(1.0, "")],
    };
    let (scale, name) = scales
        .iter()
        .find(|(scale, _)| value.abs() >= *scale)
        .or(scales.last())
        .expect("each unit has a scale");
    format!("{}{name}", significant(value / scale))
}

/// A round number with its unit.
pub fn short_amount(unit: Unit, value: f64) -> String {
    let long = amount(unit, value);
    let (number, unit) = long.split_at(long.find([' ', '/']).unwrap_or(long.len()));
    let number = match number.split_once('.') {
        Some(_) => number.trim_end_matches('0').trim_end_matches('.'),
        None => number,
    };
    format!("{number}{unit}")
}

fn significant(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 0,
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 0.1 => 2,
        size if size >= 0.001 => 4,
        _ => 0,
    };
    format!("{value:.digits$}")
}
