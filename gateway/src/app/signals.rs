//! When to go.

use tokio::signal;

/// Waits for SIGTERM or SIGINT.
pub(super) async fn shutdown() {
    tokio::select! {
        () = terminate() => tracing::info!("SIGTERM: draining"),
        () = interrupt() => tracing::info!("SIGINT: draining; once more to exit at once"),
    }
}

async fn terminate() {
    match signal::unix::signal(signal::unix::SignalKind::terminate()) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(error) => {
            tracing::warn!(%error, "SIGTERM cannot be waited for");
            std::future::pending::<()>().await;
        }
    }
}

/// Waits for SIGINT.
pub(super) async fn interrupt() {
    if let Err(error) = signal::ctrl_c().await {
        tracing::warn!(%error, "SIGINT cannot be waited for");
        std::future::pending::<()>().await;
    }
}
