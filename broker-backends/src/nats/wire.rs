//! What a nats-server sends, as values that borrow from what was read.

use memchr::memchr;

/// Longest line: the list of a cluster's servers is the longest there is.
pub(super) const MAX_LINE: usize = 65_536;
/// Longest message that is taken, whatever the server says of its own limit.
const MAX_MESSAGE: usize = 128 << 20;

/// One operation of the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Op<'a> {
    /// What the server says of itself, in JSON.
    Info(&'a [u8]),
    Message(Delivery<'a>),
    Ping,
    Pong,
    Ok,
    /// Something was refused, in the server's words.
    Refusal(String),
}

/// A message, by way of one subscription.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Delivery<'a> {
    /// The number that the subscription was given.
    pub(super) number: u64,
    pub(super) subject: &'a [u8],
    /// The block of headers, with its version line; empty without headers.
    pub(super) headers: &'a [u8],
    pub(super) payload: &'a [u8],
}

/// What came is not the protocol: nothing more can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server does not speak NATS: {0}")]
pub(super) struct Broken(&'static str);

/// The largest message to take from a server that takes `max_payload` itself: messages from
/// elsewhere may be larger, and headers come on top.
pub(super) fn max_message(max_payload: usize) -> usize {
    max_payload.saturating_mul(2).clamp(2 << 20, MAX_MESSAGE)
}

/// Reads one operation from the front of `input` and says how long it is; `None`: there must come
/// more, at most [`MAX_LINE`] and `max_message` in all.
pub(super) fn parse(input: &[u8], max_message: usize) -> Result<Option<(Op<'_>, usize)>, Broken> {
    let searched = &input[..input.len().min(MAX_LINE)];
    let Some(end) = memchr(b'\n', searched) else {
        let endless = searched.len() == MAX_LINE;
        return if endless { Err(Broken("a line does not end")) } else { Ok(None) };
    };
    let line = searched[..end].strip_suffix(b"\r").unwrap_or(&searched[..end]);
    let verb_end = line.iter().position(is_blank).unwrap_or(line.len());
    let (verb, rest) = (&line[..verb_end], line[verb_end..].trim_ascii());
    let op = match verb {
        b"MSG" => return message(rest, false, input, end + 1, max_message),
        b"HMSG" => return message(rest, true, input, end + 1, max_message),
        b"PING" => Op::Ping,
        b"PONG" => Op::Pong,
        b"+OK" => Op::Ok,
        b"INFO" => Op::Info(rest),
        b"-ERR" => Op::Refusal(String::from_utf8_lossy(rest).trim_matches('\'').to_owned()),
        _ => return Err(Broken("an unknown operation")),
    };
    Ok(Some((op, end + 1)))
}

/// `<subject> <number> [reply] [length of the headers] <length of all>`, and then that much.
fn message<'a>(
    line: &'a [u8],
    has_headers: bool,
    input: &'a [u8],
    start: usize,
    max_message: usize,
) -> Result<Option<(Op<'a>, usize)>, Broken> {
    let mut fields = line.split(is_blank).filter(|field| !field.is_empty());
    let (subject, sid) = (fields.next(), fields.next().and_then(number));
    let (total, before) = (fields.next_back().and_then(number), fields.next_back());
    let header_length = if has_headers { before.and_then(number) } else { Some(0) };
    // What is left may be one field, where answers go.
    let extra = fields.count() + usize::from(!has_headers && before.is_some());
    let (Some(subject), Some(sid), Some(header_length), Some(total), 0 | 1) =
        (subject, sid, header_length, total, extra)
    else {
        return Err(Broken("a message whose line cannot be read"));
    };
    let (Ok(header_length), Ok(total)) = (usize::try_from(header_length), usize::try_from(total))
    else {
        return Err(Broken("a message of an impossible length"));
    };
    if header_length > total {
        return Err(Broken("headers longer than their message"));
    }
    if total > max_message {
        return Err(Broken("a message longer than any should be"));
    }
    let end = start + total;
    let Some(line_break) = input.get(end..end + 2) else { return Ok(None) };
    if line_break != b"\r\n" {
        return Err(Broken("a message that does not end where it should"));
    }
    let (headers, payload) = input[start..end].split_at(header_length);
    Ok(Some((Op::Message(Delivery { number: sid, subject, headers, payload }), end + 2)))
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn number(digits: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    digits.iter().try_fold(0_u64, |sum, byte| sum.checked_mul(10)?.checked_add(digit(byte)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 1000;

    fn one(input: &[u8]) -> Op<'_> {
        let (op, length) = parse(input, MAX).unwrap().unwrap();
        assert_eq!(length, input.len());
        op
    }

    fn delivery<'a>(number: u64, subject: &'a str, parts: (&'a str, &'a str)) -> Op<'a> {
        let [subject, headers, payload] = [subject, parts.0, parts.1].map(str::as_bytes);
        Op::Message(Delivery { number, subject, headers, payload })
    }

    #[test]
    fn operations_are_read() {
        assert_eq!(one(b"PING\r\n"), Op::Ping);
        assert_eq!(one(b"PONG\r\n"), Op::Pong);
        assert_eq!(one(b"+OK\r\n"), Op::Ok);
        assert_eq!(one(b"INFO {\"a\": 1} \r\n"), Op::Info(br#"{"a": 1}"#));
        assert_eq!(one(b"-ERR 'Stale Connection'\r\n"), Op::Refusal("Stale Connection".into()));
        assert_eq!(one(b"MSG a.b 7 5\r\nhe\r\no\r\n"), delivery(7, "a.b", ("", "he\r\no")));
        assert_eq!(one(b"MSG a 7 reply 0\r\n\r\n"), delivery(7, "a", ("", "")));
        let block = "NATS/1.0\r\nA: b\r\n\r\n";
        let with_headers = format!("HMSG a\t18446744073709551615  18 20\r\n{block}hi\r\n");
        assert_eq!(one(with_headers.as_bytes()), delivery(u64::MAX, "a", (block, "hi")));
        let with_reply = format!("HMSG a 1 reply 18 18\r\n{block}\r\n");
        assert_eq!(one(with_reply.as_bytes()), delivery(1, "a", (block, "")));
    }

    #[test]
    fn what_is_no_operation_is_refused() {
        for broken in [
            "HTTP/1.1 400 Bad Request\r\n",
            "\r\n",
            "MSG a 1\r\n",
            "MSG a b 1\r\n",
            "MSG a 1 b c 1\r\n",
            "MSG a 1 -1\r\n",
            "MSG a 18446744073709551616 1\r\n",
            "MSG a 1 99999999999999999999\r\n",
            "MSG a 1 1001\r\n",
            "HMSG a 1 5\r\n",
            "HMSG a 1 b c 1 1\r\n",
            "HMSG a 1 6 5\r\n12345\r\n",
            "MSG a 1 2\r\nabcd",
        ] {
            assert!(parse(broken.as_bytes(), MAX).is_err(), "{broken:?}");
        }
        assert_eq!(parse(&[b'a'; MAX_LINE - 1], MAX), Ok(None));
        assert!(parse(&[b'a'; MAX_LINE], MAX).is_err());
    }

    #[test]
    fn the_bound_of_messages_follows_the_servers() {
        assert_eq!(max_message(0), 2 << 20);
        assert_eq!(max_message(8 << 20), 16 << 20);
        assert_eq!(max_message(usize::MAX), MAX_MESSAGE);
    }

    fn operations() -> impl Strategy<Value = Vec<u8>> {
        let message = ("[a-z.]{1,9}", any::<u64>(), prop::collection::vec(any::<u8>(), 0..40));
        prop_oneof![
            Just(b"PING\r\n".to_vec()),
            Just(b"INFO {}\r\n".to_vec()),
            Just(b"-ERR 'no'\r\n".to_vec()),
            (message, 0..40_usize).prop_map(|((subject, sid, body), headers)| {
                let line = match headers.min(body.len()) {
                    0 => format!("MSG {subject} {sid} {}\r\n", body.len()),
                    headers => format!("HMSG {subject} {sid} {headers} {}\r\n", body.len()),
                };
                [line.as_bytes(), &body, b"\r\n"].concat()
            }),
        ]
    }

    proptest! {
        /// However the bytes are cut, the same operations come out, and none before its end.
        #[test]
        fn any_cut_gives_the_same(operations in prop::collection::vec(operations(), 1..6)) {
            let stream = operations.concat();
            for cut in 0..=stream.len() {
                let (mut rest, mut seen) = (&stream[..cut], 0);
                while let Some((_, length)) = parse(rest, MAX).unwrap() {
                    prop_assert_eq!(length, operations[seen].len());
                    rest = &rest[length..];
                    seen += 1;
                }
                let whole = operations.iter().scan(0, |end, op| { *end += op.len(); Some(*end) });
                prop_assert_eq!(seen, whole.filter(|end| *end <= cut).count());
            }
        }

        #[test]
        fn nothing_makes_it_panic(
            verb in prop_oneof![Just(""), Just("MSG "), Just("HMSG "), Just("-ERR"), Just("INFO")],
            rest in prop::collection::vec(prop_oneof![any::<u8>(), Just(b' '), Just(b'1'), Just(b'\r'), Just(b'\n')], 0..60),
        ) {
            let input = [verb.as_bytes(), &rest].concat();
            if let Ok(Some((_, length))) = parse(&input, MAX) {
                prop_assert!(length <= input.len());
            }
        }
    }
}
