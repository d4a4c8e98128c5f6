use serde_json::json;

use super::*;

#[test]
fn clients_without_a_profile_subscribe_publish_and_ask_services() {
    let profile = Profile::built_in();
    let face = &profile.socketio[0].namespaces["/"];
    let ann = user("ann", &[]);
    assert_eq!(short(&face.on_connect(&context(&ann)).unwrap()), ["flush"]);
    let go = |event: &str, args: &[Value]| react(face, &ann, event, args).unwrap();
    assert_eq!(go("subscribe", &[json!("venue:42")]), ["join venue:42"]);
    assert_eq!(go("subscribe", &[json!({"channel": "venue:*"})]), ["join venue:*"]);
    assert_eq!(go("unsubscribe", &[json!("venue:42")]), ["leave venue:42"]);
    let sent = json!({"channel": "venue:42", "event": "e", "data": null, "id": "m-1"});
    assert_eq!(go("publish", &[sent]), ["publish venue:42 e null"]);
    let behind = [json!({"channel": "venue:42"}), json!([1])];
    assert_eq!(go("publish", &behind), ["publish venue:42 [1]"]);
    let bytes = broker_core::Data::Binary(Bytes::from_static(b"\xff"));
    let args = [data(&json!({"channel": "venue:42"})), bytes.clone()];
    let publish = face.verb("publish").unwrap();
    let reaction = publish.evaluate(&context(&ann), "publish", &args).unwrap();
    let [Action::Publish(posting)] = &reaction.actions[..] else { panic!() };
    assert_eq!(posting.publish.data, bytes);
    assert!(react(face, &ann, "publish", &behind[..1]).is_err(), "there is no data");
    assert_eq!(go("billing:quote", &[json!(1)]), ["call rpc:billing:quote billing:quote 1"]);
    assert_eq!(go("quote", &[json!(1), json!(2)]), ["call rpc:quote quote [1,2]"]);
    assert_eq!(go("quote", &[]), ["call rpc:quote quote []"]);
    let failure = react(face, &ann, "subscribe", &[json!({})]).unwrap_err();
    assert_eq!(failure.code, broker_core::ErrorCode::BadRequest);
    let done = face.verb("subscribe").unwrap();
    let done = done.evaluate(&context(&ann), "subscribe", &[raw("\"a:b\"")]).unwrap();
    assert_eq!(text(&done.ack.done(None)[0]), "{\"ok\":true}");
    let plain = message("venue:42", None, &json!({"open": true}));
    assert_eq!(told(face, &plain), ("message".to_owned(), vec![json!({"open": true})]));
}
