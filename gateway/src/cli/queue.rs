//! `fanfare queue`: what waits for users who are away, by the API.

use std::time::Duration;

use broker_core::UserId;
use reqwest::{Client, Method, StatusCode};

use super::{
    Exit,
    args::{ApiArguments, QueueCommand},
    output, token,
};
use crate::{auth::ensure_tls_provider, config::Environment};

/// How long the gateway may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Asks the API, and prints its answer.
pub(super) async fn run(command: QueueCommand, env: &Environment) -> Exit {
    let (method, path, api) = match command {
        QueueCommand::Stats { api } => (Method::GET, "queue".to_owned(), api),
        QueueCommand::Peek { user, limit, api } => {
            (Method::GET, format!("users/{}/queue?limit={limit}", segment(&user)), api)
        }
        QueueCommand::Purge { user, api } => {
            (Method::DELETE, format!("users/{}/queue", segment(&user)), api)
        }
    };
    match ask(method, &path, &api, env).await {
        Ok(answer) => output::print(&answer),
        Err((text, exit)) => {
            output::complain(&text);
            exit
        }
    }
}

async fn ask(
    method: Method,
    path: &str,
    api: &ApiArguments,
    env: &Environment,
) -> Result<String, (String, Exit)> {
    let key = match &api.key_file {
        Some(file) => token::read(file).map_err(|exit| ("the key cannot be read".into(), exit))?,
        None => env.get("FANFARE_API_KEY").map(str::to_owned).ok_or_else(|| {
            let text = "an API key of scope `admin` is needed: --key-file or FANFARE_API_KEY";
            (text.to_owned(), Exit::Usage)
        })?,
    };
    let unreachable = |error: reqwest::Error| {
        (format!("the gateway's API is not in reach: {error}"), Exit::Unavailable)
    };
    let url = format!("{}/v1/{path}", api.api.trim_end_matches('/'));
    ensure_tls_provider();
    let client = Client::builder().timeout(DEADLINE).build().map_err(unreachable)?;
    let request = client.request(method, url).bearer_auth(key.trim());
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let body = response.text().await.map_err(unreachable)?;
    if status.is_success() {
        return Ok(body);
    }
    let exit = match status {
        StatusCode::SERVICE_UNAVAILABLE => Exit::Unavailable,
        _ => Exit::Failure,
    };
    Err((body, exit))
}

/// The user as one segment of a path.
fn segment(user: &UserId) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    user.as_str()
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
