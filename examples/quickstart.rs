//! An HTTP service that measures itself, is scraped, and pushes.
//!
//! It counts prime numbers: `GET /primes/1000` answers 168. A visitor of its own sends requests, so that there is something
//! to see at once. The metrics have an endpoint of their own, as a process without a web server needs it; `examples/axum`,
//! `examples/actix` and `examples/hyper` show them mounted in a web server.
//!
//! Beside that they are pushed, to where the `OTEL_*` variables say and as they say; without an endpoint there, to a small receiver
//! in this process, which prints what it finds.
//!
//! Not to be copied: the web server, which is just large enough to have something to measure, and the receiver.
//!
//! ```text
//! cargo run --release --example quickstart
//! OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 cargo run --release --example quickstart
//! ```

use std::{
    env,
    error::Error,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};
use tidegauge::{
    Buckets, Counter, Destination, Exporter, ExporterHandle, Family, Gauge, Histogram, Otlp, Registry, UpDownCounter,
};

#[path = "support/http.rs"]
mod http;
#[path = "support/logger.rs"]
mod logger;
#[path = "support/receiver.rs"]
mod receiver;

/// What the service measures. Whatever can be wrong with a metric is an error here, at the start, and none later.
struct Metrics {
    requests: Family<Counter, 2>,
    duration: Family<Histogram, 1>,
    in_flight: UpDownCounter,
    last: Gauge,
}

impl Metrics {
    fn register(registry: &Registry) -> Result<Self, Box<dyn Error>> {
        let started = Instant::now();
        // What can be read at any time need not be recorded: the closure runs when somebody scrapes.
        registry
            .observable_gauge("uptime_seconds", "Time since the service was started.")
            .register(move || started.elapsed().as_secs_f64())?;
        Ok(Metrics {
            requests: registry
                .counter("http_requests_total", "Requests answered, by route and status.")
                .labels(["route", "status"])
                .register()?,
            duration: registry
                .histogram("http_request_duration_seconds", "Time to answer a request, by route.")
                .labels(["route"])
                .buckets(Buckets::explicit([0.000_01, 0.000_1, 0.001, 0.01, 0.1, 1.0])?)
                .register()?,
            in_flight: registry
                .up_down_counter("http_requests_in_flight", "Requests being answered.")
                .register()?,
            last: registry
                .gauge(
                    "http_last_request_timestamp_seconds",
                    "When a request was answered last.",
                )
                .register()?,
        })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    logger::start();
    let registry = Registry::new();
    let metrics = Metrics::register(&registry)?;
    // Advice on names, units, help and labels. There is none on these.
    registry.lint().iter().for_each(|lint| eprintln!("{lint}"));

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = tidegauge::serve("127.0.0.1:0", &registry)?;
    let (interrupt, interrupted) = mpsc::channel();
    ctrlc::set_handler(move || interrupt.send(()).unwrap_or_default())?;
    println!("The service, and below it its metrics; ctrl-c ends both.");
    println!("http://{address}/primes/1000");
    println!("{}", server.url().ok_or("a network address has a URL")?);
    let exporter = push(&registry)?;

    let stopping = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| work(&listener, &metrics, &stopping));
        }
        let visitor = scope.spawn(|| visit(address, &stopping));
        let waited = interrupted.recv();
        stopping.store(true, Ordering::Relaxed);
        visitor.thread().unpark();
        // Each of these wakes one of the two that accept.
        let _ = (TcpStream::connect(address), TcpStream::connect(address));
        waited
    })?;
    // Now that nothing is recorded any more: so the last push has the last request, and it could still be scraped.
    match exporter.shutdown(Duration::from_secs(5)) {
        Ok(report) => println!(
            "The last push: {} points delivered, nothing left behind.",
            report.delivered
        ),
        Err(error) => println!("The last push: {error}"),
    }
    server.stop();
    Ok(())
}

fn push(registry: &Registry) -> Result<ExporterHandle, Box<dyn Error>> {
    // Empty is as good as not set.
    let is_set = |variable| env::var_os(variable).is_some_and(|value| !value.is_empty());
    let mut destination = Otlp::builder().environment();
    if !is_set("OTEL_EXPORTER_OTLP_ENDPOINT") && !is_set("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT") {
        let mut requests = 0;
        let url = receiver::start(move |push| {
            requests = push.total("http_requests_total", requests);
            println!(
                "A push came with {} points; http_requests_total is at {requests}.",
                push.points()
            );
            200
        })?;
        destination = destination.endpoint(url).no_proxy();
    }
    let destination = destination.build()?;
    let address = destination.address();
    let mut exporter = Exporter::new(destination);
    if !is_set("OTEL_METRIC_EXPORT_INTERVAL") {
        // A minute, the default, is long for somebody who watches.
        exporter = exporter.interval(Duration::from_secs(5));
    }
    let exporter = exporter.start(registry)?;
    match exporter.name() {
        "" => println!("Nothing is pushed, as the environment says."),
        _ => println!("What is scraped there is also pushed to {address}."),
    }
    Ok(exporter)
}

fn work(listener: &TcpListener, metrics: &Metrics, stopping: &AtomicBool) {
    for stream in listener.incoming() {
        if stopping.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = stream.and_then(|stream| answer(&stream, metrics)) {
            eprintln!("a request was not answered: {error}");
        }
    }
}

fn answer(stream: &TcpStream, metrics: &Metrics) -> io::Result<()> {
    // Counts until it is dropped, however this function is left.
    let _in_flight = metrics.in_flight.track();
    let path = http::Request::read(stream)?.path;
    // The route and not the path: what clients send must not decide how many series there are.
    let limit = path.strip_prefix("/primes/");
    let route = limit.map_or("other", |_| "/primes/:limit");
    let (status, body) = metrics.duration.with([route]).time(|| primes(limit));
    metrics.requests.with((route, status)).inc();
    metrics.last.set_to_current_time();
    http::answer(stream, status, &body)
}

fn primes(limit: Option<&str>) -> (u16, String) {
    let Some(limit) = limit else {
        return (404, "Ask for /primes/1000.\n".to_owned());
    };
    let Some(limit) = limit.parse::<u32>().ok().filter(|limit| *limit <= 1_000_000) else {
        return (400, "The limit is a number up to 1000000.\n".to_owned());
    };
    let is_prime = |number: &u32| !(2..=number.isqrt()).any(|factor| number.is_multiple_of(factor));
    (200, format!("{}\n", (2..=limit).filter(is_prime).count()))
}

/// Sends about twenty requests a second, until it is told to stop.
fn visit(address: SocketAddr, stopping: &AtomicBool) -> io::Result<()> {
    let paths = ["/primes/10", "/primes/1000", "/primes/100000", "/primes/many", "/"];
    for path in paths.iter().cycle() {
        let mut stream = TcpStream::connect(address)?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        stream.read_to_end(&mut Vec::new())?;
        thread::park_timeout(Duration::from_millis(50));
        if stopping.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(())
}
