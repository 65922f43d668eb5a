//! `${NAME}` in the strings of a configuration.

use std::collections::BTreeMap;

/// Where variables come from; the process's environment, as a rule. Substitution reads each at most once for each place.
pub trait Variables {
    /// The value of a variable; `None` where it is not set, which is a mistake of the configuration.
    fn get(&self, name: &str) -> Option<String>;
}

impl Variables for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        BTreeMap::get(self, name).cloned()
    }
}

/// A function from names to values is a source of variables.
impl<F: Fn(&str) -> Option<String>> Variables for F {
    fn get(&self, name: &str) -> Option<String> {
        self(name)
    }
}

/// A text whose variables are filled in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Filled {
    /// The text.
    pub(crate) text: String,
    /// Whether a variable was filled in: then the text must not be shown.
    pub(crate) used_variables: bool,
}

/// Why variables could not be filled in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unfilled {
    /// This variable is not set.
    NotSet(String),
    /// Something after `${` is not a name and `}`.
    Malformed,
}

/// Fills in the variables of `text`: `${NAME}` becomes its value, `$${` becomes `${`. What a variable holds is not looked
/// into again. All that is wrong comes back at once.
pub(crate) fn fill(text: &str, variables: &dyn Variables) -> Result<Filled, Vec<Unfilled>> {
    let mut filled = Filled { text: String::with_capacity(text.len()), used_variables: false };
    let mut wrong = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, tail) = rest.split_at(at);
        if let Some(escaped) = before.strip_suffix('$') {
            filled.text.push_str(escaped);
            filled.text.push_str("${");
            rest = &tail[2..];
            continue;
        }
        filled.text.push_str(before);
        let body = &tail[2..];
        match body.find('}').map(|end| (&body[..end], &body[end + 1..])).filter(|(name, _)| is_name(name)) {
            Some((name, after)) => {
                match variables.get(name) {
                    Some(value) => filled.text.push_str(&value),
                    None => wrong.push(Unfilled::NotSet(name.to_owned())),
                }
                filled.used_variables = true;
                rest = after;
            }
            None => {
                wrong.push(Unfilled::Malformed);
                rest = body;
            }
        }
    }
    filled.text.push_str(rest);
    if wrong.is_empty() { Ok(filled) } else { Err(wrong) }
}

/// Whether the text is one variable and nothing else: it says which value is meant, and nothing of the value.
pub(crate) fn is_reference(text: &str) -> bool {
    text.strip_prefix("${").and_then(|text| text.strip_suffix('}')).is_some_and(is_name)
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<(String, bool), Vec<Unfilled>> {
        let variables = |name: &str| (name == "A").then(|| "${B}".to_owned());
        fill(text, &variables).map(|filled| (filled.text, filled.used_variables))
    }

    #[test]
    fn variables_are_filled_in_once_and_escapes_stay() {
        assert_eq!(filled("x${A}y"), Ok(("x${B}y".to_owned(), true)));
        assert_eq!(filled("$${A} $5 $"), Ok(("${A} $5 $".to_owned(), false)));
        assert_eq!(filled("$$${A}"), Ok(("$${A}".to_owned(), false)));
        assert_eq!(
            filled("${NO}${A}${}${1}${"),
            Err(vec![Unfilled::NotSet("NO".to_owned()), Unfilled::Malformed, Unfilled::Malformed, Unfilled::Malformed])
        );
    }
}
