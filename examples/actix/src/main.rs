//! The metrics mounted in actix-web: `GET /metrics`, one middleware that measures every route, and a visitor of its own.
//!
//! ```text
//! cargo run --manifest-path examples/actix/Cargo.toml
//! ```

use actix_web::{
    App, Error, HttpRequest, HttpResponse, HttpServer,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    error::ErrorInternalServerError,
    http::{StatusCode, header},
    middleware::{Next, from_fn},
    web,
};
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};
use tidegauge::{LazyCounterFamily, LazyHistogramFamily, LazyUpDownCounter, ScrapeRequest};

// In the global registry. One of your own goes into `app_data`, and so do the instruments that it hands out.
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

#[actix_web::main]
async fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    println!("http://{address}/hello/you");
    println!("http://{address}/metrics");
    thread::spawn(move || visit(address));
    let app = || {
        App::new()
            .wrap(from_fn(measure))
            .route("/hello/{name}", web::get().to(async || "Hello.\n"))
            .route("/metrics", web::get().to(scrape))
            .route("/metrics", web::head().to(scrape))
    };
    // Ends at ctrl-c by itself.
    HttpServer::new(app).workers(2).listen(listener)?.run().await
}

/// Measures a request. The route is the pattern and not the path: what clients send must not decide how many series
/// there are.
async fn measure(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    // Counts until it is dropped, also if the client goes away and this future is dropped before its end.
    let _in_flight = IN_FLIGHT.track();
    let pattern = request.match_pattern();
    let route = pattern.as_deref().unwrap_or("unmatched");
    let result = DURATION.with([route]).time_future(next.call(request)).await;
    let status = match &result {
        Ok(response) => response.status(),
        Err(error) => error.as_response_error().status_code(),
    };
    REQUESTS.with((route, status.as_u16())).inc();
    result
}

/// Answers a scrape, on a thread that may block.
///
/// Rendering is work without a pause: a few hundred series may as well be rendered in place, but a hundred thousand take
/// many milliseconds, more with gzip, in which the worker would serve nobody else. Observable instruments run code of
/// the application besides.
async fn scrape(request: HttpRequest) -> Result<HttpResponse, Error> {
    let accept = list(&request, header::ACCEPT);
    let accept_encoding = list(&request, header::ACCEPT_ENCODING);
    let query = request.query_string().to_owned();
    let render = move || {
        let request = ScrapeRequest::new()
            .accept(accept.as_deref())
            .accept_encoding(accept_encoding.as_deref())
            .query(query.as_str());
        tidegauge::global().scrape_with(&request)
    };
    let reply = web::block(render).await?;
    let status = StatusCode::from_u16(reply.status()).map_err(ErrorInternalServerError)?;
    let mut response = HttpResponse::build(status);
    for header in reply.headers() {
        response.insert_header(header);
    }
    Ok(response.body(reply.into_body()))
}

/// All lines of a header as one, joined by commas.
fn list(request: &HttpRequest, name: header::HeaderName) -> Option<String> {
    let lines = request.headers().get_all(name).map(|line| line.to_str().ok());
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
