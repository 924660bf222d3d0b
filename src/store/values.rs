//! Rows as parameters of one statement. Statements are prepared once only if their text is always the same, so there are few sizes,
//! and what is over is filled up with NULLs, which every statement leaves out.

use sqlx::query_builder::Separated;
use sqlx::{QueryBuilder, Sqlite};

/// Rows that share a statement, at most: a batch of the writer is seldom larger, and a call to SQLite's thread costs more than
/// what it does there for a row (docs/decisions/throughput.md).
pub(super) const MOST: usize = 64;

const SIZES: [usize; 4] = [1, 4, 16, MOST];

/// What takes the values of one row.
pub(super) type Values<'a> = Separated<'a, Sqlite, &'static str>;

/// `VALUES` with a row of `columns` values for each of `some`, and perhaps some of NULLs: of more than [`MOST`] none.
pub(super) fn push<T>(
    query: &mut QueryBuilder<Sqlite>,
    some: impl ExactSizeIterator<Item = T>,
    columns: usize,
    bind: impl Fn(&mut Values<'_>, T),
) {
    let count = some.len();
    let size = SIZES.into_iter().find(|size| *size >= count).unwrap_or(count);
    let rows = some.map(Some).chain(std::iter::repeat_with(|| None)).take(size);
    query.push_values(rows, |mut values, row| match row {
        Some(row) => bind(&mut values, row),
        None => {
            for _ in 0..columns {
                values.push_bind(None::<i64>);
            }
        }
    });
}
