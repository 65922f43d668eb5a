//! JSON values: as equal as JSON means it, and where they differ.

use serde_json::{Number, Value};

/// A difference of two values.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// Where: `.lines[2].price`; empty for the whole value.
    pub(super) path: String,
    /// JSON text; `None` where it is not there.
    pub(super) expected: Option<String>,
    pub(super) got: Option<String>,
}

/// Where `got` is not what was expected. The order of names in objects does not matter, nor how a number is written.
pub(super) fn differences(expected: &Value, got: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    walk(String::new(), Some(expected), Some(got), &mut found);
    found
}

fn walk(path: String, expected: Option<&Value>, got: Option<&Value>, found: &mut Vec<Difference>) {
    match (expected, got) {
        (Some(Value::Object(expected)), Some(Value::Object(got))) => {
            for (name, value) in expected {
                walk(format!("{path}.{name}"), Some(value), got.get(name), found);
            }
            for (name, value) in got.iter().filter(|(name, _)| !expected.contains_key(*name)) {
                walk(format!("{path}.{name}"), None, Some(value), found);
            }
        }
        (Some(Value::Array(expected)), Some(Value::Array(got))) => {
            for index in 0..expected.len().max(got.len()) {
                walk(format!("{path}[{index}]"), expected.get(index), got.get(index), found);
            }
        }
        (Some(Value::Number(expected)), Some(Value::Number(got))) if same_number(expected, got) => {}
        (expected, got) if expected == got => {}
        (expected, got) => {
            found.push(Difference { path, expected: expected.map(Value::to_string), got: got.map(Value::to_string) })
        }
    }
}

fn same_number(left: &Number, right: &Number) -> bool {
    match (left.is_f64(), right.is_f64()) {
        (false, false) => left == right,
        _ => left.as_f64() == right.as_f64(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Difference, differences};

    #[test]
    fn numbers_are_equal_however_they_are_written_and_names_have_no_order() {
        assert_eq!(differences(&json!({"a": 1, "b": [2.0]}), &json!({"b": [2], "a": 1.0})), []);
        assert_eq!(differences(&json!(9_007_199_254_740_993_i64), &json!(9_007_199_254_740_992_i64)).len(), 1);
    }

    #[test]
    fn each_difference_has_its_path() {
        let found = differences(&json!({"a": {"b": [1, 2]}, "c": null}), &json!({"a": {"b": [1, "2", 3]}, "d": true}));
        let difference = |path: &str, expected: Option<&str>, got: Option<&str>| Difference {
            path: path.into(),
            expected: expected.map(Into::into),
            got: got.map(Into::into),
        };
        assert_eq!(
            found,
            [
                difference(".a.b[1]", Some("2"), Some("\"2\"")),
                difference(".a.b[2]", None, Some("3")),
                difference(".c", Some("null"), None),
                difference(".d", None, Some("true")),
            ]
        );
    }
}
