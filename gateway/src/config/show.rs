//! `fanfare config show`: what is in force, as TOML, each value with its origin.

use std::fmt::Write;

use toml::{Table, Value};

use super::{
    docs,
    key::Key,
    layers::{Layers, Origin},
    load::Loaded,
};

impl Loaded {
    /// The effective configuration as TOML; secrets are replaced.
    #[must_use]
    pub(crate) fn show(&self) -> String {
        let values = Table::try_from(&self.raw).expect("every option can be written as TOML");
        let mut out = String::new();
        for section in docs::sections() {
            if let Some(Value::Table(table)) = values.get(section.name) {
                show_table(&mut out, table, &Key::from(section.name), &self.layers);
            }
        }
        out
    }
}

fn show_table(out: &mut String, table: &Table, at: &Key, layers: &Layers) {
    let (tables, values): (Vec<_>, Vec<_>) = table.iter().partition(|(_, value)| value.is_table());
    if !values.is_empty() {
        let line_break = if out.is_empty() { "" } else { "\n" };
        let header: Vec<String> =
            at.0.iter().map(|step| quoted(&Key(vec![step.clone()]))).collect();
        writeln!(out, "{line_break}[{}]", header.join(".")).expect("a String takes everything");
    }
    for (name, value) in values {
        let origin: Origin = layers.origin(&at.entry(name));
        let origin = if layers.get(&at.entry(name)).is_some() { origin } else { Origin::Default };
        writeln!(out, "{name} = {value} # {origin}").expect("a String takes everything");
    }
    for (name, value) in tables {
        if let Value::Table(inner) = value {
            show_table(out, inner, &at.entry(name), layers);
        }
    }
}

fn quoted(name: &Key) -> String {
    let name = name.to_string();
    if name == "*" { "\"*\"".to_owned() } else { name }
}
