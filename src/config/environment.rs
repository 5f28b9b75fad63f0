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
    let known: BTreeMap<String, &Settable> =
        settable.iter().map(|option| (variable(option.flag), option)).collect();
    let mut options = BTreeMap::new();
    for (name, value) in ours {
        let option = known.get(&name).ok_or_else(|| {
            let shown = name.escape_debug().to_string();
            sources::unknown(shown, &name, known.keys().map(String::as_str))
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
