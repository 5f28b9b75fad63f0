//! A configuration file in TOML, and the JSON of a config factory's answer.
#![no_main]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use spawning::cli::{CliSettings, Exit};
use spawning::sys::shared_memory;
use spawning_fuzz::usage;

/// One file that holds each input in turn, and the words that name it.
static NAMED: LazyLock<(File, [String; 2])> = LazyLock::new(|| {
    let file = File::from(shared_memory::create_file(c"spawning-fuzz", b"").unwrap());
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    (file, ["--config".to_owned(), name])
});

static EMPTY: LazyLock<CliSettings> = LazyLock::new(|| {
    let words = ["--config".to_owned(), "/dev/null".to_owned()];
    CliSettings::read(&words, []).expect("an empty file is a configuration")
});

fuzz_target!(|input: &[u8]| {
    // Nothing is both: only an object is an answer, and no line of a file begins with a brace.
    let outcome =
        if input.trim_ascii_start().starts_with(b"{") { read_answer(input) } else { read_file(input) };
    if let Err(exit) = outcome {
        usage::check(&exit);
    }
});

fn read_answer(input: &[u8]) -> Result<(), Exit> {
    EMPTY.clone().add_answer(input, "the.factory")
}

fn read_file(input: &[u8]) -> Result<(), Exit> {
    let (file, words) = &*NAMED;
    file.set_len(0).unwrap();
    file.write_all_at(input, 0).unwrap();
    CliSettings::read(words, [])?.action().map(drop)
}
