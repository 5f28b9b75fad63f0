//! Completion scripts for shells, from what argh knows of the options. The answer to `--completion`.

use std::fmt::Write;

use super::OptionName;
use crate::config::ConfigError;

/// The script for one shell.
///
/// # Errors
/// There is none for that shell.
pub(super) fn script(shell: &str, options: &[OptionName]) -> Result<String, ConfigError> {
    match shell {
        "bash" => Ok(bash(options)),
        "zsh" => Ok(zsh(options)),
        "fish" => Ok(fish(options)),
        _ => {
            let fault = format!("{shell:?} is not a shell known here");
            Err(ConfigError::new("--completion", fault, "write --completion bash, zsh or fish"))
        }
    }
}

/// What the value of an option can be completed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Values {
    /// The option is a switch.
    None,
    Anything,
    Directories,
    Files,
    Users,
    Words(&'static str),
}

fn values(option: &OptionName) -> Values {
    match (option.long, option.value) {
        ("--pin", _) => Values::Words("all executors none"),
        ("--completion", _) => Values::Words("bash zsh fish"),
        ("--reload", _) => Values::Words("dev"),
        ("--log-level", _) => Values::Words("error warn info debug trace"),
        ("--reactor", _) => Values::Words("auto io-uring epoll"),
        ("--log-format", _) => Values::Words("text json"),
        ("--watch", _) | (_, Some("file")) => Values::Files,
        (_, Some("directory")) => Values::Directories,
        (_, Some("user[:group]")) => Values::Users,
        (_, Some(_)) => Values::Anything,
        (_, None) => Values::None,
    }
}

/// The names of all options that `wanted` describes, parted by `separator`.
fn names(options: &[OptionName], separator: &str, wanted: impl Fn(Values) -> bool) -> String {
    let wanted = options.iter().filter(|option| wanted(values(option)));
    let spellings = wanted.flat_map(|option| [Some(option.long.to_owned()), letter(option)]);
    spellings.flatten().collect::<Vec<_>>().join(separator)
}

fn letter(option: &OptionName) -> Option<String> {
    option.short.map(|short| format!("-{short}"))
}

const BASH: &str = r#"# bash completion of spawn; see spawn --help
_spawn_modules() {
    local prefix=${1//./\/} path
    for path in "$prefix"*.py "$prefix"*/; do
        [[ -f $path || -f $path/__init__.py ]] || continue
        path=${path%.py}
        path=${path%/}
        printf '%s\n' "${path//\//.}"
    done
}

_spawn() {
    local current=${COMP_WORDS[COMP_CWORD]} option=${COMP_WORDS[COMP_CWORD - 1]}
    # To bash, --option=value is three words.
    if [[ $current == = ]]; then
        current=
    elif [[ $option == = ]]; then
        option=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    case $option in
"#;

const BASH_END: &str = r#"    esac
    case $current in
        -*) mapfile -t COMPREPLY < <(compgen -W '@NAMES@' -- "$current") ;;
        *) mapfile -t COMPREPLY < <(_spawn_modules "$current") ;;
    esac
}

complete -F _spawn spawn spawning
"#;

fn bash(options: &[OptionName]) -> String {
    let mut script = BASH.to_owned();
    let mut case = |wanted: Values, action: &str| {
        let patterns = names(options, " | ", |values| values == wanted);
        if !patterns.is_empty() {
            let list = format!("mapfile -t COMPREPLY < <(compgen {action} -- \"$current\")");
            let list = if wanted == Values::Anything { "COMPREPLY=()" } else { &list };
            // Writing to a string cannot fail.
            let _ = writeln!(script, "        {patterns}) {list}; return ;;");
        }
    };
    case(Values::Files, "-f");
    case(Values::Directories, "-d");
    case(Values::Users, "-u");
    for option in options {
        if let Values::Words(words) = values(option) {
            case(Values::Words(words), &format!("-W '{words}'"));
        }
    }
    case(Values::Anything, "");
    script + &BASH_END.replace("@NAMES@", &names(options, " ", |_| true))
}

const ZSH: &str = "#compdef spawn spawning
# zsh completion of spawn; see spawn --help
_spawn_modules() {
    local -a modules
    modules=(*.py(N:r) */__init__.py(N:h))
    compadd -a modules
}

_spawn() {
    _arguments -s -S \\
";

const ZSH_END: &str = "        '*:application or middleware:_spawn_modules'
}

if [[ $funcstack[1] == _spawn ]]; then
    _spawn \"$@\"
else
    compdef _spawn spawn spawning
fi
";

fn zsh(options: &[OptionName]) -> String {
    let mut script = ZSH.to_owned();
    for option in options {
        let meaning = option.meaning.replace('\'', "'\\''").replace('[', "\\[").replace(']', "\\]");
        let (long, short) = match values(option) {
            Values::None => ("", ""),
            _ => ("=", "+"),
        };
        let value = zsh_value(option);
        for (name, attached) in [(Some(option.long.to_owned()), long), (letter(option), short)] {
            if let Some(name) = name {
                // Writing to a string cannot fail.
                let _ = writeln!(script, "        '*{name}{attached}[{meaning}]{value}' \\");
            }
        }
    }
    script + ZSH_END
}

fn zsh_value(option: &OptionName) -> String {
    let action = match values(option) {
        Values::None => return String::new(),
        Values::Anything => " ".to_owned(),
        Values::Directories => "_files -/".to_owned(),
        Values::Files => "_files".to_owned(),
        Values::Users => "_users".to_owned(),
        Values::Words(words) => format!("({words})"),
    };
    format!(":{}:{action}", option.value.unwrap_or_default().replace(':', "\\:"))
}

const FISH: &str = "# fish completion of spawn; see spawn --help
function __spawn_modules
    set -l paths *.py */__init__.py
    string replace -r '(/__init__)?\\.py$' '' -- $paths
end

for program in spawn spawning
    complete -c $program -f -a '(__spawn_modules)'
";

fn fish(options: &[OptionName]) -> String {
    let mut script = FISH.to_owned();
    for option in options {
        let long = option.long.trim_start_matches('-');
        let short = option.short.map(|short| format!(" -s {short}")).unwrap_or_default();
        let value = match values(option) {
            Values::None => String::new(),
            Values::Anything => " -x".to_owned(),
            Values::Directories => " -x -a '(__fish_complete_directories)'".to_owned(),
            Values::Files => " -r -F".to_owned(),
            Values::Users => " -x -a '(__fish_complete_users)'".to_owned(),
            Values::Words(words) => format!(" -x -a '{words}'"),
        };
        let meaning = option.meaning.replace('\\', "\\\\").replace('\'', "\\'");
        // Writing to a string cannot fail.
        let _ = writeln!(script, "    complete -c $program -l {long}{short}{value} -d '{meaning}'");
    }
    script + "end\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{PROGRAM, options};

    #[test]
    fn every_option_is_in_every_script() {
        for shell in ["bash", "zsh", "fish"] {
            let script = script(shell, options()).unwrap();
            for option in options() {
                assert!(script.contains(option.long.trim_start_matches('-')), "{shell}: {}", option.long);
            }
            assert!(script.contains(PROGRAM) && script.ends_with('\n'));
        }
    }

    #[test]
    fn another_shell_is_refused() {
        let refused = script("tcsh", options()).unwrap_err();
        assert_eq!(refused.to_string().lines().count(), 2);
    }
}
