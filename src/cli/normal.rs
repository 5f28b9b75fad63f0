//! Any spelling of a command line to the one that argh reads: `--long-name value`, switches bare, `--`, positionals.

use super::{OptionName, elsewhere};
use crate::config::ConfigError;
use crate::config::sources::nearest;

/// Names that Spawning 0.9 knew.
const ALIASES: [(&str, &str); 1] = [("--deadman", "--deadman-timeout")];

/// `--opt=value`, `-s8`, `-vs8`, `--an_option` and aliases become `--option value`; positionals go last, behind `--`.
///
/// # Errors
/// An unknown option, a missing value, or a value where none belongs.
pub(super) fn normalise(words: &[String], options: &[OptionName]) -> Result<Vec<String>, ConfigError> {
    let mut normaliser = Normaliser { options, normal: Vec::new(), positionals: Vec::new() };
    let mut rest = words.iter().map(String::as_str);
    while let Some(word) = rest.next() {
        match word.strip_prefix('-') {
            Some("-") => {
                normaliser.positionals.extend(rest.by_ref().map(str::to_owned));
            }
            Some(long) if long.starts_with('-') => normaliser.long(word, &mut rest)?,
            None | Some("") => normaliser.positionals.push(word.to_owned()),
            Some(cluster) => normaliser.cluster(cluster, &mut rest)?,
        }
    }
    let Normaliser { mut normal, positionals, .. } = normaliser;
    normal.push("--".to_owned());
    normal.extend(positionals);
    Ok(normal)
}

struct Normaliser<'a> {
    options: &'a [OptionName],
    normal: Vec<String>,
    positionals: Vec<String>,
}

impl<'a> Normaliser<'a> {
    /// `--name`, `--name value` or `--name=value`.
    fn long(&mut self, word: &str, rest: &mut dyn Iterator<Item = &'a str>) -> Result<(), ConfigError> {
        let (name, attached) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let option = self.named(name).ok_or_else(|| self.unknown(name))?;
        if option.value.is_some() {
            return self.valued(option, attached.or_else(|| rest.next()));
        }
        if let Some(value) = attached {
            let hint = format!("write {} alone", option.long);
            return Err(ConfigError::new(option.long, format!("takes no value, not {value:?}"), hint));
        }
        self.normal.push(option.long.to_owned());
        Ok(())
    }

    /// `-v`, `-s8`, `-s 8` or `-vs8`: switches, then perhaps one option and its value.
    fn cluster(
        &mut self,
        cluster: &'a str,
        rest: &mut dyn Iterator<Item = &'a str>,
    ) -> Result<(), ConfigError> {
        let mut letters = cluster.chars();
        while let Some(letter) = letters.next() {
            let known = self.options.iter().find(|option| option.short == Some(letter));
            let option = known.ok_or_else(|| self.unknown(&format!("-{letter}")))?;
            if option.value.is_some() {
                let attached = Some(letters.as_str()).filter(|value| !value.is_empty());
                return self.valued(option, attached.or_else(|| rest.next()));
            }
            self.normal.push(option.long.to_owned());
        }
        Ok(())
    }

    fn valued(&mut self, option: &OptionName, value: Option<&str>) -> Result<(), ConfigError> {
        let hint = || match option.long {
            // A switch elsewhere.
            "--reload" => "write --reload dev".to_owned(),
            _ => format!("write {} {}", option.long, option.value.unwrap_or_default().to_uppercase()),
        };
        let missing = |fault: String| ConfigError::new(option.long, fault, hint());
        match value {
            None => Err(missing("needs a value".to_owned())),
            // The value was forgotten: hosts and files are not named like options.
            Some(next) if next == "--" || self.named(next).or(self.lettered(next)).is_some() => {
                Err(missing(format!("needs a value, not {next:?}")))
            }
            Some(value) => {
                self.normal.extend([option.long.to_owned(), value.to_owned()]);
                Ok(())
            }
        }
    }

    /// The option of a long name in any spelling.
    fn named(&self, name: &str) -> Option<&'a OptionName> {
        if !name.starts_with("--") {
            return None;
        }
        let name = name.replace('_', "-");
        let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name.as_str(), |(_, long)| long);
        self.options.iter().find(|option| option.long == name)
    }

    /// The option of a short name such as `-s`, alone.
    fn lettered(&self, name: &str) -> Option<&'a OptionName> {
        let mut letters = name.strip_prefix('-')?.chars();
        let letter = letters.next().filter(|_| letters.as_str().is_empty());
        self.options.iter().find(|option| option.short.is_some() && option.short == letter)
    }

    fn unknown(&self, name: &str) -> ConfigError {
        if let Some(advice) = elsewhere::advice(name) {
            return ConfigError::new(name.escape_debug().to_string(), "no such option", advice);
        }
        let near = nearest(name, self.options.iter().map(|option| option.long));
        let hint = match near.filter(|_| name.starts_with("--")) {
            Some(long) => format!("did you mean {long}? see spawn --help"),
            None => "see spawn --help".to_owned(),
        };
        ConfigError::new(name.escape_debug().to_string(), "no such option", hint)
    }
}
