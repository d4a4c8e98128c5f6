//! What stands in a hole.

use std::{collections::BTreeSet, sync::Arc};

use broker_core::{Data, JsonText};
use bytes::Bytes;
use minijinja::value::Value;

use super::{
    RenderError, Scope, TemplateError, Var,
    language::{self, LANGUAGE, Omit, Segments},
    node::Node,
    write,
};

/// Most elements of a list that something is done with one by one.
const MAX_ELEMENTS: usize = 10_000;

/// An expression, ready to be evaluated.
#[derive(Debug)]
pub(in crate::profile) struct Expression {
    source: Box<str>,
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// A variable, and the way into it: the value itself is found, without a copy.
    Path(Box<str>, Vec<Step>),
    /// Anything else.
    Jinja(minijinja::Expression<'static, 'static>),
}

#[derive(Debug)]
enum Step {
    Member(Box<str>),
    Element(usize),
}

/// What an expression gave.
#[derive(Debug)]
pub(super) enum Found {
    /// JSON as it came.
    Json(Bytes),
    /// Bytes as they came.
    Binary(Bytes),
    /// Something that was made.
    Value(Value),
    /// The wish to leave out what the hole stands for.
    Omitted,
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(in crate::profile) fn compile(source: &str) -> Result<Self, TemplateError> {
        let source = source.trim();
        language::check(source)?;
        let form = match path(source) {
            Some((name, steps)) => Form::Path(name.into(), steps),
            None => {
                let compiled = LANGUAGE.compile_expression_owned(source.to_owned());
                Form::Jinja(compiled.map_err(|error| {
                    let why = error.detail().unwrap_or("this is no expression").to_owned();
                    TemplateError(why)
                })?)
            }
        };
        Ok(Self { source: source.into(), form })
    }

    /// The variables that it uses.
    #[must_use]
    pub(in crate::profile) fn variables(&self) -> BTreeSet<String> {
        match &self.form {
            Form::Path(name, _) => BTreeSet::from([name.to_string()]),
            Form::Jinja(expression) => {
                let names = expression.undeclared_variables(false).into_iter();
                names.filter(|name| !language::is_keyword(name)).collect()
            }
        }
    }

    /// Whether its value counts as true: not false, none, zero or empty.
    ///
    /// # Errors
    /// It cannot be evaluated with these variables.
    pub(in crate::profile) fn holds(&self, scope: &Arc<Scope>) -> Result<bool, RenderError> {
        Ok(match self.evaluate(scope)? {
            Found::Json(text) => Node::new(text).to_value().is_true(),
            Found::Binary(bytes) => !bytes.is_empty(),
            Found::Value(value) => value.is_true(),
            Found::Omitted => false,
        })
    }

    /// Its value as text; `None` where it wants to be left out.
    ///
    /// # Errors
    /// It has no value that can stand in a text.
    pub(super) fn text(&self, scope: &Arc<Scope>) -> Result<Option<Inset>, RenderError> {
        let value = match self.evaluate(scope)? {
            Found::Json(text) => Node::new(text).to_value(),
            Found::Value(value) => value,
            Found::Binary(_) => return Err(RenderError::NotText(self.source.clone())),
            Found::Omitted => return Ok(None),
        };
        if let Some(Segments(text)) = value.downcast_object_ref() {
            return Ok(Some(Inset { text: Arc::clone(text), segments: true }));
        }
        let text = value.to_str().or_else(|| write::scalar(&value).map(Into::into));
        let text = text.ok_or_else(|| RenderError::NotText(self.source.clone()))?;
        Ok(Some(Inset { text, segments: false }))
    }

    /// Its value as the body of a message; `None` where it wants to be left out.
    ///
    /// # Errors
    /// It has no value, or none that JSON can hold.
    pub(in crate::profile) fn data(&self, scope: &Arc<Scope>) -> Result<Option<Data>, RenderError> {
        Ok(match self.evaluate(scope)? {
            Found::Json(text) => Some(Data::Json(JsonText::from_checked(text))),
            Found::Binary(bytes) => Some(Data::Binary(bytes)),
            Found::Omitted => None,
            Found::Value(value) => {
                let mut out = write::Out::new(scope.limit());
                self.write_value(&value, &mut out)?;
                Some(Data::Json(out.finish()))
            }
        })
    }

    /// Writes its value as JSON; whether there is something to write.
    ///
    /// # Errors
    /// It has no value, none that JSON can hold, or there is no room for it.
    pub(super) fn write(
        &self,
        scope: &Arc<Scope>,
        out: &mut write::Out,
    ) -> Result<bool, RenderError> {
        match self.evaluate(scope)? {
            Found::Json(text) => out.put(&text)?,
            Found::Binary(_) => return Err(RenderError::NotJson(self.source.clone())),
            Found::Value(value) => self.write_value(&value, out)?,
            Found::Omitted => return Ok(false),
        }
        Ok(true)
    }

    /// Its value as a list of values; of an object, the names of its members.
    ///
    /// # Errors
    /// It is none, or too long.
    pub(in crate::profile) fn list(&self, scope: &Arc<Scope>) -> Result<Vec<Var>, RenderError> {
        let value = match self.evaluate(scope)? {
            Found::Json(text) => {
                let node = Node::new(text);
                if node.text().first() == Some(&b'[') {
                    // The elements as they came, not as expressions see them.
                    let elements = (0..).map_while(|index| node.element(index));
                    return bounded(elements.map(Var::Json));
                }
                node.to_value()
            }
            Found::Value(value) => value,
            Found::Binary(_) | Found::Omitted => return Err(self.no_list()),
        };
        if value.as_str().is_some() || value.is_none() {
            return Err(self.no_list());
        }
        let elements = value.try_iter().map_err(|_| self.no_list())?;
        bounded(elements.map(Var::Value))
    }

    fn no_list(&self) -> RenderError {
        RenderError::Failed(self.source.clone(), "it is no list".into())
    }

    fn write_value(&self, value: &Value, out: &mut write::Out) -> Result<(), RenderError> {
        write::value(value, out).map_err(|error| match error {
            write::Refused::TooLarge => RenderError::TooLarge,
            write::Refused::NotJson => RenderError::NotJson(self.source.clone()),
        })
    }

    fn evaluate(&self, scope: &Arc<Scope>) -> Result<Found, RenderError> {
        let value = match &self.form {
            Form::Path(name, steps) => match enter(scope.get(name), steps) {
                Some((Var::Json(node) | Var::List(_, node), steps)) => {
                    let found = steps.iter().try_fold(Arc::clone(node), |node, step| match step {
                        Step::Member(name) => node.member(name),
                        Step::Element(index) => node.element(*index),
                    });
                    let node = found.ok_or_else(|| RenderError::Missing(self.source.clone()))?;
                    return Ok(Found::Json(node.text().clone()));
                }
                Some((Var::Binary(bytes), [])) => return Ok(Found::Binary(bytes.clone())),
                Some((var, steps)) => {
                    steps.iter().try_fold(var.to_value(), |value, step| match step {
                        Step::Member(name) => value.get_attr(name).ok(),
                        Step::Element(index) => value.get_item_by_index(*index).ok(),
                    })
                }
                None => None,
            },
            Form::Jinja(expression) => {
                let scope = Value::from_dyn_object(Arc::clone(scope));
                Some(expression.eval(scope).map_err(|error| self.failed(&error))?)
            }
        };
        let value = value.filter(|value| !value.is_undefined());
        let value = value.ok_or_else(|| RenderError::Missing(self.source.clone()))?;
        if value.downcast_object_ref::<Omit>().is_some() {
            return Ok(Found::Omitted);
        }
        Ok(match value.downcast_object_ref::<Node>() {
            Some(node) => Found::Json(node.text().clone()),
            None => Found::Value(value),
        })
    }

    fn failed(&self, error: &minijinja::Error) -> RenderError {
        if error.kind() == minijinja::ErrorKind::UndefinedError {
            return RenderError::Missing(self.source.clone());
        }
        let why = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
        RenderError::Failed(self.source.clone(), why.into())
    }
}

fn bounded(elements: impl Iterator<Item = Var>) -> Result<Vec<Var>, RenderError> {
    let list: Vec<Var> = elements.take(MAX_ELEMENTS + 1).collect();
    if list.len() > MAX_ELEMENTS { Err(RenderError::TooLarge) } else { Ok(list) }
}

/// What a hole in a text is filled with.
#[derive(Debug)]
pub(super) struct Inset {
    pub(super) text: Arc<str>,
    /// Whether it may be several segments of a channel name.
    pub(super) segments: bool,
}

/// The element of a list that the first step leads to, and the way from there.
fn enter<'v, 's>(var: Option<&'v Var>, steps: &'s [Step]) -> Option<(&'v Var, &'s [Step])> {
    match (var?, steps) {
        (Var::List(list, _), [Step::Element(index), rest @ ..]) => Some((list.get(*index)?, rest)),
        (var, steps) => Some((var, steps)),
    }
}

/// `name.member[0]`, if that is all there is.
fn path(source: &str) -> Option<(&str, Vec<Step>)> {
    let (name, mut rest) = identifier(source)?;
    if language::is_keyword(name) {
        return None;
    }
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(member) = rest.strip_prefix('.') {
            let (member, more) = identifier(member)?;
            steps.push(Step::Member(member.into()));
            rest = more;
        } else {
            let (index, more) = rest.strip_prefix('[')?.split_once(']')?;
            steps.push(Step::Element(index.parse().ok()?));
            rest = more;
        }
    }
    Some((name, steps))
}

fn identifier(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let fits = word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    fits.then_some((word, rest))
}
