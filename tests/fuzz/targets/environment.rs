//! Variables of the environment, one a line; a name without SPAWN_ gets it.
#![no_main]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use libfuzzer_sys::fuzz_target;
use spawning::cli::CliSettings;
use spawning_fuzz::usage;

fuzz_target!(|input: &[u8]| {
    let text = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    let variables = input.split(|&byte| byte == b'\n').map(|line| {
        let (name, value) = line.split_at(line.iter().position(|&byte| byte == b'=').unwrap_or(line.len()));
        let mut name = text(name);
        if !name.as_bytes().starts_with(b"SPAWN_") {
            name = [OsString::from("SPAWN_"), name].into_iter().collect();
        }
        (name, text(value.strip_prefix(b"=").unwrap_or_default()))
    });
    // The command line is stronger: no variable can name another file.
    let words = ["--config".to_owned(), "/dev/null".to_owned()];
    if let Err(exit) = CliSettings::read(&words, variables) {
        usage::check(&exit);
    }
});
