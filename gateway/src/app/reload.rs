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
    pub(super) loaded: Loaded,
    pub(super) generation: Arc<Generation>,
    pub(super) running: Running,
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
        let inputs = Arc::clone(&self.inputs);
        let Ok(Reading { seen, outcome }) = task::spawn_blocking(move || inputs.read()).await
        else {
            return self.refuse(&"a part of the gateway broke while it read the files");
        };
        self.seen = seen;
        let (loaded, profiles) = match outcome {
            Ok(read) => read,
            Err(errors) => return self.refuse(&errors),
        };
        let Change { loaded, after_restart } = match self.loaded.change_to(loaded) {
            Ok(change) => change,
            Err(errors) => return self.refuse(&errors),
        };
        let by = Configured { config: Arc::new(loaded.config.clone()), profiles: profiles.into() };
        reload::warn(&loaded, &by.profiles);
        let generation = match self.generation.next(by) {
            Ok(generation) => generation,
            Err(error) => return self.refuse(&error),
        };
        for option in after_restart {
            tracing::warn!("{option} has changed, and takes effect after a restart");
        }
        self.take_over(loaded, generation);
    }

    fn take_over(&mut self, loaded: Loaded, generation: Generation) {
        generation.take_over();
        let Running { sites, inbox, verifier } = &self.running;
        sites.replace(&generation.routes);
        inbox.store(Arc::clone(&generation.api));
        verifier.send_replace(Arc::clone(generation.verifier()));
        self.metrics().reloads.reloaded();
        tracing::info!("the configuration was reloaded");
        (self.loaded, self.generation) = (loaded, Arc::new(generation));
    }

    /// All stays as it was.
    fn refuse(&self, why: &dyn std::fmt::Display) {
        self.metrics().reloads.refused();
        for line in why.to_string().lines() {
            tracing::error!("not reloaded: {line}");
        }
        tracing::error!("the configuration stays as it was");
    }

    fn metrics(&self) -> &Metrics {
        &self.generation.admission.deps.metrics
    }
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
