//! What was typed, checked and ready to use.

use std::{fs, net::ToSocketAddrs as _, path::Path};

use url::Url;

use crate::{
    cli::Common,
    clock,
    engine::{Endpoint, Until},
    failure::Failure,
    report::Output,
    stamp,
    target::{Channel, Fanfare, Target, Template},
    token::Tokens,
};

/// Where templates are, from the top of the tree.
const TARGETS: &str = "loadtest/targets";

/// Longer messages are no use to anybody.
const MAX_PAYLOAD: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) endpoints: Vec<Endpoint>,
    /// Of `endpoints`, how many are for subscribers: the first ones.
    pub(crate) shared: usize,
    /// Of `endpoints`, the one to publish at.
    pub(crate) publish_endpoint: usize,
    pub(crate) tokens: Tokens,
    pub(crate) until: Until,
    /// In nanoseconds, as are the other spans.
    pub(crate) warmup: u64,
    pub(crate) timeout: u64,
    pub(crate) patience: u64,
    pub(crate) output: Output,
    pub(crate) common: Common,
}

impl Settings {
    /// Also gives the target, prepared for these channels.
    pub(crate) fn new(common: Common, channels: &[Channel]) -> Result<(Self, Target), Failure> {
        check(&common)?;
        let target = target(&common.target, channels)?;
        let mut urls = common.urls.clone();
        if urls.is_empty() {
            let url = target.default_url().map(|url| with_port(url, common.port));
            urls.push(url.ok_or_else(|| Failure::Usage("--url is missing".to_owned()))?);
        }
        let shared = urls.len();
        let publish_endpoint = common.publish_url.as_ref().map_or(0, |url| {
            urls.iter().position(|it| it == url).unwrap_or_else(|| {
                urls.push(url.clone());
                shared
            })
        });
        let settings = Self {
            endpoints: urls.iter().map(|url| endpoint(url)).collect::<Result<_, _>>()?,
            shared,
            publish_endpoint,
            tokens: tokens(&common)?,
            until: common.messages.map_or_else(
                || Until::Elapsed(clock::nanoseconds(common.duration)),
                Until::Messages,
            ),
            warmup: clock::nanoseconds(common.warmup),
            timeout: clock::nanoseconds(common.timeout),
            patience: clock::nanoseconds(common.patience),
            output: Output {
                json: common.json.clone(),
                plot: common.plot.clone(),
                allow_loss: common.allow_loss,
            },
            common,
        };
        Ok((settings, target))
    }
}

fn check(common: &Common) -> Result<(), Failure> {
    let wrong = |what: &str| Err(Failure::Usage(what.to_owned()));
    if !(stamp::LENGTH..=MAX_PAYLOAD).contains(&common.payload) {
        let range = format!("--payload is from {} to {MAX_PAYLOAD} bytes", stamp::LENGTH);
        return wrong(&range);
    }
    if common.connections == 0 || common.ramp == 0 {
        return wrong("--connections and --ramp are at least 1");
    }
    let spans = [common.duration, common.warmup, common.timeout, common.patience];
    if spans.iter().any(|span| !(0.0..=86_400.0).contains(span)) {
        return wrong("times are from 0 to 86400 seconds");
    }
    Ok(())
}

fn target(name: &str, channels: &[Channel]) -> Result<Target, Failure> {
    match name {
        "fanfare" => Ok(Target::Fanfare(Fanfare::new(channels)?)),
        "fanfare-socketio" => Ok(Target::SocketIo),
        "floor" => Ok(Target::Floor),
        _ => {
            let is_path = name.contains('/') || Path::new(name).extension().is_some();
            let path = if is_path { name.to_owned() } else { format!("{TARGETS}/{name}.toml") };
            let template = Template::parse(&read(Path::new(&path))?)
                .map_err(|error| Failure::Usage(format!("{path}: {error}")))?;
            Ok(Target::Template(Box::new(template)))
        }
    }
}

fn tokens(common: &Common) -> Result<Tokens, Failure> {
    match (&common.token_file, &common.token_secret_file) {
        (Some(file), _) => Ok(Tokens::Shared(read(file)?.trim().to_owned())),
        (None, Some(file)) => Tokens::signed(read(file)?.trim_end_matches(['\r', '\n']).as_bytes()),
        (None, None) => Ok(Tokens::None),
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(Failure::io(format!("{} cannot be read", path.display())))
}

fn with_port(url: &str, port: Option<u16>) -> String {
    port.map_or_else(|| url.to_owned(), |port| url.replace("{port}", &port.to_string()))
}

fn endpoint(text: &str) -> Result<Endpoint, Failure> {
    let wrong = |why: &str| Failure::Usage(format!("{text}: {why}"));
    let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
    if url.scheme() != "ws" {
        return Err(wrong("only ws:// is measured"));
    }
    let host = url.host_str().ok_or_else(|| wrong("no host"))?;
    let port = url.port_or_known_default().unwrap_or(80);
    let mut addresses = (host.trim_matches(['[', ']']), port)
        .to_socket_addrs()
        .map_err(Failure::io(format!("{host} cannot be resolved")))?;
    let address = addresses.next().ok_or_else(|| wrong("the host has no address"))?;
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = format!("{}{query}", url.path());
    Ok(Endpoint { address, host: format!("{host}:{port}"), path, target: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let it = endpoint("ws://127.0.0.1:81/ws?a=b").unwrap();
        assert_eq!(it.address, "127.0.0.1:81".parse().unwrap());
        assert_eq!((&it.host[..], &it.path[..]), ("127.0.0.1:81", "/ws?a=b"));
        assert_eq!(endpoint("ws://[::1]/").unwrap().address, "[::1]:80".parse().unwrap());
        for wrong in ["wss://localhost", "127.0.0.1:80", "ws://", ""] {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
    }
}
