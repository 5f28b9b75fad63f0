//! How requests end: answered, refused, given up or called off; and what is said of it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{CloseReason, ConnectionTask};
use crate::gateway::{self, End, Outcome, Request, RequestProgress};
use crate::http::{RequestFault, RequestHead};
use crate::sys::clock;
use crate::worker::access_line::AccessLogLine;
use crate::worker::notices::{Notice, Overdue};

/// What the access log shows for a request whose client left before any thread took it, as nginx does.
const CLIENT_CLOSED_REQUEST: u16 = 499;

impl ConnectionTask {
    /// Answers a request that no application thread took in time, or whose client left meanwhile.
    pub(super) async fn give_up(&mut self, request: Request, request_bytes: u64) -> CloseReason {
        let Request { head, reply, received_at, .. } = request;
        reply.discard();
        let is_gone = self.handle.registration.is_hung_up();
        let status = if is_gone { CLIENT_CLOSED_REQUEST } else { RequestFault::Overloaded.status().0 };
        let response = RequestFault::Overloaded.response(head.facts().is_head, &gateway::date_now());
        let end = End::new(Outcome::Close, status, 0, Some(head));
        self.record_response(&end, received_at, request_bytes);
        if is_gone {
            return CloseReason::PeerGone;
        }
        self.executor.load.queue_timed_out();
        match self.write(&response).await {
            Ok(()) => CloseReason::Linger,
            Err(_) => CloseReason::PeerGone,
        }
    }

    /// Ends a response that the application takes too long for: by an answer in its place, or in the middle. Returns
    /// whether it was answered. The connection stays ours until the thread lets go of its exchange.
    pub(super) async fn time_out(
        &self,
        head: Option<Arc<RequestHead>>,
        received_at: Instant,
        request_bytes: u64,
    ) -> bool {
        let unanswered = self.exchange.claim_for_executor();
        if self.exchange.is_taken_over() {
            return false;
        }
        self.exchange.close();
        let Some(work) = self.exchange.work(clock::monotonic_ms()) else { return false };
        self.executor.notices.post(Notice::Overdue(overdue(head.as_deref(), Some(work))));
        if unanswered {
            let fault = RequestFault::Overdue;
            let is_head = head.as_ref().is_some_and(|head| head.facts().is_head);
            // A client that does not take it is gone, which makes no difference any more.
            let _ = self.write(&fault.response(is_head, &gateway::date_now())).await;
            self.record_response(
                &End::new(Outcome::Close, fault.status().0, 0, head),
                received_at,
                request_bytes,
            );
        }
        self.stream.shut_down_write();
        unanswered
    }

    /// Ends a request that the application has not answered when the drain of its process ends by force: with 503 if
    /// nothing was said yet.
    pub(super) fn cut(
        &self,
        head: Option<Arc<RequestHead>>,
        received_at: Instant,
        request_bytes: u64,
        written_before: u64,
    ) {
        let unanswered = self.exchange.claim_for_executor();
        self.exchange.close();
        let work = self.exchange.work(clock::monotonic_ms());
        self.executor.notices.post(Notice::Cut(overdue(head.as_deref(), work)));
        let fault = RequestFault::Overloaded;
        let response =
            fault.response(head.as_ref().is_some_and(|head| head.facts().is_head), &gateway::date_now());
        let (status, body_bytes) = match self.exchange.status() {
            Some(status) if !unanswered => (status, self.arrived_bytes(written_before)),
            _ => (fault.status().0, 0),
        };
        self.record_response(
            &End::new(Outcome::Broken, status, body_bytes, head),
            received_at,
            request_bytes,
        );
        if unanswered {
            // At once or not at all: this executor ends.
            let _ = self.stream.try_write_last(&response);
        }
    }

    /// Bytes of the response's body that the client has got, `written_before` being what the executor had written
    /// before.
    pub(super) fn arrived_bytes(&self, written_before: u64) -> u64 {
        let written = self.stream.written_bytes().saturating_sub(written_before);
        self.exchange.arrived_bytes(written, self.stream.queued_bytes() as u64)
    }

    pub(super) fn record_response(&self, end: &End, received_at: Instant, request_bytes: u64) {
        let ended_at = if end.is_sent { end.ended_at } else { Instant::now() };
        let taken = ended_at.saturating_duration_since(received_at);
        let latency_us = u64::try_from(taken.as_micros()).unwrap_or(u64::MAX);
        self.executor.load.score.request_finished(end.status, latency_us, request_bytes, end.body_bytes);
        self.executor.log(&AccessLogLine {
            client: self.peer.client,
            head: end.head.as_deref(),
            response_head: end.response_head.as_deref(),
            status: end.status,
            body_bytes: end.body_bytes,
            taken,
            outcome: end.outcome,
        });
    }

    /// Answers a request that is the peer's fault, and gives up on the connection.
    pub(super) async fn reject(&mut self, fault: &RequestFault, head: Option<&RequestHead>) -> CloseReason {
        tracing::debug!(%fault, peer = ?self.peer.facts.peer, "request refused");
        let is_head = head.map_or_else(|| self.machine.refused_is_head(), |head| head.facts().is_head);
        let response = fault.response(is_head, &gateway::date_now());
        self.executor.load.score.refused();
        self.executor.log(&AccessLogLine {
            client: self.peer.client,
            head,
            response_head: None,
            status: fault.status().0,
            body_bytes: 0,
            taken: Duration::ZERO,
            outcome: Outcome::Close,
        });
        match self.write(&response).await {
            Ok(()) => CloseReason::Linger,
            Err(_) => CloseReason::PeerGone,
        }
    }

    /// Answers a request whose body we cannot keep.
    pub(super) async fn refuse_body(&mut self, head: &RequestHead, error: &io::Error) -> CloseReason {
        self.executor.storage.complain(error);
        self.reject(&RequestFault::NoStorage, Some(head)).await
    }
}

/// What the log tells of a request that the application works on, or that waits for a thread.
fn overdue(head: Option<&RequestHead>, work: Option<RequestProgress>) -> Overdue {
    let request = head.map_or_else(String::new, |head| {
        format!("{} {}", String::from_utf8_lossy(head.method()), String::from_utf8_lossy(head.target()))
    });
    let (thread, working_for) = work.map_or((0, Duration::ZERO), |work| (work.thread, work.lasts));
    Overdue { request, thread, working_for }
}
