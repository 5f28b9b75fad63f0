//! One validated, immutable configuration: what every process of the server is told, and nothing else.
//!
//! Each source of options fills [`RawOptions`] with words; [`Config::from_words`] is the only way from words to
//! values, so that a fault is reported alike wherever the word came from.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::{HttpLimits, SITE_CHARS_MAX};

mod application;
mod bind;
mod checks;
pub mod environment;
mod extras;
mod factory_options;
pub mod file;
mod green;
mod logging;
mod pin;
pub mod platform;
mod proxies;
mod quiet;
mod ranges;
mod reactor;
mod service;
pub mod sources;
mod spill;
mod status;
#[cfg(test)]
mod tests;

pub use application::{ApplicationSettings, current_directory};
pub use bind::Bind;
pub use extras::Extra;
pub use factory_options::FactoryOptions;
pub use green::{GreenLibrary, GreenSettings};
pub use logging::{AccessLogFormat, LogFormat, LogLevel, LogPart, Logging};
pub use pin::Pin;
pub use proxies::{Network, Proxies, ProxyProtocol};
pub use quiet::Quiet;
pub use reactor::ReactorChoice;
pub use service::{Account, Service, UnixSocket};
pub use spill::Spill;

/// Everything a run of the server needs to know, checked before anything is bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own on the command line")]
pub struct Config {
    /// Dotted path of the `config_factory(options) -> options` that says which application to serve.
    pub factory: String,
    /// The positional arguments, handed to the factory as `args`.
    pub arguments: Vec<String>,
    /// Where the application is and how it is called.
    pub application: ApplicationSettings,
    /// Where to listen, in the order given.
    pub binds: Vec<Bind>,
    /// `binds` are the default: inherited sockets take their place.
    pub binds_are_default: bool,
    /// How unix sockets are bound.
    pub unix_socket: UnixSocket,
    /// Where the status process listens; `None` is no status process.
    pub status: Option<Bind>,
    /// What a server needs that runs by itself.
    pub service: Service,
    /// Worker processes of one generation.
    pub processes: usize,
    /// Which threads of a worker are kept on its cores.
    pub pin: Pin,
    /// Application threads of each process; 0 in green mode.
    pub threads: usize,
    /// Green mode, if that is on: green threads on the main thread answer requests.
    pub green: Option<GreenSettings>,
    /// Whether a connection may carry more than one request (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// Where access log lines go.
    pub access_log: AccessLog,
    /// What its lines tell.
    pub access_log_format: AccessLogFormat,
    /// What is answered without the application, or not logged.
    pub quiet: Quiet,
    /// What the server says of itself on standard error.
    pub logging: Logging,
    /// Print the configuration at start.
    pub verbose: bool,
    /// Answer `/_sysinfo` with facts about the platform instead of asking the application.
    pub sysinfo: bool,
    /// Measure which lines of the application run, and answer `/_coverage` with a report.
    pub coverage: bool,
    /// Open a Python console in each worker to the user of the server.
    pub backdoor: bool,
    /// How long a draining worker may take before it is killed.
    pub deadman_timeout: Duration,
    /// How long the server serves on once it was told to stop.
    pub drain_delay: Duration,
    /// How long a worker may take to load the application and report ready.
    pub start_timeout: Duration,
    /// Requests that may wait for an application thread in one process; more stay unread in their sockets.
    pub queue_length_max: usize,
    /// How long a request may wait for an application thread before it is answered 503.
    pub queue_timeout: Duration,
    /// What a client may send, and how slowly.
    pub http: HttpLimits,
    /// Which event loop executors use.
    pub reactor: ReactorChoice,
    /// Connections that one process holds; more wait in the kernel's queue.
    pub connections_max: usize,
    /// The application is called before a request's body has arrived.
    pub stream_uploads: bool,
    /// But not before a chunked body has arrived.
    pub buffer_chunked: bool,
    /// What is mended or tolerated otherwise is refused.
    pub strict: bool,
    /// Where bytes go that are too many for memory.
    pub spill: Spill,
    /// Who may say whom it speaks for.
    pub proxies: Proxies,
    /// Which file changes reload the application.
    pub reload: Reload,
    /// What makes a worker be replaced though it has not crashed.
    pub worker_limits: WorkerLimits,
}

/// Which file changes reload the application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// For development: the files of all modules are watched, and a server whose application cannot be loaded waits
    /// for a change instead of exiting.
    pub dev: bool,
    /// Files, and directories with all they contain.
    pub watch: Vec<PathBuf>,
    /// How often to look at what is watched where the kernel is not asked to tell; `None` asks it.
    pub poll: Option<Duration>,
}

impl Reload {
    /// Whether anything is watched at all.
    pub fn is_wanted(&self) -> bool {
        self.dev || !self.watch.is_empty()
    }
}

/// What makes a worker be replaced though it has not crashed; `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerLimits {
    /// Memory of all processes of the server together, shared pages counted once; beyond it all are replaced.
    pub memory_bytes_max: Option<u64>,
    /// Memory of one worker.
    pub worker_memory_bytes_max: Option<u64>,
    /// How long a worker may serve.
    pub age_max: Option<Duration>,
    /// How many requests it may answer.
    pub requests_max: Option<u64>,
    /// Up to so many more, a different number for each worker.
    pub requests_jitter: u64,
    /// How long the application may work on a request without sending a byte.
    pub request_timeout: Option<Duration>,
    /// How long a worker's main thread or an executor may show no life.
    pub stuck_timeout: Option<Duration>,
}

/// The destination of the access log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessLog {
    /// Standard output.
    Stdout,
    /// Nowhere: lines are not even formatted.
    Off,
    /// Appended to a file.
    File(PathBuf),
}

/// The options of one source as words, unchecked; `None` leaves an option at its default.
///
/// A field holds what was given to the option of its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own on the command line")]
pub struct RawOptions {
    pub arguments: Vec<String>,
    pub factory: Option<String>,
    pub chdir: Option<String>,
    pub python_path: Vec<String>,
    pub script_name: Option<String>,
    pub main_thread: bool,
    pub host: Option<String>,
    pub port: Option<String>,
    pub bind: Vec<String>,
    pub unix_mode: Option<String>,
    pub unix_owner: Option<String>,
    pub status_port: Option<String>,
    pub status_host: Option<String>,
    pub daemonize: bool,
    pub pidfile: Option<String>,
    pub stdout: Option<String>,
    pub stderr: Option<String>,
    pub chuid: Option<String>,
    pub processes: Option<String>,
    pub threads: Option<String>,
    pub pin: Option<String>,
    pub green: Option<String>,
    pub green_requests_max: Option<String>,
    pub access_log_file: Option<String>,
    pub access_log_format: Option<String>,
    pub access_log_skip: Vec<String>,
    pub access_log_skip_ok: bool,
    pub health_path: Option<String>,
    pub log_level: Option<String>,
    pub log_format: Option<String>,
    pub verbose: bool,
    pub sysinfo: bool,
    pub coverage: bool,
    pub backdoor: bool,
    pub no_keepalive: bool,
    pub deadman_timeout: Option<String>,
    pub drain_delay: Option<String>,
    pub start_timeout: Option<String>,
    pub queue: Option<String>,
    pub queue_timeout: Option<String>,
    pub request_line_bytes_max: Option<String>,
    pub header_bytes_max: Option<String>,
    pub header_count_max: Option<String>,
    pub body_bytes_max: Option<String>,
    pub header_timeout: Option<String>,
    pub keepalive_timeout: Option<String>,
    pub body_timeout: Option<String>,
    pub body_bytes_per_s_min: Option<String>,
    pub requests_per_connection_max: Option<String>,
    pub response_stall_timeout: Option<String>,
    pub connections_max: Option<String>,
    pub reactor: Option<String>,
    pub stream_uploads: bool,
    pub buffer_chunked: bool,
    pub strict: bool,
    pub spill_directory: Option<String>,
    pub spill_bytes_max: Option<String>,
    pub response_spill_bytes_max: Option<String>,
    pub trusted_proxies: Vec<String>,
    pub proxy_protocol: Option<String>,
    pub reload: Option<String>,
    pub watch: Vec<String>,
    pub poll_interval: Option<String>,
    pub max_memory: Option<String>,
    pub max_worker_memory: Option<String>,
    pub max_age: Option<String>,
    pub max_requests: Option<String>,
    pub max_requests_jitter: Option<String>,
    pub request_timeout: Option<String>,
    pub stuck_timeout: Option<String>,
}

impl Config {
    /// Checks every word, resolves the host, and tries whether the access log can be written; leaves no trace.
    ///
    /// `default_processes` is the number of CPUs the process may run on, measured by the caller.
    ///
    /// # Errors
    /// The first fault found: options before positionals, and last what the operating system has a say in.
    pub fn from_words(raw: &RawOptions, default_processes: usize) -> Result<Self, ConfigError> {
        let port = ranges::PORT.read(raw.port.as_deref())?;
        let processes = ranges::PROCESSES.or_default(default_processes).read(raw.processes.as_deref())?;
        let (threads, green) = green::threads(raw)?;
        let deadman_timeout = ranges::DEADMAN_TIMEOUT.read_time(raw.deadman_timeout.as_deref())?;
        let start_timeout = ranges::START_TIMEOUT.read_time(raw.start_timeout.as_deref())?;
        let queue_length_max = ranges::QUEUE.read(raw.queue.as_deref())?;
        let queue_timeout = ranges::QUEUE_TIMEOUT.read_time(raw.queue_timeout.as_deref())?;
        let http = http_limits(raw)?;
        let connections_max: usize = ranges::CONNECTIONS_MAX.read(raw.connections_max.as_deref())?;
        let connections_max = match &green {
            // Who raises that limit wants the connections for it.
            Some(green) if raw.connections_max.is_none() => connections_max.max(green.requests_max),
            _ => connections_max,
        };
        let spill = spill::spill(raw)?;
        let worker_limits = worker_limits(raw)?;
        let logging = logging::read(raw)?;
        let factory = checks::factory(raw.factory.as_deref())?;
        // First, as one without its value swallows the application.
        let reload = reload(raw)?;
        checks::arguments(&factory, &raw.arguments)?;
        let binds = bind::read_all(raw, port)?;
        Ok(Self {
            factory,
            arguments: raw.arguments.clone(),
            processes,
            pin: pin::read(raw)?,
            threads,
            green,
            keep_alive: !raw.no_keepalive,
            verbose: raw.verbose,
            sysinfo: raw.sysinfo,
            coverage: raw.coverage,
            backdoor: raw.backdoor,
            deadman_timeout,
            drain_delay: ranges::DRAIN_DELAY.read_time(raw.drain_delay.as_deref())?,
            start_timeout,
            queue_length_max,
            queue_timeout,
            http,
            status: status::read(raw, &binds)?,
            binds,
            connections_max,
            reactor: reactor::read(raw.reactor.as_deref())?,
            stream_uploads: spill::stream_uploads(raw, threads)?,
            buffer_chunked: raw.buffer_chunked,
            strict: raw.strict,
            spill,
            binds_are_default: raw.host.is_none() && raw.port.is_none() && raw.bind.is_empty(),
            unix_socket: service::unix_socket(raw)?,
            service: service::service(raw)?,
            proxies: proxies::read(raw)?,
            worker_limits,
            reload,
            application: application::read(raw)?,
            access_log_format: logging::access(raw.access_log_format.as_deref(), logging)?,
            quiet: quiet::read(raw)?,
            logging,
            access_log: checks::access_log(raw.access_log_file.as_deref())?,
        })
    }

    /// Threads that run the application in each process: in green mode the main thread does, alone.
    pub fn application_threads(&self) -> usize {
        self.threads.max(1)
    }

    /// What `ps` shows beside each process to tell sites apart: the application, the settings or the file that is
    /// served. Arguments of a factory are left out, as everybody on the machine can read it.
    pub fn site(&self) -> String {
        let own_factory = self.factory.starts_with("spawning.");
        let name = self.arguments.first().filter(|_| own_factory).unwrap_or(&self.factory);
        let name = name.split_once('(').map_or(name.as_str(), |(name, _)| name);
        name.chars().filter(|letter| !letter.is_control()).take(SITE_CHARS_MAX).collect()
    }

    /// Whether the application is named by its dotted path, with no factory of the user's in between.
    pub fn has_default_factory(&self) -> bool {
        self.factory == checks::FACTORY_DEFAULT
    }
}

fn reload(raw: &RawOptions) -> Result<Reload, ConfigError> {
    let interval = ranges::POLL_INTERVAL.read_time(raw.poll_interval.as_deref())?;
    let how = checks::reload(raw.reload.as_deref())?;
    Ok(Reload {
        dev: how.is_some(),
        watch: checks::watch(&raw.watch)?,
        poll: (how == Some(checks::How::Poll)).then_some(interval),
    })
}

fn http_limits(raw: &RawOptions) -> Result<HttpLimits, ConfigError> {
    Ok(HttpLimits {
        request_line_bytes_max: ranges::REQUEST_LINE_BYTES_MAX.read(raw.request_line_bytes_max.as_deref())?,
        header_bytes_max: ranges::HEADER_BYTES_MAX.read(raw.header_bytes_max.as_deref())?,
        header_count_max: ranges::HEADER_COUNT_MAX.read(raw.header_count_max.as_deref())?,
        body_bytes_max: ranges::BODY_BYTES_MAX.read(raw.body_bytes_max.as_deref())?,
        header_timeout: ranges::HEADER_TIMEOUT.read_time(raw.header_timeout.as_deref())?,
        keepalive_timeout: ranges::KEEPALIVE_TIMEOUT.read_time(raw.keepalive_timeout.as_deref())?,
        body_timeout: ranges::BODY_TIMEOUT.read_time(raw.body_timeout.as_deref())?,
        body_bytes_per_s_min: ranges::BODY_BYTES_PER_S_MIN.read(raw.body_bytes_per_s_min.as_deref())?,
        requests_per_connection_max: ranges::REQUESTS_PER_CONNECTION_MAX
            .read(raw.requests_per_connection_max.as_deref())?,
        response_stall_timeout: ranges::RESPONSE_STALL_TIMEOUT
            .read_time(raw.response_stall_timeout.as_deref())?,
        non_ascii_target: !raw.strict,
    })
}

fn worker_limits(raw: &RawOptions) -> Result<WorkerLimits, ConfigError> {
    let kibibytes = |range: ranges::Range, word: Option<&str>| {
        Ok(range.read_limit(word)?.map(|kibibytes: u64| kibibytes.saturating_mul(1024)))
    };
    let time =
        |range: ranges::Range, word: Option<&str>| Ok(range.read_limit(word)?.map(Duration::from_millis));
    Ok(WorkerLimits {
        memory_bytes_max: kibibytes(ranges::MAX_MEMORY, raw.max_memory.as_deref())?,
        worker_memory_bytes_max: kibibytes(ranges::MAX_WORKER_MEMORY, raw.max_worker_memory.as_deref())?,
        age_max: time(ranges::MAX_AGE, raw.max_age.as_deref())?,
        requests_max: ranges::MAX_REQUESTS.read_limit(raw.max_requests.as_deref())?,
        requests_jitter: ranges::MAX_REQUESTS_JITTER.read(raw.max_requests_jitter.as_deref())?,
        request_timeout: time(ranges::REQUEST_TIMEOUT, raw.request_timeout.as_deref())?,
        stuck_timeout: time(ranges::STUCK_TIMEOUT, raw.stuck_timeout.as_deref())?,
    })
}

/// What the user got wrong: where, what, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The option or positional at fault, as its user writes it.
    pub flag: String,
    /// What is wrong with it, and the bound it crosses.
    pub fault: String,
    /// What would be right.
    pub hint: String,
}

impl ConfigError {
    pub(crate) fn new(flag: impl Into<String>, fault: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { flag: flag.into(), fault: fault.into(), hint: hint.into() }
    }
}

impl fmt::Display for ConfigError {
    /// One line `flag: fault` and one line `hint: ..`, without a line feed at the end.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}\nhint: {}", self.flag, self.fault, self.hint)
    }
}

impl std::error::Error for ConfigError {}

/// What help and documentation say of an option that takes a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The default, as a user would write it or in words.
    pub default: String,
    /// The values allowed.
    pub bounds: String,
}

/// The default and bounds of an option such as `--port`; `None` for a switch.
pub fn describe(flag: &str) -> Option<Description> {
    ranges::ALL
        .iter()
        .find(|range| range.flag == flag)
        .map(|range| Description { default: range.default_text(), bounds: range.bounds_text() })
        .or_else(|| checks::describe(flag))
        .or_else(|| application::describe(flag))
        .or_else(|| bind::describe(flag))
        .or_else(|| green::describe(flag))
        .or_else(|| pin::describe(flag))
        .or_else(|| service::describe(flag))
        .or_else(|| status::describe(flag))
        .or_else(|| logging::describe(flag))
        .or_else(|| reactor::describe(flag))
        .or_else(|| spill::describe(flag))
        .or_else(|| proxies::describe(flag))
        .or_else(|| quiet::describe(flag))
}
