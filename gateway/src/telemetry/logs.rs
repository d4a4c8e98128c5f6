//! The log, on standard error: standard output belongs to what commands print.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, IsTerminal as _},
    panic::{self, PanicHookInfo},
};

use tracing::Level;
use tracing_subscriber::{
    EnvFilter,
    filter::LevelFilter,
    fmt::MakeWriter,
    util::{SubscriberInitExt as _, TryInitError},
};

use crate::config::LogFormat;

const LEVELS: &str = "off, error, warn, info, debug or trace";

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The setting makes no sense.
    #[error("`{directive}` in the log level: {problem}")]
    Level {
        /// The part that makes none.
        directive: String,
        /// What is wrong, or how it should be.
        problem: String,
    },
    /// Called twice.
    #[error("the log cannot be set up: {0}")]
    Init(#[from] TryInitError),
}

/// Starts the log of this process, and has panics logged.
///
/// `level` is a level, or levels by module: `info,fanfare=debug`.
///
/// # Errors
/// Where `level` is neither, or the process has a log already.
pub(crate) fn init(format: LogFormat, level: &str) -> Result<(), LogError> {
    let terminal = io::stderr().is_terminal();
    let json = format == LogFormat::Json || (format == LogFormat::Auto && !terminal);
    subscriber(json, filter(level)?, io::stderr, terminal).try_init()?;
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if tracing::enabled!(Level::ERROR) {
            log_panic(panic);
        } else {
            before(panic);
        }
    }));
    Ok(())
}

/// `EnvFilter` takes a misspelt level for the name of a module, and then logs nothing: so what has
/// no `=` must be a level.
fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let mut filter = EnvFilter::default();
    for directive in level.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
        let failed = |problem: String| LogError::Level { directive: directive.to_owned(), problem };
        if !directive.contains(['=', '[']) && directive.parse::<LevelFilter>().is_err() {
            return Err(failed(format!(
                "write {LEVELS}, or a module and its level, such as fanfare=debug"
            )));
        }
        filter =
            filter.add_directive(directive.parse().map_err(|error| failed(format!("{error}")))?);
    }
    Ok(filter)
}

type Dispatched = Box<dyn tracing::Subscriber + Send + Sync>;

fn subscriber<W>(json: bool, filter: EnvFilter, writer: W, terminal: bool) -> Dispatched
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let base = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    if json {
        Box::new(
            base.json().flatten_event(true).with_current_span(false).with_span_list(false).finish(),
        )
    } else if terminal {
        // Coloured, unless NO_COLOR is set.
        Box::new(base.finish())
    } else {
        Box::new(base.with_ansi(false).finish())
    }
}

/// One line, line breaks escaped.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("a value that is no text");
    let location = panic.location().map(tracing::field::display);
    let current = std::thread::current();
    let thread = current.name().unwrap_or("unnamed");
    // Only with RUST_BACKTRACE=1.
    let backtrace = Backtrace::capture();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(panic = message, location, thread, backtrace, "panicked");
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged meanwhile.
    fn logged(json: bool, level: &str, run: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(json, filter(level).unwrap(), move || writer.clone(), false);
        tracing::subscriber::with_default(subscriber, run);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_is_one_flat_object_a_line() {
        let text = logged(true, "info", || {
            tracing::info!(connections = 3, note = "a\nb", "listening");
            tracing::debug!("too fine");
        });
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert_eq!((&line["level"], &line["message"]), (&"INFO".into(), &"listening".into()));
        assert_eq!((&line["connections"], &line["note"]), (&3.into(), &"a\nb".into()));
    }

    #[test]
    fn text_elsewhere_than_on_a_terminal_has_no_colours() {
        let text = logged(false, "info", || tracing::warn!(left = 2, "slow"));
        assert!(text.ends_with("slow left=2\n") && !text.contains('\x1b'), "{text:?}");
    }

    #[test]
    fn levels_by_module() {
        let text = logged(true, "warn, fanfare::telemetry=debug,hyper=off", || {
            tracing::debug!("here");
            tracing::info!(target: "elsewhere", "there");
        });
        assert!(text.contains("here") && !text.contains("there"), "{text}");
    }

    #[test]
    fn a_misspelt_level_is_refused_by_name() {
        for (level, named) in
            [("debg", "debg"), ("info,fanfare=lots", "fanfare=lots"), ("info,a[", "a[")]
        {
            let error = filter(level).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{named}` in the log level: ")), "{error}");
        }
    }

    #[test]
    fn a_panic_is_one_line() {
        let text = logged(true, "info", || {
            let before = panic::take_hook();
            panic::set_hook(Box::new(log_panic));
            assert!(panic::catch_unwind(|| panic!("out of {}\nand more", "luck")).is_err());
            panic::set_hook(before);
        });
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert_eq!((&line["level"], &line["message"]), (&"ERROR".into(), &"panicked".into()));
        assert_eq!(line["panic"], "out of luck\nand more");
        assert!(line["location"].as_str().unwrap().contains("logs.rs:"), "{line}");
    }
}
