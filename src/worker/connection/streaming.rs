//! Requests whose application is called before their body has arrived: reading it and answering go on side by side.

use std::future::Future;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use futures_lite::FutureExt;

use super::{Conversation, Over, Patience, Relayed, take_in};
use crate::config::Config;
use crate::gateway::{self, Body, Outcome, Reply, Request, Upload, UploadFault};
use crate::http::{BodyFraming, CONTINUE, Connection, Event, Forwarded, RequestFault, RequestHead};
use crate::limits::UPLOAD_LOOK_PAUSE;

/// How the reading of a body ended.
enum Read {
    /// All of it was read.
    Whole,
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

impl Conversation {
    /// Has the application answer a request whose body is still on its way, and writes the answer.
    pub(super) async fn stream(
        &mut self,
        head: RequestHead,
        forwarded: Option<Box<Forwarded>>,
    ) -> Option<Over> {
        let received_at = self.desk.reactor.now();
        let (is_head, head_bytes) = (head.facts().is_head, head.length_bytes() as u64);
        self.exchange.reopen(true);
        self.exchange.set_uploading(true);
        let upload = Upload::new(Arc::clone(&self.exchange));
        let mut patience = Patience::new(&self.desk.config, &head, received_at);
        self.desk.set_deadline(&self.entry, Some(patience.first_look(received_at)));
        let reply = Reply::new(Arc::clone(&self.exchange), head.facts());
        let (body, connection) = (Body::Stream(upload.reader()), Arc::clone(&self.peer.facts));
        self.desk.submit(Box::new(Request {
            head,
            body,
            connection,
            forwarded,
            early: None,
            reply,
            received_at,
        }));

        // The machine is lent to the reading side, and nobody asks it anything meanwhile.
        let idle = Connection::new(Arc::clone(&self.desk.http_limits), false, received_at);
        let mut machine = mem::replace(&mut self.machine, idle);
        let (relayed, read) = {
            let mut reading = pin!(self.read_body(&mut machine, &upload, is_head));
            let mut relaying = pin!(self.relay(&mut patience, received_at, head_bytes));
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
            Relayed::Whole(end) => (end, true),
            Relayed::Cut(end) => (end, false),
            Relayed::Withdrawn(request) => return Some(self.give_up(*request, head_bytes).await),
            Relayed::CalledOff | Relayed::TakenOver(_) => return Some(Over::Gone),
        };
        if let Some(Read::Refused { fault, answered: true }) = read {
            (end.status, end.body_bytes) = (fault.status().0, 0);
        }
        self.conclude(&end, received_at, head_bytes + upload.length_bytes());
        match (read, end.outcome) {
            (Some(Read::Refused { answered: true, .. }), _) => Some(Over::Linger),
            (Some(Read::Gone | Read::Refused { .. }), _) | (_, Outcome::Broken) => Some(Over::Gone),
            _ if !is_whole => Some(Over::Gone),
            (Some(Read::Whole), Outcome::KeepAlive) => {
                self.machine.respond_done(true, self.desk.reactor.now());
                None
            }
            (Some(Read::Whole), Outcome::Close) => Some(self.goodbye()),
            (None, _) => Some(Over::Linger),
        }
    }

    /// Reads the body as far as the application keeps up.
    async fn read_body(&self, machine: &mut Connection, upload: &Upload, is_head: bool) -> Read {
        loop {
            match machine.next(self.desk.reactor.now()) {
                Event::Body(bytes) => upload.push(bytes),
                Event::Continue => {
                    self.excused(machine, || upload.is_wanted()).await;
                    // Whoever is answered already has been told to go on, or that there is no need.
                    if !self.exchange.is_answering() && self.write(CONTINUE).await.is_err() {
                        upload.end(Err(UploadFault::Gone));
                        return Read::Gone;
                    }
                }
                Event::BodyEnd => {
                    self.exchange.set_uploading(false);
                    upload.end(Ok(()));
                    return Read::Whole;
                }
                Event::Reject(fault) => return self.refuse_upload(fault, upload, is_head).await,
                Event::Wait => {
                    self.excused(machine, || !upload.is_full()).await;
                    match self.hear_body(machine).await {
                        Ok(None) => {}
                        Ok(Some(fault)) => return self.refuse_upload(fault, upload, is_head).await,
                        Err(_) => {
                            upload.end(Err(UploadFault::Gone));
                            return Read::Gone;
                        }
                    }
                }
                Event::Head(_) | Event::Proxied(_) | Event::Close | Event::Aborted => {
                    upload.end(Err(UploadFault::Gone));
                    return Read::Gone;
                }
            }
        }
    }

    /// Waits for the application, which counts against no limit of the client's.
    async fn excused(&self, machine: &mut Connection, ready: impl Fn() -> bool) {
        let since = self.desk.reactor.now();
        while !ready() && !self.entry.registration.is_hung_up() {
            self.pause().await;
        }
        machine.excuse(self.desk.reactor.now().saturating_duration_since(since));
    }

    /// Feeds the machine what the client sends next, or says what its silence means.
    async fn hear_body(&self, machine: &mut Connection) -> io::Result<Option<RequestFault>> {
        while !take_in(&self.desk, &self.stream, machine)? {
            if let Event::Reject(fault) = machine.expire(self.desk.reactor.now()) {
                return Ok(Some(fault));
            }
            // A timer of its own: the connection's deadline is that of the response.
            let look = self.desk.reactor.sleep_until(self.desk.reactor.now() + UPLOAD_LOOK_PAUSE);
            self.pause().or(look).await;
        }
        Ok(None)
    }

    /// Answers for the application, if it has not begun to, and has its reading fail.
    async fn refuse_upload(&self, fault: RequestFault, upload: &Upload, is_head: bool) -> Read {
        tracing::debug!(%fault, peer = ?self.peer.facts.peer, "request refused");
        let answered = self.exchange.silence();
        if answered {
            // A client that does not take it is gone, which makes no difference any more.
            let _ = self.write(&fault.response(is_head, &gateway::date_now())).await;
            self.desk.load.score.refused();
        }
        self.exchange.close();
        upload.end(Err(UploadFault::Refused(fault)));
        Read::Refused { fault, answered }
    }
}
