//! Where options come from besides the command line: one shape for all sources, and faults that name theirs.

use std::collections::BTreeMap;

use super::{ConfigError, environment};

/// The name under which sources other than the command line give the positional arguments.
pub const APP: &str = "app";

/// Names further from a word than this many edits are not suggested for it.
const SUGGESTION_EDITS_MAX: usize = 3;

/// Where options were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The words behind `spawn`.
    CommandLine,
    /// Variables whose names begin with `SPAWN_`.
    Environment,
    /// A variable that platforms set, see [`super::platform`].
    Variable(&'static str),
    /// A TOML file, as its user names it.
    File(String),
    /// What a config factory answered, under the name it gives itself.
    Factory(String),
}

/// An option that sources may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settable {
    /// Its long name, `--port`, or [`APP`].
    pub flag: &'static str,
    /// Whether it takes a value; a switch is on or off.
    pub takes_value: bool,
    /// Whether every one of several values counts.
    pub is_repeatable: bool,
}

/// What a source gives to one option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// The values of an option, unchecked; more than one only where every one counts.
    Words(Vec<String>),
    /// A switch, on or off.
    Switch(bool),
}

/// All that one source gives, by the long name of the option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Who gives it.
    pub source: Source,
    /// What is given.
    pub options: BTreeMap<&'static str, Given>,
}

impl Source {
    /// Where the value of the option `flag` came from, for a reader of `--print-config`.
    pub fn origin(&self, flag: &str) -> String {
        match self {
            Self::CommandLine => "command line".to_owned(),
            Self::Environment => environment::variable(flag),
            Self::Variable(name) => (*name).to_owned(),
            Self::File(name) | Self::Factory(name) => name.clone(),
        }
    }

    /// A fault found in the value of an option, told in this source's own spelling.
    #[must_use]
    pub fn retell(&self, error: ConfigError) -> ConfigError {
        let ConfigError { flag, fault, hint } = error;
        let (name, example) = match self {
            Self::CommandLine => return ConfigError { flag, fault, hint },
            Self::Environment => (environment::variable(&flag), format!("{}=", environment::variable(&flag))),
            Self::Variable(name) => ((*name).to_owned(), format!("{name}=")),
            Self::File(file) | Self::Factory(file) => {
                (format!("{}: {}", file.escape_debug(), key(&flag)), format!("{} = ", key(&flag)))
            }
        };
        ConfigError { fault, hint: hint.replace(&format!("{flag} "), &example), flag: name }
    }
}

impl Settable {
    /// Reads what one word says to this option.
    pub(super) fn given(&self, word: &str) -> Result<Given, ConfigError> {
        if self.takes_value {
            return Ok(Given::Words(vec![word.to_owned()]));
        }
        match word.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Ok(Given::Switch(true)),
            "0" | "false" | "no" | "off" => Ok(Given::Switch(false)),
            _ => {
                let fault = format!("{word:?} is neither true nor false");
                Err(ConfigError::new(self.flag, fault, "write true or false"))
            }
        }
    }
}

/// The name of an option in a file: `keepalive-timeout` of `--keepalive-timeout`.
pub(super) fn key(flag: &str) -> &str {
    flag.trim_start_matches('-')
}

/// A library's complaint, which may quote what it complains of, with nothing in it that a terminal obeys.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_debug());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// The one of `names` that somebody who wrote `word` may have meant.
pub fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().count();
    names
        // As many edits as that are needed at least; the exact number takes long to find for a long word.
        .filter(|name| name.chars().count().abs_diff(length) <= SUGGESTION_EDITS_MAX)
        .map(|name| (strsim::damerau_levenshtein(name, word), name))
        .min()
        .filter(|(edits, _)| *edits <= SUGGESTION_EDITS_MAX)
        .map(|(_, name)| name)
}

/// The refusal of a name that no option has.
pub(super) fn unknown<'a>(flag: String, word: &str, names: impl Iterator<Item = &'a str>) -> ConfigError {
    let hint = match nearest(word, names) {
        Some(name) => format!("did you mean {name}? see spawn --help"),
        None => "see spawn --help".to_owned(),
    };
    ConfigError::new(flag, "no such option", hint)
}

#[cfg(test)]
mod tests;
