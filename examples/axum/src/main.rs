//! The metrics mounted in axum: `GET /metrics`, one middleware that measures every route, and a visitor of its own.
//!
//! ```text
//! cargo run --manifest-path examples/axum/Cargo.toml
//! ```

use axum::{
    Router,
    body::Body,
    extract::{MatchedPath, RawQuery, Request},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::Response,
    routing::get,
};
use std::{
    error::Error,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};
use tidegauge::{LazyCounterFamily, LazyHistogramFamily, LazyUpDownCounter, ScrapeRequest};

// In the global registry. One of your own goes into axum's state, and so do the instruments that it hands out.
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
    let app = Router::new()
        .route("/hello/{name}", get(async || "Hello.\n"))
        // Answers HEAD too, as everything under `get` does.
        .route("/metrics", get(scrape))
        .layer(middleware::from_fn(measure));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    println!("http://{address}/hello/you");
    println!("http://{address}/metrics");
    thread::spawn(move || visit(address));
    let interrupted = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    axum::serve(listener, app).with_graceful_shutdown(interrupted).await?;
    Ok(())
}

/// Measures a request. The route is the pattern and not the path: what clients send must not decide how many series
/// there are.
async fn measure(request: Request, next: Next) -> Response {
    // Counts until it is dropped, also if the client goes away and this future is dropped before its end.
    let _in_flight = IN_FLIGHT.track();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let route = path.as_ref().map_or("unmatched", MatchedPath::as_str);
    let response = DURATION.with([route]).time_future(next.run(request)).await;
    REQUESTS.with((route, response.status().as_u16())).inc();
    response
}

/// Answers a scrape, on a thread that may block.
///
/// Rendering is work without a pause: a few hundred series may as well be rendered in place, but a hundred thousand take
/// many milliseconds, more with gzip, in which the worker would serve nobody else. Observable instruments run code of
/// the application besides.
async fn scrape(headers: HeaderMap, RawQuery(query): RawQuery) -> Result<Response, StatusCode> {
    let render = move || {
        let accept = list(&headers, header::ACCEPT);
        let accept_encoding = list(&headers, header::ACCEPT_ENCODING);
        let request = ScrapeRequest::new()
            .accept(accept.as_deref())
            .accept_encoding(accept_encoding.as_deref())
            .query(query.as_deref());
        tidegauge::global().scrape_with(&request)
    };
    let reply = tokio::task::spawn_blocking(render)
        .await
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let mut response = Response::builder().status(reply.status());
    for (name, value) in reply.headers() {
        response = response.header(name, value);
    }
    let response = response.body(Body::from(reply.into_body()));
    response.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

/// All lines of a header as one, joined by commas.
fn list(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    let lines = headers.get_all(name).iter().map(|line| line.to_str().ok());
    let lines: Vec<&str> = lines.flatten().collect();
    (!lines.is_empty()).then(|| lines.join(","))
}

/// Sends about twenty requests a second, in place of users.
fn visit(address: SocketAddr) -> io::Result<()> {
    for path in ["/hello/ebb", "/hello/flood", "/nowhere"].iter().cycle() {
        let mut stream = TcpStream::connect(address)?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        stream.read_to_end(&mut Vec::new())?;
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
