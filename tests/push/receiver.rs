//! A far end that misbehaves on demand: an OTLP/HTTP receiver on a loopback port. It decodes what comes with somebody
//! else's messages, keeps every point, and does with each request what its script says. It runs on threads that wait
//! for sockets and for the test, and nothing in it sleeps.

use crate::behaviour::{Behaviour, End, Pause};
use crate::http;
use crate::json;
use crate::points::{self, Point, Series, Value, points};
use crate::requests::Encoding;
use flate2::read::MultiGzDecoder;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message;
use socket2::SockRef;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long anything may take that a test waits for. Reaching it always fails the test.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The receiver. Until it is told otherwise it accepts everything. When it is dropped, its port is closed, its
/// connections are reset, and its threads have ended.
pub struct Receiver {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Mutex<Option<JoinHandle<()>>>,
}

/// What has come, and what was done about it.
#[derive(Default)]
pub struct State {
    /// In the order in which they were whole.
    pub requests: Vec<Request>,
    /// Every point that was stored, by series, in the order of their coming.
    pub series: HashMap<Series, Vec<Point>>,
    /// How many connections were accepted, ever.
    pub connections: usize,
    /// How many requests were reset unread.
    pub unread: usize,
    /// What came that was no whole request.
    pub broken: Vec<String>,
    /// How many requests wait now to be told to go on.
    pub held: usize,
    /// How many requests have met their behaviour and are not whole yet.
    reading: usize,
    script: Script,
    open: BTreeMap<usize, Arc<TcpStream>>,
    listening: bool,
    /// Rises when held requests are told to go on.
    releases: usize,
    /// Rises when all connections are condemned. Those of an earlier one end at the next opportunity.
    epoch: usize,
}

/// One request that was read.
#[derive(Clone, Debug)]
pub struct Request {
    /// The connection it came on: the first that was accepted is 0.
    pub connection: usize,
    pub message: http::Message,
    /// How many points it holds.
    pub points: usize,
    /// How many of them were stored.
    pub stored: usize,
    /// Why it was refused, whatever the script said: its method, its type, or a body that OTLP forbids.
    pub error: Option<String>,
    pub outcome: Outcome,
}

impl Request {
    /// Its points, in their order; none if it is broken.
    pub fn decoded(&self) -> Vec<Point> {
        decode(&self.message).unwrap_or_default()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The reply is not sent yet.
    Pending,
    /// The whole reply is sent, and had this status.
    Answered(u16),
    /// The whole reply is sent, and was no HTTP.
    Babbled,
    /// The connection was reset once so many bytes of the reply were sent.
    Reset { after: usize },
    /// The client left, or the receiver was closed, before the reply was whole.
    Abandoned,
}

impl Receiver {
    /// Listens on a free port.
    pub fn start() -> Receiver {
        Receiver::bind(own_address())
    }

    /// Listens there.
    pub fn bind(address: SocketAddr) -> Receiver {
        let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("cannot bind {address}: {error}"));
        let receiver = Receiver {
            shared: Arc::default(),
            address: listener.local_addr().expect("a bound listener has an address"),
            acceptor: Mutex::default(),
        };
        receiver.accept(listener);
        receiver
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where to post metrics.
    pub fn url(&self) -> String {
        format!("http://{}/v1/metrics", self.address)
    }

    /// What happens to the next requests, one each, in the order of their coming, before what `always` says.
    pub fn next(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.shared.lock().script.next.extend(behaviours);
    }

    /// What happens to every request that `next` says nothing about.
    pub fn always(&self, behaviour: Behaviour) {
        self.shared.lock().script.always = Always::Same(behaviour);
    }

    /// Decides about every request that `next` says nothing about, once it is read.
    pub fn always_ask(&self, ask: impl Fn(&Request) -> Behaviour + Send + Sync + 'static) {
        self.shared.lock().script.always = Always::Ask(Arc::new(ask));
    }

    /// Lets all go on that wait now. A test waits for them first, with [`State::held`].
    pub fn release(&self) {
        self.shared.lock().releases += 1;
        self.shared.changed.notify_all();
    }

    /// Closes the port and all connections, as if the process had been killed. Connections are refused from now on.
    pub fn refuse(&self) {
        self.condemn(false);
        let acceptor = self.acceptor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(acceptor) = acceptor {
            // Wakes it, and it sees that it shall not listen any more.
            let _ = TcpStream::connect(self.address);
            acceptor.join().expect("the acceptor does not panic");
        }
        self.wait_for(|state| state.open.is_empty());
    }

    /// Listens again on the same port.
    pub fn listen(&self) {
        let listener = TcpListener::bind(self.address).unwrap_or_else(|error| {
            panic!(
                "cannot bind {} again, which it never left willingly: {error}",
                self.address
            )
        });
        self.accept(listener);
    }

    /// Closes all connections, the idle ones too, and goes on listening.
    pub fn disconnect(&self) {
        let epoch = self.condemn(true);
        self.wait_for(|state| !state.open.keys().any(|connection| *connection < epoch));
    }

    /// Waits until this is so.
    ///
    /// # Panics
    ///
    /// If it takes longer than [`PATIENCE`].
    pub fn wait_for(&self, what: impl FnMut(&State) -> bool) {
        self.wait_at_most(PATIENCE, what);
    }

    /// Waits until this is so.
    ///
    /// # Panics
    ///
    /// If it takes longer than `patience`.
    pub fn wait_at_most(&self, patience: Duration, mut what: impl FnMut(&State) -> bool) {
        let deadline = Instant::now() + patience;
        let mut state = self.shared.lock();
        while !what(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let summary = state.summary();
                drop(state);
                panic!("the receiver waited {patience:?} in vain; {summary}");
            }
            state = self.shared.wait(state, left);
        }
    }

    /// Looks at what has come. Nothing comes meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.shared.lock())
    }

    /// What all that was stored comes to.
    pub fn totals(&self) -> HashMap<Series, Value> {
        self.read(State::totals)
    }

    fn accept(&self, listener: TcpListener) {
        self.shared.lock().listening = true;
        let shared = Arc::clone(&self.shared);
        let acceptor = thread::spawn(move || shared.accept(&listener));
        *self.acceptor.lock().unwrap_or_else(PoisonError::into_inner) = Some(acceptor);
    }

    /// Shuts all connections down. Returns the number that the next one gets.
    fn condemn(&self, listening: bool) -> usize {
        let mut state = self.shared.lock();
        state.listening = listening;
        state.epoch += 1;
        for stream in state.open.values() {
            // Wakes its thread, whether it reads or writes. The client may have left.
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.shared.changed.notify_all();
        state.connections
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if thread::panicking() {
            // Another panic would hide the first one. The threads end by themselves.
            self.condemn(false);
            let _ = TcpStream::connect(self.address);
        } else {
            self.refuse();
        }
    }
}

impl State {
    /// What all that was stored comes to: see [`points::totals`].
    pub fn totals(&self) -> HashMap<Series, Value> {
        points::totals(self.series.values().flatten())
    }

    /// Whether all that [`Receiver::next`] was given has happened, and nothing else is going on.
    pub fn is_through(&self) -> bool {
        let is_pending = |request: &Request| request.outcome == Outcome::Pending;
        self.script.next.is_empty() && self.reading == 0 && !self.requests.iter().any(is_pending)
    }

    /// One line a request, for the message of a failure.
    pub fn summary(&self) -> String {
        let mut summary = format!(
            "{} connections, {} held, {} unread, broken: {:?}",
            self.connections, self.held, self.unread, self.broken
        );
        for (number, request) in self.requests.iter().enumerate() {
            summary += &format!(
                "\nrequest {number} on connection {}: {} {}, {} points, {} stored, {:?}, {:?}",
                request.connection,
                request.message.method,
                request.message.path,
                request.points,
                request.stored,
                request.error,
                request.outcome
            );
        }
        summary
    }
}

/// Any port of a loopback address of the caller's own: while nobody listens there, nobody else can be given the port. Where only one
/// address is set up, as everywhere but on Linux, it is that one.
pub fn own_address() -> SocketAddr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let part = |number: u32| 1 + (number % 250) as u8;
    let address = match cfg!(target_os = "linux") {
        true => [127, part(process / 250), part(process), part(count)],
        false => [127, 0, 0, 1],
    };
    SocketAddr::from((address, 0))
}

#[derive(Default)]
struct Script {
    next: VecDeque<Behaviour>,
    always: Always,
}

#[derive(Clone)]
enum Always {
    Same(Behaviour),
    Ask(Arc<dyn Fn(&Request) -> Behaviour + Send + Sync>),
}

impl Default for Always {
    fn default() -> Always {
        Always::Same(Behaviour::accept())
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    /// A test that fails while it looks at the state does not stop the threads.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, at_most: Duration) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, at_most);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            let mut state = self.lock();
            if !state.listening {
                return;
            }
            // The client left before it was accepted.
            let Ok(stream) = stream else { continue };
            let stream = Arc::new(stream);
            let number = state.connections;
            state.connections += 1;
            state.open.insert(number, Arc::clone(&stream));
            let connection = Connection {
                shared: Arc::clone(self),
                number,
                epoch: state.epoch,
                stream: Some(stream),
            };
            thread::spawn(move || connection.serve());
            self.changed.notify_all();
        }
    }
}

/// One connection, on its thread.
struct Connection {
    shared: Arc<Shared>,
    number: usize,
    epoch: usize,
    /// There until this is dropped.
    stream: Option<Arc<TcpStream>>,
}

impl Connection {
    /// Serves requests until either side has enough.
    fn serve(&self) {
        let Some(stream) = self.stream.as_deref() else { return };
        // A reply goes out byte by byte if it shall.
        let _ = stream.set_nodelay(true);
        let mut reader = BufReader::new(stream);
        loop {
            if !reader.fill_buf().is_ok_and(|bytes| !bytes.is_empty()) {
                return;
            }
            let planned = {
                let mut state = self.shared.lock();
                state.reading += 1;
                let script = &mut state.script;
                script
                    .next
                    .pop_front()
                    .map_or_else(|| script.always.clone(), Always::Same)
            };
            if matches!(&planned, Always::Same(behaviour) if !behaviour.read) {
                reset_when_closed(stream);
                let mut state = self.shared.lock();
                state.unread += 1;
                state.reading -= 1;
                drop(state);
                self.shared.changed.notify_all();
                return;
            }
            let message = match http::read(&mut reader, stream) {
                Ok(message) => message,
                Err(error) => {
                    let mut state = self.shared.lock();
                    state.broken.push(error.to_string());
                    state.reading -= 1;
                    drop(state);
                    self.shared.changed.notify_all();
                    return;
                }
            };
            let last = message.header("connection").is_some_and(|value| value == "close");
            if !self.respond(stream, message, planned) || last {
                return;
            }
        }
    }

    /// Stores and answers one request. True if the connection can take another one.
    fn respond(&self, stream: &TcpStream, message: http::Message, planned: Always) -> bool {
        let encoding = if message.header("content-type") == Some(Encoding::Json.content_type()) {
            Encoding::Json
        } else {
            Encoding::Protobuf
        };
        let decoded = decode(&message);
        let mut request = Request {
            connection: self.number,
            message,
            points: decoded.as_ref().map_or(0, Vec::len),
            stored: 0,
            error: decoded.as_ref().err().map(|(_, error)| error.clone()),
            outcome: Outcome::Pending,
        };
        let mut behaviour = match planned {
            Always::Same(behaviour) => behaviour,
            Always::Ask(ask) => ask(&request),
        };
        let mut points = match decoded {
            Ok(points) => points,
            Err((status, error)) if behaviour.store => {
                behaviour = Behaviour::answer(status).status_body(INVALID_ARGUMENT, &error);
                Vec::new()
            }
            Err(_) => Vec::new(),
        };
        let rejected = behaviour.rejected.min(points.len());
        points.drain(..rejected);
        if !behaviour.store {
            points.clear();
        }
        request.stored = points.len();

        let number = {
            let mut state = self.shared.lock();
            for point in points {
                state.series.entry(point.series.clone()).or_default().push(point);
            }
            state.reading -= 1;
            state.requests.push(request);
            state.requests.len() - 1
        };
        self.shared.changed.notify_all();

        let outcome = self.reply(stream, &behaviour, &behaviour.reply(encoding, rejected));
        let keep = matches!(behaviour.end, End::Keep) && matches!(outcome, Outcome::Answered(_));
        self.shared.lock().requests[number].outcome = outcome;
        self.shared.changed.notify_all();
        keep
    }

    fn reply(&self, mut stream: &TcpStream, behaviour: &Behaviour, reply: &[u8]) -> Outcome {
        let may_go_on = match behaviour.pause {
            Pause::None => true,
            Pause::UntilReleased => self.hold(None) != Held::Condemned,
            Pause::For(pause) => self.hold(Some(pause)) != Held::Condemned,
        };
        if !may_go_on {
            return Outcome::Abandoned;
        }
        let whole = reply.len();
        let reply = match behaviour.end {
            End::ResetAfter(bytes) => &reply[..bytes.min(whole)],
            _ => reply,
        };
        if !self.write(stream, behaviour.pace, reply) || stream.flush().is_err() {
            return Outcome::Abandoned;
        }
        match (behaviour.end, behaviour.status()) {
            (End::Hang, _) if self.hold(None) == Held::Condemned => Outcome::Abandoned,
            (End::Hang | End::ResetAfter(_), _) => {
                reset_when_closed(stream);
                Outcome::Reset { after: reply.len() }
            }
            (_, Some(status)) => Outcome::Answered(status),
            (_, None) => Outcome::Babbled,
        }
    }

    /// False if the client or the receiver has closed the connection.
    fn write(&self, mut stream: &TcpStream, mut pace: Option<Duration>, bytes: &[u8]) -> bool {
        let mut left = bytes;
        while let Some(pause) = pace {
            let Some((byte, rest)) = left.split_first() else { break };
            if stream.write_all(&[*byte]).is_err() {
                return false;
            }
            left = rest;
            match self.hold(Some(pause)) {
                Held::Long => {}
                Held::Released => pace = None,
                Held::Condemned => return false,
            }
        }
        stream.write_all(left).is_ok()
    }

    /// Waits to be told to go on, at most so long.
    fn hold(&self, at_most: Option<Duration>) -> Held {
        let deadline = at_most.map(|at_most| Instant::now() + at_most);
        let mut state = self.shared.lock();
        let releases = state.releases;
        state.held += 1;
        self.shared.changed.notify_all();
        let held = loop {
            let left = deadline.map_or(PATIENCE, |deadline| deadline.saturating_duration_since(Instant::now()));
            if state.epoch != self.epoch {
                break Held::Condemned;
            } else if state.releases != releases {
                break Held::Released;
            } else if left.is_zero() {
                break Held::Long;
            }
            state = self.shared.wait(state, left);
        };
        state.held -= 1;
        self.shared.changed.notify_all();
        held
    }
}

impl Drop for Connection {
    /// Also when the test's own closure panics.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.open.remove(&self.number);
        // The last handle, so that the port and the client see the end before anyone is told of it.
        self.stream = None;
        self.shared.changed.notify_all();
    }
}

/// Why a request does not wait any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// As long as it should.
    Long,
    Released,
    Condemned,
}

/// The code that `google.rpc` has for it.
const INVALID_ARGUMENT: i32 = 3;

/// More than any request of a test holds; a body that does not end is not uncompressed for ever.
const UNCOMPRESSED_BYTES: u64 = 512 << 20;

/// Without this a close is orderly: the client reads an end rather than an error.
fn reset_when_closed(stream: &TcpStream) {
    // The client may have left, and then there is nothing to reset.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// The points of a request, or the status and the words that a Collector has for it.
fn decode(message: &http::Message) -> Result<Vec<Point>, (u16, String)> {
    if message.method != "POST" {
        return Err((405, format!("method {}", message.method)));
    }
    let bad = |error: String| (400, error);
    let mut uncompressed = Vec::new();
    let body = match message.header("content-encoding") {
        None => &message.body,
        Some("gzip") => {
            let mut decoder = MultiGzDecoder::new(message.body.as_slice()).take(UNCOMPRESSED_BYTES + 1);
            let read = decoder.read_to_end(&mut uncompressed);
            let length = read.map_err(|error| bad(format!("gzip: {error}")))?;
            if length as u64 > UNCOMPRESSED_BYTES {
                return Err(bad(format!("gzip: more than {UNCOMPRESSED_BYTES} bytes")));
            }
            &uncompressed
        }
        Some(other) => return Err(bad(format!("content encoding {other}"))),
    };
    let request = match message.header("content-type") {
        Some("application/x-protobuf") => {
            ExportMetricsServiceRequest::decode(body.as_slice()).map_err(|error| bad(error.to_string()))
        }
        Some("application/json") => json::request(body).map_err(bad),
        other => Err((415, format!("content type {other:?}"))),
    }?;
    points(&request).map_err(bad)
}
