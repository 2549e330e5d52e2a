//! HTTP/1.1 as a sink needs it: one buffer a connection, a body measured as it passes.

use super::measure::Measure;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The largest head, and how much of a body is read at once.
const BUFFER: usize = 256 << 10;
/// Most headers of a request.
const HEADERS: usize = 64;

/// A request without its body.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub method: String,
    /// Path and query as they were sent.
    pub target: String,
    /// `If-None-Match: *`.
    pub creates: bool,
    /// The CRC64NVME that the sender computed.
    pub crc64: Option<String>,
    /// `x-amz-checksum-mode: ENABLED`.
    pub asks_checksum: bool,
    /// The connection ends with the answer.
    pub closes: bool,
    expects: bool,
    length: u64,
    chunked: bool,
    aws_chunked: bool,
}

/// One connection.
pub(super) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Wire {
    pub fn new(stream: TcpStream) -> Self {
        Wire { stream, buffer: vec![0; BUFFER], start: 0, end: 0 }
    }

    /// Reads more; `false` at the end of the stream.
    async fn fill(&mut self) -> io::Result<bool> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == BUFFER {
            self.buffer.copy_within(self.start.., 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let read = self.stream.read(&mut self.buffer[self.end..]).await?;
        self.end += read;
        Ok(read > 0)
    }

    /// The next request; `None` when the client has left.
    pub async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if self.start < self.end
                && let Some((head, length)) = parse(&self.buffer[self.start..self.end])?
            {
                self.start += length;
                return Ok(Some(head));
            }
            if self.end - self.start == BUFFER || !self.fill().await? {
                return if self.start == self.end {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    /// Takes the body of a request.
    pub async fn body(&mut self, head: &Head, measure: &mut Measure) -> io::Result<()> {
        if head.expects {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let mut outer =
            if head.chunked { Frame::Chunks(Chunks::default()) } else { Frame::Length(head.length) };
        let mut inner =
            if head.aws_chunked { Frame::Chunks(Chunks::default()) } else { Frame::Length(u64::MAX) };
        while !outer.is_over() {
            if self.start == self.end && !self.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut take = |bytes: &[u8]| {
                inner.feed(bytes, &mut |bytes| measure.take(bytes));
            };
            self.start += outer.feed(&self.buffer[self.start..self.end], &mut take);
        }
        Ok(())
    }

    pub async fn send(&mut self, answer: &[u8]) -> io::Result<()> {
        self.stream.write_all(answer).await
    }
}

fn parse(bytes: &[u8]) -> io::Result<Option<(Head, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    let (method, target) = (request.method.unwrap_or(""), request.path.unwrap_or(""));
    let mut head = Head { method: method.to_owned(), target: target.to_owned(), ..Head::default() };
    for header in request.headers.iter() {
        let value = header.value.trim_ascii();
        let text = || String::from_utf8_lossy(value).into_owned();
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        match header.name.len() {
            14 if is("content-length") => head.length = text().parse().map_err(io::Error::other)?,
            17 if is("transfer-encoding") => head.chunked = value.eq_ignore_ascii_case(b"chunked"),
            20 if is("x-amz-content-sha256") => head.aws_chunked = value.starts_with(b"STREAMING-"),
            6 if is("expect") => head.expects = true,
            13 if is("if-none-match") => head.creates = value == b"*",
            24 if is("x-amz-checksum-crc64nvme") => head.crc64 = Some(text()),
            19 if is("x-amz-checksum-mode") => head.asks_checksum = value.eq_ignore_ascii_case(b"ENABLED"),
            10 if is("connection") => head.closes = value.eq_ignore_ascii_case(b"close"),
            _ => {}
        }
    }
    Ok(Some((head, length)))
}

/// How the length of a body is told.
enum Frame {
    Length(u64),
    Chunks(Chunks),
}

impl Frame {
    fn is_over(&self) -> bool {
        match self {
            Frame::Length(left) => *left == 0,
            Frame::Chunks(chunks) => chunks.at == At::End,
        }
    }

    /// Takes bytes and passes the payload on; how many it took.
    fn feed(&mut self, bytes: &[u8], pass: &mut dyn FnMut(&[u8])) -> usize {
        match self {
            Frame::Length(left) => {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                pass(&bytes[..taken]);
                taken
            }
            Frame::Chunks(chunks) => chunks.feed(bytes, pass),
        }
    }
}

/// HTTP's chunks, and Amazon's, which may carry signatures: the grammar is the same.
#[derive(Debug, Default)]
struct Chunks {
    at: At,
    line: Vec<u8>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Size,
    Data(u64),
    AfterData,
    Trailer,
    End,
}

impl Chunks {
    fn feed(&mut self, bytes: &[u8], pass: &mut dyn FnMut(&[u8])) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() && self.at != At::End {
            if let At::Data(left) = &mut self.at {
                let taken = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                pass(&rest[..taken]);
                *left -= taken as u64;
                if *left == 0 {
                    self.at = At::AfterData;
                }
                rest = &rest[taken..];
                continue;
            }
            let end = rest.iter().position(|byte| *byte == b'\n');
            self.line.extend_from_slice(&rest[..end.unwrap_or(rest.len())]);
            rest = end.map_or(&[], |end| &rest[end + 1..]);
            if end.is_some() {
                self.at = self.next();
                self.line.clear();
            }
        }
        bytes.len() - rest.len()
    }

    /// What follows a line that is complete.
    fn next(&self) -> At {
        let line = self.line.trim_ascii();
        match self.at {
            At::Size => {
                let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
                let size =
                    std::str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
                match size {
                    Some(size) if size > 0 => At::Data(size),
                    _ => At::Trailer,
                }
            }
            At::Trailer if !line.is_empty() => At::Trailer,
            At::Trailer => At::End,
            _ => At::Size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cut_anywhere_give_the_same_payload() {
        let sent = b"4;chunk-signature=00\r\nda\r\n\r\n2\r\nta\r\n0\r\nx-amz-checksum-crc32:AA==\r\n\r\n";
        for step in 1..sent.len() {
            let (mut chunks, mut payload) = (Chunks::default(), Vec::new());
            for piece in sent.chunks(step) {
                assert_eq!(chunks.feed(piece, &mut |bytes| payload.extend_from_slice(bytes)), piece.len());
            }
            assert_eq!(
                (payload.as_slice(), &chunks.at),
                (&b"da\r\nta"[..], &At::End),
                "cut every {step} bytes"
            );
        }
    }

    #[test]
    fn what_follows_a_body_is_left_for_the_next_request() {
        let mut chunks = Chunks::default();
        assert_eq!(chunks.feed(b"0\r\n\r\nPUT /", &mut |_| {}), 5);
    }
}
