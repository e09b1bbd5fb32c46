//! Where events of the program go: text or JSON lines on standard error, with a filter that can be changed while
//! the program runs.

use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::Arc;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For eyes; coloured on a terminal only.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read log filter `{text}`: {reason}; write it like `info` or `warn,lateen_proxy=debug`")]
    Filter { text: String, reason: String },
    #[error("set up logging: a logger is already installed")]
    Installed,
    #[error("change the log filter: the logger is gone")]
    Gone,
}

/// Installs the process's logger with a filter such as `info,lateen_proxy=debug`.
///
/// # Errors
/// When the filter cannot be read, or a logger is installed already.
pub fn init(format: Format, filter: &str) -> Result<LogFilter, Error> {
    let (filter, handle) = LogFilter::new(filter)?;
    let lines = match format {
        Format::Text => tracing_subscriber::fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal())
            .boxed(),
        Format::Json => {
            tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(io::stderr).boxed()
        }
    };
    Registry::default().with(lines.with_filter(filter)).try_init().map_err(|_| Error::Installed)?;
    Ok(handle)
}

/// Reads and changes the filter of the running process.
#[derive(Clone)]
pub struct LogFilter {
    handle: Arc<dyn Reload>,
}

/// The type of a reload handle names the whole stack of layers under it; nobody wants to carry that.
trait Reload: Send + Sync {
    fn get(&self) -> Option<String>;
    fn set(&self, filter: EnvFilter) -> Result<(), Error>;
}

impl<S> Reload for reload::Handle<EnvFilter, S> {
    fn get(&self) -> Option<String> {
        self.with_current(ToString::to_string).ok()
    }

    fn set(&self, filter: EnvFilter) -> Result<(), Error> {
        self.reload(filter).map_err(|_| Error::Gone)
    }
}

impl LogFilter {
    fn new<S: 'static>(filter: &str) -> Result<(reload::Layer<EnvFilter, S>, Self), Error> {
        let (layer, handle) = reload::Layer::new(parse(filter)?);
        Ok((layer, Self { handle: Arc::new(handle) }))
    }

    /// The filter in force.
    ///
    /// # Errors
    /// [`Error::Gone`] after the logger was taken down.
    pub fn get(&self) -> Result<String, Error> {
        self.handle.get().ok_or(Error::Gone)
    }

    /// Puts another filter in force at once.
    ///
    /// # Errors
    /// When it cannot be read; the old one then stays.
    pub fn set(&self, filter: &str) -> Result<(), Error> {
        self.handle.set(parse(filter)?)
    }
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogFilter").field(&self.get().ok()).finish()
    }
}

fn parse(text: &str) -> Result<EnvFilter, Error> {
    EnvFilter::try_new(text)
        .map_err(|error| Error::Filter { text: text.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::subscriber::with_default;

    #[test]
    fn a_filter_changes_while_running() {
        let (layer, filter) = LogFilter::new::<Registry>("warn").expect("filter");
        with_default(Registry::default().with(layer), || {
            assert!(!tracing::enabled!(tracing::Level::INFO));
            filter.set("debug").expect("set");
            assert!(tracing::enabled!(tracing::Level::INFO));
            assert_eq!(filter.get().expect("get"), "debug");
            assert!(matches!(filter.set("lateen=no=way"), Err(Error::Filter { .. })));
            assert_eq!(filter.get().expect("get"), "debug", "a bad filter leaves the old one");
        });
    }
}
