//! What a profile does, in lines for people.

use std::fmt;

use super::{
    Face, Profile,
    step::{Step, What},
};

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mount in &self.socketio {
            let faces: Vec<String> = mount
                .namespaces
                .iter()
                .map(|(namespace, face)| format!("{namespace} → {}", face.name))
                .collect();
            writeln!(f, "socketio   {}: {}", mount.paths.join(" "), faces.join(", "))?;
        }
        for mount in &self.websocket {
            write!(f, "websocket  {}: ", mount.paths.join(" "))?;
            match &mount.envelope {
                Some(face) => writeln!(f, "envelope → {}", face.name)?,
                None => writeln!(f, "native")?,
            }
        }
        for face in self.faces.values() {
            write!(f, "{face}")?;
        }
        for rest in &self.rest {
            write!(f, "rest       {} {}", rest.method, rest.path)?;
            list(f, &rest.steps)?;
        }
        Ok(())
    }
}

impl fmt::Display for Face {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "face       {}: on connect", self.name)?;
        list(f, &self.on_connect)?;
        let mut verbs: Vec<_> = self.verbs.values().chain(&self.fallback).collect();
        verbs.sort_by_key(|verb| verb.number);
        for verb in verbs {
            write!(f, "  {}", verb.event.as_deref().unwrap_or("any other event"))?;
            list(f, &verb.steps)?;
        }
        for rule in self.outgoing.iter() {
            let event = rule.event.as_ref().map(|event| format!(" {event}")).unwrap_or_default();
            let emit = rule.emit.event.literal().unwrap_or("{{ … }}");
            writeln!(f, "  message of {}{event}: {emit}", rule.channel.interest())?;
        }
        Ok(())
    }
}

fn list(f: &mut fmt::Formatter<'_>, steps: &[Step]) -> fmt::Result {
    let names: Vec<&str> = steps.iter().map(|step| step.what.name()).collect();
    let names = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    writeln!(f, ": {names}")
}

impl What {
    const fn name(&self) -> &'static str {
        match self {
            Self::Emit(_) => "emit",
            Self::Join(_) => "join",
            Self::Leave(_) => "leave",
            Self::Publish(_) => "publish",
            Self::Call(_) => "call",
            Self::Snapshot(_) => "snapshot",
            Self::FlushOffline => "flush_offline",
            Self::Messages(..) => "messages",
            Self::Stats => "stats",
            Self::Queue => "queue",
            Self::Connections(_) => "connections",
            Self::Disconnect(..) => "disconnect",
            Self::Ticket(_) => "ticket",
        }
    }
}
