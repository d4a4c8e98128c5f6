//! How often something may be done.

use std::{str::FromStr, time::Duration};

/// So many times in such a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// How many times; at least one. As many may come at once.
    pub(crate) count: u32,
    /// In which time.
    pub(crate) per: Duration,
}

/// The text is no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write a number with `/s`, `/m` or `/h`, such as \"10/s\"")]
pub(crate) struct NoRate;

impl FromStr for Rate {
    type Err = NoRate;

    fn from_str(text: &str) -> Result<Self, NoRate> {
        let (count, per) = text.split_once('/').ok_or(NoRate)?;
        let count = count.parse().ok().filter(|count| *count > 0).ok_or(NoRate)?;
        let seconds = match per {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(NoRate),
        };
        Ok(Self { count, per: Duration::from_secs(seconds) })
    }
}
