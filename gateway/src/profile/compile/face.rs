//! Faces: verbs, what happens on connect, and what clients are told.

use std::{collections::HashMap, sync::Arc};

use broker_core::access::Term;

use super::{Compiler, step::Place, vars::Vars};
use crate::{
    config::{key::Key, text::Text},
    profile::{
        auth::{Auth, RefusalTemplate},
        face::Face,
        outgoing::{Rule, Rules, Variants},
        raw::{RawAuth, RawEmission, RawFace, RawOutgoing, RawRefusal, RawVariants, RawVerb},
        require::{Require, is_plain},
        verb::{AckTemplates, Verb},
    },
};

impl Compiler<'_, '_> {
    pub(super) fn face(&mut self, key: &Key, name: String, raw: RawFace) -> Face {
        self.asks_for_handshake = false;
        let mut verbs = HashMap::new();
        for (number, (event, verb)) in raw.verbs.into_iter().enumerate() {
            let key = key.entry("verbs").entry(&event);
            if let Err(error) = event.parse::<broker_core::EventName>() {
                self.fail(&key, format!("write the name of an event: {error}"));
            }
            let event: Box<str> = event.into();
            let verb = self.verb(&key, Some(event.clone()), number, verb);
            verbs.insert(event, verb);
        }
        let fallback = key.entry("fallback");
        let on_connect = key.entry("on_connect");
        Face {
            name,
            auth: self.auth(&key.entry("auth"), raw.auth),
            on_connect: self.steps(&on_connect, raw.on_connect, Place::Connect, &Vars::client()),
            fallback: raw.fallback.map(|verb| self.verb(&fallback, None, verbs.len(), verb)),
            verbs,
            outgoing: self.outgoing(&key.entry("outgoing"), raw.outgoing),
            asks_for_handshake: self.asks_for_handshake,
        }
    }

    fn auth(&mut self, key: &Key, raw: RawAuth) -> Auth {
        let vars = Vars::times().and(&["error"]);
        if raw.failure.is_some() && raw.refusal.is_some() {
            let wanted = "`failure` lets clients in to tell them: write that or `refusal`";
            self.fail(&key.entry("refusal"), wanted);
        }
        Auth {
            token: raw.token.into_iter().map(|input| input.value).collect(),
            api_key: raw.api_key.into_iter().map(|input| input.value).collect(),
            require: self.require(&key.entry("require"), raw.require),
            refusal: raw
                .refusal
                .and_then(|refusal| self.refusal(&key.entry("refusal"), &refusal, &vars)),
            failure: raw
                .failure
                .and_then(|failure| self.emission(&key.entry("failure"), failure, &vars)),
        }
    }

    fn refusal(&mut self, key: &Key, raw: &RawRefusal, vars: &Vars) -> Option<RefusalTemplate> {
        let data = match &raw.data {
            Some(data) => Some(self.tree(&key.entry("data"), data, vars)?),
            None => None,
        };
        Some(RefusalTemplate {
            message: self.text(&key.entry("message"), &raw.message, vars)?,
            data,
        })
    }

    fn verb(&mut self, key: &Key, event: Option<Box<str>>, number: usize, raw: RawVerb) -> Verb {
        let replies = raw.steps.iter().any(|step| step.call.is_some() || step.publish.is_some());
        let vars = Vars::verb();
        let replied = if replies { vars.and(&["reply"]) } else { vars.clone() };
        let failed = vars.and(&["error"]);
        let acks = AckTemplates {
            ok: raw.ack.and_then(|ack| self.tree(&key.entry("ack"), &ack, &replied)),
            error: raw.ack_error.and_then(|ack| self.tree(&key.entry("ack_error"), &ack, &failed)),
        };
        Verb {
            event,
            number,
            rate: raw.rate.map(|rate| rate.value),
            require: self.require(&key.entry("require"), raw.require),
            steps: self.steps(&key.entry("do"), raw.steps, Place::Verb, &vars),
            acks: Arc::new(acks),
        }
    }

    fn require(&mut self, key: &Key, raw: Vec<Text<Term>>) -> Require {
        let terms: Vec<Term> = raw.into_iter().map(|term| term.value).collect();
        for (index, _) in terms.iter().enumerate().filter(|(_, term)| !is_plain(term)) {
            let wanted = "there is no channel here: write a term without `{N}` or `granted`";
            self.fail(&key.element(index), wanted);
        }
        Require(terms)
    }

    fn outgoing(&mut self, key: &Key, raw: Vec<RawOutgoing>) -> Rules {
        let mut rules = Rules::default();
        for (index, raw) in raw.into_iter().enumerate() {
            if let Some(rule) = self.rule(&key.element(index), raw) {
                rules.push(rule);
            }
        }
        rules
    }

    fn rule(&mut self, key: &Key, raw: RawOutgoing) -> Option<Rule> {
        let vars = Vars::message();
        let reserved = vars.and(&["variant"]);
        let channel = self.pattern(&key.entry("channel"), &raw.channel, &reserved)?;
        let names: Vec<&str> = channel.names().collect();
        let vars = vars.and(&names);
        let event = match raw.event.map(|event| event.parse()) {
            Some(Err(error)) => {
                self.fail(&key.entry("event"), format!("write the name of an event: {error}"));
                None
            }
            Some(Ok(event)) => Some(event),
            None => None,
        };
        let variants = match raw.variants {
            Some(variants) => Some(self.variants(&key.entry("variants"), &variants, &vars)?),
            None => None,
        };
        let inner = if variants.is_some() { vars.and(&["variant"]) } else { vars };
        // Without a payload of its own, the message's.
        let data = match (&raw.data, &raw.args) {
            (None, None) => Some(crate::profile::raw::Free("{{ data }}".into())),
            _ => raw.data,
        };
        let emission = RawEmission { emit: raw.emit, data, args: raw.args };
        let emit = self.emission(key, emission, &inner)?;
        Some(Rule { channel, event, emit, variants })
    }

    fn variants(&mut self, key: &Key, raw: &RawVariants, vars: &Vars) -> Option<Variants> {
        let weights = match &raw.weights {
            Some(weights) => Some(self.expression(&key.entry("weights"), weights, vars)?),
            None => None,
        };
        Some(Variants {
            test: self.text(&key.entry("test"), &raw.test, vars)?,
            of: self.expression(&key.entry("of"), &raw.of, vars)?,
            weights,
        })
    }
}
