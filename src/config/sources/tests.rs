use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;

use super::*;
use crate::config::{environment, file};
use crate::limits::CONFIG_FILE_BYTES_MAX;

const SETTABLE: [Settable; 4] = [
    Settable { flag: "--port", takes_value: true, is_repeatable: false },
    Settable { flag: "--no-keepalive", takes_value: false, is_repeatable: false },
    Settable { flag: "--watch", takes_value: true, is_repeatable: true },
    Settable { flag: APP, takes_value: true, is_repeatable: true },
];

type Options = BTreeMap<&'static str, Given>;

fn words(line: &str) -> Given {
    Given::Words(line.split(' ').map(str::to_owned).collect())
}

fn from_environment(variables: &[(&str, &str)]) -> Result<Options, ConfigError> {
    let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
    environment::layer(variables, &SETTABLE).map(|layer| layer.options)
}

fn from_file(name: &str, text: &str) -> Result<Options, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    let cut = |text: String| text.replace(&format!("{}/", directory.path().display()), "");
    file::named(path.to_str().unwrap(), &SETTABLE).map(|layer| layer.options).map_err(|error| ConfigError {
        flag: cut(error.flag),
        fault: cut(error.fault),
        hint: error.hint,
    })
}

#[test]
fn variables_are_named_after_their_options() {
    let variables =
        [("SPAWN_PORT", "80"), ("SPAWN_NO_KEEPALIVE", "yes"), ("SPAWN_APP", " a.b  c "), ("HOME", "/")];
    let expected = [("--port", words("80")), ("--no-keepalive", Given::Switch(true)), (APP, words("a.b c"))];
    assert_eq!(from_environment(&variables), Ok(expected.into()));
}

#[test]
fn a_variable_that_is_set_counts_though_it_is_empty() {
    assert_eq!(from_environment(&[("SPAWN_PORT", "")]), Ok([("--port", words(""))].into()));
}

#[test]
fn a_variable_that_no_option_has_is_refused() {
    let error = from_environment(&[("SPAWN_PROT", "80")]).unwrap_err();
    assert_eq!((error.flag.as_str(), error.fault.as_str()), ("SPAWN_PROT", "no such option"));
    assert_eq!(error.hint, "did you mean SPAWN_PORT? see spawn --help");
    for name in ["SPAWN_port", "SPAWN_NO-KEEPALIVE", "SPAWN_NO_KEEPALIV", "SPAWN_PORT_", "SPAWN_"] {
        assert_eq!(from_environment(&[(name, "1")]).unwrap_err().fault, "no such option", "{name}");
    }
}

#[test]
fn a_switch_is_on_or_off_and_nothing_else() {
    for (text, on) in [("1", true), ("TRUE", true), ("on", true), ("0", false), ("No", false), ("off", false)]
    {
        let options = from_environment(&[("SPAWN_NO_KEEPALIVE", text)]);
        assert_eq!(options, Ok([("--no-keepalive", Given::Switch(on))].into()), "{text}");
    }
    for text in ["", "2", "maybe"] {
        let error = from_environment(&[("SPAWN_NO_KEEPALIVE", text)]).unwrap_err();
        assert_eq!(error.flag, "SPAWN_NO_KEEPALIVE");
        assert_eq!(error.fault, format!("{text:?} is neither true nor false"));
    }
}

#[test]
fn a_variable_must_be_unicode_if_it_is_ours() {
    let bytes = || OsString::from_vec(vec![0xff]);
    assert!(environment::layer([("OTHER".into(), bytes()), (bytes(), bytes())], &SETTABLE).is_ok());
    let error = environment::layer([("SPAWN_PORT".into(), bytes())], &SETTABLE).unwrap_err();
    assert_eq!((error.flag.as_str(), error.fault.as_str()), ("SPAWN_PORT", "its value is not UTF-8"));
}

#[test]
fn a_file_gives_strings_numbers_switches_and_lists() {
    let text = "port = 80\nno_keepalive = false\nwatch = [\"a b\", \"c\"]\napp = \"a.b\"\n";
    let expected = [
        ("--port", words("80")),
        ("--no-keepalive", Given::Switch(false)),
        ("--watch", Given::Words(vec!["a b".to_owned(), "c".to_owned()])),
        (APP, words("a.b")),
    ];
    assert_eq!(from_file("spawning.toml", text), Ok(expected.into()));
    assert_eq!(from_file("spawning.toml", "port = 0.25"), Ok([("--port", words("0.25"))].into()));
    assert_eq!(from_file("spawning.toml", "port = \"8K\""), Ok([("--port", words("8K"))].into()));
}

#[test]
fn of_a_project_file_only_our_table_counts() {
    let text = "[project]\nname = \"x\"\n[tool.spawning]\nport = 80\n";
    assert_eq!(from_file("pyproject.toml", text), Ok([("--port", words("80"))].into()));
    let error = from_file("pyproject.toml", "[tool.other]\nport = 80\n").unwrap_err();
    assert_eq!(
        (error.flag.as_str(), error.fault.as_str()),
        ("--config", "\"pyproject.toml\" has no table [tool.spawning]")
    );
}

#[test]
fn a_wrong_file_is_refused_with_its_name() {
    for (text, flag, fault) in [
        ("prot = 80", "spawning.toml: prot", "no such option"),
        ("[port]", "spawning.toml: port", "takes no table"),
        ("port = [80]", "spawning.toml: port", "takes no array"),
        ("port = true", "spawning.toml: port", "takes no boolean"),
        ("port = 1979-05-27", "spawning.toml: port", "takes no datetime"),
        ("watch = [[]]", "spawning.toml: watch", "takes no array"),
        ("no-keepalive = 2", "spawning.toml: no-keepalive", "\"2\" is neither true nor false"),
        (
            "no-keepalive = true\nno_keepalive = true",
            "spawning.toml: no-keepalive",
            "given twice, with - and with _",
        ),
    ] {
        let error = from_file("spawning.toml", text).unwrap_err();
        assert_eq!((error.flag.as_str(), error.fault.as_str()), (flag, fault), "{text}");
    }
    let error = from_file("spawning.toml", "port = 80\nport = \n").unwrap_err();
    assert_eq!(error.flag, "spawning.toml");
    assert!(error.fault.starts_with("line 2: "), "{}", error.fault);
}

#[test]
fn a_file_that_cannot_be_read_is_the_fault_of_who_named_it() {
    for name in ["missing/spawning.toml", "/", "/proc/self/mem"] {
        let error = file::named(name, &SETTABLE).unwrap_err();
        assert_eq!(error.flag, "--config");
        assert!(error.fault.contains(name), "{}", error.fault);
    }
}

#[test]
fn a_file_has_a_longest_length() {
    let longest = format!("port = 80{}", "\n".repeat(usize::try_from(CONFIG_FILE_BYTES_MAX).unwrap() - 9));
    assert!(from_file("spawning.toml", &longest).is_ok());
    let error = from_file("spawning.toml", &format!("{longest}\n")).unwrap_err();
    assert!(error.fault.contains("longer than 1048576 bytes"), "{}", error.fault);
}

#[test]
fn a_factory_sets_options_and_keeps_its_own_keys() {
    let json = br#"{"port": 80, "no_keepalive": true, "django_settings_module": "x", "nested": {"a": [1]}}"#;
    let layer = file::answer(json, "a.factory", &SETTABLE).unwrap();
    assert_eq!(layer.source, Source::Factory("a.factory".to_owned()));
    assert_eq!(layer.options, [("--port", words("80")), ("--no-keepalive", Given::Switch(true))].into());

    let layer = file::answer(br#"{"origin": "x.ini"}"#, "a.factory", &SETTABLE).unwrap();
    assert_eq!(layer.source, Source::Factory("x.ini".to_owned()));
    assert_eq!(file::answer(b"[]", "a.factory", &SETTABLE).unwrap_err().flag, "a.factory");
    assert_eq!(file::answer(br#"{"port": []}"#, "f", &SETTABLE).unwrap_err().flag, "f: port");
}

#[test]
fn a_key_given_twice_is_shown_without_its_control_characters() {
    let refused = [
        file::answer(b"{\"a\x7f\\n\": 1, \"a\x7f\\n\": 2}", "a.factory", &SETTABLE).map(|_| ()),
        from_file("spawning.toml", "\"a\\u007f\\n\" = 1\n\"a\\u007f\\n\" = 2").map(|_| ()),
    ];
    for error in refused.map(Result::unwrap_err) {
        let text = error.to_string();
        assert!(text.lines().count() == 2 && !text.contains('\x7f'), "{text:?}");
    }
}

#[test]
fn a_fault_is_told_in_the_words_of_its_source() {
    let error = || ConfigError::new("--body-timeout", "x", "choose one, for example --body-timeout 30");
    for (source, flag, hint) in [
        (Source::CommandLine, "--body-timeout", "--body-timeout 30"),
        (Source::Environment, "SPAWN_BODY_TIMEOUT", "SPAWN_BODY_TIMEOUT=30"),
        (Source::File("a.toml".to_owned()), "a.toml: body-timeout", "body-timeout = 30"),
        (Source::Factory("a.ini".to_owned()), "a.ini: body-timeout", "body-timeout = 30"),
    ] {
        let told = source.retell(error());
        assert_eq!((told.flag.as_str(), told.hint), (flag, format!("choose one, for example {hint}")));
    }
}

proptest! {
    #[test]
    fn any_environment_is_read_or_refused_in_two_lines(name in "SPAWN_\\PC{0,9}|SPAWN_(PORT|APP)", value in any::<String>()) {
        if let Err(error) = from_environment(&[(&name, &value)]) {
            prop_assert_eq!(error.to_string().lines().count(), 2);
        }
    }

    #[test]
    fn any_file_is_read_or_refused_in_two_lines(text in "(port|watch|app|\\PC{0,4}) = \\PC{0,9}|\\PC{0,20}\n\\PC{0,20}") {
        if let Err(error) = from_file("spawning.toml", &text) {
            prop_assert_eq!(error.to_string().lines().count(), 2, "{}", error);
        }
    }
}
