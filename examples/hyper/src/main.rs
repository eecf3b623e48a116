//! The metrics mounted in plain hyper: `GET /metrics`, one function that measures every route, and a visitor of its own.
//!
//! ```text
//! cargo run --manifest-path examples/hyper/Cargo.toml
//! ```

use http_body_util::Full;
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};
use std::{
    error::Error,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};
use tidegauge::{LazyCounterFamily, LazyHistogramFamily, LazyUpDownCounter, ScrapeRequest};

type Answer = Result<Response<Full<Bytes>>, Box<dyn Error + Send + Sync>>;

// In the global registry. One of your own is moved into the service, and so are the instruments that it hands out.
static REQUESTS: LazyCounterFamily<2> = LazyCounterFamily::new(
    "http_requests_total",
    "Requests answered, by route and status.",
    &["route", "status"],
);
static DURATION: LazyHistogramFamily<1> = LazyHistogramFamily::new(
    "http_request_duration_seconds",
    "Time to answer a request, by route.",
    &["route"],
);
static IN_FLIGHT: LazyUpDownCounter = LazyUpDownCounter::new("http_requests_in_flight", "Requests being answered.");

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    println!("http://{address}/hello");
    println!("http://{address}/metrics");
    thread::spawn(move || visit(address));
    let connections = GracefulShutdown::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            _ = tokio::signal::ctrl_c() => break,
        };
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(measure));
        tokio::spawn(connections.watch(connection));
    }
    connections.shutdown().await;
    Ok(())
}

/// Measures a request. The route is one of ours and not the path: what clients send must not decide how many series
/// there are.
async fn measure(request: Request<Incoming>) -> Answer {
    // Counts until it is dropped, also if the client goes away and this future is dropped before its end.
    let _in_flight = IN_FLIGHT.track();
    let route = match request.uri().path() {
        "/hello" => "/hello",
        "/metrics" => "/metrics",
        _ => "unmatched",
    };
    let response = DURATION.with([route]).time_future(answer(route, request)).await?;
    REQUESTS.with((route, response.status().as_u16())).inc();
    Ok(response)
}

async fn answer(route: &str, request: Request<Incoming>) -> Answer {
    // Of a reply to HEAD, hyper sends the head.
    let reads = [Method::GET, Method::HEAD].contains(request.method());
    match route {
        "/metrics" if reads => scrape(request).await,
        "/hello" if reads => Ok(Response::new("Hello.\n".into())),
        _ => Ok(Response::builder().status(404).body(Full::default())?),
    }
}

/// Answers a scrape, on a thread that may block.
///
/// Rendering is work without a pause: a few hundred series may as well be rendered in place, but a hundred thousand take
/// many milliseconds, more with gzip, in which the worker would serve nobody else. Observable instruments run code of
/// the application besides.
async fn scrape(request: Request<Incoming>) -> Answer {
    let render = move || {
        let accept = list(&request, header::ACCEPT);
        let accept_encoding = list(&request, header::ACCEPT_ENCODING);
        let request = ScrapeRequest::new()
            .accept(accept.as_deref())
            .accept_encoding(accept_encoding.as_deref())
            .query(request.uri().query());
        tidegauge::global().scrape_with(&request)
    };
    let reply = tokio::task::spawn_blocking(render).await?;
    let mut response = Response::builder().status(reply.status());
    for (name, value) in reply.headers() {
        response = response.header(name, value);
    }
    Ok(response.body(reply.into_body().into())?)
}

/// All lines of a header as one, joined by commas.
fn list(request: &Request<Incoming>, name: header::HeaderName) -> Option<String> {
    let lines = request.headers().get_all(name).iter().map(|line| line.to_str().ok());
    let lines: Vec<&str> = lines.flatten().collect();
    (!lines.is_empty()).then(|| lines.join(","))
}

/// Sends about twenty requests a second, in place of users.
fn visit(address: SocketAddr) -> io::Result<()> {
    for path in ["/hello", "/hello?again", "/nowhere"].iter().cycle() {
        let mut stream = TcpStream::connect(address)?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        stream.read_to_end(&mut Vec::new())?;
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
