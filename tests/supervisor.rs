//! The supervisor with real processes, signals and sockets.
//!
//! This program plays all parts: the tests start it again as a supervisor, and the supervisor starts it as workers. The
//! tests named `play_...` are those parts, and do nothing when nobody asked for them. A worker answers every connection
//! with its process id, generation and slot, and misbehaves as the file named in `BEHAVIOUR` says when it is born.
#![allow(clippy::exit, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, missing_docs)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use spawning::bootstrap::{Order, Report, WorkerResources};
use spawning::config::{
    AccessLog, AccessLogFormat, ApplicationSettings, Bind, Config, Logging, Pin, Proxies, Quiet,
    ReactorChoice, Reload, Service, Spill, UnixSocket, WorkerLimits,
};
use spawning::limits::HttpLimits;
use spawning::scoreboard::WorkerState;
use spawning::supervisor::Commands;
use spawning::{supervisor, sys};

/// Longer than anything here takes on a slow machine; waits end when what they wait for is there.
const TIMEOUT: Duration = Duration::from_secs(90);

/// The signals a supervisor reads.
const SUPERVISED: [Signal; 5] =
    [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGCHLD];

// === The supervisor's part ===

#[test]
fn play_supervisor() {
    let Ok(config) = std::env::var("CONFIG") else { return };
    let config: Config = serde_json::from_str(&config).unwrap();
    if std::env::var_os("STRANGER").is_some() {
        adopt_stranger();
    }
    let worker = ["--exact", "play_worker", "--nocapture", "--test-threads=1"];
    let mut command = vec![std::env::current_exe().unwrap().into_os_string()];
    command.extend(worker.map(Into::into));
    let commands = Commands { worker: command, status: Vec::new() };
    std::process::exit(supervisor::run(config, commands, "Test 1.0"));
}

/// Inherits a child that is no worker, as process 1 of a container does, and says its number.
fn adopt_stranger() {
    set_child_subreaper(true).unwrap();
    let script = "(sleep 0.3; exit 7) 2>&- & echo stranger $! >&2";
    assert!(Command::new("sh").args(["-c", script]).status().unwrap().success());
}

// === The worker's part ===

#[test]
fn play_worker() {
    let Some(bootstrap) = std::env::args().find_map(|word| word.parse().ok()) else { return };
    let resources = WorkerResources::receive(bootstrap).unwrap();
    let behaviour = fs::read_to_string(std::env::var("BEHAVIOUR").unwrap()).unwrap();
    match behaviour.as_str() {
        "fail" => {
            let report =
                Report::Failed { summary: "no app".into(), traceback: "Traceback of the app".into() };
            resources.control.send(&report).unwrap();
            std::process::exit(70);
        }
        "crash" => std::process::abort(),
        "hang" => loop {
            std::thread::park();
        },
        _ => serve(&resources, &behaviour),
    }
}

fn serve(resources: &WorkerResources, behaviour: &str) {
    let score = resources.scoreboard.process(resources.bootstrap.row).unwrap();
    resources.control.send(&Report::Ready).unwrap();
    if resources.control.receive().unwrap() != Some(Order::Accept) {
        std::process::exit(0);
    }
    score.set_state(WorkerState::Accepting);
    let listener = TcpListener::from(resources.listeners[0].0.as_fd().try_clone_to_owned().unwrap());
    loop {
        let readable = sys::wait::readable(&[resources.control.as_fd(), listener.as_fd()], None).unwrap();
        if readable[0] && resources.control.receive().unwrap() != Some(Order::Accept) {
            if behaviour == "never drain" {
                loop {
                    std::thread::park();
                }
            }
            std::process::exit(0);
        }
        if let Ok((mut stream, _)) = listener.accept() {
            stream.write_all(introduction(resources).as_bytes()).unwrap();
        }
    }
}

fn introduction(resources: &WorkerResources) -> String {
    let mut fds: Vec<String> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| {
            fs::read_link(entry.unwrap().path()).map_or(String::new(), |path| path.display().to_string())
        })
        .collect();
    fds.sort();
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let ignored = status.lines().find(|line| line.starts_with("SigIgn")).unwrap();
    let blocked = status.lines().find(|line| line.starts_with("SigBlk")).unwrap();
    let bootstrap = &resources.bootstrap;
    let accepting = resources.scoreboard.snapshot().workers.len();
    format!(
        "pid={}\ngeneration={}\nslot={}\ncores={:?}\nworkers={accepting}\n{ignored}\n{blocked}\nfds={}\n",
        std::process::id(),
        bootstrap.generation,
        bootstrap.slot,
        bootstrap.cores,
        fds.join(" "),
    )
}

// === The tests' part ===

struct Server {
    child: Child,
    behaviour: PathBuf,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Server {
    fn start(name: &str, behaviour: &str, change: impl FnOnce(&mut Config)) -> Self {
        Self::start_under(&["env"], name, behaviour, change)
    }

    /// Starts a server by way of a program that changes something about its process.
    fn start_under(wrapper: &[&str], name: &str, behaviour: &str, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        change(&mut config);
        let path = std::env::temp_dir().join(format!("spawning-supervisor-{}-{name}", std::process::id()));
        fs::write(&path, behaviour).unwrap();
        // A test runs on a second thread, but a supervisor expects to be alone: the first must not take its signals. A
        // mask is inherited, by processes and by threads.
        let mask: SigSet = SUPERVISED.into_iter().collect();
        mask.thread_block().unwrap();
        let mut child = Command::new(wrapper[0])
            .args(&wrapper[1..])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "play_supervisor", "--nocapture", "--test-threads=1"])
            .env("CONFIG", serde_json::to_string(&config).unwrap())
            .env("BEHAVIOUR", &path)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        mask.thread_unblock().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, behaviour: path, lines, said: Vec::new() }
    }

    fn serving(name: &str, change: impl FnOnce(&mut Config)) -> (Self, SocketAddr) {
        let mut server = Self::start(name, "serve", change);
        let listening = server.wait_for("listening on http://");
        let address = listening.rsplit('/').next().unwrap().parse().unwrap();
        server.wait_for("ready: ");
        (server, address)
    }

    /// Waits for a line on standard error that contains `text`.
    fn wait_for(&mut self, text: &str) -> String {
        let until = Instant::now() + TIMEOUT;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else { panic!("no {text:?} in {:#?}", self.said) };
            self.said.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    fn behave(&self, behaviour: &str) {
        fs::write(&self.behaviour, behaviour).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// The exit status, and everything it said.
    fn end(mut self) -> (i32, Vec<String>) {
        let until = Instant::now() + TIMEOUT;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "it does not end: {:#?}", self.said);
            std::thread::sleep(Duration::from_millis(5));
        }
        self.said.extend(self.lines.iter());
        (self.child.wait().unwrap().code().unwrap(), std::mem::take(&mut self.said))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.behaviour);
    }
}

fn config() -> Config {
    Config {
        factory: "unused".into(),
        arguments: Vec::new(),
        application: ApplicationSettings::default(),
        binds: vec![Bind::Tcp("127.0.0.1:0".parse().unwrap())],
        binds_are_default: false,
        unix_socket: UnixSocket::default(),
        status: None,
        service: Service::default(),
        processes: 2,
        green: None,
        coverage: false,
        backdoor: false,
        pin: Pin::None,
        threads: 3,
        keep_alive: true,
        access_log: AccessLog::Off,
        access_log_format: AccessLogFormat::default(),
        quiet: Quiet::default(),
        logging: Logging::default(),
        verbose: false,
        sysinfo: false,
        deadman_timeout: TIMEOUT,
        drain_delay: Duration::ZERO,
        start_timeout: TIMEOUT,
        queue_length_max: 1,
        queue_timeout: Duration::from_secs(1),
        http: HttpLimits::default(),
        connections_max: 100,
        reactor: ReactorChoice::Auto,
        stream_uploads: false,
        buffer_chunked: false,
        strict: false,
        spill: Spill::default(),
        proxies: Proxies::default(),
        reload: Reload::default(),
        worker_limits: WorkerLimits::default(),
    }
}

/// What a worker says of itself.
struct Introduction(String);

impl Introduction {
    fn of(address: SocketAddr) -> Self {
        let mut text = String::new();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.read_to_string(&mut text).unwrap();
        Self(text)
    }

    fn get(&self, name: &str) -> &str {
        let line =
            self.0.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{}", self.0));
        line.trim_start_matches(['=', ':']).trim()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.get("pid").parse().unwrap())
    }
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + TIMEOUT;
    while !condition() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An orphan's new parent may take its time to reap it: a zombie is dead enough.
fn is_alive(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_start_says_three_lines_and_a_stop_leaves_nobody() {
    let (server, address) = Server::serving("start", |_| {});
    let worker = Introduction::of(address);
    assert_eq!(worker.get("generation"), "1");
    assert_eq!(worker.get("workers"), "2");
    server.signal(Signal::SIGTERM);
    let (status, said) = server.end();
    // Three lines say that it has started, one that it stops.
    assert_eq!((status, said.len()), (0, 4), "{said:#?}");
    assert!(said[3].contains("stopping: draining"), "{said:?}");
    assert!(said[0].starts_with("Spawning ") && said[0].contains(" on Test 1.0, pid "), "{said:?}");
    assert!(said[2].starts_with("ready: 2 processes x 3 threads on core"), "{said:?}");
    assert!(!is_alive(worker.pid()));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_worker_is_born_with_what_it_needs_and_nothing_else() {
    let (_server, address) = Server::serving("bootstrap", |config| config.processes = 1);
    let worker = Introduction::of(address);
    assert_ne!(worker.get("cores"), "[]");
    // Bits 0 and 1 are SIGHUP and SIGINT, which a terminal sends to the whole process group.
    assert_eq!(u64::from_str_radix(worker.get("SigIgn"), 16).unwrap() & 0b11, 0b11);
    assert_eq!(u64::from_str_radix(worker.get("SigBlk"), 16).unwrap(), 0);
    let fds = worker.get("fds");
    let sockets = fds.split(' ').filter(|fd| fd.starts_with("socket:")).count();
    // The listener, its clone in this test, the control socket, the connection.
    assert_eq!(sockets, 4, "{fds}");
    assert_eq!(fds.matches("/dev/null").count(), 2, "standard input and this test's standard output: {fds}");
    assert!(!fds.contains("signalfd") && !fds.contains("spawning-bootstrap"), "{fds}");
}

#[test]
fn a_reload_replaces_all_workers_and_refuses_no_connection() {
    let (mut server, address) = Server::serving("reload", |_| {});
    let old = Introduction::of(address).pid();
    server.signal(Signal::SIGHUP);
    let began = Instant::now();
    loop {
        let worker = Introduction::of(address);
        if worker.get("generation") == "2" {
            break;
        }
        assert!(began.elapsed() < TIMEOUT);
    }
    server.wait_for("a new generation serves");
    until("the old worker ends", || !is_alive(old));
    until("the old generation is gone", || Introduction::of(address).get("workers") == "2");
}

#[test]
fn a_failed_reload_leaves_the_old_generation_serving_and_says_why_once() {
    let (mut server, address) = Server::serving("failed-reload", |_| {});
    let old = Introduction::of(address);
    for (behaviour, reason) in [("fail", "reason=\"no app\""), ("crash", "signal 6 (SIGABRT)")] {
        server.behave(behaviour);
        server.signal(Signal::SIGHUP);
        let line = server.wait_for("the reload failed");
        assert!(line.contains(reason), "{line}");
    }
    until("the failed workers are gone", || Introduction::of(address).get("workers") == "2");
    assert_eq!(Introduction::of(address).get("generation"), "1");
    assert!(is_alive(old.pid()));
    server.signal(Signal::SIGTERM);
    let (status, said) = server.end();
    assert_eq!(status, 0);
    assert_eq!(said.iter().filter(|line| line.contains("Traceback of the app")).count(), 1, "{said:#?}");
}

#[test]
fn a_killed_worker_is_replaced_and_the_log_says_how_it_died() {
    let (mut server, address) = Server::serving("killed", |config| config.processes = 1);
    let worker = Introduction::of(address);
    kill(worker.pid(), Signal::SIGKILL).unwrap();
    let line = server.wait_for("a worker died");
    for part in [format!("worker_pid={}", worker.pid()), "signal 9 (SIGKILL)".into(), "out-of-memory".into()]
    {
        assert!(line.contains(&part), "no {part} in {line}");
    }
    let next = Introduction::of(address);
    assert_ne!(next.pid(), worker.pid());
    assert_eq!((next.get("slot"), next.get("generation")), ("0", "1"));
    assert_eq!(next.get("workers"), "1", "the row of the dead is empty");
}

#[test]
fn an_application_that_cannot_be_loaded_ends_the_server_with_its_traceback() {
    for (behaviour, reason) in [("fail", "no app"), ("crash", "signal 6 (SIGABRT)")] {
        let server = Server::start(&format!("first-{behaviour}"), behaviour, |_| {});
        let (status, said) = server.end();
        assert_eq!(status, 70, "{said:#?}");
        let text = said.join("\n");
        assert!(text.contains("spawn: cannot load the application: ") && text.contains(reason), "{text}");
        assert!(text.matches("Traceback of the app").count() == usize::from(behaviour == "fail"), "{text}");
    }
}

#[test]
fn an_application_that_never_loads_is_not_waited_for_longer_than_the_start_timeout() {
    let server = Server::start("hang", "hang", |config| config.start_timeout = Duration::from_millis(300));
    let (status, said) = server.end();
    assert_eq!(status, 70);
    assert!(said.join("\n").contains("(--start-timeout)"), "{said:#?}");
}

#[test]
fn a_worker_that_does_not_drain_is_killed_at_the_deadman() {
    let (server, address) =
        Server::serving("deadman", |config| config.deadman_timeout = Duration::from_millis(300));
    server.behave("never drain");
    server.signal(Signal::SIGHUP);
    until("the second generation serves alone", || {
        let worker = Introduction::of(address);
        worker.get("generation") == "2" && worker.get("workers") == "2"
    });
    let worker = Introduction::of(address).pid();
    server.signal(Signal::SIGTERM);
    let (status, said) = server.end();
    assert_eq!(status, 0);
    assert!(said.join("\n").contains("did not drain in time"), "{said:#?}");
    assert!(!is_alive(worker));
}

#[test]
fn a_second_stop_and_a_quit_wait_for_nobody() {
    for signals in [&[Signal::SIGTERM, Signal::SIGINT][..], &[Signal::SIGQUIT]] {
        let name = signals[0].as_str();
        let (mut server, address) = Server::serving(name, |config| config.deadman_timeout = 100 * TIMEOUT);
        server.behave("never drain");
        server.signal(Signal::SIGHUP);
        server.wait_for("a new generation serves");
        let worker = Introduction::of(address).pid();
        for signal in signals {
            server.signal(*signal);
        }
        assert_eq!(server.end().0, 0);
        assert!(!is_alive(worker));
    }
}

#[test]
fn workers_see_the_end_of_a_killed_supervisor() {
    let (mut server, address) = Server::serving("orphans", |_| {});
    let worker = Introduction::of(address).pid();
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    until("the orphan ends", || !is_alive(worker));
}

#[test]
fn a_worker_that_cannot_be_told_anything_is_replaced() {
    let (mut server, address) = Server::serving("stopped", |config| config.processes = 1);
    // Nobody but the operating system can end this one: it neither answers nor exits until it is killed.
    let worker = Introduction::of(address).pid();
    kill(worker, Signal::SIGSTOP).unwrap();
    server.signal(Signal::SIGHUP);
    server.wait_for("a new generation serves");
    assert_eq!(Introduction::of(address).get("generation"), "2");
    // Unless the deadman was first.
    let _ = kill(worker, Signal::SIGKILL);
}

#[test]
fn a_stranger_that_ends_is_reaped_and_is_nobodys_business() {
    let mut server = Server::start_under(&["env", "STRANGER=1"], "stranger", "serve", |_| {});
    let line = server.wait_for("stranger ");
    let stranger = PathBuf::from("/proc").join(line.strip_prefix("stranger ").unwrap());
    let listening = server.wait_for("listening on http://");
    server.wait_for("ready: ");
    until("the stranger is reaped", || !stranger.exists());
    let address = listening.rsplit('/').next().unwrap().parse().unwrap();
    assert_eq!(Introduction::of(address).get("workers"), "2");
    server.signal(Signal::SIGTERM);
    let (status, said) = server.end();
    assert_eq!((status, said.len()), (0, 5), "{said:#?}");
}

#[test]
fn a_stop_while_waiting_for_an_address_is_obeyed() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = Bind::Tcp(other.local_addr().unwrap());
    let mut server = Server::start("in-use", "serve", |config| config.binds = vec![bind]);
    let line = server.wait_for("the address is in use; trying again");
    assert!(line.contains("level=WARN"), "{line}");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.end().0, 0);
    assert!(other.as_raw_fd() > 0, "still held");
}

#[test]
fn an_address_that_cannot_be_had_ends_the_server_with_a_hint() {
    let mut server = Server::start("no-address", "serve", |config| {
        config.binds = vec![Bind::Tcp("192.0.2.1:80".parse().unwrap())];
    });
    server.wait_for("spawn: cannot listen on 192.0.2.1:80: ");
    server.wait_for("hint: ");
    assert_eq!(server.end().0, 69);
}

#[cfg(feature = "glommio")]
#[test]
fn too_little_locked_memory_ends_the_server_before_anything_is_bound() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = Bind::Tcp(other.local_addr().unwrap());
    let server = Server::start_under(&["prlimit", "--memlock=65536:65536"], "memlock", "serve", |config| {
        config.reactor = ReactorChoice::IoUring;
        config.binds = vec![bind];
    });
    let (status, said) = server.end();
    assert_eq!(status, 71, "{said:#?}");
    assert!(
        said[0].starts_with("spawn: io_uring needs more locked memory: the hard limit is 65536 bytes"),
        "{said:#?}"
    );
    assert!(said[1].starts_with("hint: raise it with: ulimit -l"), "{said:#?}");
}
