use tokio::net::TcpListener;

use super::*;

const TAKES: &str = "PONG\r\n";
const REFUSES: &str = "-ERR 'Authorization Violation'\r\n";

/// A server that says this of itself, and then answers logins; but it does not speak TLS.
async fn server(info: &'static str, answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(format!("INFO {info}\r\n").as_bytes()).await.unwrap();
            let mut login = Vec::new();
            while !login.ends_with(b"PING\r\n") {
                let read = stream.read_buf(&mut login).await.unwrap();
                if read == 0 || login[0] != b'C' {
                    break;
                }
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    url
}

fn dialer(urls: &[&str]) -> Dialer {
    let urls = urls.iter().map(|url| (*url).to_owned()).collect();
    Dialer::new(&NatsOptions::new(urls, "gateway-0".parse().unwrap())).unwrap()
}

/// Nobody listens there.
const DEAD: &str = "nats://127.0.0.1:1";

#[tokio::test]
async fn a_server_that_will_do_is_told_from_none() {
    let other = server(r#"{"server_id":"other"}"#, TAKES).await;
    let mut one_lives = dialer(&[DEAD, &other, DEAD]);
    assert!(matches!(one_lives.dial(Some("wanted")).await, Err(Lost::Elsewhere)));
    assert_eq!(one_lives.dial(Some("other")).await.unwrap().info.server_id, "other");
    assert_eq!(one_lives.dial(None).await.unwrap().info.server_id, "other");
    assert!(matches!(dialer(&[DEAD]).dial(Some("wanted")).await, Err(Lost::Io(_))));
}

#[tokio::test]
async fn servers_are_taken_from_who_took_the_login() {
    let names = r#"{"server_id":"other","connect_urls":["127.0.0.1:1"]}"#;
    let mut refused = dialer(&[&server(names, REFUSES).await]);
    assert!(matches!(refused.dial(None).await, Err(Lost::Refused(_))));
    assert!(refused.discovered.is_empty());
    let mut taken = dialer(&[&server(names, TAKES).await]);
    assert!(matches!(taken.dial(Some("wanted")).await, Err(Lost::Elsewhere)));
    assert_eq!(taken.discovered, [DEAD.parse::<ServerAddr>().unwrap()]);
    let unproven = r#"{"tls_required":true,"connect_urls":["127.0.0.1:1"]}"#;
    let mut unproven = dialer(&[&server(unproven, TAKES).await]);
    assert!(unproven.dial(None).await.is_err());
    assert!(unproven.discovered.is_empty());
}
