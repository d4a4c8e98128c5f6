//! The task that reads from NATS what this gateway's clients are subscribed to, on a connection of
//! its own.
//!
//! async-nats keeps some kilobytes for each subscription, and a queue; here a subscription is one
//! entry in two maps, and a message goes straight to its worker. The connection leads to the server
//! to which the other one publishes, so that what is published here after a subscribe was confirmed
//! arrives also where servers tell each other of subscriptions only afterwards.

use std::{sync::Arc, time::Duration};

use async_nats::ServerInfo;
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    pin, select,
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{
    dial::{Connection, Dialer, Lost, PING_INTERVAL, READ, info, pause_before},
    link::{Home, Link},
    mailbox::Batch,
    orders::Orders,
    subject::Subjects,
    subscriptions::{Refusal, Subscriptions},
    wire::{self, Op, max_message},
};
use crate::stats::add;

/// Rounds through all servers that led to others than the one that is wanted, before any will do.
const ROUNDS: usize = 3;
/// How often a refusal is logged at most; all are counted.
const LOG: Duration = Duration::from_secs(1);

pub(super) struct Reader {
    link: Link,
    dialer: Dialer,
    orders: Arc<Orders>,
    subscriptions: Subscriptions,
    home: watch::Receiver<Option<Home>>,
    /// What the last connection was meant to lead to.
    meant: Option<Home>,
    server: String,
    max_message: usize,
    /// For each worker, what came with the last read.
    batches: Vec<Batch>,
    last_ping: Instant,
    last_logged: Option<Instant>,
    was_connected: bool,
    /// Since the last connection ended, nobody was told that messages are missing.
    untold: bool,
    /// Since everything was last subscribed.
    attempts: usize,
    /// Those of them that led to other servers than the one that was wanted.
    elsewhere: usize,
}

/// A connection, and what it was meant to lead to.
pub(super) type First = (Connection, Option<Home>);

/// The first connection, or why there is none.
pub(super) async fn connect_first(link: &Link, dialer: &mut Dialer) -> Result<First, Lost> {
    let home = link.shared.home.borrow().clone();
    let wanted = home.as_ref().map(|home| home.server.as_str());
    // Other servers may have named the one that is wanted; that may still not be in reach.
    for _ in 0..2 {
        if let Ok(connection) = dialer.dial(wanted).await {
            return Ok((connection, home));
        }
    }
    Ok((dialer.dial(None).await?, home))
}

/// Starts the task; without a first connection, it goes on trying.
pub(super) fn start(
    link: &Link,
    subjects: Arc<Subjects>,
    dialer: Dialer,
    first: Option<First>,
) -> Arc<Orders> {
    let mut reader = Reader::new(link, subjects, dialer);
    let orders = Arc::clone(&reader.orders);
    link.set_reading(first.is_some());
    let first = first.map(|(connection, meant)| {
        reader.meant = meant;
        connection
    });
    link.spawn(reader.run(first));
    orders
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.orders.close();
        // Also after a panic: what does not read must not look as if it did.
        self.link.set_reading(false);
    }
}

impl Reader {
    fn new(link: &Link, subjects: Arc<Subjects>, dialer: Dialer) -> Self {
        let shared = &link.shared;
        let (stats, workers) = (Arc::clone(&shared.stats), shared.mailboxes.len());
        Self {
            link: link.clone(),
            dialer,
            orders: Arc::default(),
            subscriptions: Subscriptions::new(subjects, stats, shared.deadline, workers),
            home: shared.home.subscribe(),
            meant: None,
            server: String::new(),
            max_message: 0,
            batches: (0..workers).map(|_| Batch::default()).collect(),
            last_ping: Instant::now(),
            last_logged: None,
            was_connected: false,
            untold: false,
            attempts: 0,
            elsewhere: 0,
        }
    }

    async fn run(mut self, first: Option<Connection>) {
        let mut connection = match first {
            Some(connection) => connection,
            None => self.connect().await,
        };
        loop {
            let lost = match self.serve(connection).await {
                Ok(never) => match never {},
                Err(lost) => lost,
            };
            tracing::warn!(%lost, "the reading connection to NATS ended");
            self.end();
            connection = self.connect().await;
        }
    }

    /// Tries until there is a connection; meanwhile, subscribes are refused.
    async fn connect(&mut self) -> Connection {
        loop {
            let (attempt, may_insist) = (self.attempts, self.elsewhere < ROUNDS);
            self.attempts += 1;
            let dialing = async {
                sleep(pause_before(attempt)).await;
                // Wherever the other connection leads to, and not before it does.
                let home = self.home.wait_for(Option::is_some).await;
                let home = home.ok().and_then(|home| home.clone());
                let wanted = home.as_ref().filter(|_| may_insist);
                let outcome = self.dialer.dial(wanted.map(|home| home.server.as_str())).await;
                (home, outcome)
            };
            pin!(dialing);
            let (home, outcome) = loop {
                select! {
                    outcome = &mut dialing => break outcome,
                    orders = self.orders.next() => {
                        self.subscriptions.carry_out(orders, Instant::now(), false);
                    }
                }
            };
            match outcome {
                Ok(connection) => {
                    self.meant = home;
                    return connection;
                }
                Err(lost) => {
                    self.elsewhere += usize::from(matches!(lost, Lost::Elsewhere));
                    tracing::warn!(%lost, "no reading connection to NATS");
                }
            }
        }
    }

    /// A connection stands: everything is asked for anew.
    fn begin(&mut self, info: ServerInfo) {
        (self.server, self.max_message) = (info.server_id, max_message(info.max_payload));
        self.last_ping = Instant::now();
        self.subscriptions.restore(self.last_ping);
    }

    /// The connection is gone.
    fn end(&mut self) {
        self.link.set_reading(false);
        self.link.set_silent(false);
        self.subscriptions.forget_connection();
        // It did not last until all was subscribed: whoever listens is not left to wait for that.
        if self.untold {
            self.tell();
        }
        self.untold = self.was_connected;
    }

    async fn serve(&mut self, connection: Connection) -> Result<std::convert::Infallible, Lost> {
        let Connection { stream, mut buffer, info } = connection;
        let (mut input, mut output) = split(stream);
        let mut unflushed = false;
        let mut ticks = interval((self.link.shared.deadline / 8).max(Duration::from_millis(10)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.begin(info);
        loop {
            self.read(&mut buffer)?;
            self.subscriptions.write_more(Instant::now());
            let (pending, room) =
                (!self.subscriptions.output.is_empty(), self.subscriptions.has_room());
            select! {
                read = input.read_buf(&mut buffer) => if read? == 0 { return Err(Lost::Closed) },
                written = write(&mut output, &self.subscriptions.output), if pending || unflushed => {
                    let written = written?;
                    self.subscriptions.output.drain(..written);
                    unflushed = written > 0;
                }
                orders = self.orders.next(), if room => {
                    self.subscriptions.carry_out(orders, Instant::now(), true);
                }
                now = ticks.tick() => self.look(now, room)?,
            }
        }
    }

    /// Hands over what is whole in the buffer, also what comes before an error.
    fn read(&mut self, buffer: &mut Vec<u8>) -> Result<(), Lost> {
        let outcome = self.take_apart(buffer);
        // No message overtakes the word that others before it are missing.
        if self.untold && self.batches.iter().any(|batch| !batch.is_empty()) {
            self.tell();
        }
        for (batch, mailbox) in self.batches.iter_mut().zip(&self.link.shared.mailboxes) {
            if !batch.is_empty() {
                let dropped = mailbox.deliver(std::mem::take(batch));
                add(&self.link.shared.stats.overruns, dropped as u64);
            }
        }
        outcome
    }

    /// Handles all that is whole in the buffer, and leaves room for more.
    fn take_apart(&mut self, buffer: &mut Vec<u8>) -> Result<(), Lost> {
        let mut handled = 0;
        while let Some((op, length)) = wire::parse(&buffer[handled..], self.max_message)? {
            handled += length;
            self.handle(op)?;
        }
        buffer.drain(..handled);
        if buffer.is_empty() && buffer.capacity() > 4 * READ {
            *buffer = Vec::new();
        }
        buffer.reserve(READ / 2);
        Ok(())
    }

    fn handle(&mut self, op: Op<'_>) -> Result<(), Lost> {
        match op {
            Op::Message(delivery) => {
                // One that ended a moment ago may still bring messages.
                if let Some(subscription) = self.subscriptions.get(delivery.number) {
                    self.batches[subscription.worker].add(&subscription.interest, &delivery);
                }
            }
            Op::Pong if self.subscriptions.handle_pong() => self.restored(),
            Op::Pong | Op::Ok => {}
            Op::Ping => self.subscriptions.output.extend_from_slice(b"PONG\r\n"),
            Op::Info(json) => {
                let info = info(json)?;
                self.max_message = max_message(info.max_payload);
                if info.lame_duck_mode {
                    tracing::info!("this nats-server will end its connections soon");
                }
                self.dialer.learn(&info);
            }
            Op::Refusal(words) => match self.subscriptions.handle_refusal(&words) {
                Refusal::Fatal => return Err(Lost::Refused(words)),
                Refusal::Silenced { interest, worker } => {
                    self.link.shared.mailboxes[worker].silenced(interest);
                    self.log(&words);
                }
                Refusal::Handled => self.log(&words),
            },
        }
        Ok(())
    }

    fn log(&mut self, words: &str) {
        if self.last_logged.is_none_or(|last| last.elapsed() > LOG) {
            self.last_logged = Some(Instant::now());
            tracing::error!(words, "NATS refuses");
        }
    }

    /// The server knows all subscriptions: nothing is missed from here on.
    fn restored(&mut self) {
        if std::mem::replace(&mut self.was_connected, true) {
            add(&self.link.shared.stats.reconnects, 1);
            self.tell();
        }
        (self.attempts, self.elsewhere) = (0, 0);
        self.link.set_reading(true);
    }

    /// Tells that messages are missing, since a connection was lost.
    fn tell(&mut self) {
        self.untold = false;
        self.link.shared.mailboxes.iter().for_each(|mailbox| mailbox.reconnected());
    }

    /// What time brings: late answers, signs of life, and a server that is another now.
    fn look(&mut self, now: Instant, room: bool) -> Result<(), Lost> {
        let deadline = self.link.shared.deadline;
        if !room {
            let late = self.orders.overdue(now - deadline / 2);
            self.subscriptions.carry_out(late, now, true);
        }
        self.subscriptions.expire(now);
        let owed = self.subscriptions.oldest_ping().map(|sent| now.duration_since(sent));
        if owed.is_some_and(|owed| owed > 2 * PING_INTERVAL) {
            return Err(Lost::Silent);
        }
        if now - self.last_ping >= PING_INTERVAL {
            self.last_ping = now;
            self.subscriptions.ask_for_life(now);
        }
        self.link.set_silent(owed.is_some_and(|owed| owed > deadline));
        let home = self.home.borrow().clone();
        if home.as_ref().is_some_and(|home| home.server != self.server) && home != self.meant {
            return Err(Lost::Moved);
        }
        Ok(())
    }
}

/// Writes what there is, or else sees to it that what was written is sent. Loses nothing when it is
/// cancelled.
async fn write(output: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<usize, Lost> {
    if bytes.is_empty() {
        output.flush().await?;
        return Ok(0);
    }
    match output.write(bytes).await? {
        0 => Err(Lost::Closed),
        written => Ok(written),
    }
}

#[cfg(test)]
mod tests;
