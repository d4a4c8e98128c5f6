//! API keys: how services say who they are, and clients that are no user's.

use std::sync::Arc;

use broker_core::{ErrorCode, Identity, Role, session::Failure};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::config::{ApiKeyEntry, Scope, secret::KeyHash};

/// A service that has presented its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiKey {
    /// Its name in logs.
    pub(crate) id: Arc<str>,
    /// What it may do.
    pub(crate) scopes: Vec<Scope>,
    /// Which roles clients have that connect with it.
    pub(crate) roles: Vec<Role>,
}

impl ApiKey {
    /// Whether it may do this; `admin` may do everything.
    pub(crate) fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }
}

/// The keys of all services.
#[derive(Debug)]
pub(crate) struct ApiKeys(Vec<(KeyHash, ApiKey)>);

impl ApiKeys {
    /// Those of the configuration.
    pub(crate) fn new(entries: &[ApiKeyEntry]) -> Self {
        let key = |entry: &ApiKeyEntry| {
            let ApiKeyEntry { id, hash, scopes, roles } = entry.clone();
            (hash, ApiKey { id: id.into(), scopes, roles })
        };
        Self(entries.iter().map(key).collect())
    }

    /// Whose key this is. All are compared, each in constant time, so that the time taken tells
    /// nothing.
    pub(crate) fn find(&self, presented: &str) -> Option<&ApiKey> {
        let presented = KeyHash::of(presented);
        let mut found = u32::MAX;
        for (index, (hash, _)) in (0..).zip(&self.0) {
            let equal: Choice = hash.0.ct_eq(&presented.0);
            found.conditional_assign(&index, equal);
        }
        self.0.get(found as usize).map(|(_, key)| key)
    }

    /// Who a client is that connects with this key: no user, but with the key's roles.
    ///
    /// # Errors
    /// The key is not known, or not for clients.
    pub(crate) fn client(&self, presented: &str) -> Result<Identity, Failure> {
        let Some(key) = self.find(presented) else {
            return Err(Failure::new(ErrorCode::Unauthorized, "this API key is not known"));
        };
        if !key.may(Scope::Connect) {
            let text = format!("the API key `{}` lacks the scope `connect`", key.id);
            return Err(Failure::new(ErrorCode::Forbidden, text));
        }
        let (id, roles) = (Arc::clone(&key.id), key.roles.clone());
        Ok(Identity { key: Some(id), roles, ..Identity::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn a_key_is_known_by_its_hash() {
        let keys: Vec<Secret> = (0..3).map(|_| Secret::api_key()).collect();
        let entry = |(index, key): (usize, &Secret)| ApiKeyEntry {
            id: format!("service-{index}"),
            hash: KeyHash::of(key.reveal()),
            scopes: vec![Scope::Publish],
            roles: Vec::new(),
        };
        let known = ApiKeys::new(&keys.iter().enumerate().map(entry).collect::<Vec<_>>());
        assert!(keys[0].reveal().starts_with("ffk_") && keys[0].reveal().len() == 47);
        assert_eq!(&*known.find(keys[1].reveal()).unwrap().id, "service-1");
        for wrong in ["", "ffk_", &keys[1].reveal()[..46], Secret::api_key().reveal()] {
            assert_eq!(known.find(wrong), None);
        }
        assert_eq!(ApiKeys::new(&[]).find(keys[0].reveal()), None);
    }

    #[test]
    fn admin_may_do_everything() {
        let key =
            |scopes: &[Scope]| ApiKey { id: "".into(), scopes: scopes.to_vec(), roles: Vec::new() };
        assert!(key(&[Scope::Admin]).may(Scope::Publish));
        assert!(key(&[Scope::Publish]).may(Scope::Publish));
        assert!(!key(&[Scope::Publish]).may(Scope::Admin));
        assert!(!key(&[]).may(Scope::Publish));
    }

    #[test]
    fn a_client_has_the_roles_of_its_key_and_is_no_user() {
        let entry = |key: &str, scope| ApiKeyEntry {
            id: key.to_owned(),
            hash: KeyHash::of(key),
            scopes: vec![scope],
            roles: vec!["kiosk".parse().unwrap()],
        };
        let keys = ApiKeys::new(&[entry("good", Scope::Connect), entry("other", Scope::Publish)]);
        let identity = keys.client("good").unwrap();
        assert_eq!((&identity.user, identity.key.as_deref()), (&None, Some("good")));
        assert_eq!(identity.roles, ["kiosk".parse().unwrap()]);
        assert_eq!(keys.client("other").unwrap_err().code, ErrorCode::Forbidden);
        assert_eq!(keys.client("unknown").unwrap_err().code, ErrorCode::Unauthorized);
    }
}
