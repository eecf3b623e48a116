//! The requests of an HTTP/1.1 client, read whole and by the letter: what the client wrote is what the tests look at.

use std::io::{self, BufRead, Read, Write};

/// One request as it came.
#[derive(Clone, Debug, Default)]
pub struct Message {
    pub method: String,
    /// Path and query, as on the request line.
    pub path: String,
    /// In their order, with the names in lower case.
    pub headers: Vec<(String, String)>,
    /// Without the chunks' frames, but still compressed.
    pub body: Vec<u8>,
}

impl Message {
    /// The value of a header, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(found, _)| found == name);
        values.next().map(|(_, value)| value.as_str())
    }
}

/// Reads one request. `client` hears a `100 Continue` if it asks for one.
///
/// # Errors
///
/// If the client leaves in the middle of it, or if it is no request of HTTP/1.1, or too large.
pub fn read(reader: &mut impl BufRead, mut client: impl Write) -> io::Result<Message> {
    let mut head = HEAD_BYTES;
    let request = line(reader, &mut head)?;
    let mut words = request.split(' ');
    let (Some(method), Some(path), Some("HTTP/1.1"), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(invalid(format!("no request line: {request:?}")));
    };
    let mut message = Message {
        method: method.to_string(),
        path: path.to_string(),
        ..Message::default()
    };
    loop {
        let header = line(reader, &mut head)?;
        if header.is_empty() {
            break;
        }
        let (name, value) = header
            .split_once(':')
            .ok_or_else(|| invalid(format!("no header: {header:?}")))?;
        message
            .headers
            .push((name.to_ascii_lowercase(), value.trim().to_string()));
    }
    if message.header("expect").is_some() {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if message.header("transfer-encoding") == Some("chunked") {
        loop {
            let size = line(reader, &mut head)?;
            let size = usize::from_str_radix(&size, 16).map_err(|_| invalid(format!("no chunk size: {size:?}")))?;
            body(reader, size, &mut message.body)?;
            if !line(reader, &mut head)?.is_empty() {
                return Err(invalid("a chunk is longer than it says".to_string()));
            }
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = message.header("content-length") {
        let length = length
            .parse()
            .map_err(|_| invalid(format!("no content length: {length:?}")))?;
        body(reader, length, &mut message.body)?;
    }
    Ok(message)
}

/// A head may have this many bytes, and so may the frames of all chunks.
const HEAD_BYTES: u64 = 64 << 10;

/// Far more than any client should send.
const BODY_BYTES: usize = 256 << 20;

fn line(reader: &mut impl BufRead, left: &mut u64) -> io::Result<String> {
    let mut line = String::new();
    *left -= reader.by_ref().take(*left).read_line(&mut line)? as u64;
    match line.strip_suffix("\r\n") {
        Some(line) => Ok(line.to_string()),
        None if *left == 0 => Err(invalid(format!("the head has more than {HEAD_BYTES} bytes"))),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn body(reader: &mut impl BufRead, length: usize, body: &mut Vec<u8>) -> io::Result<()> {
    if length > BODY_BYTES - body.len() {
        return Err(invalid(format!("the body has more than {BODY_BYTES} bytes")));
    }
    let start = body.len();
    body.resize(start + length, 0);
    reader.read_exact(&mut body[start..])
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
