//! The types of CEL as far as they are known without an event, and what operators and functions take.

use cel::common::ast::operators;

/// A type. [`Dyn`](Self::Dyn) is one that only the event decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    List,
    Map,
    Timestamp,
    Duration,
    /// A type as a value, as in `type(value.id) == string`.
    Kind,
}

use Type::{Bool, Bytes, Double, Duration, Dyn, Int, List, Map, Null, String, Timestamp, Uint};

impl Type {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Dyn => "a value of any type",
            Null => "null",
            Bool => "bool",
            Int => "int",
            Uint => "uint",
            Double => "double",
            String => "string",
            Bytes => "bytes",
            List => "list",
            Map => "map",
            Timestamp => "timestamp",
            Duration => "duration",
            Self::Kind => "a type",
        }
    }

    /// Whether a value of this type can be of one of `these`.
    pub(super) fn is(self, these: &[Self]) -> bool {
        self == Dyn || these.contains(&self)
    }

    const fn is_number(self) -> bool {
        matches!(self, Int | Uint | Double)
    }
}

/// What a condition speaks of.
#[derive(Debug)]
pub(super) struct Subject {
    /// What it is called, such as `an event`.
    pub(super) name: &'static str,
    /// What it is made of.
    pub(super) variables: &'static [(&'static str, Type)],
}

pub(super) static EVENT: Subject = Subject {
    name: "an event",
    variables: &[
        ("topic", String),
        ("partition", Int),
        ("offset", Int),
        ("timestamp", Timestamp),
        ("key", Dyn),
        ("headers", Map),
        ("attempt", Int),
        ("value", Dyn),
    ],
};

pub(super) static DEAD_LETTER: Subject = Subject {
    name: "a dead letter",
    variables: &[
        ("topic", String),
        ("partition", Int),
        ("offset", Int),
        ("timestamp", Timestamp),
        ("key", Dyn),
        ("headers", Map),
        ("attempt", Int),
        ("value", Dyn),
        ("writer", String),
        ("route", String),
        ("stage", String),
        ("plugin_sha256", String),
        ("class", String),
        ("code", String),
        ("message", String),
        ("first_failed", Timestamp),
        ("last_failed", Timestamp),
        ("replays", Int),
        ("deferred", Bool),
        ("truncated", Bool),
    ],
};

/// Types that can be named, as in `type(value.id) == string`.
pub(super) const TYPE_NAMES: [&str; 10] =
    ["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"];

/// One way to call a function.
pub(super) struct Overload {
    name: &'static str,
    is_method: bool,
    /// What each argument can be, the receiver first.
    arguments: &'static [&'static [Type]],
    result: Type,
}

impl Overload {
    pub(super) fn takes(&self, arguments: &[Type]) -> bool {
        self.arguments.len() == arguments.len()
            && self.arguments.iter().zip(arguments).all(|(these, argument)| argument.is(these))
    }

    pub(super) const fn result(&self) -> Type {
        self.result
    }
}

const fn function(name: &'static str, arguments: &'static [&'static [Type]], result: Type) -> Overload {
    Overload { name, is_method: false, arguments, result }
}

const fn method(name: &'static str, arguments: &'static [&'static [Type]], result: Type) -> Overload {
    Overload { name, is_method: true, arguments, result }
}

const ANY: &[Type] = &[Null, Bool, Int, Uint, Double, String, Bytes, List, Map, Timestamp, Duration, Type::Kind];
const SIZED: &[Type] = &[String, Bytes, List, Map];
const NUMERIC: &[Type] = &[Int, Uint, Double, String];
const CLOCKED: &[Type] = &[Timestamp, Duration];

/// Every function there is.
const FUNCTIONS: &[Overload] = &[
    function("bool", &[&[Bool, String]], Bool),
    function("bytes", &[&[Bytes, String]], Bytes),
    function("double", &[NUMERIC], Double),
    function("duration", &[&[String, Duration]], Duration),
    function("dyn", &[ANY], Dyn),
    function("int", &[&[Int, Uint, Double, String, Timestamp]], Int),
    function("matches", &[&[String], &[String]], Bool),
    function("size", &[SIZED], Int),
    function("string", &[&[String, Bool, Int, Uint, Double, Bytes, Timestamp, Duration]], String),
    function("timestamp", &[&[String, Int, Timestamp]], Timestamp),
    function("type", &[ANY], Type::Kind),
    function("uint", &[NUMERIC], Uint),
    method("contains", &[&[String], &[String]], Bool),
    method("endsWith", &[&[String], &[String]], Bool),
    method("matches", &[&[String], &[String]], Bool),
    method("size", &[SIZED], Int),
    method("startsWith", &[&[String], &[String]], Bool),
    method("getDate", &[&[Timestamp]], Int),
    method("getDate", &[&[Timestamp], &[String]], Int),
    method("getDayOfMonth", &[&[Timestamp]], Int),
    method("getDayOfMonth", &[&[Timestamp], &[String]], Int),
    method("getDayOfWeek", &[&[Timestamp]], Int),
    method("getDayOfWeek", &[&[Timestamp], &[String]], Int),
    method("getDayOfYear", &[&[Timestamp]], Int),
    method("getDayOfYear", &[&[Timestamp], &[String]], Int),
    method("getFullYear", &[&[Timestamp]], Int),
    method("getFullYear", &[&[Timestamp], &[String]], Int),
    method("getHours", &[CLOCKED], Int),
    method("getHours", &[&[Timestamp], &[String]], Int),
    method("getMilliseconds", &[CLOCKED], Int),
    method("getMilliseconds", &[&[Timestamp], &[String]], Int),
    method("getMinutes", &[CLOCKED], Int),
    method("getMinutes", &[&[Timestamp], &[String]], Int),
    method("getMonth", &[&[Timestamp]], Int),
    method("getMonth", &[&[Timestamp], &[String]], Int),
    method("getSeconds", &[CLOCKED], Int),
    method("getSeconds", &[&[Timestamp], &[String]], Int),
];

/// Macros, which are gone when types are checked, unless they were called with too many or too few arguments.
const MACROS: [&str; 6] = ["all", "exists", "exists_one", "filter", "has", "map"];

/// The ways to call a function of this name.
pub(super) fn functions(name: &str, is_method: bool) -> Vec<&'static Overload> {
    FUNCTIONS.iter().filter(|overload| overload.name == name && overload.is_method == is_method).collect()
}

/// The names of all functions and macros.
pub(super) fn function_names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().map(|overload| overload.name).chain(MACROS)
}

/// How an operator is written, by the name that the parser gives it.
pub(super) fn operator(name: &str) -> Option<&'static str> {
    Some(match name {
        operators::CONDITIONAL => "? :",
        operators::LOGICAL_AND => "&&",
        operators::LOGICAL_OR => "||",
        operators::LOGICAL_NOT => "!",
        operators::SUBSTRACT | operators::NEGATE => "-",
        operators::ADD => "+",
        operators::MULTIPLY => "*",
        operators::DIVIDE => "/",
        operators::MODULO => "%",
        operators::EQUALS => "==",
        operators::NOT_EQUALS => "!=",
        operators::GREATER_EQUALS => ">=",
        operators::LESS_EQUALS => "<=",
        operators::GREATER => ">",
        operators::LESS => "<",
        operators::INDEX => "[ ]",
        operators::IN => "in",
        operators::NOT_STRICTLY_FALSE => "a macro",
        _ => return None,
    })
}

/// The result of an operator; `None` where it does not take these types.
pub(super) fn apply(name: &str, arguments: &[Type]) -> Option<Type> {
    match (name, arguments) {
        (operators::LOGICAL_NOT | operators::NOT_STRICTLY_FALSE, &[one]) => one.is(&[Bool]).then_some(Bool),
        (operators::NEGATE, &[one]) => one.is(&[Int, Double]).then_some(one),
        (operators::CONDITIONAL, &[test, one, other]) => {
            test.is(&[Bool]).then_some(if one == other { one } else { Dyn })
        }
        (operators::LOGICAL_AND | operators::LOGICAL_OR, &[one, other]) => {
            (one.is(&[Bool]) && other.is(&[Bool])).then_some(Bool)
        }
        (operators::EQUALS | operators::NOT_EQUALS, &[one, other]) => can_be_equal(one, other).then_some(Bool),
        (operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS, &[one, other]) => {
            can_be_ordered(one, other).then_some(Bool)
        }
        (operators::IN, &[_, container]) => container.is(&[List, Map]).then_some(Bool),
        (operators::INDEX, &[container, index]) => can_index(container, index).then_some(Dyn),
        (_, &[one, other]) => arithmetic(name, one, other),
        _ => None,
    }
}

/// What may help where an operator does not take these types.
pub(super) fn operator_help(name: &str, arguments: &[Type]) -> Option<&'static str> {
    match name {
        operators::EQUALS | operators::NOT_EQUALS => Some("values of these types are never equal"),
        operators::IN => Some("the right side must be a list or a map"),
        _ if arguments.iter().all(|of| of.is_number()) => Some("convert one side, as in `double(attempt) * 1.5`"),
        _ => None,
    }
}

/// Values of different types are equal only as numbers; null can be compared with everything.
fn can_be_equal(one: Type, other: Type) -> bool {
    one == other || one.is(&[Null]) || other.is(&[Null]) || (one.is_number() && other.is_number())
}

fn can_be_ordered(one: Type, other: Type) -> bool {
    const ORDERED: &[Type] = &[Bool, Int, Uint, Double, String, Bytes, Timestamp, Duration];
    one.is(ORDERED)
        && other.is(ORDERED)
        && (one == other || one == Dyn || other == Dyn || (one.is_number() && other.is_number()))
}

fn can_index(container: Type, index: Type) -> bool {
    match container {
        List => index.is(&[Int, Uint, Double]),
        Map => index.is(&[String, Bool, Int, Uint, Double]),
        Dyn => index.is(&[String, Bool, Int, Uint, Double]),
        _ => false,
    }
}

fn arithmetic(name: &str, one: Type, other: Type) -> Option<Type> {
    let allowed: &[(Type, Type, Type)] = match name {
        operators::ADD => &[
            (Int, Int, Int),
            (Uint, Uint, Uint),
            (Double, Double, Double),
            (String, String, String),
            (Bytes, Bytes, Bytes),
            (List, List, List),
            (Timestamp, Duration, Timestamp),
            (Duration, Timestamp, Timestamp),
            (Duration, Duration, Duration),
        ],
        operators::SUBSTRACT => &[
            (Int, Int, Int),
            (Uint, Uint, Uint),
            (Double, Double, Double),
            (Timestamp, Timestamp, Duration),
            (Timestamp, Duration, Timestamp),
            (Duration, Duration, Duration),
        ],
        operators::MULTIPLY | operators::DIVIDE => &[(Int, Int, Int), (Uint, Uint, Uint), (Double, Double, Double)],
        operators::MODULO => &[(Int, Int, Int), (Uint, Uint, Uint)],
        _ => return None,
    };
    let mut results =
        allowed.iter().filter(|(left, right, _)| one.is(&[*left]) && other.is(&[*right])).map(|row| row.2);
    let first = results.next()?;
    Some(if results.all(|result| result == first) { first } else { Dyn })
}
