//! The workloads. Each is a shape, a pace, and what it does to the connections meanwhile.

mod backoff;
mod churn;
mod cluster;
mod connect;
mod recover;
mod rollout;
mod slow;
mod storm;
mod traffic;

pub(crate) use churn::churn;
pub(crate) use cluster::cluster;
pub(crate) use connect::connect;
pub(crate) use recover::recover;
pub(crate) use rollout::rollout;
pub(crate) use slow::slow;
pub(crate) use storm::storm;
pub(crate) use traffic::{fanout, pairs};

use crate::{
    bench::{Bench, Shape},
    cli::Common,
    engine::Pace,
    failure::Failure,
};

/// A fan-out at a fixed rate, which most workloads disturb.
fn at_rate(workload: &'static str, common: Common, rate: f64) -> Result<(Bench, Pace), Failure> {
    let pace = traffic::checked(rate)?;
    let mut bench = Bench::new(workload, Shape::Fanout { publishers: 1 }, common)?;
    (bench.report.mode, bench.report.rate) = (Some("rate"), Some(rate));
    Ok((bench, pace))
}
