//! Green mode: green threads of a library in place of application threads.

use serde::{Deserialize, Serialize};

use super::{ConfigError, Description, RawOptions, application, ranges};

const GREEN_HINT: &str =
    "write --threads 0 for eventlet's green threads, --threads 0 --green gevent for gevent's";

/// The library whose green threads run the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GreenLibrary {
    /// As in Spawning 0.9.
    Eventlet,
    /// Its rival.
    Gevent,
}

impl GreenLibrary {
    /// The name of its Python module.
    pub fn module(self) -> &'static str {
        match self {
            Self::Eventlet => "eventlet",
            Self::Gevent => "gevent",
        }
    }
}

/// How requests are answered by green threads on the main thread of each process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GreenSettings {
    /// Whose green threads.
    pub library: GreenLibrary,
    /// Requests that may be with the application of one process at once; more wait in the queue.
    pub requests_max: usize,
}

pub(super) fn describe(flag: &str) -> Option<Description> {
    (flag == "--green").then(|| Description {
        default: GreenLibrary::Eventlet.module().to_owned(),
        bounds: "eventlet or gevent, with --threads 0".to_owned(),
    })
}

/// How many threads, and which green ones in their place where there are none. To name a library is to ask for it.
pub(super) fn threads(raw: &RawOptions) -> Result<(usize, Option<GreenSettings>), ConfigError> {
    if raw.main_thread {
        application::main_thread(raw.threads.as_deref(), raw.green.as_deref())?;
    }
    let library = raw.green.as_deref().map(library).transpose()?;
    let requests_max = ranges::GREEN_REQUESTS_MAX.read(raw.green_requests_max.as_deref())?;
    let threads = match (raw.threads.as_deref(), library) {
        (None, Some(_)) => 0,
        (None, None) if raw.main_thread => 1,
        (word, _) => ranges::THREADS.read(word)?,
    };
    match (threads, library) {
        (0, library) => {
            let library = library.unwrap_or(GreenLibrary::Eventlet);
            Ok((0, Some(GreenSettings { library, requests_max })))
        }
        (_, Some(library)) => {
            let fault = format!("{} takes the place of threads, not beside {threads}", library.module());
            Err(ConfigError::new("--green", fault, GREEN_HINT))
        }
        (_, None) => Ok((threads, None)),
    }
}

fn library(word: &str) -> Result<GreenLibrary, ConfigError> {
    let known = [GreenLibrary::Eventlet, GreenLibrary::Gevent];
    let found = known.into_iter().find(|library| library.module() == word);
    found.ok_or_else(|| {
        ConfigError::new("--green", format!("{word:?} is neither eventlet nor gevent"), GREEN_HINT)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(
        threads: Option<&str>,
        green: Option<&str>,
    ) -> Result<(usize, Option<GreenLibrary>), ConfigError> {
        let word = |word: Option<&str>| word.map(str::to_owned);
        let raw = RawOptions { threads: word(threads), green: word(green), ..RawOptions::default() };
        super::threads(&raw).map(|(threads, green)| (threads, green.map(|green| green.library)))
    }

    #[test]
    fn no_threads_are_green_threads() {
        assert_eq!(read(None, None), Ok((4, None)));
        for word in ["0", "00"] {
            assert_eq!(read(Some(word), None), Ok((0, Some(GreenLibrary::Eventlet))));
        }
        assert_eq!(read(Some("0"), Some("gevent")), Ok((0, Some(GreenLibrary::Gevent))));
        assert_eq!(read(None, Some("gevent")), Ok((0, Some(GreenLibrary::Gevent))));
    }

    #[test]
    fn green_threads_beside_threads_and_unknown_libraries_are_refused() {
        let error = read(Some("4"), Some("gevent")).unwrap_err();
        assert_eq!(
            error.to_string().lines().next(),
            Some("--green: gevent takes the place of threads, not beside 4")
        );
        let error = read(Some("0"), Some("asyncio")).unwrap_err();
        assert_eq!(
            (error.flag.as_str(), error.fault.as_str()),
            ("--green", "\"asyncio\" is neither eventlet nor gevent")
        );
        assert!(read(Some("-1"), None).is_err());
    }
}
