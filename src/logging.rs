//! Where the log goes: journald with native fields under systemd, text on a terminal, else JSON; always stderr.

use std::io::IsTerminal;

use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::config::{Log, LogFormat};
use crate::model::job::Code;
use crate::text::shown_bytes;

/// What is logged, as it can be changed while the service runs.
#[derive(Clone, Debug)]
pub struct Level(reload::Handle<EnvFilter, Registry>);

impl Level {
    /// From now on. The format stays.
    ///
    /// # Errors
    /// If `level` is no filter; the configuration has checked it before.
    pub fn set(&self, log: &Log) -> Result<(), ParseError> {
        let filter = EnvFilter::builder().parse(directives(&log.level))?;
        // It fails only when nothing is logged any more.
        let _ = self.0.reload(filter);
        Ok(())
    }
}

/// Starts logging for the rest of the process, panics included. A journal that does not answer is replaced by JSON, with a word.
///
/// # Errors
/// If `level` is no filter; the configuration has checked it before.
pub fn start(log: &Log) -> Result<Level, ParseError> {
    let (filter, level) = reload::Layer::new(EnvFilter::builder().parse(directives(&log.level))?);
    let format = match log.format {
        LogFormat::Auto if stderr_is_journal() => LogFormat::Journald,
        LogFormat::Auto if std::io::stderr().is_terminal() => LogFormat::Text,
        LogFormat::Auto => LogFormat::Json,
        said => said,
    };
    let mut lost = None;
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Journald => match tracing_journald::layer() {
            Ok(layer) => layer.with_field_prefix(Some("UPSPOOL".into())).boxed(),
            Err(error) => {
                lost = Some(error);
                json().boxed()
            }
        },
        LogFormat::Text => {
            let colour = std::io::stderr().is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty())
                && std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
            tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(colour)
                .with_target(false)
                .boxed()
        }
        LogFormat::Json | LogFormat::Auto => json().boxed(),
    };
    Registry::default().with(layer.with_filter(filter)).init();
    // What comes of a panic its task says; where it was is known only here. One line like any other, with its fields.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        let words = shown_bytes(panic.payload_as_str().unwrap_or("no message").as_bytes());
        tracing::error!(event = "panic", code = Code::Internal.as_str(), place, thread, "{words}");
    }));
    if let Some(error) = lost {
        tracing::warn!(
            event = "log-fallback",
            "the journal does not answer ({error}): JSON on stderr instead"
        );
    }
    Ok(Level(level))
}

fn json() -> impl Layer<Registry> + Send + Sync {
    tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false)
        .with_writer(std::io::stderr)
}

/// A plain level is ours; what libraries say below a warning helps nobody who did not ask for it by name, nor do the whole
/// statements that SQL takes long over: a slow store is a hold, in words for people.
fn directives(level: &str) -> String {
    if level.contains(['=', ',']) { level.to_owned() } else { format!("warn,sqlx=error,upspool={level}") }
}

/// Whether stderr is the journal's, as `systemd.exec(5)` says of `JOURNAL_STREAM`. `systemd-cat` does not set it.
fn stderr_is_journal() -> bool {
    let Ok(said) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stat) = rustix::fs::fstat(std::io::stderr()) else { return false };
    said == format!("{}:{}", stat.st_dev, stat.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_level_quiets_the_libraries_and_a_directive_is_taken_as_it_is() {
        assert_eq!(directives("debug"), "warn,sqlx=error,upspool=debug");
        assert_eq!(directives("info,hyper=trace"), "info,hyper=trace");
        for level in ["error", "warn", "info", "debug", "trace", "off", "info,upspool=debug"] {
            assert!(EnvFilter::builder().parse(directives(level)).is_ok(), "{level}");
        }
    }
}
