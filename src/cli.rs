//! The command line: words to options, without effects; the caller prints and exits.

use std::io::{self, Write};
use std::sync::LazyLock;

use argh::{ArgsInfo, FlagInfoKind};

use crate::config::{Config, ConfigError, RawOptions};

mod completion;
mod elsewhere;
mod help;
mod manual;
mod normal;
mod settings;
#[cfg(test)]
mod tests;
mod words;

pub use settings::{CliAction, CliSettings};
use words::Words;

/// The name of the program, before every complaint.
pub const PROGRAM: &str = "spawn";

/// A command line was used wrongly: `EX_USAGE` of BSD's sysexits.
pub const EXIT_USAGE: i32 = 64;

/// Why the program ends before it has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The status to exit with.
    pub status: i32,
    /// What to print first; ends with a line feed.
    pub output: String,
    /// Print to standard output, not to standard error.
    pub to_stdout: bool,
}

impl Exit {
    /// An answer to what was asked for.
    pub fn answer(output: String) -> Self {
        Self { status: 0, output, to_stdout: true }
    }

    /// Prints what is to be printed, and returns the status to exit with.
    pub fn report(&self) -> i32 {
        // A reader that is gone, such as `head`, needs no message.
        let _ = if self.to_stdout {
            io::stdout().write_all(self.output.as_bytes())
        } else {
            io::stderr().write_all(self.output.as_bytes())
        };
        self.status
    }
}

impl From<ConfigError> for Exit {
    fn from(error: ConfigError) -> Self {
        Self { status: EXIT_USAGE, output: format!("{PROGRAM}: {error}\n"), to_stdout: false }
    }
}

/// The command line of one run as options, unchecked but for their names; other sources are [`CliSettings`]' part.
///
/// # Errors
/// Not an error alone: `--help` and its like are answered this way too, with status 0. An unknown option or a
/// missing value is [`EXIT_USAGE`].
pub fn parse(words: &[String]) -> Result<RawOptions, Exit> {
    CliSettings::of_command_line(words)?.raw()
}

/// The command line of one run as a checked configuration; see [`parse`] and [`Config::from_words`].
///
/// # Errors
/// What either of the two refuses.
pub fn configure(words: &[String], default_processes: usize) -> Result<Config, Exit> {
    CliSettings::of_command_line(words)?.config(default_processes)
}

/// The text of `spawn --help`.
pub fn help() -> String {
    let info = Words::get_args_info();
    let arguments = info.positionals.first().map_or("", |positional| positional.description);
    help::render(info.description, arguments, options())
}

/// The page that `spawn --man` prints.
pub fn manual() -> String {
    let info = Words::get_args_info();
    let arguments = info.positionals.first().map_or("", |positional| positional.description);
    manual::page(info.description, arguments, options())
}

/// What the argh structs say of an option, for the normaliser, the help text and the documentation.
struct OptionName {
    long: &'static str,
    short: Option<char>,
    /// The placeholder of its value; `None` for a switch.
    value: Option<&'static str>,
    meaning: &'static str,
}

fn options() -> &'static [OptionName] {
    static OPTIONS: LazyLock<Vec<OptionName>> = LazyLock::new(|| {
        let named = Words::get_args_info().flags.iter().map(|flag| OptionName {
            long: flag.long,
            short: flag.short.or((flag.long == "--help").then_some('h')),
            value: match flag.kind {
                FlagInfoKind::Option { arg_name } => Some(arg_name),
                FlagInfoKind::Switch => None,
            },
            meaning: flag.description,
        });
        named.collect()
    });
    &OPTIONS
}
