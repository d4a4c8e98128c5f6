//! The latencies as a picture: percentiles above, how many deliveries took how long below. Both latency axes are
//! logarithmic.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use super::{Curve, Report, table::micros};

const WIDTH: f64 = 760.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 40.0;
const PANEL: f64 = 240.0;
const TOPS: [f64; 2] = [60.0, 370.0];
const HEIGHT: f64 = 660.0;
const COLOURS: [&str; 4] = ["#1f6feb", "#d1242f", "#1a7f37", "#9a6700"];

/// Percentiles that the first panel's axis names.
const PERCENTILES: [f64; 6] = [0.0, 90.0, 99.0, 99.9, 99.99, 99.999];

/// Bars per decade of latency.
const BARS: f64 = 20.0;

/// An SVG document.
pub(super) fn draw(report: &Report, curves: &[Curve]) -> String {
    let curves: Vec<_> = curves.iter().filter(|curve| !curve.latency.is_empty()).collect();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let mode = report.mode.unwrap_or_default();
    let title = format!(
        "{} {mode}, target {}: {} connections, {} B",
        report.workload, report.target, report.connections, report.payload_bytes
    );
    text(&mut svg, (LEFT, 24.0), "start", &title);
    let Some(range) = Decades::of(&curves) else {
        text(&mut svg, (LEFT, TOPS[0]), "start", "no latency was measured");
        return svg + "</svg>\n";
    };
    for (index, curve) in curves.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let x = LEFT + 180.0 * index as f64;
        let _infallible = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"32\" width=\"12\" height=\"12\" fill=\"{colour}\"/>"
        );
        text(&mut svg, (x + 18.0, 42.0), "start", curve.name);
    }
    percentiles(&mut svg, &curves, &range);
    distribution(&mut svg, &curves, &range);
    svg + "</svg>\n"
}

/// The range of latencies, in whole powers of ten of nanoseconds.
struct Decades {
    first: f64,
    last: f64,
}

impl Decades {
    fn of(curves: &[&Curve]) -> Option<Self> {
        let least = curves.iter().map(|curve| curve.latency.min().max(100)).min()?;
        let most = curves.iter().map(|curve| curve.latency.max().max(101)).max()?;
        Some(Self { first: (least as f64).log10().floor(), last: (most as f64).log10().ceil() })
    }

    /// From 0 to 1.
    fn place(&self, nanoseconds: f64) -> f64 {
        ((nanoseconds.max(1.0).log10() - self.first) / (self.last - self.first)).clamp(0.0, 1.0)
    }

    fn each(&self) -> impl Iterator<Item = f64> {
        (self.first as i32..=self.last as i32).map(|power| 10_f64.powi(power))
    }
}

fn percentiles(svg: &mut String, curves: &[&Curve], range: &Decades) {
    let nines = (PERCENTILES.len() - 1) as f64;
    let x = |tail: f64| LEFT + (-tail.log10() / nines).min(1.0) * (WIDTH - LEFT - RIGHT);
    let y = |nanoseconds: f64| TOPS[0] + PANEL * (1.0 - range.place(nanoseconds));
    for percentile in PERCENTILES {
        let x = x(1.0 - percentile / 100.0);
        line(svg, (x, TOPS[0]), (x, TOPS[0] + PANEL));
        text(svg, (x, TOPS[0] + PANEL + 16.0), "middle", &format!("{percentile}%"));
    }
    for latency in range.each() {
        line(svg, (LEFT, y(latency)), (WIDTH - RIGHT, y(latency)));
        text(svg, (LEFT - 6.0, y(latency) + 4.0), "end", &micros(latency / 1e3));
    }
    text(svg, (LEFT, TOPS[0] + PANEL + 34.0), "start", "share of deliveries that took at most…");
    for (index, curve) in curves.iter().enumerate() {
        let points: Vec<_> = (0..=200)
            .map(|step| 10_f64.powf(-nines * f64::from(step) / 200.0))
            // Beyond the last delivery there is nothing to tell apart.
            .take_while(|tail| tail * curve.latency.len() as f64 >= 1.0)
            .map(|tail| {
                let latency = curve.latency.value_at_quantile(1.0 - tail) as f64;
                format!("{:.1},{:.1}", x(tail), y(latency))
            })
            .collect();
        polyline(svg, &points, COLOURS[index % COLOURS.len()]);
    }
}

fn distribution(svg: &mut String, curves: &[&Curve], range: &Decades) {
    let bottom = TOPS[1] + PANEL;
    let x = |nanoseconds: f64| LEFT + range.place(nanoseconds) * (WIDTH - LEFT - RIGHT);
    for latency in range.each() {
        line(svg, (x(latency), TOPS[1]), (x(latency), bottom));
        text(svg, (x(latency), bottom + 16.0), "middle", &micros(latency / 1e3));
    }
    line(svg, (LEFT, bottom), (WIDTH - RIGHT, bottom));
    text(svg, (LEFT, bottom + 34.0), "start", "latency, by share of deliveries");
    let shares: Vec<_> = curves.iter().map(|curve| shares(&curve.latency, range)).collect();
    let most = shares.iter().flatten().map(|(_, share)| *share).fold(f64::MIN_POSITIVE, f64::max);
    text(svg, (LEFT - 6.0, TOPS[1] + 4.0), "end", &format!("{:.1}%", most * 100.0));
    for (index, shares) in shares.iter().enumerate() {
        let points: Vec<_> = shares
            .iter()
            .map(|(latency, share)| {
                format!("{:.1},{:.1}", x(*latency), bottom - PANEL * share / most)
            })
            .collect();
        polyline(svg, &points, COLOURS[index % COLOURS.len()]);
    }
}

/// Latencies at equal distances on the axis, each with the share of deliveries around it.
fn shares(latency: &Histogram<u64>, range: &Decades) -> Vec<(f64, f64)> {
    let steps = ((range.last - range.first) * BARS) as i32;
    let edge = |step: i32| 10_f64.powf(range.first + f64::from(step) / BARS);
    let total = latency.len() as f64;
    (0..steps)
        .map(|step| {
            let (from, to) = (edge(step), edge(step + 1));
            let count = latency.count_between(from as u64, (to as u64).saturating_sub(1));
            ((from * to).sqrt(), count as f64 / total)
        })
        .collect()
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, what: &str) {
    let what = what.replace('&', "&amp;").replace('<', "&lt;");
    let _infallible =
        writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{what}</text>");
}

fn line(svg: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    let _infallible = writeln!(
        svg,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#d0d7de\"/>"
    );
}

fn polyline(svg: &mut String, points: &[String], colour: &str) {
    let _infallible = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
        points.join(" ")
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::latencies;

    #[test]
    fn each_curve_has_a_line_in_both_panels() {
        let mut latency = latencies().unwrap();
        for nanoseconds in [50_000, 60_000, 2_000_000] {
            latency.saturating_record(nanoseconds);
        }
        let curves = [("a<b", latency.clone()), ("other", latency)]
            .map(|(name, latency)| Curve { name, latency });
        let svg = draw(&Report::default(), &curves);
        assert_eq!(svg.matches("<polyline").count(), 4);
        assert!(svg.contains("a&lt;b") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn without_latencies_it_says_so() {
        assert!(draw(&Report::default(), &[]).contains("no latency"));
    }
}
