use clap::Parser;

use super::*;
use crate::{
    cli::args::{Arguments, Command, ToolCommand},
    config::Secret,
};

fn checked(line: &str, deadline: u64) -> Result<(), String> {
    let words = ["fanfare", "probe"].into_iter().chain(line.split_whitespace());
    match Arguments::parse_from(words).command {
        Command::Tool(ToolCommand::Probe(arguments)) => {
            check(&arguments, (Duration::from_secs(deadline), "nats.deadline"))
        }
        other => panic!("no probe: {other:?}"),
    }
}

#[test]
fn a_message_is_not_lost_before_it_may_be_refused() {
    assert_eq!(checked("--lost-after 3s", 2), Ok(()));
    let problem = checked("--lost-after 2s", 2).unwrap_err();
    assert_eq!(problem, "--lost-after (2s) must be longer than nats.deadline (2s)");
    assert!(checked("--lost-after 1s", 2).unwrap_err().contains("--late-after"));
}

#[test]
fn a_url_names_nobody() {
    for line in [
        "--server ws://me:hunter2@gateway:8080/ws",
        "--server ws://gateway:8080/ws --server wss://hunter2@gateway/ws",
        "--server ws://me:hunter/2@gateway/ws",
        "--api http://me:hunter2@gateway:8080",
    ] {
        let problem = checked(line, 2).unwrap_err();
        assert!(problem.contains("--server") && !problem.contains("hunter"), "{problem}");
    }
    assert_eq!(checked("--server ws://gateway:8080/ws?for=me@home", 2), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_second_copy_of_the_last_message_is_seen() {
    let patience = Patience { late: Duration::from_secs(2), lost: Duration::from_secs(30) };
    let ledger = Arc::new(Mutex::new(Ledger::new(patience, INTERVALS.1)));
    let probe = Probe {
        publisher: Publisher::Api {
            client: reqwest::Client::builder().tls_certs_only([]).build().unwrap(),
            url: String::new(),
            key: Secret::new(String::new()),
        },
        channel: "probe:check".parse().unwrap(),
        run: 0,
        interval: INTERVALS.1,
        patience,
        ledgers: vec![Arc::clone(&ledger)],
        figures: Arc::new(Figures::new().unwrap()),
    };
    ledger.lock().subscribed(Instant::now(), false);
    ledger.lock().publish(Instant::now());
    let figures = Arc::clone(&probe.figures);
    let copies = tokio::spawn(async move {
        for _ in 0..2 {
            let (outcome, took) = ledger.lock().arrive(0, Instant::now()).unwrap();
            figures.arrived(outcome, took);
            time::sleep(Duration::from_millis(900)).await;
        }
    });
    probe.wait_for_the_rest().await;
    assert!(!probe.all_came(1), "{}", probe.figures.summary());
    assert_eq!(probe.figures.of(Outcome::Duplicate), 1);
    copies.await.unwrap();
}
