//! A response as the application makes it, on its way into the connection's bytes. No Python here.

use std::fs::File;
use std::sync::Arc;

use crate::gateway::{End, FlushPolicy, Lent, Outcome, Payload, Reply, date_now};
use crate::http::{
    BodyLength, CHUNK_END, HeadWriter, LAST_CHUNK, RequestHead, ResponseFault, ResponseFraming, ResponsePlan,
    encode_chunk_head,
};

/// Room for a response head of usual size, in bytes.
const HEAD_BYTES_EXPECTED: usize = 512;

/// How far a response has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResponseStage {
    /// `start_response` has not been called.
    Unstarted,
    /// Status and fields are known; nothing is sent.
    Started,
    /// The head is sent, with this promise about the body.
    Flowing(ResponsePlan),
}

/// Why a response did not become what it promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortfall {
    /// More bytes came than Content-Length declares; they are not sent.
    Overlong {
        /// What was declared.
        declared_bytes: u64,
    },
    /// Fewer bytes came than Content-Length declares; the connection is cut.
    Short {
        /// What was declared.
        declared_bytes: u64,
        /// What came.
        sent_bytes: u64,
    },
}

/// A response between the application and its reply.
#[derive(Debug)]
pub(super) struct Response {
    reply: Option<Reply>,
    head: Option<Arc<RequestHead>>,
    writer: HeadWriter,
    stage: ResponseStage,
    status: u16,
    body_bytes: u64,
    overlong: bool,
    may_be_overlong: bool,
    /// What was sent, if the access log wants to know.
    sent_head: Option<Vec<u8>>,
}

impl Response {
    pub(super) fn new(reply: Reply, head: Arc<RequestHead>) -> Self {
        let writer = HeadWriter::new(Vec::with_capacity(HEAD_BYTES_EXPECTED));
        Self {
            reply: Some(reply),
            head: Some(head),
            writer,
            stage: ResponseStage::Unstarted,
            status: 0,
            body_bytes: 0,
            overlong: false,
            may_be_overlong: false,
            sent_head: None,
        }
    }

    pub(super) fn request_head(&self) -> Option<&RequestHead> {
        self.head.as_deref()
    }

    pub(super) fn is_started(&self) -> bool {
        self.stage != ResponseStage::Unstarted
    }

    pub(super) fn is_head_sent(&self) -> bool {
        matches!(self.stage, ResponseStage::Flowing(_))
    }

    /// Whether no more bytes are wanted: the client is gone, or has all it was promised.
    pub(super) fn is_sated(&self) -> bool {
        let has_all = match self.stage {
            ResponseStage::Unstarted | ResponseStage::Started => false,
            ResponseStage::Flowing(plan) => match plan.framing {
                ResponseFraming::None => true,
                ResponseFraming::Length(declared) => self.body_bytes >= declared,
                ResponseFraming::Chunked | ResponseFraming::UntilClose => false,
            },
        };
        has_all || self.reply.as_ref().is_none_or(Reply::is_closed)
    }

    /// The body is a file, of which no more than the declared length is wanted: more is no fault (PEP 3333, "Optional
    /// Platform-Specific File Handling").
    pub(super) fn allow_overlong(&mut self) {
        self.may_be_overlong = true;
    }

    /// Starts the head, or starts it over.
    pub(super) fn start(&mut self, status: &[u8]) -> Result<(), ResponseFault> {
        self.stage = ResponseStage::Unstarted;
        self.writer.start(status)
    }

    pub(super) fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), ResponseFault> {
        self.writer.header(name, value)
    }

    /// The head is said, though not sent: PEP 3333 sends it with the first byte of the body.
    pub(super) fn set_started(&mut self) {
        self.stage = ResponseStage::Started;
    }

    /// What the application waits on when the client is slow; `None` when there is no need to wait.
    pub(super) fn congested(&self) -> Option<&Reply> {
        self.reply.as_ref().filter(|reply| reply.is_congested())
    }

    /// Sends a piece of the body, the head before the first. An empty piece sends nothing.
    pub(super) fn push(&mut self, data: &[u8]) -> Result<(), ResponseFault> {
        if data.is_empty() {
            return Ok(());
        }
        let mut out = self.take_head(BodyLength::Unknown)?;
        self.frame(&mut out, data);
        if let Some(reply) = &mut self.reply
            && !out.is_empty()
        {
            reply.send(out);
        }
        Ok(())
    }

    /// Sends the last piece of the body, and ends. `flush_policy` as of [`Reply::finish`].
    pub(super) fn finish(
        &mut self,
        data: &[u8],
        flush_policy: FlushPolicy,
    ) -> Result<Option<Shortfall>, ResponseFault> {
        let out = self.take_head(BodyLength::Exactly(data.len() as u64))?;
        Ok(self.finish_after(out, data, flush_policy))
    }

    /// The same with the whole body at once, which need not be copied.
    pub(super) fn finish_lent(
        &mut self,
        body: Lent,
        flush_policy: FlushPolicy,
    ) -> Result<Option<Shortfall>, ResponseFault> {
        let length_bytes = body.as_bytes().len() as u64;
        let prefix = self.take_head(BodyLength::Exactly(length_bytes))?;
        if self.framing() != ResponseFraming::Length(length_bytes) {
            return Ok(self.finish_after(prefix, body.as_bytes(), flush_policy));
        }
        self.body_bytes = length_bytes;
        self.end(Payload::Lent { prefix, body }, self.outcome(None), flush_policy);
        Ok(None)
    }

    fn finish_after(
        &mut self,
        mut out: Vec<u8>,
        data: &[u8],
        flush_policy: FlushPolicy,
    ) -> Option<Shortfall> {
        self.frame(&mut out, data);
        if self.framing() == ResponseFraming::Chunked {
            out.extend_from_slice(LAST_CHUNK);
        }
        let shortfall = self.shortfall();
        self.end(Payload::Memory(out), self.outcome(shortfall), flush_policy);
        shortfall
    }

    /// Sends a part of a file as the whole body, and ends.
    pub(super) fn finish_file(
        &mut self,
        file: File,
        offset: i64,
        file_bytes: u64,
        flush_policy: FlushPolicy,
    ) -> Result<Option<Shortfall>, ResponseFault> {
        let prefix = self.take_head(BodyLength::Exactly(file_bytes))?;
        let length_bytes = match self.framing() {
            ResponseFraming::None => 0,
            ResponseFraming::Length(declared) => declared.min(file_bytes),
            ResponseFraming::Chunked | ResponseFraming::UntilClose => file_bytes,
        };
        self.body_bytes = length_bytes;
        let shortfall = self.shortfall();
        self.end(Payload::File { prefix, file, offset, length_bytes }, self.outcome(shortfall), flush_policy);
        Ok(shortfall)
    }

    /// Ends with the server's own words about the application's failure, or by cutting off what has begun.
    pub(super) fn fail(&mut self, flush_policy: FlushPolicy) {
        if !self.is_head_sent() {
            let said = self
                .start(b"500 Internal Server Error")
                .and_then(|()| self.header(b"Content-Type", b"text/plain; charset=utf-8"))
                .and_then(|()| self.finish(b"Internal Server Error\n", flush_policy));
            if said.is_ok() {
                return;
            }
        }
        self.end(Payload::Memory(Vec::new()), Outcome::Broken, flush_policy);
    }

    /// The head's bytes, if they are not sent yet.
    fn take_head(&mut self, body: BodyLength) -> Result<Vec<u8>, ResponseFault> {
        let Some(reply) = &self.reply else { return Ok(Vec::new()) };
        if self.is_head_sent() || (self.stage == ResponseStage::Unstarted && reply.is_taken_over()) {
            return Ok(Vec::new());
        }
        let plan = self.writer.finish(reply.facts(), body, reply.may_keep_alive(), &date_now())?;
        self.stage = ResponseStage::Flowing(plan);
        self.status = self.writer.status_code();
        reply.note_head(self.status, self.writer.bytes().len());
        if reply.wants_response_head() {
            self.sent_head = Some(self.writer.bytes().to_vec());
        }
        Ok(std::mem::replace(&mut self.writer, HeadWriter::new(Vec::new())).into_inner())
    }

    fn framing(&self) -> ResponseFraming {
        match self.stage {
            ResponseStage::Flowing(plan) => plan.framing,
            ResponseStage::Unstarted | ResponseStage::Started => ResponseFraming::None,
        }
    }

    fn frame(&mut self, out: &mut Vec<u8>, data: &[u8]) {
        let data = match self.framing() {
            ResponseFraming::None => return,
            ResponseFraming::Length(declared) => {
                let room = usize::try_from(declared.saturating_sub(self.body_bytes)).unwrap_or(usize::MAX);
                self.overlong |= data.len() > room;
                data.get(..room).unwrap_or(data)
            }
            ResponseFraming::Chunked | ResponseFraming::UntilClose => data,
        };
        self.body_bytes += data.len() as u64;
        if self.framing() == ResponseFraming::Chunked && !data.is_empty() {
            encode_chunk_head(out, data.len());
            out.extend_from_slice(data);
            out.extend_from_slice(CHUNK_END);
        } else {
            out.extend_from_slice(data);
        }
    }

    /// Whether the application has taken over the connection, so that nothing of the response is sent.
    pub(super) fn is_taken_over(&self) -> bool {
        self.reply.as_ref().is_some_and(Reply::is_taken_over)
    }

    fn shortfall(&self) -> Option<Shortfall> {
        match self.framing() {
            _ if self.is_taken_over() => None,
            ResponseFraming::Length(declared_bytes) if self.overlong && !self.may_be_overlong => {
                Some(Shortfall::Overlong { declared_bytes })
            }
            ResponseFraming::Length(declared_bytes) if self.body_bytes < declared_bytes => {
                Some(Shortfall::Short { declared_bytes, sent_bytes: self.body_bytes })
            }
            _ => None,
        }
    }

    fn outcome(&self, shortfall: Option<Shortfall>) -> Outcome {
        match (shortfall, self.stage) {
            (Some(Shortfall::Short { .. }), _) => Outcome::Broken,
            (_, ResponseStage::Flowing(ResponsePlan { keep_alive: true, .. })) => Outcome::KeepAlive,
            _ => Outcome::Close,
        }
    }

    fn end(&mut self, payload: Payload, outcome: Outcome, flush_policy: FlushPolicy) {
        let Some(reply) = self.reply.take() else { return };
        let mut end = End::new(outcome, self.status, self.body_bytes, self.head.take());
        end.response_head = self.sent_head.take();
        reply.finish(payload, end, flush_policy);
    }
}
