//! Reading TOML files of other kinds, such as route tests, the way the configuration is read: key by key, with places,
//! and all mistakes of a file at once.

pub use crate::findings::Findings;
pub use crate::names::{nearest, suggest, topic_fault};
pub use crate::raw::At;
pub use crate::read::{Field, Table, Text};

use crate::findings::{ConfigErrors, Source};
use crate::read::{self, Reading};
use crate::variables::Variables;

/// Reads `text` with `read`, which asks the table of the whole document for its keys; keys that nobody asked for are
/// mistakes. Messages call the file `what` ("the test file") and `file_name`; `variables` fills in `${NAME}` where a
/// [`Text`] is read.
///
/// `read` notes what is wrong, and gives `None` only where it has noted a mistake.
///
/// # Errors
/// [`ConfigErrors`]: all that was noted.
pub fn read_document<T>(
    text: &str,
    file_name: &str,
    what: &'static str,
    variables: &dyn Variables,
    read: impl FnOnce(&Table<'_>) -> Option<T>,
) -> Result<T, ConfigErrors> {
    let findings = Findings::default();
    let answer = read::parse(text, &findings).and_then(|document| {
        let reading = Reading { what, text, variables, findings: &findings };
        let top = Table::top(&reading, &document);
        let answer = read(&top);
        top.finish();
        answer
    });
    let source = Source { name: file_name.to_owned(), text: text.to_owned() };
    findings.conclude(source).map_err(|errors| errors.about(what))?;
    answer.ok_or_else(|| ConfigErrors::unexplained(file_name).about(what))
}
