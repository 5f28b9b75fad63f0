//! Accepting fairly: a process whose interpreter is busy must not collect connections that an idle sibling could
//! serve, since a keep-alive connection stays where it was accepted.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use futures_lite::FutureExt;

use super::connection;
use super::dispatch::ExecutorContext;
use super::lifecycle::Phase;
use crate::bootstrap::Owner;
use crate::limits::{
    ACCEPT_EXHAUSTED_PAUSE, ACCEPT_FULL_PAUSE, ACCEPT_YIELD, ACCEPT_YIELDS_MAX, ACCEPTS_PER_TURN_MAX,
};
use crate::reactor::Listener;
use crate::sys::fork::PrivateFd;

/// A listening socket, and whose it is.
pub(super) type Listening = (Arc<PrivateFd>, Owner);

/// Accepts from one listening socket until the process drains. What then still waits in the kernel's queue is
/// accepted by the siblings: the socket is shared. Where the server stops, there is nobody else, and it is accepted
/// until the supervisor closes the socket.
pub(super) async fn accept(executor: Rc<ExecutorContext>, (socket, owner): Listening) {
    let listener = match Listener::new(&executor.reactor, socket) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "cannot watch a listening socket; it is not served"),
    };
    executor.add_listener(Rc::clone(listener.registration()));
    accept_from(&executor, &listener, owner).await;
    executor.dismiss_listener(listener.registration());
}

async fn accept_from(executor: &Rc<ExecutorContext>, listener: &Listener, owner: Owner) {
    let mut accepted_in_turn = 0;
    while readable(executor, listener, owner).await {
        executor.until_queue_has_room(listener.registration()).await;
        if accepted_in_turn >= ACCEPTS_PER_TURN_MAX {
            accepted_in_turn = 0;
            executor.reactor.next_turn().await;
        }
        let_others_go_first(executor).await;
        // The process may have begun to drain meanwhile, and the executor may end in this very turn.
        if !executor.accepts_from(owner) {
            return;
        }
        let Some(permit) = executor.connection_limit.acquire() else {
            full(executor, listener, owner).await;
            continue;
        };
        match listener.accept() {
            Ok(Some(accepted)) => {
                accepted_in_turn += 1;
                connection::serve(executor, accepted, permit);
            }
            Ok(None) if executor.phase() != Phase::Accepting && is_over(executor, listener) => return,
            Ok(None) => accepted_in_turn = 0,
            // The supervisor has closed the socket.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            Err(error) => wait_out(executor, &error).await,
        }
    }
}

/// Whether nobody comes any more to a socket at which nobody waits. A unix socket has admitted nobody since the process
/// was told to drain.
fn is_over(executor: &ExecutorContext, listener: &Listener) -> bool {
    listener.is_unix() || executor.are_closed()
}

/// Waits until somebody may be waiting; false when the process no longer accepts.
async fn readable(executor: &ExecutorContext, listener: &Listener, owner: Owner) -> bool {
    poll_fn(|context| {
        if !executor.accepts_from(owner) {
            return Poll::Ready(false);
        }
        if listener.registration().is_readable()
            || executor.phase() != Phase::Accepting && is_over(executor, listener)
        {
            return Poll::Ready(true);
        }
        listener.registration().remember(context.waker());
        Poll::Pending
    })
    .await
}

/// A process with more connections than its least loaded sibling waits a bounded moment, so that the sibling, which
/// was woken as well, accepts first.
async fn let_others_go_first(executor: &ExecutorContext) {
    for _ in 0..ACCEPT_YIELDS_MAX {
        if executor.phase() != Phase::Accepting || !executor.is_ahead_of_siblings() {
            return;
        }
        executor.reactor.sleep_until(std::time::Instant::now() + ACCEPT_YIELD).await;
    }
}

/// Waits, as long as the process holds all the connections it may, but not for ever: one that another executor closes
/// wakes no task here.
async fn full(executor: &ExecutorContext, listener: &Listener, owner: Owner) {
    executor.connection_limit.warn_full();
    let room = poll_fn(|context| {
        if !executor.connection_limit.is_full() || !executor.accepts_from(owner) {
            return Poll::Ready(());
        }
        listener.registration().remember(context.waker());
        Poll::Pending
    });
    room.or(executor.reactor.sleep_until(std::time::Instant::now() + ACCEPT_FULL_PAUSE)).await;
}

/// Running out of descriptors or memory passes when connections close: trying at once again would only burn CPU.
async fn wait_out(executor: &ExecutorContext, error: &io::Error) {
    tracing::error!(
        %error,
        connections = executor.connections(),
        "cannot accept a connection; likely cause: too many open files (see `ulimit -Hn`, LimitNOFILE=)"
    );
    executor.reactor.sleep_until(std::time::Instant::now() + ACCEPT_EXHAUSTED_PAUSE).await;
}
