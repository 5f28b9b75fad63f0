//! The status process: what the server is doing, read off the scoreboard and told over HTTP.
//!
//! It is a child of the supervisor beside the workers. It runs no user code and waits for no worker, so it answers
//! when every worker is busy or stuck, and a slow client here cannot slow the workers down. It ends with its
//! supervisor.
//!
//! Inside, one way only: `server` → `shutdown`, `site` → `html`, `json`, `metrics` → `view`.

mod html;
mod json;
mod metrics;
mod server;
mod shutdown;
mod site;
mod view;

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;

use self::shutdown::Shutdown;
use crate::bootstrap::{self, Order, StatusResources, WorkerControl};
use crate::config::Config;
use crate::reactor::{Executor, Wake};
use crate::sys::event_loop::EventLoop;
use crate::sys::eventfd::EventFd;
use crate::sys::fork::PrivateFd;
use crate::sys::{file, process, signals, standard_streams, wait};
use site::Site;
use view::Observer;

/// The exit status when the operating system refuses something (`EX_OSERR` of sysexits.h).
const EXIT_OPERATING_SYSTEM: i32 = 71;

/// Answers until the supervisor is gone; returns the process's exit status.
pub fn run(resources: StatusResources) -> i32 {
    signals::leave_to_supervisor();
    process::name_this_process("spawn-status");
    let StatusResources { bootstrap, listener, control, scoreboard } = resources;
    let (core, config) = (bootstrap.core, Arc::new(bootstrap.config));
    let observer = Observer::new(Arc::clone(&config), scoreboard);
    let outcome = EventFd::new().map(Arc::new).and_then(|ended| {
        let (raised, wake) = (Arc::clone(&ended), Wake::new()?);
        let shutdown = Arc::new(Shutdown::new(wake.handle()));
        let (shutdown_here, event_loop) = (Arc::clone(&shutdown), bootstrap::event_loop(&config));
        std::thread::Builder::new().name("glommio".to_owned()).spawn(move || {
            if let Err(error) =
                serve((core, event_loop), wake, Arc::new(listener.into()), observer, &shutdown_here)
            {
                tracing::error!(%error, "the status process cannot serve");
            }
            raised.raise();
        })?;
        follow(&control, &config, &ended, &shutdown)
    });
    match outcome {
        Ok(status) => status,
        Err(error) => {
            tracing::error!(%error, "the status process failed");
            EXIT_OPERATING_SYSTEM
        }
    }
}

fn serve(
    (core, event_loop): (usize, EventLoop),
    wake: Wake,
    listener: Arc<PrivateFd>,
    observer: Observer,
    shutdown: &Arc<Shutdown>,
) -> io::Result<()> {
    let executor = Executor::new(Some(core), event_loop)?;
    // Only now, so that the helper thread that glommio has just started is not called that as well.
    process::name_this_thread("status");
    let (site, shutdown) = (Rc::new(Site::new(observer)), Arc::clone(shutdown));
    executor.run(wake, |reactor| server::serve(reactor, listener, site, shutdown))
}

/// Waits for the end of the supervisor, which is ours too, or of the thread that serves.
fn follow(control: &WorkerControl, config: &Config, ended: &EventFd, shutdown: &Shutdown) -> io::Result<i32> {
    loop {
        let ready = wait::readable(&[ended.as_fd(), control.as_fd()], None)?;
        if ready.first() == Some(&true) {
            return Ok(if shutdown.is_begun() { 0 } else { EXIT_OPERATING_SYSTEM });
        }
        if ready.last() != Some(&true) {
            continue;
        }
        match control.receive() {
            Ok(Some(Order::Reopen)) => reopen(config),
            Ok(Some(Order::Drain)) => shutdown.begin(),
            Ok(Some(_)) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(None) | Err(_) => return Ok(0),
        }
    }
}

fn reopen(config: &Config) {
    let service = &config.service;
    if let Err(error) = standard_streams::reopen(service.stdout.as_deref(), service.stderr.as_deref()) {
        tracing::error!(
            %error,
            hint = file::REOPEN_HINT,
            "cannot reopen --stdout and --stderr; still writing to the old files"
        );
    }
}
