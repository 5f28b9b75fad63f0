use super::*;

fn read(line: &str, variables: &[(&str, &str)], file: &str) -> Result<CliSettings, Exit> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spawning.toml");
    std::fs::write(&path, file).unwrap();
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let config = ("SPAWN_CONFIG".into(), path.into());
    CliSettings::read(
        &words,
        variables.iter().map(|(name, value)| (name.into(), value.into())).chain([config]),
    )
}

fn raw(line: &str, variables: &[(&str, &str)], file: &str) -> RawOptions {
    read(line, variables, file).unwrap().raw().unwrap()
}

#[test]
fn the_strongest_source_of_each_option_counts() {
    let options =
        raw("-p 1 app", &[("SPAWN_PORT", "2"), ("SPAWN_THREADS", "2")], "port=3\nthreads=3\nqueue=3");
    assert_eq!(options.port.as_deref(), Some("1"));
    assert_eq!(options.threads.as_deref(), Some("2"));
    assert_eq!(options.queue.as_deref(), Some("3"));
    assert_eq!(options.processes, None);
}

#[test]
fn a_factory_is_the_weakest_source() {
    let mut settings = read("-p 1 app", &[], "threads = 3").unwrap();
    settings.add_answer(br#"{"port": 4, "threads": 4, "processes": 4}"#, "a.factory").unwrap();
    let options = settings.raw().unwrap();
    assert_eq!(options.port.as_deref(), Some("1"));
    assert_eq!(options.threads.as_deref(), Some("3"));
    assert_eq!(options.processes.as_deref(), Some("4"));
}

#[test]
fn a_stronger_source_can_switch_off_what_a_weaker_one_switches_on() {
    assert!(raw("app", &[], "verbose = true").verbose);
    assert!(!raw("app", &[("SPAWN_VERBOSE", "0")], "verbose = true").verbose);
    assert!(raw("-v app", &[("SPAWN_VERBOSE", "0")], "").verbose);
}

#[test]
fn positionals_come_from_one_source_as_a_whole() {
    assert_eq!(raw("", &[], "app = ['a', 'b']").arguments, ["a", "b"]);
    assert_eq!(raw("", &[("SPAWN_APP", "c d e")], "app = ['a', 'b']").arguments, ["c", "d", "e"]);
    assert_eq!(raw("f", &[("SPAWN_APP", "c d e")], "app = ['a', 'b']").arguments, ["f"]);
}

#[test]
fn every_option_can_be_set_by_every_source() {
    for option in settable() {
        let name = option.flag.trim_start_matches('-');
        let (variable, text) = (
            format!("SPAWN_{}", name.replace('-', "_").to_uppercase()),
            if option.takes_value { "7" } else { "1" },
        );
        if option.flag == "--config" {
            continue;
        }
        let settings = read("", &[(&variable, text)], "").unwrap();
        assert_eq!(settings.given(option.flag).unwrap().0, &Source::Environment, "{variable}");
        let value = if option.takes_value { "\"7\"" } else { "true" };
        let settings = read("", &[], &format!("{name} = {value}")).unwrap();
        assert!(matches!(settings.given(option.flag), Some((Source::File(_), _))), "{name}");
    }
}

#[test]
fn what_to_do_is_for_the_command_line_alone() {
    assert_eq!(read("app", &[], "").unwrap().action(), Ok(CliAction::Serve));
    assert_eq!(read("--check app", &[], "").unwrap().action(), Ok(CliAction::Check));
    assert_eq!(read("--print-config app", &[], "").unwrap().action(), Ok(CliAction::PrintConfig));
    for name in ["check", "print-config", "version", "help", "config"] {
        assert!(
            read("app", &[], &format!("{name} = true")).unwrap_err().output.contains("no such option"),
            "{name}"
        );
    }
    assert!(read("app", &[("SPAWN_CHECK", "1")], "").unwrap_err().output.contains("no such option"));
}

#[test]
fn a_fault_names_its_source() {
    let refusal = |line: &str, variables: &[(&str, &str)], file: &str| {
        let exit = read(line, variables, file).and_then(|settings| settings.config(1)).unwrap_err();
        assert_eq!((exit.status, exit.to_stdout), (EXIT_USAGE, false));
        exit.output.lines().next().unwrap().to_owned()
    };
    assert_eq!(refusal("-p 70000 app", &[], ""), "spawn: --port: 70000 is too large, at most 65535");
    let variables = [("SPAWN_PORT", "70000")];
    assert_eq!(refusal("app", &variables, ""), "spawn: SPAWN_PORT: 70000 is too large, at most 65535");
    let line = refusal("app", &[], "port = 70000");
    assert!(line.ends_with("/spawning.toml: port: 70000 is too large, at most 65535"), "{line}");
    assert!(
        refusal("", &[("SPAWN_APP", "a b..c")], "")
            .starts_with("spawn: SPAWN_APP: \"b..c\" is not a dotted path")
    );
}

#[test]
fn the_table_tells_every_option_and_where_it_came_from() {
    let settings = read("-p 81 app", &[("SPAWN_THREADS", "5")], "verbose = true").unwrap();
    let table = settings.table(&settings.config(6).unwrap());
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(rows.contains(&vec!["app", "app", "command", "line"]), "{table}");
    assert!(rows.contains(&vec!["port", "81", "command", "line"]), "{table}");
    assert!(rows.contains(&vec!["threads", "5", "SPAWN_THREADS"]), "{table}");
    assert!(rows.contains(&vec!["processes", "6", "default"]), "{table}");
    assert!(
        rows.iter().any(|row| row[..2] == ["verbose", "true"] && row[2].ends_with("/spawning.toml")),
        "{table}"
    );
    for option in settable() {
        assert!(rows.iter().any(|row| row[0] == option.flag.trim_start_matches('-')), "{}", option.flag);
    }
}
