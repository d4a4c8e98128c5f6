//! Texts, payloads and events with holes.

use broker_core::EventName;
use bytes::Bytes;
use toml::Value;

use super::{
    Compiler,
    vars::{HANDSHAKE, Vars},
};
use crate::{
    config::key::Key,
    profile::{
        emission::EmissionTemplate,
        raw::{Free, RawEmission},
        template::{ChannelTemplate, Expression, Text, Tree, quote},
    },
};

/// How deep a payload of a profile may nest.
const MAX_DEPTH: usize = 8;

impl Compiler<'_, '_> {
    pub(super) fn text(&mut self, key: &Key, source: &str, vars: &Vars) -> Option<Text> {
        match Text::compile(source) {
            Ok(text) => {
                text.expressions().for_each(|it| self.check_variables(key, it, vars));
                Some(text)
            }
            Err(error) => {
                self.fail(key, error.to_string());
                None
            }
        }
    }

    pub(super) fn optional_text(
        &mut self,
        key: &Key,
        source: Option<&str>,
        vars: &Vars,
    ) -> Option<Text> {
        source.and_then(|source| self.text(key, source, vars))
    }

    pub(super) fn channel(
        &mut self,
        key: &Key,
        source: &str,
        vars: &Vars,
    ) -> Option<ChannelTemplate> {
        match ChannelTemplate::compile(source) {
            Ok(channel) => {
                channel.text().expressions().for_each(|it| self.check_variables(key, it, vars));
                Some(channel)
            }
            Err(error) => {
                self.fail(key, error.to_string());
                None
            }
        }
    }

    /// A text that must be nothing but one hole.
    pub(super) fn expression(
        &mut self,
        key: &Key,
        source: &str,
        vars: &Vars,
    ) -> Option<Expression> {
        match self.text(key, source, vars)?.into_whole() {
            Ok(expression) => Some(expression),
            Err(_) => {
                self.fail(key, "write one expression: `{{ … }}`");
                None
            }
        }
    }

    pub(super) fn emission(
        &mut self,
        key: &Key,
        raw: RawEmission,
        vars: &Vars,
    ) -> Option<EmissionTemplate> {
        let event = self.event(&key.entry("emit"), &raw.emit, vars);
        let args = match (raw.data, raw.args) {
            (Some(_), Some(_)) => {
                self.fail(&key.entry("args"), "write `data` or `args`, not both");
                return None;
            }
            (Some(data), None) => vec![self.tree(&key.entry("data"), &data, vars)],
            (None, Some(args)) => {
                let key = key.entry("args");
                let args = args.iter().enumerate();
                args.map(|(index, arg)| self.tree(&key.element(index), arg, vars)).collect()
            }
            (None, None) => Vec::new(),
        };
        let args = args.into_iter().collect::<Option<Vec<Tree>>>()?;
        Some(EmissionTemplate { event: event?, args })
    }

    /// The name of an event, perhaps with holes.
    pub(super) fn event(&mut self, key: &Key, source: &str, vars: &Vars) -> Option<Text> {
        let text = self.text(key, source, vars)?;
        if let Some(Err(error)) = text.literal().map(str::parse::<EventName>) {
            self.fail(key, format!("write the name of an event: {error}"));
            return None;
        }
        Some(text)
    }

    pub(super) fn tree(&mut self, key: &Key, value: &Free, vars: &Vars) -> Option<Tree> {
        self.subtree(key, &value.0, vars, 0)
    }

    fn subtree(&mut self, key: &Key, value: &Value, vars: &Vars, depth: usize) -> Option<Tree> {
        if depth > MAX_DEPTH {
            self.fail(key, format!("a payload nests at most {MAX_DEPTH} deep"));
            return None;
        }
        Some(match value {
            Value::String(source) => {
                let text = self.text(key, source, vars)?;
                match (text.literal().map(quote), text) {
                    (Some(json), _) => Tree::Constant(json.into()),
                    (None, text) => text.into_whole().map_or_else(Tree::Text, Tree::Whole),
                }
            }
            Value::Integer(number) => Tree::Constant(number.to_string().into()),
            Value::Float(number) => match serde_json::Number::from_f64(*number) {
                Some(number) => Tree::Constant(number.to_string().into()),
                None => {
                    self.fail(key, "JSON has no such number");
                    return None;
                }
            },
            Value::Boolean(value) => Tree::Constant(value.to_string().into()),
            Value::Datetime(time) => Tree::Constant(quote(&time.to_string()).into()),
            Value::Array(elements) => {
                let elements = elements.iter().enumerate();
                let trees: Vec<_> = elements
                    .map(|(index, it)| self.subtree(&key.element(index), it, vars, depth + 1))
                    .collect();
                Tree::array(trees.into_iter().collect::<Option<Vec<Tree>>>()?)
            }
            Value::Table(table) if table.contains_key("for_each") => {
                return self.for_each(key, table, vars, depth);
            }
            Value::Table(table) => {
                let members: Vec<_> = table
                    .iter()
                    .map(|(name, it)| {
                        let tree = self.subtree(&key.entry(name), it, vars, depth + 1)?;
                        Some((Bytes::from(format!("{}:", quote(name))), tree))
                    })
                    .collect();
                Tree::object(members.into_iter().collect::<Option<Vec<_>>>()?)
            }
        })
    }

    /// `{ for_each = "{{ … }}", make = … }`: one within another could take long.
    fn for_each(
        &mut self,
        key: &Key,
        table: &toml::Table,
        vars: &Vars,
        depth: usize,
    ) -> Option<Tree> {
        let (Some(Value::String(list)), Some(make), 2) =
            (table.get("for_each"), table.get("make"), table.len())
        else {
            self.fail(key, "write { for_each = \"{{ LIST }}\", make = ITEM }, with `item` in it");
            return None;
        };
        if vars.has("item") {
            self.fail(key, "a `for_each` within another is not possible");
            return None;
        }
        let list = self.expression(&key.entry("for_each"), list, vars);
        let inner = vars.and(&["item"]);
        let make = self.subtree(&key.entry("make"), make, &inner, depth + 1);
        Some(Tree::ForEach(list?, Box::new(make?)))
    }

    fn check_variables(&mut self, key: &Key, expression: &Expression, vars: &Vars) {
        for name in expression.variables() {
            if !vars.has(&name) {
                self.fail(key, vars.instead_of(&name));
            }
            self.asks_for_handshake |= name == HANDSHAKE;
        }
    }
}
