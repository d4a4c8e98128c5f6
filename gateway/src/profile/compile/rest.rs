//! HTTP requests that a profile answers.

use std::{collections::BTreeSet, sync::Arc};

use super::{Compiler, step::Place, vars::Vars};
use crate::{
    config::key::Key,
    profile::{
        pattern::variable,
        raw::{Caller, RawRest, RawStep},
        rest::{METHODS, Rest, is_own_path, route},
    },
};

impl Compiler<'_, '_> {
    pub(super) fn rests(&mut self, key: &Key, raw: Vec<RawRest>) -> Vec<Arc<Rest>> {
        let mut known = BTreeSet::new();
        let mut rests = Vec::with_capacity(raw.len());
        for (index, raw) in raw.into_iter().enumerate() {
            let key = key.element(index);
            if !known.insert((raw.method.clone(), route(&raw.path))) {
                self.fail(&key, "this request is answered already, by an entry before");
            }
            rests.extend(self.rest(&key, raw).map(Arc::new));
        }
        rests
    }

    fn rest(&mut self, key: &Key, raw: RawRest) -> Option<Rest> {
        let method = METHODS.into_iter().find(|known| *known == raw.method.as_str());
        if method.is_none() {
            let methods: Vec<String> = METHODS.iter().map(ToString::to_string).collect();
            self.fail(&key.entry("method"), format!("write one of {}", methods.join(", ")));
        }
        if raw.caller == Caller::Client {
            self.for_clients(&key.entry("do"), &raw.steps);
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
            method: method?,
            path: raw.path,
            caller: raw.caller,
            variables,
            steps,
            response: Arc::new(response),
        })
    }

    /// Clients publish and read where the rules of namespaces let them; for the rest there are none.
    fn for_clients(&mut self, key: &Key, steps: &[RawStep]) {
        for (index, step) in steps.iter().enumerate() {
            if step.publish.is_none() && step.messages.is_none() {
                let wanted = "a client may only publish and read messages: leave out `caller`";
                self.fail(&key.element(index), wanted);
            }
        }
    }

    /// The names of the variables of a path.
    fn path(&mut self, key: &Key, path: &str, vars: &Vars) -> Vec<String> {
        let mut names = Vec::new();
        if is_own_path(path) {
            self.fail(key, "the gateway itself answers there: choose another path");
        }
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
        ];
        results.extend(given.iter().filter(|(given, _)| *given).map(|(_, name)| *name));
    }
    results
}
