//! What is wrong, or doubtful, with a configuration: every finding at once, each with its place, cause and remedy.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report, Severity};
use thiserror::Error;

/// A place in the file, in bytes.
pub(crate) type Span = Range<usize>;

/// What messages call a configuration.
pub(crate) const CONFIGURATION: &str = "the configuration";

/// So many mistakes are shown with their lines of the file; of more, each is told in a line of its own.
const SHOWN_MAX: usize = 100;

/// A line longer than this is not shown.
const LINE_MAX: usize = 1000;

/// Everything that is wrong with a configuration, in the order of the file. `Display` renders all of it without colours.
#[derive(Debug, Error)]
#[error("{}", self.render(false))]
pub struct ConfigErrors {
    mistakes: Vec<Finding>,
    /// What the file is.
    what: &'static str,
}

impl ConfigErrors {
    /// The mistakes; at least one.
    #[must_use]
    pub fn mistakes(&self) -> &[Finding] {
        &self.mistakes
    }

    /// No plan, and no mistake that says why: a fault of this program, told as one.
    pub(crate) fn unexplained(file_name: &str) -> Self {
        let source = Arc::new(Source { name: file_name.to_owned(), text: String::new() });
        let message = "the configuration can't be compiled, for a reason that was not noted".to_owned();
        let help = "this is a fault of Pointsman: report it together with the file".to_owned();
        let (label, others) = (String::new(), Vec::new());
        Self {
            mistakes: vec![Finding { severity: Severity::Error, message, label, span: 0..0, others, help, source }],
            what: CONFIGURATION,
        }
    }

    /// Says what the file is, where it is not the configuration.
    pub(crate) fn about(self, what: &'static str) -> Self {
        Self { what, ..self }
    }

    /// All mistakes with their lines of the file, for a person. Ends with a line that counts them.
    #[must_use]
    pub fn render(&self, colours: bool) -> String {
        let (shown, told) = self.mistakes.split_at(self.mistakes.len().min(SHOWN_MAX));
        let mut text = shown.iter().map(|mistake| mistake.render(colours)).collect::<Vec<_>>().join("\n");
        text.extend(told.iter().map(Finding::told));
        let count = self.mistakes.len();
        text.push_str(&format!("\n{count} mistake{} in {}.\n", if count == 1 { "" } else { "s" }, self.what));
        text
    }
}

/// One mistake, or one doubt.
#[derive(Clone)]
pub struct Finding {
    severity: Severity,
    message: String,
    label: String,
    span: Span,
    others: Vec<(Span, String)>,
    help: String,
    source: Arc<Source>,
}

/// Something doubtful that does not keep the router from running.
pub type Warning = Finding;

/// The file as it may be shown: secrets are masked, byte for byte.
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) text: String,
}

impl Source {
    /// Line and column of an offset, from 1; the column counts characters.
    fn place(&self, offset: usize) -> (usize, usize) {
        let before = String::from_utf8_lossy(self.text.as_bytes().get(..offset).unwrap_or_default());
        let start = before.rfind('\n').map_or(0, |feed| feed + 1);
        (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
    }
}

impl Finding {
    /// The thing and the cause, in a sentence without a full stop.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The remedy.
    #[must_use]
    pub fn help(&self) -> &str {
        &self.help
    }

    /// Whether it keeps the router from running; otherwise it is doubtful only.
    #[must_use]
    pub fn is_mistake(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The file, by the name it was read by.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.source.name
    }

    /// The line of the file, from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.source.place(self.span.start).0
    }

    /// The column of the line, in characters, from 1.
    #[must_use]
    pub fn column(&self) -> usize {
        self.source.place(self.span.start).1
    }

    /// Other places that have to do with it: line, column, and what is there.
    pub fn others(&self) -> impl Iterator<Item = (usize, usize, &str)> {
        self.others.iter().map(|(span, label)| {
            let (line, column) = self.source.place(span.start);
            (line, column, label.as_str())
        })
    }

    /// The finding with its lines of the file, for a person.
    #[must_use]
    pub fn render(&self, colours: bool) -> String {
        if self.stands_in_a_long_line() {
            return self.told();
        }
        let mut labels = vec![LabeledSpan::new_primary_with_span(Some(self.label.clone()), self.span.clone())];
        labels.extend(
            self.others.iter().map(|(span, label)| LabeledSpan::new_with_span(Some(label.clone()), span.clone())),
        );
        let diagnostic =
            MietteDiagnostic::new(&self.message).with_severity(self.severity).with_labels(labels).with_help(&self.help);
        let report = Report::new(diagnostic)
            .with_source_code(NamedSource::new(&self.source.name, self.source.text.clone()).with_language("toml"));
        let theme = if colours { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let mut text = String::new();
        match GraphicalReportHandler::new_themed(theme).with_width(110).render_report(&mut text, report.as_ref()) {
            Ok(()) => text,
            Err(fmt::Error) => self.told(),
        }
    }

    /// The finding without its lines of the file.
    fn told(&self) -> String {
        format!("{}:{}: {}\n  help: {}\n", self.source.name, self.line(), self.message, self.help)
    }

    fn stands_in_a_long_line(&self) -> bool {
        let text = &self.source.text;
        let of = |span: &Span| {
            let start = text.get(..span.start).and_then(|before| before.rfind('\n')).map_or(0, |feed| feed + 1);
            let end =
                text.get(span.end..).and_then(|after| after.find('\n')).map_or(text.len(), |feed| span.end + feed);
            end - start
        };
        std::iter::once(&self.span).chain(self.others.iter().map(|(span, _)| span)).any(|span| of(span) > LINE_MAX)
    }
}

impl fmt::Debug for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {} ({})", self.source.name, self.line(), self.message, self.help)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// A finding before it is tied to the file.
struct Note {
    severity: Severity,
    message: String,
    label: String,
    span: Span,
    others: Vec<(Span, String)>,
    help: String,
}

/// Collects findings while a file is read and compiled. Nothing stops at the first one.
#[derive(Default)]
pub struct Findings {
    notes: RefCell<Vec<Note>>,
    secrets: RefCell<Vec<Span>>,
    keys: RefCell<BTreeSet<String>>,
}

impl Findings {
    /// Something that keeps the router from running: the thing and the cause, and the remedy.
    pub fn mistake(&self, span: &Span, message: impl Into<String>, help: impl Into<String>) {
        self.note(Severity::Error, span, "here", &[], message.into(), help.into());
    }

    /// A mistake that two places make together.
    pub fn conflict(&self, span: &Span, other: (&Span, &str), message: impl Into<String>, help: impl Into<String>) {
        self.note(Severity::Error, span, "here", &[other], message.into(), help.into());
    }

    /// Something doubtful.
    pub fn warning(&self, span: &Span, message: impl Into<String>, help: impl Into<String>) {
        self.note(Severity::Warning, span, "here", &[], message.into(), help.into());
    }

    fn note(
        &self,
        severity: Severity,
        span: &Span,
        label: &str,
        others: &[(&Span, &str)],
        message: String,
        help: String,
    ) {
        let others = others.iter().map(|(span, label)| ((*span).clone(), (*label).to_owned())).collect();
        let note = Note { severity, message, label: label.to_owned(), span: span.clone(), others, help };
        self.notes.borrow_mut().push(note);
    }

    /// The bytes of this place must not be shown.
    pub(crate) fn secret(&self, span: &Span) {
        self.secrets.borrow_mut().push(span.clone());
    }

    /// Whether exactly this place must not be shown.
    pub(crate) fn conceals(&self, span: &Span) -> bool {
        self.secrets.borrow().contains(span)
    }

    /// A key was asked for, by its path without the names that the operator chose.
    pub(crate) fn key(&self, path: String) {
        self.keys.borrow_mut().insert(path);
    }

    /// The keys that were asked for.
    #[cfg(test)]
    pub(crate) fn keys(&self) -> BTreeSet<String> {
        self.keys.borrow().clone()
    }

    /// The places that must not be shown.
    pub(crate) fn secrets(&self) -> Vec<Span> {
        self.secrets.borrow().clone()
    }

    /// Whether nothing was found that keeps the router from running.
    pub(crate) fn is_sound(&self) -> bool {
        self.notes.borrow().iter().all(|note| note.severity != Severity::Error)
    }

    /// Ties the findings to the file: the mistakes if there are any, else the warnings.
    pub(crate) fn conclude(self, source: Source) -> Result<Vec<Warning>, ConfigErrors> {
        let source = Arc::new(source);
        let end = source.text.len();
        let mut findings: Vec<Finding> = self
            .notes
            .into_inner()
            .into_iter()
            .map(|note| Finding {
                severity: note.severity,
                message: note.message,
                label: note.label,
                span: note.span.start.min(end)..note.span.end.min(end),
                others: note.others,
                help: note.help,
                source: Arc::clone(&source),
            })
            .collect();
        findings.sort_by_key(|finding| (finding.span.start, finding.span.end));
        let (mistakes, warnings): (Vec<_>, Vec<_>) =
            findings.into_iter().partition(|finding| finding.severity == Severity::Error);
        if mistakes.is_empty() { Ok(warnings) } else { Err(ConfigErrors { mistakes, what: CONFIGURATION }) }
    }
}
