//! Records read in one go.

use std::ops::Range;

use pointsman_core::port::Batch;
use pointsman_core::record::{Header, Headers, Record};
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use self_cell::self_cell;

use crate::catalog;
use crate::fault::Fault;
use crate::headers;
use crate::position::{PartitionId, offset_of};

/// What lies at an offset.
pub(crate) enum Found {
    /// Records, the first of them at that offset.
    Page(Page),
    /// The end of the partition.
    End,
    /// Nothing: the partition holds these offsets only, or is gone.
    OutOfRange(Option<(i64, i64)>),
}

/// Bytes as the database gave them: SQLite's own memory is good for one row only, so they are copied, once.
#[derive(Default)]
struct Rows {
    bytes: Vec<u8>,
    rows: Vec<Row>,
}

struct Row {
    offset: i64,
    timestamp_ms: i64,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: Option<Range<usize>>,
}

/// The headers of all records, one after the other, and where those of each record are.
struct Parsed<'a> {
    headers: Vec<Header<'a>>,
    spans: Vec<Range<usize>>,
}

self_cell! {
    struct Cell {
        owner: Rows,
        #[covariant]
        dependent: Parsed,
    }
}

/// Records that follow each other in one partition.
pub(crate) struct Page(Cell);

impl Batch for Page {
    fn len(&self) -> usize {
        self.0.borrow_owner().rows.len()
    }

    fn record(&self, index: usize) -> Record<'_> {
        let Rows { bytes, rows } = self.0.borrow_owner();
        let parsed = self.0.borrow_dependent();
        let row = &rows[index];
        Record {
            offset: row.offset,
            timestamp_ms: row.timestamp_ms,
            key: row.key.clone().map(|range| &bytes[range]),
            value: row.value.clone().map(|range| &bytes[range]),
            headers: Headers::Borrowed(&parsed.headers[parsed.spans[index].clone()]),
        }
    }
}

impl Page {
    fn parse(rows: Rows) -> Result<Self, Fault> {
        Cell::try_new(rows, |rows| {
            let mut parsed = Parsed { headers: Vec::new(), spans: Vec::with_capacity(rows.rows.len()) };
            for row in &rows.rows {
                let start = parsed.headers.len();
                if let Some(blob) = row.headers.clone() {
                    headers::decode(&rows.bytes[blob], &mut parsed.headers).map_err(|_| {
                        Fault::damaged(format_args!("the headers of the record at offset {} are torn", row.offset))
                    })?;
                }
                parsed.spans.push(start..parsed.headers.len());
            }
            Ok(parsed)
        })
        .map(Self)
    }
}

/// Reads at most `max_records` (at least 1) from `offset` on, and no more than `max_bytes` of keys, values and headers;
/// the first record comes whatever its size.
pub(crate) fn read(
    snapshot: &Connection,
    partition: PartitionId,
    offset: i64,
    max_records: usize,
    max_bytes: usize,
) -> Result<Found, Fault> {
    let Some((first, end)) = catalog::bounds(snapshot, partition)? else { return Ok(Found::OutOfRange(None)) };
    if offset == end {
        return Ok(Found::End);
    }
    if !(first..end).contains(&offset) {
        return Ok(Found::OutOfRange(Some((first, end))));
    }
    let mut statement = snapshot.prepare_cached(
        "SELECT position, timestamp_ms, key, value, headers FROM records
         WHERE position >= ?1 AND position < ?2 ORDER BY position LIMIT ?3",
    )?;
    let limit = i64::try_from(max_records).unwrap_or(i64::MAX);
    let mut found = statement.query([partition.at(offset), partition.at(end), limit])?;
    let mut rows = Rows::default();
    while let Some(row) = found.next()? {
        if !rows.push(row, max_bytes)? {
            break;
        }
    }
    if rows.rows.first().is_none_or(|row| row.offset != offset) {
        return Err(Fault::damaged(format_args!("the record at offset {offset} is missing")));
    }
    Page::parse(rows).map(Found::Page)
}

impl Rows {
    /// Copies a row, unless it is a further one and does not fit.
    fn push(&mut self, row: &rusqlite::Row<'_>, max_bytes: usize) -> Result<bool, Fault> {
        let (key, value, headers) = (blob(row, 2)?, blob(row, 3)?, blob(row, 4)?);
        let size = [key, value, headers].iter().map(|blob| blob.map_or(0, <[u8]>::len)).sum::<usize>();
        if !self.rows.is_empty() && self.bytes.len() + size > max_bytes {
            return Ok(false);
        }
        let row = Row {
            offset: offset_of(row.get(0)?),
            timestamp_ms: row.get(1)?,
            key: self.copy(key),
            value: self.copy(value),
            headers: self.copy(headers),
        };
        self.rows.push(row);
        Ok(true)
    }

    fn copy(&mut self, bytes: Option<&[u8]>) -> Option<Range<usize>> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes?);
        Some(start..self.bytes.len())
    }
}

fn blob<'a>(row: &'a rusqlite::Row<'_>, column: usize) -> Result<Option<&'a [u8]>, Fault> {
    match row.get_ref(column)? {
        ValueRef::Null => Ok(None),
        ValueRef::Blob(bytes) => Ok(Some(bytes)),
        other => Err(Fault::damaged(format_args!("a record holds {} where bytes belong", other.data_type()))),
    }
}
