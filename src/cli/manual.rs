//! The manual page spawn(1) in roff (man(7)), from what argh knows of the options. The answer to `--man`.

use std::fmt::Write;

use super::help::{GROUPS, NOTES};
use super::{EXIT_USAGE, OptionName, PROGRAM};
use crate::config;

const SIGNALS: [(&str, &str); 8] = [
    ("TERM", "drain every process, then exit; a second one stops at once"),
    ("INT", "the same, for Ctrl-C"),
    ("QUIT", "stop at once; requests are cut off"),
    ("HUP", "reload the application in a new generation of processes, and drain the old one"),
    ("USR1", "reopen log files"),
    ("USR2", "start a new server on the same sockets, and drain this one when it serves"),
    ("TTIN", "one process more"),
    ("TTOU", "one process fewer"),
];

const EXAMPLES: [(&str, &str); 4] = [
    ("spawn mysite.wsgi.application", "Serve on 127.0.0.1:8080."),
    (
        "spawn --host '' --port 80 --processes 8 --threads 16 mysite.wsgi.application",
        "Serve on every address, with eight processes of sixteen threads.",
    ),
    ("spawn --bind unix:/run/mysite/http.sock mysite.wsgi.application", "Serve behind a proxy."),
    (
        "spawn --factory spawning.django_factory.config_factory mysite.settings",
        "Serve a Django project by its settings.",
    ),
];

/// The whole page.
pub(super) fn page(summary: &str, arguments: &str, options: &[OptionName]) -> String {
    let mut page = ManualPage(String::new());
    page.request(&format!(
        ".TH SPAWN 1 \"\" \"Spawning {}\" \"User Commands\"",
        escaped(env!("CARGO_PKG_VERSION"))
    ));
    page.section("NAME");
    page.text(&format!("{PROGRAM} - {}", summary.trim_end_matches('.')));
    page.section("SYNOPSIS");
    page.request(&format!(".B {PROGRAM}"));
    page.request("[\\fIoptions\\fR] \\fIapp\\fR [\\fImiddleware\\fR ...]");
    page.section("DESCRIPTION");
    page.entry("\\fIapp\\fR [\\fImiddleware\\fR ...]", arguments);
    page.request(".PP");
    page.text(NOTES);
    page.section("OPTIONS");
    for (title, flags) in GROUPS {
        page.request(&format!(".SS {title}"));
        for option in flags.iter().filter_map(|flag| options.iter().find(|option| option.long == *flag)) {
            page.option(option);
        }
    }
    page.section("SIGNALS");
    for (name, meaning) in SIGNALS {
        page.entry(name, meaning);
    }
    page.section("EXIT STATUS");
    page.entry("0", "The server was stopped, or printed what it was asked for.");
    page.entry(&EXIT_USAGE.to_string(), "The options cannot be used as they are. Nothing was bound.");
    page.entry("69", "An address cannot be bound.");
    page.entry("70", "The application cannot be loaded at the start.");
    page.entry("71", "The operating system refuses something.");
    page.section("EXAMPLES");
    for (command, meaning) in EXAMPLES {
        page.entry(&escaped(command), meaning);
    }
    page.0
}

/// Lines of roff.
struct ManualPage(String);

impl ManualPage {
    fn request(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn section(&mut self, title: &str) {
        self.request(&format!(".SH {title}"));
    }

    fn text(&mut self, text: &str) {
        // A full stop or quote at the beginning of a line would be taken for a request.
        let guard = if text.starts_with(['.', '\'']) { "\\&" } else { "" };
        self.request(&format!("{guard}{}", escaped(text)));
    }

    fn entry(&mut self, term: &str, meaning: &str) {
        self.request(".TP");
        self.request(&format!("\\fB{term}\\fR"));
        self.text(meaning);
    }

    fn option(&mut self, option: &OptionName) {
        let mut term = option.short.map(|short| format!("\\-{short}, ")).unwrap_or_default();
        term.push_str(&escaped(option.long));
        if let Some(value) = option.value {
            // Writing to a string cannot fail.
            let _ = write!(term, " \\fI{}", escaped(value));
        }
        self.entry(&term, option.meaning);
        if let Some(values) = config::describe(option.long) {
            self.request(".br");
            self.text(&format!("[default: {}; {}]", values.default, values.bounds));
        }
    }
}

/// Text in which roff sees nothing but text; a hyphen stays the one that can be typed.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_taken_for_a_request() {
        let mut page = ManualPage(String::new());
        page.text(".so /etc/passwd");
        page.text("'a\\b-c");
        assert_eq!(page.0, "\\&.so /etc/passwd\n\\&\\(aqa\\eb\\-c\n");
    }
}
