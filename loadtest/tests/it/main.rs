//! The built program against its own floor, and against a server that does not do its part.

mod faulty;
mod support;

use faulty::{Fault, faulty_server};
use support::{Floor, loadtest};

const SUBSCRIBERS: u64 = 20;

#[test]
fn each_message_reaches_each_subscriber_once() {
    for (floor, mode) in [
        (Floor::start(1), &["--mode", "one-at-a-time"][..]),
        (Floor::start(1), &["--mode", "flood", "--window", "32"]),
        (Floor::start(4), &["--mode", "flood", "--publishers", "3", "--payload", "4000"]),
        (Floor::start(1), &["--rate", "2000"]),
    ] {
        let run = loadtest("fanout", &floor.url, &[&["--messages", "300"], mode].concat());
        assert_eq!(run.code, 0, "{mode:?}: {}", run.stderr);
        assert_eq!((run.count("messages"), run.count("deliveries")), (300, 300 * SUBSCRIBERS));
        for nothing in ["lost", "duplicated", "reordered", "strays", "refused", "closed"] {
            assert_eq!(run.count(nothing), 0, "{mode:?}: {nothing}");
        }
        for positive in ["p50_us", "server_cpu_seconds", "client_cpu_seconds", "seconds"] {
            assert!(run.number(positive) > 0.0, "{mode:?}: {positive}");
        }
        assert!(run.number("p50_us") <= run.number("max_us"));
    }
}

#[test]
fn each_pair_gets_its_own_messages() {
    let floor = Floor::start(1);
    for publishers in ["0", "3"] {
        let options = ["--messages", "1000", "--publishers", publishers, "--sources", "3"];
        let run = loadtest("pairs", &floor.url, &options);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert_eq!((run.count("messages"), run.count("deliveries")), (1000, 1000));
        assert_eq!(run.count("channels"), SUBSCRIBERS);
    }
}

#[test]
fn idle_connections_are_weighed() {
    let floor = Floor::start(1);
    let run = loadtest("connect", &floor.url, &["--idle", "0.2", "--connections", "50"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.count("handshakes"), 50);
    assert!(run.number("handshake_cpu_ms") > 0.0);
    assert!(run.number("rss_after_bytes") >= run.number("rss_before_bytes"));
    assert!(run.number("idle_seconds") >= 0.2);
    assert!(run.json["p50_us"].is_null());
}

#[test]
fn who_comes_and_goes_misses_nothing() {
    let floor = Floor::start(1);
    let run = loadtest("churn", &floor.url, &["--duration", "1", "--churn", "200%"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.count("lost") + run.count("duplicated") + run.count("reordered"), 0);
    assert!(run.count("left") >= SUBSCRIBERS, "{}", run.json);
    assert!(run.count("joined") >= SUBSCRIBERS, "{}", run.json);
}

#[test]
fn who_stalls_for_a_while_and_is_not_closed_gets_all() {
    let floor = Floor::start(1);
    let run = loadtest("slow", &floor.url, &["--duration", "1", "--stalled", "3"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!((run.count("stalled"), run.count("stalled_closed"), run.count("lost")), (3, 0, 0));
    assert!(run.number("baseline_p50_us") > 0.0);
}

#[test]
fn after_a_kill_everybody_comes_back_to_the_other_server() {
    let (dies, lives) = (Floor::start(1), Floor::start(1));
    let kill = ["--url", &lives.url, "--kill-pid", &dies.pid(), "--kill-after", "0.3"];
    let options = [&["--duration", "1.5"], &kill[..]].concat();
    let run = loadtest("storm", &dies.url, &options);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.count("disconnected"), SUBSCRIBERS / 2);
    assert!(run.number("back_seconds") > 0.0);
    // Two floors share no bus: those of the first get the publisher's messages only once they are back.
    assert!(run.count("outage_lost") > 0);
    assert_eq!(run.count("lost") + run.count("duplicated") + run.count("reordered"), 0);
}

#[test]
fn what_a_server_does_wrong_is_counted() {
    for (fault, lost, duplicated, reordered) in [
        (Fault::None, 0, 0, 0),
        (Fault::DropOne, 1, 0, 0),
        (Fault::Double, 0, SUBSCRIBERS, 0),
        (Fault::Swap, 0, 0, SUBSCRIBERS),
    ] {
        for mode in [&["--rate", "500"][..], &["--window", "16"]] {
            let url = faulty_server(fault);
            let options = [&["--messages", "50", "--patience", "0.5"], mode].concat();
            let run = loadtest("fanout", &url, &options);
            let found = ["lost", "duplicated", "reordered"].map(|field| run.count(field));
            assert_eq!(found, [lost, duplicated, reordered], "{fault:?} {mode:?}: {}", run.stderr);
            assert_eq!(run.json["passed"], fault == Fault::None);
            assert_eq!(run.code, i32::from(fault != Fault::None));
        }
    }
}

#[test]
fn losses_can_be_allowed() {
    let url = faulty_server(Fault::DropOne);
    let options = ["--messages", "20", "--patience", "0.5", "--allow-loss"];
    let run = loadtest("fanout", &url, &options);
    assert_eq!((run.code, run.count("lost")), (0, 1), "{}", run.stderr);
    assert_eq!(run.json["passed"], false);
}

#[test]
fn a_plot_is_drawn() {
    let floor = Floor::start(1);
    let file = support::file("plot.svg");
    let options = ["--messages", "50", "--plot", file.to_str().expect("a name in UTF-8")];
    assert_eq!(loadtest("fanout", &floor.url, &options).code, 0);
    let svg = std::fs::read_to_string(&file).expect("a plot");
    assert_eq!(svg.matches("<polyline").count(), 2);
}

#[test]
fn wrong_use_and_absent_servers_have_their_own_status() {
    let nobody = "ws://127.0.0.1:9";
    for (options, code) in [
        (&["--payload", "10"][..], 2),
        (&["--rate", "0"], 2),
        (&["--publishers", "0"], 2),
        (&["--target", "no-such-target"], 3),
        (&[], 3),
    ] {
        assert_eq!(support::status("fanout", nobody, options), code, "{options:?}");
    }
    assert_eq!(support::status("fanout", "wss://127.0.0.1:9", &[]), 2);
    assert_eq!(support::status("storm", nobody, &["--wait-for-kill"]), 2, "one URL");
}
