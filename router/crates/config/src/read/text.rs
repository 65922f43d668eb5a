//! Strings, and the variables in them.

use super::Field;
use crate::findings::Span;
use crate::variables::{Filled, Unfilled, Variables, fill, is_reference};

/// A string of a TOML file, its variables filled in.
pub struct Text {
    /// The string.
    pub value: String,
    /// As it may be shown: as it is written in the file.
    pub shown: String,
    /// Whether it came out of a variable.
    pub from_variable: bool,
    /// Where it is, in bytes.
    pub span: Span,
}

impl Field<'_> {
    /// A string, with its variables filled in.
    pub fn text(&self, example: &str) -> Option<Text> {
        self.text_with(self.reading.variables, example)
    }

    /// A string, with these variables filled in.
    pub(crate) fn text_with(&self, variables: &dyn Variables, example: &str) -> Option<Text> {
        let Some(written) = self.value.as_str() else {
            self.wrong_type("a string", format!("write it in quotes, such as {example}"));
            return None;
        };
        self.filled(written, &self.span, variables).map(|filled| Text {
            value: filled.text,
            shown: written.to_owned(),
            from_variable: filled.used_variables,
            span: self.span.clone(),
        })
    }

    /// Fills in the variables of a string of this value, at this place; what is wrong is noted.
    pub(crate) fn filled(&self, written: &str, place: &Span, variables: &dyn Variables) -> Option<Filled> {
        let wrong = match fill(written, variables) {
            Ok(filled) => return Some(filled),
            Err(wrong) => wrong,
        };
        // In a secret, what looks like the name of a variable may be a part of a password.
        let may_show = is_reference(written) || !self.findings().conceals(place);
        for unfilled in wrong {
            let (cause, remedy) = explain(&unfilled, may_show);
            self.findings().mistake(place, format!("{} {cause}", self.title()), remedy);
        }
        None
    }

    /// Where a part of this string is in the file: exact where the string is written as it is read, else all of it.
    pub(crate) fn place_of(&self, text: &Text, part: Option<&Span>) -> Span {
        let written = self.reading.text.get(self.span.clone()).unwrap_or_default();
        let quote = ["'''\n", "\"\"\"\n", "'''", "\"\"\"", "'", "\""].into_iter().find(|quote| {
            let closing = quote.trim_end();
            written.strip_prefix(quote).and_then(|body| body.strip_suffix(closing)) == Some(&text.value)
        });
        match (quote, part) {
            (Some(quote), Some(part)) => {
                let start = self.span.start + quote.len();
                start + part.start..start + part.end.max(part.start + 1).min(text.value.len().max(part.start))
            }
            _ => self.span.clone(),
        }
    }
}

/// What keeps a variable from being filled in, and the remedy.
fn explain(unfilled: &Unfilled, may_show: bool) -> (String, String) {
    let not_set = |cause: String, name: &str| {
        (cause, format!("set {name} in the environment of the process, or write `$${{` for a plain `${{`"))
    };
    match unfilled {
        Unfilled::NotSet(name) if may_show => not_set(format!("needs the variable {name}, which is not set"), name),
        Unfilled::NotSet(_) => not_set("needs a variable that is not set".to_owned(), "it"),
        Unfilled::Malformed => (
            "has a `${` without a variable's name and `}` behind it".to_owned(),
            "write `${NAME}` for a variable, or `$${` for a plain `${`".to_owned(),
        ),
    }
}
