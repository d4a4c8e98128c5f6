//! How the prober's messages are published: as a service's, past the gateways or through one.

use std::time::Duration;

use broker_backends::{ConnectError, NatsOptions, ServiceLink};
use broker_core::ChannelName;
use reqwest::{Client, StatusCode, header::CONTENT_TYPE, redirect};
use serde::Serialize;

use super::Body;
use crate::{
    auth::ensure_tls_provider,
    backends,
    cli::{Exit, args::ProbeArguments, output, token},
    config::{Environment, Nats, Secret},
};

/// How long the API may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// The service.
#[derive(Debug)]
pub(super) enum Publisher {
    /// On the bus.
    Bus(ServiceLink),
    /// By the API of a gateway.
    Api { client: Client, url: String, key: Secret },
}

/// Why a message was not accepted, or nothing can be published at all.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) text: String,
    /// How the process ends where nothing else was accepted either.
    pub(super) exit: Exit,
}

impl Publisher {
    /// Makes ready to publish. A bus that is away is waited for where the prober runs for ever.
    pub(super) async fn open(
        arguments: &ProbeArguments,
        nats: &Nats,
        env: &Environment,
        run: u32,
    ) -> Result<Self, Refusal> {
        if let Some(api) = &arguments.api {
            return Self::by_api(api, api_key(arguments, env)?);
        }
        if nats.url.is_empty() {
            let text = "say how to publish: --nats (or `nats.url` in the configuration), or --api";
            return Err(Refusal { text: text.to_owned(), exit: Exit::Usage });
        }
        let name = format!("fanfare-probe-{run:08x}");
        let node = name.parse().expect("letters, digits and dashes");
        let options = NatsOptions { name, wait: !arguments.once, ..backends::nats(nats, node, 1) };
        ServiceLink::connect(&options).await.map(Self::Bus).map_err(|error| {
            let is_option = matches!(error, ConnectError::Option { .. });
            let exit = if is_option { Exit::Config } else { Exit::Unavailable };
            Refusal { text: error.to_string(), exit }
        })
    }

    fn by_api(api: &str, key: Secret) -> Result<Self, Refusal> {
        ensure_tls_provider();
        // Who is elsewhere gets neither the key nor the message.
        let client = Client::builder().timeout(DEADLINE).redirect(redirect::Policy::none());
        // A container may have no certificates, and then there would be no client at all.
        let client = if api.starts_with("https:") { client } else { client.tls_certs_only([]) };
        let client = client.build().map_err(|error| Refusal {
            text: format!("there is no HTTP client: {error}"),
            exit: Exit::Failure,
        })?;
        let url = format!("{}/v1/publish", api.trim_end_matches('/'));
        Ok(Self::Api { client, url, key })
    }

    /// Publishes a message. `stored` is for channels with history: then it is not accepted before
    /// it is stored.
    pub(super) async fn publish(
        &self,
        channel: &ChannelName,
        body: Body,
        stored: bool,
    ) -> Result<(), Refusal> {
        match self {
            Self::Bus(link) => link
                .publish(channel, json(&body).into(), stored)
                .await
                .map_err(|error| Refusal { text: error.to_string(), exit: Exit::Unavailable }),
            Self::Api { client, url, key } => {
                let request = Request { channel: channel.as_str(), data: body };
                let request = client
                    .post(url)
                    .bearer_auth(key.reveal())
                    .header(CONTENT_TYPE, "application/json")
                    .body(json(&request));
                let response = request.send().await.map_err(|error| Refusal {
                    text: format!("the gateway's API is not in reach: {}", error.without_url()),
                    exit: Exit::Unavailable,
                })?;
                refusal(response.status()).map_or(Ok(()), Err)
            }
        }
    }

    pub(super) async fn close(self) {
        if let Self::Bus(link) = self {
            link.close().await;
        }
    }
}

/// How long it may take until it is known whether a message was accepted, and what says so.
pub(super) fn deadline(arguments: &ProbeArguments, nats: &Nats) -> (Duration, &'static str) {
    match arguments.api {
        Some(_) => (DEADLINE, "the deadline of --api"),
        None => (nats.deadline, "nats.deadline"),
    }
}

fn api_key(arguments: &ProbeArguments, env: &Environment) -> Result<Secret, Refusal> {
    let key = match &arguments.key_file {
        Some(file) => token::read(file).ok(),
        None => env.get("FANFARE_API_KEY").map(str::to_owned),
    };
    key.map(|key| Secret::new(key.trim().to_owned())).ok_or_else(|| Refusal {
        text: "an API key of scope `publish` is needed: --key-file or FANFARE_API_KEY".into(),
        exit: Exit::Usage,
    })
}

/// The body of `POST /v1/publish`.
#[derive(Debug, Serialize)]
struct Request<'a> {
    channel: &'a str,
    data: Body,
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts and numbers can be written as JSON")
}

fn refusal(status: StatusCode) -> Option<Refusal> {
    let exit = match status {
        status if status.is_success() => return None,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Refused,
        status if status.is_client_error() || status.is_redirection() => Exit::Failure,
        _ => Exit::Unavailable,
    };
    Some(Refusal { text: format!("the gateway's API refuses: HTTP {status}"), exit })
}

/// Tells the person at the terminal.
pub(super) fn complain(refusal: &Refusal) -> Exit {
    output::complain(&refusal.text);
    refusal.exit
}

#[cfg(test)]
mod tests {
    use axum::{Router, response::Redirect, routing::any};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn who_sends_elsewhere_has_refused() {
        let elsewhere = any(|| async { Redirect::temporary("/accepted") });
        let router = Router::new().route("/v1/publish", elsewhere);
        let router = router.route("/accepted", any(|| async { "{}" }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(axum::serve(listener, router).into_future());
        let publisher = Publisher::by_api(&api, Secret::new("key".to_owned())).unwrap();
        let body = Body { run: 0, number: 0 };
        let channel = "probe:check".parse().unwrap();
        let refusal = publisher.publish(&channel, body, false).await.unwrap_err();
        assert_eq!((refusal.text.contains("307"), refusal.exit), (true, Exit::Failure));
        server.abort();
    }
}
