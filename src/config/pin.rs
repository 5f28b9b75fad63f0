//! What is kept on the cores of its process (`--pin`).

use serde::{Deserialize, Serialize};

use super::{ConfigError, Description, RawOptions};

/// Which threads of a worker are kept on the cores of its slot. What the application starts never is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pin {
    /// Every thread, those of the application included.
    All,
    /// Each executor on its own core; the application may use every core that the server may.
    #[default]
    Executors,
    /// None.
    None,
}

pub(super) fn describe(flag: &str) -> Option<Description> {
    (flag == "--pin")
        .then(|| Description { default: "executors".to_owned(), bounds: "all, executors or none".to_owned() })
}

pub(super) fn read(raw: &RawOptions) -> Result<Pin, ConfigError> {
    match raw.pin.as_deref() {
        None => Ok(Pin::default()),
        Some("all") => Ok(Pin::All),
        Some("executors") => Ok(Pin::Executors),
        Some("none") => Ok(Pin::None),
        Some(word) => Err(ConfigError::new(
            "--pin",
            format!("{word:?} is not one of all, executors, none"),
            "leave --pin out: executors are kept on their cores, and the application may use all",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_says_what_is_pinned() {
        let pin =
            |word: Option<&str>| read(&RawOptions { pin: word.map(str::to_owned), ..RawOptions::default() });
        assert_eq!(pin(None).unwrap(), Pin::Executors);
        assert_eq!(pin(Some("all")).unwrap(), Pin::All);
        assert_eq!(pin(Some("executors")).unwrap(), Pin::Executors);
        assert_eq!(pin(Some("none")).unwrap(), Pin::None);
        assert_eq!(pin(Some("All")).unwrap_err().flag, "--pin");
    }
}
