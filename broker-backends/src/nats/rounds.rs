//! One question for all who ask the same: whoever asks while it is under way shares the next one,
//! so that an answer is never older than its question.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use broker_core::ports::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::link::Link;

/// Questions under way, by what they are about.
#[derive(Debug)]
pub(super) struct Rounds<K, T> {
    /// Who waits for the next round; no entry: none is under way.
    waiting: Mutex<HashMap<K, Vec<oneshot::Sender<T>>>>,
}

impl<K, T> Default for Rounds<K, T> {
    fn default() -> Self {
        Self { waiting: Mutex::default() }
    }
}

impl<K, T> Rounds<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + 'static,
{
    /// Asks, now or after the question that is under way; without an answer, the link was closed.
    pub(super) fn ask(
        self: &Arc<Self>,
        link: &Link,
        key: &K,
        question: impl Fn() -> BoxFuture<'static, T> + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (sender, answer) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        if let Some(next) = waiting.get_mut(key) {
            next.push(sender);
            return answer;
        }
        waiting.insert(key.clone(), vec![sender]);
        link.spawn(Arc::clone(self).run(key.clone(), question));
        answer
    }

    async fn run(self: Arc<Self>, key: K, question: impl Fn() -> BoxFuture<'static, T>) {
        while let Some(askers) = self.next(&key) {
            let answer = question().await;
            for asker in askers {
                // Whoever asked may be gone.
                drop(asker.send(answer.clone()));
            }
        }
    }

    fn next(&self, key: &K) -> Option<Vec<oneshot::Sender<T>>> {
        let mut waiting = self.waiting.lock();
        let askers = waiting.get_mut(key).map(std::mem::take).filter(|askers| !askers.is_empty());
        if askers.is_none() {
            waiting.remove(key);
        }
        askers
    }
}
