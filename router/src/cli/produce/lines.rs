//! Lines of bounded length.

use std::io::{self, BufRead};

/// A line, or its length where that is over the bound.
pub(super) enum Line {
    /// Its bytes, without the line feed at its end.
    Whole(Vec<u8>),
    /// It was longer than the bound, and is left out.
    TooLong,
}

/// Reads up to the next line feed; `None` at the end of the input. It never holds more than `max` bytes, and one read.
///
/// # Errors
/// The reader's.
pub(super) fn next(reader: &mut impl BufRead, max: usize) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let mut too_long = false;
    let mut begun = false;
    loop {
        let chunk = match reader.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if chunk.is_empty() {
            return Ok(begun.then(|| finish(line, too_long)));
        }
        begun = true;
        let feed = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..feed.unwrap_or(chunk.len())];
        too_long |= line.len() + part.len() > max;
        if too_long {
            line = Vec::new();
        } else {
            line.extend_from_slice(part);
        }
        let used = part.len() + usize::from(feed.is_some());
        reader.consume(used);
        if feed.is_some() {
            return Ok(Some(finish(line, too_long)));
        }
    }
}

/// Reads all there is, if it is no more than `max` bytes.
///
/// # Errors
/// The reader's.
pub(super) fn all(reader: &mut impl BufRead, max: usize) -> io::Result<Line> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    io::Read::read_to_end(&mut io::Read::take(reader, limit), &mut bytes)?;
    let too_long = bytes.len() > max;
    Ok(finish(bytes, too_long))
}

fn finish(line: Vec<u8>, too_long: bool) -> Line {
    if too_long { Line::TooLong } else { Line::Whole(line) }
}
