//! Who somebody is: tokens of clients and API keys of services.
//!
//! 1. [`verifier`]: a token becomes an [`Identity`](broker_core::Identity), or a failure.
//! 2. [`keys`]: the keys that tokens may be signed with; [`jwks`]: those that are fetched.
//! 3. [`claims`]: what a verified token says.
//! 4. [`api_keys`]: keys of services.
//! 5. [`tickets`]: what a service gives a user to connect with, once.
//! 6. [`authenticator`]: whichever of these a client shows becomes an identity.
//! 7. [`mint`]: tokens for development.
//!
//! `jsonwebtoken` is imported nowhere else.

pub(crate) mod api_keys;
mod authenticator;
pub(crate) mod claims;
mod jwks;
mod keys;
pub(crate) mod mint;
pub(crate) mod tickets;
pub(crate) mod verifier;

pub(crate) use api_keys::ApiKeys;
pub(crate) use authenticator::Authenticator;
pub(crate) use tickets::Tickets;
pub(crate) use verifier::Verifier;

/// Makes `ring` the cryptography of TLS in this process, unless it has one.
pub(crate) fn ensure_tls_provider() {
    // An error means that another thread was first, which is as good.
    drop(tokio_rustls::rustls::crypto::ring::default_provider().install_default());
}

#[cfg(test)]
mod tests;
