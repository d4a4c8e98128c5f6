//! What a gateway is configured by, read at the start and again while it runs.
//!
//! 1. [`Inputs`]: the files, with what the command line and the environment say, which does not
//!    change.
//! 2. [`watch`]: whether the files hold something else by now.
//!
//! What is done with it is a matter of `app`.

mod watch;

use std::{fmt, path::PathBuf};

pub(crate) use watch::Seen;

use crate::{
    config::{Loaded, Sources, problems::ConfigErrors},
    profile::Profile,
    sabotage::Sabotage,
};

/// What a gateway is configured by. It has no `Debug`: the environment holds secrets.
pub(crate) struct Inputs {
    /// Without what profiles bring with them.
    pub(crate) sources: Sources,
    pub(crate) profiles: Vec<PathBuf>,
    pub(crate) sabotage: Option<Sabotage>,
}

/// What was read.
pub(crate) struct Reading {
    /// The files, as they were before.
    pub(crate) seen: Seen,
    pub(crate) outcome: Outcome,
}

type Outcome = Result<(Loaded, Vec<Profile>), ConfigErrors>;

/// What a gateway starts with.
pub(crate) struct Startup {
    pub(crate) inputs: Inputs,
    pub(crate) seen: Seen,
    pub(crate) loaded: Loaded,
    pub(crate) profiles: Vec<Profile>,
}

impl Inputs {
    /// Reads and checks all files. It blocks.
    pub(crate) fn read(&self) -> Reading {
        let known = self.profiles.iter().cloned().chain(self.sources.files()).collect();
        let (seen, outcome) = Seen::steady(known, || self.read_once());
        Reading { seen, outcome }
    }

    /// With the files that were read.
    fn read_once(&self) -> (Vec<PathBuf>, Outcome) {
        let profiles: Vec<Result<Profile, ConfigErrors>> =
            self.profiles.iter().map(|file| Profile::load(file)).collect();
        let brought = profiles.iter().flatten().map(|profile| profile.config().clone()).collect();
        let sources = Sources { profiles: brought, ..self.sources.clone() };
        let files = self.profiles.iter().cloned().chain(sources.files()).collect();
        let profiles = profiles.into_iter().collect::<Result<Vec<_>, _>>();
        let outcome = profiles.and_then(|profiles| {
            let mut loaded = sources.load()?;
            loaded.config.sabotage = self.sabotage;
            Ok((loaded, profiles))
        });
        (files, outcome)
    }

    /// Reads what a gateway starts with.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(crate) fn start(self) -> Result<Startup, ConfigErrors> {
        let Reading { seen, outcome } = self.read();
        let (loaded, profiles) = outcome?;
        Ok(Startup { inputs: self, seen, loaded, profiles })
    }
}

impl Startup {
    /// Logs what is allowed but probably not meant.
    pub(crate) fn warn(&self) {
        warn(&self.loaded, &self.profiles);
    }
}

/// Logs what is allowed but probably not meant.
pub(crate) fn warn(loaded: &Loaded, profiles: &[Profile]) {
    let of_profiles = profiles.iter().flat_map(Profile::warnings);
    for warning in loaded.config.warnings().into_iter().chain(of_profiles) {
        tracing::warn!("{warning}");
    }
}

impl fmt::Debug for Startup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Startup").field("config", &self.loaded.config).finish_non_exhaustive()
    }
}
