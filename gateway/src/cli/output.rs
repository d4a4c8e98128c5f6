//! Results go to standard output, everything else to standard error.

use std::io::{self, Write};

use super::Exit;

/// Writes a line of the result.
pub(super) fn write(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Writes all of the result. A reader that has gone away, such as `head`, has what it wanted.
pub(super) fn print(text: &str) -> Exit {
    match write(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Exit::Failure,
        _ => Exit::Success,
    }
}

/// Tells the person at the terminal.
pub(super) fn complain(text: &str) {
    // There is nobody to tell that standard error is closed.
    drop(writeln!(io::stderr().lock(), "{text}"));
}
