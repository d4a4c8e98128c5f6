use broker_protocol::ws::{Decoder, Incoming, Role};
use futures_util::{FutureExt as _, future::poll_fn};

use super::*;

const UP_BYTES: usize = 64;

fn new() -> (PipeSocket, PipeEnd, CommandKey) {
    let key = CommandKey::random();
    let (socket, end) = pipe(key, UP_BYTES);
    (socket, end, key)
}

fn write(socket: &PipeSocket, bytes: &[u8]) -> io::Result<usize> {
    socket.try_write_vectored(&[IoSlice::new(bytes)])
}

async fn read(end: &PipeEnd) -> Option<BytesMut> {
    poll_fn(|cx| end.poll_read(cx)).await
}

/// The commands that wait for the server.
fn commands(socket: &PipeSocket) -> Vec<String> {
    let mut buffer = vec![0; 1024];
    let count = socket.try_read(&mut buffer).unwrap();
    let mut decoder = Decoder::new(Role::Server, 1024);
    let mut input = &mut buffer[..count];
    let mut commands = Vec::new();
    while let Some(Incoming::Text(text)) = decoder.next(&mut input).unwrap() {
        commands.push(text.to_owned());
    }
    commands
}

#[tokio::test]
async fn bytes_go_through_in_order_and_wait_for_room() {
    let (socket, end, _) = new();
    let block = vec![7; DOWN_BYTES];
    assert_eq!(write(&socket, b"ab").unwrap(), 2);
    assert_eq!(write(&socket, &block).unwrap(), DOWN_BYTES - 2);
    assert_eq!(write(&socket, b"c").unwrap_err().kind(), ErrorKind::WouldBlock);
    let mut room = poll_fn(|cx| socket.poll_write_ready(cx));
    assert!((&mut room).now_or_never().is_none());
    let bytes = read(&end).await.unwrap();
    assert_eq!((bytes.len(), &bytes[..3]), (DOWN_BYTES, &b"ab\x07"[..]));
    room.await.unwrap();
    assert!(read(&end).now_or_never().is_none());
    assert_eq!(write(&socket, b"c").unwrap(), 1);
    socket.finish();
    assert_eq!(read(&end).await.unwrap(), &b"c"[..], "what was written before the end is read");
    assert_eq!(read(&end).await, None);
}

#[tokio::test]
async fn commands_are_taken_from_whoever_has_the_key_while_there_is_room() {
    let (socket, end, key) = new();
    assert_eq!(socket.hand_in(&CommandKey::random(), "{}"), HandedIn::Refused);
    assert_eq!(socket.try_read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
    let large = "x".repeat(UP_BYTES + 1);
    assert_eq!(socket.hand_in(&key, &large), HandedIn::Taken, "alone, the decoder judges it");
    assert_eq!(socket.hand_in(&key, "{}"), HandedIn::Full);
    end.send(Opcode::Text, b"[]");
    poll_fn(|cx| socket.poll_read_ready(cx)).await.unwrap();
    assert_eq!(commands(&socket), [&large, "[]"]);
    assert_eq!(socket.hand_in(&key, "{}"), HandedIn::Taken);
    drop(end);
    assert_eq!(commands(&socket), ["{}"]);
    assert_eq!(socket.hand_in(&key, "{}"), HandedIn::Refused);
}

#[tokio::test]
async fn each_end_learns_that_the_other_is_gone() {
    let (socket, end, _) = new();
    let mut leaving = poll_fn(|cx| socket.poll_read_ready(cx));
    assert!((&mut leaving).now_or_never().is_none());
    drop(end);
    leaving.await.unwrap();
    assert_eq!(socket.try_read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(write(&socket, b"a").unwrap_err().kind(), ErrorKind::BrokenPipe);
    let (socket, end, _) = new();
    let mut ending = Box::pin(read(&end));
    assert!((&mut ending).now_or_never().is_none());
    drop(socket);
    assert_eq!(ending.await, None);
}

#[test]
fn a_key_is_read_as_it_is_written_and_not_shown() {
    let key = CommandKey::random();
    let text = String::from(key);
    assert_eq!(text.parse::<CommandKey>().unwrap(), key);
    assert!(!format!("{key:?}").contains(&text));
    for bad in ["", "+", &text[1..], &format!("+{}", &text[1..])] {
        assert!(bad.parse::<CommandKey>().is_err(), "{bad}");
    }
}
