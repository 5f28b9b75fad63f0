//! A complete request on its way to the application.

use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::{Reply, Share, UploadReader};
use crate::http::{Forwarded, RequestHead};

/// A request whose every byte has arrived, and the way to answer it.
#[derive(Debug)]
pub struct Request {
    /// Request line and header fields, as sent.
    pub head: Arc<RequestHead>,
    /// The decoded body.
    pub body: Body,
    /// Who talks to whom.
    pub connection: Arc<ConnectionFacts>,
    /// What trusted proxies say of it; overrules what the connection and the head say.
    pub forwarded: Option<Box<Forwarded>>,
    /// For a request that asks for another protocol: the bytes that have come behind it, so that the application can
    /// take over the connection.
    pub early: Option<Vec<u8>>,
    /// Where the answer goes.
    pub reply: Reply,
    /// When the request was complete.
    pub received_at: Instant,
}

/// A decoded request body.
#[derive(Debug)]
pub enum Body {
    /// No byte.
    Empty,
    /// Small enough for memory.
    Memory(Vec<u8>),
    /// In an anonymous temporary file, from its start.
    File {
        /// The file; its position is anywhere.
        file: File,
        /// Bytes in it.
        length_bytes: u64,
        /// Its share of the room for such files, to be kept as long as the file.
        share: Share,
    },
    /// Still on its way.
    Stream(UploadReader),
}

impl Body {
    /// Decoded bytes that have arrived.
    pub fn length_bytes(&self) -> u64 {
        match self {
            Self::Empty | Self::Stream(_) => 0,
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { length_bytes, .. } => *length_bytes,
        }
    }
}

/// The two ends of a connection, as a trusted proxy names them or as they are; both `None` on a unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionFacts {
    /// The client's address.
    pub peer: Option<SocketAddr>,
    /// The address the client connected to.
    pub local: Option<SocketAddr>,
    /// A trusted proxy says that the client spoke TLS to it.
    pub is_tls: bool,
}
