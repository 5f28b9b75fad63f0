//! Not a test of the server but of the fuzzer: a decoder with a bug that several real ones have had. It takes any two
//! bytes for the end of a chunk's data. `run.py` fails unless the fuzzer finds out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spawning_fuzz::chunks::{self, Coding};

fuzz_target!(|bytes: &[u8]| {
    let coding = chunks::read(bytes, 256);
    if let (Some(body), Coding::Invalid) = (careless(bytes), coding) {
        panic!("the canary was found: {} bytes", body.len());
    }
});

fn careless(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_end = bytes.iter().position(|&byte| byte == b'\n')? + 1;
        let (line, rest) = bytes.split_at(line_end);
        let digits = line.strip_suffix(b"\r\n").filter(|line| line.iter().all(u8::is_ascii_hexdigit))?;
        match usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()? {
            0 => return rest.starts_with(b"\r\n").then_some(body),
            size => {
                body.extend_from_slice(rest.get(..size)?);
                bytes = rest.get(size + 2..)?;
            }
        }
    }
}
