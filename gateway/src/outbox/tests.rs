use futures_util::{future::poll_fn, task::noop_waker};

use super::*;
use crate::socket::FakeSocket;

const LIMIT: usize = 100;

fn text(socket: &FakeSocket) -> String {
    String::from_utf8(socket.taken()).unwrap()
}

fn outbox(room: usize) -> (FakeSocket, Outbox) {
    let socket = FakeSocket::default();
    socket.make_room(room);
    let outbox = Outbox::new(ConnectionId(1), Box::new(socket.clone()), LIMIT);
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
    assert_eq!(text(&socket), "one");
    assert!(!has_attention(&outbox));
    assert_eq!(outbox.queued_bytes(), 0);
}

#[tokio::test]
async fn a_full_socket_is_waited_for_and_order_is_kept() {
    let (socket, outbox) = outbox(4);
    for text in ["one ", "two ", "three"] {
        assert_eq!(deliver(&outbox, text), Pushed::Taken);
    }
    assert_eq!(text(&socket), "one ");
    assert_eq!(outbox.queued_bytes(), 9);
    socket.make_room(2);
    while has_attention(&outbox) {}
    assert_eq!(text(&socket), "tw");
    assert!(!outbox.is_flushed().unwrap());
    socket.make_room(100);
    poll_fn(|cx| outbox.poll_attention(cx)).await;
    assert_eq!(text(&socket), "o three");
    assert!(outbox.is_flushed().unwrap());
}

#[test]
fn a_backlog_over_the_limit_is_given_up_and_counted() {
    let (socket, outbox) = outbox(10);
    let long = "x".repeat(40);
    assert_eq!(deliver(&outbox, &long), Pushed::Taken);
    assert_eq!(deliver(&outbox, &long), Pushed::Taken);
    assert_eq!(deliver(&outbox, &long), Pushed::Overflow { lost: 2 });
    assert_eq!(deliver(&outbox, &long), Pushed::Closed);
    assert_eq!(outbox.take_notices().close, Some(CloseCode::Slow));
    outbox.seal(Bytes::from_static(b"close"));
    socket.make_room(1000);
    while has_attention(&outbox) {}
    assert_eq!(
        text(&socket),
        format!("{long}close"),
        "the frame that was half written is completed"
    );
}

#[test]
fn one_block_may_be_larger_than_the_limit() {
    let (socket, outbox) = outbox(0);
    assert_eq!(deliver(&outbox, &"x".repeat(LIMIT * 3)), Pushed::Taken);
    assert!(matches!(deliver(&outbox, "y"), Pushed::Overflow { lost: 2 }));
    assert_eq!(text(&socket), "");
}

#[test]
fn a_batch_over_the_limit_does_no_harm_to_a_client_that_reads() {
    let (socket, outbox) = outbox(usize::MAX / 2);
    let part = Bytes::from("x".repeat(40));
    assert_eq!(outbox.push(&part, 1), Pushed::Unwritten);
    for _ in 0..20 {
        assert!(matches!(outbox.push(&part, 1), Pushed::Taken | Pushed::Unwritten));
    }
    outbox.flush();
    assert_eq!(text(&socket).len(), 21 * 40);
    assert_eq!(outbox.take_notices(), Notices::default());
}

#[test]
fn a_full_queue_is_written_although_it_is_corked() {
    let (socket, outbox) = outbox(usize::MAX / 2);
    outbox.cork();
    for _ in 0..20 {
        assert_eq!(outbox.push(&Bytes::from("x".repeat(40)), 1), Pushed::Taken);
    }
    outbox.uncork();
    assert_eq!(text(&socket).len(), 20 * 40);
}

#[test]
fn a_socket_that_has_room_again_is_tried_before_the_queue_is_given_up() {
    let (socket, outbox) = outbox(0);
    let long = "x".repeat(60);
    assert_eq!(deliver(&outbox, &long), Pushed::Taken);
    socket.make_room(1000);
    assert_eq!(deliver(&outbox, &long), Pushed::Taken, "before its task looked");
    while has_attention(&outbox) {}
    assert_eq!(text(&socket).len(), 120);
}

#[test]
fn what_is_never_written_is_counted_once() {
    let (socket, outbox) = outbox(30);
    deliver(&outbox, &"x".repeat(20));
    deliver(&outbox, &"x".repeat(20));
    deliver(&outbox, &"x".repeat(20));
    assert_eq!(text(&socket).len(), 30);
    assert_eq!((outbox.abandon(), outbox.abandon()), (2, 0));
    assert_eq!((deliver(&outbox, "late"), outbox.queued_bytes()), (Pushed::Closed, 0));
    outbox.seal(Bytes::from_static(b"close"));
    assert!(outbox.is_flushed().is_err());
    while has_attention(&outbox) {}
}

#[test]
fn the_second_copy_of_a_message_is_not_queued() {
    let (socket, outbox) = outbox(1000);
    let (exact, wild) = (
        Interest::Channel("orders:7".parse().unwrap()),
        Interest::Pattern("orders:*".parse().unwrap()),
    );
    let long = Bytes::from_static(b"x");
    assert_eq!(outbox.push_first_copy(1, &exact, &long), Some(Pushed::Unwritten));
    assert_eq!(outbox.push_first_copy(1, &wild, &long), None);
    assert_eq!(outbox.push_first_copy(1, &exact, &long), Some(Pushed::Taken));
    outbox.forget_copies(&exact);
    assert_eq!(outbox.push_first_copy(1, &wild, &long), Some(Pushed::Taken));
    outbox.flush();
    assert_eq!(text(&socket), "xxx");
}

#[test]
fn a_cork_holds_back_what_is_queued() {
    let (socket, outbox) = outbox(1000);
    outbox.cork();
    outbox.push(&Bytes::from_static(b"answer "), 0);
    deliver(&outbox, "message");
    assert_eq!(text(&socket), "");
    outbox.uncork();
    assert_eq!(text(&socket), "answer message");
}

#[test]
fn nothing_follows_the_last_frame() {
    let (socket, outbox) = outbox(1000);
    outbox.seal(Bytes::from_static(b"close"));
    assert_eq!(deliver(&outbox, "late"), Pushed::Closed);
    assert_eq!(text(&socket), "close");
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
    assert_eq!(outbox.take_notices(), Notices { due: true, drain: Some(7), ..Notices::default() });
    assert!(!has_attention(&outbox));
}
