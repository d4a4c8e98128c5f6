//! How the prober's messages are published: as a service's, past the gateways or through one.

use std::time::Duration;

use broker_backends::{ConnectError, NatsOptions, ServiceLink};
use broker_core::ChannelName;
use reqwest::{Client, StatusCode, header::CONTENT_TYPE};
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
            return Self::by_api(api, arguments, env);
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

    fn by_api(api: &str, arguments: &ProbeArguments, env: &Environment) -> Result<Self, Refusal> {
        let key = match &arguments.key_file {
            Some(file) => token::read(file).ok(),
            None => env.get("FANFARE_API_KEY").map(str::to_owned),
        };
        let key = key.map(|key| Secret::new(key.trim().to_owned())).ok_or_else(|| Refusal {
            text: "an API key of scope `publish` is needed: --key-file or FANFARE_API_KEY".into(),
            exit: Exit::Usage,
        })?;
        ensure_tls_provider();
        let client = Client::builder().timeout(DEADLINE);
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
        status if status.is_client_error() => Exit::Failure,
        _ => Exit::Unavailable,
    };
    Some(Refusal { text: format!("the gateway's API refuses: HTTP {status}"), exit })
}

/// Tells the person at the terminal.
pub(super) fn complain(refusal: &Refusal) -> Exit {
    output::complain(&refusal.text);
    refusal.exit
}
