use prometheus::IntCounterVec;

use super::Make;

/// What becomes of tickets; the values of a label.
const OUTCOMES: [&str; 5] = ["issued", "not_issued", "used", "refused", "unavailable"];

/// Tickets with which users connect once.
#[derive(Debug)]
pub(crate) struct TicketMetrics(IntCounterVec);

impl TicketMetrics {
    pub(super) fn new(make: &Make) -> prometheus::Result<Self> {
        let tickets = make.counters(
            "tickets_total",
            "Tickets: issued, not_issued (the store was away or full), used, refused (used before, expired, or not known), unavailable (the store was away when a client came with one).",
            &["outcome"],
        )?;
        for outcome in OUTCOMES {
            tickets.with_label_values(&[outcome]);
        }
        Ok(Self(tickets))
    }

    /// `outcome`: one of those above.
    pub(crate) fn count(&self, outcome: &str) {
        self.0.with_label_values(&[outcome]).inc();
    }
}
