//! The start of a supervisor, up to its first event.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::changes::Changes;
use super::generation::{Generations, Settings, SupervisorEvent};
use super::handover::Predecessor;
use super::identity::Identities;
use super::inspection::Inspection;
use super::launch::{Launch, Outputs};
use super::listeners::{Inherited, Listeners, Unbound};
use super::notify_socket::NotifySocket;
use super::pid_file::PidFile;
use super::preflight::pause;
use super::private_directory::PrivateDirectory;
use super::status_process::StatusProcess;
use super::working_directory::WorkingDirectory;
use super::{Commands, SPARE_ROWS, Supervisor, announcements, identity, preflight, refused};
use crate::config::{AccessLog, Config};
use crate::limits::PROCESSES_SPARE;
use crate::scoreboard::{Dimensions, Scoreboard};
use crate::sys::resource_limit::OPEN_FILES;
use crate::sys::{affinity, clock, file};

impl<'a> Supervisor<'a> {
    /// Makes all that outlives any worker, in the order in which a failure leaves nothing behind.
    pub(super) fn start(
        mut config: Config,
        commands: Commands,
        python_version: &str,
        (inherited, mut predecessor): (Vec<Inherited>, Option<Predecessor>),
        launch: &'a mut Launch,
    ) -> Result<Self, Unbound> {
        let identities = Identities::look_up(&config, predecessor.is_some())?;
        preflight::choose_reactor(&mut config)?.inspect(|reason| launch.say(reason));
        let (signals, cores) =
            preflight::prepare_process().map_err(|error| refused("prepare this process", &error))?;
        let pid_file = config.service.pid_file.as_deref().filter(|_| predecessor.is_none());
        let pid_file = pid_file.map(PidFile::write).transpose()?;
        let owner = identities.server.as_ref();
        let outputs = Outputs::open(&config.service, owner, predecessor.is_some())?;
        launch.say(&announcements::greeting(python_version));
        announcements::few_files(&config, OPEN_FILES.hard()).inspect(|warning| launch.say(warning));
        let listeners =
            Listeners::open(&config, identities.sockets.as_ref(), inherited, |wait| pause(&signals, wait))?;
        let addresses = listeners.addresses();
        launch.say(&announcements::listening(
            &addresses.map_err(|error| refused("read a socket's address", &error))?,
        ));
        let status = predecessor.as_mut().and_then(|predecessor| predecessor.status.take());
        let status =
            StatusProcess::open(&config, identities.sockets.as_ref(), status, |wait| pause(&signals, wait))?;
        if let Some(status) = &status {
            let addresses = status.listeners().addresses();
            launch.say(&announcements::status(
                &addresses.map_err(|error| refused("read a socket's address", &error))?,
            ));
        }
        if config.verbose {
            launch.say(&format!("{config:#?}"));
        }
        if let Some(identity) = owner {
            if let AccessLog::File(path) = &config.access_log {
                // Made while this process still may; why it cannot be, the user's own try will tell.
                let _ = file::append(path, owner);
            }
            identity::assume(identity, &config, &commands.worker)?;
        }
        preflight::no_spill(&config.spill).inspect(|warning| launch.say(warning));
        let private_directory = PrivateDirectory::create(&config)?;
        launch.redirect(outputs).map_err(|error| refused("redirect the standard streams", &error))?;
        let settings = Settings {
            processes: config.processes,
            processes_max: 2 * config.processes + PROCESSES_SPARE,
            start_timeout: config.start_timeout,
            drain_delay: config.drain_delay,
            drain_timeout: config.deadman_timeout,
            failures_watch: config.reload.dev,
            // With a supervisor before this one it is better to go and let that one keep serving.
            waits_for_first: config.reload.dev && predecessor.is_none(),
        };
        let dimensions = Dimensions {
            rows: settings.workers_max() + SPARE_ROWS,
            // Cores may be added later.
            executors: affinity::machine_cores().max(cores.now.len()).div_ceil(config.processes.max(1)),
            threads: config.application_threads(),
        };
        let scoreboard = Scoreboard::create(dimensions);
        let (scoreboard, scoreboard_fd) =
            scoreboard.map_err(|error| refused("share memory with workers", &error))?;
        let score =
            scoreboard.supervisor().ok_or_else(|| refused("share memory with workers", &"too small"))?;
        score.begin(std::process::id(), clock::monotonic_ms());
        score.set_processes(config.processes);
        let inspection = Inspection::new(config.worker_limits.clone(), Instant::now());
        Ok(Self {
            launch,
            notify: NotifySocket::from_environment(),
            pid_file,
            working_directory: WorkingDirectory::new(&config),
            config,
            commands,
            cores,
            signals,
            listeners,
            private_directory,
            status,
            scoreboard,
            score,
            scoreboard_fd,
            dimensions,
            rows_free: (0..dimensions.rows).collect(),
            workers: BTreeMap::new(),
            generations: Generations::new(settings),
            inspection,
            predecessor,
            successor: None,
            changes: Changes::default(),
            events: VecDeque::from([SupervisorEvent::Reload]),
            has_served: false,
            is_stopping: false,
            closing: None,
        })
    }
}
