//! The control socket: any bytes from a worker gone mad, and any report from one in order.
//!
//! Input: a message; also a switch, a summary and a traceback, parted.
#![no_main]

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use spawning::bootstrap::{Bootstrap, Order, Report, SupervisorControl, WorkerControl, WorkerResources};
use spawning::config::{Config, RawOptions};
use spawning_fuzz::parts;

struct Ends {
    worker: WorkerControl,
    /// The same socket, without a protocol.
    wild: UnixDatagram,
    supervisor: SupervisorControl,
}

static ENDS: LazyLock<Ends> = LazyLock::new(|| {
    let raw = RawOptions { arguments: vec!["app".to_owned()], ..RawOptions::default() };
    let config = Config::from_words(&raw, 1).unwrap();
    let (resources, supervisor) = WorkerResources::in_process(config, vec![0], Vec::new()).unwrap();
    let wild = UnixDatagram::from(resources.control.as_fd().try_clone_to_owned().unwrap());
    Ends { worker: resources.control, wild, supervisor }
});

fuzz_target!(|input: &[u8]| {
    let Ends { worker, wild, supervisor } = &*ENDS;
    // An empty message would be end of file.
    if !input.is_empty() {
        wild.send(input).unwrap();
        match supervisor.receive() {
            Ok(Some(report)) => assert_eq!(delivered(worker, supervisor, &report), report),
            Ok(None) => panic!("a message is no end of file"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::InvalidData),
        }
    }
    let _ = serde_json::from_slice::<Order>(input);
    if let Ok(bootstrap) = serde_json::from_slice::<Bootstrap>(input) {
        let again = serde_json::to_vec(&bootstrap).unwrap();
        assert_eq!(serde_json::from_slice::<Bootstrap>(&again).unwrap(), bootstrap);
    }

    let times = if input.len() % 16 == 15 { 1 << (input.len() >> 4 & 7) } else { 1 };
    let mut texts = parts(input).map(|part| String::from_utf8_lossy(part).repeat(times));
    let mut text = || texts.next().unwrap_or_default();
    // Some are too long for a message.
    let sent = Report::Failed { summary: text(), traceback: text() };
    let (Report::Failed { summary, traceback }, Report::Failed { summary: got, traceback: got_traceback }) =
        (&sent, &delivered(worker, supervisor, &sent))
    else {
        panic!("another report arrived")
    };
    let is_kept = |whole: &str, got: &str| whole == got || got.contains(" bytes cut ...]\n");
    assert!(is_kept(summary, got) && is_kept(traceback, got_traceback));
});

fn delivered(worker: &WorkerControl, supervisor: &SupervisorControl, report: &Report) -> Report {
    worker.send(report).unwrap();
    supervisor.receive().unwrap().expect("a report is no end of file")
}
