//! From configuration to what each part goes by.

use std::{error::Error, sync::Arc, time::Duration};

use broker_core::{
    NodeId,
    access::SERVER_NAMESPACES,
    name::PRESENCE_NAMESPACE,
    ports::{Bus, Sessions},
    session::{Limits, Rules},
};
use broker_protocol::socketio::Namespace;
use tokio_util::task::TaskTracker;

use super::StartError;
use crate::{
    api,
    auth::Authenticator,
    config::{Config, SocketIo, SpaceName},
    connection::{Admission, Deps, Latest, Mounts, TwoFaces, WireLimits},
    dialect::{Form, Framing},
    directory::LeaseTimes,
    profile::{Profile, SocketIoMount, WebSocketMount},
    services::Services,
    socketio::{Bundle, Echo, ForwardLimits, Forwarder, Mount, Site},
    telemetry::{Metrics, TelemetryOptions, Tracing},
};

/// What a gateway goes by.
pub(super) struct Configured {
    pub(super) config: Arc<Config>,
    pub(super) profiles: Arc<[Profile]>,
}

/// Namespaces that may be the label of a metric.
pub(super) fn known_namespaces(config: &Config) -> impl Iterator<Item = String> {
    let declared = config.namespaces.declared.keys().map(ToString::to_string);
    let served = SERVER_NAMESPACES.iter().chain(&[PRESENCE_NAMESPACE]).map(ToString::to_string);
    declared.chain(served)
}

pub(super) fn metrics(config: &Config) -> Result<Arc<Metrics>, StartError> {
    let metrics = Metrics::new(known_namespaces(config))
        .map_err(|error| StartError::Other(error.to_string()))?;
    Ok(Arc::new(metrics))
}

pub(super) fn authenticator(
    config: &Config,
    store: &Arc<dyn Sessions>,
    metrics: &Arc<Metrics>,
    before: Option<&Authenticator>,
) -> Result<Authenticator, StartError> {
    let (store, metrics) = (Arc::clone(store), Arc::clone(metrics));
    Authenticator::new(&config.auth, store, metrics, before)
        .map_err(|error| StartError::Auth(error.to_string()))
}

pub(super) fn tracing(
    config: &Config,
    node: &NodeId,
    metrics: &Metrics,
) -> Result<Arc<Tracing>, StartError> {
    let failed = |error: &dyn Error| StartError::Other(error.to_string());
    let options = TelemetryOptions {
        otlp_endpoint: config.telemetry.otlp_endpoint.clone(),
        trace_sample: config.telemetry.trace_sample,
        trust_client_trace: config.telemetry.trust_client_trace,
        system: if config.nats.url.is_empty() { "fanfare" } else { "nats" },
        node: node.clone(),
    };
    let tracing = Tracing::start(&options).map_err(|error| failed(&error))?;
    if let Some(spans) = tracing.collector() {
        metrics.register_spans(spans).map_err(|error| failed(&error))?;
    }
    Ok(Arc::new(tracing))
}

pub(super) fn rules(config: &Config) -> Rules {
    Rules {
        namespaces: config.namespaces.clone(),
        limits: Limits {
            subscriptions: config.limits.subscriptions,
            message_bytes: config.limits.message_bytes,
            in_flight: config.limits.in_flight,
            connect_timeout: config.limits.connect_timeout,
            ping_interval: config.heartbeat.interval,
            pong_timeout: config.heartbeat.timeout,
            expiry_warning: config.auth.expiry_warning,
            request_timeout: config.limits.request_timeout,
        },
        anonymous: config.auth.anonymous,
    }
}

/// What clients can ask, on the bus and over HTTP.
pub(super) fn services(
    config: &Config,
    bus: &Arc<dyn Bus>,
    metrics: &Arc<Metrics>,
) -> Result<Arc<Services>, StartError> {
    let services = Services::new(Arc::clone(bus));
    let services = services.with_webhooks(&config.webhooks, config.limits.message_bytes, metrics);
    services.map(Arc::new).map_err(|error| StartError::Other(error.to_string()))
}

/// A frame may carry several commands, and a message over its limit is to be answered, not to end
/// the connection: so frames may be somewhat larger than messages.
pub(super) fn wire_limits(config: &Config) -> WireLimits {
    WireLimits {
        queue_bytes: config.limits.queue_bytes,
        frame_bytes_before_connect: config.limits.unauthenticated_message_bytes,
        frame_bytes: config.limits.message_bytes.saturating_mul(2).saturating_add(4096),
        control_frames_per_second: config.limits.control_frames_per_second,
        compression: config.websocket.compression(),
    }
}

pub(super) fn lease_times(config: &Config) -> LeaseTimes {
    LeaseTimes { ttl: config.presence.lease, renew: config.presence.renew }
}

/// `before`: what let clients in until now, whose connections count.
pub(super) fn admission(config: &Config, deps: Arc<Deps>, before: Option<&Admission>) -> Admission {
    let max_connections = match config.http.max_connections {
        0 => connections_by_open_files(),
        configured => configured,
    };
    Admission {
        deps,
        tasks: before.map_or_else(TaskTracker::new, |before| before.tasks.clone()),
        origins: config.http.allowed_origins.clone(),
        query_token: config.http.query_token,
        max_connections,
        welcome: config.dev.is_some(),
        echo: config.testing.echo,
        closed: before.map_or_else(Arc::default, |before| Arc::clone(&before.closed)),
    }
}

/// What connections of Socket.IO use: its transport sees to silence, the sessions in it do not.
pub(super) fn without_pings(deps: &Deps, latest: Latest) -> Arc<Deps> {
    let limits = Limits { ping_interval: Duration::MAX, ..deps.rules.limits.clone() };
    let rules = Arc::new(Rules { limits, ..(*deps.rules).clone() });
    Arc::new(Deps { rules, latest, ..deps.clone() })
}

/// Where Socket.IO is served.
pub(super) fn socketio(
    by: &Configured,
    admission: &Arc<Admission>,
    deps: &Arc<Deps>,
    node: &NodeId,
) -> Result<Vec<Mount>, StartError> {
    let options = &by.config.socketio;
    let bundle = options.client_bundle.as_deref().map(Bundle::load).transpose();
    let bundle =
        bundle.map_err(|error| StartError::Other(format!("socketio.client_bundle: {error}")))?;
    let bundle = Arc::new(bundle.unwrap_or_default());
    let mount = |site| {
        let (admission, deps) = (Arc::clone(admission), Arc::clone(deps));
        Mount::new(admission, deps, options.clone(), site, node).with_bundle(&bundle)
    };
    Ok(sites(by).into_iter().map(mount).collect())
}

/// Whether there is anywhere that Socket.IO is served.
pub(super) fn serves_socketio(by: &Configured) -> bool {
    !sites(by).is_empty()
}

/// What is spoken over WebSockets at which path. Each has a framing of its own, also where the face
/// is the same: a reload may change one of them.
pub(super) fn mounts(Configured { config, profiles }: &Configured) -> Result<Mounts, TwoFaces> {
    let mut mounts = Mounts::default();
    config.http.paths.iter().for_each(|path| mounts.add_native(path));
    for profile in &**profiles {
        for WebSocketMount { paths, envelope } in &profile.websocket {
            for path in paths {
                let Some(face) = envelope.clone() else {
                    mounts.add_native(path);
                    continue;
                };
                let framing = Framing { form: Form::Envelope, face: face.into(), echo: false };
                mounts.add_envelope(path, framing)?;
            }
        }
    }
    Ok(mounts)
}

/// Where profiles say; without any that does, where the configuration says, with the built-in one.
fn sites(Configured { config, profiles }: &Configured) -> Vec<Site> {
    let site =
        |path: &String, faces: &[_], echo| Site { path: path.clone(), faces: faces.to_vec(), echo };
    let of_profiles: Vec<&SocketIoMount> =
        profiles.iter().flat_map(|profile| &profile.socketio).collect();
    if !of_profiles.is_empty() {
        let sites = of_profiles.into_iter().flat_map(|mount| {
            let faces = mount.namespaces.iter().filter_map(|(namespace, face)| {
                Some((Namespace::new(namespace).ok()?, Arc::clone(face)))
            });
            let faces: Vec<_> = faces.collect();
            mount.paths.iter().map(move |path| site(path, &faces, Echo::Nothing))
        });
        return sites.collect();
    }
    let built_in = Profile::built_in();
    let Some(face) = built_in.faces.values().next() else { return Vec::new() };
    let named = |name: &SpaceName| (name.0.clone(), Arc::clone(face));
    let faces: Vec<_> = config.socketio.namespaces.iter().map(named).collect();
    let echo = if config.testing.echo { Echo::Events } else { Echo::Nothing };
    let mut sites: Vec<Site> =
        config.socketio.paths.iter().map(|path| site(path, &faces, echo)).collect();
    if config.testing.echo {
        sites.push(site(&"/engine.io".to_owned(), &faces, Echo::Messages));
    }
    sites
}

/// The way to Socket.IO sessions at other gateways.
pub(super) fn forwarder(config: &Config, api: &api::Deps, admission: &Admission) -> Arc<Forwarder> {
    let SocketIo { ping_interval, ping_timeout, upgrade_timeout, .. } = &config.socketio;
    // By then, the other gateway has given the client up.
    let silence = 2 * (*ping_interval + *ping_timeout);
    let limits = ForwardLimits {
        at_once: admission.max_connections,
        answer: silence,
        upgrade: *upgrade_timeout,
        silence,
        idle: config.http.header_timeout / 2,
    };
    let metrics = Arc::clone(&admission.deps.metrics);
    Arc::new(Forwarder::new(Arc::clone(&api.presence), Arc::clone(&api.bus), metrics, limits))
}

/// As many connections as there may be open files, less some for everything else.
fn connections_by_open_files() -> usize {
    const RESERVED: u64 = 128;
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap_or_else(|error| {
        tracing::warn!(%error, "the limit of open files is not known; taking 1024");
        1024
    });
    usize::try_from(limit.saturating_sub(RESERVED).max(1)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    const TOGETHER: &str = r#"
[[socketio]]
paths = ["/io", "/staff/io"]
namespaces = { "/" = "app" }
[[websocket]]
paths = ["/ws", "/staff"]
dialect = "envelope"
face = "app"
[faces.app]
"#;

    const APART: &str = r#"
[[socketio]]
paths = ["/io"]
namespaces = { "/" = "app" }
[[socketio]]
paths = ["/staff/io"]
namespaces = { "/" = "staff" }
[[websocket]]
paths = ["/ws"]
dialect = "envelope"
face = "app"
[[websocket]]
paths = ["/staff"]
dialect = "envelope"
face = "staff"
[faces.app]
[faces.staff]
"#;

    fn by(profile: &str) -> Configured {
        let config = Sources::default().load().unwrap().config;
        let profile = Profile::parse(profile, "profile.toml").unwrap();
        Configured { config: Arc::new(config), profiles: [profile].into() }
    }

    #[test]
    fn a_path_that_gets_a_face_of_its_own_takes_its_clients_along() {
        let mut shown = Vec::new();
        let before = mounts(&by(TOGETHER)).unwrap();
        mounts(&by(APART)).unwrap().after(&before, &mut shown);
        for (framing, face) in &shown {
            framing.show(Arc::clone(face));
        }
        let faces = shown.iter().map(|(framing, _)| framing.face().name.clone());
        assert_eq!(faces.collect::<Vec<_>>(), ["staff", "app"]);
    }

    #[test]
    fn each_path_of_socketio_is_served_by_itself() {
        let sites = |profile| {
            let named = |site: Site| (site.path, site.faces[0].1.name.clone());
            sites(&by(profile)).into_iter().map(named).collect::<Vec<_>>()
        };
        let both = |faces: [&str; 2]| {
            [("/io".to_owned(), faces[0].into()), ("/staff/io".to_owned(), faces[1].into())]
        };
        assert_eq!(sites(TOGETHER), both(["app", "app"]));
        assert_eq!(sites(APART), both(["app", "staff"]));
    }
}
