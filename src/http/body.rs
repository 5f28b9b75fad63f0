//! The body of a request, decoded as it arrives, and the chunks of a response.

use std::ops::Range;

use super::errors::RequestFault;
use super::framing::BodyFraming;
use super::syntax::{find_line, is_field_value, is_field_value_byte, is_token, is_token_byte, trim_ows};
use crate::limits::{CHUNK_EXTENSION_BYTES_MAX, CHUNK_LINE_BYTES_MAX, TRAILER_BYTES_MAX};

/// What one step of a decoder made of its input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of the input that are done with. The others must begin the next input.
    pub consumed: usize,
    /// Where body bytes lie in the input; empty if the body has ended or more input is needed.
    pub data: Range<usize>,
}

/// Finds a body's bytes among those that arrive, and its end.
#[derive(Clone, Debug)]
pub(super) enum BodyDecoder {
    Length { remaining: u64 },
    Chunked(ChunkedDecoder),
}

impl BodyDecoder {
    pub(super) fn new(framing: BodyFraming, body_bytes_max: u64) -> Self {
        match framing {
            BodyFraming::None => Self::Length { remaining: 0 },
            BodyFraming::Length(length) => Self::Length { remaining: length },
            BodyFraming::Chunked => Self::Chunked(ChunkedDecoder::new(body_bytes_max)),
        }
    }

    pub(super) fn decode(&mut self, input: &[u8]) -> Result<Decoded, RequestFault> {
        match self {
            Self::Length { remaining } => {
                let length = take(remaining, input.len());
                Ok(Decoded { consumed: length, data: 0..length })
            }
            Self::Chunked(decoder) => decoder.decode(input),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        match self {
            Self::Length { remaining } => *remaining == 0,
            Self::Chunked(decoder) => decoder.is_done(),
        }
    }
}

/// Subtracts from `remaining` as much as `available` covers, and returns that.
fn take(remaining: &mut u64, available: usize) -> usize {
    let length = usize::try_from(*remaining).unwrap_or(usize::MAX).min(available);
    *remaining -= length as u64;
    length
}

/// Decodes the chunked transfer coding (RFC 9112 section 7.1), strictly. Extensions and trailers are dropped.
#[derive(Clone, Debug)]
pub struct ChunkedDecoder {
    state: ChunkedState,
    /// Bytes the body may still have.
    body_bytes_left: u64,
    /// Bytes the chunk extensions may still have.
    extension_bytes_left: usize,
}

#[derive(Clone, Debug)]
enum ChunkedState {
    /// Before or in the line that introduces a chunk; its first `scanned` bytes hold no LF.
    Line {
        scanned: usize,
    },
    /// In the data of a chunk.
    Data {
        remaining: u64,
    },
    /// Before the CRLF that follows the data.
    DataEnd,
    /// Before or in a trailer field, or the empty line that ends the body; no LF in the first `scanned` bytes.
    Trailer {
        scanned: usize,
        bytes_left: usize,
    },
    Done,
}

impl ChunkedDecoder {
    /// A decoder for a body of at most `body_bytes_max` bytes.
    pub fn new(body_bytes_max: u64) -> Self {
        Self {
            state: ChunkedState::Line { scanned: 0 },
            body_bytes_left: body_bytes_max,
            extension_bytes_left: CHUNK_EXTENSION_BYTES_MAX,
        }
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        matches!(self.state, ChunkedState::Done)
    }

    /// Goes on until the next run of body bytes, the end of the body, or the end of `input`.
    ///
    /// # Errors
    /// What is wrong with the coding, and [`RequestFault::BodyTooLarge`] as soon as a chunk is announced that
    /// crosses the limit. The decoder is of no use thereafter.
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, RequestFault> {
        let mut consumed = 0;
        loop {
            let rest = input.get(consumed..).unwrap_or_default();
            let advanced = match &mut self.state {
                ChunkedState::Data { remaining } => {
                    let length = take(remaining, rest.len());
                    if *remaining == 0 {
                        self.state = ChunkedState::DataEnd;
                    }
                    return Ok(Decoded { consumed: consumed + length, data: consumed..consumed + length });
                }
                ChunkedState::Line { scanned } => {
                    let scanned = *scanned;
                    self.read_chunk_line(rest, scanned)?
                }
                ChunkedState::DataEnd => self.read_data_end(rest)?,
                ChunkedState::Trailer { scanned, bytes_left } => {
                    let (scanned, bytes_left) = (*scanned, *bytes_left);
                    self.read_trailer(rest, scanned, bytes_left)?
                }
                ChunkedState::Done => None,
            };
            match advanced {
                Some(bytes) => consumed += bytes,
                None => return Ok(Decoded { consumed, data: consumed..consumed }),
            }
        }
    }

    fn read_chunk_line(&mut self, rest: &[u8], scanned: usize) -> Result<Option<usize>, RequestFault> {
        let too_long = RequestFault::ChunkLineTooLong;
        let Some(length) = find_line(rest, scanned, CHUNK_LINE_BYTES_MAX, too_long)? else {
            self.state = ChunkedState::Line { scanned: rest.len() };
            return Ok(None);
        };
        let (size, extensions) = parse_chunk_line(rest.get(..length).unwrap_or_default())?;
        self.extension_bytes_left =
            self.extension_bytes_left.checked_sub(extensions.len()).ok_or(RequestFault::ChunkLineTooLong)?;
        self.body_bytes_left = self.body_bytes_left.checked_sub(size).ok_or(RequestFault::BodyTooLarge)?;
        self.state = match size {
            0 => ChunkedState::Trailer { scanned: 0, bytes_left: TRAILER_BYTES_MAX },
            size => ChunkedState::Data { remaining: size },
        };
        Ok(Some(length + 2))
    }

    fn read_data_end(&mut self, rest: &[u8]) -> Result<Option<usize>, RequestFault> {
        match rest {
            [b'\r', b'\n', ..] => {
                self.state = ChunkedState::Line { scanned: 0 };
                Ok(Some(2))
            }
            [] | [b'\r'] => Ok(None),
            _ => Err(RequestFault::ChunkEnd),
        }
    }

    fn read_trailer(
        &mut self,
        rest: &[u8],
        scanned: usize,
        bytes_left: usize,
    ) -> Result<Option<usize>, RequestFault> {
        let line_bytes_max = bytes_left.saturating_sub(CHUNK_END.len());
        let Some(length) = find_line(rest, scanned, line_bytes_max, RequestFault::TrailerTooLarge)? else {
            self.state = ChunkedState::Trailer { scanned: rest.len(), bytes_left };
            return Ok(None);
        };
        let line = rest.get(..length).unwrap_or_default();
        self.state = if line.is_empty() {
            ChunkedState::Done
        } else if is_field_line(line) {
            ChunkedState::Trailer { scanned: 0, bytes_left: bytes_left.saturating_sub(length + 2) }
        } else {
            return Err(RequestFault::Trailer);
        };
        Ok(Some(length + 2))
    }
}

/// Splits `chunk-size [ chunk-ext ]`, given without its CRLF, into size and extensions.
fn parse_chunk_line(line: &[u8]) -> Result<(u64, &[u8]), RequestFault> {
    const DIGITS_MAX: usize = 16;
    let digit_count = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, extensions) = line.split_at_checked(digit_count).ok_or(RequestFault::ChunkSize)?;
    if !(1..=DIGITS_MAX).contains(&digit_count) {
        return Err(RequestFault::ChunkSize);
    }
    // Sixteen digits fill 64 bits and cannot overflow them.
    let size = digits.iter().fold(0, |size, &digit| size << 4 | u64::from(hex_value(digit)));
    match trim_ows(extensions) {
        [] if extensions.is_empty() => Ok((size, extensions)),
        [b';', ..] if skip_extensions(extensions).is_some() => Ok((size, extensions)),
        [b';', ..] => Err(RequestFault::ChunkExtension),
        _ => Err(RequestFault::ChunkSize),
    }
}

/// Passes over `chunk-ext` (RFC 9112 section 7.1.1) to the end of `text`, or says `None` if it is something else.
fn skip_extensions(mut text: &[u8]) -> Option<()> {
    while !text.is_empty() {
        let name = skip_ows(text).strip_prefix(b";").map(skip_ows)?;
        let after_name = skip_token(name)?;
        text = match skip_ows(after_name) {
            [b'=', value @ ..] => match skip_ows(value) {
                [b'"', quoted @ ..] => skip_quoted(quoted)?,
                token => skip_token(token)?,
            },
            _ => after_name,
        };
    }
    Some(())
}

fn skip_ows(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    text
}

fn skip_token(text: &[u8]) -> Option<&[u8]> {
    let length = text.iter().take_while(|byte| is_token_byte(**byte)).count();
    text.get(length..).filter(|_| length > 0)
}

/// Passes over a quoted string (RFC 9110 section 5.6.4) behind its opening quote.
fn skip_quoted(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        text = match text {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', byte, rest @ ..] | [byte, rest @ ..] if is_field_value_byte(*byte) => rest,
            _ => return None,
        }
    }
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20).wrapping_sub(b'a' - 10),
    }
}

fn is_field_line(line: &[u8]) -> bool {
    let mut parts = line.splitn(2, |&byte| byte == b':');
    matches!((parts.next(), parts.next()), (Some(name), Some(value)) if is_token(name) && is_field_value(value))
}

/// Ends the data of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";
/// The last chunk, without trailers: the end of a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends the line that introduces a chunk of `length` bytes, which must not be 0: that would end the body.
pub fn encode_chunk_head(out: &mut Vec<u8>, length: usize) {
    debug_assert_ne!(length, 0, "an empty chunk ends the body");
    let digit_count = (usize::BITS - length.leading_zeros()).div_ceil(4);
    for place in (0..digit_count).rev() {
        let digit = u8::try_from(length >> (4 * place) & 0xf).unwrap_or_default();
        out.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
