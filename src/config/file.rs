//! Options from a TOML file: the one `--config` names, or the table `[tool.spawning]` of `pyproject.toml`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use toml::{Table, Value};

use super::ConfigError;
use super::sources::{self, Given, Layer, Settable, Source};
use crate::limits::CONFIG_FILE_BYTES_MAX;

const PROJECT: &str = "pyproject.toml";
const FILE_HINT: &str = "name a TOML file, for example --config spawning.toml";
const VALUE_HINT: &str = "write a string in quotes or a number; true or false for a switch";

/// Reads the file that the user named; of a `pyproject.toml` the table `[tool.spawning]`.
///
/// # Errors
/// The file cannot be read, is no TOML, or holds what is no option or no value of one.
pub fn named(name: &str, settable: &[Settable]) -> Result<Layer, ConfigError> {
    let refused = |fault: String| ConfigError::new("--config", fault, FILE_HINT);
    let text = read(name).map_err(|error| refused(format!("{name:?} cannot be read: {error}")))?;
    let mut table = parse(name, &text)?;
    if Path::new(name).file_name().is_some_and(|file| file == PROJECT) {
        table =
            project_table(table).ok_or_else(|| refused(format!("{name:?} has no table [tool.spawning]")))?;
    }
    layer(&table, Source::File(name.to_owned()), settable)
}

/// Reads `[tool.spawning]` of `pyproject.toml` in the current directory, if there is such a table.
///
/// # Errors
/// As of [`named`].
pub fn project(settable: &[Settable]) -> Result<Option<Layer>, ConfigError> {
    let text = match read(PROJECT) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let hint = "mend it, or name another file with --config";
            return Err(ConfigError::new(PROJECT, format!("cannot be read: {error}"), hint));
        }
    };
    let table = project_table(parse(PROJECT, &text)?);
    table.map(|table| layer(&table, Source::File(PROJECT.to_owned()), settable)).transpose()
}

/// Reads what a config factory answered, a JSON object; keys that are no options are the factory's own.
///
/// # Errors
/// It is no JSON object, or an option has what is no value of one.
pub fn answer(json: &[u8], factory: &str, settable: &[Settable]) -> Result<Layer, ConfigError> {
    let mut table: Table = serde_json::from_slice(json).map_err(|error| {
        let hint = "a config factory returns a dict of strings, numbers, lists and booleans";
        let fault = format!("its answer cannot be read: {}", sources::printable(&error.to_string()));
        ConfigError::new(factory, fault, hint)
    })?;
    let origin = table.remove("origin").and_then(|origin| origin.as_str().map(str::to_owned));
    table.retain(|key, _| find(key, settable).is_some());
    layer(&table, Source::Factory(origin.unwrap_or_else(|| factory.to_owned())), settable)
}

fn read(name: &str) -> io::Result<String> {
    let mut text = String::new();
    File::open(name)?.take(CONFIG_FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > CONFIG_FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it is longer than {CONFIG_FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

fn parse(name: &str, text: &str) -> Result<Table, ConfigError> {
    text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        let fault = format!("line {line}: {}", sources::printable(&message));
        ConfigError::new(
            name.escape_debug().to_string(),
            fault,
            "see https://toml.io for the form of such a file",
        )
    })
}

fn project_table(mut table: Table) -> Option<Table> {
    match table.get_mut("tool")?.as_table_mut()?.remove("spawning")? {
        Value::Table(table) => Some(table),
        _ => None,
    }
}

fn layer(table: &Table, source: Source, settable: &[Settable]) -> Result<Layer, ConfigError> {
    let mut options = BTreeMap::new();
    for (key, value) in table {
        let option = find(key, settable).ok_or_else(|| {
            let unknown = ConfigError::new(key.escape_debug().to_string(), String::new(), String::new());
            let flag = source.retell(unknown).flag;
            sources::unknown(flag, &normal(key), settable.iter().map(|option| sources::key(option.flag)))
        })?;
        let given = given(option, value).map_err(|error| source.retell(error))?;
        if options.insert(option.flag, given).is_some() {
            let twice =
                ConfigError::new(option.flag, "given twice, with - and with _", "remove one of the two");
            return Err(source.retell(twice));
        }
    }
    Ok(Layer { source, options })
}

fn find<'a>(key: &str, settable: &'a [Settable]) -> Option<&'a Settable> {
    settable.iter().find(|option| sources::key(option.flag) == normal(key))
}

fn normal(key: &str) -> String {
    key.replace('_', "-")
}

fn given(option: &Settable, value: &Value) -> Result<Given, ConfigError> {
    let refused = || {
        let fault = format!("takes no {}", value.type_str());
        ConfigError::new(option.flag, fault, VALUE_HINT)
    };
    match value {
        Value::Boolean(on) if !option.takes_value => Ok(Given::Switch(*on)),
        Value::Array(items) if option.is_repeatable => {
            items.iter().map(word).collect::<Option<_>>().map(Given::Words).ok_or_else(refused)
        }
        _ => option.given(&word(value).ok_or_else(refused)?),
    }
}

/// A string or a number as the word it would be on a command line.
fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        _ => None,
    }
}
