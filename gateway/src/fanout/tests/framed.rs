//! Those who are shown a face of a profile.

use broker_protocol::socketio::{Namespace, Parser};

use super::*;
use crate::{
    dialect::{Form, Framing, Space},
    profile::Profile,
};

const PROFILE: &str = r#"
[[faces.push.outgoing]]
channel = "venue:{id}"
emit = "told"
data = { venue = "{{ id }}", data = "{{ data.open }}" }
"#;

fn framing(form: Form) -> Arc<Framing> {
    let profile = Profile::parse(PROFILE, "test.toml").unwrap();
    Arc::new(Framing { form, face: Arc::clone(&profile.faces["push"]).into(), echo: false })
}

fn client(fanout: &Fanout, id: u128, framing: &Arc<Framing>) -> Client {
    let socket = FakeSocket::wide();
    let outbox = Outbox::new(ConnectionId(id), Box::new(socket.clone()), LIMIT);
    let outbox = outbox.with_encoding(Encoding::Framed(Arc::clone(framing)));
    Client::with(outbox, socket, fanout, &["venue:1"])
}

fn opened(channel: &str, open: bool) -> Message {
    let data = Data::Json(JsonText::from_checked(format!("{{\"open\":{open}}}").into()));
    Message { data, ..message(channel, "", None) }
}

#[tokio::test(start_paused = true)]
async fn an_envelope_has_the_id_and_the_time_of_its_message() {
    let fanout = fanout().await;
    let envelopes = client(&fanout, 1, &framing(Form::Envelope));
    let space = Space { namespace: Namespace::MAIN, parser: Parser::Json, recovery: None };
    let packets = client(&fanout, 2, &framing(Form::SocketIo(space)));
    let (first, unfit) = (opened("venue:1", true), message("venue:1", "no object", None));
    let last = opened("venue:1", false);
    let batch = [first.clone(), unfit, last.clone()].map(|message| by("venue:1", message));
    deliver(&fanout, &batch);
    let told = |message: &Message, open: bool| {
        let (id, time) = (message.id.as_str(), message.time.0);
        let data = format!(r#"{{"venue":"1","data":{open}}}"#);
        format!(r#"{{"id":"{id}","type":"told","payload":{data},"timestamp":{time}}}"#)
    };
    assert_eq!(read(&envelopes.socket.taken()), [told(&first, true), told(&last, false)]);
    assert_eq!(read(&packets.socket.taken()).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn all_who_share_a_framing_are_given_the_same_bytes() {
    let fanout = fanout().await;
    let framing = framing(Form::Envelope);
    let clients = [1, 2].map(|id| client(&fanout, id, &framing));
    let message = opened("venue:1", true);
    let block = Block::new(iter::once(&message));
    let [one, two] = clients.each_ref().map(|it| block.bytes_for(&it.outbox, &fanout.compressor()));
    assert_eq!(one.as_ptr(), two.as_ptr());
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_told_in_an_envelope() {
    let fanout = fanout().await;
    let client = client(&fanout, 1, &framing(Form::Envelope));
    open(&client);
    deliver(&fanout, &[gap_everywhere(GapReason::Reconnected)]);
    assert_eq!(client.got(r#""type":"fanfare:gap","payload":{"reason":"#), 1);
}
