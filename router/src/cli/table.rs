//! Tables, for answers of many rows.

use std::io::{self, IsTerminal as _};

use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, ContentArrangement, Table};

/// Columns of the terminal that is standard output; `None` where it is none.
pub(super) fn width() -> Option<u16> {
    let is_terminal = io::stdout().is_terminal();
    is_terminal.then(|| crossterm::terminal::size().ok()).flatten().map(|(columns, _)| columns)
}

/// A table as wide as the terminal, in which the columns of these numbers are not made narrower than they need to be;
/// elsewhere, as wide as it needs to be.
pub(super) fn table<const COLUMNS: usize>(header: [&str; COLUMNS], whole: &[usize], width: Option<u16>) -> Table {
    let mut table = Table::new();
    // What it is to look like does not depend on what it finds out about standard output.
    table.force_no_tty().load_style(NOTHING).set_header(header);
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width).set_truncation_indicator("…");
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if whole.contains(&index) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table
}
