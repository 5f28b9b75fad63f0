//! A configuration file in TOML, and the JSON of a config factory's answer.
#![no_main]

use std::os::fd::AsRawFd;

use libfuzzer_sys::fuzz_target;
use spawning::cli::Settings;
use spawning::sys::shared_memory;
use spawning_fuzz::usage;

fuzz_target!(|input: &[u8]| {
    let file = shared_memory::create_file(c"spawning-fuzz", input).unwrap();
    let words = ["--config".to_owned(), format!("/proc/self/fd/{}", file.as_raw_fd())];
    match Settings::read(&words, []).and_then(|settings| settings.action().map(drop)) {
        Ok(()) => {}
        Err(exit) => usage::check(&exit),
    }
    let words = ["--config".to_owned(), "/dev/null".to_owned()];
    let mut settings = Settings::read(&words, []).expect("an empty file is a configuration");
    if let Err(exit) = settings.add_answer(input, "the.factory") {
        usage::check(&exit);
    }
});
