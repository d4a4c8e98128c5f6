//! The words of expressions: a small part of Jinja's, each of bounded cost.

use std::sync::{Arc, LazyLock};

use broker_core::Timestamp;
use minijinja::{
    Environment, Error, ErrorKind, UndefinedBehavior,
    value::{Object, ObjectRepr, Value, ValueKind},
};

use super::{TemplateError, scope::iso};

/// Longest expression, in bytes: with it, operators and their cost are bounded.
const MAX_EXPRESSION_BYTES: usize = 300;
/// The filters, for `{{ value | filter }}`.
pub(super) const FILTERS: [&str; 6] = ["default", "segments", "iso", "int", "length", "json"];
/// The tests, for `{{ value is test }}`.
pub(super) const TESTS: [&str; 6] = ["defined", "none", "string", "number", "mapping", "sequence"];
/// Words that are no variables.
const KEYWORDS: [&str; 14] = [
    "true", "false", "none", "True", "False", "None", "and", "or", "not", "in", "is", "if", "else",
    "omit",
];

/// The value that leaves out the member that it stands for.
#[derive(Debug)]
pub(super) struct Omit;

impl Object for Omit {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

/// Text that may be several segments of a channel name.
#[derive(Debug)]
pub(super) struct Segments(pub(super) Arc<str>);

impl Object for Segments {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

/// What expressions are compiled in and evaluated by.
pub(super) static LANGUAGE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut language = Environment::empty();
    language.set_undefined_behavior(UndefinedBehavior::Strict);
    language.add_global("omit", Value::from_object(Omit));
    language.add_filter(
        "default",
        |value: Value, other: Value| {
            if value.is_undefined() { other } else { value }
        },
    );
    language.add_filter("segments", |text: Arc<str>| Value::from_object(Segments(text)));
    language.add_filter("iso", |ms: u64| iso(Timestamp(ms)));
    language.add_filter("int", int);
    language.add_filter("length", |value: &Value| {
        value.len().ok_or_else(|| failed("it has no length"))
    });
    language.add_filter("json", |value: Value| super::write::to_json(&value).ok_or_else(not_json));
    language.add_test("defined", |value: &Value| !value.is_undefined());
    language.add_test("none", |value: &Value| value.is_none());
    for (name, kind) in [
        ("string", ValueKind::String),
        ("number", ValueKind::Number),
        ("mapping", ValueKind::Map),
        ("sequence", ValueKind::Seq),
    ] {
        language.add_test(name, move |value: &Value| value.kind() == kind);
    }
    language
});

fn int(value: &Value) -> Result<Value, Error> {
    let number = match value.as_str() {
        Some(text) => text.parse::<i64>().ok(),
        None => value.as_i64(),
    };
    number.map(Value::from).ok_or_else(|| failed("it is no whole number"))
}

fn failed(why: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, why)
}

fn not_json() -> Error {
    failed("it cannot be written as JSON")
}

/// Whether this is a word that is no variable.
#[must_use]
pub(super) fn is_keyword(word: &str) -> bool {
    KEYWORDS.contains(&word)
}

/// Refuses what Jinja has and these expressions have not: functions, unknown filters and tests,
/// and multiplication, which can make a long text out of a short one.
pub(super) fn check(source: &str) -> Result<(), TemplateError> {
    if source.len() > MAX_EXPRESSION_BYTES {
        let text = format!("write at most {MAX_EXPRESSION_BYTES} bytes between the braces");
        return Err(TemplateError(text));
    }
    let tokens = tokens(source);
    for (index, token) in tokens.iter().enumerate() {
        let before = |back: usize| index.checked_sub(back).map_or("", |at| tokens[at]);
        let next = tokens.get(index + 1).copied().unwrap_or_default();
        let word = is_word(token);
        let names_test = word
            && (before(1) == "is" && *token != "not" || before(1) == "not" && before(2) == "is");
        if *token == "*" {
            return Err(TemplateError("expressions do not multiply: leave out `*`".to_owned()));
        }
        if word && before(1) == "|" && !FILTERS.contains(token) {
            return Err(unknown("filter", token, &FILTERS));
        }
        if names_test && !TESTS.contains(token) {
            return Err(unknown("test", token, &TESTS));
        }
        let applied = before(1) == "|" || is_keyword(token);
        if next == "(" && !applied && (word || matches!(*token, ")" | "]")) {
            return Err(TemplateError(format!("there are no functions: leave out `{token}(…)`")));
        }
    }
    Ok(())
}

fn unknown(what: &str, name: &str, known: &[&str]) -> TemplateError {
    TemplateError(format!("there is no {what} `{name}`; there are {}", known.join(", ")))
}

fn is_word(token: &str) -> bool {
    token.starts_with(|char: char| char.is_alphabetic() || char == '_')
}

/// The words, quoted texts and signs of an expression.
fn tokens(source: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = source.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' | '\'' => quoted(rest, first),
            _ if first.is_alphanumeric() || first == '_' => {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
            }
            _ => first.len_utf8(),
        };
        let (token, more) = rest.split_at(length);
        tokens.push(token);
        rest = more.trim_start();
    }
    tokens
}

/// The length of a quoted text at the start of `text`, quotes included.
pub(super) fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (index, char) in text.char_indices().skip(1) {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if char == quote => return index + 1,
            _ => {}
        }
    }
    text.len()
}
