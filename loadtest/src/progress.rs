//! A line each second on standard error.

use std::io::{self, Write as _};

use crate::{
    clock::{SECOND, seconds},
    engine::Fleet,
    report::{grouped, micros},
};

#[derive(Debug)]
pub(crate) struct Progress {
    is_quiet: bool,
    phase: &'static str,
    began: u64,
    last: u64,
    last_deliveries: u64,
}

impl Progress {
    pub(crate) const fn new(is_quiet: bool) -> Self {
        Self { is_quiet, phase: "", began: 0, last: 0, last_deliveries: 0 }
    }

    pub(crate) fn begin(&mut self, phase: &'static str, fleet: &Fleet) {
        let now = fleet.clock.now();
        (self.phase, self.began, self.last) = (phase, now, now);
        self.last_deliveries = fleet.recorder.deliveries;
    }

    /// Says how it goes, if a second has passed. True if it has.
    pub(crate) fn tick(&mut self, fleet: &Fleet) -> bool {
        let now = fleet.clock.now();
        if now - self.last < SECOND {
            return false;
        }
        let recorder = &fleet.recorder;
        let rate = (recorder.deliveries - self.last_deliveries) as f64 / seconds(now - self.last);
        (self.last, self.last_deliveries) = (now, recorder.deliveries);
        let mut line = format!(
            "{:<10}{:4.0} s  {} connections",
            self.phase,
            seconds(now - self.began),
            grouped(fleet.live as f64)
        );
        if rate > 0.0 {
            line += &format!("  {} deliveries/s", grouped(rate));
        }
        if !recorder.latency.is_empty() {
            let at = |quantile| micros(recorder.latency.value_at_quantile(quantile) as f64 / 1e3);
            line += &format!("  p50 {}  p99 {}", at(0.5), at(0.99));
        }
        let (twice, late) = (recorder.duplicated, recorder.reordered);
        if twice + late > 0 {
            line += &format!("  {twice} duplicated, {late} reordered");
        }
        self.say(&line);
        true
    }

    pub(crate) fn say(&self, line: &str) {
        if !self.is_quiet {
            // There is nobody to tell that standard error is closed.
            drop(writeln!(io::stderr().lock(), "{line}"));
        }
    }
}
