//! What can be known of a condition without an event: its names, the types that do not depend on the event, and how much
//! work it can be.

use std::ops::Range;

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, MapExpr, SelectExpr, SourceInfo,
};
use cel::{Env, ParseErrors};

use super::typing::{self, Subject, Type};
use super::{Condition, ConditionError};

/// Deepest nesting of brackets that the parser follows. Chains of operators it builds as deep as they are long: there
/// [`Condition::MAX_BYTES`] keeps it off the end of a thread's stack.
pub(super) const PARSER_DEPTH: u16 = 32;

/// A condition that was checked.
pub(super) struct Checked {
    pub(super) expression: IdedExpr,
    pub(super) reads_value: bool,
}

/// Parses and checks the text of a condition on `subject`.
pub(super) fn check(text: &str, subject: &'static Subject) -> Result<Checked, ConditionError> {
    if text.len() > Condition::MAX_BYTES {
        let message = format!("it has {} bytes, and {} are allowed", text.len(), Condition::MAX_BYTES);
        return Err(ConditionError {
            message,
            span: None,
            help: Some("split it over several stages or outputs".to_owned()),
        });
    }
    let parser = Env::stdlib().parser().enable_optional_syntax(false).max_recursion_depth(PARSER_DEPTH);
    let (expression, places) = parser.parse_with_source_info(text).map_err(|errors| syntax_error(text, &errors))?;
    let mut checker = Checker { text, subject, places: &places, scope: Vec::new(), loops: 0, reads_value: false };
    let result = checker.type_of(&expression, 1)?;
    if !result.is(&[Type::Bool]) {
        let message = format!("its result is {}, not bool", result.name());
        let help = "compare it with something, such as `topic == \"orders\"`".to_owned();
        return Err(ConditionError { message, span: Some(0..text.len()), help: Some(help) });
    }
    Ok(Checked { reads_value: checker.reads_value, expression })
}

pub(super) fn syntax_error(text: &str, errors: &ParseErrors) -> ConditionError {
    let Some(first) = errors.errors.first() else {
        return ConditionError { message: "it is not CEL".to_owned(), span: None, help: None };
    };
    // Lines and columns count from 1, columns in characters.
    let (line, column) = (usize::try_from(first.pos.0).unwrap_or(0), usize::try_from(first.pos.1).unwrap_or(0));
    let line_start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let rest = text.get(line_start..).unwrap_or_default();
    let start = line_start + rest.chars().take(column.saturating_sub(1)).map(char::len_utf8).sum::<usize>();
    let end = start + text.get(start..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
    let (message, help) = syntax_words(&first.msg);
    ConditionError { message: format!("it is not CEL: {message}"), span: Some(start..end), help }
}

/// The first of the parser's own words, which may go on for lines of what it expected instead.
fn syntax_words(message: &str) -> (String, Option<String>) {
    let words = message.lines().next().unwrap_or_default().trim_start_matches("Syntax error: ");
    let words = words.split(" expecting ").next().unwrap_or(words);
    if words.contains("Recursion limit") {
        return ("it is nested too deeply".to_owned(), Some("split it over several stages or outputs".to_owned()));
    }
    if words.contains("<EOF>") {
        return ("it ends where more is needed".to_owned(), None);
    }
    if let Some(found) = words.strip_prefix("token recognition error at: ") {
        let help = found.starts_with("'=").then(|| "`==` compares".to_owned());
        return (format!("there is no place for {found}"), help);
    }
    (words.to_owned(), None)
}

struct Checker<'c> {
    text: &'c str,
    subject: &'static Subject,
    places: &'c SourceInfo,
    /// Variables of the loops around, the innermost last.
    scope: Vec<(String, Type)>,
    /// Loops around.
    loops: usize,
    reads_value: bool,
}

impl Checker<'_> {
    fn type_of(&mut self, expression: &IdedExpr, depth: usize) -> Result<Type, ConditionError> {
        if depth > Condition::MAX_DEPTH {
            let message = format!("it nests deeper than {}", Condition::MAX_DEPTH);
            return Err(self.error(expression, message, Some("split it over several stages or outputs".to_owned())));
        }
        match &expression.expr {
            Expr::Literal(literal) => Ok(literal_type(literal)),
            Expr::Ident(name) => self.variable(expression, name),
            Expr::Select(select) => self.select(expression, select, depth),
            Expr::Call(call) => self.call(expression, call, depth),
            Expr::List(list) => {
                for element in &list.elements {
                    self.type_of(element, depth + 1)?;
                }
                Ok(Type::List)
            }
            Expr::Map(map) => self.map(expression, map, depth),
            Expr::Comprehension(comprehension) => self.comprehension(expression, comprehension, depth),
            Expr::Struct(_) => {
                let help = Some("compare fields of `value` instead".to_owned());
                Err(self.error(expression, "it builds a message, and there are no message types".to_owned(), help))
            }
            Expr::Unspecified => Err(self.error(expression, "it is not CEL".to_owned(), None)),
        }
    }

    fn variable(&mut self, at: &IdedExpr, name: &str) -> Result<Type, ConditionError> {
        if let Some((_, of)) = self.scope.iter().rev().find(|(variable, _)| variable == name) {
            return Ok(*of);
        }
        if let Some((_, of)) = self.subject.variables.iter().find(|(variable, _)| *variable == name) {
            self.reads_value |= name == "value";
            return Ok(*of);
        }
        if typing::TYPE_NAMES.contains(&name) {
            return Ok(Type::Kind);
        }
        let known = self.subject.variables.iter().map(|(variable, _)| *variable);
        let help = match nearest(name, known.clone()) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => {
                let (subject, known) = (self.subject.name, known.collect::<Vec<_>>().join(", "));
                format!("{subject} has {known}; the fields of its JSON are in `value`")
            }
        };
        Err(self.error(at, format!("there is no variable `{name}`"), Some(help)))
    }

    fn select(&mut self, at: &IdedExpr, select: &SelectExpr, depth: usize) -> Result<Type, ConditionError> {
        let operand = self.type_of(&select.operand, depth + 1)?;
        if !operand.is(&[Type::Map]) {
            let message = format!("{} has no fields, so there is no `.{}`", operand.name(), select.field);
            return Err(self.error(at, message, None));
        }
        Ok(if select.test { Type::Bool } else { Type::Dyn })
    }

    fn map(&mut self, at: &IdedExpr, map: &MapExpr, depth: usize) -> Result<Type, ConditionError> {
        for entry in &map.entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else {
                return Err(self.error(at, "it is not CEL".to_owned(), None));
            };
            let key = self.type_of(&entry.key, depth + 1)?;
            if !key.is(&[Type::String, Type::Int, Type::Uint, Type::Bool]) {
                return Err(self.error(&entry.key, format!("{} can't be a key of a map", key.name()), None));
            }
            self.type_of(&entry.value, depth + 1)?;
        }
        Ok(Type::Map)
    }

    fn comprehension(
        &mut self,
        at: &IdedExpr,
        loops: &ComprehensionExpr,
        depth: usize,
    ) -> Result<Type, ConditionError> {
        let range = self.type_of(&loops.iter_range, depth + 1)?;
        if !range.is(&[Type::List, Type::Map]) {
            let message = format!("{} can't be gone through element by element", range.name());
            return Err(self.error(&loops.iter_range, message, Some("macros take a list, or a map's keys".to_owned())));
        }
        if self.subject.variables.iter().any(|(variable, _)| *variable == loops.iter_var) {
            let message = format!("`{}` is the event's own, so it can't be a loop's variable", loops.iter_var);
            return Err(self.error(at, message, Some("give the variable another name".to_owned())));
        }
        if self.loops == Condition::MAX_NESTED_LOOPS {
            let message = format!("it has more than {} macros inside one another", Condition::MAX_NESTED_LOOPS);
            return Err(self.error(
                at,
                message,
                Some("more would cost too much on a large event: use a plugin".to_owned()),
            ));
        }
        let initial = self.type_of(&loops.accu_init, depth + 1)?;
        let variables = self.scope.len();
        self.scope.push((loops.iter_var.clone(), Type::Dyn));
        self.scope.push((loops.accu_var.clone(), initial));
        self.loops += 1;
        let body = [&loops.loop_cond, &loops.loop_step]
            .into_iter()
            .try_for_each(|part| self.type_of(part, depth + 1).map(|_| ()));
        self.loops -= 1;
        let result = body.and_then(|()| self.type_of(&loops.result, depth + 1));
        self.scope.truncate(variables);
        result
    }

    fn call(&mut self, at: &IdedExpr, call: &CallExpr, depth: usize) -> Result<Type, ConditionError> {
        let target =
            call.target.as_ref().map(|target| self.receiver(target, &call.func_name, depth + 1)).transpose()?;
        let mut arguments: Vec<Type> = target.into_iter().collect();
        for argument in &call.args {
            arguments.push(self.type_of(argument, depth + 1)?);
        }
        if let Some(operator) = typing::operator(&call.func_name) {
            return typing::apply(&call.func_name, &arguments).ok_or_else(|| {
                let help = typing::operator_help(&call.func_name, &arguments).map(str::to_owned);
                self.error(at, format!("`{operator}` does not take {}", names(&arguments)), help)
            });
        }
        let name = &call.func_name;
        let overloads = typing::functions(name, target.is_some());
        if overloads.is_empty() {
            return Err(self.unknown_function(at, name, target.is_some()));
        }
        let Some(overload) = overloads.iter().find(|overload| overload.takes(&arguments)) else {
            return Err(self.error(at, format!("`{name}` does not take {}", names(&arguments)), None));
        };
        if name == "matches" {
            self.pattern(call)?;
        }
        Ok(overload.result())
    }

    /// The type of what a method is called on. `math.abs(…)` looks like one on an unknown variable `math`.
    fn receiver(&mut self, target: &IdedExpr, function: &str, depth: usize) -> Result<Type, ConditionError> {
        self.type_of(target, depth).map_err(|error| match &target.expr {
            Expr::Ident(name)
                if typing::functions(function, true).is_empty()
                    && !self.scope.iter().any(|(known, _)| known == name) =>
            {
                self.error(target, format!("there is no function `{name}.{function}`"), error.help)
            }
            _ => error,
        })
    }

    /// A pattern is compiled for its use on each event, so it must be known, and right, now.
    fn pattern(&self, call: &CallExpr) -> Result<(), ConditionError> {
        let Some(pattern) = call.args.last() else { return Ok(()) };
        let Expr::Literal(LiteralValue::String(text)) = &pattern.expr else {
            let help = Some("an event must not choose the pattern it is matched with".to_owned());
            return Err(self.error(pattern, "the pattern of `matches` must be written out".to_owned(), help));
        };
        match regex::Regex::new(text.inner()) {
            Ok(_) => Ok(()),
            Err(error) => {
                // The last line of a pattern's error says what is wrong, those before it show where.
                let cause = error.to_string();
                let cause = cause.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                Err(self.error(pattern, format!("the pattern of `matches` is not one: {cause}"), None))
            }
        }
    }

    fn unknown_function(&self, at: &IdedExpr, name: &str, is_method: bool) -> ConditionError {
        let help = if !typing::functions(name, !is_method).is_empty() {
            Some(if is_method { format!("write it as `{name}(…)`") } else { format!("write it as `x.{name}(…)`") })
        } else {
            nearest(name, typing::function_names()).map(|nearest| format!("did you mean `{nearest}`?"))
        };
        self.error(at, format!("there is no function `{name}` of this form"), help)
    }

    fn error(&self, at: &IdedExpr, message: String, help: Option<String>) -> ConditionError {
        ConditionError { message, span: self.place(at.id), help }
    }

    /// Where an expression is, in bytes. The library's last byte belongs to it, and may be in the middle of a character.
    fn place(&self, id: u64) -> Option<Range<usize>> {
        let (first, last) = self.places.offset_for(id)?;
        let (first, last) = (usize::try_from(first).ok()?, usize::try_from(last).ok()?);
        let start = self.text.floor_char_boundary(first);
        Some(start..self.text.ceil_char_boundary(last.saturating_add(1)).max(start))
    }
}

const fn literal_type(literal: &LiteralValue) -> Type {
    match literal {
        LiteralValue::Boolean(_) => Type::Bool,
        LiteralValue::Bytes(_) => Type::Bytes,
        LiteralValue::Double(_) => Type::Double,
        LiteralValue::Int(_) => Type::Int,
        LiteralValue::Null => Type::Null,
        LiteralValue::String(_) => Type::String,
        LiteralValue::UInt(_) => Type::Uint,
    }
}

fn names(types: &[Type]) -> String {
    let names: Vec<&str> = types.iter().map(|of| of.name()).collect();
    if names.is_empty() { "no argument".to_owned() } else { names.join(" and ") }
}

fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(name.len()) / 4)
        .min()
        .map(|(_, candidate)| candidate)
}
