//! The client against real sockets: servers that play one script a connection.

use super::*;
#[cfg(target_os = "linux")]
use crate::transport::connect::full_listener;
use crate::{
    secret::{Folder, Secret},
    sync::{AtomicU64, LongMutex, Mutex, Ordering},
    transport::connect::closed_port,
};
use std::{
    io::{self, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, Sender, channel},
    thread::{self, JoinHandle},
};

/// What a server does with one connection.
pub(crate) type Script = Box<dyn FnOnce(TcpStream) + Send>;

/// A server whose n-th connection plays the n-th script, one after the other.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    thread: JoinHandle<()>,
}

impl Server {
    pub(crate) fn start(scripts: Vec<Script>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = thread::spawn(move || {
            for script in scripts {
                let (stream, _) = listener.accept().unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                script(stream);
            }
        });
        Server { address, thread }
    }

    /// One that reads a request and writes these bytes, once.
    fn answers(bytes: impl Into<Vec<u8>>) -> Server {
        let bytes = bytes.into();
        Server::start(vec![Box::new(move |mut stream| {
            read_request(&mut stream);
            let _ = stream.write_all(&bytes);
        })])
    }

    fn url(&self) -> HttpUrl {
        url(&format!("http://{}/v1/metrics?token=hush", self.address))
    }

    /// Waits for the scripts, and for what they assert.
    pub(crate) fn end(self) {
        self.thread.join().unwrap();
    }
}

/// Long enough for every machine; only what hangs waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

pub(super) fn url(text: &str) -> HttpUrl {
    HttpUrl::parse(text).unwrap()
}

/// A request's head as text, and its body. `None` at the end of the connection.
fn next_request(stream: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap() == 0 {
            assert!(head.is_empty(), "the head of a request is cut off");
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut body = vec![0; header(&head, "content-length").map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    Some((head, body))
}

pub(crate) fn read_request(stream: &mut impl Read) -> (String, Vec<u8>) {
    next_request(stream).expect("the connection ended instead of bringing a request")
}

pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines
        .find(|(given, _)| given.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// A client that looks at no environment.
pub(super) fn client(settings: HttpSettings) -> HttpClient {
    HttpClient::with_environment(settings, |_| None).unwrap()
}

pub(super) fn post(client: &mut HttpClient, url: &HttpUrl) -> Result<Response, Failure> {
    post_with(client, url, b"body", PATIENCE)
}

fn post_with(client: &mut HttpClient, url: &HttpUrl, body: &[u8], timeout: Duration) -> Result<Response, Failure> {
    let request = Request {
        method: Method::Post,
        url,
        headers: &[("Content-Type", "application/x-protobuf")],
        body,
        timeout,
        overdue: None,
    };
    let answer = client.request(request);
    if let Err(failure) = &answer {
        let message = &failure.message;
        assert!(message.chars().count() <= MESSAGE_CHARACTERS + 1, "{message}");
        assert!(
            !message.chars().any(char::is_control) && !message.contains("hush"),
            "{message}"
        );
        assert!(message.starts_with(&url.to_string()), "{message}");
    }
    answer
}

#[track_caller]
fn assert_kind(answer: Result<Response, Failure>, kind: FailureKind, words: &str) {
    let failure = answer.expect_err("an answer instead of a failure");
    assert_eq!(failure.kind, kind, "{failure}");
    assert!(failure.message.contains(words), "{failure}");
}

/// Closes a connection so that the other side meets a reset: unread bytes are left in it.
fn reset(mut stream: TcpStream) {
    stream.read_exact(&mut [0]).unwrap();
}

/// Over for what hangs, and long enough on a busy machine for what has to be done before.
const SHORT: Duration = Duration::from_secs(1);

/// Posts for an exporter that ends after it was asked so often how much time there is.
pub(super) fn post_until_the_exporter_ends(
    client: &mut HttpClient,
    url: &HttpUrl,
    body: &[u8],
    asked: u64,
) -> Result<Response, Failure> {
    let count = AtomicU64::new(0);
    let overdue = Overdue::new(move || {
        let has_ended = count.fetch_add(1, Ordering::Relaxed) >= asked;
        Some(Duration::from_millis(u64::from(!has_ended)))
    });
    client.request(Request {
        method: Method::Post,
        url,
        headers: &[],
        body,
        // Whoever waits for that says so.
        timeout: PATIENCE,
        overdue: Some(&overdue),
    })
}

/// A server that plays a script of waiting until it is dropped, after what is to be done before.
pub(super) fn hanging(before: impl FnOnce(&mut TcpStream) + Send + 'static) -> (Server, Sender<()>) {
    let (released, release) = channel::<()>();
    let server = Server::start(vec![Box::new(move |mut stream| {
        before(&mut stream);
        let _ = release.recv();
    })]);
    (server, released)
}

const ENDS: &str = "the exporter ends";

#[test]
fn an_answer_is_not_waited_for_when_the_exporter_ends() {
    let (server, _released) = hanging(|stream| drop(read_request(stream)));
    let answer = post_until_the_exporter_ends(&mut client(HttpSettings::default()), &server.url(), b"body", 20);
    assert_kind(answer, FailureKind::Unclear, ENDS);
}

#[test]
fn room_is_not_waited_for_when_the_exporter_ends() {
    let (server, _released) = hanging(|_| ());
    // More than the buffers of both ends hold as systems are set up, and asked more often than it has pieces.
    let body = vec![b'x'; 8 << 20];
    let asked = (body.len() / OUTPUT_BUFFER) as u64 + 20;
    let answer = post_until_the_exporter_ends(&mut client(HttpSettings::default()), &server.url(), &body, asked);
    assert_kind(answer, FailureKind::Unclear, ENDS);
}

#[test]
fn addresses_are_not_waited_for_when_the_exporter_ends() {
    let (_released, release) = channel::<()>();
    let release = LongMutex::new(release);
    let mut client = client(HttpSettings::default());
    client.look_up_with(move |_| {
        let _ = release.lock().unwrap().recv();
        Ok(Vec::new())
    });
    let answer = post_until_the_exporter_ends(&mut client, &url("http://far.test/"), b"body", 20);
    assert_kind(answer, FailureKind::NotSent, ENDS);
}

/// On Linux a listener that has as many connections as it holds drops those that would be more, as a firewall does.
#[cfg(target_os = "linux")]
#[test]
fn a_connection_is_not_waited_for_when_the_exporter_ends() {
    let (_full, address) = full_listener();
    let url = url(&format!("http://{address}/"));
    let answer = post_until_the_exporter_ends(&mut client(HttpSettings::default()), &url, b"body", 20);
    assert_kind(answer, FailureKind::NotSent, ENDS);
    let answer = post_with(&mut client(HttpSettings::default()), &url, b"body", SHORT);
    assert_kind(answer, FailureKind::NotSent, "no connection within 1s");
}

#[test]
fn a_request_arrives_whole_and_its_answer_too() {
    let server = Server::start(vec![Box::new(|mut stream| {
        let (head, body) = read_request(&mut stream);
        assert!(head.starts_with("POST /v1/metrics?token=hush HTTP/1.1\r\n"), "{head}");
        assert_eq!(
            header(&head, "host"),
            stream.local_addr().ok().map(|address| address.to_string()).as_deref()
        );
        assert_eq!(header(&head, "user-agent"), Some("test/1"));
        assert_eq!(header(&head, "content-type"), Some("application/x-protobuf"));
        assert_eq!(header(&head, "x-scope"), Some("tenant"));
        assert_eq!(header(&head, "authorization"), Some("Bearer hush"));
        assert_eq!(
            (header(&head, "accept"), header(&head, "accept-encoding")),
            (None, None)
        );
        assert_eq!(body, b"body");
        let answer = "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nlate";
        stream.write_all(answer.as_bytes()).unwrap();

        let (head, body) = read_request(&mut stream);
        assert!(head.starts_with("DELETE /v1/metrics?token=hush HTTP/1.1\r\n"), "{head}");
        assert_eq!(body, b"");
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    })]);
    let mut headers = Headers::default();
    headers.insert("X-Scope", "tenant".into()).unwrap();
    headers.insert("content-type", "gives way".into()).unwrap();
    headers.insert_bearer("hush".into()).unwrap();
    let user_agent = "test/1".to_owned();
    let mut client = client(HttpSettings {
        user_agent,
        headers,
        ..HttpSettings::default()
    });
    let expected = Response {
        status: 503,
        retry_after: Some("7".to_owned()),
        content_type: Some("text/plain".to_owned()),
        location: None,
        body: b"late".to_vec(),
        complete: true,
    };
    assert_eq!(post(&mut client, &server.url()), Ok(expected));
    let url = server.url();
    let request = Request {
        method: Method::Delete,
        url: &url,
        headers: &[],
        body: b"left out",
        timeout: PATIENCE,
        overdue: None,
    };
    assert_eq!(client.request(request).unwrap().status, 204);
    assert_eq!(client.connections(), 1);
    assert!(!format!("{client:?}").contains("hush"));
    drop(client);
    server.end();
}

#[test]
fn what_cannot_be_reached_was_not_sent() {
    let (_held, closed) = closed_port();
    let mut client = client(HttpSettings::default());
    let answer = post(&mut client, &url(&format!("http://user:hush@{closed}/?hush")));
    assert_kind(answer, FailureKind::NotSent, "efused");

    client.reconnect();
    client.look_up = Arc::new(|_| Err(io::Error::other("no such\nhost")));
    assert_kind(
        post(&mut client, &url("http://name.test/")),
        FailureKind::NotSent,
        "no such host",
    );
    client.reconnect();
    client.look_up = Arc::new(|_| Ok(Vec::new()));
    assert_kind(
        post(&mut client, &url("http://name.test/")),
        FailureKind::NotSent,
        "no address",
    );
    assert_eq!(client.connections(), 0);
}

#[test]
fn what_ends_before_the_answer_is_unclear() {
    let mut client = client(HttpSettings::default());
    let cases: Vec<(Script, &str)> = vec![
        (Box::new(|mut stream| drop(read_request(&mut stream))), "closed"),
        (Box::new(reset), "no answer"),
        (
            Box::new(|mut stream| {
                read_request(&mut stream);
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Le").unwrap();
            }),
            "closed",
        ),
        (
            Box::new(|mut stream| {
                read_request(&mut stream);
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
            }),
            "closed",
        ),
    ];
    for (script, words) in cases {
        let server = Server::start(vec![script]);
        assert_kind(post(&mut client, &server.url()), FailureKind::Unclear, words);
        server.end();
    }
}

#[test]
fn the_deadline_ends_every_wait() {
    let mut client = client(HttpSettings::default());
    let large = vec![b'x'; 64 * 1024 * 1024];
    for body in [&b"body"[..], &large] {
        let (done, wait) = channel::<()>();
        // The large one does not fit in the sockets' buffers, and nobody reads.
        let server = Server::start(vec![Box::new(move |_stream| wait.recv().unwrap())]);
        let answer = post_with(&mut client, &server.url(), body, SHORT);
        assert_kind(answer, FailureKind::Unclear, "no answer within 1s");
        done.send(()).unwrap();
        server.end();
    }
    assert_kind(
        post_with(&mut client, &url("http://127.0.0.1:1/"), b"", Duration::ZERO),
        FailureKind::NotSent,
        "no connection within 0ns",
    );
}

#[test]
fn what_is_not_http_is_unreadable() {
    let mut client = client(HttpSettings::default());
    let long_head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(LARGEST_HEAD));
    for (bytes, words) in [
        (&b"SSH-2.0-OpenSSH_9.2\r\n"[..], "not HTTP"),
        (b"HTTP/1.1 okay\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nbad header \x1b[31mhush\r\n\r\n", "not HTTP"),
        (b"\x15\x03\x03\x00\x02\x02\x46", "not HTTP"),
        (long_head.as_bytes(), "64 KiB"),
    ] {
        let server = Server::answers(bytes);
        assert_kind(post(&mut client, &server.url()), FailureKind::Unreadable, words);
        server.end();
    }
}

#[test]
fn a_status_is_an_answer_even_if_the_body_breaks() {
    let mut client = client(HttpSettings::default());
    for answer in [
        &b"HTTP/1.1 400 Bad\r\nContent-Length: 100\r\n\r\nso far"[..],
        b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nso far\r\nff\r\n",
    ] {
        let server = Server::answers(answer);
        let response = post(&mut client, &server.url()).unwrap();
        assert_eq!(
            (response.status, &*response.body, response.complete),
            (400, &b"so far"[..], false)
        );
        server.end();
    }
    let server = Server::answers(&b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n"[..]);
    let response = post(&mut client, &server.url()).unwrap();
    assert_eq!(
        (response.status, &*response.body, response.complete),
        (400, &b""[..], false)
    );
    server.end();
    // Without a length, the end of the connection is the end of the body.
    let server = Server::answers(&b"HTTP/1.0 200 OK\r\n\r\nall"[..]);
    let response = post(&mut client, &server.url()).unwrap();
    assert_eq!(
        (response.status, &*response.body, response.complete),
        (200, &b"all"[..], true)
    );
    server.end();
}

#[test]
fn an_answer_that_never_ends_ends_at_the_deadline() {
    let (done, wait) = channel::<()>();
    let server = Server::start(vec![Box::new(move |mut stream| {
        read_request(&mut stream);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
            .unwrap();
        wait.recv().unwrap();
    })]);
    let mut client = client(HttpSettings::default());
    let response = post_with(&mut client, &server.url(), b"", SHORT).unwrap();
    assert_eq!(
        (response.status, &*response.body, response.complete),
        (200, &b"x"[..], false)
    );
    done.send(()).unwrap();
    server.end();
}

#[test]
fn answers_are_bounded_after_decompression() {
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let answer = |coding: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{coding}\r\n", body.len());
        [head.as_bytes(), body].concat()
    };
    let coded = "Content-Encoding: gzip\r\n";
    let mut client = client(HttpSettings::default());
    let limit = LARGEST_BODY as usize;
    for (bytes, length) in [
        (answer("", &vec![0; limit]), Some(limit)),
        (answer("", &vec![0; limit + 1]), None),
        (answer(coded, &gzip(b"plain")), Some(5)),
        (answer(coded, &gzip(&vec![0; limit])), Some(limit)),
        (answer(coded, &gzip(&vec![0; limit + 1])), None),
        (answer(coded, &gzip(&vec![0; 10 * limit])), None),
    ] {
        let server = Server::answers(bytes);
        match (post(&mut client, &server.url()), length) {
            (Ok(response), Some(length)) => assert_eq!((response.body.len(), response.complete), (length, true)),
            (answer, _) => assert_kind(answer, FailureKind::Unreadable, "200 has a body of more than 4 MiB"),
        }
        server.end();
    }
    let mut broken = gzip(b"plain");
    broken.truncate(broken.len() - 4);
    for body in [&broken[..], b"no gzip at all"] {
        let server = Server::answers(answer(coded, body));
        let response = post(&mut client, &server.url()).unwrap();
        assert_eq!((response.status, response.complete), (200, false));
        server.end();
    }
}

#[test]
fn redirects_are_answers() {
    let mut client = client(HttpSettings::default());
    for status in [301, 302, 303, 307, 308] {
        // There is no second connection, and no second request on this one.
        let server = Server::start(vec![Box::new(move |mut stream| {
            read_request(&mut stream);
            let location = "http://user:hush@elsewhere.test/login?hush";
            let head = format!("HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            assert_eq!(next_request(&mut stream), None);
        })]);
        let response = post(&mut client, &server.url()).unwrap();
        assert_eq!(response.status, status);
        assert_eq!(response.location.as_deref(), Some("http://elsewhere.test/login"));
        client.reconnect();
        server.end();
    }
}

#[test]
fn a_connection_that_was_closed_meanwhile_is_not_used() {
    let (closed, wait) = channel::<()>();
    let closing = closed.clone();
    let server = Server::start(vec![
        Box::new(move |mut stream| {
            for _ in 0..2 {
                read_request(&mut stream);
                stream.write_all(OK).unwrap();
            }
            drop(stream);
            closing.send(()).unwrap();
        }),
        Box::new(move |mut stream| {
            read_request(&mut stream);
            // Bytes that nobody asked for come with it, as from a proxy that times out.
            stream.write_all(OK).unwrap();
            stream.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").unwrap();
            closed.send(()).unwrap();
            // Its end, or a reset because of what was not read.
            assert!(!matches!(stream.read(&mut [0]), Ok(1)));
        }),
        Box::new(|mut stream| {
            read_request(&mut stream);
            stream.write_all(OK).unwrap();
        }),
    ]);
    let mut client = client(HttpSettings::default());
    for connections in [1, 1, 2, 3] {
        if connections > 1 {
            wait.recv().unwrap();
        }
        assert_eq!(post(&mut client, &server.url()).unwrap().status, 200);
        assert_eq!(client.connections(), connections);
    }
    server.end();
}

/// Answers each request of a connection.
fn answering(mut stream: TcpStream) {
    while next_request(&mut stream).is_some() {
        stream.write_all(OK).unwrap();
    }
}

#[test]
fn connections_age_and_can_be_dropped() {
    let server = Server::start((0..3).map(|_| Box::new(answering) as Script).collect());
    let mut client = client(HttpSettings::default());
    for connections in [1, 1] {
        post(&mut client, &server.url()).unwrap();
        assert_eq!(client.connections(), connections);
    }
    client.reconnect();
    client.longest_use = Duration::ZERO;
    for connections in [2, 3] {
        post(&mut client, &server.url()).unwrap();
        assert_eq!(client.connections(), connections);
    }
    drop(client);
    server.end();
}

#[test]
fn names_are_looked_up_for_each_connection_and_only_then() {
    let servers = [
        Server::start(vec![Box::new(answering)]),
        Server::start(vec![Box::new(answering)]),
    ];
    let addresses = [servers[0].address, servers[1].address];
    let looked = Arc::new(AtomicU64::new(0));
    let (_held, dead) = closed_port();
    let mut client = client(HttpSettings::default());
    client.look_up = {
        let looked = Arc::clone(&looked);
        Arc::new(move |name| {
            assert_eq!(name, "moves.test:4318");
            // The dead one comes first, and the next is tried.
            Ok(vec![dead, addresses[looked.fetch_add(1, Ordering::Relaxed) as usize]])
        })
    };
    let url = url("http://moves.test:4318/");
    for (reconnect, lookups) in [(false, 1), (false, 1), (true, 2), (false, 2)] {
        if reconnect {
            client.reconnect();
        }
        post(&mut client, &url).unwrap();
        assert_eq!(looked.load(Ordering::Relaxed), lookups);
        assert_eq!(client.connections(), lookups);
    }
    drop(client);
    servers.into_iter().for_each(Server::end);
}

#[test]
fn a_resolver_that_hangs_ends_at_the_deadline_and_is_not_started_again() {
    let server = Server::start(vec![Box::new(answering)]);
    let address = server.address;
    let (release, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let looked = Arc::new(AtomicU64::new(0));
    let mut client = client(HttpSettings::default());
    client.look_up = {
        let looked = Arc::clone(&looked);
        Arc::new(move |_| {
            looked.fetch_add(1, Ordering::Relaxed);
            gate.lock().recv().unwrap();
            Ok(vec![address])
        })
    };
    let url = url("http://hangs.test/");
    for _ in 0..3 {
        assert_kind(
            post_with(&mut client, &url, b"", SHORT),
            FailureKind::NotSent,
            "not found within 1s",
        );
        assert_eq!(looked.load(Ordering::Relaxed), 1);
    }
    release.send(()).unwrap();
    release.send(()).unwrap();
    assert_eq!(post(&mut client, &url).unwrap().status, 200);
    drop(client);
    server.end();
}

#[test]
fn an_answer_that_comes_before_the_body_is_sent_is_read() {
    let server = Server::start(vec![Box::new(|mut stream| {
        let mut head = [0; 100];
        stream.read_exact(&mut head).unwrap();
        stream
            .write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
    })]);
    let mut client = client(HttpSettings::default());
    let answer = post_with(&mut client, &server.url(), &vec![b'x'; 64 * 1024 * 1024], PATIENCE);
    assert_eq!(answer.unwrap().status, 413);
    server.end();
}

/// A server that tells the value of `Authorization` of each request, and answers with these.
fn telling(answers: &'static [&'static str]) -> (Server, Receiver<Option<String>>) {
    let (sender, told): (Sender<Option<String>>, _) = channel();
    let server = Server::start(vec![Box::new(move |mut stream| {
        for status in answers {
            let (head, _) = read_request(&mut stream);
            sender.send(header(&head, "authorization").map(str::to_owned)).unwrap();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
        }
    })]);
    (server, told)
}

#[test]
fn credentials_are_read_again_after_a_refusal() {
    let folder = Folder::new("http-credentials");
    let path = folder.write("token", "old");
    let (server, told) = telling(&["200 OK", "401 Unauthorized", "403 Forbidden", "200 OK"]);
    let mut headers = Headers::default();
    headers.insert_bearer(Secret::file(&path)).unwrap();
    let mut client = client(HttpSettings {
        headers,
        ..HttpSettings::default()
    });
    let sent = |client: &mut HttpClient| {
        post(client, &server.url()).unwrap();
        told.recv().unwrap().unwrap()
    };
    assert_eq!(sent(&mut client), "Bearer old");
    assert!(!client.reload());
    folder.write("token", "new");
    // Not looked at again so soon.
    assert_eq!(sent(&mut client), "Bearer old");
    std::fs::remove_file(&path).unwrap();
    // At the refusal it was.
    assert!(client.reload());
    assert!(!client.reload());
    assert_eq!(sent(&mut client), "Bearer new");
    let problems = client.problems();
    assert!(
        problems.len() == 1 && problems[0].contains("`Authorization`"),
        "{problems:?}"
    );
    assert_eq!(sent(&mut client), "Bearer new");
    assert!(!client.reload());
    assert_eq!(client.reloads(), 1);
    server.end();
}

#[test]
fn what_a_server_sends_back_of_secrets_is_covered() {
    let folder = Folder::new("http-echo");
    let path = folder.write("token", "first-token");
    for status in ["200 OK", "401 Unauthorized"] {
        folder.write("token", "first-token");
        let path_of_server = path.clone();
        let server = Server::start(vec![Box::new(move |mut stream| {
            let (head, _) = read_request(&mut stream);
            // Read again after a refusal: what is covered is what was sent.
            std::fs::write(path_of_server, "second-token").unwrap();
            let body = format!("{head}I have no key=of the url");
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                header(&head, "authorization").unwrap(),
                body.len()
            );
            stream.write_all(answer.as_bytes()).unwrap();
        })]);
        let mut headers = Headers::default();
        headers.insert_bearer(Secret::file(&path)).unwrap();
        headers.insert("X-Scope", "tenant-7".into()).unwrap();
        headers.insert("X-Long", "not first-token".into()).unwrap();
        let mut client = client(HttpSettings {
            headers,
            proxy: ProxySettings::Url(format!("http://me:open%20sesame@{}", server.address)),
            ..HttpSettings::default()
        });
        let answer = post(&mut client, &url("http://far.test/v1/metrics?key=of%20the%20url&x=y")).unwrap();
        let shown = String::from_utf8(answer.body).unwrap();
        for secret in [
            "first-token",
            "not first",
            "tenant-7",
            "bWU6b3Blb",
            "of%20the",
            "of the",
        ] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert_eq!(answer.content_type.as_deref(), Some("Bearer ***********"));
        // A length that is told somewhere in an answer is still right.
        assert!(
            shown.starts_with("POST http://far.test/v1/metrics?******************&x=y HTTP/1.1\r\n"),
            "{shown}"
        );
        assert!(shown.ends_with("\r\n\r\nI have no **************"), "{shown}");
        server.end();
    }
}

#[test]
fn without_a_credential_nothing_is_sent() {
    let mut headers = Headers::default();
    headers
        .insert("X-Key", Secret::from_fn(|| Err("sealed".into())))
        .unwrap();
    let mut client = client(HttpSettings {
        headers,
        ..HttpSettings::default()
    });
    let answer = post(&mut client, &url("http://127.0.0.1:1/"));
    assert_kind(answer, FailureKind::NotSent, "`X-Key`");
    assert_eq!(client.connections(), 0);
}

#[test]
fn user_information_authenticates_unless_a_header_does() {
    let (server, told) = telling(&["200 OK", "200 OK"]);
    let url = url(&format!("http://user:hush@{}/", server.address));
    let mut without = client(HttpSettings::default());
    post(&mut without, &url).unwrap();
    assert_eq!(told.recv().unwrap().as_deref(), Some("Basic dXNlcjpodXNo"));
    let request = Request {
        method: Method::Put,
        url: &url,
        headers: &[("authorization", "Own x")],
        body: b"",
        timeout: PATIENCE,
        overdue: None,
    };
    without.request(request).unwrap();
    assert_eq!(told.recv().unwrap().as_deref(), Some("Own x"));
    server.end();

    let (server, told) = telling(&["200 OK"]);
    let mut headers = Headers::default();
    headers.insert_bearer("token".into()).unwrap();
    let mut with = client(HttpSettings {
        headers,
        ..HttpSettings::default()
    });
    let url = HttpUrl::parse(&format!("http://user:hush@{}/", server.address)).unwrap();
    post(&mut with, &url).unwrap();
    assert_eq!(told.recv().unwrap().as_deref(), Some("Bearer token"));
    server.end();
}

#[test]
fn a_proxy_forwards_plain_requests() {
    let server = Server::start(vec![Box::new(|mut stream| {
        let (head, body) = read_request(&mut stream);
        assert!(
            head.starts_with("POST http://far.test/v1/metrics?token=hush HTTP/1.1\r\n"),
            "{head}"
        );
        assert_eq!(header(&head, "host"), Some("far.test"));
        assert_eq!(header(&head, "proxy-authorization"), Some("Basic dXNlcjpodXNo"));
        assert_eq!(body, b"body");
        stream.write_all(OK).unwrap();
    })]);
    let proxy = format!("http://user:hush@{}", server.address);
    let mut client = HttpClient::with_environment(HttpSettings::default(), |name| {
        (name == "http_proxy").then(|| proxy.clone())
    })
    .unwrap();
    // Only the proxy resolves the name.
    client.look_up = Arc::new(|name| panic!("{name} is looked up here"));
    assert_eq!(
        post(&mut client, &url("http://far.test/v1/metrics?token=hush"))
            .unwrap()
            .status,
        200
    );
    server.end();
}

#[test]
fn no_proxy_is_used_where_none_is_wanted() {
    let server = Server::start(vec![Box::new(|mut stream| {
        let (head, _) = read_request(&mut stream);
        assert!(head.starts_with("GET / HTTP/1.1\r\n"), "{head}");
        stream.write_all(OK).unwrap();
    })]);
    let proxy = ProxySettings::Direct;
    let settings = HttpSettings {
        proxy,
        ..HttpSettings::default()
    };
    let mut client = HttpClient::with_environment(settings, |_| Some("http://127.0.0.1:1".to_owned())).unwrap();
    let url = url(&format!("http://{}", server.address));
    let request = Request {
        method: Method::Get,
        url: &url,
        headers: &[],
        body: b"",
        timeout: PATIENCE,
        overdue: None,
    };
    assert_eq!(client.request(request).unwrap().status, 200);
    server.end();
}

/// Prints all that is logged.
struct Printer;

impl log::Log for Printer {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        println!("{} {}", record.target(), record.args());
    }

    fn flush(&self) {}
}

#[test]
fn the_log_shows_no_secret() {
    const CHILD: &str = "TIDEGAUGE_TEST_PRINTS_ITS_LOG";
    if std::env::var_os(CHILD).is_none() {
        // A process has one logger: a process of its own.
        let name = "transport::http::tests::the_log_shows_no_secret";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let output = child
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        // The log is on, at its finest.
        assert!(text.contains("ureq_proto") && text.contains("504f 5354"), "{text}");
        // `hush`, as text and in hexadecimal at even and at odd places, and in base64 at any.
        for secret in ["hush", "6875 7368", "68 7573 68", "aHVza", "h1c2", "odXNo"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        return;
    }
    log::set_logger(&Printer).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let server = Server::start(vec![Box::new(answering), Box::new(answering)]);
    let mut headers = Headers::default();
    headers.insert("X-Key", "hush".into()).unwrap();
    let mut direct = client(HttpSettings {
        headers,
        ..HttpSettings::default()
    });
    post(
        &mut direct,
        &url(&format!("http://user:hush@{}/hush?hush", server.address)),
    )
    .unwrap();
    drop(direct);
    let mut proxied = client(HttpSettings {
        proxy: ProxySettings::Url(format!("http://user:hush@{}", server.address)),
        ..HttpSettings::default()
    });
    post(&mut proxied, &url("http://user:hush@far.test/hush?hush")).unwrap();
    drop(proxied);
    server.end();
}

#[test]
fn a_socks_proxy_connects() {
    let server = Server::start(vec![Box::new(|mut stream| {
        let mut greeting = [0; 4];
        stream.read_exact(&mut greeting).unwrap();
        assert_eq!(greeting, [5, 2, 2, 0]);
        stream.write_all(&[5, 2]).unwrap();
        let mut login = [0; 11];
        stream.read_exact(&mut login).unwrap();
        assert_eq!(&login, b"\x01\x04user\x04hush");
        stream.write_all(&[1, 0]).unwrap();
        let mut wanted = [0; 15];
        stream.read_exact(&mut wanted).unwrap();
        assert_eq!(&wanted, b"\x05\x01\x00\x03\x08far.test\x10\xde");
        stream.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 80]).unwrap();
        let (head, _) = read_request(&mut stream);
        assert!(head.starts_with("POST / HTTP/1.1\r\n"), "{head}");
        stream.write_all(OK).unwrap();
    })]);
    let proxy = ProxySettings::Url(format!("socks5h://user:hush@{}", server.address));
    let mut client = client(HttpSettings {
        proxy,
        ..HttpSettings::default()
    });
    assert_eq!(post(&mut client, &url("http://far.test:4318/")).unwrap().status, 200);
    assert_eq!(client.connections(), 1);
    server.end();

    let server = Server::start(vec![Box::new(|mut stream| {
        stream.read_exact(&mut [0; 3]).unwrap();
        stream.write_all(&[5, 0xff]).unwrap();
    })]);
    let proxy = ProxySettings::Url(format!("socks5h://{}", server.address));
    let mut client = self::client(HttpSettings {
        proxy,
        ..HttpSettings::default()
    });
    let answer = post(&mut client, &url("http://far.test:4318/"));
    assert_kind(answer, FailureKind::NotSent, "no acceptable auth methods");
    assert_eq!(client.connections(), 0);
    server.end();
}

#[test]
fn settings_are_checked() {
    let refused = |settings| {
        HttpClient::with_environment(settings, |_| None)
            .unwrap_err()
            .to_string()
    };
    let user_agent = "bad\r\nagent".to_owned();
    assert!(
        refused(HttpSettings {
            user_agent,
            ..HttpSettings::default()
        })
        .contains("user agent")
    );
    let proxy = ProxySettings::Url("nonsense://u:hush@h".to_owned());
    let message = refused(HttpSettings {
        proxy,
        ..HttpSettings::default()
    });
    assert!(message.contains("proxy") && !message.contains("hush"), "{message}");
    let tls = TlsFiles {
        certificate: Some("client.pem".into()),
        ..TlsFiles::default()
    };
    let message = refused(HttpSettings {
        tls,
        ..HttpSettings::default()
    });
    let rule = if cfg!(feature = "tls") {
        "needs its key"
    } else {
        "feature `tls`"
    };
    assert!(message.contains(rule), "{message}");
}
