//! `docs/protocol.md` against the code.

use broker_core::{CloseCode, ErrorCode};

use super::{describe, *};
use crate::native::client::ServerFrame;

const SPECIFICATION: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md"));

fn has_row(start: &str) -> bool {
    SPECIFICATION.lines().any(|line| line.starts_with(start))
}

#[test]
fn each_error_code_has_its_row() {
    for code in ErrorCode::ALL {
        let row = format!("| `{}` | {} | ", code.as_str(), describe::retry(code.retry()));
        assert!(has_row(&row), "docs/protocol.md lacks: {row}");
    }
}

#[test]
fn each_close_code_has_its_row() {
    for code in CloseCode::ALL {
        let reconnect = if code.reconnect() { "yes" } else { "no" };
        let reason = if code.reason().is_empty() { "–" } else { code.reason() };
        let row = format!("| {} | {reason} | {reconnect} | ", code.number());
        assert!(has_row(&row), "docs/protocol.md lacks: {row}");
    }
}

#[test]
fn the_examples_are_of_the_dialect() {
    let (mut sent, mut received) = (0, 0);
    for line in SPECIFICATION.lines() {
        if let Some(frame) = line.strip_prefix("→ ") {
            sent += 1;
            assert!(commands(frame).iter().all(Result::is_ok), "{frame}");
        } else if let Some(frame) = line.strip_prefix("← ") {
            received += 1;
            let parsed = client::parse_text(frame).unwrap();
            assert!(!matches!(parsed, ServerFrame::Unknown { .. }), "{frame}");
        }
    }
    assert!(sent > 8 && received > 8, "{sent} {received}");
}

#[test]
fn the_limits_are_the_codes() {
    assert!(SPECIFICATION.contains(&format!("at most {MAX_COMMANDS} commands")));
    assert!(SPECIFICATION.contains(&format!("at most {} levels", crate::json::MAX_DEPTH)));
    assert!(SPECIFICATION.contains(&format!("`{SUBPROTOCOL}`")));
    assert!(SPECIFICATION.contains(&format!("`{TOKEN_PREFIX}<jwt>`")));
}
