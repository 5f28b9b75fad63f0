//! A whole worker without Python: executors, connections and queue over real sockets, answered by an echo.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should stop"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use spawning::birth::{Newborn, Order, Report, SupervisorControl};
use spawning::config::Config;
use spawning::gateway::{Application, EchoApplication};
use spawning::{cli, worker};

struct Worker {
    address: SocketAddr,
    control: SupervisorControl,
    thread: JoinHandle<i32>,
}

impl Worker {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (newborn, control) =
            Newborn::in_process(config(), vec![0], vec![OwnedFd::from(listener)]).unwrap();
        let thread = std::thread::spawn(move || {
            let application: Arc<dyn Application> = Arc::new(EchoApplication::new().unwrap());
            worker::run(newborn, &application)
        });
        let report = loop {
            match control.receive() {
                Ok(report) => break report,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(report, Some(Report::Ready));
        control.send(Order::Accept).unwrap();
        Self { address, control, thread }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    fn drain(self) -> i32 {
        self.control.send(Order::Drain).unwrap();
        self.thread.join().unwrap()
    }
}

fn config() -> Config {
    let words = ["--access-log-file", "/dev/null", "--threads", "2", "unused"].map(str::to_owned);
    cli::configure(&words, 1).unwrap()
}

/// Sends in one write: several small ones would wait for each other's acknowledgement.
fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
}

/// Reads one response with a Content-Length; returns its head and body.
fn read_response(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        let read = stream.read_exact(&mut byte);
        read.unwrap_or_else(|error| panic!("{error} within {:?}", String::from_utf8_lossy(&head)));
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}

#[test]
fn a_connection_carries_many_requests() {
    let worker = Worker::start();
    let mut stream = worker.connect();
    for number in 0..100 {
        send(&mut stream, &format!("POST /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"));
        let (head, body) = read_response(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert_eq!(body, format!("/{number}\nhello").into_bytes());
    }
    drop(stream);
    assert_eq!(worker.drain(), 0);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let worker = Worker::start();
    let mut stream = worker.connect();
    let requests: Vec<u8> = (0..100)
        .flat_map(|number| format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes())
        .collect();
    stream.write_all(&requests).unwrap();
    for number in 0..100 {
        assert_eq!(read_response(&mut stream).1, format!("/{number}\n").into_bytes());
    }
    drop(stream);
    assert_eq!(worker.drain(), 0);
}

#[test]
fn a_large_body_goes_through_a_file() {
    let worker = Worker::start();
    let mut stream = worker.connect();
    let body = vec![b'x'; 5_000_000];
    send(&mut stream, &format!("POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
    stream.write_all(&body).unwrap();
    let (_, answer) = read_response(&mut stream);
    assert_eq!(answer.len(), b"/large\n".len() + body.len());
    assert!(answer.ends_with(&body));
    drop(stream);
    assert_eq!(worker.drain(), 0);
}

#[test]
fn a_drain_closes_idle_connections_and_ends() {
    let worker = Worker::start();
    let mut stream = worker.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    read_response(&mut stream);
    assert_eq!(worker.drain(), 0);
    assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
}

#[test]
fn many_connections_at_once_lose_nothing() {
    let worker = Worker::start();
    let clients: Vec<_> = (0..16)
        .map(|client| {
            let mut stream = worker.connect();
            std::thread::spawn(move || {
                for number in 0..500 {
                    send(&mut stream, &format!("GET /{client}/{number} HTTP/1.1\r\nHost: a\r\n\r\n"));
                    assert_eq!(read_response(&mut stream).1, format!("/{client}/{number}\n").into_bytes());
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    assert_eq!(worker.drain(), 0);
}
