//! Both ends of the control socket. A whole start, child and all, is in `tests/supervisor.rs`.

use proptest::prelude::*;

use super::*;

fn controls() -> (SupervisorControl, WorkerControl) {
    let (parent, child) = ControlSocket::pair().unwrap();
    (ControlChannel::new(parent), ControlChannel::new(child))
}

fn failed(summary: &str, traceback: &str) -> Report {
    Report::Failed { summary: summary.into(), traceback: traceback.into() }
}

#[test]
fn orders_go_down_reports_go_up_and_the_end_is_seen() {
    let (supervisor, worker) = controls();
    supervisor.send(Order::Accept).unwrap();
    supervisor.send(Order::Drain).unwrap();
    assert_eq!(worker.receive().unwrap(), Some(Order::Accept));
    assert_eq!(worker.receive().unwrap(), Some(Order::Drain));
    worker.send(&Report::Ready).unwrap();
    worker.send(&failed("no app", "Traceback")).unwrap();
    assert_eq!(supervisor.receive().unwrap(), Some(Report::Ready));
    assert_eq!(supervisor.receive().unwrap(), Some(failed("no app", "Traceback")));
    drop(supervisor);
    assert_eq!(worker.receive().unwrap(), None);
}

#[test]
fn something_that_is_no_message_is_an_error() {
    let (supervisor, worker) = controls();
    worker.socket.send(b"{\"Unknown\":1}").unwrap();
    assert_eq!(supervisor.receive().unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[test]
fn a_traceback_that_fits_is_whole_and_a_longer_one_keeps_both_ends() {
    let (supervisor, worker) = controls();
    let overhead = encode_report(&failed("", "")).unwrap().len();
    let whole = failed("", &"x".repeat(CONTROL_MESSAGE_BYTES_MAX - overhead));
    worker.send(&whole).unwrap();
    assert_eq!(supervisor.receive().unwrap(), Some(whole));

    let long = format!("first line{}last line", "x".repeat(CONTROL_MESSAGE_BYTES_MAX - overhead));
    worker.send(&failed("no app", &long)).unwrap();
    let Some(Report::Failed { summary, traceback }) = supervisor.receive().unwrap() else {
        panic!("a failure")
    };
    assert_eq!(summary, "no app");
    assert!(traceback.starts_with("first line") && traceback.ends_with("last line"));
    assert!(traceback.contains("bytes cut ...]"));
}

proptest! {
    #[test]
    fn every_report_fits_into_a_message(summary in ".{0,40}", line in "\\PC{0,40}|[\u{1}\n\"\u{1f600}]{1,40}", times in 0_usize..20_000) {
        let report = failed(&summary.repeat(times / 10), &line.repeat(times));
        prop_assert!(encode_report(&report).unwrap().len() <= CONTROL_MESSAGE_BYTES_MAX);
    }
}
