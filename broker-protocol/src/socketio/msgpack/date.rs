use bytes::BytesMut;
use std::fmt::Write as _;

const MILLIS_PER_DAY: i64 = 86_400_000;
/// The furthest day from 1970 that JavaScript's dates have.
const MAX_DAYS: i64 = 100_000_000;

/// Appends a JavaScript date, in milliseconds since 1970, as its `JSON.stringify` does.
pub(super) fn put_date(out: &mut BytesMut, millis: i64) {
    if millis.unsigned_abs() > (MAX_DAYS * MILLIS_PER_DAY).unsigned_abs() {
        out.extend_from_slice(b"null");
        return;
    }
    let (year, month, day) = civil(millis.div_euclid(MILLIS_PER_DAY));
    let time = millis.rem_euclid(MILLIS_PER_DAY);
    let (hour, minute) = (time / 3_600_000, time / 60_000 % 60);
    let (second, milli) = (time / 1000 % 60, time % 1000);
    let year = match year {
        0..=9999 => format!("{year:04}"),
        _ => format!("{year:+07}"),
    };
    // Memory does not fail.
    write!(out, "\"{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z\"")
        .unwrap_or_default();
}

/// Year, month and day of a day since 1970, in the Gregorian calendar: years are counted from
/// March, so that the leap day comes last.
const fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_TO_1970: i64 = 719_468;
    const DAYS_PER_ERA: i64 = 146_097;
    let days = days + DAYS_TO_1970;
    let (era, day) = (days.div_euclid(DAYS_PER_ERA), days.rem_euclid(DAYS_PER_ERA));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next_year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Node.js 20 prints for `JSON.stringify(new Date(…))`.
    #[test]
    fn dates_are_those_of_javascript() {
        for (millis, expected) in [
            (0, "\"1970-01-01T00:00:00.000Z\""),
            (-1, "\"1969-12-31T23:59:59.999Z\""),
            (951_782_400_123, "\"2000-02-29T00:00:00.123Z\""),
            (1_709_251_199_999, "\"2024-02-29T23:59:59.999Z\""),
            (-62_167_219_200_000, "\"0000-01-01T00:00:00.000Z\""),
            (-62_167_219_200_001, "\"-000001-12-31T23:59:59.999Z\""),
            (253_402_300_800_000, "\"+010000-01-01T00:00:00.000Z\""),
            (8_640_000_000_000_000, "\"+275760-09-13T00:00:00.000Z\""),
            (-8_640_000_000_000_000, "\"-271821-04-20T00:00:00.000Z\""),
            (8_640_000_000_000_001, "null"),
            (i64::MIN, "null"),
        ] {
            let mut out = BytesMut::new();
            put_date(&mut out, millis);
            assert_eq!(out, expected, "{millis}");
        }
    }
}
