//! `fanfare token`

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use broker_core::{ErrorCode, session::Token};
use serde_json::{Map, Value};

use super::{Exit, args::MintArguments, config_file, configuration, output};
use crate::{
    auth::{Verifier, mint as tokens},
    config::{Algorithm, Auth, Environment, Key, Secret},
};

/// Prints a new token.
pub(super) fn mint(arguments: &MintArguments, env: Environment) -> Exit {
    let loaded = match configuration::load(config_file(arguments.config.clone(), &env), env) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let auth = loaded.config.auth;
    let key = match signing_key(&auth, arguments.secret_file.as_deref()) {
        Ok(key) => key,
        Err(exit) => return exit,
    };
    match tokens::mint(&key, claims(arguments, &auth), arguments.ttl) {
        Ok(token) => output::print(token.reveal()),
        Err(error) => {
            output::complain(&error.to_string());
            Exit::Failure
        }
    }
}

fn signing_key(auth: &Auth, file: Option<&Path>) -> Result<Key, Exit> {
    let Some(file) = file else {
        return auth.keys.iter().find(|key| key.algorithm.is_symmetric()).cloned().ok_or_else(|| {
            output::complain(
                "no secret to sign with: give --config with auth.hmac_secret, --secret-file, or \
                 the environment variable JWT_SECRET",
            );
            Exit::Config
        });
    };
    let text = read(file)?;
    let material = Secret::new(text.trim_end_matches(['\r', '\n']).to_owned());
    Ok(Key { kid: None, algorithm: Algorithm::HS256, material })
}

fn claims(arguments: &MintArguments, auth: &Auth) -> Map<String, Value> {
    let mut claims = identity(auth, &arguments.user, &arguments.role);
    claims.extend(arguments.claim.iter().cloned());
    claims
}

/// The claims that say who somebody is, under the names that the configuration reads them by.
pub(super) fn identity(auth: &Auth, user: &str, roles: &[String]) -> Map<String, Value> {
    let mut claims = Map::new();
    let name = |names: &[String], usual: &str| {
        names.first().map_or_else(|| usual.to_owned(), Clone::clone)
    };
    claims.insert(name(&auth.claims.user, "sub"), user.into());
    if !roles.is_empty() {
        claims.insert(name(&auth.claims.role, "role"), roles.into());
    }
    claims.extend(auth.issuer.iter().map(|issuer| ("iss".to_owned(), issuer.clone().into())));
    claims.extend(auth.audience.first().map(|aud| ("aud".to_owned(), aud.clone().into())));
    claims
}

/// Prints what a token says, and whether it is good where a configuration is given.
pub(super) async fn inspect(
    file: Option<PathBuf>,
    config: Option<PathBuf>,
    env: Environment,
) -> Exit {
    let text = match file {
        Some(file) => read(&file),
        None => read_stdin(),
    };
    let text = match text {
        Ok(text) => text.trim().to_owned(),
        Err(exit) => return exit,
    };
    let Some(seen) = tokens::inspect(&text) else {
        output::complain("this is no JSON Web Token");
        return Exit::Failure;
    };
    let printed = output::print(&format!("{seen:#}"));
    let Some(config) = config else {
        output::complain("not verified: give --config to verify it");
        return printed;
    };
    match configuration::load(Some(config), env) {
        Ok(loaded) => verify(&loaded.config.auth, Token::new(text)).await,
        Err(exit) => exit,
    }
}

async fn verify(auth: &Auth, token: Token) -> Exit {
    let verifier = match Verifier::new(auth) {
        Ok(verifier) => verifier,
        Err(error) => {
            output::complain(&error.to_string());
            return Exit::Config;
        }
    };
    match verifier.verify(&token).await {
        Ok(_) => {
            output::complain("verified: a gateway with this configuration accepts it");
            Exit::Success
        }
        Err(failure) => {
            output::complain(&format!("refused: {}", failure.text));
            let away = failure.code == ErrorCode::Unavailable;
            if away { Exit::Unavailable } else { Exit::Refused }
        }
    }
}

/// Reads a file, or complains.
pub(super) fn read(file: &Path) -> Result<String, Exit> {
    fs::read_to_string(file).map_err(|error| {
        output::complain(&format!("{} cannot be read: {error}", file.display()));
        Exit::Failure
    })
}

/// Reads standard input, or complains.
pub(super) fn read_stdin() -> Result<String, Exit> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(|error| {
        output::complain(&format!("standard input cannot be read: {error}"));
        Exit::Failure
    })?;
    Ok(text)
}
