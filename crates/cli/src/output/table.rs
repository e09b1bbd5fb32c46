//! Tables for people: a bold head, columns as wide as their content, no frame, colours allowed.

use std::fmt;

use super::{STRONG, styled};

/// Between two columns.
const GAP: &str = "  ";

/// A table under construction.
#[derive(Debug, Clone, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
    /// Columns from here on hold numbers and stand to the right.
    numbers_from: Option<usize>,
}

impl Table {
    /// A table with these heads.
    pub fn new<const N: usize>(heads: [&str; N]) -> Self {
        Table { rows: vec![heads.map(|head| styled(STRONG, head)).to_vec()], numbers_from: None }
    }

    /// A table of rows that explain themselves.
    pub fn without_head() -> Self {
        Table::default()
    }

    /// Adds a row; it may be shorter than others.
    pub fn row<I>(&mut self, cells: I) -> &mut Self
    where
        I: IntoIterator,
        I::Item: fmt::Display,
    {
        self.rows.push(cells.into_iter().map(|cell| cell.to_string()).collect());
        self
    }

    /// Aligns the columns from `first` on to the right.
    pub fn numbers_from(&mut self, first: usize) -> &mut Self {
        self.numbers_from = Some(first);
        self
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = Vec::new();
        for row in &self.rows {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(visible(cell));
            }
        }
        widths
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for (number, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let padding = " ".repeat(width - visible(cell));
                let is_number = self.numbers_from.is_some_and(|first| column >= first);
                let (before, after) =
                    if is_number { (padding, String::new()) } else { (String::new(), padding) };
                let gap = if column == 0 { "" } else { GAP };
                line.push_str(&format!("{gap}{before}{cell}{after}"));
            }
            let newline = if number == 0 { "" } else { "\n" };
            write!(f, "{newline}{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// How many characters of a cell are seen: all but its colours.
fn visible(cell: &str) -> usize {
    anstream::adapter::strip_str(cell).to_string().chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::GOOD;

    #[test]
    fn columns_are_as_wide_as_what_is_seen_of_them() {
        let mut table = Table::new(["NAME", "COUNT"]);
        table.row(["reviews", "12"]).row([styled(GOOD, "a"), "7".to_owned()]).row(["b"]).numbers_from(1);
        let text = anstream::adapter::strip_str(&table.to_string()).to_string();
        assert_eq!(text, "NAME     COUNT\nreviews     12\na            7\nb");
    }
}
