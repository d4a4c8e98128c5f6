//! Who may see who is in a channel, and in which channels there is something to see.

use super::{Action, Denied, Identity, NamespaceRules, Namespaces};
use crate::name::{Interest, PRESENCE_NAMESPACE};

impl Namespaces {
    /// Whether account is kept of who is in the channels of this namespace.
    #[must_use]
    pub fn has_presence(&self, namespace: &str) -> bool {
        namespace != PRESENCE_NAMESPACE && self.rules(namespace).is_some_and(|it| it.presence)
    }

    /// Whether any namespace has presence.
    #[must_use]
    pub fn any_presence(&self) -> bool {
        self.declared.values().chain(&self.fallback).any(|rules| rules.presence)
    }

    /// The rules for who may see it, where there is something to see.
    pub(super) fn check_presence(&self, watched: &Interest) -> Result<&NamespaceRules, Denied> {
        let namespace = watched.namespace();
        let rules = self.declared_rules(namespace)?;
        if !self.has_presence(namespace) {
            return Err(Denied::NoPresence(namespace.to_owned()));
        }
        Ok(rules)
    }

    /// Who may see the members of all channels of a pattern is one who may subscribe to it, too.
    pub(super) fn authorize_members(
        &self,
        identity: &Identity,
        watched: &Interest,
    ) -> Result<(), Denied> {
        let rules = self.check_presence(watched)?;
        let is_pattern = matches!(watched, Interest::Pattern(_));
        if is_pattern {
            rules.wildcard.check(identity, Action::Wildcard, watched)?;
        }
        match &rules.members {
            Some(members) => members.check(identity, Action::Members, watched),
            None if is_pattern => Ok(()),
            None => rules.subscribe.check(identity, Action::Subscribe, watched),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Rule;

    fn rule(terms: &[&str]) -> Rule {
        Rule(terms.iter().map(|term| term.parse().unwrap()).collect())
    }

    fn interest(text: &str) -> Interest {
        match text.parse() {
            Ok(channel) => Interest::Channel(channel),
            Err(_) => Interest::Pattern(text.parse().unwrap()),
        }
    }

    fn namespaces(declared: &[(&str, NamespaceRules)]) -> Namespaces {
        let declared =
            declared.iter().map(|(name, rules)| (name.parse().unwrap(), rules.clone())).collect();
        Namespaces { declared, ..Namespaces::default() }
    }

    fn alice() -> Identity {
        let grants = vec![(Action::Members, interest("room:7"))];
        Identity { user: Some("alice".parse().unwrap()), grants, ..Identity::default() }
    }

    #[test]
    fn who_may_subscribe_sees_the_members_unless_a_rule_says_otherwise() {
        let open = NamespaceRules {
            subscribe: rule(&["user:alice"]),
            presence: true,
            ..NamespaceRules::default()
        };
        let ruled = NamespaceRules { members: Some(rule(&["granted"])), ..open.clone() };
        let dark = NamespaceRules { presence: false, ..open.clone() };
        let all = namespaces(&[("a", open), ("room", ruled), ("dark", dark)]);
        for (who, name, sees) in [
            (alice(), "a:1", true),
            (Identity::default(), "a:1", false),
            (alice(), "a:*", false),
            (alice(), "room:7", true),
            (alice(), "room:8", false),
            (alice(), "dark:1", false),
            (alice(), "undeclared:1", false),
        ] {
            let asked = all.authorize(&who, Action::Members, &interest(name));
            assert_eq!(asked.is_ok(), sees, "{name}: {asked:?}");
            let watched = interest(&format!("presence:{name}"));
            let action = match watched {
                Interest::Channel(_) => Action::Subscribe,
                Interest::Pattern(_) => Action::Wildcard,
            };
            let watched = all.authorize(&who, action, &watched);
            assert_eq!(watched, asked, "whoever may ask may watch");
        }
    }

    #[test]
    fn a_pattern_needs_both_rules() {
        let rules = |wildcard: &[&str], members| NamespaceRules {
            wildcard: rule(wildcard),
            presence: true,
            members,
            ..NamespaceRules::default()
        };
        let anyone = || Some(rule(&["anyone"]));
        for (rules, sees) in [
            (rules(&["anyone"], None), true),
            (rules(&["anyone"], anyone()), true),
            (rules(&["anyone"], Some(rule(&[]))), false),
            (rules(&[], anyone()), false),
        ] {
            let all = namespaces(&[("user", rules)]);
            let watched = interest("presence:user:*");
            assert_eq!(all.authorize(&alice(), Action::Wildcard, &watched).is_ok(), sees);
        }
    }

    #[test]
    fn nobody_speaks_for_the_server() {
        let anyone = rule(&["anyone"]);
        let rules = NamespaceRules {
            subscribe: anyone.clone(),
            wildcard: anyone.clone(),
            publish: anyone.clone(),
            request: anyone,
            presence: true,
            ..NamespaceRules::default()
        };
        let all = Namespaces { fallback: Some(rules), ..Namespaces::default() };
        let announced = interest("presence:a:1");
        for action in [Action::Publish, Action::Request, Action::Members] {
            let denied = all.authorize(&alice(), action, &announced);
            assert_eq!(denied, Err(Denied::Announcements), "{action:?}");
        }
        for all_of_it in ["presence:**", "presence:*", "presence:*:1"] {
            let denied = all.authorize(&alice(), Action::Wildcard, &interest(all_of_it));
            assert_eq!(denied, Err(Denied::Announcements), "{all_of_it}");
        }
        assert!(!all.knows("presence"), "nor does the API");
        assert!(!all.has_presence("presence"));
        assert!(all.authorize(&alice(), Action::Subscribe, &announced).is_ok());
    }
}
