//! `fanfare profile`

use std::path::{Path, PathBuf};

use super::{Exit, output};
use crate::{
    config::{Sources, problems::ConfigErrors},
    profile::Profile,
};

/// Says all that is wrong with each file, or what it does.
pub(super) fn check(files: &[PathBuf]) -> Exit {
    let mut exit = Exit::Success;
    for file in files {
        let told = match read(file) {
            Ok(profile) => {
                for warning in profile.warnings() {
                    output::complain(&format!("warning: {warning}"));
                }
                output::print(&format!("{} is good\n{profile}", file.display()))
            }
            Err(errors) => {
                output::complain(&errors.to_string());
                Exit::Config
            }
        };
        if told != Exit::Success {
            exit = told;
        }
    }
    exit
}

/// Reads a profile and the configuration that it brings with it.
fn read(file: &Path) -> Result<Profile, ConfigErrors> {
    let profile = Profile::load(file)?;
    let sources = Sources { profiles: vec![profile.config().clone()], ..Sources::default() };
    sources.load()?;
    Ok(profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_profile_and_bad_configuration_in_one_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("profile.toml");
        let write = |text| std::fs::write(&file, text).unwrap();
        write("[faces.app]\nverb = 1\n");
        assert_eq!(check(std::slice::from_ref(&file)), Exit::Config);
        write("[faces.app]\n\n[config.namespaces.chat]\nsubscribe = [\"role\"]\n");
        let errors = read(&file).err().map(|errors| errors.to_string()).unwrap_or_default();
        assert!(errors.contains("namespaces.chat.subscribe"), "{errors}");
        assert!(errors.contains("profile.toml:4"), "{errors}");
        write("[config.namespaces.chat]\nsubscribe = [\"anyone\"]\n");
        assert_eq!(check(&[file]), Exit::Success);
    }
}
