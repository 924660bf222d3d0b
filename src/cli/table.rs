//! Aligned columns that fit the terminal.

use super::look::{Look, Style};
use crate::text::{shorten, width};

/// Between two columns.
const GAP: usize = 2;

/// Rather than shortening a text to less than so many times what it needs at least, other columns are left out.
const PLEASANT: usize = 2;

/// A column: its heading, how it may shrink, and whether it may be left out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    heading: &'static str,
    right: bool,
    /// It can be shortened to so many columns of the terminal; none: not at all.
    least: Option<usize>,
    /// Where there is no room the greatest goes first; 0 never.
    rank: u8,
}

/// What stands in a row and column.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    style: Style,
}

/// A table. Its last column is the first to shrink, then the one before it; where that does not do, columns are left out.
#[derive(Clone, Debug)]
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    /// How wide each column was when rows were last laid out, none for those that are left out; not yet.
    before: Option<Vec<Option<usize>>>,
}

impl Column {
    /// Words.
    pub(super) const fn left(heading: &'static str) -> Column {
        Column { heading, right: false, least: None, rank: 0 }
    }

    /// Numbers.
    pub(super) const fn right(heading: &'static str) -> Column {
        Column { heading, right: true, least: None, rank: 0 }
    }

    /// The same, left out where there is no room: the greatest `rank` first.
    pub(super) const fn rank(self, rank: u8) -> Column {
        Column { rank, ..self }
    }

    /// Words that may lose their middle.
    pub(super) const fn elastic(heading: &'static str, least: usize) -> Column {
        Column { heading, right: false, least: Some(least), rank: 0 }
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
        Table { columns: columns.to_vec(), rows: Vec::new(), before: None }
    }

    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The rows that came since the last time, a line each behind `indent` blanks; a heading before the first.
    pub(super) fn lines(&mut self, look: &Look, indent: usize) -> Vec<String> {
        if self.rows.is_empty() {
            return Vec::new();
        }
        for cell in self.rows.iter_mut().flatten() {
            if !look.unicode {
                cell.text = look.shows(&cell.text).into_owned();
            }
        }
        let widths = self.fitted(look.columns.map(|columns| columns.saturating_sub(indent)));
        let mut rows = Vec::new();
        if self.before.is_none() {
            // A word without its end says more than one without its middle.
            let heading = |(column, width): (&Column, &Option<usize>)| {
                column.heading.chars().take(width.unwrap_or(0)).collect::<String>()
            };
            let headings = self.columns.iter().zip(&widths).map(heading);
            rows.push(headings.map(|heading| Cell::styled(heading, Style::Bold)).collect());
        }
        rows.append(&mut self.rows);
        let lines =
            rows.iter().map(|row| format!("{:indent$}{}", "", self.line(row, &widths, look))).collect();
        self.before = Some(widths);
        lines
    }

    /// How wide each column is, so that a line has no more than `available` columns if that can be; none: left out.
    fn fitted(&self, available: Option<usize>) -> Vec<Option<usize>> {
        let wanted = |(index, column): (usize, &Column)| {
            let cells = self.rows.iter().filter_map(|row| row.get(index)).map(|cell| width(&cell.text));
            let before = match self.before.as_ref().and_then(|widths| widths.get(index)) {
                Some(before) => (*before)?,
                None => width(column.heading),
            };
            Some(cells.max().unwrap_or(0).max(before))
        };
        let mut widths: Vec<Option<usize>> = self.columns.iter().enumerate().map(wanted).collect();
        let Some(available) = available else { return widths };
        let pleasant = |(column, width): (&Column, &Option<usize>)| {
            width.map(|width| column.least.map_or(width, |least| width.min(least * PLEASANT)))
        };
        while sum(self.columns.iter().zip(&widths).map(pleasant)) > available {
            let shown = self.columns.iter().enumerate().filter(|(index, _)| widths[*index].is_some());
            let last = shown.filter(|(_, column)| column.rank > 0).max_by_key(|(_, column)| column.rank);
            let Some((index, _)) = last else { break };
            widths[index] = None;
        }
        let mut over = sum(widths.iter().copied()).saturating_sub(available);
        for times in [PLEASANT, 1] {
            for (column, width) in self.columns.iter().zip(&mut widths).rev() {
                if let (Some(least), Some(width)) = (column.least, width) {
                    let taken = over.min(width.saturating_sub(least * times));
                    *width -= taken;
                    over -= taken;
                }
            }
        }
        widths
    }

    fn line(&self, row: &[Cell], widths: &[Option<usize>], look: &Look) -> String {
        let mut line = String::new();
        let shown = row.iter().zip(&self.columns).zip(widths);
        let shown: Vec<_> = shown.filter_map(|(cell, width)| Some((cell, (*width)?))).collect();
        for (index, ((cell, column), columns)) in shown.iter().enumerate() {
            let text = shorten(&cell.text, *columns, look.mark());
            let blanks = columns - width(&text);
            let is_last = index + 1 == shown.len();
            let (before, after) = match (column.right, is_last) {
                (true, _) => (blanks, 0),
                (false, true) => (0, 0),
                (false, false) => (0, blanks),
            };
            line.push_str(&" ".repeat(before));
            line.push_str(&look.styled(cell.style, &text));
            line.push_str(&" ".repeat(after + if is_last { 0 } else { GAP }));
        }
        line
    }
}

/// Of columns that are shown, with the gaps between them.
fn sum(widths: impl Iterator<Item = Option<usize>>) -> usize {
    let (count, sum) = widths.flatten().fold((0_usize, 0), |(count, sum), width| (count + 1, sum + width));
    sum + GAP * count.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(columns: Option<usize>) -> Vec<String> {
        let mut table = Table::new(&[
            Column::right("JOB"),
            Column::left("STATE").rank(1),
            Column::elastic("FILE ID", 12),
            Column::elastic("PATH", 12),
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
        let mut lines = table.lines(&Look { columns, ..Look::PIPE }, 0);
        lines.remove(0);
        lines
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
    fn where_there_is_no_room_a_column_is_left_out_before_much_is_shortened() {
        assert_eq!(lines(Some(60))[0], "   7  file-0123456789abcdefghij12   /srv/dr…f-a-report.jsonl");
        assert_eq!(lines(Some(36))[0], "   7  file-…cdefghij12  /sr…rt.jsonl");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_as_long_as_that_can_be() {
        for columns in 32..200 {
            for line in lines(Some(columns)) {
                assert!(width(&line) <= columns, "{line} in {columns}");
            }
        }
    }

    #[test]
    fn rows_that_come_later_keep_to_the_columns_that_were_left_out() {
        let mut table = Table::new(&[Column::left("A").rank(1), Column::left("B")]);
        let look = Look { columns: Some(6), ..Look::PIPE };
        table.row(vec![Cell::new("long"), Cell::new("word")]);
        assert_eq!(table.lines(&look, 1), [" B", " word"]);
        table.row(vec![Cell::new("x"), Cell::new("y")]);
        assert_eq!(table.lines(&look, 1), [" y"]);
        assert!(table.lines(&look, 1).is_empty());
    }

    #[test]
    fn at_200_columns_and_without_a_terminal_nothing_is_cut() {
        assert_eq!(lines(Some(200)), lines(None));
        assert!(!lines(None).concat().contains('…'));
    }
}
