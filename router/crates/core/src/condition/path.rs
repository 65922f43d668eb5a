//! Names of what is in an event, spelt as conditions spell it: `key`, `headers["x-token"]`, `value.card.number`.

use std::fmt;

use cel::Env;
use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators};

use super::check::{PARSER_DEPTH, syntax_error};
use super::{Condition, ConditionError};

/// Something that an event has, or may have.
#[derive(Clone, PartialEq, Eq)]
pub enum FieldPath {
    /// The key.
    Key,
    /// All headers.
    Headers,
    /// The headers of this name.
    Header(Box<str>),
    /// The member of the value's JSON at the end of these names, each of an object in the one before; without names, the whole value.
    Value(Vec<Box<str>>),
}

impl FieldPath {
    /// Most names of one path.
    pub const MAX_NAMES: usize = 32;

    /// Reads `key`, `headers`, `headers.NAME`, `value`, or `value.NAME.NAME`; what is no identifier is written `["NAME"]`.
    ///
    /// # Errors
    /// [`ConditionError`]: the text is something else.
    pub fn parse(text: &str) -> Result<Self, ConditionError> {
        let form = "write `key`, `headers.NAME` or `value.NAME.NAME`, and `[\"NAME\"]` for a name that is not made of letters and digits";
        let fault =
            |message: String| ConditionError { message, span: Some(0..text.len()), help: Some(form.to_owned()) };
        if text.len() > Condition::MAX_BYTES {
            return Err(fault(format!("it has {} bytes, and {} are allowed", text.len(), Condition::MAX_BYTES)));
        }
        let parser = Env::stdlib().parser().enable_optional_syntax(false).max_recursion_depth(PARSER_DEPTH);
        let expression = parser
            .parse(text)
            .map_err(|errors| ConditionError { help: Some(form.to_owned()), ..syntax_error(text, &errors) })?;
        let mut names = Vec::new();
        let root = root(&expression, &mut names).ok_or_else(|| fault("it names no field of an event".to_owned()))?;
        names.reverse();
        if names.len() > Self::MAX_NAMES {
            return Err(fault(format!("it has {} names, and {} are allowed", names.len(), Self::MAX_NAMES)));
        }
        match (root, names.len()) {
            ("key", 0) => Ok(Self::Key),
            ("key", _) => Err(fault("the key has no fields".to_owned())),
            ("headers", 0) => Ok(Self::Headers),
            ("headers", 1) => Ok(Self::Header(names.remove(0))),
            ("headers", _) => Err(fault("a header has no fields".to_owned())),
            ("value", _) => Ok(Self::Value(names)),
            (other, _) => {
                Err(fault(format!("it begins with `{other}`, and there is only `key`, `headers` and `value`")))
            }
        }
    }
}

/// What the path begins with; its names are the last first.
fn root<'a>(mut expression: &'a IdedExpr, names: &mut Vec<Box<str>>) -> Option<&'a str> {
    loop {
        let (name, of) = match &expression.expr {
            Expr::Ident(name) => return Some(name),
            Expr::Select(SelectExpr { operand, field, test: false }) => (field.as_str(), &**operand),
            Expr::Call(CallExpr { func_name, target: None, args }) if func_name == operators::INDEX => {
                match &args[..] {
                    [of, IdedExpr { expr: Expr::Literal(LiteralValue::String(name)), .. }] => (name.inner(), of),
                    _ => return None,
                }
            }
            _ => return None,
        };
        names.push(name.into());
        expression = of;
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |f: &mut fmt::Formatter<'_>, name: &str| {
            let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if is_plain && !name.starts_with(|first: char| first.is_ascii_digit()) {
                write!(f, ".{name}")
            } else {
                write!(f, "[{name:?}]")
            }
        };
        match self {
            Self::Key => f.write_str("key"),
            Self::Headers => f.write_str("headers"),
            Self::Header(header) => {
                f.write_str("headers")?;
                name(f, header)
            }
            Self::Value(names) => {
                f.write_str("value")?;
                names.iter().try_for_each(|member| name(f, member))
            }
        }
    }
}

impl fmt::Debug for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::FieldPath;

    #[test]
    fn paths_are_spelt_as_conditions_spell_them() {
        for (text, shown) in [
            ("key", "key"),
            ("headers", "headers"),
            ("headers.authorization", "headers.authorization"),
            ("headers['x-api-key']", "headers[\"x-api-key\"]"),
            ("value", "value"),
            (" value.card.number ", "value.card.number"),
            ("value[\"card no\"].number", "value[\"card no\"].number"),
            ("value['0'].a", "value[\"0\"].a"),
        ] {
            assert_eq!(FieldPath::parse(text).unwrap().to_string(), shown, "{text}");
        }
        assert_eq!(FieldPath::parse("value.a.b"), Ok(FieldPath::Value(vec!["a".into(), "b".into()])));
        assert_eq!(FieldPath::parse("value[\"\"]"), Ok(FieldPath::Value(vec!["".into()])));
    }

    #[test]
    fn what_is_no_path_is_refused_with_the_form_of_one() {
        let long = format!("value{}", ".a".repeat(FieldPath::MAX_NAMES + 1));
        for text in [
            "",
            "card",
            "topic",
            "key.a",
            "headers.a.b",
            "value.",
            "value[0]",
            "value.a[key]",
            "has(value.a)",
            "value.a == 1",
            "'value'",
            "value.a.size()",
            "value.in",
            &long,
        ] {
            let error = FieldPath::parse(text).unwrap_err();
            assert!(error.help.unwrap().contains("`headers.NAME`"), "{text}");
        }
    }
}
