use std::time::Duration;

use broker_backends::EmbeddedOptions;
use broker_core::session::TokenKind;
use tokio::{task::JoinSet, time};

use super::*;

/// Two gateways with one store.
async fn gateways() -> [Arc<Tickets>; 2] {
    let store = broker_backends::embedded(&EmbeddedOptions::default()).await.sessions;
    let metrics = Arc::new(Metrics::new([]).unwrap());
    let gateway = || Tickets::new(Arc::clone(&store), Arc::clone(&metrics), Default::default());
    [gateway(), gateway()].map(Arc::new)
}

fn ann() -> Identity {
    Identity { user: Some("ann".parse().unwrap()), ..Identity::default() }
}

async fn issue(tickets: &Tickets) -> Token {
    tickets.issue(ann(), None).await.unwrap().secret
}

async fn refusal(tickets: &Tickets, ticket: &Token) -> ErrorCode {
    tickets.take(ticket).await.unwrap_err().code
}

#[tokio::test]
async fn a_ticket_of_one_gateway_is_good_at_another_once() {
    let [one, other] = gateways().await;
    let ticket = issue(&one).await;
    let identity = other.take(&ticket).await.unwrap();
    assert_eq!(identity.user, ann().user);
    let day = clock::wall().0 + 24 * 3_600_000;
    assert!(identity.expires.unwrap().0.abs_diff(day) < 60_000);
    for gateway in [&one, &other] {
        assert_eq!(refusal(gateway, &ticket).await, ErrorCode::TokenExpired);
    }
}

#[tokio::test]
async fn of_many_who_come_with_a_ticket_one_gets_in() {
    let gateways = gateways().await;
    let ticket = issue(&gateways[0]).await;
    let mut clients = JoinSet::new();
    for index in 0..50 {
        let (gateway, ticket) = (Arc::clone(&gateways[index % 2]), ticket.clone());
        clients.spawn(async move { gateway.take(&ticket).await });
    }
    let all = clients.join_all().await;
    assert_eq!(all.iter().filter(|outcome| outcome.is_ok()).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_ticket_is_good_for_its_time() {
    let [tickets, _] = gateways().await;
    let (usual, longer) = (issue(&tickets).await, Some(Duration::from_secs(60)));
    let longer = tickets.issue(ann(), longer).await.unwrap().secret;
    time::advance(Duration::from_secs(31)).await;
    assert_eq!(refusal(&tickets, &usual).await, ErrorCode::TokenExpired);
    assert!(tickets.take(&longer).await.is_ok());
}

#[tokio::test]
async fn what_resumes_a_session_is_no_ticket_and_a_ticket_resumes_none() {
    let [tickets, _] = gateways().await;
    let ticket = issue(&tickets).await;
    assert_eq!((ticket.kind(), ticket.reveal().len()), (TokenKind::Ticket, LENGTH));
    let session = SessionKey(Sha256::digest(ticket.reveal()).into());
    assert_eq!(tickets.store.take(session, REMEMBERED).await, Ok(None));
    assert!(tickets.take(&ticket).await.is_ok());
    for other in ["", "fft_", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"] {
        let other = Token::ticket(other.to_owned());
        assert_eq!(refusal(&tickets, &other).await, ErrorCode::Unauthorized);
    }
}
