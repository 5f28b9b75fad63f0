//! The head of a response, from whatever an application says: nobody splits a response.
//!
//! Input: a byte of switches and the status, then names and values in turn, all parted.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use spawning::http::{
    BodyLength, HeadWriter, RequestFacts, RequestHead, ResponseFraming, ResponsePlan, imf_fixdate,
};
use spawning::limits::HttpLimits;
use spawning_fuzz::parts;

/// The fields that the server writes.
const OWN: [&str; 5] = ["Content-Length", "Transfer-Encoding", "Date", "Server", "Connection"];

/// Of every kind of request.
static FACTS: LazyLock<[RequestFacts; 8]> = LazyLock::new(|| std::array::from_fn(facts));
static DATE: LazyLock<[u8; 29]> = LazyLock::new(|| imf_fixdate(0));

fuzz_target!(|input: &[u8]| {
    let Some((&switches, input)) = input.split_first() else { return };
    let mut parts = parts(input);
    let mut writer = HeadWriter::default();
    let started = writer.start(parts.next().unwrap_or_default()).is_ok();
    let mut accepted = Vec::new();
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        if writer.header(name, value).is_ok() {
            accepted.push((name, value));
        }
    }
    let length = match switches >> 4 {
        0 => BodyLength::Unknown,
        length => BodyLength::Exactly(u64::from(length - 1)),
    };
    let plan = writer.finish(FACTS[usize::from(switches & 7)], length, switches & 8 == 0, &DATE);
    assert_eq!(plan.is_ok(), started);
    if let Ok(plan) = plan {
        check(writer.bytes(), &accepted, plan);
    }
});

fn facts(switches: usize) -> RequestFacts {
    let method = if switches & 1 == 0 { "GET" } else { "HEAD" };
    let version = if switches & 2 == 0 { "1.1" } else { "1.0" };
    let connection = if switches & 4 == 0 { "keep-alive" } else { "close" };
    let head = format!("{method} / HTTP/{version}\r\nHost: a\r\nConnection: {connection}\r\n\r\n");
    RequestHead::parse(head.into_bytes(), &HttpLimits::default()).unwrap().unwrap().facts()
}

fn check(head: &[u8], accepted: &[(&[u8], &[u8])], plan: ResponsePlan) {
    let head = head.strip_suffix(b"\r\n\r\n").expect("an empty line ends the head");
    // A bare CR or LF is no line end to a strict reader, but it is to others.
    let lines: Vec<_> = head.split(|byte| matches!(byte, b'\r' | b'\n')).step_by(2).collect();
    assert_eq!(lines.join(b"\r\n".as_slice()), head);
    let is_own = |line: &[u8]| {
        OWN.iter().any(|name| {
            let (start, rest) = line.split_at(name.len().min(line.len()));
            start.eq_ignore_ascii_case(name.as_bytes()) && rest.starts_with(b":")
        })
    };
    let others = lines.iter().skip(1).copied().filter(|line| !is_own(line)).map(<[u8]>::to_vec);
    let expected = accepted.iter().map(|(name, value)| [*name, b": ", *value].concat());
    assert!(others.eq(expected.filter(|line| !is_own(line))), "an accepted field was lost or changed");

    let values = |name: &str| -> Vec<&[u8]> {
        let prefix = format!("{name}: ").into_bytes();
        lines.iter().filter_map(|line| line.strip_prefix(prefix.as_slice())).collect()
    };
    let (lengths, codings) = (values("Content-Length"), values("Transfer-Encoding"));
    assert!(lengths.len() + codings.len() <= 1, "two lengths");
    match plan.framing {
        ResponseFraming::Length(length) => assert_eq!(lengths, [length.to_string().as_bytes()]),
        ResponseFraming::Chunked => assert_eq!(codings, [b"chunked"]),
        ResponseFraming::UntilClose => assert!(lengths.is_empty() && codings.is_empty() && !plan.keep_alive),
        ResponseFraming::None => assert!(codings.is_empty()),
    }
    assert_eq!(plan.keep_alive, values("Connection") != [b"close"]);
}
