//! How the process ends.

use std::process::ExitCode;

/// What an exit code says. Numbers above 63 are those of `sysexits.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It was done.
    Success = 0,
    /// It failed.
    Failure = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The server cannot be reached, or cannot do it now.
    Unavailable = 69,
    /// The token is missing or refused, or the rules do not allow it.
    Refused = 77,
    /// The configuration is wrong.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// For `--help`.
pub(super) const HELP: &str = "\
Exit codes:
  0   done
  1   failed
  2   the command line is wrong
  69  the server cannot be reached, or cannot do it now
  77  the token is missing or refused, or the rules do not allow it
  78  the configuration is wrong";
