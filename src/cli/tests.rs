use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::config::{
    self, AccessLog, AccessLogFormat, Account, ApplicationSettings, Bind, LogFormat, LogLevel, LogPart,
    Logging, Proxies, ProxyProtocol, Quiet, Reload, Service, Spill, UnixSocket, WorkerLimits,
};

fn words(line: &str) -> Vec<String> {
    line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn normalise(line: &str) -> Result<String, ConfigError> {
    normal::normalise(&words(line), options()).map(|normal| normal.join(" "))
}

fn refusal(line: &str) -> String {
    let exit = configure(&words(line), 2).unwrap_err();
    assert_eq!((exit.status, exit.to_stdout), (64, false), "{line}");
    exit.output
}

#[test]
fn every_spelling_has_one_normal_form() {
    for (line, normal) in [
        ("", "--"),
        ("app", "-- app"),
        ("--port=80 app", "--port 80 -- app"),
        ("--port 80 app", "--port 80 -- app"),
        ("app --port 80 mid", "--port 80 -- app mid"),
        ("-p80", "--port 80 --"),
        ("-p 80", "--port 80 --"),
        ("-s8 -t 16 app", "--processes 8 --threads 16 -- app"),
        ("-vs8", "--verbose --processes 8 --"),
        ("--deadman_timeout 5", "--deadman-timeout 5 --"),
        ("--deadman-timeout=5", "--deadman-timeout 5 --"),
        ("--deadman 5", "--deadman-timeout 5 --"),
        ("--access_log_file=a_b=c", "--access-log-file a_b=c --"),
        ("-l -", "--access-log-file - --"),
        ("-p -1", "--port -1 --"),
        ("-p-1", "--port -1 --"),
        ("--port=-1", "--port -1 --"),
        ("--host= app", "--host  -- app"),
        ("-p 1 -p 2", "--port 1 --port 2 --"),
        ("-- --port -s", "-- --port -s"),
        ("-p 1 -- -- app", "--port 1 -- -- app"),
        ("- app", "-- - app"),
        ("-h", "--help --"),
    ] {
        assert_eq!(normalise(line).as_deref(), Ok(normal), "{line}");
    }
}

fn account(user: &str, group: Option<&str>) -> Account {
    Account { user: user.to_owned(), group: group.map(str::to_owned) }
}

#[test]
fn every_option_arrives_where_it_belongs() {
    let line = "-f a.b --chdir / --python-path usr --python-path etc --script-name /shop/ -i ::1 -p 1 -b unix:@a -b fd://3 --unix-mode 600 --unix-owner a --status-port 9 --status-host ::1 -d --pidfile /tmp/pid \
                --stdout /tmp/out --stderr /tmp/err -u b:c -s 2 --pin none -t 0 --green gevent --green-requests-max 23 -l /dev/null --access-log-format %h --access-log-skip /a --access-log-skip /b --access-log-skip-ok --health-path /h --log-level debug --log-format json -v --sysinfo -c --backdoor --no-keepalive --deadman 4 \
                --drain-delay 7 --start-timeout 5 --queue 6 \
                --queue-timeout 7.5 --request-line-bytes-max 800 --header-bytes-max 900 --header-count-max 10 \
                --body-bytes-max 11K --header-timeout 12 --keepalive-timeout 13 --body-timeout 14 \
                --body-bytes-per-s-min 15 --requests-per-connection-max 16 \
                --response-stall-timeout 23 --connections-max 24 --reactor epoll --spill-directory / --spill-bytes-max 25G --response-spill-bytes-max 26K -r poll --poll-interval 27 -w src -w docs -m 17 \
                --max-worker-memory 18M -a 19 --max-requests 20 --max-requests-jitter 21 --request-timeout 22 \
                --stuck-timeout 0 --trusted-proxies unix, --proxy-protocol on app key=value";
    let seconds = std::time::Duration::from_secs;
    let expected = Config {
        factory: "a.b".to_owned(),
        arguments: words("app key=value"),
        application: ApplicationSettings {
            directory: Some("/".into()),
            python_path: vec!["usr".into(), "etc".into()],
            script_name: "/shop".to_owned(),
            main_thread: false,
        },
        binds: vec![Bind::Tcp("[::1]:1".parse().unwrap()), Bind::Abstract("a".to_owned()), Bind::Fd(3)],
        binds_are_default: false,
        unix_socket: UnixSocket { mode: 0o600, owner: Some(account("a", None)) },
        status: Some(Bind::Tcp("[::1]:9".parse().unwrap())),
        service: Service {
            daemonize: true,
            pid_file: Some("/tmp/pid".into()),
            stdout: Some("/tmp/out".into()),
            stderr: Some("/tmp/err".into()),
            account: Some(account("b", Some("c"))),
        },
        processes: 2,
        pin: config::Pin::None,
        threads: 0,
        green: Some(config::GreenSettings { library: config::GreenLibrary::Gevent, requests_max: 23 }),
        keep_alive: false,
        access_log: AccessLog::Off,
        access_log_format: AccessLogFormat::Text(vec![LogPart::Client]),
        quiet: Quiet {
            health_path: Some("/h".into()),
            skipped_paths: vec!["/a".into(), "/b".into()],
            skips_ok: true,
        },
        logging: Logging { level: LogLevel::Debug, format: LogFormat::Json },
        verbose: true,
        sysinfo: true,
        coverage: true,
        backdoor: true,
        deadman_timeout: seconds(4),
        drain_delay: seconds(7),
        start_timeout: seconds(5),
        queue_length_max: 6,
        queue_timeout: std::time::Duration::from_millis(7500),
        http: crate::limits::HttpLimits {
            request_line_bytes_max: 800,
            header_bytes_max: 900,
            header_count_max: 10,
            body_bytes_max: 11 * 1024,
            header_timeout: seconds(12),
            keepalive_timeout: seconds(13),
            body_timeout: seconds(14),
            body_bytes_per_s_min: 15,
            requests_per_connection_max: 16,
            response_stall_timeout: seconds(23),
            non_ascii_target: true,
        },
        connections_max: 24,
        reactor: config::ReactorChoice::Epoll,
        stream_uploads: false,
        buffer_chunked: false,
        strict: false,
        spill: Spill { directory: "/".into(), bytes_max: 25 << 30, response_bytes_max: 26 << 10 },
        proxies: Proxies { networks: Vec::new(), unix: true, protocol: ProxyProtocol::On },
        reload: Reload {
            dev: true,
            watch: ["src", "docs"].map(|path| std::path::absolute(path).unwrap()).to_vec(),
            poll: Some(seconds(27)),
        },
        worker_limits: WorkerLimits {
            memory_bytes_max: Some(17 * 1024),
            worker_memory_bytes_max: Some(18 * 1024 * 1024),
            age_max: Some(seconds(19)),
            requests_max: Some(20),
            requests_jitter: 21,
            request_timeout: Some(seconds(22)),
            stuck_timeout: None,
        },
    };
    assert_eq!(configure(&words(line), 2), Ok(expected));
}

#[test]
fn the_last_of_a_repeated_option_counts() {
    let options = parse(&words("-p 1 -v --port 2 -v app --port=3")).unwrap();
    assert_eq!(options.port.as_deref(), Some("3"));
    assert!(options.verbose);
}

#[test]
fn help_and_version_go_to_standard_output() {
    for line in ["--help", "-h", "app --help --port 80", "--port 80 -h app", "--version --help"] {
        assert_eq!(parse(&words(line)), Err(Exit::answer(help())), "{line}");
    }
    let version = format!("Spawning {}\n", env!("CARGO_PKG_VERSION"));
    for line in ["--version", "--version app", "-v app --version"] {
        assert_eq!(
            parse(&words(line)),
            Err(Exit { status: 0, output: version.clone(), to_stdout: true }),
            "{line}"
        );
    }
}

#[test]
fn an_application_may_have_any_name() {
    for line in ["help", "-- --help", "-- --version", "-- -s8"] {
        assert_eq!(parse(&words(line)).unwrap().arguments, words(line.trim_start_matches("-- ")), "{line}");
    }
}

#[test]
fn a_mistake_is_named_and_mended() {
    for (line, fault, hint) in [
        ("", "app: missing, at least 1 argument is needed", "spawn mysite.wsgi.application"),
        ("--port=70000", "--port: 70000 is too large, at most 65535", "choose a port from 0 to 65535"),
        ("-p 70000 app", "--port: 70000 is too large, at most 65535", "choose a port from 0 to 65535"),
        ("--threads=abc app", "--threads: \"abc\" is not a whole number", "from 0 to 1024"),
        ("--prot 80 app", "--prot: no such option", "did you mean --port?"),
        (
            "--keepalive_timout=5 app",
            "--keepalive_timout: no such option",
            "did you mean --keepalive-timeout?",
        ),
        ("--entirely-different app", "--entirely-different: no such option", "see spawn --help"),
        ("-x app", "-x: no such option", "see spawn --help"),
        ("--workers 4 app", "--workers: no such option", "write --processes NUMBER"),
        ("--timeout=30 app", "--timeout: no such option", "write --request-timeout SECONDS"),
        ("--preload app", "--preload: no such option", "leave it out"),
        ("--reload mysite.wsgi", "--reload: \"mysite.wsgi\" is neither dev nor poll", "write --reload dev"),
        ("--reload --port 80 app", "--reload: needs a value, not \"--port\"", "write --reload dev"),
        (
            "-w 4 app",
            "--watch: \"4\" cannot be found: No such file or directory (os error 2)",
            "--processes 4",
        ),
        ("-vx app", "-x: no such option", "see spawn --help"),
        ("-é app", "-é: no such option", "see spawn --help"),
        ("--= app", "--: no such option", "see spawn --help"),
        ("app --port", "--port: needs a value", "write --port NUMBER"),
        ("app -p", "--port: needs a value", "write --port NUMBER"),
        ("--host --port 80 app", "--host: needs a value, not \"--port\"", "write --host ADDRESS"),
        ("--host -p 80 app", "--host: needs a value, not \"-p\"", "write --host ADDRESS"),
        ("--host -- app", "--host: needs a value, not \"--\"", "write --host ADDRESS"),
        ("--verbose=yes app", "--verbose: takes no value, not \"yes\"", "write --verbose alone"),
        ("--queue -1 app", "--queue: -1 is too small, at least 1", "for example --queue 1024"),
    ] {
        let output = refusal(line);
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines[0], format!("spawn: {fault}"));
        assert!(lines[1].starts_with("hint: ") && lines[1].contains(hint), "{output}");
        assert_eq!((lines.len(), output.ends_with('\n')), (2, true), "{output}");
    }
}

#[test]
fn a_terminal_is_never_sent_control_characters() {
    let exit = parse(&["--\u{1b}[31m\n".to_owned()]).unwrap_err();
    assert_eq!(exit.output.lines().count(), 2);
    assert!(!exit.output.contains('\u{1b}'));
}

#[test]
fn every_option_is_in_one_group_of_the_help() {
    let grouped: Vec<&str> = help::GROUPS.iter().flat_map(|(_, flags)| flags.iter().copied()).collect();
    let known: BTreeSet<&str> = options().iter().map(|option| option.long).collect();
    assert_eq!(grouped.len(), known.len());
    assert_eq!(grouped.into_iter().collect::<BTreeSet<_>>(), known);
    assert!(help().lines().all(|line| line.chars().count() <= 80), "{}", help());
}

#[test]
fn every_option_with_a_value_has_a_default_and_bounds() {
    for option in options() {
        assert_eq!(option.value.is_some(), config::describe(option.long).is_some(), "{}", option.long);
    }
}

/// The rows of docs/configuration.md, as they must be.
fn documented_rows() -> Vec<String> {
    let row = |option: &OptionName| {
        let values = config::describe(option.long);
        let (default, bounds) =
            values.map_or(("off".to_owned(), String::new()), |it| (it.default, it.bounds));
        format!("| `{}` | {} | {default} | {bounds} |", help::spelling(option), option.meaning)
    };
    let flags = help::GROUPS.iter().flat_map(|(_, flags)| flags.iter());
    flags.map(|flag| row(options().iter().find(|option| option.long == *flag).unwrap())).collect()
}

#[test]
fn the_documentation_lists_the_options_as_they_are() {
    let page = include_str!("../../docs/configuration.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `-")).collect();
    let expected = documented_rows();
    assert_eq!(rows, expected, "the tables of docs/configuration.md should be:\n{}", expected.join("\n"));
}

/// Words near to those of a real command line.
fn any_word() -> impl Strategy<Value = String> {
    let real: Vec<String> =
        options().iter().flat_map(|option| [option.long.to_owned(), format!("{}=1", option.long)]).collect();
    prop_oneof![
        proptest::sample::select(real),
        "-[a-z]{1,3}[0-9]{0,2}",
        "-{0,3}[a-z_]{0,6}=?-?[0-9]{0,3}",
        any::<String>(),
    ]
}

proptest! {
    #[test]
    fn any_words_are_parsed_or_refused_in_two_lines(words in proptest::collection::vec(any_word(), 0..8)) {
        if let Err(exit) = parse(&words) {
            let answered = exit.status == 0 && exit.to_stdout;
            prop_assert!(answered || exit.status == EXIT_USAGE && exit.output.lines().count() == 2, "{:?}", exit);
        }
    }

    #[test]
    fn normal_words_stay_as_they_are(words in proptest::collection::vec(any_word(), 0..8)) {
        if let Ok(normal) = normal::normalise(&words, options()) {
            prop_assert_eq!(normal::normalise(&normal, options()), Ok(normal));
        }
    }

    #[test]
    fn positionals_survive_in_order(names in proptest::collection::vec("[^-]\\PC{0,8}", 0..6)) {
        prop_assert_eq!(parse(&names).unwrap().arguments, names);
    }
}
