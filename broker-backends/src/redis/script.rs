//! Scripts: what has to happen at once. All may be repeated, so that a lost answer does no harm.

use std::sync::OnceLock;

use broker_core::ports::StoreError;
use fred::{
    clients::{Client, WithOptions},
    error::Error,
    interfaces::LuaInterface,
    types::{FromValue, Value},
};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::store::Store;

/// One script; the server knows it by its digest, once it was sent in full.
#[derive(Debug)]
pub(super) struct Script {
    text: &'static str,
    digest: OnceLock<String>,
}

pub(super) static KEEP: Script = Script::new(include_str!("lua/keep.lua"));
pub(super) static PASS: Script = Script::new(include_str!("lua/pass.lua"));

/// The file's script, behind what all scripts of the queue share.
macro_rules! of_queue {
    ($file:literal) => {
        Script::new(concat!(include_str!("lua/record.lua"), include_str!($file)))
    };
}

pub(super) static ENQUEUE: Script = of_queue!("lua/enqueue.lua");
pub(super) static ACKNOWLEDGE: Script = of_queue!("lua/acknowledge.lua");
pub(super) static SWEEP: Script = of_queue!("lua/sweep.lua");
pub(super) static BACKLOG: Script = of_queue!("lua/backlog.lua");
pub(super) static PENDING: Script = of_queue!("lua/pending.lua");
pub(super) static FED: Script = of_queue!("lua/fed.lua");
pub(super) static PURGE: Script = of_queue!("lua/purge.lua");

impl Script {
    pub(super) const fn new(text: &'static str) -> Self {
        Self { text, digest: OnceLock::new() }
    }

    pub(super) async fn run<T: FromValue>(
        &self,
        client: &WithOptions<Client>,
        keys: Vec<String>,
        arguments: Vec<Value>,
    ) -> Result<T, Error> {
        let answer = client.evalsha(self.digest(), keys.clone(), arguments.clone()).await;
        match answer {
            Err(error) if error.details().starts_with("NOSCRIPT") => {
                client.eval(self.text, keys, arguments).await
            }
            answer => answer,
        }
    }

    /// Runs it, within the deadline. All keys are to be of one hash slot.
    pub(super) async fn call(
        &self,
        store: &Store,
        keys: Vec<String>,
        arguments: Vec<Value>,
    ) -> Result<Vec<String>, StoreError> {
        store.step(self.run(store.client()?, keys, arguments)).await
    }

    fn digest(&self) -> &str {
        self.digest.get_or_init(|| {
            let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, self.text.as_bytes());
            digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
        })
    }
}
