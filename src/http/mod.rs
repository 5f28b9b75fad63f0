//! HTTP/1.1 without I/O: bytes and `now` in, actions out (RFC 9110, RFC 9112).
//!
//! [`Connection`] is the whole of a server's side of one connection; a driver gives it what the socket and the
//! clock say. It hands out [`RequestHead`]s and body bytes, and refuses with a [`RequestFault`] whatever another
//! server might read differently. [`HeadWriter`] assembles the answer's head and plans how its body is sent.
//!
//! A proxy in front may say who its client is: [`ProxyHeader`] before the first request, [`Forwarded`] in each.
//!
//! Inside, one way only: `connection` → `proxy_protocol`, `forwarded` → `head`, `body` → `framing`, `target` →
//! `syntax`, `errors`.

mod body;
mod buffer;
mod connection;
mod date;
mod errors;
mod forwarded;
mod framing;
mod head;
mod proxy_protocol;
mod response_head;
mod syntax;
mod target;

pub use body::{CHUNK_END, ChunkedDecoder, Decoded, LAST_CHUNK, encode_chunk_head};
pub use connection::{CONTINUE, Connection, Event, drain_deadline};
pub use date::{DateCache, imf_fixdate};
pub use errors::RequestFault;
pub use forwarded::{Forwarded, Node, Scheme};
pub use framing::BodyFraming;
pub use head::{RequestFacts, RequestHead, Version};
pub use proxy_protocol::{ProxiedEnds, ProxyHeader, ProxyVersions};
pub use response_head::{BodyLength, HeadWriter, ResponseFault, ResponseFraming, ResponsePlan};
