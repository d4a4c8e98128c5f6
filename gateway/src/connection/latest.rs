//! What connections use is replaced as a whole when the configuration changes.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwapOption;

use super::Deps;

/// What came in the place of some [`Deps`], and is the same for all that followed each other.
#[derive(Clone, Default)]
pub(crate) struct Latest(Arc<ArcSwapOption<Deps>>);

impl Deps {
    /// What holds now.
    pub(crate) fn latest(self: Arc<Self>) -> Arc<Self> {
        self.latest.0.load_full().unwrap_or(self)
    }

    /// From now on this holds. Whoever has earlier ones is to be told.
    pub(crate) fn replace_earlier(self: &Arc<Self>) {
        self.latest.0.store(Some(Arc::clone(self)));
    }
}

/// It holds what has it.
impl fmt::Debug for Latest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latest").finish_non_exhaustive()
    }
}
