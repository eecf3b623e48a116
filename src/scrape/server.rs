//! A small HTTP server for the metrics, for processes that have none of their own.
//!
//! One thread named `tidegauge-serve` owns all connections and never runs the application's code; two threads named
//! `tidegauge-render-0` and `-1` render scrapes and compress them. A scrape that is slow, or hangs, therefore delays other
//! scrapes at most: health checks are answered meanwhile, and recording is never touched.
//!
//! | path | answer | authorization |
//! |---|---|---|
//! | `/metrics` (see [`path`](ServerBuilder::path)) | the metrics | if set |
//! | `/` | a page with a link to them | if set |
//! | `/-/healthy` | 200 as long as the process serves | never |
//!
//! Only GET and HEAD are answered, in HTTP/1.0 and HTTP/1.1, without TLS: what leaves the machine belongs behind a proxy
//! that encrypts, above all with a token or a password set.
//!
//! Clients are not trusted. Every size, number and time is bounded, each bound has a setter on [`ServerBuilder`], and what
//! the bounds cost anybody is counted in [`ServerStatistics`].

mod auth;
mod connection;
mod control;
mod error;
mod event_loop;
mod limits;
mod listener;
mod render;
mod request;
mod response;
mod routes;
mod statistics;
mod timeline;

use std::fmt;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::Poll;

use self::auth::Credentials;
use self::control::{Control, Ended};
use self::event_loop::{EventLoop, Parts, WAKER};
use self::limits::Limits;
use self::listener::Bound;
use self::render::{Render, RenderQueue};
use self::routes::Site;
use crate::sync::Mutex;
use crate::{EncodeOptions, Filter, Registry, ScrapeRequest, platform};

pub use self::error::ServeError;
pub use self::statistics::ServerStatistics;

/// Serves the metrics of `registry` on `address` until the returned [`Server`] is stopped or dropped.
///
/// The address is anything that prints as one: a `&str`, a `String`, a [`SocketAddr`].
///
/// - `127.0.0.1:9464`, `[::1]:9464`, `localhost:9464`: one address of this machine. `0.0.0.0:9464` is all of IPv4, and
///   `[::]:9464` all of both families where the system is set up so. Port 0 takes any free port; ask
///   [`Server::local_addr`] which.
/// - `unix:/run/app/metrics.sock`: a Unix socket, where the system has them. A socket left behind by a process that is gone
///   is replaced; one that is served, or a file of another kind, is an error. The file is removed when the server stops.
///   Who may connect is decided by the rights of its directory.
///
/// [`Server::builder`] has authorization, paths and limits.
///
/// # Errors
///
/// When the address cannot be understood, looked up or listened on, or a thread cannot be started. The error names the
/// address.
///
/// # Examples
///
/// ```
/// let registry = tidegauge::Registry::new();
/// let server = tidegauge::serve("127.0.0.1:0", &registry)?;
/// println!("{}", server.url().expect("a network address has a URL"));
/// # assert_ne!(server.local_addr().unwrap().port(), 0);
/// server.stop();
/// # Ok::<(), tidegauge::ServeError>(())
/// ```
pub fn serve(address: impl fmt::Display, registry: &Registry) -> Result<Server, ServeError> {
    Server::builder().serve(address, registry)
}

/// A running endpoint. Stops when dropped; keep it as long as the metrics are to be served.
///
/// In the child of a fork it has no threads: the parent serves on, and stopping or dropping the child's copy does nothing to
/// it. The child has inherited the listening socket's descriptor all the same, as every other, and keeps the address in use
/// until it ends or executes another program; so a process that forks workers which outlive it serves after forking, or in
/// the workers.
#[must_use = "the server stops when it is dropped"]
pub struct Server {
    bound: Bound,
    metrics_path: String,
    control: Arc<Control>,
    ended: Ended,
    threads: Vec<JoinHandle<()>>,
    statistics: Arc<Mutex<ServerStatistics>>,
    stop_timeout: Duration,
    /// The generation of the process whose threads they are.
    process: u64,
}

/// How a server came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stopped {
    /// All threads have ended and been joined. In the child of a fork there were none.
    Joined,
    /// A closure of the application was still being read when time was up. Its thread was left behind and ends when the
    /// closure returns; no socket is open any more.
    LeftBehind,
}

/// What stopping needs beyond the time granted to replies: the threads' last steps on a busy machine.
const JOIN_MARGIN: Duration = Duration::from_millis(500);

impl Server {
    /// Settings for a server: authorization, path and limits.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// The address in use, with the port that was given for port 0; `None` for a Unix socket.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self.bound {
            Bound::Network(address) => Some(address),
            Bound::Unix(_) => None,
        }
    }

    /// The socket's file; `None` for a network address.
    #[must_use]
    pub fn unix_path(&self) -> Option<&Path> {
        match &self.bound {
            Bound::Network(_) => None,
            Bound::Unix(path) => Some(path),
        }
    }

    /// Where a browser on this machine finds the metrics, as in `http://127.0.0.1:9464/metrics`; `None` for a Unix socket.
    #[must_use]
    pub fn url(&self) -> Option<String> {
        let mut address = self.local_addr()?;
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        Some(format!("http://{address}{}", self.metrics_path))
    }

    /// What has happened so far; in the child of a fork, until the fork.
    #[must_use]
    pub fn statistics(&self) -> ServerStatistics {
        *self.statistics.lock()
    }

    /// Stops accepting, lets requests that have arrived be answered, and joins all threads.
    ///
    /// Returns as soon as nothing is in flight, at the latest after [`ServerBuilder::stop_timeout`] (5 s unless set) and a
    /// moment. Dropping the server does the same within a second.
    pub fn stop(mut self) -> Stopped {
        self.end(self.stop_timeout)
    }

    fn end(&mut self, timeout: Duration) -> Stopped {
        if self.process != platform::generation() {
            // The threads are the parent's, and so is the waker, which both processes have. A handle cannot be dropped: the
            // system would look for its thread.
            mem::forget(mem::take(&mut self.threads));
            return Stopped::Joined;
        }
        self.control.stop(Instant::now() + timeout);
        let all_ended = self.ended.wait(timeout.saturating_add(JOIN_MARGIN));
        for thread in self.threads.drain(..) {
            if all_ended || thread.is_finished() {
                // A panic there has been printed by its hook and must not become one here.
                let _ = thread.join();
            }
        }
        if all_ended {
            Stopped::Joined
        } else {
            Stopped::LeftBehind
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.end(self.stop_timeout.min(Limits::DROP_TIMEOUT));
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Server")
            .field("bound", &self.bound)
            .field("metrics_path", &self.metrics_path)
            .field("statistics", &self.statistics())
            .finish_non_exhaustive()
    }
}

/// Settings for a [`Server`], made by [`Server::builder`].
///
/// Values are checked by [`serve`](ServerBuilder::serve), together. A limit of zero is refused: "no limit" has to be written
/// as the large number that it is.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// let registry = tidegauge::Registry::new();
/// let server = tidegauge::Server::builder()
///     .bearer_token("not-a-real-token")
///     .idle_timeout(Duration::from_secs(300))
///     .serve("[::1]:0", &registry);
/// # drop(server);
/// ```
#[derive(Clone)]
#[must_use = "nothing is served before `serve` is called"]
pub struct ServerBuilder {
    metrics_path: String,
    credentials: Credentials,
    refused_credentials: Option<&'static str>,
    limits: Limits,
    filter: Filter,
    options: EncodeOptions,
}

impl Default for ServerBuilder {
    fn default() -> ServerBuilder {
        ServerBuilder {
            metrics_path: ServerBuilder::DEFAULT_PATH.to_owned(),
            credentials: Credentials::default(),
            refused_credentials: None,
            limits: Limits::default(),
            filter: Filter::new(),
            options: EncodeOptions::new(),
        }
    }
}

impl ServerBuilder {
    /// `/metrics`.
    pub const DEFAULT_PATH: &'static str = "/metrics";
    /// 256 connections.
    pub const DEFAULT_CONNECTION_LIMIT: usize = Limits::CONNECTIONS;
    /// 16 KiB.
    pub const DEFAULT_HEADER_LIMIT: usize = Limits::HEAD_BYTES;
    /// 8 KiB.
    pub const DEFAULT_REQUEST_LINE_LIMIT: usize = Limits::REQUEST_LINE_BYTES;
    /// 32 scrapes.
    pub const DEFAULT_RENDER_QUEUE: usize = Limits::RENDER_QUEUE;
    /// 64 MiB.
    pub const DEFAULT_REPLY_BYTES_LIMIT: usize = Limits::REPLY_BYTES;
    /// 10 seconds.
    pub const DEFAULT_READ_TIMEOUT: Duration = Limits::READ_TIMEOUT;
    /// 60 seconds.
    pub const DEFAULT_IDLE_TIMEOUT: Duration = Limits::IDLE_TIMEOUT;
    /// 30 seconds.
    pub const DEFAULT_RENDER_TIMEOUT: Duration = Limits::RENDER_TIMEOUT;
    /// 30 seconds.
    pub const DEFAULT_WRITE_TIMEOUT: Duration = Limits::WRITE_TIMEOUT;
    /// 10 seconds.
    pub const DEFAULT_WRITE_STALL_TIMEOUT: Duration = Limits::WRITE_STALL_TIMEOUT;
    /// 5 seconds.
    pub const DEFAULT_STOP_TIMEOUT: Duration = Limits::STOP_TIMEOUT;

    /// Serves the metrics under this path instead of `/metrics`. With `/` there is no landing page.
    pub fn path(mut self, path: impl Into<String>) -> ServerBuilder {
        self.metrics_path = path.into();
        self
    }

    /// Shows only the families and series that the filter lets through; by default all.
    pub fn filter(mut self, filter: Filter) -> ServerBuilder {
        self.filter = filter;
        self
    }

    /// What replies show beyond the necessary; by default nothing.
    pub fn encode_options(mut self, options: EncodeOptions) -> ServerBuilder {
        self.options = options;
        self
    }

    /// Requires `Authorization: Bearer TOKEN` for everything but the health check, which stays open so that an orchestrator
    /// needs no secret.
    ///
    /// May be called several times, also beside [`basic_auth`](ServerBuilder::basic_auth): each token is accepted, so that
    /// one can be replaced without a gap. Compared in constant time, and never printed.
    pub fn bearer_token(mut self, token: impl AsRef<str>) -> ServerBuilder {
        let added = self.credentials.add_bearer(token.as_ref());
        self.refused_credentials = self.refused_credentials.or(added.err());
        self
    }

    /// Requires basic authorization for everything but the health check, as
    /// [`bearer_token`](ServerBuilder::bearer_token) does.
    pub fn basic_auth(mut self, user: impl AsRef<str>, password: impl AsRef<str>) -> ServerBuilder {
        let added = self.credentials.add_basic(user.as_ref(), password.as_ref());
        self.refused_credentials = self.refused_credentials.or(added.err());
        self
    }

    /// Connections open at once, 256 by default. A newcomer beyond that takes the place of the connection that has been idle
    /// longest; those whose reply is being rendered are spared as long as there is another.
    pub fn connection_limit(mut self, connections: usize) -> ServerBuilder {
        self.limits.connections = connections;
        self
    }

    /// Bytes of a request's head, 16 KiB by default; more is answered with 431. A request has at most 100 headers.
    pub fn header_limit(mut self, bytes: usize) -> ServerBuilder {
        self.limits.head_bytes = bytes;
        self
    }

    /// Bytes of a request's first line, 8 KiB by default and never more than the head's limit; more is answered with 414.
    pub fn request_line_limit(mut self, bytes: usize) -> ServerBuilder {
        self.limits.request_line_bytes = bytes;
        self
    }

    /// Scrapes that may wait for one of the two render threads, 32 by default; more are answered with 503 and `Retry-After`.
    pub fn render_queue(mut self, scrapes: usize) -> ServerBuilder {
        self.limits.render_queue = scrapes;
        self
    }

    /// Bytes of rendered replies that clients have not read yet, 64 MiB by default over all connections. Beyond that the
    /// client which has not read for longest is closed; a single larger reply is still sent.
    pub fn reply_bytes_limit(mut self, bytes: usize) -> ServerBuilder {
        self.limits.reply_bytes = bytes;
        self
    }

    /// How long a request may take to arrive, 10 s by default from its first byte (of the first request: from the
    /// connection); then it is answered with 408.
    pub fn read_timeout(mut self, timeout: Duration) -> ServerBuilder {
        self.limits.read_timeout = timeout;
        self
    }

    /// How long a connection stays open between requests, 60 s by default. A time above the scrape interval saves each scrape
    /// a new connection.
    pub fn idle_timeout(mut self, timeout: Duration) -> ServerBuilder {
        self.limits.idle_timeout = timeout;
        self
    }

    /// How long a scrape may wait and be rendered, 30 s by default; then it is answered with 503.
    pub fn render_timeout(mut self, timeout: Duration) -> ServerBuilder {
        self.limits.render_timeout = timeout;
        self
    }

    /// How long a client may take to read a whole reply, 30 s by default; then it is closed.
    pub fn write_timeout(mut self, timeout: Duration) -> ServerBuilder {
        self.limits.write_timeout = timeout;
        self
    }

    /// How long a client may go without reading anything of its reply, 10 s by default; then it is closed.
    pub fn write_stall_timeout(mut self, timeout: Duration) -> ServerBuilder {
        self.limits.write_stall_timeout = timeout;
        self
    }

    /// What [`Server::stop`] grants to replies in flight, 5 s by default. May be zero.
    pub fn stop_timeout(mut self, timeout: Duration) -> ServerBuilder {
        self.limits.stop_timeout = timeout;
        self
    }

    /// Starts serving the metrics of `registry` on `address`; see [`serve`] for what an address may be.
    ///
    /// # Errors
    ///
    /// When a setting is refused, the address cannot be understood, looked up or listened on, or a thread cannot be started.
    pub fn serve(self, address: impl fmt::Display, registry: &Registry) -> Result<Server, ServeError> {
        let (registry, filter, options) = (registry.clone(), self.filter.clone(), self.options);
        let render = move |request: &ScrapeRequest<'_>| registry.scrape_with(&request.filter(&filter).options(options));
        self.serve_rendered(&address.to_string(), Arc::new(render))
    }

    /// Everything public comes down to this: an address, and a function that renders.
    fn serve_rendered(self, address: &str, render: Render) -> Result<Server, ServeError> {
        let (site, limits) = self.check(address)?;
        let metrics_path = site.metrics_path().to_owned();
        let stop_timeout = limits.stop_timeout;
        let (listener, bound) = listener::listen(address)?;
        let (control, ended, threads, statistics) = (|| {
            let poll = Poll::new()?;
            let control = Arc::new(Control::new(poll.registry(), WAKER)?);
            let (running, ended) = control::running();
            let (finished_in, finished) = channel();
            let (queue, mut threads) =
                RenderQueue::start(limits.render_queue, &render, &finished_in, &control, &running)?;
            let statistics = Arc::default();
            let event_loop = EventLoop::new(Parts {
                poll,
                listener,
                site,
                limits,
                queue,
                finished,
                control: Arc::clone(&control),
                statistics: Arc::clone(&statistics),
            })?;
            let serving = thread::Builder::new()
                .name("tidegauge-serve".to_owned())
                .spawn(move || {
                    event_loop.run();
                    drop(running);
                })?;
            threads.push(serving);
            Ok((control, ended, threads, statistics))
        })()
        .map_err(|error| ServeError::system(address, "start the server's threads", error))?;
        Ok(Server {
            bound,
            metrics_path,
            control,
            ended,
            threads,
            statistics,
            stop_timeout,
            process: platform::generation(),
        })
    }

    fn check(mut self, address: &str) -> Result<(Site, Limits), ServeError> {
        if let Some(rule) = self.refused_credentials {
            return Err(ServeError::setting(address, rule));
        }
        let limits = &self.limits;
        let zero = [
            ("connection_limit", limits.connections == 0),
            ("header_limit", limits.head_bytes == 0),
            ("request_line_limit", limits.request_line_bytes == 0),
            ("render_queue", limits.render_queue == 0),
            ("reply_bytes_limit", limits.reply_bytes == 0),
            ("read_timeout", limits.read_timeout.is_zero()),
            ("idle_timeout", limits.idle_timeout.is_zero()),
            ("render_timeout", limits.render_timeout.is_zero()),
            ("write_timeout", limits.write_timeout.is_zero()),
            ("write_stall_timeout", limits.write_stall_timeout.is_zero()),
        ];
        if let Some((name, _)) = zero.iter().find(|(_, is_zero)| *is_zero) {
            return Err(ServeError::setting(
                address,
                format!("{name} is zero and would refuse everybody; leave it out for its default"),
            ));
        }
        self.limits.shorten_the_endless();
        let site =
            Site::new(&self.metrics_path, self.credentials).map_err(|rule| ServeError::setting(address, rule))?;
        Ok((site, self.limits))
    }
}

/// Never prints a secret.
impl fmt::Debug for ServerBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ServerBuilder")
            .field("metrics_path", &self.metrics_path)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::PoisonError;
    use std::sync::mpsc::{Receiver, Sender};

    use super::*;
    use crate::sync::LongMutex;

    /// A server whose scrapes do what the test says, when it says so.
    struct Bench {
        server: Server,
        begun: Receiver<()>,
        go: Sender<Order>,
    }

    enum Order {
        Reply,
        Panic,
    }

    impl Bench {
        fn start(builder: ServerBuilder) -> Bench {
            let (begin, begun) = channel();
            let (go, orders) = channel();
            let orders = LongMutex::new(orders);
            let registry = Registry::new();
            let server = builder.serve_rendered(
                "127.0.0.1:0",
                Arc::new(move |request| {
                    let _ = begin.send(());
                    // A test that is over orders nothing any more.
                    let order = orders.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    assert!(!matches!(order, Ok(Order::Panic)), "ordered by the test");
                    registry.scrape_with(request)
                }),
            );
            Bench {
                server: server.unwrap(),
                begun,
                go,
            }
        }

        fn send(&self, request: &str) -> TcpStream {
            let mut client = TcpStream::connect(self.server.local_addr().unwrap()).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.write_all(request.as_bytes()).unwrap();
            client
        }

        fn scrape(&self) -> TcpStream {
            self.send("GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        }

        fn health(&self) -> String {
            read(self.send("GET /-/healthy HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
        }
    }

    /// Only ever waited for when a test fails.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn read(mut client: TcpStream) -> String {
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        text
    }

    fn status(reply: &str) -> &str {
        &reply["HTTP/1.1 ".len()..][..3]
    }

    #[test]
    fn a_panic_costs_one_scrape() {
        let bench = Bench::start(Server::builder());
        for _ in 0..3 {
            let client = bench.scrape();
            bench.go.send(Order::Panic).unwrap();
            let reply = read(client);
            assert_eq!(status(&reply), "500");
            assert!(reply.contains("Content-Length: "));
        }
        let client = bench.scrape();
        bench.go.send(Order::Reply).unwrap();
        assert_eq!(status(&read(client)), "200");
        assert_eq!(bench.server.statistics().panicked, 3);
        assert_eq!(bench.server.stop(), Stopped::Joined);
    }

    #[test]
    fn health_is_answered_while_all_scrapes_hang_and_the_rest_is_refused() {
        let bench = Bench::start(Server::builder().render_queue(1));
        let mut clients = Vec::new();
        for _ in 0..2 {
            clients.push(bench.scrape());
            bench.begun.recv_timeout(PATIENCE).unwrap();
        }
        // Both threads are busy now: of two more, one is queued and the other finds the queue full.
        clients.push(bench.scrape());
        clients.push(bench.scrape());
        let start = Instant::now();
        while bench.server.statistics().refused == 0 {
            assert_eq!(status(&bench.health()), "200");
            assert!(start.elapsed() < PATIENCE, "nothing was refused");
        }
        for _ in &clients {
            bench.go.send(Order::Reply).unwrap();
        }
        let replies: Vec<String> = clients.into_iter().map(read).collect();
        let with = |wanted| {
            let same = replies.iter().filter(move |reply| status(reply) == wanted);
            same.collect::<Vec<_>>()
        };
        assert_eq!(with("200").len(), 3);
        assert_eq!(with("503").len(), 1);
        assert!(with("503")[0].contains("Retry-After: 1\r\n"));
        assert_eq!(bench.server.statistics().refused, 1);
    }

    #[test]
    fn stopping_waits_for_the_reply_in_flight() {
        let Bench { server, begun, go } = Bench::start(Server::builder().stop_timeout(PATIENCE));
        let mut client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        client.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        begun.recv_timeout(PATIENCE).unwrap();
        let address = server.local_addr().unwrap();
        let stopping = thread::spawn(move || server.stop());
        // Refused from the moment that stopping has begun.
        let start = Instant::now();
        while TcpStream::connect(address).is_ok() {
            assert!(start.elapsed() < PATIENCE, "still accepting");
            thread::yield_now();
        }
        go.send(Order::Reply).unwrap();
        let reply = read(client);
        assert_eq!(status(&reply), "200");
        assert!(reply.contains("Connection: close\r\n"));
        assert_eq!(stopping.join().unwrap(), Stopped::Joined);
    }

    #[test]
    fn a_scrape_that_hangs_is_left_behind() {
        let Bench { server, begun, go } = Bench::start(Server::builder().stop_timeout(Duration::ZERO));
        let mut client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        client.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        begun.recv_timeout(PATIENCE).unwrap();
        assert_eq!(server.stop(), Stopped::LeftBehind);
        assert_eq!(read(client), "");
        drop(go);
    }

    #[test]
    fn settings_are_checked_with_the_rule_and_the_address() {
        let refusal = |builder: ServerBuilder| {
            let error = builder.serve("127.0.0.1:0", &Registry::new()).unwrap_err();
            assert!(error.is_setting());
            assert!(error.to_string().contains("127.0.0.1:0"));
            error.to_string()
        };
        assert!(refusal(Server::builder().connection_limit(0)).contains("connection_limit is zero"));
        assert!(refusal(Server::builder().read_timeout(Duration::ZERO)).contains("read_timeout"));
        assert!(refusal(Server::builder().path("metrics")).contains("slash"));
        assert!(refusal(Server::builder().bearer_token("")).contains("bearer token"));
        assert!(refusal(Server::builder().basic_auth("a:b", "c")).contains("colon"));
    }

    #[test]
    fn the_longest_times_do_not_overflow() {
        let endless = Server::builder()
            .read_timeout(Duration::MAX)
            .idle_timeout(Duration::MAX)
            .render_timeout(Duration::MAX)
            .write_timeout(Duration::MAX)
            .write_stall_timeout(Duration::MAX)
            .stop_timeout(Duration::MAX);
        let bench = Bench::start(endless);
        let client = bench.scrape();
        bench.go.send(Order::Reply).unwrap();
        assert_eq!(status(&read(client)), "200");
        assert_eq!(bench.server.stop(), Stopped::Joined);
    }

    #[test]
    fn secrets_are_not_printed() {
        let builder = Server::builder()
            .bearer_token("hidden-token")
            .basic_auth("user", "hidden-word");
        let printed = format!("{builder:?}");
        let server = builder.serve("127.0.0.1:0", &Registry::new()).unwrap();
        let printed = format!("{printed} {server:?} {server:#?}");
        assert!(!printed.contains("hidden"), "{printed}");
        assert!(!printed.contains(&format!("{:?}", b"hidden")[1..10]), "{printed}");
    }

    #[test]
    fn the_url_can_be_opened() {
        let server = Server::builder()
            .path("/m")
            .serve("0.0.0.0:0", &Registry::new())
            .unwrap();
        let port = server.local_addr().unwrap().port();
        assert_eq!(server.url().unwrap(), format!("http://127.0.0.1:{port}/m"));
        assert_eq!(server.unix_path(), None);
    }
}
