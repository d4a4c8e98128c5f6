//! The channels of a namespace, and the newest message of each.
//!
//! Which there are is the leader's word. The messages come from whichever server of the stream
//! answers; one that lags behind what was listed is asked again.

use std::{sync::Arc, time::Duration};

use broker_core::{Epoch, Message, Offset, retained::Listing};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    api::ApiError,
    envelope,
    lookup::{Asked, Found, Lookup},
    place::Place,
    reconcile::Info,
    streams::Stream,
    subject::Subjects,
};
use crate::stats::add;

/// Before a server that lags behind is asked again.
const PAUSE: Duration = Duration::from_millis(20);

impl Lookup {
    /// The server lists 100,000 subjects at most.
    pub(super) async fn channels(
        &self,
        stream: &Arc<Stream>,
        subjects: &Subjects,
        end: Instant,
    ) -> Result<Listing, ApiError> {
        let body = json!({ "subjects_filter": ">" });
        let given = stream.given();
        let info: Info = self.api(end).call("STREAM.INFO", &stream.name, &body).await?;
        let state = stream.learn(&info, given)?;
        let listed = info.state.subjects.unwrap_or_default();
        let channels = listed.keys().filter_map(|subject| subjects.published(subject)).collect();
        Ok(Listing { epoch: state.epoch, end: state.end, channels })
    }

    /// The newest messages of channels that one question may ask for.
    pub(super) async fn newest_since(
        &self,
        asked: &[Asked],
        until: Offset,
        end: Instant,
    ) -> Result<Vec<Message>, ApiError> {
        let Some(Asked { stream, .. }) = asked.first() else { return Ok(Vec::new()) };
        loop {
            let look = || self.newest_messages(stream, asked, end);
            let ((found, up_to), state) = self.in_one_epoch(stream, end, look).await?;
            let reached = match up_to {
                Some(up_to) => up_to >= until.0,
                // It found nothing at all.
                None => self.has_none(asked, end).await?,
            };
            if reached {
                return Ok(self.decode_newest(asked, found, state.epoch));
            }
            sleep(PAUSE).await;
        }
    }

    /// Whether none of the channels has a message, as the leader knows it.
    async fn has_none(&self, asked: &[Asked], end: Instant) -> Result<bool, ApiError> {
        for asked in asked {
            if self.newest(asked, end).await?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn decode_newest(&self, asked: &[Asked], mut found: Found<'_>, epoch: Epoch) -> Vec<Message> {
        let mut messages = Vec::with_capacity(found.len());
        for Asked { channel, subject, .. } in asked {
            let Some((message, place)) = found.remove(subject.as_str()) else { continue };
            // The server names the last one that it sent, which is of another channel.
            let at = (epoch, Place { previous: None, ..place });
            let headers = message.headers.as_ref();
            match envelope::decode_stored(channel.clone(), headers, message.payload, at) {
                Ok(message) => messages.push(message),
                Err(malformed) => {
                    add(&self.link.shared.stats.malformed, 1);
                    tracing::debug!(%malformed, %channel, "not in a snapshot");
                }
            }
        }
        messages
    }
}
