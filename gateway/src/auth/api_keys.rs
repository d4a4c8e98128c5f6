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
    /// By which a client that came with it is known later: its name, and the beginning of its hash,
    /// so that another key of that name is not taken for it.
    mark: Arc<str>,
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
            let mark = mark(&id, &hash).into();
            (hash, ApiKey { id: id.into(), mark, scopes, roles })
        };
        Self(entries.iter().map(key).collect())
    }

    /// Whether a client that came with a key may stay: the very key that it has shown is still
    /// good for the same. Who came with none may.
    pub(crate) fn still_know(&self, client: &Identity) -> bool {
        client.key.as_ref().is_none_or(|mark| self.shown_by(client, mark).is_some())
    }

    /// A client that was let in before, perhaps by another gateway, comes back without its key.
    ///
    /// # Errors
    /// The key is not known any more, or not good for the same.
    pub(crate) fn let_back(&self, client: Identity) -> Result<Identity, Failure> {
        let Some(mark) = &client.key else { return Ok(client) };
        match self.shown_by(&client, mark) {
            Some(key) => Ok(Identity { key: Some(Arc::clone(&key.mark)), ..client }),
            None => {
                let text = "the session's API key is not good any more: connect anew";
                Err(Failure::new(ErrorCode::SessionLost, text))
            }
        }
    }

    /// The key with this mark, if it would let the client in as it is.
    fn shown_by(&self, client: &Identity, mark: &Arc<str>) -> Option<&ApiKey> {
        let mut keys = self.0.iter().map(|(_, key)| key);
        keys.find(|key| key.mark == *mark && key.may(Scope::Connect) && key.roles == client.roles)
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
        let (mark, roles) = (Arc::clone(&key.mark), key.roles.clone());
        Ok(Identity { key: Some(mark), roles, ..Identity::default() })
    }
}

fn mark(id: &str, hash: &KeyHash) -> String {
    let mut first = [0; 8];
    first.copy_from_slice(&hash.0[..8]);
    format!("{id}:{:016x}", u64::from_be_bytes(first))
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
    fn who_came_with_a_key_may_stay_as_long_as_it_is_the_same() {
        let entry = |id: &str, key: &str| ApiKeyEntry {
            id: id.to_owned(),
            hash: KeyHash::of(key),
            scopes: vec![Scope::Connect],
            roles: Vec::new(),
        };
        let before = ApiKeys::new(&[entry("a", "1"), entry("b", "2"), entry("c", "3")]);
        let clients = ["1", "2", "3"].map(|key| before.client(key).unwrap());
        let mut more = entry("a", "1");
        more.scopes.push(Scope::Publish);
        let changed = ApiKeys::new(&[more, entry("b", "another")]);
        let stays = clients.each_ref().map(|client| changed.still_know(client));
        assert_eq!(stays, [true, false, false]);
        let back = clients.map(|client| changed.let_back(client).map_err(|failure| failure.code));
        let lost = Err(ErrorCode::SessionLost);
        assert_eq!(back, [before.client("1").map_err(|failure| failure.code), lost.clone(), lost]);
        assert!(changed.still_know(&Identity::default()));
        assert_eq!(changed.let_back(Identity::default()), Ok(Identity::default()));
    }

    #[test]
    fn a_key_that_is_good_for_something_else_is_another() {
        let entry = |scope, role: &str| ApiKeyEntry {
            id: "a".to_owned(),
            hash: KeyHash::of("1"),
            scopes: vec![scope],
            roles: vec![role.parse().unwrap()],
        };
        let client = ApiKeys::new(&[entry(Scope::Connect, "kiosk")]).client("1").unwrap();
        for (scope, role, stays) in [
            (Scope::Connect, "kiosk", true),
            (Scope::Connect, "wall", false),
            (Scope::Publish, "kiosk", false),
        ] {
            let changed = ApiKeys::new(&[entry(scope, role)]);
            assert_eq!(changed.still_know(&client), stays, "{scope:?} {role}");
            assert_eq!(changed.let_back(client.clone()).is_ok(), stays, "{scope:?} {role}");
        }
    }

    #[test]
    fn admin_may_do_everything() {
        let key = |scopes: &[Scope]| ApiKey {
            id: "".into(),
            mark: "".into(),
            scopes: scopes.to_vec(),
            roles: Vec::new(),
        };
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
        assert_eq!(
            (&identity.user, identity.key.as_deref()),
            (&None, Some(&*mark("good", &KeyHash::of("good"))))
        );
        assert_eq!(identity.roles, ["kiosk".parse().unwrap()]);
        assert_eq!(keys.client("other").unwrap_err().code, ErrorCode::Forbidden);
        assert_eq!(keys.client("unknown").unwrap_err().code, ErrorCode::Unauthorized);
    }
}
