//! Some readers stop. What does it cost the others, and what becomes of the stalled?

use std::collections::BTreeMap;

use crate::{
    bench::{Bench, Watcher},
    cli::SlowArguments,
    clock::{SECOND, seconds},
    engine::{End, Fleet, Notice, Pace, Tallies, Until},
    failure::Failure,
    report::{Curve, Finished, Measured},
};

/// How often the server's memory is looked at, in nanoseconds.
const LOOK: u64 = SECOND / 2;

/// Measures twice: all read; then some stop. In the second half of that they take up reading again, one after the
/// other, since who never reads again cannot learn why it was closed.
pub(crate) fn slow(arguments: SlowArguments) -> Result<Finished, Failure> {
    let SlowArguments { common, rate, stalled, stalled_buffer } = arguments;
    let (mut bench, pace) = super::at_rate("slow", common, rate)?;
    let (all, count) = (bench.watcher.subscribers, stalled.of(bench.watcher.subscribers));
    let count = (count.round() as usize).clamp(1, all);
    let readers: Vec<usize> = (0..count).map(|it| it * all / count).collect();
    bench.connect()?;
    bench.warm_up(pace)?;

    let baseline = bench.measure_plainly(pace)?;
    let curve = Curve { name: "all read", latency: bench.fleet.recorder.latency.clone() };
    set_baseline(&mut bench, &baseline);

    for slot in &readers {
        bench.fleet.stall(*slot, stalled_buffer)?;
    }
    let mut stalled = Stalled::new(&bench, readers, rate);
    stalled.measure(&mut bench, pace)?;
    stalled.report(&mut bench);
    let mut finished = bench.finish();
    finished.curves.iter_mut().for_each(|curve| curve.name = "some stalled");
    finished.curves.insert(0, curve);
    Ok(finished)
}

fn set_baseline(bench: &mut Bench, baseline: &Measured) {
    let report = &mut bench.report;
    (report.baseline_p50_us, report.baseline_p99_us) = (baseline.p50_us, baseline.p99_us);
    (report.baseline_p999_us, report.baseline_max_us) = (baseline.p999_us, baseline.max_us);
}

/// Those who stopped reading.
struct Stalled {
    /// In the order in which they will read again.
    readers: Vec<usize>,
    /// How many of them read again.
    resumed: usize,
    since: u64,
    /// How long the phase is planned to be.
    span: u64,
    closed: BTreeMap<usize, (u64, End)>,
    memory_before: Option<u64>,
    memory_most: Option<u64>,
    next_look: u64,
}

impl Stalled {
    fn new(bench: &Bench, readers: Vec<usize>, rate: f64) -> Self {
        let span = match bench.settings.until {
            Until::Elapsed(span) => span,
            Until::Messages(messages) => crate::clock::nanoseconds(messages as f64 / rate),
        };
        let memory = bench.watcher.server.resident_roughly();
        Self {
            readers,
            resumed: 0,
            since: bench.fleet.clock.now(),
            span,
            closed: BTreeMap::new(),
            memory_before: memory,
            memory_most: memory,
            next_look: 0,
        }
    }

    fn measure(&mut self, bench: &mut Bench, pace: Pace) -> Result<(), Failure> {
        let until = bench.settings.until;
        let measured = bench.measure(pace, until, &mut |watcher, fleet, notices| {
            self.watch(watcher, fleet, notices)
        })?;
        bench.report.measured = measured;
        self.resume_until(&mut bench.fleet, self.readers.len());
        bench.settle(&mut |watcher, fleet, notices| self.watch(watcher, fleet, notices))
    }

    fn watch(
        &mut self,
        watcher: &mut Watcher,
        fleet: &mut Fleet,
        notices: Vec<Notice>,
    ) -> Result<(), Failure> {
        let now = fleet.clock.now();
        let mut others = Vec::new();
        for notice in notices {
            match notice {
                Notice::Ended { slot, end } if self.readers.contains(&slot) => {
                    self.closed.insert(slot, (now - self.since, end));
                    // It was told, so what it missed is not lost in silence.
                    fleet.slots[slot].tallies = Tallies::default();
                }
                other => others.push(other),
            }
        }
        // Nobody reads again in the first half.
        let half = self.span / 2;
        let elapsed = (now - self.since).saturating_sub(half);
        self.resume_until(fleet, self.readers.len() * elapsed as usize / half.max(1) as usize);
        if now >= self.next_look {
            self.next_look = now + LOOK;
            self.memory_most = self.memory_most.max(watcher.server.resident_roughly());
        }
        watcher.watch(fleet, others)
    }

    fn resume_until(&mut self, fleet: &mut Fleet, count: usize) {
        while self.resumed < count.min(self.readers.len()) {
            let slot = self.readers[self.resumed];
            self.resumed += 1;
            fleet.resume(slot);
        }
    }

    fn report(&self, bench: &mut Bench) {
        let report = &mut bench.report;
        let mut codes = BTreeMap::<u16, usize>::new();
        for (_, end) in self.closed.values() {
            *codes.entry(end.code).or_default() += 1;
        }
        let codes: Vec<_> = codes.iter().map(|(code, count)| format!("{code}:{count}")).collect();
        let times = || self.closed.values().map(|(after, _)| *after);
        report.stalled = Some(self.readers.len());
        report.stalled_closed = Some(self.closed.len());
        report.stalled_close_codes = Some(codes.join(" "));
        report.stalled_first_closed_seconds = times().min().map(seconds);
        report.stalled_last_closed_seconds = times().max().map(seconds);
        let grown = self.memory_most.zip(self.memory_before);
        report.stalled_rss_growth_bytes = grown.map(|(most, before)| most.saturating_sub(before));
    }
}
