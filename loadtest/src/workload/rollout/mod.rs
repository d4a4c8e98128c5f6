//! Somebody replaces the gateways, one after the other; everybody comes back, as their protocols say, and misses nothing.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fs,
    io::{self, Read as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use crate::{
    bench::{Bench, Shape, Watcher},
    cli::RolloutArguments,
    clock::{SECOND, nanoseconds, seconds},
    engine::{Endpoint, Fleet, Notice},
    failure::Failure,
    report::{Finished, Measured},
    target::Target,
};

use super::backoff::Backoff;

mod publisher;

use publisher::Publisher;

/// How often to look who is to dial while nothing else happens.
const TICK: u64 = SECOND / 20;

/// How long an attempt to connect may take: what socket.io-client waits.
const ATTEMPT: u64 = 20 * SECOND;

/// How long everybody has to be back when the gateways have been replaced, and publishing to catch up.
const LAST_CHANCE: u64 = 60 * SECOND;

pub(crate) fn rollout(arguments: RolloutArguments) -> Result<Finished, Failure> {
    let RolloutArguments { common, rate, channels, socketio, socketio_path, api_key_file } =
        arguments;
    super::traffic::checked(rate)?;
    if channels == 0 {
        return Err(Failure::Usage("--channels is at least 1".to_owned()));
    }
    let key = fs::read_to_string(&api_key_file)
        .map_err(Failure::io(format!("{} cannot be read", api_key_file.display())))?;
    let mut bench = Bench::new("rollout", Shape::Spread { channels }, common)?;
    let publish_at = bench.settings.endpoints[bench.settings.publish_endpoint].clone();
    let path = format!("{socketio_path}?EIO=4&transport=websocket");
    let other = Endpoint { path, ..bench.settings.endpoints[0].clone() };
    let other = bench.fleet.add_endpoint(other, Target::SocketIo);
    let others = (socketio.of(bench.watcher.subscribers) as usize).min(bench.fleet.slots.len());
    bench.fleet.slots[..others].iter_mut().for_each(|slot| slot.endpoint = other);
    bench.report.rate = Some(rate);
    bench.connect()?;
    bench.fleet.recovers = true;
    let mut rollout = Rollout {
        publisher: Publisher::start(&publish_at, key.trim()),
        interval: nanoseconds(1.0 / rate),
        next_due: bench.fleet.clock.now(),
        socketio: other,
        crowd: Crowd::default(),
        backoff: Backoff::new(),
    };
    rollout.run(&mut bench)?;
    Ok(bench.finish())
}

/// A connection that wants to come back.
struct Away {
    since: u64,
    attempts: u32,
    next: Step,
}

enum Step {
    DialAt(u64),
    GiveUpAt(u64),
}

/// Who is away, and what was seen of their coming and going.
#[derive(Default)]
struct Crowd {
    away: HashMap<usize, Away>,
    /// Connections that ended, by close code.
    codes: BTreeMap<u16, u64>,
    failed_attempts: u64,
    /// How long each was away.
    absences: Vec<u64>,
    ends: Peak,
    handshakes: Peak,
}

struct Rollout {
    publisher: Publisher,
    interval: u64,
    next_due: u64,
    /// The endpoint of clients of Socket.IO.
    socketio: usize,
    crowd: Crowd,
    backoff: Backoff,
}

impl Rollout {
    /// Until standard input ends, everybody is back, and everything has arrived.
    fn run(&mut self, bench: &mut Bench) -> Result<(), Failure> {
        let Bench { fleet, watcher, settings, .. } = bench;
        let over = end_of_input();
        watcher.progress.begin("rollout", fleet);
        watcher.progress.say("ready: the end of standard input ends the measurement");
        let (start, deliveries) = (fleet.clock.now(), fleet.recorder.deliveries);
        fleet.recorder.measure_from(start);
        self.next_due = start;
        let mut last = None;
        loop {
            let now = fleet.clock.now();
            if over.load(Relaxed) && last.is_none() {
                last = Some(now);
            }
            if last.is_some_and(|last| self.is_over(now - last)) {
                break;
            }
            self.publish(fleet, now)?;
            self.turn(watcher, fleet)?;
        }
        while self.publisher.waiting() > 0 && fleet.clock.now() - last.unwrap_or(0) < LAST_CHANCE {
            self.turn(watcher, fleet)?;
        }
        self.publisher.end()?;
        fleet
            .settle(settings.patience, &mut |fleet, notices| self.watch(watcher, fleet, notices))?;
        self.report(bench, start, deliveries);
        Ok(())
    }

    fn is_over(&self, since: u64) -> bool {
        self.crowd.away.is_empty() || since > LAST_CHANCE
    }

    fn turn(&mut self, watcher: &mut Watcher, fleet: &mut Fleet) -> Result<(), Failure> {
        fleet.turn(self.next_due.min(fleet.clock.now() + TICK))?;
        let notices = fleet.take_notices();
        self.watch(watcher, fleet, notices)
    }

    fn publish(&mut self, fleet: &mut Fleet, now: u64) -> Result<(), Failure> {
        while self.next_due <= now && self.publisher.has_room() {
            let sent: u64 = fleet.streams.iter().map(|stream| stream.sent).sum();
            let stream = (sent % fleet.streams.len() as u64) as usize;
            let message = fleet.stamp(stream, self.next_due).to_vec();
            self.publisher.publish((stream, fleet.channel_of(stream)), &message)?;
            self.next_due += self.interval;
        }
        Ok(())
    }

    fn watch(
        &mut self,
        watcher: &mut Watcher,
        fleet: &mut Fleet,
        notices: Vec<Notice>,
    ) -> Result<(), Failure> {
        let now = fleet.clock.now();
        for notice in notices {
            match notice {
                Notice::Ended { slot, end } => {
                    if !self.crowd.away.contains_key(&slot) {
                        *self.crowd.codes.entry(end.code).or_default() += 1;
                        self.crowd.ends.count(now);
                    }
                    self.ended(fleet, slot, now);
                }
                Notice::Live { slot, .. } => {
                    self.crowd.handshakes.count(now);
                    if let Some(away) = self.crowd.away.remove(&slot) {
                        self.crowd.absences.push(now - away.since);
                    }
                }
            }
        }
        self.dial(fleet, now)?;
        watcher.tick(fleet);
        Ok(())
    }

    /// Has it come back when its protocol says so.
    fn ended(&mut self, fleet: &mut Fleet, slot: usize, now: u64) {
        let before = self.crowd.away.get(&slot);
        let (since, attempts) = before.map_or((now, 0), |away| (away.since, away.attempts + 1));
        self.crowd.failed_attempts += u64::from(attempts > 0);
        let is_socketio = fleet.slots[slot].endpoint == self.socketio;
        let wait = match fleet.slots[slot].client.after.take() {
            Some(milliseconds) => milliseconds * (SECOND / 1000),
            None if is_socketio => self.backoff.socketio(attempts),
            None => self.backoff.native(attempts),
        };
        self.crowd.away.insert(slot, Away { since, attempts, next: Step::DialAt(now + wait) });
    }

    fn dial(&mut self, fleet: &mut Fleet, now: u64) -> Result<(), Failure> {
        let mut given_up = Vec::new();
        for (slot, away) in &mut self.crowd.away {
            match away.next {
                Step::DialAt(at) if at <= now => {
                    away.next = Step::GiveUpAt(now + ATTEMPT);
                    fleet.dial(*slot)?;
                }
                Step::GiveUpAt(at) if at <= now => given_up.push(*slot),
                Step::DialAt(_) | Step::GiveUpAt(_) => {}
            }
        }
        for slot in given_up {
            fleet.leave(slot);
            self.ended(fleet, slot, now);
        }
        Ok(())
    }

    fn report(&mut self, bench: &mut Bench, start: u64, deliveries: u64) {
        let Bench { fleet, report, watcher, .. } = bench;
        let elapsed = seconds(fleet.recorder.last_delivery.max(start) - start);
        let deliveries = fleet.recorder.deliveries - deliveries;
        let messages = fleet.streams.iter().map(|stream| stream.sent).sum();
        report.measured = Measured {
            seconds: Some(elapsed),
            messages: Some(messages),
            deliveries: Some(deliveries),
            messages_per_second: Some(messages as f64 / elapsed),
            deliveries_per_second: Some(deliveries as f64 / elapsed),
            ..Measured::default()
        };
        report.measured.set_latency(&fleet.recorder.latency);
        let crowd = &mut self.crowd;
        crowd.absences.sort_unstable();
        report.disconnected = Some(crowd.codes.values().sum());
        let codes = crowd.codes.iter().map(|(code, count)| format!("{code}:{count}"));
        report.close_codes = Some(codes.collect::<Vec<_>>().join(" "));
        report.failed_attempts = Some(crowd.failed_attempts);
        report.recovered = Some(fleet.recovered);
        report.unrecovered = Some(fleet.unrecovered.len());
        if let Some(slot) = fleet.unrecovered.first() {
            let name =
                if fleet.slots[*slot].endpoint == self.socketio { "Socket.IO" } else { "native" };
            watcher.progress.say(&format!("the first unrecovered: connection {slot}, {name}"));
        }
        report.away_p50_seconds =
            crowd.absences.get(crowd.absences.len() / 2).copied().map(seconds);
        report.away_max_seconds = crowd.absences.last().copied().map(seconds);
        report.ends_peak_per_second = Some(crowd.ends.most);
        report.handshakes_peak_per_second = Some(crowd.handshakes.most);
        report.publishes_repeated = Some(self.publisher.repeated());
        report.closed += crowd.away.len() as u64;
    }
}

/// Becomes true when standard input ends.
fn end_of_input() -> Arc<AtomicBool> {
    let over = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&over);
    thread::spawn(move || {
        let mut input = io::stdin().lock();
        while input.read(&mut [0; 64]).is_ok_and(|length| length > 0) {}
        flag.store(true, Relaxed);
    });
    over
}

/// The most events within any second.
#[derive(Debug, Default)]
struct Peak {
    recent: VecDeque<u64>,
    most: usize,
}

impl Peak {
    fn count(&mut self, at: u64) {
        self.recent.push_back(at);
        while self.recent.front().is_some_and(|first| at - first >= SECOND) {
            self.recent.pop_front();
        }
        self.most = self.most.max(self.recent.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_of_any_second() {
        let mut peak = Peak::default();
        for tenth in [0, 9, 10, 11, 12, 30, 31] {
            peak.count(tenth * SECOND / 10);
        }
        assert_eq!(peak.most, 4);
    }
}
