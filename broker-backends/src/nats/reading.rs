//! Reading a channel's messages, page by page, from whichever server of the stream answers.
//!
//! Such a server may lag behind. So where the pages end before what was to be reached, the
//! leader says whether that is still there; if it is, the servers are asked again.

use std::time::Duration;

use broker_core::{
    Epoch, Message, Offset, Timestamp,
    history::{From, Slice},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    api::ApiError,
    envelope,
    lookup::{ANSWER_BYTES, Asked, Lookup},
    place,
};
use crate::stats::add;

/// Messages in one answer.
const PAGE: usize = 256;
/// Before a server that lags behind is asked again.
const PAUSE: Duration = Duration::from_millis(20);

/// A read under way.
pub(super) struct Reading<'a> {
    lookup: &'a Lookup,
    asked: Asked,
    epoch: Epoch,
    from: From,
    until: Offset,
    most: usize,
    end: Instant,
    /// The last one seen, also of those that cannot be read.
    last: Option<Offset>,
    /// An answer has no room for more than that one.
    last_fills: bool,
    messages: Vec<Message>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(
        lookup: &'a Lookup,
        asked: Asked,
        slice: Slice,
        end: Instant,
    ) -> Result<Self, ApiError> {
        let Slice { from, until, messages: most } = slice;
        let epoch = asked.stream.epoch().ok_or(ApiError::Silent)?;
        let (last, last_fills, messages) = (None, false, Vec::new());
        Ok(Self { lookup, asked, epoch, from, until, most, end, last, last_fills, messages })
    }

    pub(super) async fn run(mut self) -> Result<Vec<Message>, ApiError> {
        while self.messages.len() < self.most {
            let more = self.page().await?;
            if !more && (self.last >= Some(self.until) || self.is_all().await?) {
                break;
            }
            if !more {
                sleep(PAUSE).await;
            }
        }
        Ok(self.messages)
    }

    /// Reads what comes next; says whether there is more.
    ///
    /// A page begins with the last message of the one before: if that has left the log meanwhile,
    /// so may have others behind it, and what was read before it certainly has. The answer is then
    /// what is left.
    async fn page(&mut self) -> Result<bool, ApiError> {
        let again = self.last.filter(|_| !self.last_fills);
        let size = PAGE.min(self.most - self.messages.len()) + usize::from(again.is_some());
        let question = self.question(size, again);
        let api = self.lookup.api(self.end);
        let batch = api.batch(&self.asked.stream.name, &question, size).await?;
        let alone = batch.more && batch.messages.len() == 1;
        let mut messages = batch.messages.into_iter().peekable();
        let is_there = messages.next_if(|(_, place)| Some(place.offset) == again).is_some();
        self.last_fills = is_there && alone;
        if again.is_some() && !is_there && messages.peek().is_some() {
            self.last = None;
            self.messages.clear();
        }
        for (message, mut place) in messages {
            // The server names the last one that it sent, which is the one before also here.
            place.previous = self.last.replace(place.offset);
            let (headers, channel) = (message.headers.as_ref(), self.asked.channel.clone());
            let at = (self.epoch, place);
            match envelope::decode_stored(channel, headers, message.payload, at) {
                Ok(message) => self.messages.push(message),
                Err(malformed) => {
                    add(&self.lookup.link.shared.stats.malformed, 1);
                    tracing::debug!(%malformed, channel = %self.asked.channel, "not delivered");
                }
            }
        }
        Ok(batch.more)
    }

    fn question(&self, size: usize, again: Option<Offset>) -> Value {
        let mut question = json!({
            "next_by_subj": self.asked.subject,
            "batch": size,
            "max_bytes": ANSWER_BYTES,
        });
        match (self.last, self.from) {
            (Some(Offset(last)), _) if again.is_some() => question["seq"] = json!(last),
            (Some(Offset(last)), _) => question["seq"] = json!(last + 1),
            (None, From::Offset(Offset(from))) => question["seq"] = json!(from.max(1)),
            (None, From::Time(from)) => question["start_time"] = json!(place::written(from)),
        }
        question
    }

    /// Whether there was nothing more to be read, as the leader knows it.
    async fn is_all(&self) -> Result<bool, ApiError> {
        let newest = self.lookup.newest(&self.asked, self.end).await?;
        let state = self.lookup.streams.state(&self.asked.stream, self.end).await?;
        if state.epoch != self.epoch {
            return Err(ApiError::Silent);
        }
        let Some(newest) = newest.map(|newest| newest.place) else { return Ok(true) };
        let before_start = match self.from {
            From::Offset(from) => newest.offset < from,
            From::Time(Timestamp(from)) => newest.time() < Timestamp(from),
        };
        Ok(before_start || self.last >= Some(newest.offset.min(self.until)))
    }
}
