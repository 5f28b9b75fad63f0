//! Requests whose application is called before their body has arrived: reading it and answering go on side by side.

use std::future::Future;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use futures_lite::FutureExt;

use super::{CloseReason, ConnectionTask, RelayOutcome, RequestDeadline, read_available};
use crate::config::Config;
use crate::gateway::{self, Body, Outcome, Reply, Request, Upload, UploadFault};
use crate::http::{BodyFraming, CONTINUE, Connection, Event, Forwarded, RequestFault, RequestHead};
use crate::limits::UPLOAD_LOOK_PAUSE;

/// How the reading of a body ended.
enum BodyRead {
    /// All of it was read.
    Complete,
    /// It was refused, and the client was answered if it had no answer yet.
    Refused { fault: RequestFault, answered: bool },
    /// The client is gone.
    Gone,
}

/// Whether a request has a body to stream.
pub(super) fn suits(head: &RequestHead, config: &Config) -> bool {
    config.stream_uploads
        && match head.framing() {
            BodyFraming::None | BodyFraming::Length(0) => false,
            BodyFraming::Length(_) => true,
            BodyFraming::Chunked => !config.buffer_chunked,
        }
}

impl ConnectionTask {
    /// Has the application answer a request whose body is still on its way, and writes the answer.
    pub(super) async fn stream(
        &mut self,
        head: RequestHead,
        forwarded: Option<Box<Forwarded>>,
    ) -> Option<CloseReason> {
        let received_at = self.executor.reactor.now();
        let head = Arc::new(head);
        let (is_head, head_bytes) = (head.facts().is_head, head.length_bytes() as u64);
        self.exchange.reopen(true);
        self.exchange.set_uploading(true);
        let upload = Upload::new(Arc::clone(&self.exchange));
        let mut request_deadline = RequestDeadline::new(&self.executor.config, &head, received_at);
        self.executor.set_deadline(&self.handle, Some(request_deadline.first_check(received_at)));
        let reply = Reply::new(Arc::clone(&self.exchange), head.facts());
        let (body, connection) = (Body::Stream(upload.reader()), Arc::clone(&self.peer.facts));
        self.executor.submit(Box::new(Request {
            head,
            body,
            connection,
            forwarded,
            early: None,
            reply,
            received_at,
        }));

        // The machine is lent to the reading side, and is not used meanwhile.
        let idle = Connection::new(Arc::clone(&self.executor.http_limits), false, received_at);
        let mut machine = mem::replace(&mut self.machine, idle);
        let (relayed, read) = {
            let mut reading = pin!(self.read_body(&mut machine, &upload, is_head));
            let mut relaying = pin!(self.relay(&mut request_deadline, received_at, head_bytes));
            let mut read = None;
            let relayed = poll_fn(|context| {
                if read.is_none()
                    && let Poll::Ready(how) = reading.as_mut().poll(context)
                {
                    read = Some(how);
                }
                relaying.as_mut().poll(context)
            })
            .await;
            (relayed, read)
        };
        self.machine = machine;
        self.exchange.set_uploading(false);
        upload.end(Err(UploadFault::Gone));
        let (mut end, is_whole) = match relayed {
            RelayOutcome::Complete(end) => (end, true),
            RelayOutcome::Truncated(end) => (end, false),
            RelayOutcome::Withdrawn(request) => return Some(self.give_up(*request, head_bytes).await),
            RelayOutcome::TimedOut | RelayOutcome::Upgraded(_) => return Some(CloseReason::PeerGone),
        };
        if let Some(BodyRead::Refused { fault, answered: true }) = read {
            (end.status, end.body_bytes) = (fault.status().0, 0);
        }
        self.record_response(&end, received_at, head_bytes + upload.length_bytes());
        match (read, end.outcome) {
            (Some(BodyRead::Refused { answered: true, .. }), _) => Some(CloseReason::Linger),
            (Some(BodyRead::Gone | BodyRead::Refused { .. }), _) | (_, Outcome::Broken) => {
                Some(CloseReason::PeerGone)
            }
            _ if !is_whole => Some(CloseReason::PeerGone),
            (Some(BodyRead::Complete), Outcome::KeepAlive) => {
                self.machine.respond_done(true, self.executor.reactor.now());
                None
            }
            (Some(BodyRead::Complete), Outcome::Close) => Some(self.close_reason()),
            (None, _) => Some(CloseReason::Linger),
        }
    }

    /// Reads the body as far as the application keeps up.
    async fn read_body(&self, machine: &mut Connection, upload: &Upload, is_head: bool) -> BodyRead {
        loop {
            match machine.next(self.executor.reactor.now()) {
                Event::Body(bytes) => upload.push(bytes),
                Event::Continue => {
                    self.excused(machine, || upload.is_wanted()).await;
                    // A client with an answer has been told to continue, or that there is no need.
                    if !self.exchange.is_answering() && self.write(CONTINUE).await.is_err() {
                        upload.end(Err(UploadFault::Gone));
                        return BodyRead::Gone;
                    }
                }
                Event::BodyEnd => {
                    self.exchange.set_uploading(false);
                    upload.end(Ok(()));
                    return BodyRead::Complete;
                }
                Event::Reject(fault) => return self.refuse_upload(fault, upload, is_head).await,
                Event::Wait => {
                    self.excused(machine, || !upload.is_full()).await;
                    match self.receive_body(machine).await {
                        Ok(None) => {}
                        Ok(Some(fault)) => return self.refuse_upload(fault, upload, is_head).await,
                        Err(_) => {
                            upload.end(Err(UploadFault::Gone));
                            return BodyRead::Gone;
                        }
                    }
                }
                Event::Head(_) | Event::Proxied(_) | Event::Close | Event::Aborted => {
                    upload.end(Err(UploadFault::Gone));
                    return BodyRead::Gone;
                }
            }
        }
    }

    /// Waits for the application, which counts against no limit of the client's.
    async fn excused(&self, machine: &mut Connection, ready: impl Fn() -> bool) {
        let since = self.executor.reactor.now();
        while !ready() && !self.handle.registration.is_hung_up() {
            self.wait_for_wakeup().await;
        }
        machine.excuse(self.executor.reactor.now().saturating_duration_since(since));
    }

    /// Feeds the machine what the client sends next, or returns the timeout's fault.
    async fn receive_body(&self, machine: &mut Connection) -> io::Result<Option<RequestFault>> {
        while !read_available(&self.executor, &self.stream, machine)? {
            if let Event::Reject(fault) = machine.expire(self.executor.reactor.now()) {
                return Ok(Some(fault));
            }
            // A timer of its own: the connection's deadline is that of the response.
            let look = self.executor.reactor.sleep_until(self.executor.reactor.now() + UPLOAD_LOOK_PAUSE);
            self.wait_for_wakeup().or(look).await;
        }
        Ok(None)
    }

    /// Answers for the application, if it has not begun to, and has its reading fail.
    async fn refuse_upload(&self, fault: RequestFault, upload: &Upload, is_head: bool) -> BodyRead {
        tracing::debug!(%fault, peer = ?self.peer.facts.peer, "request refused");
        let answered = self.exchange.claim_for_executor();
        if answered {
            // A client that does not take it is gone, which makes no difference any more.
            let _ = self.write(&fault.response(is_head, &gateway::date_now())).await;
            self.executor.load.score.refused();
        }
        self.exchange.close();
        upload.end(Err(UploadFault::Refused(fault)));
        BodyRead::Refused { fault, answered }
    }
}
