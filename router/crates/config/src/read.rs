//! Reads TOML tables tolerantly: a key that is unknown, missing, of the wrong type or out of range is noted with its
//! place, and reading goes on, so that one look shows all that is wrong.
//!
//! (The serde reader of the toml crate stops at the first mistake.)

mod admin;
mod broker;
mod conceal;
mod feeds;
mod plugins;
mod router;
mod routes;
mod telemetry;
mod text;

pub use broker::refused_properties;
pub use text::Text;

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::findings::{Findings, Span};
use crate::names::suggest;
use crate::raw::{At, Raw};
use crate::units::{parse_duration, parse_size, show_duration, show_size};
use crate::variables::Variables;

/// What every reader needs.
pub(crate) struct Reading<'t> {
    /// What messages call the file: "the configuration".
    pub(crate) what: &'static str,
    /// The file.
    pub(crate) text: &'t str,
    /// Values of `${NAME}`.
    pub(crate) variables: &'t dyn Variables,
    /// Collects what is wrong.
    pub(crate) findings: &'t Findings,
}

/// Parses a file; what is wrong with its syntax is noted.
pub(crate) fn parse<'t>(text: &'t str, findings: &Findings) -> Option<Spanned<DeTable<'t>>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let remedy = "correct the TOML; what it means is only looked at after that (values are starred, since any may be a secret)";
        findings.mistake(&error.span().unwrap_or(0..0), format!("this is not TOML: {}", error.message()), remedy);
    }
    errors.is_empty().then_some(document)
}

/// Reads the whole document. What could not be read is absent in the answer, or has its default; it was noted.
pub(crate) fn document<'t>(reading: &'t Reading<'t>, document: &'t Spanned<DeTable<'t>>) -> Raw {
    conceal::conceal_named(reading.findings, document.get_ref());
    let top = Table::top(reading, document);
    if let Some(version) = top.required("version", "write `version = 1` at the top of the file")
        && let Some(number) = version.integer(0..=u64::MAX)
        && number != 1
    {
        reading.findings.mistake(
            &version.span,
            format!("version {number} of the configuration is not known"),
            "this program reads `version = 1`",
        );
    }
    let raw = Raw {
        router: router::read(&top),
        broker: broker::read(&top),
        plugins: plugins::read(&top),
        routes: routes::read(&top),
        feeds: feeds::read(&top),
        admin: admin::read(&top),
        telemetry: telemetry::read(&top),
    };
    top.finish();
    raw
}

/// A table of a TOML file, and which of its keys were asked for.
pub struct Table<'t> {
    reading: &'t Reading<'t>,
    /// As messages name it: `routes.orders.retry`; empty for the whole document.
    path: String,
    /// As the reference names it, without what the operator chose: `routes.retry`.
    pattern: String,
    /// Where the table is, in bytes; empty for the whole document.
    pub span: Span,
    entries: &'t DeTable<'t>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'t> Table<'t> {
    /// The whole document.
    pub(crate) fn top(reading: &'t Reading<'t>, document: &'t Spanned<DeTable<'t>>) -> Self {
        let entries = document.get_ref();
        Self { reading, path: String::new(), pattern: String::new(), span: 0..0, entries, asked: RefCell::default() }
    }

    /// The value of a key, where it is there.
    pub fn get(&self, key: &'static str) -> Option<Field<'t>> {
        self.asked.borrow_mut().push(key);
        self.reading.findings.key(join(&self.pattern, key));
        self.entries.get_key_value(key).map(|(name, value)| self.field(name, value, join(&self.pattern, key)))
    }

    /// The value of a key that must be there; `remedy` says what to write.
    pub fn required(&self, key: &'static str, remedy: &str) -> Option<Field<'t>> {
        let field = self.get(key);
        if field.is_none() {
            self.findings().mistake(&self.span, format!("{} lacks `{key}`", self.title()), remedy);
        }
        field
    }

    /// All entries, for a table whose keys the operator chooses. `pattern` is what the reference calls each of them.
    pub fn entries(&self, pattern: &str) -> Vec<(&'t str, Field<'t>)> {
        let entries = self.entries.iter();
        entries
            .map(|(name, value)| (name.get_ref().as_ref(), self.field(name, value, join(&self.pattern, pattern))))
            .collect()
    }

    /// Notes every key that was not asked for. A table that is read and not finished lets misspelt keys pass.
    pub fn finish(self) {
        let asked = self.asked.borrow();
        for (name, value) in self.entries.iter().filter(|(name, _)| !asked.contains(&name.get_ref().as_ref())) {
            // It may be a misspelt key of a secret.
            conceal::conceal_value(self.findings(), value.get_ref(), &value.span());
            let key = name.get_ref();
            let remedy = suggest(key, asked.iter().copied());
            self.findings().mistake(&name.span(), format!("{} has no key `{key}`", self.title()), remedy);
        }
    }

    /// What messages call it.
    #[must_use]
    pub fn title(&self) -> String {
        if self.path.is_empty() { self.reading.what.to_owned() } else { format!("`{}`", self.path) }
    }

    /// Where to note what is wrong.
    #[must_use]
    pub const fn findings(&self) -> &'t Findings {
        self.reading.findings
    }

    fn field(
        &self,
        name: &'t Spanned<std::borrow::Cow<'t, str>>,
        value: &'t Spanned<DeValue<'t>>,
        pattern: String,
    ) -> Field<'t> {
        Field {
            reading: self.reading,
            path: join(&self.path, name.get_ref()),
            pattern,
            key_span: name.span(),
            span: value.span(),
            value: value.get_ref(),
        }
    }
}

/// A value of a TOML file, under its key.
pub struct Field<'t> {
    reading: &'t Reading<'t>,
    path: String,
    pattern: String,
    /// Where its key is, in bytes.
    pub key_span: Span,
    /// Where the value is, in bytes.
    pub span: Span,
    /// The value.
    pub value: &'t DeValue<'t>,
}

impl<'t> Field<'t> {
    /// What messages call it.
    #[must_use]
    pub fn title(&self) -> String {
        format!("`{}`", self.path)
    }

    /// Where to note what is wrong.
    #[must_use]
    pub const fn findings(&self) -> &'t Findings {
        self.reading.findings
    }

    /// A mistake in this value.
    pub fn wrong(&self, cause: &str, remedy: impl Into<String>) {
        self.findings().mistake(&self.span, format!("{} {cause}", self.title()), remedy);
    }

    /// Notes that the value has the wrong type.
    pub fn wrong_type(&self, wanted: &str, remedy: impl Into<String>) {
        self.wrong(&format!("must be {wanted}, not {}", type_name(self.value)), remedy);
    }

    /// A string that is one of these.
    pub fn choice<T: Copy>(&self, choices: &[(&'static str, T)]) -> Option<T> {
        let text = self.text(&format!("{:?}", choices.first().map_or("", |(name, _)| name)))?;
        let found = choices.iter().find(|(name, _)| *name == text.value).map(|(_, value)| *value);
        if found.is_none() {
            let remedy = suggest(&text.shown, choices.iter().map(|(name, _)| *name));
            self.wrong(&format!("can't be {:?}", text.shown), remedy);
        }
        found
    }

    /// A whole number in this range.
    pub fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let limits = || match *range.end() {
            u64::MAX => format!("a whole number of at least {}", range.start()),
            end => format!("a whole number from {} to {end}", range.start()),
        };
        let DeValue::Integer(integer) = self.value else {
            self.wrong_type("a whole number", format!("write {} without quotes", limits()));
            return None;
        };
        let number =
            i128::from_str_radix(integer.as_str(), integer.radix()).ok().and_then(|number| u64::try_from(number).ok());
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            self.wrong("is out of range", format!("it takes {}", limits()));
        }
        number
    }

    /// A number in this range.
    pub fn number(&self, range: RangeInclusive<f64>) -> Option<f64> {
        let number = match self.value {
            DeValue::Float(float) => float.as_str().parse::<f64>().ok(),
            DeValue::Integer(integer) => i32::from_str_radix(integer.as_str(), integer.radix()).ok().map(f64::from),
            _ => {
                self.wrong_type("a number", format!("write a number from {} to {}", range.start(), range.end()));
                return None;
            }
        };
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            self.wrong("is out of range", format!("it takes a number from {} to {}", range.start(), range.end()));
        }
        number
    }

    /// `true` or `false`.
    pub fn boolean(&self) -> Option<bool> {
        let boolean = self.value.as_bool();
        if boolean.is_none() {
            self.wrong_type("true or false", "write `true` or `false` without quotes");
        }
        boolean
    }

    /// A duration in this range.
    pub fn duration(&self, range: RangeInclusive<Duration>) -> Option<At<Duration>> {
        self.measure(
            "a duration with its unit",
            "\"50ms\", \"10s\" or \"1h 30m\"",
            range,
            parse_duration,
            show_duration,
        )
    }

    /// A size in bytes in this range.
    pub fn size(&self, range: RangeInclusive<u64>) -> Option<At<u64>> {
        self.measure("a size with its unit", "\"64MiB\", \"512KiB\" or \"100B\"", range, parse_size, show_size)
    }

    fn measure<T: PartialOrd + Copy>(
        &self,
        what: &str,
        examples: &str,
        range: RangeInclusive<T>,
        parse: impl Fn(&str) -> Option<T>,
        show: impl Fn(T) -> String,
    ) -> Option<At<T>> {
        if !self.value.is_str() {
            self.wrong_type(what, format!("write it in quotes, such as {examples}"));
            return None;
        }
        let text = self.text(examples)?;
        let Some(value) = parse(&text.value) else {
            self.wrong(&format!("is not {what}: {:?}", text.shown), format!("write it such as {examples}"));
            return None;
        };
        if !range.contains(&value) {
            let remedy = format!("it takes \"{}\" to \"{}\"", show(*range.start()), show(*range.end()));
            self.wrong("is out of range", remedy);
            return None;
        }
        Some(At { value, span: self.span.clone() })
    }

    /// A table.
    pub fn table(&self) -> Option<Table<'t>> {
        let Some(entries) = self.value.as_table() else {
            self.wrong_type("a table", format!("write a table: [{}] or {} = {{ … }}", self.pattern, last(&self.path)));
            return None;
        };
        // The span of a table that has a header is the header's alone; of one made by dotted keys, a key's.
        let span = if self.span.is_empty() { self.key_span.clone() } else { self.span.clone() };
        Some(Table {
            reading: self.reading,
            path: self.path.clone(),
            pattern: self.pattern.clone(),
            span,
            entries,
            asked: RefCell::default(),
        })
    }

    /// The elements of an array. They share its path.
    pub fn array(&self, remedy: &str) -> Option<Vec<Self>> {
        let Some(elements) = self.value.as_array() else {
            self.wrong_type("an array", remedy);
            return None;
        };
        let elements = elements.iter().map(|element| Self {
            reading: self.reading,
            path: self.path.clone(),
            pattern: self.pattern.clone(),
            key_span: element.span(),
            span: element.span(),
            value: element.get_ref(),
        });
        Some(elements.collect())
    }

    /// Gives the value another name in messages: of an array's element, the name that its own table has.
    pub fn called(mut self, path: String) -> Self {
        self.path = path;
        self
    }
}

/// A value's type, as messages name it.
fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}
