use std::net::TcpListener;
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::*;
use crate::cli;

fn config(words: &[&str]) -> Config {
    let words: Vec<String> = words.iter().chain(&["app"]).map(|word| (*word).to_owned()).collect();
    cli::configure(&words, 1).unwrap()
}

fn open(config: &Config, pause: impl FnMut(Duration) -> ControlFlow<()>) -> Result<Listeners, Unbound> {
    Listeners::open(config, None, Vec::new(), pause)
}

fn taken() -> (TcpListener, Config) {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = config(&["-b", &other.local_addr().unwrap().to_string()]);
    (other, config)
}

fn failure(unbound: Result<Listeners, Unbound>) -> StartFailure {
    let Err(Unbound::Failed(failure)) = unbound else { panic!("not {unbound:?}") };
    failure
}

#[test]
fn an_address_that_becomes_free_is_taken() {
    let (other, config) = taken();
    let mut other = Some(other);
    let mut waits = Vec::new();
    let listeners = open(&config, |wait| {
        waits.push(wait);
        if waits.len() == 3 {
            other = None;
        }
        ControlFlow::Continue(())
    });
    assert_eq!(listeners.unwrap().len(), 1);
    assert_eq!(waits, [500, 1000, 2000].map(Duration::from_millis));
}

#[test]
fn an_address_that_stays_in_use_is_a_clear_death() {
    let (other, config) = taken();
    let mut pauses = 0;
    let failure = failure(open(&config, |_| {
        pauses += 1;
        ControlFlow::Continue(())
    }));
    assert_eq!((pauses, failure.status), (BIND_TRIES - 1, 69));
    let address = other.local_addr().unwrap();
    assert!(failure.message.starts_with(&format!("cannot listen on {address}: ")), "{failure}");
    assert!(failure.hint.ends_with(&format!("ss -ltnp 'sport = :{}'", address.port())), "{failure}");
}

#[test]
fn the_wait_can_be_broken_off() {
    let (_other, config) = taken();
    assert!(matches!(open(&config, |_| ControlFlow::Break(())), Err(Unbound::BrokenOff)));
}

#[test]
fn what_waiting_does_not_help_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| format!("{}/{name}", directory.path().display());
    std::fs::write(path("file"), "").unwrap();
    for (bind, message, hint) in [
        ("192.0.2.1:0".to_owned(), "cannot listen on 192.0.2.1:0: ".to_owned(), "ip address".to_owned()),
        (
            format!("unix:{}", path("file")),
            format!("cannot listen on unix:{}: the file exists and is not a socket", path("file")),
            format!("rm {}", path("file")),
        ),
    ] {
        let failure = failure(open(&config(&["-b", &bind]), |_| panic!("waiting does not help")));
        assert_eq!(failure.status, 69);
        assert!(failure.message.starts_with(&message) && failure.hint.contains(&hint), "{failure}");
    }
}

#[test]
fn a_unix_socket_that_is_in_use_is_not_waited_for_long() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("live").display().to_string();
    let _live = UnixListener::bind(&path).unwrap();
    let mut waits = Vec::new();
    let failure = failure(open(&config(&["-b", &format!("unix:{path}")]), |wait| {
        waits.push(wait);
        ControlFlow::Continue(())
    }));
    assert_eq!(failure.status, 69);
    assert_eq!(waits, [500, 1000].map(Duration::from_millis));
    assert_eq!(failure.message, format!("cannot listen on unix:{path}: another process listens there"));
    assert!(failure.hint.ends_with(&format!("ss -xlp src {path}")), "{failure}");
}

#[test]
fn everything_is_bound_in_order_and_no_file_stays_behind() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let name = format!("spawning-listeners-{}", std::process::id());
    let (unix, name) = (format!("unix:{}", path.display()), format!("unix:@{name}"));
    let config = config(&["-p", "0", "-b", &unix, "-b", &name, "-b", "127.0.0.1:0"]);
    let listeners = open(&config, |_| ControlFlow::Break(())).unwrap();
    let addresses: Vec<String> = listeners.addresses().unwrap().iter().map(ToString::to_string).collect();
    assert!(addresses[0].starts_with("http://127.0.0.1:") && addresses[3].starts_with("http://127.0.0.1:"));
    assert_eq!(addresses[1..3], [unix, name]);
    drop(listeners);
    assert!(!path.exists());
}

#[test]
fn a_start_that_fails_half_way_leaves_no_file_behind() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let config = config(&["-b", &format!("unix:{}", path.display()), "-b", "192.0.2.1:80"]);
    failure(open(&config, |_| ControlFlow::Break(())));
    assert!(!path.exists());
}

fn inherited(path: &Path) -> Vec<Inherited> {
    let (tcp, unix) = (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(path).unwrap());
    [tcp.into_raw_fd(), unix.into_raw_fd()]
        .map(|number| {
            let fd = listener::adopt(number).unwrap();
            let address = listener::local_address(&fd).unwrap();
            Inherited { number, bind: None, fd, address, owner: Owner::Other }
        })
        .into()
}

#[test]
fn inherited_sockets_replace_the_default_and_stand_for_their_addresses() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let open = |words: &[&str], inherited: Vec<Inherited>| {
        let config = config(words);
        Listeners::open(&config, None, inherited, |_| ControlFlow::Break(())).unwrap().len()
    };
    assert_eq!(open(&[], inherited(&path)), 2);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(open(&["-p", "0"], inherited(&path)), 3);
    std::fs::remove_file(&path).unwrap();
    let sockets = inherited(&path);
    let (unix, fd) = (format!("unix:{}", path.display()), format!("fd://{}", sockets[0].number));
    assert_eq!(open(&["-b", &unix, "-b", &fd], sockets), 2);
    assert!(path.exists(), "what others bound is theirs to remove");
}
