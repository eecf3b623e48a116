//! A tap in the line between a scraper and the endpoint: it passes requests and replies on, tells what was
//! asked and answered, and can ask for something else than the scraper does.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// One request and its reply, sent once the reply has been passed on.
#[derive(Debug)]
pub struct Exchange {
    pub accept: String,
    pub content_type: String,
    pub content_encoding: String,
}

pub struct Tap {
    pub address: SocketAddr,
    pub exchanges: Receiver<Exchange>,
}

impl Tap {
    /// Listens on a port of its own before `endpoint`. With `accept`, requests arrive there with that header.
    pub fn before(endpoint: SocketAddr, accept: Option<&'static str>) -> Tap {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (sender, exchanges) = channel();
        // Blocks for the next connection until the test process ends.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let sender = sender.clone();
                thread::spawn(move || pass_on(client, endpoint, accept, &sender));
            }
        });
        Tap { address, exchanges }
    }
}

/// Serves one connection until either side ends it.
fn pass_on(
    client: TcpStream,
    endpoint: SocketAddr,
    accept: Option<&str>,
    exchanges: &Sender<Exchange>,
) -> io::Result<()> {
    let server = TcpStream::connect(endpoint)?;
    let (mut from_client, mut to_client) = (BufReader::new(client.try_clone()?), client);
    let (mut from_server, mut to_server) = (BufReader::new(server.try_clone()?), server);
    loop {
        let mut request = read_head(&mut from_client)?;
        if let Some(accept) = accept {
            request.retain(|line| value_of(line, "accept").is_none());
            request.insert(1, format!("Accept: {accept}\r\n"));
        }
        to_server.write_all(request.concat().as_bytes())?;

        let reply = read_head(&mut from_server)?;
        let length: usize = header(&reply, "content-length").parse().map_err(io::Error::other)?;
        let mut body = vec![0; length];
        from_server.read_exact(&mut body)?;
        to_client.write_all(reply.concat().as_bytes())?;
        to_client.write_all(&body)?;

        let told = exchanges.send(Exchange {
            accept: header(&request, "accept"),
            content_type: header(&reply, "content-type"),
            content_encoding: header(&reply, "content-encoding"),
        });
        // Nobody listens any more: the test has ended.
        if told.is_err() {
            return Ok(());
        }
    }
}

/// The lines up to and with the empty one. A scraper's requests have no body.
fn read_head(from: &mut impl BufRead) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let last = line == "\r\n";
        lines.push(line);
        if last {
            return Ok(lines);
        }
    }
}

fn header(head: &[String], name: &str) -> String {
    head.iter()
        .find_map(|line| value_of(line, name))
        .unwrap_or_default()
        .to_string()
}

fn value_of<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (found, value) = line.split_once(':')?;
    found.eq_ignore_ascii_case(name).then(|| value.trim())
}
