//! Messages and nothing else: `fanout` and `pairs`.

use crate::{
    bench::{Bench, Shape},
    cli::{FanoutArguments, Mode, PairsArguments},
    engine::Pace,
    failure::Failure,
    report::Finished,
};

/// N subscribers on one channel.
pub(crate) fn fanout(arguments: FanoutArguments) -> Result<Finished, Failure> {
    let FanoutArguments { common, mode, window, rate, publishers } = arguments;
    if publishers == 0 {
        return Err(Failure::Usage("--publishers is at least 1".to_owned()));
    }
    let (mode, pace) = match (rate, mode) {
        (Some(rate), _) => ("rate", checked(rate)?),
        (None, Mode::OneAtATime) => ("one-at-a-time", Pace::Window(1)),
        (None, Mode::Flood) => ("flood", Pace::Window(window)),
    };
    run(Bench::new("fanout", Shape::Fanout { publishers }, common)?, mode, pace)
}

/// N channels with one subscriber each.
pub(crate) fn pairs(arguments: PairsArguments) -> Result<Finished, Failure> {
    let PairsArguments { common, window, rate, publishers } = arguments;
    let (mode, pace) = match rate {
        Some(rate) => ("rate", checked(rate)?),
        None => ("flood", Pace::Window(window)),
    };
    run(Bench::new("pairs", Shape::Pairs { publishers }, common)?, mode, pace)
}

/// A pace of so many messages per second.
pub(super) fn checked(rate: f64) -> Result<Pace, Failure> {
    if !(0.001..=10_000_000.0).contains(&rate) {
        return Err(Failure::Usage("--rate is from 0.001 to 10000000 per second".to_owned()));
    }
    Ok(Pace::Rate(rate))
}

fn run(mut bench: Bench, mode: &'static str, pace: Pace) -> Result<Finished, Failure> {
    bench.report.mode = Some(mode);
    match pace {
        Pace::Window(window) => bench.report.window = Some(window),
        Pace::Rate(rate) => bench.report.rate = Some(rate),
    }
    bench.connect()?;
    bench.warm_up(pace)?;
    bench.report.measured = bench.measure_plainly(pace)?;
    Ok(bench.finish())
}
