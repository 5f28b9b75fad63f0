//! Where the application is loaded from, where it is mounted, and which thread runs it.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{ConfigError, Description, RawOptions};

const SCRIPT_NAME: &str = "--script-name";
const MAIN_THREAD: &str = "--main-thread";

/// How the application is found and called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationSettings {
    /// The working directory of the workers, absolute, as its user names it: links in it are followed for each
    /// generation. `None` is the directory that the server is started in.
    pub directory: Option<PathBuf>,
    /// Put before the working directory on `sys.path`; relative ones are meant in the working directory.
    pub python_path: Vec<PathBuf>,
    /// The part of every path before the application's own (PEP 3333), decoded: empty, or with a slash at its start
    /// and none at its end.
    pub script_name: String,
    /// The main thread of each process runs the application.
    pub main_thread: bool,
}

/// Default and bounds of the options read here.
pub(super) fn describe(flag: &str) -> Option<Description> {
    let (default, bounds) = match flag {
        "--chdir" => ("the current directory", "a directory"),
        "--python-path" => ("nothing", "a directory or an archive of Python modules"),
        SCRIPT_NAME => ("none", "a path such as /shop"),
        _ => return None,
    };
    Some(Description { default: default.to_owned(), bounds: bounds.to_owned() })
}

pub(super) fn read(raw: &RawOptions) -> Result<ApplicationSettings, ConfigError> {
    let directory = raw.chdir.as_deref().map(directory).transpose()?;
    Ok(ApplicationSettings {
        python_path: python_path(&raw.python_path, directory.as_deref())?,
        directory,
        script_name: raw.script_name.as_deref().map_or(Ok(String::new()), script_name)?,
        main_thread: raw.main_thread,
    })
}

/// How many threads `word` of `--threads` means beside `--main-thread`, which there is one of.
pub(super) fn main_thread(word: Option<&str>, green: Option<&str>) -> Result<(), ConfigError> {
    let hint = "leave out --main-thread, or write --threads 1";
    if green.is_some() {
        return Err(ConfigError::new(
            MAIN_THREAD,
            "in green mode the main thread runs the application",
            hint,
        ));
    }
    match word.map(str::parse) {
        None | Some(Ok(1)) => Ok(()),
        Some(_) => {
            let fault = format!("there is one main thread, and --threads is {}", word.unwrap_or_default());
            Err(ConfigError::new(MAIN_THREAD, fault, hint))
        }
    }
}

fn directory(word: &str) -> Result<PathBuf, ConfigError> {
    let refused = |fault| ConfigError::new("--chdir", fault, "name the directory that the application is in");
    let directory = absolute(word).map_err(refused)?;
    // The dot asks whether it may be entered, too.
    match fs::metadata(directory.join(".")) {
        Ok(_) => Ok(directory),
        Err(cause) => Err(refused(format!("cannot go to the directory {word:?}: {cause}"))),
    }
}

fn python_path(words: &[String], directory: Option<&Path>) -> Result<Vec<PathBuf>, ConfigError> {
    let check = |word: &String| {
        let refused = |fault| {
            ConfigError::new("--python-path", fault, "name a directory, or an archive such as app.pyz")
        };
        if word.is_empty() {
            return Err(refused("must not be empty".to_owned()));
        }
        let there = directory.map_or_else(|| PathBuf::from(word), |directory| directory.join(word));
        match fs::metadata(&there) {
            Ok(_) => Ok(PathBuf::from(word)),
            Err(cause) => Err(refused(format!("{:?} cannot be found: {cause}", there.display().to_string()))),
        }
    };
    words.iter().map(check).collect()
}

/// A slash at the end says nothing; what would make a URL of another host, or no path at all, is refused.
fn script_name(word: &str) -> Result<String, ConfigError> {
    let name = word.trim_end_matches('/');
    let is_forbidden = |character: char| character.is_control() || "?#\\ ".contains(character);
    let fault = match name {
        "" => return Ok(String::new()),
        _ if !name.starts_with('/') => "does not begin with a slash",
        _ if name.starts_with("//") => "begins with two slashes",
        _ if name.contains(is_forbidden) => "is not a URL path",
        _ => return Ok(name.to_owned()),
    };
    Err(ConfigError::new(SCRIPT_NAME, format!("{word:?} {fault}"), "write it as --script-name /shop"))
}

/// `word` as an absolute path that keeps the links its user went through: `/srv/site/current`, not the release that is
/// current now.
pub(super) fn absolute(word: &str) -> Result<PathBuf, String> {
    if word.is_empty() {
        return Err("must not be empty".to_owned());
    }
    let current = current_directory()
        .ok_or_else(|| format!("{word:?} cannot be found: the current directory does not exist"))?;
    let parts = current.join(word);
    // Dots are taken out, double dots are the kernel's business.
    Ok(parts.components().collect())
}

/// The current directory as the shell names it, if its name (`PWD`, POSIX) is true; `None` if it was removed.
pub fn current_directory() -> Option<PathBuf> {
    let real = env::current_dir().ok();
    let named = env::var_os("PWD").map(PathBuf::from).filter(|named| named.is_absolute());
    named.filter(|named| is_same(named, Path::new("."))).or(real)
}

fn is_same(one: &Path, other: &Path) -> bool {
    let number = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    number(one).is_some() && number(one) == number(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(raw: &RawOptions) -> Result<ApplicationSettings, ConfigError> {
        super::read(raw)
    }

    #[test]
    fn a_prefix_is_a_path_without_a_slash_at_its_end() {
        let read = |word: &str| {
            super::read(&RawOptions { script_name: Some(word.to_owned()), ..RawOptions::default() })
                .map(|settings| settings.script_name)
        };
        for (word, name) in [("/shop", "/shop"), ("/shop/", "/shop"), ("/a/b", "/a/b"), ("", ""), ("/", "")] {
            assert_eq!(read(word).as_deref(), Ok(name));
        }
        for word in ["shop", "//evil.example", "/a?b", "/a#b", "/a b", "/a\nb", "/\\evil"] {
            assert_eq!(read(word).unwrap_err().flag, SCRIPT_NAME, "{word}");
        }
    }

    #[test]
    fn a_directory_keeps_its_links_and_must_be_there() {
        let there = tempfile::tempdir().unwrap();
        let link = there.path().join("current");
        std::os::unix::fs::symlink(there.path(), &link).unwrap();
        let raw =
            |word: &Path| RawOptions { chdir: Some(word.display().to_string()), ..RawOptions::default() };
        assert_eq!(read(&raw(&link)).unwrap().directory, Some(link));
        let error = read(&raw(&there.path().join("gone"))).unwrap_err();
        assert_eq!(error.flag, "--chdir");
        assert!(error.fault.contains("gone"), "{error}");
    }

    #[test]
    fn python_paths_are_meant_in_the_working_directory() {
        let there = tempfile::tempdir().unwrap();
        fs::create_dir(there.path().join("lib")).unwrap();
        let raw = |path: &str| RawOptions {
            chdir: Some(there.path().display().to_string()),
            python_path: vec![path.to_owned()],
            ..RawOptions::default()
        };
        assert_eq!(read(&raw("lib")).unwrap().python_path, [PathBuf::from("lib")]);
        assert_eq!(read(&raw("gone")).unwrap_err().flag, "--python-path");
    }

    #[test]
    fn the_main_thread_is_one_thread() {
        assert_eq!(main_thread(None, None), Ok(()));
        assert_eq!(main_thread(Some("1"), None), Ok(()));
        assert!(main_thread(Some("2"), None).is_err());
        assert!(main_thread(Some("0"), None).is_err());
        assert!(main_thread(None, Some("gevent")).is_err());
    }
}
