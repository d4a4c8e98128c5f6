//! The result for people.

use super::Report;

/// Lines of a name and a value.
#[derive(Default)]
struct Table(Vec<(&'static str, String)>);

pub(super) fn render(report: &Report) -> String {
    let mut table = Table::default();
    configuration(&mut table, report);
    throughput(&mut table, report);
    latency(&mut table, report);
    connections(&mut table, report);
    disturbances(&mut table, report);
    correctness(&mut table, report);
    table.text()
}

fn configuration(table: &mut Table, it: &Report) {
    let mode = it.mode.map(|mode| format!(", {mode}")).unwrap_or_default();
    table.add("workload", format!("{}{mode}, target {}", it.workload, it.target));
    let shape = format!(
        "{} subscribed to {} channels, {} only publish; {} B each",
        grouped(it.connections as f64),
        grouped(it.channels as f64),
        it.publishers,
        it.payload_bytes
    );
    table.add("connections", shape);
}

fn throughput(table: &mut Table, it: &Report) {
    let it = &it.measured;
    table.maybe("measured", it.seconds, |seconds| {
        let count = |count: Option<u64>| grouped(count.unwrap_or(0) as f64);
        let (messages, deliveries) = (count(it.messages), count(it.deliveries));
        format!("{messages} messages, {deliveries} deliveries in {seconds:.2} s")
    });
    table.maybe("deliveries per second", it.deliveries_per_second, grouped);
    table.maybe("deliveries per CPU-second", it.deliveries_per_cpu_second, grouped);
    table.maybe("server CPU per delivery", it.server_cpu_us_per_delivery, |us| {
        format!("{us:.3} µs")
    });
    table.maybe("client CPU per delivery", it.client_cpu_us_per_delivery, |us| {
        let share = it.client_cpu_share.unwrap_or(0.0) * 100.0;
        format!("{us:.3} µs, {share:.0}% of one core")
    });
}

fn latency(table: &mut Table, it: &Report) {
    let line = |values: [Option<f64>; 4]| {
        let [p50, p99, p999, max] = values.map(|value| value.map(micros).unwrap_or_default());
        format!("p50 {p50}, p99 {p99}, p99.9 {p999}, max {max}")
    };
    let now = &it.measured;
    let values = [now.p50_us, now.p99_us, now.p999_us, now.max_us];
    table.maybe("latency", now.p50_us, |_| line(values));
    let before = [it.baseline_p50_us, it.baseline_p99_us, it.baseline_p999_us, it.baseline_max_us];
    table.maybe("latency, baseline", it.baseline_p50_us, |_| line(before));
    table.maybe("p50 above the baseline", it.p50_above_baseline_us, micros);
}

fn connections(table: &mut Table, it: &Report) {
    let opened = &it.handshakes;
    let line = format!(
        "{} in {:.2} s, p50 {}, p99 {}",
        grouped(opened.handshakes as f64),
        opened.handshake_seconds,
        micros(opened.handshake_p50_us),
        micros(opened.handshake_p99_us)
    );
    table.add("handshakes", line);
    table.maybe("server CPU per handshake", opened.handshake_cpu_ms, |ms| format!("{ms:.4} ms"));
    table.maybe("memory per connection", it.rss_bytes_per_connection, |bytes| {
        format!("{} B", grouped(bytes))
    });
    table.maybe("CPU of an idle connection", it.idle_cpu_us_per_connection_second, |us| {
        format!("{us:.3} µs per second")
    });
}

fn disturbances(table: &mut Table, it: &Report) {
    table.maybe("stalled readers", it.stalled, |stalled| {
        let closed = it.stalled_closed.unwrap_or(0);
        let codes = it.stalled_close_codes.as_deref().unwrap_or_default();
        let first = it
            .stalled_first_closed_seconds
            .map_or_else(String::new, |first| format!(", from {first:.1} s on"));
        format!("{stalled}, of which closed {closed}{first} (code:count {codes})")
    });
    table.maybe("memory growth while stalled", it.stalled_rss_growth_bytes, |bytes| {
        format!("{} B", grouped(bytes as f64))
    });
    table.maybe("came and went", it.joined, |joined| {
        format!("{joined} and {}", it.left.unwrap_or(0))
    });
    table.maybe("recovered", it.recovered, |count| {
        let failed = it.unrecovered.map(|failed| format!(", {failed} not")).unwrap_or_default();
        format!("{count}{failed}")
    });
    table.maybe("disconnected", it.disconnected, |count| {
        let codes = it.close_codes.as_ref().map(|codes| format!(" (code:count {codes})"));
        format!("{count}{}", codes.unwrap_or_default())
    });
    table.maybe("away", it.away_max_seconds, |longest| {
        format!("at most {longest:.2} s, half {:.2} s", it.away_p50_seconds.unwrap_or(longest))
    });
    table.maybe("in any second", it.ends_peak_per_second, |ends| {
        let handshakes = it.handshakes_peak_per_second.unwrap_or(0);
        format!("at most {ends} ends and {handshakes} handshakes")
    });
    table.maybe("attempts in vain", it.failed_attempts, |connects| {
        let publishes = it.publishes_repeated.unwrap_or(0);
        format!("{connects} to connect, {publishes} to publish")
    });
    table.maybe("all back after", it.back_seconds, |all| {
        format!("{all:.2} s, half after {:.2} s", it.back_p50_seconds.unwrap_or(all))
    });
    table.maybe("missed in the outage", it.outage_lost, |lost| grouped(lost as f64));
}

fn correctness(table: &mut Table, it: &Report) {
    let Report { lost, duplicated, reordered, strays, refused, closed, .. } = it;
    let line = format!("{lost} lost, {duplicated} duplicated, {reordered} reordered");
    table.add("deliveries", line);
    if strays + refused + closed > 0 {
        let line = format!("{strays} strays, {refused} refusals, {closed} connections closed");
        table.add("also", line);
    }
    table.add("verdict", if it.passed { "passed" } else { "FAILED" }.to_owned());
}

impl Table {
    fn add(&mut self, name: &'static str, value: String) {
        self.0.push((name, value));
    }

    fn maybe<T>(&mut self, name: &'static str, value: Option<T>, show: impl FnOnce(T) -> String) {
        if let Some(value) = value {
            self.add(name, show(value));
        }
    }

    fn text(&self) -> String {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        self.0.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
    }
}

/// Microseconds in a unit that reads well.
pub(crate) fn micros(us: f64) -> String {
    match us {
        ..1e3 => format!("{us:.0} µs"),
        ..1e6 => format!("{:.2} ms", us / 1e3),
        _ => format!("{:.2} s", us / 1e6),
    }
}

/// A whole number with separators: 1,234,567.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::from(if number <= -0.5 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(0.0), "0");
        assert_eq!(grouped(999.6), "1,000");
        assert_eq!(grouped(1_234_567.0), "1,234,567");
        assert_eq!(grouped(-1_234.0), "-1,234");
        assert_eq!(grouped(-0.2), "0");
        assert_eq!(micros(999.0), "999 µs");
        assert_eq!(micros(1_500.0), "1.50 ms");
        assert_eq!(micros(2_000_000.0), "2.00 s");
    }

    #[test]
    fn what_does_not_apply_is_left_out() {
        let text = render(&Report { lost: 3, ..Report::default() });
        assert!(text.contains("3 lost, 0 duplicated, 0 reordered"), "{text}");
        assert!(!text.contains("stalled") && !text.contains("latency"), "{text}");
    }
}
