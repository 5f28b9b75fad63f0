//! What holds for any bytes, however they arrive: properties of the HTTP core, on generated streams.

#[path = "http_properties/driver.rs"]
mod driver;

use std::time::Duration;

use driver::{Driver, Seen, limits};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use spawning::http::{
    BodyLength, CHUNK_END, ChunkedDecoder, DateCache, Event, HeadWriter, LAST_CHUNK, RequestHead,
    encode_chunk_head, imf_fixdate,
};
use spawning::limits::{CHUNK_LINE_BYTES_MAX, TRAILER_BYTES_MAX};

/// `bytes`, cut at `cuts`.
fn cut<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.iter().zip(places.iter().skip(1)).filter_map(|(&start, &end)| bytes.get(start..end)).collect()
}

fn chunked(chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut coded = Vec::new();
    for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
        encode_chunk_head(&mut coded, chunk.len());
        coded.extend_from_slice(chunk);
        coded.extend_from_slice(CHUNK_END);
    }
    coded.extend_from_slice(LAST_CHUNK);
    coded
}

fn any_bytes(length_max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=length_max)
}

/// A valid request, within the limits.
fn any_request() -> impl Strategy<Value = Vec<u8>> {
    let line = select(vec![
        "GET /a?b HTTP/1.1",
        "HEAD / HTTP/1.1",
        "POST http://b.example/c HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "M-SEARCH /a HTTP/1.7",
        "\r\nPUT / HTTP/1.1",
    ]);
    let fields = vec![
        "X-A: b\r\n",
        "Cookie:\t a=b; c=d \r\n",
        "Accept: */*\r\n",
        "Expect: 100-continue\r\n",
        "Connection: keep-alive\r\n",
        "Connection: close\r\n",
        "X-Empty:\r\n",
    ];
    let body = prop_oneof![
        Just(b"\r\n".to_vec()),
        any_bytes(20).prop_map(|body| {
            [format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body.as_slice()].concat()
        }),
        vec(any_bytes(12), 0..4).prop_map(|chunks| [
            b"Transfer-Encoding: chunked\r\n\r\n",
            chunked(&chunks).as_slice()
        ]
        .concat()),
    ];
    let with_body = (line, subsequence(fields, 0..4), body).prop_map(|(line, fields, body)| {
        [format!("{line}\r\nHost: a\r\n{}", fields.concat()).as_bytes(), body.as_slice()].concat()
    });
    prop_oneof![9 => with_body, 1 => Just(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_vec())]
}

/// Requests one behind the other, some of them damaged in a place or two.
fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![select(b"\r\n \t:;,\0\x7f\xff0aHT/".to_vec()), any::<u8>()];
    let damage = (any::<Index>(), 0..3_u8, byte);
    (vec(any_request(), 1..4), vec(damage, 0..3)).prop_map(|(requests, damages)| {
        let mut stream = requests.concat();
        for (place, kind, byte) in damages {
            let place = place.index(stream.len());
            match kind {
                0 => stream.insert(place, byte),
                1 => drop(stream.remove(place)),
                _ => drop(stream.splice(place..=place, [byte])),
            }
        }
        stream
    })
}

/// Pieces of requests in no sensible order, long runs among them.
fn any_fragments() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        6 => select(vec![
            "GET / HTTP/1.1\r\n", "Host: a\r\n", "\r\n", "Transfer-Encoding: chunked\r\n", "\n", "\r",
            "Content-Length: 9\r\n", "5\r\nabcde\r\n", "5;x=y\r\n", "0\r\n", "0\r\n\r\n", "X: y\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        1 => any_bytes(40),
        1 => (any::<u8>(), 0..20_000_usize).prop_map(|(byte, length)| vec![byte; length]),
    ];
    vec(fragment, 0..12).prop_map(|fragments| fragments.concat())
}

proptest! {
    // Two seconds in a debug build.
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn undamaged_requests_are_all_understood(requests in vec(any_request(), 1..4)) {
        let mut driver = Driver::new();
        for request in &requests {
            driver.send(request);
            let understood = matches!(driver.seen.last(), Some(Seen::BodyEnd | Seen::Close));
            prop_assert!(understood, "{:?}", driver.seen);
        }
    }

    #[test]
    fn a_proxys_header_is_no_part_of_the_requests(stream in any_stream(), cuts in vec(any::<Index>(), 0..8)) {
        let mut plain = Driver::new();
        plain.send(&stream);
        let plain = plain.finish();

        let mut proxied = Driver::behind_proxy();
        let header = b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\r\n";
        for piece in cut(&[header, stream.as_slice()].concat(), &cuts) {
            proxied.send(piece);
        }
        let seen = proxied.finish();
        prop_assert!(matches!(seen.first(), Some(Seen::Proxied(_))), "{:?}", seen);
        prop_assert_eq!(&plain, &seen[1..]);
    }

    #[test]
    fn events_do_not_depend_on_how_bytes_arrive(stream in any_stream(), cuts in vec(any::<Index>(), 0..8)) {
        let mut whole = Driver::new();
        whole.send(&stream);
        let whole = whole.finish();

        let mut in_pieces = Driver::new();
        for piece in cut(&stream, &cuts) {
            in_pieces.send(piece);
        }
        prop_assert_eq!(&whole, &in_pieces.finish());

        let mut in_bytes = Driver::new();
        for byte in stream.chunks(1) {
            in_bytes.send(byte);
        }
        prop_assert_eq!(&whole, &in_bytes.finish());
    }

    #[test]
    fn no_bytes_panic_or_fill_the_memory(stream in any_fragments(), cuts in vec(any::<Index>(), 0..8)) {
        let limits = limits();
        let head_bytes_max = limits.request_line_bytes_max + limits.header_bytes_max + 4;
        let buffered_bytes_max = head_bytes_max.max(CHUNK_LINE_BYTES_MAX + 2).max(TRAILER_BYTES_MAX + 2);
        let mut driver = Driver::new();
        for piece in cut(&stream, &cuts) {
            driver.send(piece);
            if !driver.is_over() {
                prop_assert!(driver.connection.buffered_bytes() <= buffered_bytes_max);
            }
        }
        let body_bytes_max = usize::try_from(limits.body_bytes_max).unwrap();
        for seen in driver.finish() {
            if let Seen::Body(body) = seen {
                prop_assert!(body.len() <= body_bytes_max);
            }
        }
    }

    #[test]
    fn decoding_undoes_encoding(
        chunks in vec(any_bytes(600), 0..6),
        rest in any_bytes(20),
        cuts in vec(any::<Index>(), 0..8),
    ) {
        let coded = [chunked(&chunks), rest.clone()].concat();
        let (mut decoder, mut body, mut pending) = (ChunkedDecoder::new(u64::MAX), Vec::new(), Vec::new());
        for piece in cut(&coded, &cuts) {
            pending.extend_from_slice(piece);
            loop {
                let decoded = decoder.decode(&pending).unwrap();
                body.extend_from_slice(&pending[decoded.data.clone()]);
                pending.drain(..decoded.consumed);
                if decoded.data.is_empty() {
                    break;
                }
            }
        }
        prop_assert!(decoder.is_done());
        prop_assert_eq!(body, chunks.concat());
        prop_assert_eq!(pending, rest);
    }

    #[test]
    fn deadline_is_only_put_off_and_always_ends(
        stream in any_stream(),
        steps in vec((any::<Index>(), 0..2000_u64), 1..12),
    ) {
        let mut driver = Driver::new();
        let (cuts, pauses_ms): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
        for (piece, pause_ms) in cut(&stream, &cuts).into_iter().zip(pauses_ms) {
            driver.now += Duration::from_millis(pause_ms);
            if driver.connection.deadline().is_some_and(|deadline| deadline <= driver.now) {
                break;
            }
            let (before, phase) = (driver.connection.deadline(), driver.phase());
            // One byte may be half of the empty line that is ignored before a request, which is not begun then.
            let in_body = matches!(driver.seen.last(), Some(Seen::Head(_) | Seen::Body(_)));
            let had_begun = in_body || driver.connection.buffered_bytes() > 1;
            driver.send(piece);
            if had_begun && driver.phase() == phase {
                prop_assert!(driver.connection.deadline() >= before);
            }
            let Some(deadline) = driver.connection.deadline() else { continue };
            prop_assert!(deadline > driver.now);
            let early = deadline.checked_sub(Duration::from_nanos(1)).unwrap();
            prop_assert!(matches!(driver.connection.expire(early), Event::Wait));
        }
        if let Some(deadline) = driver.connection.deadline() {
            prop_assert!(matches!(driver.connection.expire(deadline), Event::Reject(_) | Event::Close));
            prop_assert!(matches!(driver.connection.next(deadline), Event::Close));
            prop_assert_eq!(driver.connection.deadline(), None);
        }
    }

    #[test]
    fn no_application_splits_a_response(
        status in prop_oneof![Just(b"200 OK".to_vec()), any_bytes(12)],
        fields in vec((prop_oneof![Just(b"X-A".to_vec()), any_bytes(4)], any_bytes(8)), 0..4),
        length in prop_oneof![Just(BodyLength::Unknown), any::<u64>().prop_map(BodyLength::Exactly)],
    ) {
        let request = RequestHead::parse(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), &limits());
        let facts = request.unwrap().unwrap().facts();
        let mut writer = HeadWriter::default();
        let started = writer.start(&status).is_ok();
        let is_accepted = |(name, value): &&(Vec<u8>, Vec<u8>)| writer.header(name, value).is_ok();
        let accepted: Vec<_> = fields.iter().filter(is_accepted).collect();
        let finished = writer.finish(facts, length, true, &imf_fixdate(0));
        prop_assert_eq!(finished.is_ok(), started);
        if !started {
            return Ok(());
        }

        // A bare CR or LF is no line end to a strict reader, but it is to others.
        let head = writer.bytes().strip_suffix(b"\r\n\r\n").expect("an empty line ends the head");
        let lines: Vec<_> = head.split(|byte| matches!(byte, b'\r' | b'\n')).step_by(2).collect();
        prop_assert_eq!(lines.join(b"\r\n".as_slice()), head);
        let expected = accepted.into_iter().map(|(name, value)| [name.as_slice(), b": ", value].concat());
        let names = ["Content-Length: ", "Transfer-Encoding: ", "Date: ", "Server: ", "Connection: "];
        let is_own = |line: &&[u8]| names.iter().any(|name| line.starts_with(name.as_bytes()));
        let others = lines.into_iter().skip(1).filter(|line| !is_own(line));
        prop_assert!(others.map(<[u8]>::to_vec).eq(expected));
    }

    #[test]
    fn dates_agree_with_counting_years(unix_s in prop_oneof![0..253_402_300_800_u64, 0..4_294_967_296_u64]) {
        let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let (mut year, mut day) = (1970, unix_s / 86_400);
        while day >= 365 + u64::from(is_leap(year)) {
            day -= 365 + u64::from(is_leap(year));
            year += 1;
        }
        let february = 28 + u64::from(is_leap(year));
        let mut month = 0;
        for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
            if day < length {
                break;
            }
            day -= length;
            month += 1;
        }
        let day_name = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][usize::try_from(unix_s / 86_400 % 7).unwrap()];
        let month_name =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][month];
        let (hour, minute, second) = (unix_s / 3600 % 24, unix_s / 60 % 60, unix_s % 60);
        let expected =
            format!("{day_name}, {:02} {month_name} {year:04} {hour:02}:{minute:02}:{second:02} GMT", day + 1);
        let mut cache = DateCache::new(0);
        prop_assert_eq!(cache.at(unix_s).as_slice(), expected.as_bytes());
    }
}
