//! `docs/security.md` lists every constant of `limits.rs` with its value: read as text, so that neither can be forgotten.

use std::collections::BTreeMap;

/// What the page must say: for each constant of `limits.rs` how its row begins.
pub(crate) fn rows_expected(limits: &str) -> Vec<String> {
    constants(limits).iter().map(|(name, value)| format!("| `{name}` | {value} |")).collect()
}

/// What is wrong with `page`: rows it lacks, and rows for what is no constant, or has another value.
pub(crate) fn complaints(limits: &str, page: &str) -> Vec<String> {
    let expected = rows_expected(limits);
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `") && is_upper(line)).collect();
    let lacking =
        expected.iter().filter(|row| rows.iter().filter(|line| line.starts_with(*row)).count() != 1);
    let lacking = lacking.map(|row| format!("docs/security.md needs one row that begins: {row}"));
    let stale = rows.iter().filter(|line| !expected.iter().any(|row| line.starts_with(row)));
    lacking.chain(stale.map(|line| format!("docs/security.md, not so in limits.rs: {line}"))).collect()
}

/// A row that is about a constant, not about an option.
fn is_upper(line: &str) -> bool {
    line.trim_start_matches("| `").starts_with(|first: char| first.is_ascii_uppercase())
}

/// Each `pub const NAME: Type = expression;` and its value as the page writes it.
fn constants(limits: &str) -> BTreeMap<String, String> {
    let declared = limits.split("pub const ").skip(1).filter_map(|rest| rest.split_once(';'));
    let named = declared.filter_map(|(declaration, _)| declaration.split_once(':'));
    let valued = named.filter_map(|(name, rest)| Some((name, rest.split_once('=')?.1.trim())));
    valued.map(|(name, value)| (name.to_owned(), value_text(name, value))).collect()
}

fn value_text(name: &str, expression: &str) -> String {
    let duration = expression.strip_prefix("Duration::from_").and_then(|rest| rest.strip_suffix(')'));
    match duration.and_then(|rest| rest.split_once('(')) {
        Some(("secs", number)) => format!("{number} s"),
        Some(("millis", number)) => format!("{number} ms"),
        Some(("micros", number)) => format!("{number} us"),
        Some((unit, _)) => panic!("{name}: what is from_{unit}?"),
        None if expression.starts_with("0o") => expression.replace("0o", "0"),
        None => number_text(name, expression.split('*').map(|factor| number(name, factor)).product()),
    }
}

fn number(name: &str, text: &str) -> u64 {
    text.trim().replace('_', "").parse().unwrap_or_else(|_| panic!("{name}: {text:?} is no number"))
}

fn number_text(name: &str, value: u64) -> String {
    if name.ends_with("_S") {
        return format!("{value} s");
    }
    let powers = [(30, "G"), (20, "M"), (10, "K")].into_iter().filter(|_| name.contains("BYTES"));
    let power = powers.into_iter().find(|(bits, _)| value > 0 && value.is_multiple_of(1 << bits));
    power.map_or_else(|| value.to_string(), |(bits, letter)| format!("{}{letter}", value >> bits))
}
