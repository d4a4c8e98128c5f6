//! What all workloads do: connect everybody, warm up, measure, count.

use crate::{
    cli::Common,
    clock::{Clock, seconds},
    engine::{Fleet, Notice, Pace, Plan, Recorder, Slot, Stream, Tallies, Until, latencies},
    failure::Failure,
    process::Processes,
    progress::Progress,
    report::{Curve, Finished, Handshakes, Measured, Report},
    settings::Settings,
    target::{Channel, Client},
};

/// Who publishes what to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// So many connections publish to one channel, which all others subscribe to.
    Fanout { publishers: usize },
    /// Each subscriber has its channel. So many other connections publish, or none: each to its own.
    Pairs { publishers: usize },
    /// The subscribers are spread over so many channels, to which somebody else publishes.
    Spread { channels: usize },
    /// Nobody publishes.
    Silent,
}

/// A run under way.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) fleet: Fleet,
    pub(crate) settings: Settings,
    pub(crate) report: Report,
    pub(crate) watcher: Watcher,
}

/// Called again and again while messages flow, with what happened to connections.
pub(crate) type Watch<'a> =
    dyn FnMut(&mut Watcher, &mut Fleet, Vec<Notice>) -> Result<(), Failure> + 'a;

/// What is looked at while messages flow.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) progress: Progress,
    pub(crate) server: Processes,
    pub(crate) subscribers: usize,
    /// Connections that ended unasked.
    pub(crate) closed: u64,
}

impl Watcher {
    /// The usual: no connection should end, and without publishers there is nothing to measure.
    pub(crate) fn watch(&mut self, fleet: &mut Fleet, notices: Vec<Notice>) -> Result<(), Failure> {
        for notice in notices {
            if let Notice::Ended { slot, end } = notice {
                if slot >= self.subscribers {
                    return Err(Failure::Server(format!("the publisher: {}", end.why)));
                }
                if self.closed == 0 {
                    self.progress.say(&format!("connection {slot}: {}", end.why));
                }
                self.closed += 1;
            }
        }
        if fleet.live == 0 {
            return Err(Failure::Server("all connections have ended".to_owned()));
        }
        self.tick(fleet);
        Ok(())
    }

    /// Once a second; the threads of the server are looked at before they can end unseen.
    pub(crate) fn tick(&mut self, fleet: &Fleet) {
        if self.progress.tick(fleet) {
            self.server.cpu();
        }
    }
}

impl Bench {
    pub(crate) fn new(
        workload: &'static str,
        shape: Shape,
        common: Common,
    ) -> Result<Self, Failure> {
        let channels = channels(shape, &common);
        let (settings, target) = Settings::new(common, &channels)?;
        let subscribers = settings.common.connections;
        let slots = slots(shape, &settings, &channels);
        let streams = streams(shape, subscribers);
        let report = Report {
            workload,
            target: target.name().to_owned(),
            connections: subscribers,
            channels: channels.len(),
            publishers: slots.len() - subscribers,
            payload_bytes: settings.common.payload,
            ..Report::default()
        };
        let plan = Plan {
            offers_deflate: settings.common.compression || target.offers_deflate(),
            target,
            endpoints: settings.endpoints.clone(),
            channels,
            slots,
            streams,
            sources: settings.common.sources,
            payload: settings.common.payload,
        };
        let recorder = Recorder::new(random() as u32, settings.common.payload)?;
        let fleet = Fleet::new(plan, recorder, Clock::start())?;
        let progress = Progress::new(settings.common.quiet);
        let server = server(&settings);
        if server.is_empty() {
            progress.say("no server process is known: its CPU and memory are not measured");
        }
        let watcher = Watcher { progress, server, subscribers, closed: 0 };
        Ok(Self { fleet, settings, report, watcher })
    }

    /// Opens all connections.
    pub(crate) fn connect(&mut self) -> Result<(), Failure> {
        let Self { fleet, watcher, report, settings } = self;
        watcher.progress.begin("connect", fleet);
        report.rss_before_bytes = watcher.server.resident();
        let (cpu, start) = (watcher.server.cpu(), fleet.clock.now());
        let (total, mut next, mut done) = (fleet.slots.len(), 0, 0);
        let (mut took, mut last) = (latencies()?, start);
        while done < total {
            while next < total && fleet.opening < settings.common.ramp {
                fleet.dial(next)?;
                next += 1;
            }
            fleet.turn(fleet.clock.now() + settings.timeout.min(100_000_000))?;
            for notice in fleet.take_notices() {
                match notice {
                    Notice::Live { took: nanoseconds, .. } => {
                        took.saturating_record(nanoseconds);
                        (done, last) = (done + 1, fleet.clock.now());
                    }
                    Notice::Ended { slot, end } => {
                        return Err(Failure::Server(format!("connection {slot}: {}", end.why)));
                    }
                }
            }
            if fleet.clock.now() - last > settings.timeout {
                let what = format!("{done} of {total} connections stand, and no other comes up");
                return Err(Failure::Server(what));
            }
            watcher.tick(fleet);
        }
        let spent = watcher.server.cpu().zip(cpu).map(|(after, before)| after - before);
        let elapsed = seconds(last - start);
        report.handshakes = Handshakes {
            handshakes: total as u64,
            handshake_seconds: elapsed,
            handshakes_per_second: total as f64 / elapsed,
            handshake_cpu_ms: spent.map(|spent| spent as f64 / 1e6 / total as f64),
            handshake_p50_us: took.value_at_quantile(0.5) as f64 / 1e3,
            handshake_p99_us: took.value_at_quantile(0.99) as f64 / 1e3,
        };
        report.compression = fleet.slots.iter().any(Slot::is_compressed);
        self.weigh();
        Ok(())
    }

    /// Takes down what the connections hold of the server's memory.
    pub(crate) fn weigh(&mut self) {
        let Self { report, watcher, fleet, .. } = self;
        report.rss_after_bytes = watcher.server.resident();
        let grown = report.rss_after_bytes.zip(report.rss_before_bytes);
        report.rss_bytes_per_connection =
            grown.map(|(after, before)| (after as f64 - before as f64) / fleet.slots.len() as f64);
    }

    /// Publishes for a while without measuring, until all has arrived.
    pub(crate) fn warm_up(&mut self, pace: Pace) -> Result<(), Failure> {
        let Self { fleet, watcher, settings, .. } = self;
        watcher.progress.begin("warm up", fleet);
        let mut watch = |fleet: &mut Fleet, notices| watcher.watch(fleet, notices);
        let until = Until::Elapsed(settings.warmup);
        fleet.pump(pace, until, settings.patience, &mut watch)?;
        fleet.settle(settings.patience, &mut watch)
    }

    /// Publishes and measures, until all has arrived.
    pub(crate) fn measure(
        &mut self,
        pace: Pace,
        until: Until,
        watch: &mut Watch<'_>,
    ) -> Result<Measured, Failure> {
        let Self { fleet, watcher, settings, .. } = self;
        watcher.progress.begin("measure", fleet);
        let (start, sent) = (fleet.clock.now(), sent(fleet));
        let (deliveries, received) = (fleet.recorder.deliveries, fleet.bytes_received);
        let mut own = Processes::own();
        let (server_cpu, own_cpu) = (watcher.server.cpu(), own.cpu());
        fleet.recorder.measure_from(start);

        let mut watch = |fleet: &mut Fleet, notices| watch(watcher, fleet, notices);
        fleet.pump(pace, until, settings.patience, &mut watch)?;
        fleet.settle(settings.patience, &mut watch)?;

        let spent = |after: Option<u64>, before: Option<u64>| {
            after.zip(before).map(|(after, before)| seconds(after - before))
        };
        let server_cpu = spent(watcher.server.cpu(), server_cpu);
        let client_cpu = spent(own.cpu(), own_cpu);
        // Waiting for what never came is no part of it.
        let end = match fleet.recorder.last_delivery {
            last if last > start => last,
            _ => fleet.clock.now(),
        };
        let elapsed = seconds(end - start);
        let (messages, deliveries) =
            (self::sent(fleet) - sent, fleet.recorder.deliveries - deliveries);
        let per =
            |cpu: Option<f64>, count: u64| cpu.filter(|it| *it > 0.0).map(|it| count as f64 / it);
        let each = |cpu: Option<f64>| cpu.map(|it| it * 1e6 / deliveries.max(1) as f64);
        let mut measured = Measured {
            seconds: Some(elapsed),
            messages: Some(messages),
            deliveries: Some(deliveries),
            messages_per_second: per(Some(elapsed), messages),
            deliveries_per_second: per(Some(elapsed), deliveries),
            messages_per_cpu_second: per(server_cpu, messages),
            deliveries_per_cpu_second: per(server_cpu, deliveries),
            server_cpu_seconds: server_cpu,
            server_cpu_us_per_delivery: each(server_cpu),
            client_cpu_seconds: client_cpu,
            client_cpu_us_per_delivery: each(client_cpu),
            client_cpu_share: client_cpu.map(|it| it / elapsed),
            bytes_received: Some(fleet.bytes_received - received),
            ..Measured::default()
        };
        measured.set_latency(&fleet.recorder.latency);
        Ok(measured)
    }

    /// Publishes and measures with nothing else going on.
    pub(crate) fn measure_plainly(&mut self, pace: Pace) -> Result<Measured, Failure> {
        let until = self.settings.until;
        self.measure(pace, until, &mut |watcher, fleet, notices| watcher.watch(fleet, notices))
    }

    /// Waits until all has arrived, once more.
    pub(crate) fn settle(&mut self, watch: &mut Watch<'_>) -> Result<(), Failure> {
        let Self { fleet, watcher, settings, .. } = self;
        fleet.settle(settings.patience, &mut |fleet, notices| watch(watcher, fleet, notices))
    }

    /// Counts what is missing and closes the books.
    pub(crate) fn finish(mut self) -> Finished {
        let Self { fleet, report, watcher, .. } = &mut self;
        let tallies = fleet.slots.iter().flat_map(|slot| slot.tallies.iter());
        report.lost +=
            tallies.map(|(it, tally)| tally.missing(fleet.streams[it].sent)).sum::<u64>();
        report.duplicated += fleet.recorder.duplicated;
        report.reordered += fleet.recorder.reordered;
        report.strays += fleet.recorder.strays;
        report.refused += fleet.refusals.count;
        report.closed += watcher.closed;
        if let Some(why) = &fleet.refusals.first {
            watcher.progress.say(&format!("the first refusal: {why}"));
        }
        report.passed = report.is_clean();
        fleet.leave_all();
        let curve = Curve { name: self.report.workload, latency: self.fleet.recorder.latency };
        Finished { report: self.report, curves: vec![curve], output: self.settings.output }
    }
}

fn sent(fleet: &Fleet) -> u64 {
    fleet.streams.iter().map(|stream| stream.sent).sum()
}

fn channels(shape: Shape, common: &Common) -> Vec<Channel> {
    let numbered = |number: u32| Channel { number, name: format!("{}-{number}", common.channel) };
    match shape {
        Shape::Pairs { .. } => (0..common.connections as u32).map(numbered).collect(),
        Shape::Spread { channels } => (0..channels as u32).map(numbered).collect(),
        Shape::Fanout { .. } | Shape::Silent => {
            vec![Channel { number: 0, name: common.channel.clone() }]
        }
    }
}

fn slots(shape: Shape, settings: &Settings, channels: &[Channel]) -> Vec<Slot> {
    let client = |number: usize, channel: Option<Channel>| {
        let user = format!("load-{number}");
        Client { token: settings.tokens.of(&user), user, channel, ..Client::default() }
    };
    let subscribers = settings.common.connections;
    let (publishers, streams) = match shape {
        Shape::Fanout { publishers } => (publishers, publishers),
        Shape::Pairs { publishers } => (publishers, 1),
        Shape::Spread { .. } => (0, 1),
        Shape::Silent => (0, 0),
    };
    let subscriber = |number: usize| {
        let (first, channel) = match shape {
            Shape::Pairs { .. } | Shape::Spread { .. } => {
                (number % channels.len(), &channels[number % channels.len()])
            }
            Shape::Fanout { .. } | Shape::Silent => (0, &channels[0]),
        };
        let client = client(number, Some(channel.clone()));
        Slot::new(client, number % settings.shared, Tallies::new(first, streams))
    };
    let publisher = |number: usize| {
        let client = client(subscribers + number, None);
        Slot::new(client, settings.publish_endpoint, Tallies::default())
    };
    (0..subscribers).map(subscriber).chain((0..publishers).map(publisher)).collect()
}

fn streams(shape: Shape, subscribers: usize) -> Vec<Stream> {
    match shape {
        Shape::Fanout { publishers } => {
            (0..publishers).map(|it| Stream::new(0, subscribers + it)).collect()
        }
        Shape::Pairs { publishers: 0 } => {
            (0..subscribers).map(|it| Stream::new(it as u32, it)).collect()
        }
        Shape::Pairs { publishers } => (0..subscribers)
            .map(|it| Stream::new(it as u32, subscribers + it % publishers))
            .collect(),
        Shape::Spread { channels } => {
            (0..channels).map(|it| Stream::new(it as u32, usize::MAX)).collect()
        }
        Shape::Silent => Vec::new(),
    }
}

fn server(settings: &Settings) -> Processes {
    if !settings.common.server_pids.is_empty() {
        return Processes::new(settings.common.server_pids.clone());
    }
    let local = settings.endpoints.iter().filter(|it| it.address.ip().is_loopback());
    Processes::listening(&local.map(|it| it.address.port()).collect::<Vec<_>>())
}

/// Bits that differ from run to run.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0_u8)
}
