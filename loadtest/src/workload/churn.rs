//! Connections come and go while messages flow. Each must get all that was published while it was subscribed.

use crate::{
    bench::Watcher,
    cli::ChurnArguments,
    clock::seconds,
    engine::{Fleet, Notice},
    failure::Failure,
    report::Finished,
};

pub(crate) fn churn(arguments: ChurnArguments) -> Result<Finished, Failure> {
    let ChurnArguments { common, rate, churn } = arguments;
    let (mut bench, pace) = super::at_rate("churn", common, rate)?;
    bench.connect()?;
    bench.warm_up(pace)?;
    let subscribers = bench.watcher.subscribers;
    let mut coming_and_going = Churn {
        subscribers,
        per_second: churn.of(subscribers),
        since: bench.fleet.clock.now(),
        begun: 0,
        leaving: Vec::new(),
        joined: 0,
        left: 0,
        lost: 0,
        patience: bench.settings.patience,
    };
    let until = bench.settings.until;
    bench.report.measured = bench.measure(pace, until, &mut |watcher, fleet, notices| {
        coming_and_going.watch(watcher, fleet, notices)
    })?;
    bench.report.joined = Some(coming_and_going.joined);
    bench.report.left = Some(coming_and_going.left);
    bench.report.lost += coming_and_going.lost;
    Ok(bench.finish())
}

/// A connection that goes once it has all that was published when it decided to.
struct Leaving {
    slot: usize,
    owed: u64,
    decided_at: u64,
}

struct Churn {
    subscribers: usize,
    per_second: f64,
    since: u64,
    /// How many have decided to go.
    begun: usize,
    leaving: Vec<Leaving>,
    joined: u64,
    left: u64,
    lost: u64,
    patience: u64,
}

impl Churn {
    fn watch(
        &mut self,
        watcher: &mut Watcher,
        fleet: &mut Fleet,
        notices: Vec<Notice>,
    ) -> Result<(), Failure> {
        let came = notices.iter().filter(|notice| matches!(notice, Notice::Live { .. }));
        self.joined += came.count() as u64;
        let now = fleet.clock.now();
        let due = (self.per_second * seconds(now - self.since)) as usize;
        while self.begun < due {
            let slot = self.begun % self.subscribers;
            self.begun += 1;
            let is_leaving = self.leaving.iter().any(|leaving| leaving.slot == slot);
            if fleet.slots[slot].is_live() && !is_leaving {
                let owed = fleet.streams[0].sent;
                self.leaving.push(Leaving { slot, owed, decided_at: now });
            }
        }
        self.replace(fleet, now)?;
        watcher.watch(fleet, notices)
    }

    /// Lets those go that have all they are owed, and puts others in their place.
    fn replace(&mut self, fleet: &mut Fleet, now: u64) -> Result<(), Failure> {
        let mut gone = Vec::new();
        self.leaving.retain(|leaving| {
            let missing = fleet.slots[leaving.slot].tallies.missing(leaving.owed);
            let waits = missing > 0 && now - leaving.decided_at < self.patience;
            if !waits {
                self.lost += missing;
                gone.push(leaving.slot);
            }
            waits
        });
        for slot in gone {
            fleet.leave(slot);
            fleet.slots[slot].tallies.restart();
            fleet.dial(slot)?;
            self.left += 1;
        }
        Ok(())
    }
}
