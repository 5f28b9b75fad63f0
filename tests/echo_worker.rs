//! A whole worker without Python: executors, connections and queue over real sockets, answered by an echo.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should stop"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use spawning::bootstrap::{Order, Report, SupervisorControl, WorkerResources};
use spawning::config::Config;
use spawning::gateway::{Application, EchoApplication, LoadFailure, Queue, ThreadWatch};
use spawning::scoreboard::Scoreboard;
use spawning::{cli, worker};

struct Worker {
    address: SocketAddr,
    control: SupervisorControl,
    scoreboard: Scoreboard,
    thread: JoinHandle<i32>,
}

/// A thread that dies of the first request it takes, and then the echo.
struct Mortal(Arc<EchoApplication>);

impl Application for Mortal {
    fn load(&self) -> Result<(), LoadFailure> {
        self.0.load()
    }

    fn attention(&self) -> BorrowedFd<'_> {
        self.0.attention()
    }

    fn start(&self, queue: &Arc<Queue>, mut watches: Vec<Box<dyn ThreadWatch>>) -> Result<(), LoadFailure> {
        let (watch, queue_of_mortal) = (watches.pop().unwrap(), Arc::clone(queue));
        let mortal = std::thread::spawn(move || {
            let mut seat = queue_of_mortal.seat(watch.begin());
            let _request = queue_of_mortal.take(&mut seat);
            panic!("an application thread meets a bug");
        });
        let (echo, queue) = (Arc::clone(&self.0), Arc::clone(queue));
        std::thread::spawn(move || {
            assert!(mortal.join().is_err());
            echo.start(&queue, watches).unwrap();
        });
        Ok(())
    }

    fn is_parallel(&self) -> bool {
        self.0.is_parallel()
    }

    fn attend(&self) -> bool {
        self.0.attend()
    }

    fn join(&self, patience: Duration) -> bool {
        self.0.join(patience)
    }
}

impl Worker {
    fn start() -> Self {
        Self::start_with(|| Arc::new(EchoApplication::new().unwrap()))
    }

    fn start_with(application: impl FnOnce() -> Arc<dyn Application> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (resources, control) =
            WorkerResources::in_process(config(), vec![0], vec![OwnedFd::from(listener)]).unwrap();
        let scoreboard = resources.scoreboard.clone();
        let thread = std::thread::spawn(move || worker::run(resources, &application()));
        let worker = Self { address, control, scoreboard, thread };
        assert_eq!(worker.report(), Some(Report::Ready));
        worker.control.send(Order::Accept).unwrap();
        worker
    }

    /// What the worker says next.
    fn report(&self) -> Option<Report> {
        loop {
            match self.control.receive() {
                Ok(report) => return report,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("{error}"),
            }
        }
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

#[test]
fn a_worker_whose_thread_has_died_is_replaced_and_counts_it() {
    let worker = Worker::start_with(|| Arc::new(Mortal(Arc::new(EchoApplication::new().unwrap()))));
    let mut stream = worker.connect();
    send(&mut stream, "GET /deadly HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0, "its connection is cut");
    let Some(Report::ReplaceWanted { reason }) = worker.report() else { panic!("no word of the death") };
    assert!(reason.contains("died"), "{reason}");
    assert_eq!(worker.scoreboard.worker_snapshot(0).unwrap().threads_died, 1);
    let mut stream = worker.connect();
    send(&mut stream, "GET /after HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(read_response(&mut stream).1, b"/after\n");
    drop(stream);
    assert_eq!(worker.drain(), 0);
}
