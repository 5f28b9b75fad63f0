//! Each check on text that it must refuse, and on text that only looks so.

use super::source::{Source, read};
use super::*;

fn complaints(check: fn(&Source) -> Vec<String>, path: &str, text: &str) -> usize {
    check(&Source::new(path, text)).len()
}

#[test]
fn every_spelling_of_an_import_is_seen() {
    for text in [
        "use crate::worker::run;",
        "use crate::{limits::{A, B}, worker as w};",
        "pub(super) use crate::{\n    limits,\n    worker,\n};",
        "fn f() { crate::worker::run(); }",
        "fn f(x: &dyn crate::worker::T<'_>) -> u8 { b'\"' as u8 }",
        "use super::super::worker;",
        "mod inner { use super::super::super::worker; }",
        "use crate::*;",
        "/// A page.\nuse crate::worker; // and why",
        "const A: &str = r#\"a \" quote\"#; use crate::worker;",
    ] {
        assert_eq!(complaints(imports_refused, "src/http/head.rs", text), 1, "{text}");
    }
    assert_eq!(complaints(imports_refused, "src/http/mod.rs", "use super::worker;"), 1);
    assert_eq!(complaints(imports_refused, "src/new_room.rs", "use crate::limits;"), 1);
}

#[test]
fn what_only_looks_like_an_import_is_not() {
    for text in [
        "// use crate::worker;",
        "//! [`crate::worker`]",
        "/* use crate::worker; */ use crate::limits::A;",
        "const A: &str = \"use crate::worker; \\\" use crate::worker\";",
        "const A: &str = r#\"\"crate::worker\"#;",
        "use super::worker;",
        "mod inner { use super::super::worker; }",
        "pub(in crate::http) fn f<'a>(x: &'a str) -> impl Iterator + use<'a> { x }",
        "#[cfg(test)]\nmod tests {\n    use crate::worker;\n}",
        "#[cfg(test)]\nmod tests;",
    ] {
        assert_eq!(complaints(imports_refused, "src/http/head.rs", text), 0, "{text}");
    }
}

#[test]
fn a_circle_of_rooms_is_found() {
    assert_eq!(cycles(&[("a", "b"), ("b", "c"), ("c", "nothing")]), [""; 0]);
    assert_eq!(cycles(&[("a", "b"), ("b", "c"), ("c", "b"), ("d", "nothing")]).len(), 3);
}

#[test]
fn a_row_that_the_page_lacks_is_found() {
    assert_eq!(rows_missing("| `cli` | config |\n| `http` | limits, sys |\n").len(), MAY_IMPORT.len() - 1);
}

#[test]
fn a_step_of_the_page_that_is_no_function_is_found() {
    let page =
        "| 1 | `accept` | `src/a.rs` | why |\n| step | `x` | `y` |\n| 2 | `gone` | `src/a.rs` | why |\n";
    let sources = [Source::new("src/a.rs", "pub async fn accept() { gone() }")];
    assert_eq!(steps(page), [("accept", "src/a.rs"), ("gone", "src/a.rs")]);
    assert_eq!(steps_missing(&steps(page), &sources).len(), 1);
    assert_eq!(steps_missing(&[("accept", "src/b.rs")], &sources).len(), 1);
}

#[test]
fn a_limit_that_the_page_lacks_or_has_wrong_is_found() {
    let limits =
        "pub const A_BYTES: usize = 2 * 1024;\npub const B: Duration =\n    Duration::from_millis(5);\n";
    let complaints = |page: &str| limits_page::complaints(limits, page).len();
    assert_eq!(complaints("| `A_BYTES` | 2K | why |\n| `B` | 5 ms | why |\n| `--option` | 1 |\n"), 0);
    assert_eq!(complaints("| `A_BYTES` | 2K | why |\n"), 1);
    assert_eq!(complaints("| `A_BYTES` | 3K | why |\n| `B` | 5 ms | why |\n"), 2);
    assert_eq!(complaints("| `A_BYTES` | 2K | why |\n| `B` | 5 ms | why |\n| `C` | 1 | why |\n"), 1);
}

#[test]
fn a_crate_out_of_place_is_found() {
    for text in [
        "use libc::c_int;",
        "fn f() { ::libc::abort(); }",
        "use {libc as c, std::io};",
        "#[libc(a)]\nstruct A;",
    ] {
        assert_eq!(complaints(crates_out_of_place, "src/worker/life.rs", text), 1, "{text}");
        assert_eq!(complaints(crates_out_of_place, "src/sys/file.rs", text), 0, "{text}");
    }
    for text in ["fn f() { self.notify(); notify(1); }", "// libc::abort", "use crate::sys::libc;"] {
        assert_eq!(complaints(crates_out_of_place, "src/worker/life.rs", text), 0, "{text}");
    }
    assert_eq!(complaints(crates_out_of_place, "src/worker/life.rs", "use notify::Watcher;"), 1);
    assert_eq!(complaints(crates_out_of_place, "src/worker/watch.rs", "use notify::Watcher;"), 0);
}

#[test]
fn types_that_share_a_name_are_found() {
    let names = |texts: [&str; 2]| {
        let paths = ["src/http/a.rs", "src/worker/b.rs"];
        let sources: Vec<Source> =
            paths.iter().zip(texts).map(|(path, text)| Source::new(path, text)).collect();
        shared_names(&sources).len()
    };
    assert_eq!(names(["pub struct A;", "enum A { B }"]), 2);
    assert_eq!(names(["trait A {}\nstruct A;", ""]), 2);
    assert_eq!(names(["struct A;", "enum B { A }\n// struct A"]), 0);
    assert_eq!(names(["struct A;", "#[cfg(test)]\nmod tests {\n    struct A;\n}"]), 0);
}

#[test]
fn unsafe_out_of_place_is_found() {
    for text in ["fn f() { unsafe { g() } }", "#![allow(unsafe_code)]", "unsafe impl Send for A {}"] {
        assert_eq!(complaints(unsafe_out_of_place, "src/reactor/wake.rs", text), 1, "{text}");
        assert_eq!(complaints(unsafe_out_of_place, "src/reactor/ring.rs", text), 0, "{text}");
    }
    assert_eq!(complaints(unsafe_out_of_place, "src/worker/life.rs", "// unsafe\nlet a = \"unsafe\";"), 0);
}

#[test]
fn a_panic_is_found() {
    for text in [
        "a.unwrap();",
        "a\n    .expect(\"b\");",
        "a.expect(b);",
        "x.map(Option::unwrap);",
        "{ panic!() }",
        "{ todo!(); }",
    ] {
        assert_eq!(complaints(panics, "src/http/head.rs", text), 1, "{text}");
    }
    for text in [
        "a.unwrap_or(b);",
        "head.expect();",
        "a.expect_body(b);",
        "#[expect(unused)] fn f() {}",
        "#[cfg(test)]\nfn f() { a.unwrap(); }",
        "// .unwrap()",
    ] {
        assert_eq!(complaints(panics, "src/http/head.rs", text), 0, "{text}");
    }
}

#[test]
fn a_lint_that_was_dropped_or_switched_off_is_found() {
    let manifest = read("Cargo.toml");
    assert_eq!(
        lints_missing(&manifest.replace("unwrap_used = \"deny\"", "unwrap_used = \"allow\"")).len(),
        1
    );
    assert_eq!(lints_missing(&manifest.replace("[lints.clippy]", "[lints.other]")).len(), DENIED[1].1.len());
    assert_eq!(complaints(lints_switched_off, "src/log.rs", "#![allow(clippy::panic, clippy::pedantic)]"), 1);
}

#[test]
fn a_long_file_and_a_wide_line_are_found() {
    let tests = "#[cfg(test)]\nmod tests {\n}\n";
    assert_eq!(complaints(too_long, "src/log.rs", &("\n".repeat(FILE_LINES_MAX) + tests)), 0);
    assert_eq!(complaints(too_long, "src/log.rs", &("\n".repeat(FILE_LINES_MAX + 1) + tests)), 1);
    assert_eq!(complaints(too_wide, "src/log.rs", &format!("// {}", "e\u{301}".repeat(60))), 1);
    assert_eq!(complaints(too_wide, "src/log.rs", &format!("let a = \"{}\";", "a".repeat(200))), 0);
}

#[test]
fn a_link_to_nowhere_is_found() {
    let text =
        "[a](why.md) [b](../README.md#numbers) [c](https://example.org) [d](#here) [e](nowhere.md) [f](/tmp)";
    assert_eq!(links_broken("docs/page.md", text), ["docs/page.md: no such file: nowhere.md"]);
}
