//! The options of one run from all their sources, of which the strongest that gives an option counts.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write;
use std::sync::LazyLock;

use argh::FromArgs;

use super::{EXIT_USAGE, Exit, OptionName, PROGRAM, Words, completion, help, manual, normal, options};
use crate::config::sources::{APP, Given, Layer, Settable, Source};
use crate::config::{self, Config, ConfigError, RawOptions, environment, file, platform};

/// Options that say what to do rather than how, so that only a command line can give them.
const ACTIONS: [&str; 6] = ["--help", "--version", "--man", "--completion", "--check", "--print-config"];

/// Options of which every mention counts, not the last alone.
const REPEATABLE: [&str; 6] =
    [APP, "--access-log-skip", "--bind", "--python-path", "--trusted-proxies", "--watch"];

/// What to do with the options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CliAction {
    /// Serve.
    Serve,
    /// Load the application and say whether that went well.
    Check,
    /// Print the options.
    PrintConfig,
}

/// The options of all sources.
#[derive(Clone, Debug)]
pub struct CliSettings {
    /// The strongest first.
    layers: Vec<Layer>,
    /// What platforms set by variables of their own, weaker than any layer.
    platform: Vec<Layer>,
}

impl CliSettings {
    /// Reads a command line, the variables of this server among those of the environment, and the file either names.
    ///
    /// # Errors
    /// As of [`super::parse`]; a fault names its source.
    pub fn read(
        words: &[String],
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Exit> {
        let mut settings = Self::of_command_line(words)?;
        let variables: Vec<(OsString, OsString)> = variables.into_iter().collect();
        settings.platform = platform::layers(&variables);
        settings.layers.push(environment::layer(variables, settable())?);
        let layer = match settings.words()?.config.pop() {
            Some(name) => {
                Some(file::named(&name, settable_in_files()).map_err(|error| settings.sourced(error))?)
            }
            None => file::project(settable_in_files())?,
        };
        settings.layers.extend(layer);
        Ok(settings)
    }

    /// The command line alone.
    pub(super) fn of_command_line(words: &[String]) -> Result<Self, Exit> {
        let layer = command_line(normal::normalise(words, options())?, options());
        if layer.options.contains_key("--help") {
            return Err(Exit::answer(help()));
        }
        let settings = Self { layers: vec![layer], platform: Vec::new() };
        let words = settings.words()?;
        if words.version {
            return Err(Exit::answer(format!("Spawning {}\n", env!("CARGO_PKG_VERSION"))));
        }
        if words.man {
            return Err(Exit::answer(manual()));
        }
        if let Some(shell) = words.completion.last() {
            return Err(Exit::answer(completion::script(shell, options())?));
        }
        Ok(settings)
    }

    /// Adds, as the weakest source, what the config factory named `factory` answered in JSON.
    ///
    /// # Errors
    /// [`EXIT_USAGE`] when it is no answer.
    pub fn add_answer(&mut self, json: &[u8], factory: &str) -> Result<(), Exit> {
        self.layers.push(file::answer(json, factory, settable_in_files())?);
        Ok(())
    }

    /// What to do.
    ///
    /// # Errors
    /// None for settings that could be read.
    pub fn action(&self) -> Result<CliAction, Exit> {
        let words = self.words()?;
        Ok(match (words.check, words.print_config) {
            (true, _) => CliAction::Check,
            (false, true) => CliAction::PrintConfig,
            (false, false) => CliAction::Serve,
        })
    }

    /// The options as words, each from its strongest source.
    pub(super) fn raw(&self) -> Result<RawOptions, Exit> {
        Ok(self.words()?.into())
    }

    /// The options, checked; see [`Config::from_words`].
    ///
    /// # Errors
    /// [`EXIT_USAGE`] for the first fault found, which names its source.
    pub fn config(&self, default_processes: usize) -> Result<Config, Exit> {
        Config::from_words(&self.raw()?, default_processes).map_err(|error| self.sourced(error).into())
    }

    /// The refusal of an option whose fault only the caller can find; it names its source.
    pub fn refuse(&self, error: ConfigError) -> Exit {
        self.sourced(error).into()
    }

    /// Every option, its value and where it came from: the answer to `--print-config`.
    pub fn table(&self, config: &Config) -> String {
        let flags = help::GROUPS.iter().flat_map(|(_, flags)| flags.iter().copied());
        let flags = flags.filter(|flag| !ACTIONS.contains(flag));
        let rows: Vec<[String; 3]> = [APP]
            .into_iter()
            .chain(flags)
            .filter(|flag| *flag == APP || options().iter().any(|option| option.long == *flag))
            .map(|flag| self.row(flag, config))
            .collect();
        let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max();
        let (first, second) = (width(0).unwrap_or(0), width(1).unwrap_or(0));
        rows.iter().fold(String::new(), |mut text, [name, value, origin]| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:first$}  {value:second$}  {origin}");
            text
        })
    }

    fn row(&self, flag: &str, config: &Config) -> [String; 3] {
        let name = flag.trim_start_matches('-').to_owned();
        match self.given(flag) {
            Some((source, Given::Words(words))) => [name, shown(flag, words), source.origin(flag)],
            Some((source, Given::Switch(on))) => [name, on.to_string(), source.origin(flag)],
            None if flag == "--processes" => [name, config.processes.to_string(), "default".to_owned()],
            None => {
                let value = config::describe(flag).map_or_else(|| "false".to_owned(), |it| it.default);
                [name, value, "default".to_owned()]
            }
        }
    }

    /// What the strongest source that has the option gives to it.
    fn given(&self, flag: &str) -> Option<(&Source, &Given)> {
        let platform = self.platform.iter().filter(|layer| self.counts(layer));
        find(self.layers.iter().chain(platform), flag)
    }

    /// Whether no stronger source has chosen what would make a platform's variable mean something else.
    fn counts(&self, platform: &Layer) -> bool {
        let Source::Variable(name) = &platform.source else { return true };
        platform::yields_to(name).iter().all(|flag| find(self.layers.iter(), flag).is_none())
    }

    /// Tells a fault as the source of the option would.
    fn sourced(&self, error: ConfigError) -> ConfigError {
        let flag = if error.flag == "middleware" { APP.to_owned() } else { error.flag.clone() };
        match self.given(&flag) {
            None | Some((Source::CommandLine, _)) => error,
            Some((source, _)) => source.retell(ConfigError { flag, ..error }),
        }
    }

    /// One command line that says what all sources together say.
    fn words(&self) -> Result<Words, Exit> {
        let mut words = Vec::new();
        for option in options() {
            match self.given(option.long) {
                Some((_, Given::Words(values))) => {
                    words.extend(values.iter().flat_map(|value| [option.long, value.as_str()]));
                }
                Some((_, Given::Switch(true))) => words.push(option.long),
                Some((_, Given::Switch(false))) | None => {}
            }
        }
        words.push("--");
        if let Some((_, Given::Words(arguments))) = self.given(APP) {
            words.extend(arguments.iter().map(String::as_str));
        }
        Words::from_args(&[PROGRAM], &words).map_err(|exit| Exit {
            status: EXIT_USAGE,
            output: exit.output,
            to_stdout: false,
        })
    }
}

fn find<'a>(mut layers: impl Iterator<Item = &'a Layer>, flag: &str) -> Option<(&'a Source, &'a Given)> {
    layers.find_map(|layer| layer.options.get(flag).map(|given| (&layer.source, given)))
}

fn command_line(normal: Vec<String>, options: &[OptionName]) -> Layer {
    let mut given: BTreeMap<&'static str, Given> = BTreeMap::new();
    let mut rest = normal.into_iter();
    while let Some(word) = rest.next().filter(|word| word != "--") {
        let Some(option) = options.iter().find(|option| option.long == word) else { continue };
        if option.value.is_none() {
            given.insert(option.long, Given::Switch(true));
        } else if let Given::Words(words) =
            given.entry(option.long).or_insert_with(|| Given::Words(Vec::new()))
        {
            words.extend(rest.next());
        }
    }
    let arguments: Vec<String> = rest.collect();
    if !arguments.is_empty() {
        given.insert(APP, Given::Words(arguments));
    }
    Layer { source: Source::CommandLine, options: given }
}

/// What sources other than the command line may set.
fn settable() -> &'static [Settable] {
    static SETTABLE: LazyLock<Vec<Settable>> = LazyLock::new(|| {
        let named =
            options().iter().filter(|option| !ACTIONS.contains(&option.long)).map(|option| Settable {
                flag: option.long,
                takes_value: option.value.is_some(),
                is_repeatable: REPEATABLE.contains(&option.long),
            });
        named.chain([Settable { flag: APP, takes_value: true, is_repeatable: true }]).collect()
    });
    &SETTABLE
}

/// A file cannot name another one.
fn settable_in_files() -> &'static [Settable] {
    static SETTABLE: LazyLock<Vec<Settable>> =
        LazyLock::new(|| settable().iter().filter(|option| option.flag != "--config").copied().collect());
    &SETTABLE
}

/// Of a repeated option that takes one value the last counts. Printed without control characters.
fn shown(flag: &str, words: &[String]) -> String {
    let words = if REPEATABLE.contains(&flag) {
        words
    } else {
        words.split_at_checked(words.len().saturating_sub(1)).map_or(words, |(_, last)| last)
    };
    words.join(" ").escape_debug().to_string()
}

#[cfg(test)]
mod tests;
