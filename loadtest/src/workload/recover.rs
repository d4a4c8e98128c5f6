//! Everybody is away while messages are published, and comes back at once for what was missed.

use crate::{
    bench::{Bench, Shape},
    cli::RecoverArguments,
    clock::{SECOND, seconds},
    engine::{Fleet, Notice, Pace, Until},
    failure::Failure,
    report::{Finished, Measured},
};

/// At which messages are published meanwhile, per second: no hurry.
const RATE: f64 = 200.0;
/// How long the last of them is given to be stored.
const STORED: u64 = SECOND;

/// Measures from the first dial until everybody has everything.
pub(crate) fn recover(arguments: RecoverArguments) -> Result<Finished, Failure> {
    let RecoverArguments { common, missed } = arguments;
    let mut bench = Bench::new("recover", Shape::Fanout { publishers: 1 }, common)?;
    bench.connect()?;
    publish_to_nobody(&mut bench, missed)?;

    let Bench { fleet, watcher, report, settings } = &mut bench;
    watcher.progress.begin("recover", fleet);
    fleet.recovers = true;
    let (start, cpu) = (fleet.clock.now(), watcher.server.cpu());
    let (deliveries, received) = (fleet.recorder.deliveries, fleet.bytes_received);
    let (subscribers, mut next, mut back) = (watcher.subscribers, 0, Vec::new());
    let mut last = start;
    while back.len() < subscribers || !fleet.is_complete() {
        while next < subscribers && fleet.opening < settings.common.ramp {
            fleet.dial(next)?;
            next += 1;
        }
        fleet.turn(fleet.clock.now() + settings.timeout.min(SECOND / 10))?;
        for notice in fleet.take_notices() {
            match notice {
                Notice::Live { .. } => {
                    last = fleet.clock.now();
                    back.push(last - start);
                }
                Notice::Ended { slot, end } => {
                    return Err(Failure::Server(format!("connection {slot}: {}", end.why)));
                }
            }
        }
        if fleet.clock.now() - last.max(fleet.recorder.last_delivery) > settings.patience {
            break;
        }
        watcher.tick(fleet);
    }
    let spent = watcher.server.cpu().zip(cpu).map(|(after, before)| seconds(after - before));
    let deliveries = fleet.recorder.deliveries - deliveries;
    report.measured = Measured {
        seconds: Some(seconds(fleet.recorder.last_delivery.max(last) - start)),
        messages: Some(missed),
        deliveries: Some(deliveries),
        server_cpu_seconds: spent,
        server_cpu_us_per_delivery: spent.map(|it| it * 1e6 / deliveries.max(1) as f64),
        bytes_received: Some(fleet.bytes_received - received),
        ..Measured::default()
    };
    report.recovered = Some(fleet.recovered);
    report.back_p50_seconds = back.get(back.len() / 2).copied().map(seconds);
    report.back_seconds =
        (back.len() == subscribers).then(|| back.last().copied().map(seconds)).flatten();
    Ok(bench.finish())
}

fn publish_to_nobody(bench: &mut Bench, missed: u64) -> Result<(), Failure> {
    let Bench { fleet, watcher, settings, .. } = bench;
    watcher.progress.begin("publish", fleet);
    (0..watcher.subscribers).for_each(|slot| fleet.leave(slot));
    let mut ended = |_: &mut Fleet, notices: Vec<Notice>| match notices.into_iter().next() {
        Some(Notice::Ended { end, .. }) => {
            Err(Failure::Server(format!("the publisher: {}", end.why)))
        }
        _ => Ok(()),
    };
    fleet.pump(Pace::Rate(RATE), Until::Messages(missed), settings.patience, &mut ended)?;
    let end = fleet.clock.now() + STORED;
    while fleet.clock.now() < end {
        fleet.turn(end)?;
    }
    Ok(())
}
