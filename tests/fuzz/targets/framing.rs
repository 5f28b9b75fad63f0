//! Where a body ends: any header section behind a request line that is in order.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spawning::http::RequestHead;
use spawning::limits::HttpLimits;
use spawning_fuzz::head;

fuzz_target!(|section: &[u8]| {
    for version in ["1.1", "1.0"] {
        let line = format!("POST / HTTP/{version}\r\nHost: a\r\n");
        let bytes = [line.as_bytes(), section, b"\r\n\r\n"].concat();
        if let Ok(Some(accepted)) = RequestHead::parse(bytes.clone(), &HttpLimits::default()) {
            head::check(&accepted, &bytes);
        }
    }
});
