//! `fanfare config`

use std::path::PathBuf;

use super::{Exit, output};
use crate::{
    auth::Verifier,
    config::{Environment, Loaded, Sources},
};

/// Says whether a gateway would start with this file.
pub(super) fn check(file: PathBuf, env: Environment) -> Exit {
    let name = file.display().to_string();
    let loaded = match load(Some(file), env) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    if let Err(error) = Verifier::new(&loaded.config.auth) {
        output::complain(&error.to_string());
        return Exit::Config;
    }
    for warning in loaded.config.warnings() {
        output::complain(&format!("warning: {warning}"));
    }
    output::print(&format!("{name} is good"))
}

/// Prints what is in force.
pub(super) fn show(file: Option<PathBuf>, env: Environment) -> Exit {
    match load(file, env) {
        Ok(loaded) => output::print(loaded.show().trim_end()),
        Err(exit) => exit,
    }
}

/// Loads the configuration, or complains.
pub(super) fn load(file: Option<PathBuf>, env: Environment) -> Result<Loaded, Exit> {
    load_from(&Sources { file, env, ..Sources::default() })
}

/// Loads the configuration with flags of its own, or complains.
pub(super) fn load_from(sources: &Sources) -> Result<Loaded, Exit> {
    sources.load().map_err(|errors| {
        output::complain(&errors.to_string());
        Exit::Config
    })
}
