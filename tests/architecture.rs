//! The rules of the repository that no compiler checks: who may import whom, which room may name which crate, where
//! `unsafe` and panics may stand, how long files and lines may be, and whether the pages' links lead anywhere.
//!
//! The sources are read as words, without comments, literals and tests. That is cruder than a compiler and enough to
//! notice a mistake; the lints of Cargo.toml look deeper, and a test here keeps them there. `can_fail` shows each check
//! fail.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

#[path = "architecture/can_fail.rs"]
mod can_fail;
#[path = "architecture/limits_page.rs"]
mod limits_page;
#[path = "architecture/source.rs"]
mod source;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use source::{Name, SOURCES, Source, Word, files_below, read, root};

/// The rooms of `src/`, and what each may import. `docs/architecture.md` shows the same table.
const MAY_IMPORT: [(&str, &str); 16] = [
    ("lib", "everything"),
    ("cli", "config"),
    ("supervisor", "bootstrap, scoreboard, config, limits, log, sys"),
    ("worker", "gateway, scheduler, reactor, http, bootstrap, scoreboard, config, limits, log, sys"),
    ("python", "gateway, scheduler, http, config, limits, log, sys"),
    ("status", "reactor, http, bootstrap, scoreboard, config, limits, sys"),
    ("gateway", "scheduler, http, limits"),
    ("scheduler", "limits"),
    ("reactor", "limits, sys"),
    ("http", "limits"),
    ("bootstrap", "scoreboard, config, limits, sys"),
    ("scoreboard", "limits, sys"),
    ("config", "limits"),
    ("limits", "nothing"),
    ("log", "config, limits, sys"),
    ("sys", "nothing"),
];

/// The crates that are kept in one place, and that place.
const NAMED_ONLY_IN: [(&str, &[&str]); 9] = [
    ("pyo3", &["src/python/", "src/lib.rs"]),
    ("glommio", &["src/reactor/"]),
    ("libc", &["src/sys/"]),
    ("nix", &["src/sys/"]),
    ("httparse", &["src/http/head.rs"]),
    ("argh", &["src/cli.rs", "src/cli/"]),
    ("toml", &["src/config/file.rs"]),
    ("notify", &["src/worker/watch.rs"]),
    ("prometheus", &["src/status/metrics.rs"]),
];

const UNSAFE_ONLY_IN: [&str; 3] = ["src/sys/", "src/python/", "src/reactor/ring.rs"];

/// What bytes from a peer or values from an application must never reach, beside `unwrap` and `expect`.
const PANICKING_MACROS: [&str; 4] = ["panic", "unreachable", "todo", "unimplemented"];

/// The lints of Cargo.toml that say the same, and more. None may be relaxed there or switched off in the source.
const DENIED: [(&str, &[&str]); 2] = [
    ("lints.rust", &["unsafe_code"]),
    (
        "lints.clippy",
        &[
            "undocumented_unsafe_blocks",
            "unwrap_used",
            "expect_used",
            "indexing_slicing",
            "panic",
            "unreachable",
            "todo",
            "print_stdout",
            "print_stderr",
            "exit",
        ],
    ),
];

const FILE_LINES_MAX: usize = 500;
const LINE_COLUMNS_MAX: usize = 120;

// The checks, each run over the whole repository.

#[test]
fn each_room_imports_only_what_lies_below_it() {
    assert_none(&each_source(imports_refused));
}

#[test]
fn the_table_lists_exactly_the_rooms_there_are() {
    let rooms: BTreeSet<String> = SOURCES.iter().map(Source::room).collect();
    let listed: BTreeSet<String> = MAY_IMPORT.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(rooms, listed);
}

#[test]
fn imports_go_one_way() {
    assert_none(&cycles(&MAY_IMPORT));
    for (room, stranger) in
        [("supervisor", "worker"), ("worker", "supervisor"), ("worker", "python"), ("python", "worker")]
    {
        assert!(!may_import(room, stranger), "{room} and {stranger} meet in lib alone");
    }
}

#[test]
fn the_page_shows_the_same_table() {
    let page = read("docs/architecture.md");
    assert_none(&rows_missing(&page));
}

#[test]
fn each_step_of_the_page_is_a_function() {
    let page = read("docs/architecture.md");
    let steps = steps(&page);
    assert!((9..=18).contains(&steps.len()), "the lives of a request and of a reload, in nine steps each");
    assert_none(&steps_missing(&steps, &SOURCES));
}

#[test]
fn each_foreign_crate_keeps_to_its_room() {
    assert_none(&each_source(crates_out_of_place));
}

#[test]
fn unsafe_keeps_to_its_rooms() {
    assert_none(&each_source(unsafe_out_of_place));
}

#[test]
fn nothing_panics_on_purpose() {
    assert_none(&each_source(panics));
}

#[test]
fn the_lints_that_forbid_panics_and_unsafe_are_in_force() {
    assert_none(&lints_missing(&read("Cargo.toml")));
    assert_none(&each_source(lints_switched_off));
}

#[test]
fn no_two_types_share_a_name() {
    assert_none(&shared_names(&SOURCES));
}

#[test]
fn no_file_is_too_long() {
    assert_none(&each_source(too_long));
}

#[test]
fn no_line_is_too_wide() {
    assert_none(&each_source(too_wide));
}

#[test]
fn the_page_on_security_lists_every_limit() {
    assert_none(&limits_page::complaints(&read("src/limits.rs"), &read("docs/security.md")));
}

#[test]
fn every_link_of_the_pages_leads_somewhere() {
    let at_the_top =
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md"].map(str::to_owned);
    let pages = files_below("docs", "md").into_iter().chain(at_the_top);
    assert_none(&pages.flat_map(|page| links_broken(&page, &read(&page))).collect::<Vec<_>>());
}

fn each_source(check: fn(&Source) -> Vec<String>) -> Vec<String> {
    SOURCES.iter().flat_map(check).collect()
}

fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

// What each check complains of.

fn imports_refused(source: &Source) -> Vec<String> {
    let room = source.room();
    let refused = |path: &Name| {
        let imported = path.room()?;
        let allowed = imported == room || may_import(&room, &imported);
        (!allowed).then(|| source.complain(path.line, &format!("{room} may not import {imported}")))
    };
    source.names().iter().filter_map(refused).collect()
}

fn may_import(room: &str, imported: &str) -> bool {
    let allowed = MAY_IMPORT.iter().find(|(name, _)| *name == room).map_or("nothing", |(_, allowed)| allowed);
    allowed == "everything" || allowed.split(", ").any(|name| name == imported)
}

fn cycles(table: &[(&str, &str)]) -> Vec<String> {
    let mut left: BTreeMap<&str, BTreeSet<&str>> =
        table.iter().map(|(room, allowed)| (*room, allowed.split(", ").collect())).collect();
    // A room that imports nothing that is left can go; what cannot go is a circle.
    while let Some(room) = left
        .iter()
        .find_map(|(room, allowed)| allowed.iter().all(|name| !left.contains_key(name)).then_some(*room))
    {
        left.remove(room);
    }
    left.into_keys().map(|room| format!("{room} is part of a circle, or above one")).collect()
}

fn rows_missing(page: &str) -> Vec<String> {
    let row = |(room, allowed): &(&str, &str)| format!("| `{room}` | {allowed} |");
    MAY_IMPORT.iter().map(row).filter(|row| !page.lines().any(|line| line == row)).collect()
}

/// The steps that a page names, in rows such as ``| 1 | `accept` | `src/worker/accept.rs` | ... |``.
fn steps(page: &str) -> Vec<(&str, &str)> {
    fn step(line: &str) -> Option<(&str, &str)> {
        let (number, rest) = line.strip_prefix("| ")?.split_once(" | `")?;
        number.parse::<u8>().ok().filter(|number| (1..=9).contains(number))?;
        let (function, rest) = rest.split_once("` | `")?;
        Some((function, rest.split_once('`')?.0))
    }
    page.lines().filter_map(step).collect()
}

fn steps_missing(steps: &[(&str, &str)], sources: &[Source]) -> Vec<String> {
    let is_function = |function: &str, path: &str| {
        let source = sources.iter().find(|source| source.is_in(&[path]));
        source.is_some_and(|source| {
            source.words.windows(2).any(|pair| pair[0].text == "fn" && pair[1].text == function)
        })
    };
    let missing = steps.iter().filter(|(function, path)| !is_function(function, path));
    missing
        .map(|(function, path)| format!("docs/architecture.md: {path} has no function {function}"))
        .collect()
}

fn crates_out_of_place(source: &Source) -> Vec<String> {
    let names = source.names();
    let out_of_place = |(foreign, places): &(&str, &[&str])| {
        let name = names.iter().find(|name| name.segments[0] == *foreign)?;
        let message = format!("{foreign} is named only in {}", places.join(" and "));
        (!source.is_in(places)).then(|| source.complain(name.line, &message))
    };
    NAMED_ONLY_IN.iter().filter_map(out_of_place).collect()
}

fn unsafe_out_of_place(source: &Source) -> Vec<String> {
    let mut words = source.words.iter().filter(|word| matches!(word.text.as_str(), "unsafe" | "unsafe_code"));
    let first = words.next().filter(|_| !source.is_in(&UNSAFE_ONLY_IN));
    let message = format!("unsafe is allowed only in {}", UNSAFE_ONLY_IN.join(" and "));
    first.map(|word| source.complain(word.line, &message)).into_iter().collect()
}

fn panics(source: &Source) -> Vec<String> {
    let is_panic = |window: &[&str]| match window {
        // Without an argument, `expect` is a method of our own.
        [".", "expect", "(", argument] => *argument != ")",
        [".", "unwrap", "(", ")"] | ["::", "expect" | "unwrap", ..] => true,
        [_, word, "!", bracket] => PANICKING_MACROS.contains(word) && *bracket != "=",
        _ => false,
    };
    let complaint = |window: &[Word]| {
        let texts: Vec<&str> = window.iter().map(|word| word.text.as_str()).collect();
        is_panic(&texts).then(|| source.complain(window[1].line, &format!("{} panics", texts[1])))
    };
    source.words.windows(4).filter_map(complaint).collect()
}

fn lints_missing(manifest: &str) -> Vec<String> {
    let mut section = "";
    let mut denied = BTreeSet::new();
    for line in manifest.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if let Some((lint, "\"deny\"" | "\"forbid\"")) = line.split_once(" = ") {
            denied.insert((section, lint.trim()));
        }
    }
    let wanted = DENIED.iter().flat_map(|(section, lints)| lints.iter().map(move |lint| (*section, *lint)));
    let missing = wanted.filter(|wanted| !denied.contains(wanted));
    missing.map(|(section, lint)| format!("Cargo.toml: [{section}] no longer denies {lint}")).collect()
}

fn lints_switched_off(source: &Source) -> Vec<String> {
    let names = source.names();
    let off = names.iter().filter(|name| match name.segments.as_slice() {
        [tool, lint] => tool == "clippy" && DENIED[1].1.contains(&lint.as_str()),
        _ => false,
    });
    off.map(|name| source.complain(name.line, &format!("{} must stay denied", name.segments.join("::"))))
        .collect()
}

/// The types of `src/` whose name another one has, but for those that take each other's place in other builds.
fn shared_names(sources: &[Source]) -> Vec<String> {
    let mut first: BTreeMap<&str, String> = BTreeMap::new();
    let mut shared = Vec::new();
    for source in sources.iter().filter(|source| !source.is_in(&["src/reactor/no_ring.rs"])) {
        for [keyword, name] in source.words.windows(2).filter_map(|pair| pair.first_chunk()) {
            if !matches!(keyword.text.as_str(), "struct" | "enum" | "trait") {
                continue;
            }
            let here = source.complain(name.line, &format!("another type has the name {}", name.text));
            match first.entry(&name.text) {
                Entry::Vacant(entry) => drop(entry.insert(here)),
                Entry::Occupied(other) => shared.extend([other.get().clone(), here]),
            }
        }
    }
    shared
}

fn too_long(source: &Source) -> Vec<String> {
    let message = format!("{} lines without tests, at most {FILE_LINES_MAX} are one room", source.lines);
    (source.lines > FILE_LINES_MAX)
        .then(|| source.complain(FILE_LINES_MAX + 1, &message))
        .into_iter()
        .collect()
}

/// A literal does not count: a message is found by searching for it, so it is not broken in two.
fn too_wide(source: &Source) -> Vec<String> {
    let lines = source.text_without_literals.lines().enumerate();
    let wide = lines
        .map(|(index, line)| (index + 1, line.chars().count()))
        .filter(|(_, width)| *width > LINE_COLUMNS_MAX);
    wide.map(|(line, width)| source.complain(line, &format!("{width} columns, at most {LINE_COLUMNS_MAX}")))
        .collect()
}

fn links_broken(page: &str, text: &str) -> Vec<String> {
    let folder = Path::new(page).parent().unwrap();
    let is_here =
        |target: &&str| !target.contains("://") && !target.starts_with('#') && !target.starts_with("mailto:");
    let exists =
        |target: &str| root().join(folder).join(target.split('#').next().unwrap_or_default()).exists();
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(is_here);
    targets.filter(|target| !exists(target)).map(|target| format!("{page}: no such file: {target}")).collect()
}
