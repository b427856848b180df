//! Tables of aligned columns, for terminals.

use alluxio_membership::view::Member;
use anstyle::AnsiColor;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::output;

/// The text of an empty cell.
pub const EMPTY: &str = "-";

/// A cell, whose text is safe to show.
pub struct Cell {
    text: String,
    colour: Option<AnsiColor>,
}

impl Cell {
    fn shown(&self, text: &str) -> String {
        match self.colour {
            Some(colour) => output::in_colour(text, colour),
            None => text.to_owned(),
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Cell {
            text: text.into(),
            colour: None,
        }
    }
}

/// Returns the id, the address and the status of a worker.
pub fn member_cells(member: &Member, known: bool) -> [Cell; 3] {
    [
        member.worker.identity.to_string().into(),
        output::address(member).into(),
        status_cell(member, known),
    ]
}

/// Returns the status of a worker, in its colour.
pub fn status_cell(member: &Member, known: bool) -> Cell {
    Cell {
        text: output::status_word(member, known).to_owned(),
        colour: output::status_colour(member, known),
    }
}

/// Rows of cells below a header. Each row has as many cells as the header.
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub fn new(header: &[&'static str]) -> Self {
        Table {
            header: header.to_vec(),
            rows: Vec::new(),
        }
    }

    pub fn push(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// Removes the columns that are empty in all rows, if there are rows.
    pub fn hide_empty_columns(&mut self) {
        let has_something = |column: &usize| self.rows.iter().any(|row| row[*column].text != EMPTY);
        let columns = 0..self.header.len();
        let shown: Vec<bool> = columns
            .map(|column| self.rows.is_empty() || has_something(&column))
            .collect();
        let mut keep = shown.iter().copied();
        self.header.retain(|_| keep.next().unwrap_or(true));
        for row in &mut self.rows {
            let mut keep = shown.iter().copied();
            row.retain(|_| keep.next().unwrap_or(true));
        }
    }

    /// Returns the whole table as text.
    pub fn text(&self) -> String {
        let lines = self.lines(usize::MAX).into_iter();
        lines.map(|line| line + "\n").collect()
    }

    /// Returns the lines, the header first, each cut to the width of a terminal.
    pub fn lines(&self, width: usize) -> Vec<String> {
        let mut widths: Vec<usize> = self.header.iter().map(|name| name.width()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.width());
            }
        }
        let header: Vec<Cell> = self.header.iter().map(|name| Cell::from(*name)).collect();
        std::iter::once(&header)
            .chain(&self.rows)
            .map(|row| line(row, &widths, width))
            .collect()
    }
}

/// Pads all cells but the last.
fn line(row: &[Cell], widths: &[usize], mut left: usize) -> String {
    let mut line = String::new();
    for (place, (cell, width)) in row.iter().zip(widths).enumerate() {
        let text = cut(&cell.text, left);
        line.push_str(&cell.shown(text));
        if place + 1 < row.len() {
            let padding = (width - cell.text.width() + 2).min(left - text.width());
            line.extend(std::iter::repeat_n(' ', padding));
        }
        left = left.saturating_sub(width + 2);
    }
    line.truncate(line.trim_end().len());
    line
}

/// Returns the beginning of a text, which takes at most this number of columns of a terminal.
pub fn cut(text: &str, columns: usize) -> &str {
    let mut taken = 0;
    let end = text.char_indices().find(|(_, c)| {
        taken += c.width().unwrap_or(0);
        taken > columns
    });
    &text[..end.map_or(text.len(), |(at, _)| at)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[[&str; 3]]) -> Table {
        let mut table = Table::new(&["A", "B", "C"]);
        for row in rows {
            table.push(row.iter().map(|text| Cell::from(*text)).collect());
        }
        table
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let table = table(&[["a", "\u{fc}", "x"], ["long", "\u{6f22}\u{5b57}", ""]]);
        assert_eq!(
            table.lines(usize::MAX),
            [
                "A     B     C",
                "a     \u{fc}     x",
                "long  \u{6f22}\u{5b57}"
            ]
        );
    }

    #[test]
    fn lines_end_at_the_edge_of_the_terminal() {
        let table = table(&[["abc", "\u{6f22}\u{5b57}", "x"]]);
        for (width, line) in [
            (0, ""),
            (2, "ab"),
            (3, "abc"),
            (6, "abc"),
            (7, "abc  \u{6f22}"),
            (11, "abc  \u{6f22}\u{5b57}"),
            (12, "abc  \u{6f22}\u{5b57}  x"),
        ] {
            assert_eq!(table.lines(width)[1], line, "{width}");
        }
    }

    #[test]
    fn only_columns_without_anything_are_hidden() {
        let mut some = table(&[["-", "-", "x"], ["y", "-", "-"]]);
        some.hide_empty_columns();
        assert_eq!(some.lines(80), ["A  C", "-  x", "y  -"]);
        let mut none = table(&[]);
        none.hide_empty_columns();
        assert_eq!(none.lines(80), ["A  B  C"]);
    }
}
