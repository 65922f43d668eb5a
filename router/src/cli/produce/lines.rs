//! Lines of bounded length.

use std::io::{self, BufRead};

/// A line.
pub(super) enum Line {
    /// Its bytes, without the line feed at its end.
    Whole(Vec<u8>),
    /// It is longer than the bound. Its rest is still to be read.
    TooLong,
}

/// Reads up to the next line feed; `None` at the end of the input. It never holds more than `max` bytes, and one read, and
/// waits for no more than that.
///
/// # Errors
/// The reader's.
pub(super) fn next(reader: &mut impl BufRead, max: usize) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let mut begun = false;
    let mut ended = false;
    while !ended {
        let chunk = fill(reader)?;
        if chunk.is_empty() {
            break;
        }
        begun = true;
        let feed = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..feed.unwrap_or(chunk.len())];
        if line.len() + part.len() > max {
            return Ok(Some(Line::TooLong));
        }
        line.extend_from_slice(part);
        let used = part.len() + usize::from(feed.is_some());
        ended = feed.is_some();
        reader.consume(used);
    }
    Ok(begun.then_some(Line::Whole(line)))
}

/// Reads up to the next line feed, or the end of the input, and holds nothing.
///
/// # Errors
/// The reader's.
pub(super) fn skip(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let chunk = fill(reader)?;
        let feed = chunk.iter().position(|byte| *byte == b'\n');
        let (is_end, used) = (chunk.is_empty() || feed.is_some(), feed.map_or(chunk.len(), |feed| feed + 1));
        reader.consume(used);
        if is_end {
            return Ok(());
        }
    }
}

fn fill(reader: &mut impl BufRead) -> io::Result<&[u8]> {
    loop {
        match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok([]) => return Ok(&[]),
            // Asked again, since an answer in a loop can't be returned; what is there is there without a read.
            Ok(_) => return reader.fill_buf(),
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
    Ok(if bytes.len() > max { Line::TooLong } else { Line::Whole(bytes) })
}
