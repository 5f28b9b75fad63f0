//! With what executors wait and write files: the words of `--reactor`.

use serde::{Deserialize, Serialize};

use super::{ConfigError, Description};

const REACTOR: &str = "--reactor";

/// Which event loop the executors use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReactorChoice {
    /// `io_uring` where it may be used, else epoll.
    #[default]
    Auto,
    /// `io_uring`, or none: the server does not start without.
    IoUring,
    /// Epoll alone.
    Epoll,
}

impl ReactorChoice {
    /// What a server that runs uses: it has become [`Self::Epoll`] where `io_uring` may not be used.
    pub fn in_use(self) -> &'static str {
        match self {
            Self::Auto | Self::IoUring => "io-uring",
            Self::Epoll => "epoll",
        }
    }
}

/// Default and bounds.
pub(super) fn describe(flag: &str) -> Option<Description> {
    (flag == REACTOR)
        .then(|| Description { default: "auto".to_owned(), bounds: "auto, io-uring or epoll".to_owned() })
}

pub(super) fn read(word: Option<&str>) -> Result<ReactorChoice, ConfigError> {
    match word {
        None | Some("auto") => Ok(ReactorChoice::Auto),
        Some("io-uring" | "io_uring") => Ok(ReactorChoice::IoUring),
        Some("epoll") => Ok(ReactorChoice::Epoll),
        Some(word) => Err(ConfigError::new(
            REACTOR,
            format!("{word:?} is not an event loop"),
            format!("choose auto, io-uring or epoll, for example {REACTOR} auto"),
        )),
    }
}
