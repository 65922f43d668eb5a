//! The reference page of the metrics.

use std::fmt::Write as _;

use super::catalogue::{Kind, SECTIONS};

/// The page, as Markdown.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# Metrics\n\nWhat `GET /metrics` of the admin door tells, as OpenMetrics text. This page is made from the code. Times are \
         in seconds, sizes in bytes. Labels are names of the configuration, partitions, and words of a fixed set; never keys. A \
         histogram has the series `_bucket`, `_sum` and `_count`.\n",
    );
    for section in SECTIONS {
        let _ = write!(page, "\n## {}\n\n| metric | kind | labels | |\n| --- | --- | --- | --- |\n", section.title);
        for metric in section.metrics {
            let total = if metric.kind == Kind::Counter { "_total" } else { "" };
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let _ = writeln!(
                page,
                "| `{}{total}` | {} | {} | {} |",
                metric.name,
                metric.kind.name(),
                labels.join(", "),
                metric.help
            );
        }
    }
    page
}
