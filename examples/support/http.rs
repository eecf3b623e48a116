//! Just enough HTTP for a server in an example: one request a connection, read whole. Not to be copied.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

pub struct Request {
    pub path: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Clients are not trusted with more than this.
const MOST_BYTES: u64 = 64 << 20;
const MOST_WAIT: Duration = Duration::from_secs(5);

impl Request {
    pub fn read(stream: &TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(MOST_WAIT))?;
        let mut reader = BufReader::new(stream.take(MOST_BYTES));
        let mut line = || {
            let mut line = String::new();
            reader.read_line(&mut line).map(|_| line.trim_end().to_owned())
        };
        let path = line()?.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut headers = Vec::new();
        while let Some((name, value)) = line()?.split_once(':') {
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut request = Request {
            path,
            headers,
            body: Vec::new(),
        };
        let length = request.header("content-length").parse().unwrap_or(0);
        reader.take(length).read_to_end(&mut request.body)?;
        match request.body.len() as u64 == length {
            true => Ok(request),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The value of a header, its name in lower case; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(each, _)| each == name);
        found.map_or("", |(_, value)| value)
    }
}

/// Answers the one request of a connection.
pub fn answer(mut stream: &TcpStream, status: u16, body: &str) -> io::Result<()> {
    let length = body.len();
    // Without the reason, which nobody reads, but with the space before it, which some insist on.
    write!(
        stream,
        "HTTP/1.1 {status} \r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
