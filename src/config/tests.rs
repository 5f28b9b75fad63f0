use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;

fn options() -> RawOptions {
    RawOptions { arguments: vec!["mysite.wsgi.application".to_owned()], ..RawOptions::default() }
}

fn read(raw: &RawOptions) -> Result<Config, ConfigError> {
    Config::from_words(raw, 3)
}

#[test]
fn nothing_but_an_application_is_enough() {
    let expected = Config {
        factory: "spawning.wsgi_factory.config_factory".to_owned(),
        arguments: vec!["mysite.wsgi.application".to_owned()],
        application: ApplicationSettings::default(),
        binds: vec![Bind::Tcp(SocketAddr::from(([127, 0, 0, 1], 8080)))],
        binds_are_default: true,
        unix_socket: UnixSocket::default(),
        status: None,
        service: Service::default(),
        processes: 3,
        pin: Pin::Executors,
        threads: 4,
        green: None,
        keep_alive: true,
        access_log: AccessLog::Stdout,
        access_log_format: AccessLogFormat::default(),
        quiet: Quiet::default(),
        logging: Logging::default(),
        verbose: false,
        sysinfo: false,
        coverage: false,
        backdoor: false,
        deadman_timeout: Duration::from_secs(10),
        drain_delay: Duration::ZERO,
        start_timeout: Duration::from_secs(60),
        queue_length_max: 1024,
        queue_timeout: Duration::from_secs(30),
        http: HttpLimits::default(),
        connections_max: 32_768,
        reactor: ReactorChoice::Auto,
        stream_uploads: false,
        buffer_chunked: false,
        strict: false,
        spill: Spill::default(),
        proxies: Proxies::default(),
        reload: Reload::default(),
        worker_limits: WorkerLimits {
            stuck_timeout: Some(Duration::from_secs(60)),
            ..WorkerLimits::default()
        },
    };
    assert_eq!(read(&options()), Ok(expected));
}

#[test]
fn every_range_takes_its_bounds_and_refuses_what_lies_beyond() {
    for range in ranges::ALL {
        let (min, max) = (range.text(range.min), range.text(range.max));
        assert_eq!(range.read(Some(&min)), Ok(range.min), "{}", range.flag);
        assert_eq!(range.read(Some(&max)), Ok(range.max), "{}", range.flag);

        let below = if range.min == 0 { "-1".to_owned() } else { range.text(range.min - 1) };
        let error = range.read::<u64>(Some(&below)).unwrap_err();
        assert_eq!(
            (error.flag.as_str(), error.fault),
            (range.flag, format!("{below} is too small, at least {min}"))
        );

        for above in [range.text(range.max + 1), "9".repeat(30)] {
            let error = range.read::<u64>(Some(&above)).unwrap_err();
            assert_eq!(
                (error.flag.as_str(), error.fault),
                (range.flag, format!("{above} is too large, at most {max}"))
            );
            assert!(error.hint.contains(&format!("from {min} to {max}")), "{}", error.hint);
        }
    }
}

#[test]
fn a_measured_default_is_brought_within_the_bounds() {
    assert_eq!(Config::from_words(&options(), 0).unwrap().processes, 1);
    assert_eq!(Config::from_words(&options(), 1_000_000).unwrap().processes, 1024);
}

#[test]
fn numbers_have_digits_and_nothing_else() {
    for text in ["", " 8", "8 ", "+8", "0x8", "8.0", "1_000", "1e3", "8K", "eight", "٨", "-", "--8"] {
        let error = read(&RawOptions { port: Some(text.into()), ..options() }).unwrap_err();
        assert_eq!(error.fault, format!("{text:?} is not a whole number"));
    }
}

#[test]
fn bytes_may_be_counted_in_powers_of_1024() {
    for (text, bytes) in [("0", 0), ("1000", 1000), ("512K", 512 << 10), ("7m", 7 << 20), ("2G", 2 << 30)] {
        let raw = RawOptions { body_bytes_max: Some(text.into()), ..options() };
        assert_eq!(read(&raw).unwrap().http.body_bytes_max, bytes);
    }
    for text in ["", "K", "1KB", "1.5M", "1 K", "1T", "1é"] {
        assert!(read(&RawOptions { body_bytes_max: Some(text.into()), ..options() }).is_err(), "{text}");
    }
}

#[test]
fn memory_without_a_letter_counts_kibibytes() {
    let memory = |word: &str| {
        let raw = RawOptions { max_memory: Some(word.into()), ..options() };
        read(&raw).map(|config| config.worker_limits.memory_bytes_max)
    };
    for (word, bytes) in [("512", 512 << 10), ("512K", 512 << 10), ("3M", 3 << 20), ("2g", 2 << 30)] {
        assert_eq!(memory(word), Ok(Some(bytes)), "{word}");
    }
    assert_eq!(memory("0"), Ok(None));
    assert_eq!(memory("2T").unwrap_err().fault, "\"2T\" is not a whole number, with or without K, M or G");
}

#[test]
fn reloads_are_dev_or_poll_and_only_what_exists_is_watched() {
    let error = read(&RawOptions { reload: Some("always".into()), ..options() }).unwrap_err();
    assert_eq!(
        (error.flag.as_str(), error.fault.as_str()),
        ("--reload", "\"always\" is neither dev nor poll")
    );
    let error = read(&RawOptions { watch: vec!["/nonexistent".into()], ..options() }).unwrap_err();
    assert_eq!(error.flag, "--watch");
    assert!(error.fault.starts_with("\"/nonexistent\" cannot be found: "), "{error}");
}

#[test]
fn seconds_may_have_three_decimals() {
    for (text, milliseconds) in [("5", 5000), ("0.25", 250), ("1.005", 1005), ("0.1", 100), ("2.", 2000)] {
        let raw = RawOptions { queue_timeout: Some(text.into()), ..options() };
        assert_eq!(read(&raw).unwrap().queue_timeout, Duration::from_millis(milliseconds));
    }
    for text in ["", ".", ".5", "0.0005", "1.2.3", "1,5", "1s", "inf", "NaN", "1e2", "1.-5", "1.+5"] {
        assert!(read(&RawOptions { queue_timeout: Some(text.into()), ..options() }).is_err(), "{text}");
    }
}

#[test]
fn hosts_are_literals_names_or_everything() {
    for (text, address) in [
        ("", "0.0.0.0:8080"),
        ("0.0.0.0", "0.0.0.0:8080"),
        ("192.0.2.7", "192.0.2.7:8080"),
        ("::1", "[::1]:8080"),
        ("[::1]", "[::1]:8080"),
        ("[::]", "[::]:8080"),
        ("localhost", "127.0.0.1:8080"),
    ] {
        let config = read(&RawOptions { host: Some(text.into()), ..options() }).unwrap();
        assert_eq!(config.binds, [Bind::Tcp(address.parse().unwrap())], "{text}");
    }
}

#[test]
fn a_host_with_a_port_is_told_where_the_port_goes() {
    for text in ["127.0.0.1:80", "[::1]:80"] {
        let error = read(&RawOptions { host: Some(text.into()), ..options() }).unwrap_err();
        assert_eq!(error.fault, format!("{text:?} has a port in it"));
        assert!(error.hint.contains("--port"), "{}", error.hint);
    }
}

#[test]
fn a_host_that_nobody_knows_is_refused() {
    // Names that the resolver refuses without asking the network: a label has at most 63 bytes (RFC 1035).
    for text in ["nul\0byte", &"a".repeat(64)] {
        let error = read(&RawOptions { host: Some(text.into()), ..options() }).unwrap_err();
        assert_eq!(error.flag, "--host");
        assert!(error.fault.starts_with(&format!("{text:?} cannot be resolved")), "{}", error.fault);
    }
}

#[test]
fn an_application_is_needed_and_is_a_dotted_path() {
    let none = RawOptions::default();
    assert_eq!(read(&none).unwrap_err().flag, "app");
    for text in [
        "app",
        "mysite.wsgi.application",
        "mysite.wsgi:application",
        "a.b:c.d",
        "_a1.Ünï.名",
        "a:make()",
        "a:make('b c', d=1)",
        "a.make((1, 2))",
    ] {
        assert!(read(&RawOptions { arguments: vec![text.to_owned()], ..none.clone() }).is_ok(), "{text}");
    }
    for text in [
        "", ".", "a..b", ".a", "a.", "a b", "a.b c", "a/b.py", "1a", "a:b:c", "a:", ":a", "a-b", "a\n", "a(",
        "(", "()", "a:b()c", "a b()",
    ] {
        let error = read(&RawOptions { arguments: vec![text.to_owned()], ..none.clone() }).unwrap_err();
        assert_eq!(error.flag, "app", "{text}");
        assert_eq!(error.to_string().lines().count(), 2, "{error}");
    }
    let middleware = vec!["app".to_owned(), "gzip..gzip".to_owned()];
    assert_eq!(read(&RawOptions { arguments: middleware, ..none }).unwrap_err().flag, "middleware");
}

#[test]
fn only_the_default_factory_wants_dotted_paths() {
    let factory = Some("spawning.paste_factory.config_factory".into());
    let arguments = vec!["etc/site.ini".to_owned(), "debug=true".to_owned()];
    assert!(read(&RawOptions { factory: factory.clone(), arguments, ..options() }).is_ok());
    assert!(read(&RawOptions { factory, arguments: vec![String::new()], ..options() }).is_err());
    assert_eq!(
        read(&RawOptions { factory: Some("a..b".into()), ..options() }).unwrap_err().flag,
        "--factory"
    );
}

#[test]
fn a_site_is_named_without_what_not_everybody_should_read() {
    let site = |factory: Option<&str>, argument: &str| {
        let factory = factory.map(str::to_owned);
        let arguments = vec![argument.to_owned(), "mysite.middleware".to_owned()];
        read(&RawOptions { arguments, factory, ..options() }).unwrap().site()
    };
    assert_eq!(site(None, "mysite.wsgi:application"), "mysite.wsgi:application");
    assert_eq!(site(None, "mysite:create_app(key='secret')"), "mysite:create_app");
    let paste = Some("spawning.paste_factory.config_factory");
    assert_eq!(site(paste, "etc/site.ini"), "etc/site.ini");
    assert_eq!(site(paste, "no\u{0}\u{1b}[1m.ini"), "no[1m.ini", "what no command line can hold");
    assert_eq!(site(Some("mysite.conf.factory"), "secret"), "mysite.conf.factory");
    let long = "a".repeat(SITE_CHARS_MAX);
    assert_eq!(site(None, &long), long);
    assert_eq!(site(None, &format!("{long}b")), long);
}

#[test]
fn the_access_log_goes_to_standard_output_nowhere_or_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let new = directory.path().join("new.log");
    let old = directory.path().join("old.log");
    std::fs::write(&old, "a line\n").unwrap();
    for (text, access_log) in [
        ("-", AccessLog::Stdout),
        ("/dev/null", AccessLog::Off),
        (new.to_str().unwrap(), AccessLog::File(new.clone())),
        (old.to_str().unwrap(), AccessLog::File(old.clone())),
        ("Cargo.toml", AccessLog::File(std::path::absolute("Cargo.toml").unwrap())),
    ] {
        let config = read(&RawOptions { access_log_file: Some(text.into()), ..options() }).unwrap();
        assert_eq!(config.access_log, access_log);
    }
    assert_eq!(std::fs::read_to_string(&old).unwrap(), "a line\n");
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "checking leaves no file behind");
}

#[test]
fn uploads_are_streamed_to_threads_that_can_wait_for_them() {
    let raw = RawOptions { stream_uploads: true, ..options() };
    assert!(read(&raw).unwrap().stream_uploads);
    let error = read(&RawOptions { threads: Some("0".into()), ..raw }).unwrap_err();
    assert_eq!(error.flag, "--stream-uploads");
    assert!(error.fault.contains("--threads 0"), "{error}");
}

#[test]
fn temporary_files_are_where_they_can_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let spill = |word: &str| {
        let raw = RawOptions { spill_directory: Some(word.into()), ..options() };
        read(&raw).map(|config| config.spill.directory)
    };
    assert_eq!(spill(directory.path().to_str().unwrap()).unwrap(), directory.path());
    assert_eq!(spill("src").unwrap(), std::path::absolute("src").unwrap());
    for (word, fault) in [("", "no directory"), ("missing", "no directory"), ("/proc", "cannot be written")] {
        let error = spill(word).unwrap_err();
        assert_eq!(error.flag, "--spill-directory");
        assert!(error.fault.contains(fault), "{error}");
    }
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0, "checking leaves no file behind");
}

#[test]
fn an_access_log_that_cannot_be_written_is_refused() {
    // No files can be created in /proc, not even by root.
    for (text, fault) in [
        ("", "must not be empty"),
        ("src", "is a directory"),
        ("missing/access.log", "there is no directory"),
        ("missing/", "cannot be found"),
        ("Cargo.toml/access.log", "cannot be found"),
        ("/proc/access.log", "\"/proc\" cannot be written"),
    ] {
        let error = read(&RawOptions { access_log_file: Some(text.into()), ..options() }).unwrap_err();
        assert_eq!(error.flag, "--access-log-file");
        assert!(error.fault.contains(fault), "{text}: {}", error.fault);
    }
}

#[test]
fn an_error_is_one_line_and_a_hint() {
    let error = read(&RawOptions { port: Some("70000".into()), ..options() }).unwrap_err();
    let expected = "--port: 70000 is too large, at most 65535\n\
                    hint: choose a port from 0 to 65535, for example --port 8080";
    assert_eq!(error.to_string(), expected);
}

fn any_range() -> impl Strategy<Value = ranges::Range> {
    proptest::sample::select(ranges::ALL.to_vec())
}

proptest! {
    #[test]
    fn a_value_is_read_as_it_is_written(range in any_range(), portion in 0_u64..=1000) {
        let value = range.min + (range.max - range.min) / 1000 * portion;
        prop_assert_eq!(range.read(Some(&range.text(value))), Ok(value));
    }

    #[test]
    fn no_word_is_read_beyond_the_bounds(range in any_range(), text in "[-+0-9.KMG]{0,24}|\\PC{0,8}") {
        if let Ok(value) = range.read::<u64>(Some(&text)) {
            prop_assert!((range.min..=range.max).contains(&value));
        }
    }

    #[test]
    fn every_refusal_is_two_lines(text in any::<String>()) {
        let raw = RawOptions { arguments: vec![text.clone()], port: Some(text), ..RawOptions::default() };
        if let Err(error) = read(&raw) {
            prop_assert_eq!(error.to_string().lines().count(), 2);
            prop_assert!(!error.to_string().chars().any(|it| it.is_control() && it != '\n'));
        }
    }
}
