//! Takes over what has changed in the files, on SIGHUP or by itself.

use std::{future, sync::Arc};

use arc_swap::ArcSwap;
use tokio::{sync::watch, task};

use super::{
    generation::Generation,
    servers::Sites,
    settings::Configured,
    signals::{Hangup, wait},
};
use crate::{
    api,
    auth::Verifier,
    config::{Change, Loaded},
    profile::Profile,
    reload::{self, Inputs, Reading, Seen},
    telemetry::Metrics,
};

/// What is replaced where something runs on.
pub(super) struct Running {
    pub(super) sites: Sites,
    pub(super) inbox: Arc<ArcSwap<api::Deps>>,
    pub(super) verifier: watch::Sender<Arc<Verifier>>,
}

/// Takes over changes.
pub(super) struct Reloader {
    pub(super) inputs: Arc<Inputs>,
    pub(super) seen: Seen,
    pub(super) loaded: Arc<Loaded>,
    pub(super) generation: Arc<Generation>,
    pub(super) running: Running,
}

/// What is to be taken over.
struct Next {
    loaded: Loaded,
    after_restart: Vec<String>,
    generation: Generation,
}

impl Reloader {
    /// Runs until dropped.
    pub(super) async fn run(mut self, mut hangup: Hangup) {
        let every = self.loaded.config.reload.watch;
        loop {
            let changed = async {
                match every.is_zero() {
                    true => future::pending().await,
                    false => self.seen.changed(every).await,
                }
            };
            tokio::select! {
                () = wait(&mut hangup) => tracing::info!("SIGHUP: reading the configuration"),
                () = changed => tracing::info!("files have changed: reading the configuration"),
            }
            self.reload().await;
        }
    }

    async fn reload(&mut self) {
        match self.prepare().await {
            Ok(next) => self.take_over(next),
            Err(why) => self.refuse(&why),
        }
    }

    /// Reads and builds all that there is to it, while nothing goes by it yet.
    async fn prepare(&mut self) -> Result<Next, String> {
        // Also where reading breaks, the same files are not to be read over and over.
        self.seen = self.seen.again().await;
        let inputs = Arc::clone(&self.inputs);
        let Reading { seen, outcome } = apart(move || Ok(inputs.read())).await?;
        self.seen = seen;
        let (before, generation) = (Arc::clone(&self.loaded), Arc::clone(&self.generation));
        apart(move || {
            let (loaded, profiles) = outcome.map_err(|errors| errors.to_string())?;
            Next::after((&before, &generation), loaded, profiles)
        })
        .await
    }

    fn take_over(&mut self, Next { loaded, after_restart, generation }: Next) {
        for option in after_restart {
            tracing::warn!("{option} has changed, and takes effect after a restart");
        }
        generation.take_over();
        let Running { sites, inbox, verifier } = &self.running;
        sites.replace(&generation.routes);
        inbox.store(Arc::clone(&generation.api));
        verifier.send_replace(Arc::clone(generation.verifier()));
        self.metrics().reloads.reloaded();
        tracing::info!("the configuration was reloaded");
        (self.loaded, self.generation) = (Arc::new(loaded), Arc::new(generation));
    }

    /// All stays as it was.
    fn refuse(&self, why: &str) {
        self.metrics().reloads.refused();
        for line in why.lines() {
            tracing::error!("not reloaded: {line}");
        }
        tracing::error!("the configuration stays as it was");
    }

    fn metrics(&self) -> &Metrics {
        &self.generation.admission.deps.metrics
    }
}

impl Next {
    fn after(
        (before, generation): (&Loaded, &Generation),
        loaded: Loaded,
        profiles: Vec<Profile>,
    ) -> Result<Self, String> {
        let change = before.change_to(loaded).map_err(|errors| errors.to_string())?;
        let Change { loaded, after_restart } = change;
        let by = Configured { config: Arc::new(loaded.config.clone()), profiles: profiles.into() };
        reload::warn(&loaded, &by.profiles);
        let generation = generation.next(by).map_err(|error| error.to_string())?;
        Ok(Self { loaded, after_restart, generation })
    }
}

/// Does what blocks, and what a configuration that nobody thought of may break, where neither harms.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let broken = "a part of the gateway broke on the configuration: please report it";
    task::spawn_blocking(work).await.unwrap_or_else(|_| Err(broken.to_owned()))
}

/// Keeps the keys fresh that tokens are verified with, whichever those are. Runs until dropped.
pub(super) async fn keep_keys_fresh(mut latest: watch::Receiver<Arc<Verifier>>) {
    loop {
        let verifier = Arc::clone(&latest.borrow_and_update());
        tokio::select! {
            () = verifier.keep_fresh() => {}
            changed = latest.changed() => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_breaks_is_an_error_and_ends_nothing_else() {
        let broken: Result<(), String> = apart(|| panic!("as a router does")).await;
        assert!(broken.unwrap_err().contains("broke"));
        assert_eq!(apart(|| Ok(1)).await, Ok(1));
    }
}
