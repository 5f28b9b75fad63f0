//! What a config factory is called with, under the names of Spawning 0.9 (`docs/configuration.md`).

use std::path::PathBuf;

use serde::Serialize;

use super::{AccessLog, Bind, Config, GreenLibrary};

/// The options of a run for a config factory; those it knows by other names than the command line.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub struct FactoryOptions<'a> {
    args: &'a [String],
    python_path: &'a [PathBuf],
    host: Option<String>,
    port: Option<u16>,
    num_processes: usize,
    threadpool_workers: usize,
    green: Option<GreenLibrary>,
    watch: &'a [PathBuf],
    source_directories: [&'a str; 0],
    dev: bool,
    access_log_file: String,
    no_keepalive: bool,
    deadman_timeout: f64,
    sysinfo: bool,
    coverage: bool,
    backdoor: bool,
    verbose: bool,
}

impl<'a> From<&'a Config> for FactoryOptions<'a> {
    fn from(config: &'a Config) -> Self {
        let address = config.binds.iter().find_map(|bind| match bind {
            Bind::Tcp(address) => Some(address),
            Bind::Unix(_) | Bind::Abstract(_) | Bind::Fd(_) => None,
        });
        Self {
            args: &config.arguments,
            python_path: &config.application.python_path,
            host: address.map(|address| address.ip().to_string()),
            port: address.map(std::net::SocketAddr::port),
            num_processes: config.processes,
            threadpool_workers: config.threads,
            green: config.green.as_ref().map(|green| green.library),
            watch: &config.reload.watch,
            source_directories: [],
            dev: config.reload.dev,
            access_log_file: match &config.access_log {
                AccessLog::Stdout => "-".to_owned(),
                AccessLog::Off => "/dev/null".to_owned(),
                AccessLog::File(path) => path.to_string_lossy().into_owned(),
            },
            no_keepalive: !config.keep_alive,
            deadman_timeout: config.deadman_timeout.as_secs_f64(),
            sysinfo: config.sysinfo,
            coverage: config.coverage,
            backdoor: config.backdoor,
            verbose: config.verbose,
        }
    }
}
