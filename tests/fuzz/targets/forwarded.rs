//! `Forwarded` and `X-Forwarded-*`: any header section behind a request line that is in order.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use spawning::http::{Forwarded, RequestHead};
use spawning::limits::HttpLimits;

/// What a client can put before all that proxies say.
const LIES: &[u8] = b"X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n";

fuzz_target!(|section: &[u8]| {
    let Some(mut head) = head(&[section]) else { return };
    let read = Forwarded::read(&head, &is_trusted);
    if let Ok(Some(Forwarded { client: Some(client), .. })) = &read
        && !is_trusted(client.address)
        && let Some(with_lies) = self::head(&[LIES, section])
        && let Ok(with_lies) = Forwarded::read(&with_lies, &is_trusted)
    {
        assert_eq!(with_lies.and_then(|forwarded| forwarded.client), Some(*client), "a lie was believed");
    }
    if let Ok(Some(forwarded)) = &read {
        assert_ne!(*forwarded, Forwarded::default());
        let host = forwarded.host.as_deref().unwrap_or(b"a");
        assert!(host.iter().all(u8::is_ascii_graphic), "{host:?}");
    }

    let is_other = |name: &[u8]| {
        let name = name.to_ascii_lowercase();
        !name.starts_with(b"x-forwarded-") && name != b"forwarded" && name != b"x-real-ip"
    };
    let owned = |(name, value): (&[u8], &[u8])| (name.to_vec(), value.to_vec());
    let others: Vec<_> = head.headers().filter(|(name, _)| is_other(name)).map(owned).collect();
    Forwarded::forget(&mut head);
    assert!(head.headers().map(owned).eq(others), "others were forgotten, or not all of these");
    assert_eq!(Forwarded::read(&head, &is_trusted), Ok(None));
});

fn head(sections: &[&[u8]]) -> Option<RequestHead> {
    let bytes = [b"GET / HTTP/1.1\r\nHost: a\r\n", sections.concat().as_slice(), b"\r\n\r\n"].concat();
    RequestHead::parse(bytes, &HttpLimits::default()).ok().flatten()
}

fn is_trusted(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.octets()[0] == 10)
}
