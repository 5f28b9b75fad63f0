//! The listening sockets: taken over or bound once, before any worker is started, and open until the server exits.

mod activation;
mod refusal;

use std::io;
use std::ops::{ControlFlow, Deref};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use super::start_failure::{EXIT_UNAVAILABLE, EXIT_USAGE, StartFailure};
use crate::bootstrap::Owner;
use crate::config::{Bind, Config};
use crate::limits::{BIND_RETRY_WAIT, BIND_TRIES, LISTEN_BACKLOG, UNIX_BIND_TRIES};
use crate::sys::account::Identity;
use crate::sys::listener::{self, Address};
use crate::sys::unix_listener::{self, Appearance, Refusal, SocketFile};
use crate::sys::wait;

/// Why there are no listening sockets.
#[derive(Debug)]
pub(super) enum Unbound {
    /// An address cannot be bound.
    Failed(StartFailure),
    /// The wait for an address was broken off.
    BrokenOff,
}

impl From<StartFailure> for Unbound {
    fn from(failure: StartFailure) -> Self {
        Self::Failed(failure)
    }
}

/// A listening socket that the server was started with.
#[derive(Debug)]
pub(super) struct Inherited {
    number: RawFd,
    /// What it was bound for, when a supervisor has handed it over.
    bind: Option<Bind>,
    fd: OwnedFd,
    address: Address,
    owner: Owner,
}

/// Takes over the sockets that systemd has announced in the environment, and those that a `Bind` names by number.
///
/// To be called before this process opens anything, which could get a number that a user mistook.
pub(super) fn inherit(config: &Config) -> Result<Vec<Inherited>, StartFailure> {
    let announced = activation::announced(std::process::id(), |name| std::env::var(name).ok())?;
    let named = config.binds.iter().filter_map(|bind| match bind {
        Bind::Fd(number) if announced.iter().all(|socket| socket.number != *number) => {
            Some((*number, format!("--bind: fd://{number}"), EXIT_USAGE))
        }
        _ => None,
    });
    let by_systemd = announced.iter().map(|socket| (socket.number, socket.to_string(), EXIT_UNAVAILABLE));
    let handed_over = by_systemd.chain(named).map(|(number, name, status)| {
        let adopted = listener::adopt(number).map_err(|unfit| refusal::unfit(&name, unfit, status))?;
        let address = listener::local_address(&adopted)
            .map_err(|_| refusal::unfit(&name, listener::Unfit::Family, status))?;
        Ok(Inherited { number, bind: None, fd: adopted, address, owner: Owner::Other })
    });
    handed_over.collect()
}

/// All listening sockets. The files of those that were bound here go with them.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    /// What the first of them are bound for, in this order; the others were inherited without being asked for.
    binds: Vec<Bind>,
    sockets: Vec<(OwnedFd, Owner)>,
    files: Vec<SocketFile>,
}

impl Listeners {
    /// Where they listen.
    pub(super) fn addresses(&self) -> io::Result<Vec<Address>> {
        self.sockets.iter().map(|(fd, _)| listener::local_address(fd)).collect()
    }

    /// Opens everything that `config` names, then the other sockets that the server was started with.
    ///
    /// One that it was started with stands for the address it listens on. Default addresses give way to
    /// it. An address that is in use is tried again: the process that has it may be a server on its way out, whose
    /// port stays bound for a moment after its death. `pause` waits between the tries, or breaks them off.
    pub(super) fn open(
        config: &Config,
        owner: Option<&Identity>,
        mut inherited: Vec<Inherited>,
        mut pause: impl FnMut(Duration) -> ControlFlow<()>,
    ) -> Result<Self, Unbound> {
        let gives_way = config.binds_are_default && !inherited.is_empty();
        let binds = if gives_way { &[] } else { config.binds.as_slice() };
        let mut listeners = Self { binds: binds.to_vec(), sockets: Vec::new(), files: Vec::new() };
        let appearance = Appearance { mode: config.unix_socket.mode, owner };
        for bind in binds {
            match inherited.iter().position(|socket| socket.stands_for(bind)) {
                Some(index) => listeners.sockets.push(inherited.remove(index).socket()),
                None => listeners.bind(bind, appearance, &mut pause)?,
            }
        }
        listeners.sockets.extend(inherited.into_iter().map(Inherited::socket));
        Ok(listeners)
    }

    /// Opens one address alone, or takes over the socket that stands for it.
    pub(super) fn open_one(
        bind: &Bind,
        appearance: Appearance<'_>,
        inherited: Option<Inherited>,
        mut pause: impl FnMut(Duration) -> ControlFlow<()>,
    ) -> Result<Self, Unbound> {
        let mut listeners = Self { binds: vec![bind.clone()], sockets: Vec::new(), files: Vec::new() };
        match inherited.filter(|socket| socket.stands_for(bind)) {
            Some(socket) => listeners.sockets.push(socket.socket()),
            None => listeners.bind(bind, appearance, &mut pause)?,
        }
        Ok(listeners)
    }

    /// Each of them with what it is bound for.
    pub(super) fn named(&self) -> impl Iterator<Item = (Option<&Bind>, &(OwnedFd, Owner))> {
        self.binds.iter().map(Some).chain(std::iter::repeat(None)).zip(&self.sockets)
    }

    /// The files that go with them.
    pub(super) fn files(&self) -> &[SocketFile] {
        &self.files
    }

    /// Takes care of the files of sockets that were handed over.
    pub(super) fn inherit_files(&mut self, files: Vec<SocketFile>) {
        self.files.extend(files);
    }

    /// Leaves the files to another supervisor, which listens there as well.
    pub(super) fn hand_over_files(&mut self) {
        self.files.clear();
    }

    /// Lets nobody in any more through the sockets of the server's own; whether the kernel does so for all of them.
    pub(super) fn admit_nobody(&mut self) -> bool {
        let admitted = self.own().map(listener::admit_nobody).filter(io::Result::is_err).count();
        admitted == 0
    }

    /// Whether somebody waits at those to be accepted.
    pub(super) fn has_waiting(&self) -> bool {
        // A unix socket that refuses has no end of what poll(2) says of it, and keeps those who wait for the workers.
        let is_tcp = |fd: &&OwnedFd| matches!(listener::local_address(*fd), Ok(Address::Tcp(_)));
        let fds: Vec<BorrowedFd<'_>> = self.own().filter(is_tcp).map(AsFd::as_fd).collect();
        wait::readable(&fds, Some(Duration::ZERO)).is_ok_and(|waiting| waiting.contains(&true))
    }

    /// Closes those, for all processes that have them: who connects from now on is refused.
    pub(super) fn close(&mut self) {
        let is_tcp = |fd: &&OwnedFd| matches!(listener::local_address(*fd), Ok(Address::Tcp(_)));
        self.own().filter(is_tcp).for_each(listener::refuse);
        self.binds.clear();
        self.sockets.retain(|(_, owner)| *owner == Owner::Other);
    }

    fn own(&self) -> impl Iterator<Item = &OwnedFd> {
        self.sockets.iter().filter(|(_, owner)| *owner == Owner::Server).map(|(fd, _)| fd)
    }

    fn bind(
        &mut self,
        bind: &Bind,
        appearance: Appearance<'_>,
        pause: &mut impl FnMut(Duration) -> ControlFlow<()>,
    ) -> Result<(), Unbound> {
        let mut wait = BIND_RETRY_WAIT;
        for tries in 1.. {
            match self.try_bind(bind, appearance) {
                Ok(()) => return Ok(()),
                Err(refusal) if tries < tries_max(bind, &refusal) => {
                    let wait_s = wait.as_secs_f64();
                    tracing::warn!(address = %bind, tries, wait_s, "the address is in use; trying again");
                }
                Err(refusal) => return Err(refusal::explain(bind, &refusal).into()),
            }
            if pause(wait).is_break() {
                break;
            }
            wait *= 2;
        }
        Err(Unbound::BrokenOff)
    }

    fn try_bind(&mut self, bind: &Bind, appearance: Appearance<'_>) -> Result<(), Refusal> {
        let fd = match bind {
            Bind::Tcp(address) => listener::listen_tcp(*address, LISTEN_BACKLOG)?,
            Bind::Abstract(name) => unix_listener::listen_as(name, LISTEN_BACKLOG)?,
            Bind::Unix(path) => {
                let (fd, file) = unix_listener::listen_at(path, appearance, LISTEN_BACKLOG)?;
                self.files.push(file);
                fd
            }
            // All of these were taken over before.
            Bind::Fd(_) => return Err(Refusal::Other(io::ErrorKind::NotFound.into())),
        };
        self.sockets.push((fd, Owner::Server));
        Ok(())
    }
}

impl Inherited {
    /// One that another supervisor was listening on for `bind`.
    pub(super) fn handed_over(number: RawFd, bind: Option<Bind>, owner: Owner) -> io::Result<Self> {
        let fd = listener::adopt(number).map_err(|unfit| io::Error::other(unfit.to_string()))?;
        let address = listener::local_address(&fd)?;
        Ok(Self { number, bind, fd, address, owner })
    }

    fn socket(self) -> (OwnedFd, Owner) {
        (self.fd, self.owner)
    }

    fn stands_for(&self, bind: &Bind) -> bool {
        if self.bind.is_some() {
            // A port that the kernel chose stands for the wish that it choose one.
            return self.bind.as_ref() == Some(bind);
        }
        match (bind, &self.address) {
            (Bind::Fd(number), _) => self.number == *number,
            (Bind::Tcp(wanted), Address::Tcp(is)) => wanted == is,
            (Bind::Unix(wanted), Address::Path(is)) => wanted == is,
            (Bind::Abstract(wanted), Address::Abstract(is)) => wanted == is,
            _ => false,
        }
    }
}

/// How often an address is tried that was refused for this reason.
fn tries_max(bind: &Bind, refusal: &Refusal) -> u32 {
    match (bind, refusal) {
        (_, Refusal::Other(error)) if error.kind() != io::ErrorKind::AddrInUse => 1,
        (_, Refusal::Busy) | (Bind::Tcp(_), Refusal::Other(_)) => BIND_TRIES,
        (_, Refusal::Live) | (Bind::Abstract(_), Refusal::Other(_)) => UNIX_BIND_TRIES,
        _ => 1,
    }
}

impl Deref for Listeners {
    type Target = [(OwnedFd, Owner)];

    fn deref(&self) -> &[(OwnedFd, Owner)] {
        &self.sockets
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        for file in &self.files {
            if let Err(error) = file.remove() {
                // Harmless: the next server there finds no listener behind it, and replaces it.
                tracing::info!(path = %file.path().display(), %error, "cannot remove a socket's file");
            }
        }
    }
}

#[cfg(test)]
mod tests;
