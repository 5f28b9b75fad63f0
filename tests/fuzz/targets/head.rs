//! A request head, from any bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spawning::http::RequestHead;
use spawning_fuzz::{driver, head};

fuzz_target!(|bytes: &[u8]| {
    let limits = driver::limits();
    let Ok(Some(accepted)) = RequestHead::parse(bytes.to_vec(), &limits) else { return };
    head::check(&accepted, bytes);
    for shorter in [accepted.length_bytes() / 2, accepted.length_bytes() - 1] {
        let parsed = RequestHead::parse(bytes[..shorter].to_vec(), &limits);
        assert!(matches!(parsed, Ok(None)), "a part of a head is a head or a fault: {parsed:?}");
    }
    let alone = RequestHead::parse(bytes[..accepted.length_bytes()].to_vec(), &limits);
    let alone = alone.expect("refused without what follows it").expect("incomplete without what follows it");
    assert_eq!(driver::describe(&accepted), driver::describe(&alone));
});
