use broker_core::{ErrorCode, JsonText};
use serde_json::json;

use super::*;

fn face(text: &str) -> Arc<Face> {
    let profile = Profile::parse(text, "test.toml").unwrap_or_else(|errors| panic!("{errors}"));
    Arc::clone(&profile.faces["f"])
}

fn one(step: &str) -> Arc<Face> {
    face(&format!("[faces.f.verbs.go]\ndo = [{step}]"))
}

#[test]
fn a_value_stays_within_its_segment() {
    let join = one("{ join = 'room:{{ data }}' }");
    let ann = user("ann", &[]);
    let go = |value| react(&join, &ann, "go", &[value]);
    assert_eq!(go(json!("a b")).unwrap(), ["join room:a b"]);
    assert_eq!(go(json!(7)).unwrap(), ["join room:7"]);
    for bad in ["a:b", ":", "*", "**", "", "a\u{0}b", &"x".repeat(300)] {
        let failure = go(json!(bad)).expect_err(bad);
        assert_eq!(failure.code, ErrorCode::InvalidName, "{bad}");
    }
    for bad in [json!(null), json!([]), json!({}), json!({"toString": 1})] {
        assert_eq!(go(bad).unwrap_err().code, ErrorCode::BadRequest);
    }
    let two = one("{ join = 'room:{{ data.a }}{{ data.b }}' }");
    let failure = react(&two, &ann, "go", &[json!({"a": "*", "b": "*"})]).unwrap_err();
    assert_eq!(failure.code, ErrorCode::InvalidName);
    let free = one("{ join = '{{ data | segments }}' }");
    let joined = react(&free, &ann, "go", &[json!("orders:*")]).unwrap();
    assert_eq!(joined, ["join orders:*"], "the rules of the namespace decide on wildcards");
    let own = one("{ publish = 'user:{{ data }}' }");
    assert_eq!(react(&own, &ann, "go", &[json!("a:*")]).unwrap(), ["publish user:a%3A* \"a:*\""]);
}

#[test]
fn what_is_passed_on_is_not_touched() {
    let emit = one(
        "{ emit = 'e', args = ['{{ data }}', '{{ data.inner }}', [1, '{{ data.inner[0] }}']] }",
    );
    let strange = r#"{ "inner" : [ 1e400, "\ud800", 1.50 ], "inner2": 1 }"#;
    let ann = user("ann", &[]);
    let reaction =
        emit.verb("go").unwrap().evaluate(&context(&ann), "go", &[raw(strange)]).unwrap();
    let Action::Emit(emission) = &reaction.actions[0] else { panic!() };
    assert_eq!(text(&emission.args[0]), strange);
    assert_eq!(text(&emission.args[1]), r#"[ 1e400, "\ud800", 1.50 ]"#);
    assert_eq!(text(&emission.args[2]), "[1,1e400]");
    let bytes = broker_core::Data::Binary(Bytes::from_static(b"\0\xff"));
    let publish = one("{ publish = 'a:b' }");
    let reaction = publish
        .verb("go")
        .unwrap()
        .evaluate(&context(&ann), "go", std::slice::from_ref(&bytes))
        .unwrap();
    let Action::Publish(posting) = &reaction.actions[0] else { panic!() };
    assert_eq!(posting.publish.data, bytes);
}

#[test]
fn what_is_not_there_fails_and_can_be_replaced_or_left_out() {
    let ann = user("ann", &[]);
    let go = |step: &str, value: Value| react(&one(step), &ann, "go", &[value]);
    let failure = go("{ emit = 'e', data = '{{ data.x }}' }", json!({})).unwrap_err();
    assert_eq!(failure.text, "`data.x` has no value");
    assert_eq!(
        text(&failure.ack[0]),
        "{\"error\":\"`data.x` has no value\",\"code\":\"bad_request\"}"
    );
    let step = "{ emit = 'e', data = { a = \"{{ data.x | default('d') }}\", b = '{{ data.y | default(omit) }}', c = [1, '{{ omit }}', 2], d = 'n: {{ data.n }}' } }";
    let told = go(step, json!({"y": null, "n": 2.5})).unwrap();
    assert_eq!(told, [r#"emit e {"a":"d","b":null,"c":[1,2],"d":"n: 2.5"}"#]);
    assert_eq!(
        go(step, json!({"x": {"k": 1}, "n": "z"})).unwrap(),
        [r#"emit e {"a":{"k":1},"c":[1,2],"d":"n: z"}"#]
    );
}

#[test]
fn steps_depend_on_conditions_and_a_failing_one_leaves_nothing_done() {
    let both = one("{ emit = 'yes', when = '{{ data.go }}' }, { join = 'a:{{ data.to }}' }");
    let ann = user("ann", &[]);
    let go = |value| react(&both, &ann, "go", &[value]);
    assert_eq!(go(json!({"go": true, "to": "b"})).unwrap(), ["emit yes ", "join a:b"]);
    assert_eq!(go(json!({"go": 0, "to": "b"})).unwrap(), ["join a:b"]);
    assert!(go(json!({"go": true})).is_err());
}

#[test]
fn verbs_need_roles_or_claims_and_have_rates() {
    let face = face(
        "[faces.f.verbs.go]\ndo = [{ flush_offline = true }]\nrate = '30/m'\n\
         require = ['role:admin', 'claim:team=red', 'user:root']\n\
         ack_error = { code = '{{ error.code }}', by = '{{ user }}' }",
    );
    let verb = face.verb("go").unwrap();
    assert_eq!(verb.rate, Some(Rate { count: 30, per: std::time::Duration::from_secs(60) }));
    assert_eq!(verb.number, 0);
    let mut red = user("bob", &[]);
    red.claims.insert("team".to_owned(), vec!["blue".to_owned(), "red".to_owned()]);
    for (identity, allowed) in [
        (user("ann", &["admin"]), true),
        (red, true),
        (user("root", &[]), true),
        (user("ann", &["staff"]), false),
        (Identity::default(), false),
    ] {
        let outcome = react(&face, &identity, "go", &[]);
        assert_eq!(outcome.is_ok(), allowed, "{identity:?}");
    }
    let ann = user("ann", &[]);
    let often = verb.too_often(&context(&ann), "go");
    assert_eq!(text(&often.ack[0]), "{\"code\":\"overloaded\",\"by\":\"ann\"}");
}

#[test]
fn many_variables_say_who_speaks() {
    let emit =
        one("{ emit = '{{ event }}', data = ['{{ connection }}', '{{ user }}', '{{ role }}', \
         '{{ roles }}', '{{ claims.team }}', '{{ claims.many }}', '{{ now_ms }}', '{{ args }}', \
         '{{ now_ms | iso }}', '{{ args | length }}', '{{ data | json }}'] }");
    let mut ann = user("ann", &["a", "b"]);
    ann.claims.insert("team".to_owned(), vec!["red".to_owned()]);
    ann.claims.insert("many".to_owned(), vec!["1".to_owned(), "2".to_owned()]);
    let told = react(&emit, &ann, "go", &[json!({"k": [1]}), json!(2)]).unwrap();
    let expected = format!(
        "emit go [\"c-1\",\"ann\",\"a\",[\"a\",\"b\"],\"red\",[\"1\",\"2\"],{},[{{\"k\":[1]}},2],\
         \"{NOW_ISO}\",2,\"{{\\\"k\\\":[1]}}\"]",
        NOW.0
    );
    assert_eq!(told, [expected]);
}

#[test]
fn weights_split_recipients_unevenly() {
    let face = face(
        "[[faces.f.outgoing]]\nchannel = 'a:*'\nemit = 'e'\ndata = '{{ variant }}'\n\
         variants = { test = 't', of = '{{ data.names }}', weights = '{{ data.weights }}' }",
    );
    let apply = |body: Value| face.outgoing(&message("a:b", None, &body));
    let outgoing = apply(json!({"names": ["x", "y"], "weights": {"x": 9, "y": 1}})).unwrap();
    let split = outgoing.split.unwrap();
    let rare = (0..1000).filter(|user| split.pick(&user.to_string()) == 1).count();
    assert!((60..140).contains(&rare), "{rare}");
    for bad in [
        json!({"names": [], "weights": {}}),
        json!({"names": ["x"], "weights": {"x": 0}}),
        json!({"names": ["x"], "weights": {"x": -1}}),
        json!({"names": "x", "weights": {"x": 1}}),
        json!({"names": (0..33).collect::<Vec<_>>(), "weights": {}}),
    ] {
        assert!(apply(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn what_the_handshake_said_is_there_for_faces_that_ask() {
    let greets = |args: &str| {
        face(&format!("[faces.f]\non_connect = [{{ emit = 'hello', args = [{args}] }}]"))
    };
    assert!(!greets("'{{ user }}'").asks_for_handshake);
    let face = greets("'{{ handshake.query.room }}', '{{ handshake.auth }}'");
    assert!(face.asks_for_handshake);
    let said = JsonText::from_checked(r#"{"query":{"room":"a"},"auth":{"n":1.50}}"#.into());
    let ann = user("ann", &[]);
    let context = Context { handshake: Some(&said), ..context(&ann) };
    let actions = face.on_connect(&context).unwrap();
    assert_eq!(short(&actions), [r#"emit hello "a" {"n":1.50}"#]);
}

#[test]
fn a_refusal_is_worded_by_the_profile() {
    let text = "[faces.f.auth.refusal]\nmessage = 'no: {{ error.text }}'\n\
                data = { why = '{{ error.code }}' }";
    let face = face(text);
    let refusal = face.refusal(NOW, ErrorCode::Forbidden, "role").unwrap();
    assert_eq!(refusal.message, "no: role");
    assert_eq!(value(&refusal.data.unwrap()), json!({"why": "forbidden"}));
    let both = format!("{text}\n[faces.f.auth.failure]\nemit = 'auth_error'");
    let errors = Profile::parse(&both, "test.toml").unwrap_err().to_string();
    assert!(errors.contains("write that or `refusal`"), "{errors}");
}
