use std::sync::Arc;

use futures_util::{future::poll_fn, task::noop_waker};

use super::*;

const LIMIT: usize = 100;

/// Takes as many bytes as it has room for.
#[derive(Debug, Default)]
struct Narrow {
    room: Mutex<usize>,
    taken: Mutex<Vec<u8>>,
}

impl Narrow {
    fn make_room(&self, bytes: usize) {
        *self.room.lock() += bytes;
    }

    fn taken(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.taken.lock())).unwrap()
    }
}

impl Socket for Arc<Narrow> {
    fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut room = self.room.lock();
        if *room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let count = bytes.len().min(*room);
        *room -= count;
        self.taken.lock().extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn try_read(&self, _: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }

    fn poll_write_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if *self.room.lock() > 0 { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_read_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn finish(&self) {}
}

fn outbox(room: usize) -> (Arc<Narrow>, Outbox) {
    let socket = Arc::new(Narrow::default());
    socket.make_room(room);
    let outbox = Outbox::new(ConnectionId(1), Box::new(Arc::clone(&socket)), LIMIT);
    (socket, outbox)
}

fn deliver(outbox: &Outbox, text: &str) -> Pushed {
    outbox.deliver(&Bytes::copy_from_slice(text.as_bytes()), 1)
}

fn has_attention(outbox: &Outbox) -> bool {
    outbox.poll_attention(&mut Context::from_waker(&noop_waker())).is_ready()
}

#[test]
fn what_comes_alone_is_written_at_once_and_wakes_nobody() {
    let (socket, outbox) = outbox(usize::MAX / 2);
    assert_eq!(deliver(&outbox, "one"), Pushed::Taken);
    assert_eq!(socket.taken(), "one");
    assert!(!has_attention(&outbox));
    assert_eq!(outbox.queued_bytes(), 0);
}

#[tokio::test]
async fn a_full_socket_is_waited_for_and_order_is_kept() {
    let (socket, outbox) = outbox(4);
    for text in ["one ", "two ", "three"] {
        assert_eq!(deliver(&outbox, text), Pushed::Taken);
    }
    assert_eq!(socket.taken(), "one ");
    assert_eq!(outbox.queued_bytes(), 9);
    socket.make_room(2);
    while has_attention(&outbox) {}
    assert_eq!(socket.taken(), "tw");
    assert!(!outbox.is_flushed().unwrap());
    socket.make_room(100);
    poll_fn(|cx| outbox.poll_attention(cx)).await;
    assert_eq!(socket.taken(), "o three");
    assert!(outbox.is_flushed().unwrap());
}

#[test]
fn a_backlog_over_the_limit_is_given_up_and_counted() {
    let (socket, outbox) = outbox(10);
    let text = "x".repeat(40);
    assert_eq!(deliver(&outbox, &text), Pushed::Taken);
    assert_eq!(deliver(&outbox, &text), Pushed::Taken);
    assert_eq!(deliver(&outbox, &text), Pushed::Overflow { lost: 2 });
    assert_eq!(deliver(&outbox, &text), Pushed::Closed);
    assert_eq!(outbox.take_notices().close, Some(CloseCode::Slow));
    outbox.seal(Bytes::from_static(b"close"));
    socket.make_room(1000);
    while has_attention(&outbox) {}
    assert_eq!(
        socket.taken(),
        format!("{text}close"),
        "the frame that was half written is completed"
    );
}

#[test]
fn one_block_may_be_larger_than_the_limit() {
    let (socket, outbox) = outbox(0);
    assert_eq!(deliver(&outbox, &"x".repeat(LIMIT * 3)), Pushed::Taken);
    assert!(matches!(deliver(&outbox, "y"), Pushed::Overflow { lost: 2 }));
    assert_eq!(socket.taken(), "");
}

#[test]
fn a_cork_holds_back_what_is_queued() {
    let (socket, outbox) = outbox(1000);
    outbox.cork();
    outbox.push(&Bytes::from_static(b"answer "), 0);
    deliver(&outbox, "message");
    assert_eq!(socket.taken(), "");
    outbox.uncork();
    assert_eq!(socket.taken(), "answer message");
}

#[test]
fn nothing_follows_the_last_frame() {
    let (socket, outbox) = outbox(1000);
    outbox.seal(Bytes::from_static(b"close"));
    assert_eq!(deliver(&outbox, "late"), Pushed::Closed);
    assert_eq!(socket.taken(), "close");
}

#[test]
fn an_idle_outbox_holds_no_queue() {
    let (socket, outbox) = outbox(0);
    deliver(&outbox, "one");
    socket.make_room(100);
    while has_attention(&outbox) {}
    assert_eq!(outbox.queue.lock().blocks.capacity(), 0);
}

#[test]
fn the_task_hears_what_it_is_told() {
    let (_, outbox) = outbox(0);
    assert!(!has_attention(&outbox));
    outbox.tell(|notices| notices.due = true);
    outbox.tell(|notices| notices.drain = Some(7));
    assert!(has_attention(&outbox));
    assert_eq!(outbox.take_notices(), Notices { due: true, drain: Some(7), close: None });
    assert!(!has_attention(&outbox));
}
