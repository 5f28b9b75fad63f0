//! The words of a command line, one a line, and the values of options that concern nothing but this process.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use spawning::cli::{self, Exit};
use spawning::config::{Config, RawOptions};
use spawning_fuzz::{lines, usage};

fuzz_target!(|input: &[u8]| -> Corpus {
    let words = lines(input);
    match cli::parse(&words) {
        Ok(raw) => check_values(raw),
        Err(exit) => {
            usage::check(&exit);
            if exit.to_stdout {
                // The same long text whatever else is said, and slow to make: not to be varied.
                return Corpus::Reject;
            }
        }
    }
    Corpus::Keep
});

/// Addresses and files are left out: to check one may ask a name server, or the file system.
fn check_values(raw: RawOptions) {
    let harmless = RawOptions {
        host: None,
        bind: Vec::new(),
        port: raw.port,
        arguments: raw.arguments,
        factory: raw.factory,
        unix_mode: raw.unix_mode,
        unix_owner: raw.unix_owner,
        chuid: raw.chuid,
        processes: raw.processes,
        threads: raw.threads,
        deadman_timeout: raw.deadman_timeout,
        queue: raw.queue,
        queue_timeout: raw.queue_timeout,
        body_bytes_max: raw.body_bytes_max,
        body_bytes_per_s_min: raw.body_bytes_per_s_min,
        requests_per_connection_max: raw.requests_per_connection_max,
        reload: raw.reload,
        max_memory: raw.max_memory,
        max_age: raw.max_age,
        max_requests: raw.max_requests,
        ..RawOptions::default()
    };
    match Config::from_words(&harmless, 4) {
        Ok(config) => {
            let json = serde_json::to_vec(&config).expect("a worker is started with its configuration");
            assert_eq!(serde_json::from_slice::<Config>(&json).unwrap(), config);
        }
        Err(error) => usage::check(&Exit::from(error)),
    }
}
