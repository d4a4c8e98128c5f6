//! HTTP requests that a profile answers.

use std::{collections::BTreeSet, sync::Arc};

use super::{Compiler, step::Place, vars::Vars};
use crate::{
    config::key::Key,
    profile::{
        pattern::variable,
        raw::{RawRest, RawStep},
        rest::{METHODS, Rest},
    },
};

impl Compiler<'_, '_> {
    pub(super) fn rests(&mut self, key: &Key, raw: Vec<RawRest>) -> Vec<Rest> {
        let mut known = BTreeSet::new();
        let mut rests = Vec::with_capacity(raw.len());
        for (index, raw) in raw.into_iter().enumerate() {
            let key = key.element(index);
            if !known.insert((raw.method.clone(), raw.path.clone())) {
                self.fail(&key, "this request is answered already, by an entry before");
            }
            rests.extend(self.rest(&key, raw));
        }
        rests
    }

    fn rest(&mut self, key: &Key, raw: RawRest) -> Option<Rest> {
        if !METHODS.contains(&raw.method.as_str()) {
            self.fail(&key.entry("method"), format!("write one of {}", METHODS.join(", ")));
        }
        let vars = Vars::rest();
        let results = results(&raw.steps);
        let variables = self.path(&key.entry("path"), &raw.path, &vars.and(&results));
        let names: Vec<&str> = variables.iter().map(String::as_str).collect();
        let vars = vars.and(&names);
        let steps = self.steps(&key.entry("do"), raw.steps, Place::Rest, &vars);
        let response = match raw.response {
            Some(response) => {
                Some(self.tree(&key.entry("response"), &response, &vars.and(&results))?)
            }
            None => None,
        };
        Some(Rest {
            method: raw.method,
            path: raw.path,
            caller: raw.caller,
            variables,
            steps,
            response: Arc::new(response),
        })
    }

    /// The names of the variables of a path.
    fn path(&mut self, key: &Key, path: &str, vars: &Vars) -> Vec<String> {
        let mut names = Vec::new();
        let Some(segments) = path.strip_prefix('/') else {
            self.fail(key, "write a path such as \"/api/venues/{venueId}/updates\"");
            return names;
        };
        for segment in segments.split('/') {
            match variable(segment) {
                Ok(Some(name)) if vars.has(name) || names.iter().any(|known| known == name) => {
                    self.fail(key, format!("`{name}` has a meaning already: choose another name"));
                }
                Ok(Some(name)) => names.push(name.to_owned()),
                Ok(None) => {
                    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
                    if segment.is_empty() || !segment.bytes().all(plain) {
                        self.fail(key, "between slashes stand letters, digits and - . _ ~");
                    }
                }
                Err(error) => self.fail(key, error.to_string()),
            }
        }
        names
    }
}

/// What the steps give to the answer.
fn results(steps: &[RawStep]) -> Vec<&'static str> {
    let mut results = Vec::new();
    for step in steps {
        let given = [
            (step.messages.is_some(), "messages"),
            (step.stats.is_some(), "stats"),
            (step.queue.is_some(), "queue"),
            (step.connections.is_some(), "connections"),
            (step.disconnect.is_some(), "disconnected"),
            (step.ticket.is_some(), "ticket"),
            (step.call.is_some(), "reply"),
        ];
        results.extend(given.iter().filter(|(given, _)| *given).map(|(_, name)| *name));
    }
    results
}
