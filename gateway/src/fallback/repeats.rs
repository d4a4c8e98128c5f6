//! Messages to the user that come once more, because nobody has acknowledged them.
//!
//! A client without WebSocket acknowledges by the cursor that it brings when it comes back, or by
//! a command. Until then the queue gives it again what it has. Here it is left out, but only where
//! that is certain: what comes again ends with the very message that the client got last. Offsets
//! alone would not do, for a store that lost its newest messages gives theirs to others.

use broker_core::Position;

use super::object::Object;

/// Bytes that are held back at most.
const MAX_HELD: usize = 1 << 20;

/// Leaves out repetitions.
#[derive(Debug)]
pub(super) struct Repeats {
    /// The user's channel.
    channel: String,
    /// The last message there that the client got.
    last: Option<Position>,
    /// Perhaps repetitions.
    held: Vec<Object>,
    bytes: usize,
}

impl Repeats {
    pub(super) fn new(channel: String, last: Option<Position>) -> Self {
        Self { channel, last, held: Vec::new(), bytes: 0 }
    }

    /// What to pass on for an object that came.
    pub(super) fn pass(&mut self, object: Object) -> Vec<Object> {
        if object.kind == "evicted" && object.position.is_some_and(|it| self.has(&it)) {
            return Vec::new();
        }
        let own = object.kind == "message" && object.channel.as_deref() == Some(&self.channel);
        let (true, Some(position)) = (own, object.position) else { return vec![object] };
        match self.last {
            Some(last) if position == last => {
                self.held = Vec::new();
                self.bytes = 0;
                Vec::new()
            }
            Some(last) if position.epoch == last.epoch && position.offset < last.offset => {
                self.bytes += object.json.len();
                self.held.push(object);
                if self.bytes > MAX_HELD { self.release() } else { Vec::new() }
            }
            _ => {
                let mut passed = self.release();
                self.last = Some(position);
                passed.push(object);
                passed
            }
        }
    }

    /// Whether the client stands there, or behind.
    fn has(&self, position: &Position) -> bool {
        self.last.is_some_and(|last| last.epoch == position.epoch && last.offset >= position.offset)
    }

    /// What was held back, though no repetition came of it.
    pub(super) fn release(&mut self) -> Vec<Object> {
        self.bytes = 0;
        let held = std::mem::take(&mut self.held);
        if let Some(position) = held.last().and_then(|object| object.position) {
            self.last = Some(position);
        }
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(position: &str) -> Object {
        let text = format!(
            r#"{{"type":"message","channel":"user:kim","position":"{position}","data":1}}"#
        );
        Object::read(text).unwrap()
    }

    fn passed(repeats: &mut Repeats, positions: &[&str]) -> Vec<String> {
        let passed = positions.iter().flat_map(|position| repeats.pass(message(position)));
        passed.map(|object| object.position.unwrap().to_string()).collect()
    }

    fn after(last: &str) -> Repeats {
        Repeats::new("user:kim".to_owned(), last.parse().ok())
    }

    #[test]
    fn what_ends_with_the_last_message_is_a_repetition() {
        let mut repeats = after("a.3.00000003");
        let [one, two, three] = ["a.1.00000001", "a.2.00000002", "a.3.00000003"];
        assert_eq!(passed(&mut repeats, &[one, two, three]), [""; 0]);
        let four = "a.4.00000004";
        assert_eq!(passed(&mut repeats, &[four, three, four, one, four]), [four]);
    }

    #[test]
    fn what_only_looks_like_one_is_passed_on() {
        let mut repeats = after("a.3.00000003");
        let others = ["a.1.00000001", "a.2.00000077", "a.4.00000004"];
        assert_eq!(passed(&mut repeats, &others), others, "the last one is another");
        let elsewhere = ["b.1.00000001", "b.2.00000002"];
        assert_eq!(passed(&mut repeats, &elsewhere), elsewhere, "another log");
        assert_eq!(passed(&mut after("a.3.00000003"), &["a.3.00000009"]), ["a.3.00000009"]);
        let mut repeats = after("a.3.00000003");
        assert_eq!(passed(&mut repeats, &["a.2.00000002"]), [""; 0]);
        assert_eq!(repeats.release().len(), 1, "nothing is kept for ever");
        assert_eq!(passed(&mut repeats, &["a.3.00000003"]), ["a.3.00000003"]);
    }

    #[test]
    fn of_losses_is_told_who_does_not_stand_behind_them() {
        let evicted = |position| {
            let text =
                format!(r#"{{"type":"evicted","evicted":1,"expired":0,"position":"{position}"}}"#);
            Object::read(text).unwrap()
        };
        for (position, told) in [("a.2", 0), ("a.3", 0), ("a.4.00000004", 1), ("b.1", 1)] {
            assert_eq!(after("a.3").pass(evicted(position)).len(), told, "{position}");
        }
        assert_eq!(Repeats::new("user:kim".to_owned(), None).pass(evicted("a.3")).len(), 1);
    }

    #[test]
    fn others_are_not_judged() {
        let mut repeats = after("a.3.00000003");
        for text in [
            r#"{"type":"message","channel":"venue:1","position":"a.1","data":1}"#,
            r#"{"type":"message","channel":"user:kim","data":1}"#,
            r#"{"type":"subscribed","channel":"user:kim","position":"a.1"}"#,
        ] {
            assert_eq!(repeats.pass(Object::read(text.to_owned()).unwrap()).len(), 1, "{text}");
        }
    }
}
