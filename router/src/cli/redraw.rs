//! A picture on a terminal that is drawn anew in its place.

use std::io::Write as _;

use crossterm::cursor::MoveToPreviousLine;
use crossterm::queue;
use crossterm::terminal::{Clear, ClearType};

/// Draws over the `above` lines that were drawn before, and tells how many it drew. A terminal that has gone away is
/// no reason to stop.
pub(crate) fn draw(text: &str, above: u16) -> u16 {
    let mut out = std::io::stdout().lock();
    if above > 0 {
        let _ = queue!(out, MoveToPreviousLine(above), Clear(ClearType::FromCursorDown));
    }
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
    let columns = crossterm::terminal::size().map_or(usize::MAX, |(columns, _)| usize::from(columns));
    u16::try_from(rows(text, columns)).unwrap_or(0)
}

/// Rows that the lines of a text take on a screen: one that is longer than the screen is wide takes several.
fn rows(text: &str, columns: usize) -> usize {
    text.lines().map(|line| line.chars().count().div_ceil(columns.max(1)).max(1)).sum()
}

#[cfg(test)]
mod tests {
    use super::rows;

    #[test]
    fn a_line_takes_as_many_rows_as_it_needs() {
        for (text, taken) in [("", 0), ("a\n\nb", 3), ("12345", 1), ("123456", 2), ("→→→→→\n12345678901", 4)]
        {
            assert_eq!(rows(text, 5), taken, "{text:?}");
        }
        assert_eq!(rows("a\nb", 0), 2);
    }
}
