//! The words of the command line: one field an option, as argh reads them.

use argh::{ArgsInfo, FromArgs};

use crate::config::RawOptions;

// Every option may be repeated and the last one counts (of a few each), so that a wrapper script's choice can be
// overruled; argh allows that only to a `Vec`. Values stay words here: `config` reads and judges them.

/// Serve a WSGI application over HTTP with processes, threads and reloads that never drop a request.
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("--help"))]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub(super) struct Words {
    /// dotted path of the application (package.module.attribute or package.module:attribute), then of any
    /// middleware, each of which is called with the application so far; another factory than the default may
    /// want other arguments
    #[argh(positional, arg_name = "app")]
    arguments: Vec<String>,

    /// dotted path of the function that turns the options into the configuration to serve
    #[argh(option, short = 'f', arg_name = "path")]
    factory: Vec<String>,

    /// directory to work in, the application's; its links are resolved again for each generation
    #[argh(option, arg_name = "directory")]
    chdir: Vec<String>,

    /// directory or archive to import modules from, before the working directory; may be repeated, and each counts
    #[argh(option, arg_name = "path")]
    python_path: Vec<String>,

    /// path below which the application is mounted; it is taken off the path of each request
    #[argh(option, arg_name = "path")]
    script_name: Vec<String>,

    /// answer /_sysinfo with facts about the platform as JSON
    #[argh(switch)]
    sysinfo: bool,

    /// measure which lines of the application run, in all processes, and answer /_coverage with a report and
    /// /_coverage.json with its data
    #[argh(switch, short = 'c')]
    coverage: bool,

    /// open a Python console in each process to this user alone; spawn console talks to it
    #[argh(switch)]
    backdoor: bool,

    /// file that more options are read from, in TOML
    #[argh(option, arg_name = "file")]
    pub(super) config: Vec<String>,

    /// check the options and load the application, then exit without serving
    #[argh(switch)]
    pub(super) check: bool,

    /// print every option, its value and where it came from, then exit
    #[argh(switch)]
    pub(super) print_config: bool,

    /// address to listen on; the empty word is every IPv4 address of this machine, :: every IPv6 address
    #[argh(option, short = 'i', arg_name = "address")]
    host: Vec<String>,

    /// TCP port to listen on; 0 lets the kernel choose
    #[argh(option, short = 'p', arg_name = "number")]
    port: Vec<String>,

    /// address to listen on, beside that of --host and --port if either is given; may be repeated
    #[argh(option, short = 'b', arg_name = "address")]
    bind: Vec<String>,

    /// permission bits of a unix socket that is bound
    #[argh(option, arg_name = "mode")]
    unix_mode: Vec<String>,

    /// owner of the unix sockets that are bound: a user, and a group if not the user's own
    #[argh(option, arg_name = "user[:group]")]
    unix_owner: Vec<String>,

    /// TCP port, or unix:PATH, of /status, /status.json, /metrics and /health; 0 lets the kernel choose
    #[argh(option, arg_name = "number")]
    status_port: Vec<String>,

    /// address that the status port is bound at; anyone who can reach it can read it
    #[argh(option, arg_name = "address")]
    status_host: Vec<String>,

    /// serve in the background; the command ends when the application serves, or says why it cannot
    #[argh(switch, short = 'd')]
    daemonize: bool,

    /// file that holds the process id of the supervisor while it runs
    #[argh(option, arg_name = "file")]
    pidfile: Vec<String>,

    /// file that standard output is appended to, reopened on USR1; none is the terminal, with --daemonize nothing
    #[argh(option, arg_name = "file")]
    stdout: Vec<String>,

    /// file that standard error is appended to, reopened on USR1; none is the terminal, with --daemonize nothing
    #[argh(option, arg_name = "file")]
    stderr: Vec<String>,

    /// user, and group if not the user's own, to run as once everything is bound; only root may
    #[argh(option, short = 'u', arg_name = "user[:group]")]
    chuid: Vec<String>,

    /// worker processes; the CPUs counted are those that affinity and cgroup quota allow
    #[argh(option, short = 's', arg_name = "number")]
    processes: Vec<String>,

    /// threads pinned to the cores of their process
    #[argh(option, arg_name = "which")]
    pin: Vec<String>,

    /// threads of each process that run the application; 0 is green mode: green threads on its main thread do
    #[argh(option, short = 't', arg_name = "number")]
    threads: Vec<String>,

    /// run the application on the main thread of each process, one request at a time; implies --threads 1
    #[argh(switch)]
    main_thread: bool,

    /// library whose green threads run the application, and patches Python's own for them; implies --threads 0
    #[argh(option, arg_name = "library")]
    green: Vec<String>,

    /// requests that green threads of one process may work on at once; more wait in the queue
    #[argh(option, arg_name = "number")]
    green_requests_max: Vec<String>,

    /// file the access log is appended to; - is standard output, /dev/null no access log
    #[argh(option, short = 'l', arg_name = "file")]
    access_log_file: Vec<String>,

    /// what a line of the access log tells: common, combined, json, or text with atoms such as %h
    #[argh(option, arg_name = "format")]
    access_log_format: Vec<String>,

    /// path whose requests are not logged, such as that of a health check; may be repeated, and each counts
    #[argh(option, arg_name = "path")]
    access_log_skip: Vec<String>,

    /// do not log what was answered in full and without error (a status below 400): of the paths of --access-log-skip,
    /// or of all paths if there is none
    #[argh(switch)]
    access_log_skip_ok: bool,

    /// path of a health check that each process answers without the application, and does not log
    #[argh(option, arg_name = "path")]
    health_path: Vec<String>,

    /// lowest level of the messages that are logged
    #[argh(option, arg_name = "level")]
    log_level: Vec<String>,

    /// text, or json: one object a line, the access log included
    #[argh(option, arg_name = "format")]
    log_format: Vec<String>,

    /// print the configuration at start and at each reload
    #[argh(switch, short = 'v')]
    verbose: bool,

    /// answer one request per connection, then close it
    #[argh(switch)]
    no_keepalive: bool,

    /// seconds a draining process may take to finish its requests before it is killed; also --deadman
    #[argh(option, arg_name = "seconds")]
    deadman_timeout: Vec<String>,

    /// seconds the server serves on after it was told to stop, not ready any more by its health check; then it drains
    #[argh(option, arg_name = "seconds")]
    drain_delay: Vec<String>,

    /// seconds a process may take to load the application
    #[argh(option, arg_name = "seconds")]
    start_timeout: Vec<String>,

    /// requests of each process that may wait for a thread; more wait unread in their sockets
    #[argh(option, arg_name = "number")]
    queue: Vec<String>,

    /// seconds a request may wait for a thread before it is answered 503
    #[argh(option, arg_name = "seconds")]
    queue_timeout: Vec<String>,

    /// longest request line in bytes; a longer one is answered 414
    #[argh(option, arg_name = "bytes")]
    request_line_bytes_max: Vec<String>,

    /// most bytes of all header fields of a request; more are answered 431
    #[argh(option, arg_name = "bytes")]
    header_bytes_max: Vec<String>,

    /// most header fields of a request; more are answered 431
    #[argh(option, arg_name = "number")]
    header_count_max: Vec<String>,

    /// most bytes of a request body; more are answered 413
    #[argh(option, arg_name = "bytes")]
    body_bytes_max: Vec<String>,

    /// seconds from the first byte of a request to the end of its header; a slower one is answered 408
    #[argh(option, arg_name = "seconds")]
    header_timeout: Vec<String>,

    /// seconds a connection may be idle between two requests
    #[argh(option, arg_name = "seconds")]
    keepalive_timeout: Vec<String>,

    /// seconds a request body may make no progress; a slower one is answered 408
    #[argh(option, arg_name = "seconds")]
    body_timeout: Vec<String>,

    /// slowest average rate of a request body in bytes per second, after its first ten seconds; a slower one is
    /// answered 408
    #[argh(option, arg_name = "bytes")]
    body_bytes_per_s_min: Vec<String>,

    /// requests one connection may carry
    #[argh(option, arg_name = "number")]
    requests_per_connection_max: Vec<String>,

    /// seconds in which a client must take some of its response; one that takes nothing is cut off
    #[argh(option, arg_name = "seconds")]
    response_stall_timeout: Vec<String>,

    /// connections of each process, at most seven eighths of its open files; more wait to be accepted
    #[argh(option, arg_name = "number")]
    connections_max: Vec<String>,

    /// event loop: io-uring, epoll, or auto, which is io-uring where the system allows it
    #[argh(option, arg_name = "name")]
    reactor: Vec<String>,

    /// call the application before the body of a request has arrived; reading it then waits for the client, in an
    /// application thread
    #[argh(switch)]
    stream_uploads: bool,

    /// with --stream-uploads, do so only where the length of the body is known; a chunked one is complete before the
    /// application is called, which then knows its length
    #[argh(switch)]
    buffer_chunked: bool,

    /// refuse what is otherwise corrected or tolerated: response fields that belong to the server (500), and bytes that
    /// are not ASCII in a request target (400)
    #[argh(switch)]
    strict: bool,

    /// directory of the temporary files that hold what is too large for memory
    #[argh(option, arg_name = "directory")]
    spill_directory: Vec<String>,

    /// most bytes of all temporary files of each process; a request body beyond it is answered 507
    #[argh(option, arg_name = "bytes")]
    spill_bytes_max: Vec<String>,

    /// most bytes of one response that wait in a temporary file for a slow client; then the thread that makes them
    /// waits, too
    #[argh(option, arg_name = "bytes")]
    response_spill_bytes_max: Vec<String>,

    /// proxies whose Forwarded and X-Forwarded-* fields are believed; of any other peer they are dropped; may be
    /// repeated, and each counts
    #[argh(option, arg_name = "list")]
    trusted_proxies: Vec<String>,

    /// version of the PROXY protocol that every connection of a trusted proxy must begin with
    #[argh(option, arg_name = "version")]
    proxy_protocol: Vec<String>,

    /// dev reloads when the file of a loaded module changes, and waits for a change when loading fails; poll does so
    /// where the kernel reports no changes, as on network mounts
    #[argh(option, short = 'r', arg_name = "how")]
    reload: Vec<String>,

    /// reload when this file, or a file in this directory, changes; may be repeated, and each counts
    #[argh(option, short = 'w', arg_name = "path")]
    watch: Vec<String>,

    /// seconds between checks of the files with --reload poll
    #[argh(option, arg_name = "seconds")]
    poll_interval: Vec<String>,

    /// most memory of all processes together, shared pages counted once; more reloads gracefully; a number
    /// without K, M or G counts KiB; 0 is no limit
    #[argh(option, short = 'm', arg_name = "memory")]
    max_memory: Vec<String>,

    /// most memory of one worker process; one that has more is replaced gracefully; 0 is no limit
    #[argh(option, arg_name = "memory")]
    max_worker_memory: Vec<String>,

    /// seconds after which a worker process is replaced gracefully, up to a tenth later; 0 is no limit
    #[argh(option, short = 'a', arg_name = "seconds")]
    max_age: Vec<String>,

    /// requests after which a worker process is replaced gracefully; 0 is no limit
    #[argh(option, arg_name = "number")]
    max_requests: Vec<String>,

    /// added to --max-requests: up to this many more, a different number for each process
    #[argh(option, arg_name = "number")]
    max_requests_jitter: Vec<String>,

    /// seconds the application may work on a request without sending a byte; then the client is answered 504, the
    /// stack is logged and the worker process is replaced; 0 is no limit
    #[argh(option, arg_name = "seconds")]
    request_timeout: Vec<String>,

    /// seconds without a heartbeat after which a worker process is replaced; 0 is never
    #[argh(option, arg_name = "seconds")]
    stuck_timeout: Vec<String>,

    /// print a completion script for a shell, then exit
    #[argh(option, arg_name = "shell")]
    pub(super) completion: Vec<String>,

    /// print the manual page in roff, then exit
    #[argh(switch)]
    pub(super) man: bool,

    /// print the version and exit
    #[argh(switch)]
    pub(super) version: bool,
}

impl From<Words> for RawOptions {
    fn from(words: Words) -> Self {
        let last = |mut values: Vec<String>| values.pop();
        Self {
            arguments: words.arguments,
            factory: last(words.factory),
            chdir: last(words.chdir),
            python_path: words.python_path,
            script_name: last(words.script_name),
            main_thread: words.main_thread,
            host: last(words.host),
            port: last(words.port),
            bind: words.bind,
            unix_mode: last(words.unix_mode),
            unix_owner: last(words.unix_owner),
            status_port: last(words.status_port),
            status_host: last(words.status_host),
            daemonize: words.daemonize,
            pidfile: last(words.pidfile),
            stdout: last(words.stdout),
            stderr: last(words.stderr),
            chuid: last(words.chuid),
            processes: last(words.processes),
            pin: last(words.pin),
            threads: last(words.threads),
            green: last(words.green),
            green_requests_max: last(words.green_requests_max),
            access_log_file: last(words.access_log_file),
            access_log_format: last(words.access_log_format),
            access_log_skip: words.access_log_skip,
            access_log_skip_ok: words.access_log_skip_ok,
            health_path: last(words.health_path),
            log_level: last(words.log_level),
            log_format: last(words.log_format),
            verbose: words.verbose,
            sysinfo: words.sysinfo,
            coverage: words.coverage,
            backdoor: words.backdoor,
            no_keepalive: words.no_keepalive,
            deadman_timeout: last(words.deadman_timeout),
            drain_delay: last(words.drain_delay),
            start_timeout: last(words.start_timeout),
            queue: last(words.queue),
            queue_timeout: last(words.queue_timeout),
            request_line_bytes_max: last(words.request_line_bytes_max),
            header_bytes_max: last(words.header_bytes_max),
            header_count_max: last(words.header_count_max),
            body_bytes_max: last(words.body_bytes_max),
            header_timeout: last(words.header_timeout),
            keepalive_timeout: last(words.keepalive_timeout),
            body_timeout: last(words.body_timeout),
            body_bytes_per_s_min: last(words.body_bytes_per_s_min),
            requests_per_connection_max: last(words.requests_per_connection_max),
            response_stall_timeout: last(words.response_stall_timeout),
            connections_max: last(words.connections_max),
            reactor: last(words.reactor),
            stream_uploads: words.stream_uploads,
            buffer_chunked: words.buffer_chunked,
            strict: words.strict,
            spill_directory: last(words.spill_directory),
            spill_bytes_max: last(words.spill_bytes_max),
            response_spill_bytes_max: last(words.response_spill_bytes_max),
            trusted_proxies: words.trusted_proxies,
            proxy_protocol: last(words.proxy_protocol),
            reload: last(words.reload),
            watch: words.watch,
            poll_interval: last(words.poll_interval),
            max_memory: last(words.max_memory),
            max_worker_memory: last(words.max_worker_memory),
            max_age: last(words.max_age),
            max_requests: last(words.max_requests),
            max_requests_jitter: last(words.max_requests_jitter),
            request_timeout: last(words.request_timeout),
            stuck_timeout: last(words.stuck_timeout),
        }
    }
}
