//! Options that take a path, an address or a file: what each accepts, and why it refuses.

use std::env;
use std::fs::{self, OpenOptions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use super::application::absolute;
use super::{AccessLog, ConfigError, Description};

pub(super) const FACTORY_DEFAULT: &str = "spawning.wsgi_factory.config_factory";
const HOST_DEFAULT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const DJANGO_FACTORY: &str = "spawning.django_factory.config_factory";
const DJANGO_HINT: &str = "name it behind the factory: spawn -f spawning.django_factory.config_factory mysite.settings, \
                           or in the variable DJANGO_SETTINGS_MODULE";
const APP_HINT: &str = "name the application by its dotted path, for example: spawn mysite.wsgi.application";
const MIDDLEWARE_HINT: &str =
    "name middleware by its dotted path, for example: spawn mysite.wsgi.application mysite.middleware.gzip";
const LOG_HINT: &str =
    "name a file in a writable directory, - for standard output, or /dev/null for no access log";
const HOST_HINT: &str = "give an IPv4 or IPv6 address or a host name, for example --host 127.0.0.1";

/// Default and bounds of the options checked here.
pub(super) fn describe(flag: &str) -> Option<Description> {
    let (default, bounds) = match flag {
        "--factory" => (FACTORY_DEFAULT.to_owned(), "a dotted path"),
        "--host" => (HOST_DEFAULT.to_string(), "an IPv4 or IPv6 address, or a host name"),
        "--config" => ("[tool.spawning] of ./pyproject.toml".to_owned(), "a TOML file"),
        "--reload" => ("off".to_owned(), "dev or poll"),
        "--completion" => ("nothing".to_owned(), "bash, zsh or fish"),
        "--watch" => ("nothing".to_owned(), "a file or directory that exists"),
        "--access-log-file" => ("-".to_owned(), "a file in a writable directory"),
        _ => return None,
    };
    Some(Description { default, bounds: bounds.to_owned() })
}

pub(super) fn factory(word: Option<&str>) -> Result<String, ConfigError> {
    let word = word.unwrap_or(FACTORY_DEFAULT);
    let hint = format!("give a dotted path, for example --factory {FACTORY_DEFAULT}");
    dotted_path(word).map_err(|fault| ConfigError::new("--factory", fault, hint))?;
    Ok(word.to_owned())
}

/// The default factory takes dotted paths; what another makes of its arguments only it can know.
pub(super) fn arguments(factory: &str, words: &[String]) -> Result<(), ConfigError> {
    if words.is_empty() && factory == DJANGO_FACTORY {
        // Django itself reads the name of its settings there.
        return match env::var_os("DJANGO_SETTINGS_MODULE").filter(|module| !module.is_empty()) {
            Some(_) => Ok(()),
            None => Err(ConfigError::new(
                "app",
                "missing, the Django factory needs the settings module",
                DJANGO_HINT,
            )),
        };
    }
    if words.is_empty() {
        return Err(ConfigError::new("app", "missing, at least 1 argument is needed", APP_HINT));
    }
    for (index, word) in words.iter().enumerate() {
        let (name, hint) = if index == 0 { ("app", APP_HINT) } else { ("middleware", MIDDLEWARE_HINT) };
        let check = if factory == FACTORY_DEFAULT { path_or_call(word) } else { not_empty(word) };
        check.map_err(|fault| ConfigError::new(name, fault, hint))?;
    }
    Ok(())
}

fn not_empty(word: &str) -> Result<(), String> {
    if word.is_empty() { Err("must not be empty".to_owned()) } else { Ok(()) }
}

/// A dotted path, or a call of what it names: `package.module:create_app("blue")`, whose arguments Python will read.
fn path_or_call(word: &str) -> Result<(), String> {
    let Some((path, arguments)) = word.split_once('(') else { return dotted_path(word) };
    dotted_path(path)?;
    if arguments.ends_with(')') {
        Ok(())
    } else {
        Err(format!("{word:?} is a call without its closing bracket"))
    }
}

/// `package.module.attribute` or `package.module:attribute`.
fn dotted_path(word: &str) -> Result<(), String> {
    not_empty(word)?;
    let (module, attribute) = word.split_once(':').unwrap_or((word, "_"));
    match module.split('.').chain(attribute.split('.')).find(|part| !is_identifier(part)) {
        None => Ok(()),
        Some("") => Err(format!("{word:?} is not a dotted path: a part of it is empty")),
        Some(part) => Err(format!("{word:?} is not a dotted path: {part:?} is not a Python name")),
    }
}

/// Nearly Python's rule, which also has classes of characters that no Unicode table of `std` holds.
fn is_identifier(part: &str) -> bool {
    let mut characters = part.chars();
    characters.next().is_some_and(|first| first == '_' || first.is_alphabetic())
        && characters.all(|next| next == '_' || next.is_alphanumeric())
}

/// The address to bind: a literal as it is, a name as the resolver knows it.
pub(super) fn address(word: Option<&str>, port: u16) -> Result<SocketAddr, ConfigError> {
    let address = match word {
        None => HOST_DEFAULT,
        Some("") => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Some(word) => match literal(word) {
            Some(address) => address,
            None => return resolve(word, port),
        },
    };
    Ok(SocketAddr::new(address, port))
}

fn literal(word: &str) -> Option<IpAddr> {
    match word.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => word.parse().ok(),
    }
}

/// One address even for a name that has several, so that `--port 0` means one port; IPv4 first, as `localhost`
/// is often also `::1` on a machine without IPv6.
fn resolve(name: &str, port: u16) -> Result<SocketAddr, ConfigError> {
    let error = |fault: String, hint: &str| ConfigError::new("--host", fault, hint);
    if name.parse::<SocketAddr>().is_ok() {
        let hint = "give the address alone, and the port with --port";
        return Err(error(format!("{name:?} has a port in it"), hint));
    }
    let refused =
        |cause: &dyn std::fmt::Display| error(format!("{name:?} cannot be resolved: {cause}"), HOST_HINT);
    let found: Vec<SocketAddr> = (name, port).to_socket_addrs().map_err(|cause| refused(&cause))?.collect();
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first.copied().ok_or_else(|| refused(&"it has no address"))
}

/// How changes of files are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// The kernel tells; Spawning 0.9 spelt it `dev`.
    Events,
    /// By looking at them now and then.
    Poll,
}

pub(super) fn reload(word: Option<&str>) -> Result<Option<How>, ConfigError> {
    match word {
        None => Ok(None),
        Some("dev") => Ok(Some(How::Events)),
        Some("poll") => Ok(Some(How::Poll)),
        Some(word) => {
            let hint = "write --reload dev (or --reload poll where the kernel reports no changes), or leave it out \
                        and send SIGHUP to reload";
            Err(ConfigError::new("--reload", format!("{word:?} is neither dev nor poll"), hint))
        }
    }
}

/// The paths are made absolute because an application may change its directory before they are watched.
pub(super) fn watch(words: &[String]) -> Result<Vec<PathBuf>, ConfigError> {
    let check = |word: &String| {
        not_empty(word)?;
        fs::metadata(word).map_err(|cause| format!("{word:?} cannot be found: {cause}"))?;
        absolute(word)
    };
    let hint = |word: &str| match word.parse::<u16>() {
        Ok(number) => format!("-w is --watch; the number of worker processes is --processes {number}, or -s"),
        Err(_) => "name a file or directory whose change is to reload the application".to_owned(),
    };
    let refused = |word: &str, fault| ConfigError::new("--watch", fault, hint(word));
    words.iter().map(|word| check(word).map_err(|fault| refused(word, fault))).collect()
}

pub(super) fn access_log(word: Option<&str>) -> Result<AccessLog, ConfigError> {
    match word {
        None | Some("-") => Ok(AccessLog::Stdout),
        Some("/dev/null") => Ok(AccessLog::Off),
        Some(word) => writable_file(word)
            .map(AccessLog::File)
            .map_err(|fault| ConfigError::new("--access-log-file", fault, LOG_HINT)),
    }
}

/// The path is made absolute because an application may change its directory before the file is opened.
pub(super) fn file(word: &str) -> Result<PathBuf, String> {
    not_empty(word)?;
    absolute(word)
}

/// A [`file`] that can be written, or made.
pub(super) fn writable_file(word: &str) -> Result<PathBuf, String> {
    let file = file(word)?;
    match fs::metadata(&file) {
        Ok(found) if found.is_dir() => return Err(format!("{word:?} is a directory, not a file")),
        // Only a regular file is tried: to open a pipe would wait for its reader.
        Ok(found) if found.is_file() => {
            let opened = OpenOptions::new().append(true).open(&file);
            drop(opened.map_err(|cause| format!("{word:?} cannot be written: {cause}"))?);
        }
        Ok(_) => {}
        Err(cause) if cause.kind() == io::ErrorKind::NotFound && !word.ends_with('/') => {
            writable_directory(file.parent().unwrap_or(Path::new("/")))?;
        }
        Err(cause) => return Err(format!("{word:?} cannot be found: {cause}")),
    }
    Ok(file)
}

/// Asks the kernel by an anonymous file, which leaves no trace should a later check fail.
pub(super) fn writable_directory(directory: &Path) -> Result<(), String> {
    let name = directory.to_string_lossy();
    if !directory.is_dir() {
        return Err(format!("there is no directory {name:?}"));
    }
    tempfile::tempfile_in(directory)
        .map(drop)
        .map_err(|cause| format!("the directory {name:?} cannot be written: {}", cause.kind()))
}
