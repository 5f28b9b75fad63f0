//! Connections that the application has taken over, to speak another protocol: they are counted and outlasted, no more.

use std::time::Instant;

use super::{CloseReason, ConnectionTask};
use crate::gateway::{End, Message, Outcome};
use crate::http::{BodyFraming, RequestHead};
use crate::limits::UPGRADED_CUT_LEAD_MAX;
use crate::worker::lifecycle::Phase;

/// What the access log shows for a connection that was taken over (RFC 9110 section 15.2.2).
const SWITCHING_PROTOCOLS: u16 = 101;

/// Whether the connection of a request is offered to the application: its client asks for another protocol, but for
/// HTTP/2 (`h2c`, which clients offer to every server), and sends no body that would have to be told from it.
pub(super) fn suits(head: &RequestHead) -> bool {
    let is_for_application = |protocol: &[u8]| !protocol.eq_ignore_ascii_case(b"h2c");
    head.asks_upgrade()
        && matches!(head.framing(), BodyFraming::None | BodyFraming::Length(0))
        && head.header(b"upgrade").is_some_and(is_for_application)
}

impl ConnectionTask {
    /// Waits until the application is done with both, the call for the request and the connection, and logs it. Its
    /// socket may block now, so nothing is read or written here. A process that drains cuts the connection when that is
    /// to end soon; one that stops waits for nothing.
    pub(super) async fn wait_for_upgrade_end(
        &mut self,
        mut end: Option<Box<End>>,
        received_at: Instant,
        request_bytes: u64,
    ) -> CloseReason {
        self.stream.unwatch();
        self.executor.set_deadline(&self.handle, None);
        let mut cut_at = None;
        loop {
            while let Some(Message { end: of_message, .. }) = self.handle.next_message() {
                end = end.or(of_message);
            }
            let is_over = end.is_some() && self.exchange.is_released();
            if is_over || self.executor.phase() >= Phase::Stopping {
                break;
            }
            self.cut_at_last(&mut cut_at);
            self.wait_for_wakeup().await;
        }
        let head = end.and_then(|end| end.head);
        self.record_response(
            &End::new(Outcome::Close, SWITCHING_PROTOCOLS, 0, head),
            received_at,
            request_bytes,
        );
        CloseReason::PeerGone
    }
    /// Cuts the connection shortly before a drain is ended by force, so that the application can still end by itself.
    fn cut_at_last(&self, cut_at: &mut Option<Instant>) {
        if self.executor.phase() < Phase::Draining {
            return;
        }
        let (now, timeout) = (self.executor.reactor.now(), self.executor.config.deadman_timeout);
        let lead = (timeout / 4).min(UPGRADED_CUT_LEAD_MAX);
        let at = *cut_at.get_or_insert(now + timeout.saturating_sub(lead));
        if at <= now {
            self.stream.shut_down();
        }
        self.executor.set_deadline(&self.handle, Some(at).filter(|at| now < *at));
    }
}
