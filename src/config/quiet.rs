//! Health checks and other noise: a path that the server answers by itself, and what leaves no line in the access log.

use serde::{Deserialize, Serialize};

use super::{ConfigError, Description, RawOptions};

const HEALTH: &str = "--health-path";
const SKIP: &str = "--access-log-skip";

/// What is answered or logged otherwise than the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quiet {
    /// The path of a health check that workers answer without the application.
    pub health_path: Option<String>,
    /// Paths whose requests are not logged; one that ends with an asterisk stands for all that begin like it.
    pub skipped_paths: Vec<String>,
    /// Only what went well is not logged: of those paths, or of all if there are none.
    pub skips_ok: bool,
}

impl Quiet {
    /// Whether this is the path of the health check.
    pub fn is_health_check(&self, path: &[u8]) -> bool {
        self.health_path.as_ref().is_some_and(|health| health.as_bytes() == path)
    }

    /// Whether a request for `path` leaves no line, `is_ok` saying whether it was answered in full and without error.
    pub fn skips(&self, path: &[u8], is_ok: bool) -> bool {
        let is_meant = |skipped: &String| match skipped.strip_suffix('*') {
            Some(beginning) => path.starts_with(beginning.as_bytes()),
            None => path == skipped.as_bytes(),
        };
        match (self.skipped_paths.is_empty(), self.skips_ok) {
            (true, skips_ok) => skips_ok && is_ok,
            (false, skips_ok) => (is_ok || !skips_ok) && self.skipped_paths.iter().any(is_meant),
        }
    }
}

/// Default and bounds of the options read here.
pub(super) fn describe(flag: &str) -> Option<Description> {
    let bounds = match flag {
        HEALTH => "a path, beginning with /",
        SKIP => "a path, beginning with /; one that ends with * stands for all that begin like it",
        _ => return None,
    };
    Some(Description { default: "none".to_owned(), bounds: bounds.to_owned() })
}

pub(super) fn read(raw: &RawOptions) -> Result<Quiet, ConfigError> {
    Ok(Quiet {
        health_path: raw.health_path.as_deref().map(|word| path(HEALTH, word)).transpose()?,
        skipped_paths: raw.access_log_skip.iter().map(|word| path(SKIP, word)).collect::<Result<_, _>>()?,
        skips_ok: raw.access_log_skip_ok,
    })
}

/// As a client sends it: whatever cannot be in a request target would never be met.
fn path(flag: &str, word: &str) -> Result<String, ConfigError> {
    let fault = match word {
        "" => "must not be empty".to_owned(),
        _ if !word.starts_with('/') => format!("{word:?} does not begin with /"),
        _ if word.contains(['?', '#']) => format!("{word:?} is more than a path"),
        _ if !word.bytes().all(|byte| byte.is_ascii_graphic()) => {
            format!("{word:?} holds what a client must percent-encode")
        }
        _ => return Ok(word.to_owned()),
    };
    Err(ConfigError::new(
        flag,
        fault,
        format!("give the path as clients send it, for example {flag} /healthz"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(health: Option<&str>, skipped: &[&str], skips_ok: bool) -> Result<Quiet, ConfigError> {
        read(&RawOptions {
            health_path: health.map(str::to_owned),
            access_log_skip: skipped.iter().map(|word| (*word).to_owned()).collect(),
            access_log_skip_ok: skips_ok,
            ..RawOptions::default()
        })
    }

    #[test]
    fn without_a_word_everything_is_asked_and_logged() {
        let quiet = quiet(None, &[], false).unwrap();
        assert!(!quiet.is_health_check(b"/healthz") && !quiet.skips(b"/healthz", true));
    }

    #[test]
    fn paths_are_skipped_by_name_or_by_beginning() {
        let quiet = quiet(None, &["/healthz", "/static/*"], false).unwrap();
        for (path, skipped) in [
            (&b"/healthz"[..], true),
            (b"/healthz/", false),
            (b"/static/a.css", true),
            (b"/static", false),
            (b"/", false),
        ] {
            assert_eq!(quiet.skips(path, true), skipped);
            assert_eq!(quiet.skips(path, false), skipped);
        }
    }

    #[test]
    fn what_went_wrong_can_be_kept() {
        let some = quiet(None, &["/healthz"], true).unwrap();
        assert!(some.skips(b"/healthz", true) && !some.skips(b"/healthz", false) && !some.skips(b"/", true));
        let all = quiet(None, &[], true).unwrap();
        assert!(all.skips(b"/", true) && !all.skips(b"/", false));
    }

    #[test]
    fn what_no_client_sends_is_refused() {
        for word in ["", "healthz", "/a?b", "/a#b", "/a b", "/\u{e9}", "/a\n"] {
            let refused = quiet(Some(word), &[], false).unwrap_err();
            assert_eq!(refused.flag, "--health-path", "{word}");
            assert!(refused.hint.contains("--health-path /healthz"));
            assert_eq!(quiet(None, &[word], false).unwrap_err().flag, "--access-log-skip", "{word}");
        }
    }
}
