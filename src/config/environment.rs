//! Options from the environment: `SPAWN_KEEPALIVE_TIMEOUT=5` is `--keepalive-timeout 5`.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::ConfigError;
use super::sources::{self, Given, Layer, Settable, Source};

const PREFIX: &str = "SPAWN_";

/// The variable that sets the option `flag`.
pub(super) fn variable(flag: &str) -> String {
    PREFIX.to_owned() + &sources::key(flag).replace('-', "_").to_uppercase()
}

/// Whether `name` is [`variable`] of `flag`.
fn is_variable(name: &str, flag: &str) -> bool {
    let spelt = |byte: u8| if byte == b'-' { b'_' } else { byte.to_ascii_uppercase() };
    name.strip_prefix(PREFIX).is_some_and(|name| name.bytes().eq(sources::key(flag).bytes().map(spelt)))
}

/// Reads all variables of this server among `variables`.
///
/// # Errors
/// The first, in the order of their names, that is no option's or whose value cannot be read.
pub fn layer(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    settable: &[Settable],
) -> Result<Layer, ConfigError> {
    let ours: BTreeMap<String, OsString> = variables
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect();
    let mut options = BTreeMap::new();
    for (name, value) in ours {
        let option = settable.iter().find(|option| is_variable(&name, option.flag)).ok_or_else(|| {
            let shown = name.escape_debug().to_string();
            let known: Vec<String> = settable.iter().map(|option| variable(option.flag)).collect();
            sources::unknown(shown, &name, known.iter().map(String::as_str))
        })?;
        let value = value.to_str().ok_or_else(|| {
            ConfigError::new(name.clone(), "its value is not UTF-8", format!("write {name} in UTF-8"))
        })?;
        options.insert(option.flag, given(option, value).map_err(|error| Source::Environment.retell(error))?);
    }
    Ok(Layer { source: Source::Environment, options })
}

/// Where several values count, white space parts them.
fn given(option: &Settable, value: &str) -> Result<Given, ConfigError> {
    if option.is_repeatable {
        return Ok(Given::Words(value.split_whitespace().map(str::to_owned).collect()));
    }
    option.given(value)
}
