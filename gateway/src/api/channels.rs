//! Which channels have subscribers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Coverage, Deps, page_size,
    peers::{self, Ask, Content, Subscribed, Wanted},
};
use crate::problem::Problem;

/// Which channels to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ChannelsQuery {
    /// Only names that start with this.
    prefix: Option<String>,
    /// Only names behind this one, in the order of their bytes: `next` of the answer before.
    after: Option<String>,
    /// At most this many: 1 to 1,000, usually 100.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// Channels with subscribers, by name.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Channels)]
pub(super) struct ChannelsBody {
    channels: Vec<Subscribed>,
    /// Ask for what is `after` this for more.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    #[serde(flatten)]
    coverage: Coverage,
}

/// Lists channels. Each gateway sends the first that it has; a name that is among the first of
/// all is among the first of each gateway that has it, so its count is whole.
pub(super) async fn list(deps: &Deps, query: ChannelsQuery) -> Result<ChannelsBody, Problem> {
    let wanted = Wanted {
        prefix: query.prefix.unwrap_or_default(),
        after: query.after,
        limit: page_size(query.limit)?,
    };
    let round = peers::ask(deps, &Ask::Channels(wanted.clone())).await;
    let mut counts: BTreeMap<(String, bool), u64> = BTreeMap::new();
    let mut cut_off = false;
    for content in round.contents {
        let Content::Channels { list, more } = content else { continue };
        cut_off |= more;
        for Subscribed { name, pattern, subscribers } in list {
            *counts.entry((name, pattern)).or_default() += subscribers;
        }
    }
    let all = counts.into_iter().map(|((name, pattern), subscribers)| Subscribed {
        name,
        pattern,
        subscribers,
    });
    let (channels, more) = wanted.select(all);
    let last = channels.last().filter(|_| more || cut_off);
    let next = last.map(|entry| entry.name.clone());
    Ok(ChannelsBody { channels, next, coverage: round.coverage })
}
