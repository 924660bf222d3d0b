//! Aligned columns that fit the terminal.

use super::failure::Failure;
use super::output::{Output, Style};
use crate::text::{shorten, width};

/// Between two columns.
const GAP: usize = 2;

/// A column: its heading and how it may shrink.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    heading: &'static str,
    right: bool,
    /// It can be shortened to so many columns of the terminal; none: not at all.
    least: Option<usize>,
}

/// What stands in a row and column.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    style: Style,
}

/// A table. Its last column is the first to shrink, then the one before it.
#[derive(Clone, Debug)]
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    /// How wide each column was when rows were last printed; none: not yet.
    printed: Option<Vec<usize>>,
}

impl Column {
    /// Words.
    pub(super) const fn left(heading: &'static str) -> Column {
        Column { heading, right: false, least: None }
    }

    /// Numbers.
    pub(super) const fn right(heading: &'static str) -> Column {
        Column { heading, right: true, least: None }
    }

    /// Words that may lose their middle.
    pub(super) const fn elastic(heading: &'static str, least: usize) -> Column {
        Column { heading, right: false, least: Some(least) }
    }
}

impl Cell {
    pub(super) fn new(text: impl Into<String>) -> Cell {
        Cell { text: text.into(), style: Style::Plain }
    }

    pub(super) fn styled(text: impl Into<String>, style: Style) -> Cell {
        Cell { text: text.into(), style }
    }
}

impl Table {
    pub(super) fn new(columns: &[Column]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new(), printed: None }
    }

    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// Prints the rows that came since the last time, each behind `indent` blanks; a heading before the first.
    pub(super) fn print(&mut self, output: &mut Output, indent: usize) -> Result<(), Failure> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let widths = self.fitted(output.columns.map(|columns| columns.saturating_sub(indent)));
        let mut lines = Vec::new();
        if self.printed.is_none() {
            lines.push(self.columns.iter().map(|column| Cell::styled(column.heading, Style::Bold)).collect());
        }
        lines.append(&mut self.rows);
        for row in &lines {
            let line = self.line(row, &widths, |cell, text| output.styled(cell.style, text));
            output.line(format_args!("{:indent$}{line}", ""))?;
        }
        self.printed = Some(widths);
        Ok(())
    }

    /// How wide each column is, so that a line has no more than `available` columns if that can be.
    fn fitted(&self, available: Option<usize>) -> Vec<usize> {
        let wanted = |(index, column): (usize, &Column)| {
            let cells = self.rows.iter().filter_map(|row| row.get(index)).map(|cell| width(&cell.text));
            let before = self.printed.as_ref().and_then(|widths| widths.get(index)).copied();
            cells.max().unwrap_or(0).max(before.unwrap_or_else(|| width(column.heading)))
        };
        let mut widths: Vec<usize> = self.columns.iter().enumerate().map(wanted).collect();
        let Some(available) = available else { return widths };
        let gaps = GAP * widths.len().saturating_sub(1);
        let mut over = (widths.iter().sum::<usize>() + gaps).saturating_sub(available);
        for (column, width) in self.columns.iter().zip(&mut widths).rev() {
            if let Some(least) = column.least {
                let taken = over.min(width.saturating_sub(least));
                *width -= taken;
                over -= taken;
            }
        }
        widths
    }

    fn line(&self, row: &[Cell], widths: &[usize], style: impl Fn(&Cell, &str) -> String) -> String {
        let mut line = String::new();
        for (index, ((cell, column), columns)) in row.iter().zip(&self.columns).zip(widths).enumerate() {
            let text = shorten(&cell.text, *columns);
            let blanks = columns - width(&text);
            let is_last = index + 1 == row.len();
            let (before, after) = match (column.right, is_last) {
                (true, _) => (blanks, 0),
                (false, true) => (0, 0),
                (false, false) => (0, blanks),
            };
            line.push_str(&" ".repeat(before));
            line.push_str(&style(cell, &text));
            line.push_str(&" ".repeat(after + if is_last { 0 } else { GAP }));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(available: Option<usize>) -> Vec<String> {
        let mut table = Table::new(&[
            Column::right("JOB"),
            Column::left("STATE"),
            Column::elastic("FILE ID", 12),
            Column::elastic("PATH", 20),
        ]);
        for (job, state, file, path) in [
            (
                "7",
                "stored",
                "file-0123456789abcdefghij12",
                "/srv/drop/batch/2026/11/22/a-very-long-name-of-a-report.jsonl",
            ),
            ("1234", "uploading", "", "/srv/ドロップ/二〇二六年十一月二十二日/大変長い名前の報告書.jsonl"),
            ("8", "failed", "file-empty: the file has no bytes", "/srv/b"),
        ] {
            table.row([job, state, file, path].map(Cell::new).into());
        }
        let widths = table.fitted(available);
        table.rows.iter().map(|row| table.line(row, &widths, |_, text| text.to_owned())).collect()
    }

    #[test]
    fn at_80_columns_the_path_gives_way_first_and_then_the_column_before_it() {
        assert_eq!(
            lines(Some(80)),
            [
                "   7  stored     file-0123456789abcdefghij12        /srv/drop…-of-a-report.jsonl",
                "1234  uploading                                     /srv/ドロ…名前の報告書.jsonl",
                "   8  failed     file-empty: the file has no bytes  /srv/b",
            ]
        );
    }

    #[test]
    fn at_60_columns_the_column_before_it_loses_its_middle_too() {
        assert_eq!(lines(Some(60))[0], "   7  stored     file-0…89abcdefghij12  /srv/d…-report.jsonl");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_as_long_as_that_can_be() {
        for available in 55..200 {
            for line in lines(Some(available)) {
                assert!(width(&line) <= available, "{line} in {available}");
            }
        }
    }

    #[test]
    fn at_200_columns_and_without_a_terminal_nothing_is_cut() {
        assert_eq!(lines(Some(200)), lines(None));
        assert!(!lines(None).concat().contains('…'));
    }
}
