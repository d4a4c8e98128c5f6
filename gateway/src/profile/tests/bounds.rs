//! Nothing that a profile says or a client sends makes evaluation fail in another way than by
//! saying so, or makes much out of little.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

/// What an expression is put together of.
const WORDS: [&str; 40] = [
    "data",
    "args",
    "user",
    "claims",
    "event",
    "now_ms",
    "roles",
    "omit",
    "none",
    "true",
    ".a",
    ".b",
    "[0]",
    "[1:]",
    "| default(1)",
    "| default({})",
    "| segments",
    "| json",
    "| length",
    "| int",
    "| iso",
    "is string",
    "is mapping",
    "is defined",
    "+",
    "-",
    "~",
    "//",
    "%",
    "==",
    "in",
    "and",
    "not",
    "(",
    ")",
    "[",
    "]",
    "'x'",
    "if",
    "else",
];

fn expression() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        8 => prop::sample::select(&WORDS[..]).prop_map(str::to_owned),
        1 => "\\PC{0,4}",
    ];
    prop::collection::vec(word, 1..10).prop_map(|words| words.join(" "))
}

fn template() -> impl Strategy<Value = String> {
    prop_oneof![
        expression().prop_map(|it| format!("{{{{ {it} }}}}")),
        (expression(), expression()).prop_map(|(a, b)| format!("x{{{{{a}}}}}:{{{{{b}}}}}")),
        "[{}a-z:*% |.\"']{0,12}",
    ]
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("1e400".to_owned()),
        Just("-0".to_owned()),
        Just("\"\\ud800\"".to_owned()),
        Just("18446744073709551616".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        "\\PC{0,8}".prop_map(|text| Value::from(text).to_string()),
        Just("\"*\"".to_owned()),
        (1_usize..3000).prop_map(|size| Value::from("y".repeat(size)).to_string()),
    ];
    leaf.prop_recursive(4, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|it| format!("[{}]", it.join(","))),
            prop::collection::vec(("[ab]|\\\\ud800", inner), 0..4).prop_map(|members| {
                let mut object = String::from("{");
                for (index, (name, value)) in members.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(object, "{comma}\"{name}\":{value}").unwrap();
                }
                object + "}"
            }),
        ]
    })
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn size(actions: &[Action]) -> usize {
    let one = |action: &Action| match action {
        Action::Emit(it) => it.args.iter().map(broker_core::Data::len).sum(),
        Action::Publish(it) => it.publish.data.len(),
        Action::Call(it) => it.request.data.len(),
        _ => 0,
    };
    actions.iter().map(one).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn evaluation_is_bounded_whatever_the_template_and_the_arguments(
        payload in template(),
        channel in template(),
        first in json(),
        second in json(),
    ) {
        let (payload, channel) = (quoted(&payload), quoted(&channel));
        for steps in [
            format!("{{ emit = 'e', data = {{ a = {payload}, b = [{payload}] }} }}"),
            format!("{{ emit = {payload}, data = {payload} }}"),
            format!("{{ publish = {channel}, data = {payload}, id = {payload} }}"),
            format!("{{ join = {channel}, when = {payload} }}"),
            format!("{{ call = {channel}, data = {{ for_each = {payload}, make = [{payload}] }} }}"),
        ] {
            let text = format!("[faces.f.verbs.go]\ndo = [{steps}]\nack = {payload}");
            let Ok(profile) = Profile::parse(&text, "p.toml") else { continue };
            let verb = profile.faces["f"].verb("go").unwrap();
            let ann = user("ann", &["staff"]);
            let args = [raw(&first), raw(&second)];
            let given = first.len() + second.len();
            if let Ok(reaction) = verb.evaluate(&context(&ann), "go", &args) {
                prop_assert!(size(&reaction.actions) <= 16 * given + (256 << 10));
                for data in reaction.ack.done(None) {
                    prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(
                        text_of(&data)).is_ok());
                }
                for action in &reaction.actions {
                    if let Action::Emit(emission) = action {
                        for data in &emission.args {
                            prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(
                                text_of(data)).is_ok());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn outgoing_rules_are_bounded_whatever_the_message(payload in template(), body in json()) {
        let payload = quoted(&payload);
        let text = format!(
            "[[faces.f.outgoing]]\nchannel = 'a:{{x}}'\nemit = 'e'\ndata = {payload}\n\
             [[faces.f.outgoing]]\nchannel = 'b:{{x}}'\nemit = 'e'\n\
             variants = {{ test = 't', of = {payload} }}"
        );
        if let Ok(profile) = Profile::parse(&text, "p.toml") {
            for channel in ["a:b", "b:c"] {
                let mut message = message(channel, None, &Value::Null);
                message.data = raw(&body);
                if let Ok(outgoing) = profile.faces["f"].outgoing(&message) {
                    prop_assert!(outgoing.emissions.len() <= 32);
                    prop_assert!(outgoing.emission("ann").is_some());
                }
            }
        }
    }

    #[test]
    fn reading_a_profile_never_panics(text in "\\PC{0,200}") {
        let _outcome = Profile::parse(&text, "p.toml");
    }
}

fn text_of(data: &broker_core::Data) -> &[u8] {
    match data {
        broker_core::Data::Json(text) => text.as_bytes(),
        broker_core::Data::Binary(_) => b"null",
    }
}
