//! From one gateway to others, and for comparison through one.

use crate::{
    cli::{ClusterArguments, Common},
    failure::Failure,
    report::Finished,
};

/// Measures both ways one after the other, with connections of their own.
pub(crate) fn cluster(arguments: ClusterArguments) -> Result<Finished, Failure> {
    let ClusterArguments { common, rate } = arguments;
    let [first, others @ ..] = &common.urls[..] else {
        return Err(Failure::Usage("a cluster needs --url twice".to_owned()));
    };
    let [second, ..] = others else {
        return Err(Failure::Usage("a cluster needs a second --url".to_owned()));
    };
    let urls = |subscribers: &[String], publisher: &String| Common {
        urls: subscribers.to_vec(),
        publish_url: Some(publisher.clone()),
        ..common.clone()
    };
    let through_one = urls(std::slice::from_ref(second), second);
    let across = urls(others, first);

    let mut baseline = measured(through_one, rate)?;
    baseline.curves.iter_mut().for_each(|curve| curve.name = "through one gateway");
    let mut finished = measured(across, rate)?;
    let (report, before) = (&mut finished.report, &baseline.report);
    (report.baseline_p50_us, report.baseline_p99_us) =
        (before.measured.p50_us, before.measured.p99_us);
    (report.baseline_p999_us, report.baseline_max_us) =
        (before.measured.p999_us, before.measured.max_us);
    let medians = report.measured.p50_us.zip(report.baseline_p50_us);
    report.p50_above_baseline_us = medians.map(|(across, one)| across - one);
    report.lost += before.lost;
    report.duplicated += before.duplicated;
    report.reordered += before.reordered;
    report.strays += before.strays;
    report.refused += before.refused;
    report.closed += before.closed;
    report.passed &= before.passed;
    finished.curves.extend(baseline.curves);
    Ok(finished)
}

fn measured(common: Common, rate: f64) -> Result<Finished, Failure> {
    let (mut bench, pace) = super::at_rate("cluster", common, rate)?;
    bench.connect()?;
    bench.warm_up(pace)?;
    bench.report.measured = bench.measure_plainly(pace)?;
    Ok(bench.finish())
}
