//! A gateway dies, and everybody comes back to the others.

use std::{collections::HashMap, process::Command};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    bench::{Bench, Watcher},
    cli::{Kill, StormArguments},
    clock::{SECOND, nanoseconds, seconds},
    engine::{Fleet, Notice, Pace, Until},
    failure::Failure,
    report::Finished,
};

use super::backoff::Backoff;

/// How long everybody has to be back, from the first end.
const DEADLINE: u64 = 120 * SECOND;

pub(crate) fn storm(arguments: StormArguments) -> Result<Finished, Failure> {
    let StormArguments { mut common, rate, kill, kill_after } = arguments;
    if common.urls.len() < 2 {
        return Err(Failure::Usage("a storm needs a second --url to come back to".to_owned()));
    }
    // The publisher should outlive the gateway, and it is the first that one thinks of killing.
    common.publish_url = common.publish_url.or_else(|| common.urls.last().cloned());
    let (mut bench, pace) = super::at_rate("storm", common, rate)?;
    bench.connect()?;
    bench.warm_up(pace)?;
    let now = bench.fleet.clock.now();
    let mut storm = Storm {
        kill: (!kill.wait_for_kill).then_some((now + nanoseconds(kill_after), kill)),
        endpoints: bench.settings.shared,
        away: HashMap::new(),
        disconnected: 0,
        first_end: None,
        back: Vec::new(),
        backoff: Backoff::new(),
    };
    storm.measure(&mut bench, pace)?;
    storm.report(&mut bench)?;
    Ok(bench.finish())
}

/// A connection that wants to come back.
struct Away {
    attempts: u32,
    /// When to dial; `None` while that is under way.
    dial_at: Option<u64>,
}

struct Storm {
    kill: Option<(u64, Kill)>,
    endpoints: usize,
    away: HashMap<usize, Away>,
    disconnected: u64,
    first_end: Option<u64>,
    /// When each was back, from the first end on.
    back: Vec<u64>,
    backoff: Backoff,
}

impl Storm {
    fn measure(&mut self, bench: &mut Bench, pace: Pace) -> Result<(), Failure> {
        let until = bench.settings.until;
        let patience = bench.settings.patience;
        bench.report.measured = bench.measure(pace, until, &mut |watcher, fleet, notices| {
            self.watch(watcher, fleet, notices)
        })?;
        // Messages go on until everybody is back: what comes then must come to all.
        while !self.away.is_empty() && !self.is_over(bench.fleet.clock.now()) {
            let Bench { fleet, watcher, .. } = bench;
            let mut watch = |fleet: &mut Fleet, notices| self.watch(watcher, fleet, notices);
            fleet.pump(pace, Until::Elapsed(SECOND), patience, &mut watch)?;
        }
        bench.settle(&mut |watcher, fleet, notices| self.watch(watcher, fleet, notices))
    }

    fn is_over(&self, now: u64) -> bool {
        self.first_end.is_some_and(|first| now - first > DEADLINE)
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
                Notice::Ended { slot, .. } if slot < watcher.subscribers => {
                    self.ended(fleet, slot, now);
                }
                Notice::Live { slot, .. } => {
                    if self.away.remove(&slot).is_some() {
                        self.back.push(now - self.first_end.unwrap_or(now));
                    }
                }
                other @ Notice::Ended { .. } => others.push(other),
            }
        }
        if let Some((_, kill)) = self.kill.take_if(|(at, _)| *at <= now) {
            watcher.progress.say("kill");
            kill_now(&kill)?;
        }
        self.dial(fleet, now)?;
        watcher.watch(fleet, others)
    }

    fn ended(&mut self, fleet: &mut Fleet, slot: usize, now: u64) {
        let attempts = self.away.get(&slot).map_or(0, |away| away.attempts + 1);
        if attempts == 0 {
            self.disconnected += 1;
            self.first_end.get_or_insert(now);
            fleet.slots[slot].tallies.broke();
        }
        let dial_at = Some(now + self.backoff.native(attempts));
        self.away.insert(slot, Away { attempts, dial_at });
    }

    fn dial(&mut self, fleet: &mut Fleet, now: u64) -> Result<(), Failure> {
        for (slot, away) in &mut self.away {
            if away.dial_at.take_if(|at| *at <= now).is_some() {
                let endpoint = &mut fleet.slots[*slot].endpoint;
                *endpoint = (*endpoint + 1) % self.endpoints;
                fleet.dial(*slot)?;
            }
        }
        Ok(())
    }

    fn report(&mut self, bench: &mut Bench) -> Result<(), Failure> {
        if self.disconnected == 0 {
            return Err(Failure::Server("no connection ended: nothing was killed".to_owned()));
        }
        self.back.sort_unstable();
        let report = &mut bench.report;
        report.disconnected = Some(self.disconnected);
        report.back_p50_seconds = self.back.get(self.back.len() / 2).copied().map(seconds);
        if self.away.is_empty() {
            report.back_seconds = self.back.last().copied().map(seconds);
        }
        report.closed += self.away.len() as u64;
        let Bench { fleet, .. } = bench;
        let tallies = fleet.slots.iter().flat_map(|slot| slot.tallies.iter());
        let missed = tallies.map(|(stream, tally)| tally.outage(fleet.streams[stream].sent));
        report.outage_lost = Some(missed.sum());
        Ok(())
    }
}

fn kill_now(kill: &Kill) -> Result<(), Failure> {
    if let Some(pid) = kill.kill_pid.and_then(Pid::from_raw) {
        return kill_process(pid, Signal::KILL)
            .map_err(|error| Failure::io("cannot kill")(error.into()));
    }
    let Some(command) = &kill.kill_command else { return Ok(()) };
    let status = Command::new("sh")
        .args(["-c", command])
        .status()
        .map_err(Failure::io("the command that kills"))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::Server(format!("the command that kills ended with {status}")))
    }
}
