//! Whatever is sent, however it is cut.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::ws::deflate::tests::deflated;
use compressed::RSV1;

/// One message with where to cut it into fragments, and a control message for each cut.
#[derive(Debug, Clone)]
struct Sent {
    message: Message,
    compressed: bool,
    cuts: Vec<prop::sample::Index>,
    between: Vec<Option<Message>>,
}

fn control() -> impl Strategy<Value = Message> {
    prop_oneof![
        vec(any::<u8>(), 0..=125).prop_map(Message::Ping),
        vec(any::<u8>(), 0..=125).prop_map(Message::Pong)
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    let message = prop_oneof![
        "\\PC{0,200}".prop_map(Message::Text),
        vec(any::<u8>(), 0..LIMIT - 20).prop_map(Message::Binary),
        control(),
    ];
    let cuts = vec(any::<prop::sample::Index>(), 0..5);
    let between = vec(prop::option::of(control()), 5);
    (message, any::<bool>(), cuts, between).prop_map(|(message, compressed, cuts, between)| Sent {
        message,
        compressed,
        cuts,
        between,
    })
}

fn wire(message: &Message) -> (Opcode, &[u8]) {
    match message {
        Message::Text(text) => (Opcode::Text, text.as_bytes()),
        Message::Binary(bytes) => (Opcode::Binary, bytes),
        Message::Ping(bytes) => (Opcode::Ping, bytes),
        Message::Pong(bytes) => (Opcode::Pong, bytes),
        Message::Close(_) => unreachable!("not generated: nothing may follow it"),
    }
}

/// Writes frames as a client, and notes in which order their messages become complete.
struct Sender {
    stream: BytesMut,
    expected: Vec<Message>,
    key: u32,
}

impl Sender {
    fn frame(&mut self, opcode: Opcode, fin: bool, payload: &[u8]) {
        self.key = self.key.wrapping_mul(0x9E37_79B9).wrapping_add(1);
        client_frame(&mut self.stream, opcode, fin, self.key.to_ne_bytes(), payload);
    }

    fn send(&mut self, sent: Sent) {
        let (mut opcode, payload) = wire(&sent.message);
        let compressed = sent.compressed && !opcode.is_control();
        let payload = if compressed { deflated(payload) } else { payload.to_vec() };
        let (first, mut start) = (self.stream.len(), 0);
        if !opcode.is_control() {
            let mut cuts: Vec<usize> =
                sent.cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
            cuts.sort_unstable();
            for (cut, between) in cuts.into_iter().zip(sent.between) {
                self.frame(opcode, false, &payload[start..cut]);
                (opcode, start) = (Opcode::Continuation, cut);
                if let Some(control) = between {
                    let (opcode, payload) = wire(&control);
                    self.frame(opcode, true, payload);
                    self.expected.push(control);
                }
            }
        }
        self.frame(opcode, true, &payload[start..]);
        self.stream[first] |= if compressed { RSV1 } else { 0 };
        self.expected.push(sent.message);
    }
}

/// Feeds `stream` cut into pieces of the given sizes, over and over, and checks the memory held after each.
fn decode_cut(
    role: Role,
    stream: &[u8],
    sizes: &[usize],
) -> (Vec<Message>, Result<(), WsError>, usize) {
    let mut decoder = Decoder::new(role, LIMIT).with_deflate(true);
    let mut seen = Vec::new();
    let mut rest = stream;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, after) = rest.split_at((*size).min(rest.len()));
        rest = after;
        if let Err(error) = feed(&mut decoder, chunk, &mut seen) {
            return (seen, Err(error), decoder.held());
        }
        assert!(decoder.held() <= LIMIT + 512, "holds {}", decoder.held());
    }
    (seen, Ok(()), decoder.held())
}

fn decode_deflate(role: Role, stream: &[u8], size: usize) -> (Vec<Message>, Result<(), WsError>) {
    decode_with(Decoder::new(role, LIMIT).with_deflate(true), stream, size)
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![1..4_usize, 1..40_usize, 1..2000_usize], 1..8)
}

proptest! {
    #[test]
    fn what_a_client_sends_is_what_a_server_reads(messages in vec(sent(), 0..12), key: u32, sizes in sizes()) {
        let mut sender = Sender { stream: BytesMut::new(), expected: Vec::new(), key };
        messages.into_iter().for_each(|message| sender.send(message));
        let (seen, outcome, held) = decode_cut(Role::Server, &sender.stream, &sizes);
        prop_assert_eq!(seen, sender.expected);
        prop_assert_eq!((outcome, held), (Ok(()), 0));
    }

    #[test]
    fn arbitrary_bytes_mean_the_same_however_cut(stream in vec(any::<u8>(), 0..3000), server: bool, sizes in sizes()) {
        let role = if server { Role::Server } else { Role::Client };
        let (seen, outcome, _) = decode_cut(role, &stream, &sizes);
        prop_assert_eq!(decode_deflate(role, &stream, stream.len().max(1)), (seen, outcome));
    }

    /// Random bytes die at the first header; a damaged stream gets deeper.
    #[test]
    fn a_damaged_stream_means_the_same_however_cut(
        messages in vec(sent(), 1..6),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        sizes in sizes(),
    ) {
        let mut sender = Sender { stream: BytesMut::new(), expected: Vec::new(), key: 1 };
        messages.into_iter().for_each(|message| sender.send(message));
        let mut stream = sender.stream.to_vec();
        for (at, byte) in damage {
            let at = at.index(stream.len());
            stream[at] ^= byte;
        }
        let (seen, outcome, _) = decode_cut(Role::Server, &stream, &sizes);
        prop_assert_eq!(decode_deflate(Role::Server, &stream, stream.len()), (seen, outcome));
    }
}
