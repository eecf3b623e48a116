//! One connection from its first byte to its last. A machine of five states that is driven whenever its socket, a render
//! thread or a deadline has something to say; it never waits, keeps no clock, and answers requests strictly in order.
//!
//! ```text
//!  Reading ──▶ Discarding ──▶ Rendering ──▶ Writing ──▶ Lingering ──▶ closed
//!     ▲  │      (a body)     (a scrape)     ▲   │      (then closing)
//!     │  └──────────────────────────────────┘   │
//!     └────────────── kept alive ───────────────┘
//! ```

use std::io::{self, Read, Write};
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::limits::Limits;
use super::listener::Stream;
use super::render::{Interest, Scrape};
use super::request::{self, Body, Method, Parsed, Persistence, Refusal, Request};
use super::response::{Afterwards, Manner, Output, Response};
use super::routes::{self, Answer, Site};

pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    /// Bytes read and not yet understood; never more than a request head may have.
    input: Vec<u8>,
    /// Whether `input` may hold what it did not hold when it was parsed last.
    parse_due: bool,
    /// The client has sent its last byte.
    at_end: bool,
    state: State,
    /// When it last got further: was accepted, asked something complete, or took bytes of a reply. Bytes that trickle in do
    /// not count, else a hostile client would stay young by sending them.
    progressed: Instant,
    deadline: Instant,
}

enum State {
    Reading {
        /// The first byte of a request was seen, so that the whole head is due.
        begun: bool,
    },
    Discarding {
        request: Box<Request>,
        left: u64,
    },
    Rendering {
        manner: Manner,
        interest: Interest,
    },
    Writing {
        output: Output,
        afterwards: Afterwards,
        until: Instant,
    },
    Lingering {
        left: usize,
    },
}

/// What a connection looks at but does not own.
pub(crate) struct Surroundings<'server> {
    pub(crate) now: Instant,
    pub(crate) site: &'server Site,
    pub(crate) limits: &'server Limits,
    /// No further request is taken on any connection.
    pub(crate) stopping: bool,
}

/// What the event loop has to do for a connection.
pub(crate) enum Step {
    /// Nothing until the socket is ready, the deadline passes, or the scrape is rendered.
    Wait,
    /// Drive it again, but let others have their turn.
    Again,
    /// Have this rendered, then call [`Connection::rendered`].
    Render(Scrape, Weak<()>),
    Close,
}

/// What it means that a deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// The client does not send or read: close.
    Silent,
    /// The client sends too slowly and is told so: drive, it closes by itself.
    Slow,
    /// The reply is not rendered in time, and the client is told so: drive.
    Overdue,
    /// All was said long enough ago: close.
    Farewell,
}

/// Whom to close first when the server is full: the least rank. Those that only wait come before those whose reply is being
/// rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    rendering: bool,
    progressed: Instant,
}

/// System calls that one connection may make before the next has its turn.
const CALLS_A_TURN: usize = 16;

impl Connection {
    pub(crate) fn new(stream: Box<dyn Stream>, around: &Surroundings<'_>) -> Connection {
        Connection {
            stream,
            input: Vec::new(),
            parse_due: false,
            at_end: false,
            state: State::Reading { begun: true },
            progressed: around.now,
            deadline: around.now + around.limits.read_timeout,
        }
    }

    pub(crate) fn stream(&mut self) -> &mut dyn Stream {
        &mut *self.stream
    }

    /// When [`expire`](Connection::expire) is to be called.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(crate) fn rank(&self) -> Rank {
        Rank {
            rendering: matches!(self.state, State::Rendering { .. }),
            progressed: self.progressed,
        }
    }

    /// Memory that waits for the client to read.
    pub(crate) fn held_bytes(&self) -> usize {
        match &self.state {
            State::Writing { output, .. } => output.held_bytes(),
            _ => 0,
        }
    }

    /// Whether it waits for a request rather than being busy with one.
    pub(crate) fn is_between_requests(&self) -> bool {
        matches!(self.state, State::Reading { .. })
    }

    /// Gets on as far as the socket allows. `scratch` is any memory to read into.
    pub(crate) fn drive(&mut self, around: &Surroundings<'_>, scratch: &mut [u8]) -> Step {
        for _ in 0..CALLS_A_TURN {
            let step = match &self.state {
                State::Reading { .. } => self.read_request(around, scratch),
                State::Discarding { .. } => self.discard_body(around, scratch),
                State::Rendering { .. } => Some(Step::Wait),
                State::Writing { .. } => self.write_reply(around),
                State::Lingering { .. } => self.linger(around, scratch),
            };
            if let Some(step) = step {
                return step;
            }
        }
        Step::Again
    }

    /// Whether this is the scrape that the connection waits for, and not one it gave up on.
    pub(crate) fn awaits(&self, asked: &Weak<()>) -> bool {
        match &self.state {
            State::Rendering { interest, .. } => std::ptr::eq(Arc::as_ptr(interest), asked.as_ptr()),
            _ => false,
        }
    }

    /// Takes the reply to the scrape it waits for; to be driven afterwards.
    pub(crate) fn rendered(&mut self, response: Response, around: &Surroundings<'_>) {
        if let State::Rendering { manner, .. } = self.state {
            self.reply(response, manner, around);
        }
    }

    /// To be called when the deadline has passed.
    pub(crate) fn expire(&mut self, around: &Surroundings<'_>) -> Expiry {
        match self.state {
            State::Reading { .. } if self.input.is_empty() => Expiry::Silent,
            State::Reading { .. } | State::Discarding { .. } => {
                self.refuse(Refusal::TooSlow, around);
                Expiry::Slow
            }
            State::Rendering { manner, .. } => {
                self.reply(routes::overdue(), manner, around);
                Expiry::Overdue
            }
            State::Writing { .. } => Expiry::Silent,
            State::Lingering { .. } => Expiry::Farewell,
        }
    }

    fn read_request(&mut self, around: &Surroundings<'_>, scratch: &mut [u8]) -> Option<Step> {
        if self.parse_due {
            self.parse_due = false;
            let blank = request::leading_empty_lines(&self.input);
            self.input.drain(..blank);
            match request::parse(&self.input, around.limits) {
                Parsed::Partial => {}
                Parsed::Complete(request, length) => {
                    self.input.drain(..length);
                    if self.input.is_empty() {
                        // Idle connections hold no memory.
                        self.input = Vec::new();
                    }
                    self.progressed = around.now;
                    return self.take(request, around);
                }
                Parsed::Refused(refusal) => {
                    self.refuse(refusal, around);
                    return None;
                }
            }
        }
        if self.at_end {
            return Some(Step::Close);
        }
        // Never zero: a full input is not partial but refused.
        let room = around
            .limits
            .head_bytes
            .saturating_sub(self.input.len())
            .clamp(1, scratch.len());
        match self.stream.read(&mut scratch[..room]) {
            Ok(0) => self.at_end = true,
            Ok(read) => {
                let fresh = &scratch[..read];
                // Parsing at every byte of a trickle would be work for nothing: only a line's end, the limit, or the very
                // first bytes (which show that this is not HTTP at all) can change the verdict.
                self.parse_due = self.input.is_empty() || read == room || fresh.contains(&b'\n');
                self.input.extend_from_slice(fresh);
                if let State::Reading { begun: begun @ false } = &mut self.state {
                    *begun = true;
                    self.deadline = around.now + around.limits.read_timeout;
                }
            }
            Err(error) => return blocked(&error),
        }
        None
    }

    /// Decides what becomes of a complete request head.
    fn take(&mut self, request: Box<Request>, around: &Surroundings<'_>) -> Option<Step> {
        match request.body {
            Body::None => self.answer(&request, around),
            Body::Length(length) if length <= Limits::BODY_BYTES && !request.body_withheld => {
                self.state = State::Discarding { request, left: length };
                None
            }
            Body::Length(_) if request.method != Method::Other && !request.body_withheld => {
                self.refuse(Refusal::BodyTooLarge, around);
                None
            }
            // Answered, and closed so that nobody has to guess where the body ends or whether it was sent at all.
            Body::Length(_) | Body::Chunked => {
                let request = Request {
                    persistence: Persistence::Close,
                    ..*request
                };
                self.answer(&request, around)
            }
        }
    }

    fn answer(&mut self, request: &Request, around: &Surroundings<'_>) -> Option<Step> {
        let manner = Manner {
            without_body: request.method == Method::Head,
            afterwards: match request.persistence {
                Persistence::Close => Afterwards::Close,
                Persistence::KeepAlive => Afterwards::KeepAlive,
                Persistence::KeepAliveAsked => Afterwards::KeepAliveSaid,
            },
        };
        match around.site.answer(request) {
            Answer::Ready(response) => {
                self.reply(response, manner, around);
                None
            }
            Answer::Scrape => {
                let interest = Interest::default();
                let asked = Arc::downgrade(&interest);
                self.state = State::Rendering { manner, interest };
                self.deadline = around.now + around.limits.render_timeout;
                let scrape = Scrape {
                    accept: request.accept.clone(),
                    accept_encoding: request.accept_encoding.clone(),
                    query: request.query.clone(),
                };
                Some(Step::Render(scrape, asked))
            }
        }
    }

    fn discard_body(&mut self, around: &Surroundings<'_>, scratch: &mut [u8]) -> Option<Step> {
        let State::Discarding { left, .. } = &mut self.state else {
            return None;
        };
        let wanted = usize::try_from(*left).unwrap_or(usize::MAX);
        if self.input.is_empty() && wanted > 0 {
            let room = wanted.min(scratch.len());
            match self.stream.read(&mut scratch[..room]) {
                Ok(0) => return Some(Step::Close),
                // Lossless: a read is never longer than what is left.
                Ok(read) => *left -= read as u64,
                Err(error) => return blocked(&error),
            }
            return None;
        }
        let here = wanted.min(self.input.len());
        self.input.drain(..here);
        *left -= here as u64;
        if *left > 0 {
            return None;
        }
        let state = std::mem::replace(&mut self.state, State::Reading { begun: true });
        match state {
            State::Discarding { request, .. } => self.answer(&request, around),
            _ => None,
        }
    }

    /// Says why there is no request, and closes.
    fn refuse(&mut self, refusal: Refusal, around: &Surroundings<'_>) {
        let manner = Manner {
            without_body: false,
            afterwards: Afterwards::Close,
        };
        self.reply(refusal.response(), manner, around);
    }

    fn reply(&mut self, response: Response, mut manner: Manner, around: &Surroundings<'_>) {
        if around.stopping {
            manner.afterwards = Afterwards::Close;
        }
        self.progressed = around.now;
        self.state = State::Writing {
            output: response.spell(manner),
            afterwards: manner.afterwards,
            until: around.now + around.limits.write_timeout,
        };
        self.postpone_stall(around);
    }

    fn write_reply(&mut self, around: &Surroundings<'_>) -> Option<Step> {
        let State::Writing { output, afterwards, .. } = &mut self.state else {
            return None;
        };
        match self.stream.write(output.rest()) {
            Ok(0) => return Some(Step::Close),
            Ok(written) => output.advance(written),
            Err(error) => return blocked(&error),
        }
        if !output.rest().is_empty() {
            self.progressed = around.now;
            self.postpone_stall(around);
            return None;
        }
        self.progressed = around.now;
        if *afterwards == Afterwards::Close {
            if self.stream.finish_writing().is_err() {
                return Some(Step::Close);
            }
            self.input = Vec::new();
            self.deadline = around.now + Limits::LINGER;
            self.state = State::Lingering {
                left: Limits::LINGER_BYTES,
            };
            return None;
        }
        let begun = !self.input.is_empty();
        self.parse_due = begun;
        self.state = State::Reading { begun };
        self.deadline = around.now
            + if begun {
                around.limits.read_timeout
            } else {
                around.limits.idle_timeout
            };
        None
    }

    fn postpone_stall(&mut self, around: &Surroundings<'_>) {
        if let State::Writing { until, .. } = self.state {
            self.deadline = until.min(around.now + around.limits.write_stall_timeout);
        }
    }

    fn linger(&mut self, around: &Surroundings<'_>, scratch: &mut [u8]) -> Option<Step> {
        let State::Lingering { left } = &mut self.state else {
            return None;
        };
        match self.stream.read(scratch) {
            Ok(0) => Some(Step::Close),
            Ok(read) => {
                *left = left.saturating_sub(read);
                (*left == 0).then_some(Step::Close)
            }
            Err(error) => match blocked(&error) {
                // Nothing unread is left, so that closing at once destroys nothing.
                Some(Step::Wait) if around.stopping => Some(Step::Close),
                step => step,
            },
        }
    }
}

/// What to do about a read or write that transferred nothing.
fn blocked(error: &io::Error) -> Option<Step> {
    match error.kind() {
        io::ErrorKind::WouldBlock => Some(Step::Wait),
        io::ErrorKind::Interrupted => None,
        _ => Some(Step::Close),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    use mio::event::Source;

    use super::super::auth::Credentials;
    use super::*;

    /// A socket under the test's control: reads what was queued, writes into what room there is.
    #[derive(Clone, Default)]
    struct Script(Arc<Mutex<Wire>>);

    #[derive(Default)]
    struct Wire {
        incoming: VecDeque<Vec<u8>>,
        ended: bool,
        outgoing: Vec<u8>,
        room: usize,
        finished: bool,
    }

    impl Script {
        fn wire<Output>(&self, act: impl FnOnce(&mut Wire) -> Output) -> Output {
            act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
        }
    }

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.wire(|wire| {
                let Some(mut piece) = wire.incoming.pop_front() else {
                    return if wire.ended {
                        Ok(0)
                    } else {
                        Err(io::ErrorKind::WouldBlock.into())
                    };
                };
                let read = piece.len().min(buffer.len());
                buffer[..read].copy_from_slice(&piece[..read]);
                if read < piece.len() {
                    wire.incoming.push_front(piece.split_off(read));
                }
                Ok(read)
            })
        }
    }

    impl Write for Script {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            self.wire(|wire| {
                if wire.room == 0 {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                let written = buffer.len().min(wire.room);
                wire.room -= written;
                wire.outgoing.extend_from_slice(&buffer[..written]);
                Ok(written)
            })
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Stream for Script {
        fn finish_writing(&mut self) -> io::Result<()> {
            self.wire(|wire| wire.finished = true);
            Ok(())
        }

        fn source(&mut self) -> &mut dyn Source {
            unreachable!("only the event loop registers sockets")
        }
    }

    struct Bench {
        script: Script,
        connection: Connection,
        site: Site,
        limits: Limits,
        now: Instant,
        stopping: bool,
    }

    impl Bench {
        fn new() -> Bench {
            let script = Script::default();
            script.wire(|wire| wire.room = usize::MAX);
            let site = Site::new("/metrics", Credentials::default()).unwrap();
            let limits = Limits::default();
            let now = Instant::now();
            let around = Surroundings {
                now,
                site: &site,
                limits: &limits,
                stopping: false,
            };
            let connection = Connection::new(Box::new(script.clone()), &around);
            Bench {
                script,
                connection,
                site,
                limits,
                now,
                stopping: false,
            }
        }

        fn act<Output>(&mut self, act: impl FnOnce(&mut Connection, &Surroundings<'_>) -> Output) -> Output {
            let around = Surroundings {
                now: self.now,
                site: &self.site,
                limits: &self.limits,
                stopping: self.stopping,
            };
            act(&mut self.connection, &around)
        }

        fn drive(&mut self) -> Step {
            self.act(|connection, around| connection.drive(around, &mut [0; 4096]))
        }

        fn drive_to_rest(&mut self) -> Step {
            loop {
                match self.drive() {
                    Step::Again => {}
                    step => return step,
                }
            }
        }

        fn receive(&mut self, text: impl AsRef<[u8]>) -> Step {
            self.script.wire(|wire| wire.incoming.push_back(text.as_ref().to_vec()));
            self.drive_to_rest()
        }

        fn advance(&mut self, by: Duration) {
            self.now += by;
        }

        fn expire(&mut self) -> Expiry {
            assert!(self.now >= self.connection.deadline(), "the deadline is not due");
            self.act(|connection, around| connection.expire(around))
        }

        fn sent(&self) -> String {
            self.script
                .wire(|wire| String::from_utf8(std::mem::take(&mut wire.outgoing)).unwrap())
        }

        fn finished(&self) -> bool {
            self.script.wire(|wire| wire.finished)
        }

        fn time_left(&self) -> Duration {
            self.connection.deadline() - self.now
        }
    }

    const HEALTH: &str = "GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n";
    const SCRAPE: &str = "GET /metrics?x HTTP/1.1\r\nHost: a\r\nAccept: b\r\n\r\n";

    fn count(text: &str, status: &str) -> usize {
        text.matches(&format!("HTTP/1.1 {status}")).count()
    }

    #[test]
    fn a_request_in_single_bytes_is_answered_once() {
        let mut bench = Bench::new();
        for byte in HEALTH.bytes() {
            assert!(matches!(bench.receive([byte]), Step::Wait));
        }
        assert_eq!(count(&bench.sent(), "200"), 1);
        assert!(bench.connection.is_between_requests());
        assert!(bench.connection.input.capacity() == 0);
    }

    #[test]
    fn pipelined_requests_are_answered_in_order_however_many() {
        let mut bench = Bench::new();
        let requests = [HEALTH, "GET /else HTTP/1.1\r\nHost: a\r\n\r\n"].concat().repeat(50);
        assert!(matches!(bench.receive(format!("\r\n\r\n{requests}")), Step::Wait));
        let sent = bench.sent();
        let statuses: Vec<&str> = sent.split("HTTP/1.1 ").skip(1).map(|reply| &reply[..3]).collect();
        assert_eq!(statuses, ["200", "404"].repeat(50));
    }

    #[test]
    fn one_connection_does_not_keep_the_turn() {
        let mut bench = Bench::new();
        bench
            .script
            .wire(|wire| wire.incoming.push_back(HEALTH.repeat(300).into_bytes()));
        assert!(matches!(bench.drive(), Step::Again));
        assert!(matches!(bench.drive_to_rest(), Step::Wait));
        assert_eq!(count(&bench.sent(), "200"), 300);
    }

    #[test]
    fn requests_behind_a_scrape_wait_for_it() {
        let mut bench = Bench::new();
        let Step::Render(scrape, asked) = bench.receive(format!("{SCRAPE}{HEALTH}")) else {
            panic!("no scrape")
        };
        assert_eq!(scrape.query.as_deref(), Some("x"));
        assert_eq!(scrape.accept.as_deref(), Some("b"));
        assert!(bench.connection.awaits(&asked));
        assert!(!bench.connection.awaits(&Weak::new()));
        assert!(matches!(bench.drive(), Step::Wait));
        assert_eq!(bench.sent(), "");
        bench.act(|connection, around| connection.rendered(Response::text(200, "rendered"), around));
        assert!(matches!(bench.drive_to_rest(), Step::Wait));
        let sent = bench.sent();
        assert!(sent.find("rendered").unwrap() < sent.find("healthy").unwrap());
        assert!(!bench.connection.awaits(&asked));
    }

    #[test]
    fn head_of_a_scrape_is_rendered_and_its_body_kept_back() {
        let mut bench = Bench::new();
        assert!(matches!(bench.receive(SCRAPE.replace("GET", "HEAD")), Step::Render(..)));
        bench.act(|connection, around| connection.rendered(Response::text(200, "rendered"), around));
        assert!(matches!(bench.drive_to_rest(), Step::Wait));
        let sent = bench.sent();
        assert!(
            sent.contains("Content-Length: 9\r\n") && sent.ends_with("\r\n\r\n"),
            "{sent}"
        );
    }

    #[test]
    fn a_refusal_is_one_reply_and_the_end() {
        for bad in [
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "\u{16}\u{3}\u{1}",
        ] {
            let mut bench = Bench::new();
            assert!(matches!(bench.receive(format!("{bad}{HEALTH}{HEALTH}")), Step::Wait));
            assert!(matches!(bench.receive(HEALTH), Step::Wait));
            let sent = bench.sent();
            assert_eq!(count(&sent, ""), 1, "{sent}");
            assert_eq!(count(&sent, "400"), 1, "{sent}");
            assert!(sent.contains("Connection: close\r\n"), "{sent}");
            assert!(bench.finished());
            assert_eq!(bench.time_left(), Limits::LINGER);
            bench.script.wire(|wire| wire.ended = true);
            assert!(matches!(bench.drive(), Step::Close));
        }
    }

    #[test]
    fn a_client_that_never_stops_sending_is_not_listened_to_for_ever() {
        let mut bench = Bench::new();
        bench.receive("nonsense\r\n\r\n");
        bench.script.wire(|wire| {
            wire.incoming.push_back(vec![b'x'; 2 * Limits::LINGER_BYTES]);
        });
        assert!(matches!(bench.drive_to_rest(), Step::Close));
    }

    #[test]
    fn small_bodies_are_thrown_away_and_the_connection_kept() {
        let mut bench = Bench::new();
        let with_body = format!(
            "GET /-/healthy HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            HEALTH.len()
        );
        bench.receive(format!("{with_body}{}", &HEALTH[..5]));
        assert_eq!(bench.sent(), "");
        bench.receive(format!("{}{HEALTH}", &HEALTH[5..]));
        assert_eq!(count(&bench.sent(), "200"), 2);
    }

    #[test]
    fn other_bodies_end_the_connection() {
        for (request, status) in [
            (
                "GET /-/healthy HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                "200",
            ),
            (
                "GET /-/healthy HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n",
                "413",
            ),
            (
                "POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n",
                "405",
            ),
            (
                "GET /-/healthy HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n",
                "200",
            ),
        ] {
            let mut bench = Bench::new();
            bench.receive(format!("{request}{HEALTH}"));
            let sent = bench.sent();
            assert_eq!((count(&sent, ""), count(&sent, status)), (1, 1), "{sent}");
            assert!(sent.contains("Connection: close\r\n"), "{sent}");
        }
    }

    #[test]
    fn http_1_0_is_closed_unless_it_asks() {
        let mut bench = Bench::new();
        bench.receive("GET /-/healthy HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert!(bench.sent().contains("Connection: keep-alive\r\n"));
        bench.receive("GET /-/healthy HTTP/1.0\r\n\r\n");
        assert!(bench.sent().contains("Connection: close\r\n"));
        assert!(bench.finished());
    }

    #[test]
    fn a_client_that_stops_sending_still_gets_its_replies() {
        let mut bench = Bench::new();
        bench.script.wire(|wire| wire.ended = true);
        assert!(matches!(bench.receive(HEALTH.repeat(3)), Step::Close));
        assert_eq!(count(&bench.sent(), "200"), 3);
    }

    #[test]
    fn a_trickled_head_has_one_deadline_and_is_told() {
        let mut bench = Bench::new();
        for byte in HEALTH.bytes().take(9) {
            assert!(matches!(bench.receive([byte]), Step::Wait));
            bench.advance(Duration::from_secs(1));
        }
        assert_eq!(bench.time_left(), Limits::READ_TIMEOUT - Duration::from_secs(9));
        bench.advance(Duration::from_secs(1));
        assert_eq!(bench.expire(), Expiry::Slow);
        assert!(matches!(bench.drive(), Step::Wait));
        assert_eq!(count(&bench.sent(), "408"), 1);
        bench.advance(Limits::LINGER);
        assert_eq!(bench.expire(), Expiry::Farewell);
    }

    #[test]
    fn silence_is_not_answered() {
        let mut bench = Bench::new();
        bench.advance(Limits::READ_TIMEOUT);
        assert_eq!(bench.expire(), Expiry::Silent);

        let mut bench = Bench::new();
        bench.receive(HEALTH);
        assert_eq!(bench.time_left(), Limits::IDLE_TIMEOUT);
        bench.advance(Duration::from_secs(59));
        bench.receive("G");
        assert_eq!(bench.time_left(), Limits::READ_TIMEOUT);

        let mut bench = Bench::new();
        bench.receive(HEALTH);
        bench.advance(Limits::IDLE_TIMEOUT);
        assert_eq!(bench.expire(), Expiry::Silent);
    }

    #[test]
    fn a_reader_may_be_slow_but_neither_stall_nor_take_for_ever() {
        let mut bench = Bench::new();
        bench.receive(SCRAPE);
        bench.script.wire(|wire| wire.room = 0);
        let large = Response::new(200, "text/plain", vec![b'x'; 1 << 20]);
        bench.act(|connection, around| connection.rendered(large, around));
        assert!(matches!(bench.drive(), Step::Wait));
        assert!(bench.connection.held_bytes() >= 1 << 20);
        assert_eq!(bench.time_left(), Limits::WRITE_STALL_TIMEOUT);
        for _ in 0..3 {
            bench.advance(Duration::from_secs(9));
            bench.script.wire(|wire| wire.room = 1);
            assert!(matches!(bench.drive(), Step::Wait));
        }
        assert_eq!(bench.time_left(), Duration::from_secs(3));
        bench.advance(Duration::from_secs(3));
        assert_eq!(bench.expire(), Expiry::Silent);
    }

    #[test]
    fn a_scrape_that_is_never_rendered_is_given_up() {
        let mut bench = Bench::new();
        let Step::Render(_, asked) = bench.receive(SCRAPE) else {
            panic!("no scrape")
        };
        assert!(bench.connection.rank().rendering);
        bench.advance(Limits::RENDER_TIMEOUT);
        assert_eq!(bench.expire(), Expiry::Overdue);
        assert!(matches!(bench.drive(), Step::Wait));
        let sent = bench.sent();
        assert_eq!(count(&sent, "503"), 1);
        assert!(sent.contains("Retry-After: 1\r\n"));
        assert!(!bench.connection.awaits(&asked));
        assert_eq!(asked.strong_count(), 0);
    }

    #[test]
    fn trickling_does_not_make_a_connection_young() {
        let mut bench = Bench::new();
        let at_first = bench.connection.rank();
        bench.advance(Duration::from_secs(1));
        bench.receive("GET /");
        assert_eq!(bench.connection.rank(), at_first);
        bench.receive(&HEALTH["GET /".len()..]);
        assert!(bench.connection.rank() > at_first);
        let rendering = Rank {
            rendering: true,
            ..at_first
        };
        assert!(rendering > bench.connection.rank());
    }

    #[test]
    fn while_stopping_the_reply_says_that_it_is_the_last() {
        let mut bench = Bench::new();
        bench.receive(SCRAPE);
        bench.stopping = true;
        bench.act(|connection, around| connection.rendered(Response::text(200, "rendered"), around));
        assert!(matches!(bench.drive(), Step::Close));
        assert!(bench.sent().contains("Connection: close\r\n"));
        assert!(bench.finished());
    }
}
