use std::io::{ErrorKind, IoSlice};

use super::*;
use crate::socket::{CommandKey, FakeSocket, pipe};

fn session() -> (impl Socket, Arc<Polled>) {
    let (socket, end) = pipe(CommandKey::random(), 1024);
    (socket, Polled::new(end, Instant::now() + Duration::from_secs(60)))
}

#[tokio::test]
async fn one_websocket_at_a_time_comes_for_a_session() {
    let (_server, polled) = session();
    let first = polled.begin_upgrade().ok().unwrap();
    assert!(polled.begin_upgrade().is_err());
    first.probe().unwrap();
    assert_eq!(first.probe(), Err(Gone), "once");
    drop(first);
    let second = polled.begin_upgrade().ok().unwrap();
    second.probe().unwrap();
    second.finish(Box::new(FakeSocket::wide()), b"").await;
    assert!(polled.begin_upgrade().is_err(), "it has changed to it");
}

#[tokio::test]
async fn after_an_upgrade_the_server_reads_the_websocket() {
    let (server, polled) = session();
    let socket = FakeSocket::wide();
    polled.begin_upgrade().ok().unwrap().finish(Box::new(socket.clone()), b"ab").await;
    socket.feed(b"cd");
    let mut buffer = [0; 8];
    for expected in [b"ab", b"cd"] {
        let count = server.try_read(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], expected);
    }
}

#[tokio::test]
async fn a_websocket_that_breaks_in_an_upgrade_ends_the_session() {
    let (server, polled) = session();
    server.try_write_vectored(&[IoSlice::new(b"waits to be read")]).unwrap();
    let (broken, gone) = pipe(CommandKey::random(), 1024);
    drop(gone);
    polled.begin_upgrade().ok().unwrap().finish(Box::new(broken), b"").await;
    assert_eq!(server.try_read(&mut [0; 8]).unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn so_does_one_that_takes_nothing_until_the_upgrade_is_given_up() {
    let (server, polled) = session();
    server.try_write_vectored(&[IoSlice::new(b"waits to be read")]).unwrap();
    let full = Box::new(FakeSocket::default());
    let upgrade = polled.begin_upgrade().ok().unwrap().finish(full, b"");
    assert!(time::timeout(Duration::from_secs(1), upgrade).await.is_err());
    assert_eq!(server.try_read(&mut [0; 8]).unwrap(), 0);
    let refused = server.try_write_vectored(&[IoSlice::new(b"more")]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::BrokenPipe);
}
