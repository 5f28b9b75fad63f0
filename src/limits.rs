//! Every hard maximum and every default bound of the server, named, in one place.
//!
//! A limit that a user can set has its default here and its range in [`crate::config`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Longest request line accepted, in bytes; one more is answered 414 (RFC 9112 section 3).
pub const REQUEST_LINE_BYTES_MAX: usize = 8190;
/// Most bytes in a request's header section, request line excluded; one more is answered 431 (RFC 6585).
pub const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Most header fields in a request; one more is answered 431 (RFC 6585).
pub const HEADER_COUNT_MAX: usize = 100;
/// Most bytes in a request's body; one more is answered 413 (RFC 9110 section 15.5.14).
pub const BODY_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Bodies up to this many bytes stay in memory; larger ones go to an anonymous temporary file.
pub const BODY_MEMORY_BYTES_MAX: usize = 64 * 1024;
/// Longest line that introduces a chunk, extensions included, in bytes (RFC 9112 section 7.1).
pub const CHUNK_LINE_BYTES_MAX: usize = 4096;
/// Most bytes in a trailer section (RFC 9112 section 7.1.2).
pub const TRAILER_BYTES_MAX: usize = 8192;
/// Longest method token handed to an application, in bytes; one more is answered 501.
pub const METHOD_BYTES_MAX: usize = 64;
/// Most bytes of chunk extensions in one body, so that they cannot outweigh its data (RFC 9112 section 7.1.1).
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 16 * 1024;
/// Longest header of the PROXY protocol, version 2, in bytes; a certificate may be in it.
pub const PROXY_HEADER_BYTES_MAX: usize = 4096;
/// Most entries of `--trusted-proxies`.
pub const TRUSTED_PROXIES_MAX: usize = 1024;
/// Seconds a head may take from its first byte to its last, and a new connection to its first; then 408.
pub const HEADER_TIMEOUT_S: u64 = 30;
/// Seconds a connection may rest between requests before it is closed.
pub const KEEPALIVE_TIMEOUT_S: u64 = 75;
/// Seconds a body may pause before it is answered 408.
pub const BODY_TIMEOUT_S: u64 = 30;
/// Slowest average at which a body may arrive, in bytes a second; 0 allows any.
pub const BODY_BYTES_PER_S_MIN: u64 = 240;
/// Seconds of a body before [`BODY_BYTES_PER_S_MIN`] applies.
pub const BODY_RATE_GRACE_S: u64 = 10;
/// Most requests on one connection; the last is answered with `Connection: close`.
pub const REQUESTS_PER_CONNECTION_MAX: u32 = 1_000_000;
/// Seconds in which a client must take some of its response; one that takes nothing is cut off.
pub const RESPONSE_STALL_TIMEOUT_S: u64 = 60;
/// Most connections one process holds; more wait in the kernel's queue until one closes.
pub const CONNECTIONS_MAX: u64 = 32_768;
/// One in so many of a process's descriptors is not for connections, but for temporary files and the application.
pub const DESCRIPTORS_KEPT_PART: u64 = 8;
/// The longest wait of an executor that accepts no more, before it looks whether another has closed a connection.
pub const ACCEPT_FULL_PAUSE: Duration = Duration::from_millis(20);
/// The shortest time between two warnings of the same kind.
pub const WARN_PAUSE: Duration = Duration::from_secs(60);
/// Most bytes of one response in its temporary file; the application thread waits before it makes more.
pub const RESPONSE_SPILL_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Most bytes of all temporary files of one process; responses may have half of it.
pub const SPILL_BYTES_MAX: u64 = 32 * 1024 * 1024 * 1024;

/// Most bytes of such files of one process where they are in memory, because their directory cannot be written.
pub const SPILL_MEMORY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How often an executor is tried while the kernel has no memory for its rings.
pub const EXECUTOR_ATTEMPTS_MAX: u32 = 20;
/// The pause between two such attempts.
pub const EXECUTOR_RETRY_PAUSE: Duration = Duration::from_millis(50);

/// How much of a peer's bytes and time a connection accepts. Every value has its default above.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpLimits {
    /// Longest request line, in bytes without its CRLF; one more is answered 414.
    pub request_line_bytes_max: usize,
    /// Longest header section, in bytes without request line and closing empty line; one more is answered 431.
    pub header_bytes_max: usize,
    /// Most header fields; one more is answered 431.
    pub header_count_max: usize,
    /// Longest body, in bytes as the application reads them; one more is answered 413.
    pub body_bytes_max: u64,
    /// Time from the first byte of a head to its last; later is answered 408.
    pub header_timeout: Duration,
    /// Time between two requests; then the connection is closed without a word.
    pub keepalive_timeout: Duration,
    /// Time a body may go without a byte; then it is answered 408.
    pub body_timeout: Duration,
    /// Slowest average of a body, in bytes a second, after [`BODY_RATE_GRACE_S`]; 0 allows any.
    pub body_bytes_per_s_min: u64,
    /// Most requests on one connection; the last one is not kept alive.
    pub requests_per_connection_max: u32,
    /// Time in which the peer must take some of a response; then the connection is cut off.
    pub response_stall_timeout: Duration,
    /// Whether a request target may hold bytes from 0x80 up, which RFC 3986 wants percent-encoded; else it is answered
    /// 400.
    pub non_ascii_target: bool,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            request_line_bytes_max: REQUEST_LINE_BYTES_MAX,
            header_bytes_max: HEADER_BYTES_MAX,
            header_count_max: HEADER_COUNT_MAX,
            body_bytes_max: BODY_BYTES_MAX,
            header_timeout: Duration::from_secs(HEADER_TIMEOUT_S),
            keepalive_timeout: Duration::from_secs(KEEPALIVE_TIMEOUT_S),
            body_timeout: Duration::from_secs(BODY_TIMEOUT_S),
            body_bytes_per_s_min: BODY_BYTES_PER_S_MIN,
            requests_per_connection_max: REQUESTS_PER_CONNECTION_MAX,
            response_stall_timeout: Duration::from_secs(RESPONSE_STALL_TIMEOUT_S),
            non_ascii_target: true,
        }
    }
}

/// How long an executor leaves its sockets alone while enough requests wait for the application.
pub const DOZE_MAX: Duration = Duration::from_millis(2);
/// Requests that green threads of one process may work on at once.
pub const GREEN_REQUESTS_MAX: usize = 16_384;
/// Green threads begun before others have their turn.
pub const GREEN_REQUESTS_PER_TURN_MAX: usize = 64;
/// Waiting requests that call a dozing executor back: one for each application thread, but within these bounds.
pub const QUEUE_FEW_MIN: usize = 2;
/// See [`QUEUE_FEW_MIN`].
pub const QUEUE_FEW_MAX: usize = 32;
/// Seconds after which a client that was answered 503 may try again.
pub const RETRY_AFTER_S: u32 = 1;
/// Most responses that wait for each other to be sent together.
pub const BATCH_RESPONSES_MAX: usize = 32;
/// Requests that wait for the application, for each response of a batch.
pub const BATCH_WAITING_MIN: usize = 2;
/// An application that answers sooner than this has all its responses sent together.
pub const FAST_APPLICATION: Duration = Duration::from_micros(20);
/// How long a response of such an application waits for others.
pub const FAST_DELAY_MAX: Duration = Duration::from_micros(100);
/// How long any other response does.
pub const SLOW_DELAY_MAX: Duration = Duration::from_millis(2);
/// Bytes of one response that wait in memory for a slow client before the application thread waits too.
pub const RESPONSE_MEMORY_BYTES_MAX: usize = 256 * 1024;

/// Bytes of a streamed upload that wait in memory for the application; then the client waits.
pub const UPLOAD_MEMORY_BYTES_MAX: usize = 256 * 1024;
/// How exactly the deadlines of a streamed upload are met.
pub const UPLOAD_LOOK_PAUSE: Duration = Duration::from_millis(250);
/// Bytes of a response that stay in memory while a slow client takes them; more go to a temporary file.
pub const RESPONSE_BACKLOG_BYTES_MAX: usize = 64 * 1024;
/// How long a client may take nothing before that; one that keeps up nearly is quicker without a file.
pub const RESPONSE_SPILL_DELAY: Duration = Duration::from_millis(5);
/// A body this long is sent from where the application has it; a shorter one is copied, which is quicker, in bytes.
pub const LENT_BYTES_MIN: usize = 64 * 1024;
/// Parts of a response that follow each other sooner than this are sent together.
pub const PARTS_TOGETHER_WITHIN: Duration = Duration::from_micros(100);
/// A part this long is worth a call of its own, in bytes.
pub const PART_BYTES_SMALL: usize = 8 * 1024;
/// Most bytes of parts that wait for each other.
pub const PARTS_TOGETHER_BYTES: usize = 32 * 1024;
/// How long a part waits at most, if requests do not wait anyway.
pub const PARTS_DELAY_MAX: Duration = Duration::from_micros(500);

/// Longest `--access-log-format`, in bytes.
pub const ACCESS_LOG_FORMAT_BYTES_MAX: usize = 4096;
/// Bytes of access log lines an executor collects before it hands them to be written.
pub const ACCESS_LOG_BATCH_BYTES: usize = 32 * 1024;
/// How long a line waits for that.
pub const ACCESS_LOG_DELAY_MAX: Duration = Duration::from_millis(100);
/// Batches that wait to be written before lines are dropped.
pub const ACCESS_LOG_BATCHES_MAX: usize = 64;

/// Bytes of log lines that wait while standard error takes none; more are lost, and counted.
pub const LOG_QUEUE_BYTES_MAX: usize = 1024 * 1024;
/// How soon it is tried again to write to a standard stream that could not be written.
pub const LOG_RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long the last lines of a process that ends have to be written.
pub const LOG_FINISH_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes of a large request body that are written to its temporary file at once.
pub const SPILL_WRITE_BYTES: usize = 256 * 1024;
/// Bytes an executor reads from a socket at once.
pub const READ_BYTES: usize = 64 * 1024;
/// How long a connection that we close stays open for the client to read our last words.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may send nothing meanwhile.
pub const LINGER_IDLE_MAX: Duration = Duration::from_secs(2);
/// Bytes discarded meanwhile; a client that sends more is cut off. Browsers read no refusal before they have sent all.
pub const LINGER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The shortest time between two looks at the deadlines of all connections.
pub const SWEEP_PAUSE: Duration = Duration::from_millis(50);
/// How often it is judged, while requests wait, whether more application threads should run, or fewer.
pub const BALANCE_PAUSE_MIN: Duration = Duration::from_micros(500);
/// How rarely, once they have used half of what there was, or more, for a while.
pub const BALANCE_PAUSE_MAX: Duration = Duration::from_millis(2);
/// How long a process with more connections than its least loaded sibling lets the others accept first.
pub const ACCEPT_YIELD: Duration = Duration::from_micros(100);
/// How often in a row it does so.
pub const ACCEPT_YIELDS_MAX: u32 = 5;
/// If as many connections as are open lasted no longer and have ended in the last one or two such windows, they come
/// and go so fast that processes with requests waiting need not share them out evenly.
pub const CHURN_WINDOW: Duration = Duration::from_millis(100);
/// Connections accepted in one turn of an executor.
pub const ACCEPTS_PER_TURN_MAX: usize = 64;
/// How long accepting pauses when the process has no descriptor left.
pub const ACCEPT_EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// Bytes of a file sent to a socket in one call; other connections have their turn in between.
pub const SEND_FILE_BYTES: usize = 512 * 1024;

/// How long a server that stops lets handshakes end that have begun, before it looks whether it can close its sockets.
pub const CLOSE_SETTLE: Duration = Duration::from_millis(20);
/// How soon it looks again, while somebody waits there to be accepted.
pub const CLOSE_LOOK_PAUSE: Duration = Duration::from_millis(5);
/// How long it does so at most where the kernel cannot keep others from coming meanwhile.
pub const CLOSE_OPEN_MAX: Duration = Duration::from_secs(1);
/// How long a draining process keeps idle connections open for requests that may be on their way.
pub const DRAIN_IDLE_TIMEOUT: Duration = Duration::from_millis(500);
/// A process that looks for the end of that so much too late has been stopped, and its clients perhaps with it: they
/// get the full time again.
pub const DRAIN_LATENESS_MAX: Duration = Duration::from_millis(250);
/// How long before a drain is ended by force the connections that applications have taken over are cut, at most: their
/// threads have a moment to notice it.
pub const UPGRADED_CUT_LEAD_MAX: Duration = Duration::from_secs(1);
/// How long application threads have to end after the last connection of their process has closed.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long before a drain is ended by force a process says what it still holds, answers what it can and ends, at most.
pub const DRAIN_CUT_LEAD_MAX: Duration = Duration::from_millis(500);
/// How long requests that are answered 503 are counted before the first line tells how many there were.
pub const OVERLOAD_COLLECT: Duration = Duration::from_secs(1);
/// How often a worker's main thread shows that it is alive.
pub const HEARTBEAT_PAUSE: Duration = Duration::from_secs(1);
/// Field names whose environ key an application thread remembers.
pub const HEADER_NAMES_REMEMBERED_MAX: usize = 1024;
/// Seconds a worker's main thread or an executor may show no life before the worker is replaced.
pub const STUCK_TIMEOUT_S: u64 = 60;
/// The shortest time between two looks at the limits of workers.
pub const LIMIT_CHECK_PAUSE: Duration = Duration::from_secs(1);
/// The shortest time between two measurements of memory, each of which walks the page tables of every worker.
pub const MEMORY_PAUSE: Duration = Duration::from_secs(2);
/// A worker younger than this is not replaced for its memory or its age: one that is too large must not spin.
pub const REPLACE_AGE_MIN: Duration = Duration::from_secs(5);
/// The longest wait before all workers are replaced again for their memory, when that did not help before.
pub const MEMORY_RELOAD_WAIT_MAX: Duration = Duration::from_secs(600);
/// How much later than its age limit a worker may be replaced, as a part of that limit, so that not all go at once.
pub const AGE_JITTER_PART: u32 = 10;
/// Symbolic links on the way to a watched file that are followed; as many as the kernel follows.
pub const LINKS_FOLLOWED_MAX: usize = 40;
/// Milliseconds between two looks at the files with `--reload poll`.
pub const POLL_INTERVAL_MS: u64 = 1000;
/// Changes of files within this time are one: editors write, rename and touch, version control a whole tree.
pub const CHANGE_SETTLE: Duration = Duration::from_millis(200);
/// A burst of changes longer than this is not waited for any more.
pub const CHANGE_SETTLE_MAX: Duration = Duration::from_secs(2);
/// Processes that SIGTTIN can add to those a server was started with: as many again, and this many more.
pub const PROCESSES_SPARE: usize = 6;
/// Longest summary of a reload kept for the status page, in bytes.
pub const RELOAD_SUMMARY_BYTES_MAX: usize = 1000;
/// The same for its traceback; a longer one is cut in the middle.
pub const RELOAD_TRACEBACK_BYTES_MAX: usize = 16 * 1024;
/// Connections the status process holds; one more closes the one that has waited longest.
pub const STATUS_CONNECTIONS_MAX: usize = 64;
/// Longest header section of a request to the status process, in bytes.
pub const STATUS_HEADER_BYTES_MAX: usize = 16 * 1024;
/// Longest body of a request to the status process, which is discarded, in bytes.
pub const STATUS_BODY_BYTES_MAX: u64 = 64 * 1024;
/// How long a request to the status process may take to arrive, and its answer to leave.
pub const STATUS_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection to the status process may rest between requests.
pub const STATUS_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the status process may take for its last answers when another takes its place.
pub const STATUS_DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// A worker whose main thread has had no heartbeat for this long is said to be silent.
pub const STATUS_HEARTBEAT_AGE_MAX: Duration = Duration::from_secs(10);
/// Longest message between the supervisor and a worker, in bytes; a longer traceback is cut in the middle.
pub const CONTROL_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Connections the kernel may hold for a listening socket before a worker accepts them (listen(2)); the kernel lowers
/// it to `net.core.somaxconn`.
pub const LISTEN_BACKLOG: i32 = 2048;
/// Most addresses one server listens on.
pub const BINDS_MAX: usize = 64;
/// Longest path or name of a unix socket, in bytes: what `sockaddr_un` holds beside its NUL (unix(7)).
pub const UNIX_NAME_BYTES_MAX: usize = 107;
/// Permission bits of a unix socket: its owner and group, among which the proxy is, may connect.
pub const UNIX_MODE: u32 = 0o660;
/// All permission bits that mean anything for a socket.
pub const UNIX_MODE_MAX: u32 = 0o777;
/// How long systemd may take to read what it is told.
pub const NOTIFY_TIMEOUT: Duration = Duration::from_secs(1);
/// How often the supervisor tries to bind an address that is in use, waiting twice as long each time.
pub const BIND_TRIES: u32 = 8;
/// The same for a unix socket that somebody listens on: no port stays bound after a death, so waiting rarely helps.
pub const UNIX_BIND_TRIES: u32 = 3;
/// The first of those waits; all together are a little over a minute.
pub const BIND_RETRY_WAIT: Duration = Duration::from_millis(500);
/// Worker processes alive at once, as a multiple of one generation's: one that serves, one that loads, and two that
/// drain. A further reload waits for one of them to end.
pub const GENERATIONS_ALIVE_MAX: usize = 4;
/// Wait before a crashed worker is replaced; doubled with each crash that follows.
pub const RESPAWN_WAIT_MIN: Duration = Duration::from_millis(100);
/// The longest such wait.
pub const RESPAWN_WAIT_MAX: Duration = Duration::from_secs(30);
/// A worker that lived this long has proved itself: its next crash is treated as the first.
pub const RESPAWN_RESET: Duration = Duration::from_secs(60);
/// How long a worker that holds no connection may take to exit when it is told to stop, before it is killed.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a killed worker may take to disappear before the supervisor exits without it (it hangs in the kernel).
pub const REAP_TIMEOUT: Duration = Duration::from_secs(5);
/// Least locked memory a worker can start its executors with, in bytes: below it glommio refuses, even as root.
pub const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// A request that takes longer than this may be overtaken by those that wait, on one more thread.
pub const LONG_REQUEST: Duration = Duration::from_millis(2);
/// A request that computes longer than this makes it likely that others of its class will, too.
pub const LONG_CLASS: Duration = Duration::from_millis(5);
/// A request that lasts so long does not count as running any more, and holds back no other.
pub const LASTING_MAX: Duration = Duration::from_millis(200);
/// So many requests that last so long and compute are passed by others that compute for long.
pub const EXCUSED_LONG_MAX: usize = 1;
/// A request that was held back so long is held back no more.
pub const HELD_BACK_MAX: Duration = Duration::from_secs(10);
/// How long a thread works on quick requests before it reads its CPU time once more.
pub const CPU_READ_AFTER: Duration = Duration::from_micros(500);
/// Most classes of requests that are remembered to take so long; then the one longest out of use is forgotten.
pub const LONG_CLASSES_MAX: usize = 1024;
/// By so many bytes of its path at most a request's class is told.
pub const CLASS_PATH_BYTES_MAX: usize = 512;
/// How long a thread may hold the interpreter while others want it, where several threads run the application; Python's
/// own default of 5 ms is what a quick request would wait behind a long one, again and again.
pub const SWITCH_INTERVAL: Duration = Duration::from_millis(1);
/// The same while one thread has kept the interpreter for too long, although it lets it go now and then.
pub const SWITCH_INTERVAL_SHORT: Duration = Duration::from_micros(10);
/// How long it is as short as that at most.
pub const SWITCH_INTERVAL_SHORT_MAX: Duration = Duration::from_micros(1_500);
/// How long, at the beginning and at the end of that, it is one that has elapsed before it begins: who waits for the
/// interpreter then does not sleep.
pub const SWITCH_INTERVAL_ELAPSED_MAX: Duration = Duration::from_micros(200);
/// A thread that has kept the interpreter for so long must hand it over to one that waits.
pub const INTERPRETER_KEPT_MAX: Duration = Duration::from_millis(1);
/// How soon after the interval was made short it is looked at whether the interpreter was handed over.
pub const INTERPRETER_LOOK_MIN: Duration = Duration::from_micros(50);
/// How rarely it is looked who holds the interpreter while several requests are being worked on.
pub const INTERPRETER_LOOK_MAX: Duration = Duration::from_millis(8);
/// So many looks without a change are the last ones, if at most one request is being worked on.
pub const INTERPRETER_LOOKS_IDLE_MAX: u32 = 8;
/// A thread that holds the interpreter so long without a break, while another waits, is logged.
pub const INTERPRETER_HOLD_LOGGED: Duration = Duration::from_secs(1);
/// In so many places of the application at most, once in each.
pub const INTERPRETER_HOLDS_LOGGED_MAX: usize = 64;
/// So many threads at most are asked whether they could run, each time the use of the CPU is judged.
pub const RUNNABLE_ASKED_MAX: usize = 8;
/// How long after a change it is tried whether one application thread fewer does as well.
pub const PROBE_PAUSE_MIN: Duration = Duration::from_millis(2);
/// How rarely that is tried once it has failed again and again.
pub const PROBE_PAUSE_MAX: Duration = Duration::from_secs(1);

/// So much of a site's name is shown on the command lines of its processes, in characters.
pub const SITE_CHARS_MAX: usize = 200;
/// Longest configuration file, in bytes.
pub const CONFIG_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Longest answer of a config factory, in bytes of JSON.
pub const FACTORY_ANSWER_BYTES_MAX: usize = 1024 * 1024;
