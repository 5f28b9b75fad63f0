//! The text of `--help`: what argh knows of the options, in groups, with the default and the bounds of each.

use super::{OptionName, PROGRAM};
use crate::config;

const WIDTH: usize = 80;
const INDENT: &str = "          ";

/// Groups of options, in the order shown; a test sees to it that none is forgotten.
pub(super) const GROUPS: &[(&str, &[&str])] = &[
    (
        "What to serve",
        &["--factory", "--chdir", "--python-path", "--script-name", "--sysinfo", "--coverage", "--backdoor"],
    ),
    ("Where", &["--host", "--port", "--bind", "--unix-mode", "--unix-owner"]),
    (
        "With what",
        &[
            "--processes",
            "--pin",
            "--threads",
            "--main-thread",
            "--green",
            "--green-requests-max",
            "--queue",
            "--queue-timeout",
            "--drain-delay",
            "--start-timeout",
            "--deadman-timeout",
        ],
    ),
    (
        "Limits of a request",
        &[
            "--request-line-bytes-max",
            "--header-bytes-max",
            "--header-count-max",
            "--header-timeout",
            "--body-bytes-max",
            "--body-timeout",
            "--body-bytes-per-s-min",
            "--strict",
        ],
    ),
    (
        "Limits of a connection",
        &[
            "--no-keepalive",
            "--keepalive-timeout",
            "--requests-per-connection-max",
            "--response-stall-timeout",
            "--connections-max",
            "--reactor",
        ],
    ),
    (
        "What is too large for memory",
        &[
            "--stream-uploads",
            "--buffer-chunked",
            "--spill-directory",
            "--spill-bytes-max",
            "--response-spill-bytes-max",
        ],
    ),
    ("Behind a proxy", &["--trusted-proxies", "--proxy-protocol"]),
    ("As a service", &["--daemonize", "--pidfile", "--stdout", "--stderr", "--chuid"]),
    ("Status", &["--status-port", "--status-host"]),
    ("Where options come from", &["--config", "--check", "--print-config"]),
    ("When to reload", &["--reload", "--watch", "--poll-interval"]),
    (
        "Limits of a worker",
        &[
            "--max-memory",
            "--max-worker-memory",
            "--max-age",
            "--max-requests",
            "--max-requests-jitter",
            "--request-timeout",
            "--stuck-timeout",
        ],
    ),
    (
        "What to print",
        &[
            "--access-log-file",
            "--access-log-format",
            "--access-log-skip",
            "--access-log-skip-ok",
            "--health-path",
            "--log-level",
            "--log-format",
            "--verbose",
            "--completion",
            "--man",
            "--version",
            "--help",
        ],
    ),
];

pub(super) const NOTES: &str = "Seconds may have up to three decimals, bytes may end in K, M or G. Of a repeated option the last \
                     counts, but of --bind, --python-path, --trusted-proxies and --watch each; -- ends the options. Every option may also be given by a \
                     variable, SPAWN_PORT=80, or in the TOML file of --config, port = 80; the command line comes \
                     first, then the environment, then the file.";

const EXAMPLES: &str = "\
Examples:
  spawn mysite.wsgi.application
  spawn --host '' --port 80 --processes 8 --threads 16 mysite.wsgi.application
  spawn --bind unix:/run/mysite/http.sock mysite.wsgi.application
  spawn --factory spawning.django_factory.config_factory mysite.settings
  spawn console --help
";

/// The whole help text, ending with a line feed.
pub(super) fn render(summary: &str, arguments: &str, options: &[OptionName]) -> String {
    let mut sections = vec![
        format!("Usage: {PROGRAM} [options] app [middleware ...]\n"),
        folded(summary, "") + "\n",
        format!("Arguments:\n  app [middleware ...]\n{}\n", folded(arguments, INDENT)),
    ];
    for (title, flags) in GROUPS {
        let named = |flag: &&str| options.iter().find(|option| option.long == *flag);
        let entries: String = flags.iter().filter_map(named).map(entry).collect();
        sections.push(format!("{title}:\n{entries}"));
    }
    sections.extend([folded(NOTES, "") + "\n", EXAMPLES.to_owned()]);
    sections.join("\n")
}

fn entry(option: &OptionName) -> String {
    let values = config::describe(option.long)
        .map(|values| folded(&format!("[default: {}; {}]", values.default, values.bounds), INDENT) + "\n")
        .unwrap_or_default();
    format!("  {}\n{}\n{values}", spelling(option), folded(option.meaning, INDENT))
}

/// An option as its user writes it: `-p, --port NUMBER`.
pub(super) fn spelling(option: &OptionName) -> String {
    let short = option.short.map(|short| format!("-{short}, ")).unwrap_or_default();
    let value = option.value.map(|value| format!(" {}", value.to_uppercase())).unwrap_or_default();
    format!("{short}{}{value}", option.long)
}

fn folded(text: &str, indent: &str) -> String {
    textwrap::fill(text, textwrap::Options::new(WIDTH).initial_indent(indent).subsequent_indent(indent))
}
