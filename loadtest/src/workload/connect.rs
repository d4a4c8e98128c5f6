//! Connections that do nothing: what each costs.

use crate::{
    bench::{Bench, Shape},
    cli::ConnectArguments,
    clock::{SECOND, nanoseconds, seconds},
    failure::Failure,
    report::Finished,
};

/// Opens connections, then leaves them idle.
pub(crate) fn connect(arguments: ConnectArguments) -> Result<Finished, Failure> {
    let ConnectArguments { common, idle } = arguments;
    let mut bench = Bench::new("connect", Shape::Silent, common)?;
    bench.connect()?;
    let Bench { fleet, watcher, report, .. } = &mut bench;
    watcher.progress.begin("idle", fleet);
    let (start, cpu) = (fleet.clock.now(), watcher.server.cpu());
    let end = start + nanoseconds(idle);
    while fleet.clock.now() < end {
        fleet.turn(end.min(fleet.clock.now() + SECOND))?;
        let notices = fleet.take_notices();
        watcher.watch(fleet, notices)?;
    }
    let elapsed = seconds(fleet.clock.now() - start);
    let spent = watcher.server.cpu().zip(cpu).map(|(after, before)| (after - before) as f64 / 1e3);
    report.idle_seconds = Some(elapsed);
    if elapsed > 0.0 {
        report.idle_cpu_us_per_connection_second =
            spent.map(|spent| spent / elapsed / fleet.slots.len() as f64);
    }
    bench.weigh();
    Ok(bench.finish())
}
