//! What clients are told of messages.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use broker_core::{Data, EventName, Message, Timestamp};
use minijinja::value::{Object, Value};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::{
    emission::{Emission, EmissionTemplate},
    pattern::Pattern,
    template::{Expression, RenderError, Scope, Text, Var, iso},
};

/// Most groups that recipients are split into.
pub(super) const MAX_VARIANTS: usize = 32;

/// The event of messages that have none.
static MESSAGE: LazyLock<EventName> =
    LazyLock::new(|| "message".parse().expect("the name is short and plain"));

/// What clients are told of one message. It depends on the message alone, and for a split on the
/// recipient's user: all of a group share what is encoded once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// One for each group; without a split, one for all.
    pub(crate) emissions: Vec<Emission>,
    /// How recipients are split.
    pub(crate) split: Option<Split>,
}

/// How recipients are split into groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Split {
    test: String,
    /// Of each group; together at least one.
    weights: Vec<u32>,
}

impl Outgoing {
    /// What this recipient is told. `subject` is its user, or its connection if it has none.
    #[must_use]
    pub(crate) fn emission(&self, subject: &str) -> Option<&Emission> {
        self.emissions.get(self.split.as_ref().map_or(0, |split| split.pick(subject)))
    }
}

impl Split {
    /// The group of this recipient: always the same with the same test and weights, on every
    /// gateway and in every version.
    #[must_use]
    pub(crate) fn pick(&self, subject: &str) -> usize {
        let mut hash = Sha256::new();
        hash.update((self.test.len() as u64).to_be_bytes());
        hash.update(&self.test);
        hash.update(subject);
        let digest: [u8; 32] = hash.finalize().into();
        let first = digest.first_chunk().copied().unwrap_or_default();
        let total: u64 = self.weights.iter().map(|weight| u64::from(*weight)).sum();
        let mut left = u64::from_be_bytes(first) % total.max(1);
        for (index, weight) in self.weights.iter().enumerate() {
            match left.checked_sub(u64::from(*weight)) {
                Some(rest) => left = rest,
                None => return index,
            }
        }
        0
    }
}

/// The rules of a face, by namespace.
#[derive(Debug, Default)]
pub(super) struct Rules(BTreeMap<Box<str>, Vec<Rule>>);

/// What clients are told of messages that match.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) channel: Pattern,
    pub(super) event: Option<EventName>,
    pub(super) emit: EmissionTemplate,
    pub(super) variants: Option<Variants>,
}

/// How recipients are split, with holes.
#[derive(Debug)]
pub(super) struct Variants {
    pub(super) test: Text,
    pub(super) of: Expression,
    pub(super) weights: Option<Expression>,
}

impl Rules {
    /// Adds a rule behind the others.
    pub(super) fn push(&mut self, rule: Rule) {
        let namespace = rule.channel.interest().namespace().into();
        self.0.entry(namespace).or_default().push(rule);
    }

    /// All, those of a namespace in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.0.values().flatten()
    }

    /// What clients are told of the message.
    ///
    /// # Errors
    /// The message is not of the form that its rule expects.
    pub(super) fn apply(&self, message: &Message) -> Result<Outgoing, RenderError> {
        let rules = self.0.get(message.channel.namespace()).map_or(&[][..], Vec::as_slice);
        for rule in rules {
            let fits = rule.event.is_none() || rule.event == message.event;
            if let Some(found) = fits.then(|| rule.channel.find(&message.channel)).flatten() {
                return rule.apply(message, found);
            }
        }
        let event = message.event.clone().unwrap_or_else(|| MESSAGE.clone());
        let emission = Emission { event, args: vec![message.data.clone()] };
        Ok(Outgoing { emissions: vec![emission], split: None })
    }
}

impl Rule {
    fn apply(
        &self,
        message: &Message,
        found: Vec<(String, String)>,
    ) -> Result<Outgoing, RenderError> {
        let mut scope = Scope::default();
        scope.set("data", Var::data(&message.data));
        scope.set("message", Var::Value(Value::from_object(Facts::of(message))));
        for (name, value) in found {
            scope.set(name, Var::value(value));
        }
        let scope = Arc::new(scope);
        match &self.variants {
            None => Ok(Outgoing { emissions: vec![self.emit.render(&scope)?], split: None }),
            Some(variants) => variants.apply(&self.emit, &scope),
        }
    }
}

impl Variants {
    fn apply(&self, emit: &EmissionTemplate, scope: &Arc<Scope>) -> Result<Outgoing, RenderError> {
        let unfit = |why: &str| RenderError::Failed("variants".into(), why.into());
        let names = self.of.list(scope)?;
        if !(1..=MAX_VARIANTS).contains(&names.len()) {
            return Err(unfit("there must be 1 to 32 of them"));
        }
        let weights = match &self.weights {
            Some(weights) => match weights.data(scope)? {
                Some(Data::Json(text)) => weights_of(text.as_bytes()),
                _ => None,
            }
            .ok_or_else(|| unfit("the weights are no object of whole numbers"))?,
            None => BTreeMap::new(),
        };
        let mut split = Split {
            test: self.test.render(scope)?.unwrap_or_default(),
            weights: Vec::with_capacity(names.len()),
        };
        let mut emissions = Vec::with_capacity(names.len());
        for name in names {
            let name = name.text().ok_or_else(|| unfit("their names are no text"))?;
            let weight =
                if self.weights.is_some() { weights.get(&*name).copied() } else { Some(1) };
            split.weights.push(weight.unwrap_or(0));
            emissions.push(emit.render(&scope.with("variant", Var::value(name)))?);
        }
        if split.weights.iter().all(|weight| *weight == 0) {
            return Err(unfit("all weights are zero"));
        }
        Ok(Outgoing { emissions, split: Some(split) })
    }
}

fn weights_of(json: &[u8]) -> Option<BTreeMap<String, u32>> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_slice(json).ok()?;
    members.into_iter().map(|(name, raw)| Some((name, raw.get().parse().ok()?))).collect()
}

/// What templates may say of a message, beside its data.
#[derive(Debug)]
struct Facts {
    id: Arc<str>,
    channel: Arc<str>,
    event: Option<Arc<str>>,
    time: Timestamp,
    offset: Option<u64>,
}

impl Facts {
    fn of(message: &Message) -> Self {
        Self {
            id: message.id.as_str().into(),
            channel: message.channel.as_str().into(),
            event: message.event.as_ref().map(|event| event.as_str().into()),
            time: message.time,
            offset: message.stored.map(|stored| stored.offset.0),
        }
    }
}

impl Object for Facts {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "id" => Some(Value::from(Arc::clone(&self.id))),
            "channel" => Some(Value::from(Arc::clone(&self.channel))),
            "event" => self.event.clone().map(Value::from),
            "time_ms" => Some(Value::from(self.time.0)),
            "time_iso" => Some(Value::from(iso(self.time))),
            "offset" => self.offset.map(Value::from),
            _ => None,
        }
    }
}
