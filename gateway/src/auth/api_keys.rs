//! API keys: how services say who they are.

use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::config::{ApiKeyEntry, Scope, secret::KeyHash};

/// A service that has presented its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiKey {
    /// Its name in logs.
    pub(crate) id: String,
    /// What it may do.
    pub(crate) scopes: Vec<Scope>,
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
            (entry.hash, ApiKey { id: entry.id.clone(), scopes: entry.scopes.clone() })
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
        };
        let known = ApiKeys::new(&keys.iter().enumerate().map(entry).collect::<Vec<_>>());
        assert!(keys[0].reveal().starts_with("ffk_") && keys[0].reveal().len() == 47);
        assert_eq!(known.find(keys[1].reveal()).unwrap().id, "service-1");
        for wrong in ["", "ffk_", &keys[1].reveal()[..46], Secret::api_key().reveal()] {
            assert_eq!(known.find(wrong), None);
        }
        assert_eq!(ApiKeys::new(&[]).find(keys[0].reveal()), None);
    }

    #[test]
    fn admin_may_do_everything() {
        let key = |scopes: &[Scope]| ApiKey { id: String::new(), scopes: scopes.to_vec() };
        assert!(key(&[Scope::Admin]).may(Scope::Publish));
        assert!(key(&[Scope::Publish]).may(Scope::Publish));
        assert!(!key(&[Scope::Publish]).may(Scope::Admin));
        assert!(!key(&[]).may(Scope::Publish));
    }
}
