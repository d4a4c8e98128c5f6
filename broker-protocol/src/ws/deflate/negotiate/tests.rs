use super::*;

#[test]
fn what_can_be_kept_is_accepted() {
    for offer in [
        "permessage-deflate",
        " permessage-deflate ;client_max_window_bits",
        "permessage-deflate; client_max_window_bits=8",
        "permessage-deflate;client_max_window_bits=\"15\"",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; client_max_window_bits = 10\t",
        "x-webkit-deflate-frame, permessage-deflate",
        "foo; bar=\"a, b; \\\"c\\\"\"; baz, permessage-deflate",
        "permessage-deflate; unknown, permessage-deflate",
        "permessage-deflate; server_max_window_bits=9, permessage-deflate; client_max_window_bits",
        ",permessage-deflate,,",
    ] {
        assert_eq!(negotiate([offer]), Some(ANSWER), "{offer}");
    }
}

#[test]
fn a_bound_on_the_servers_window_is_answered_with_one() {
    for offer in [
        "permessage-deflate; server_max_window_bits=15",
        "permessage-deflate; client_max_window_bits; server_max_window_bits=\"15\"",
        "permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=15",
    ] {
        assert_eq!(negotiate([offer]), Some(ANSWER_WITH_WINDOW), "{offer}");
    }
    assert!(ANSWER_WITH_WINDOW.ends_with(&format!("server_max_window_bits={WINDOW_BITS}")));
}

#[test]
fn what_cannot_be_kept_is_declined() {
    for offer in [
        "",
        "x-webkit-deflate-frame",
        "Permessage-deflate2",
        "permessage-deflate; unknown",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover=true",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; client_max_window_bits; client_max_window_bits",
        "permessage-deflate; server_max_window_bits=15; server_max_window_bits=15",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=14",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=015",
        "permessage-deflate; server_max_window_bits=+15",
        "permessage-deflate; server_max_window_bits=\"\"",
        "permessage-deflate; server_max_window_bits=999999999999",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=08",
        "permessage-deflate; client_max_window_bits=x",
        "permessage-deflate; client_max_window_bits=\"1\\5\"",
    ] {
        assert_eq!(negotiate([offer]), None, "{offer}");
    }
}

#[test]
fn what_breaks_the_grammar_offers_nothing() {
    for offer in [
        "permessage-deflate;",
        "permessage-deflate; ;",
        "permessage-deflate; client_max_window_bits=",
        "permessage-deflate; client_max_window_bits=\"15",
        "permessage-deflate; client_max_window_bits=\"15\\\"",
        "permessage-deflate client_max_window_bits",
        "=15, permessage-deflate",
        "permessage-deflate, ;",
        "permessage-deflate, \u{e9}",
    ] {
        assert_eq!(negotiate([offer]), None, "{offer}");
    }
}

#[test]
fn headers_that_are_repeated_are_one_list() {
    assert_eq!(negotiate(["foo", "permessage-deflate"]), Some(ANSWER));
    assert_eq!(
        negotiate(["permessage-deflate", "permessage-deflate; server_max_window_bits=15"]),
        Some(ANSWER)
    );
    assert_eq!(negotiate(["permessage-deflate", "="]), None);
    assert_eq!(negotiate([]), None);
}

proptest::proptest! {
    #[test]
    fn whatever_is_offered_is_judged(value in "(permessage-deflate|[;,=\" \\\\]|[a-z_]{0,3}|server_max_window_bits|1|5|\\PC){0,12}") {
        if let Some(answer) = negotiate([&*value]) {
            proptest::prop_assert!(value.contains(NAME) && answer.starts_with(NAME));
        }
    }
}
