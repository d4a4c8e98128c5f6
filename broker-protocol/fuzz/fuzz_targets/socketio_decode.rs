//! No messages may panic the decoders, and what decodes must survive being written and read again.

#![no_main]

use broker_protocol::{
    engineio::{Packet, decode_payload},
    socketio::{Arguments, Body, Decoder, Namespace, Outgoing, Parser},
    ws::{self, Incoming},
};
use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let mut decoder = Decoder::new(1 << 20);
    // What begins otherwise is one binary message, of a client that speaks MessagePack.
    if !matches!(body.first(), Some(b'4' | b'b')) {
        check(
            decoder.binary(Bytes::copy_from_slice(body)).ok().flatten().map(|packet| packet.body),
        );
        return;
    }
    let Ok(packets) = decode_payload(body, 100) else { return };
    for packet in packets {
        let decoded = match packet {
            Ok(Packet::Text(text)) => decoder.text(text),
            Ok(Packet::Binary(bytes)) => decoder.binary(bytes),
            Ok(_) => continue,
            Err(_) => return,
        };
        let Ok(decoded) = decoded else { return };
        check(decoded.map(|packet| packet.body));
    }
});

fn check(body: Option<Body>) {
    let Some(Body::Event { name, id, args }) = body else { return };
    let outgoing = Outgoing::Event { name: &name, id, args: Arguments::Same(&args), offset: None };
    for parser in [Parser::Json, Parser::MsgPack] {
        let mut frames = BytesMut::new();
        parser.encode(&Namespace::MAIN, &outgoing, &mut frames);
        let (mut frames, mut decoder, mut again) = (&mut frames[..], Decoder::new(1 << 24), None);
        let mut reader = ws::Decoder::new(ws::Role::Client, usize::MAX);
        while let Some(incoming) = reader.next(&mut frames).expect("frames") {
            again = match incoming {
                Incoming::Text(text) => match Packet::decode(text).expect("a packet") {
                    Packet::Text(text) => decoder.text(text).expect("a text packet"),
                    other => panic!("{other:?}"),
                },
                Incoming::Binary(bytes) => {
                    decoder.binary(Bytes::copy_from_slice(bytes)).expect("a binary packet")
                }
                _ => panic!("no message"),
            };
        }
        let Some(Body::Event { name: again_name, id: again_id, args: again }) =
            again.map(|it| it.body)
        else {
            panic!("no event");
        };
        assert_eq!((again_name, again_id), (name.clone(), id));
        // MessagePack has no numbers: there, attachments are in the order of their places.
        assert_eq!(again.attachments().len(), args.attachments().len());
        if parser == Parser::Json {
            assert_eq!(again, args);
        }
    }
}
