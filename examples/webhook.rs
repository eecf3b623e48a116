//! A destination of one's own: JSON lines, posted to a webhook that can be unreliable without anything counting twice.
//!
//! It shows the three things that a [`Destination`] says: how points become a payload, how one is sent, and what each answer
//! means. Each payload has a key, and what is sent again has the same bytes and the same key: a receiver that remembers keys
//! gets every increment exactly once, however many answers are lost on the way. The one in this example loses some on
//! purpose, and in the end has to have what was recorded.
//!
//! Not to be copied: the receiver, which forgets its keys when it ends. Yours writes them down together with the values.
//!
//! ```text
//! cargo run --release --example webhook
//! ```

use serde_json::{Value as Json, json};
use std::{
    collections::{BTreeMap, HashSet},
    error::Error,
    io::{self, Read},
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};
use tidegauge::{
    Answer, Destination, Exporter, FamilySnapshot, Payload, Point, Points, Registry, RetryPolicy, Temporality, Value,
};
use ureq::{Agent, Body, http::Response};

#[path = "support/http.rs"]
mod http;

/// Posts what is new to a URL, a line of JSON for each point.
struct Webhook {
    agent: Agent,
    url: String,
}

/// Above this a payload is full, and the rest goes into the next one.
const FULL: usize = 16 << 10;

impl Webhook {
    fn new(url: &str) -> Self {
        let config = Agent::config_builder()
            // Each status means something here, so none is an error; and a redirect would turn the POST into a GET.
            .http_status_as_error(false)
            .max_redirects(0)
            // The receiver is on this machine. One elsewhere may be behind the proxy that the environment names.
            .proxy(None)
            .build();
        Webhook {
            agent: config.into(),
            url: url.to_owned(),
        }
    }
}

impl Destination for Webhook {
    fn name(&self) -> &str {
        "webhook"
    }

    fn address(&self) -> String {
        self.url.clone()
    }

    /// The receiver adds up what it gets, so it wants to hear of every increment once.
    fn temporality(&self, _: &FamilySnapshot) -> Temporality {
        Temporality::Delta
    }

    fn encode(&mut self, points: &mut Points<'_>, payload: &mut Vec<u8>) {
        while let Some(family) = points.next_family() {
            while let Some(point) = points.peek() {
                match value(&point) {
                    Some(value) => {
                        payload.extend(line(family, &point, value).to_string().bytes());
                        payload.push(b'\n');
                        points.take();
                    }
                    None => points.refuse("JSON has no numbers that are not finite"),
                }
                if payload.len() >= FULL {
                    return;
                }
            }
        }
    }

    fn send(&mut self, payload: &Payload, timeout: Duration) -> Answer {
        let sent = self
            .agent
            .post(&self.url)
            .header("Content-Type", "application/jsonl")
            .header("Idempotency-Key", payload.id().to_string())
            .config()
            .timeout_global(Some(timeout))
            .build()
            .send(payload.bytes());
        match sent {
            Ok(response) => answered(response),
            Err(error) => not_answered(&error),
        }
    }
}

fn line(family: &FamilySnapshot, point: &Point<'_>, value: Json) -> Json {
    json!({
        "name": family.name(),
        "labels": point.labels().collect::<BTreeMap<_, _>>(),
        "from": point.start().as_secs_f64(),
        "to": point.time().as_secs_f64(),
        "value": value,
    })
}

/// None if JSON cannot express it.
fn value(point: &Point<'_>) -> Option<Json> {
    Some(match point.value() {
        Value::Counter(count) => json!(count),
        Value::IntGauge(value) => json!(value),
        Value::FloatCounter(value) | Value::Gauge(value) if value.is_finite() => json!(value),
        Value::Histogram(histogram) if histogram.sum().is_finite() => json!({
            "bounds": histogram.bounds(),
            "counts": histogram.counts(),
            "sum": histogram.sum(),
        }),
        _ => return None,
    })
}

/// What the webhook means by its answer.
fn answered(mut response: Response<Body>) -> Answer {
    let status = response.status().as_u16();
    let message = {
        // What it says is for people; a little of it is enough, and if it breaks off, the status was clear.
        let mut said = Vec::new();
        let _ = response.body_mut().as_reader().take(200).read_to_end(&mut said);
        format!("status {status}: {}", String::from_utf8_lossy(&said).trim())
    };
    match status {
        // 409: it knows the key, so it was here before and only its answer was lost.
        200..300 | 409 => Answer::delivered(),
        429 | 503 => {
            // The other form, a date, is left to the exporter's own waits.
            let header = response.headers().get("Retry-After");
            let seconds = header.and_then(|wait| wait.to_str().ok()?.parse().ok());
            Answer::retry(message).after(seconds.map(Duration::from_secs))
        }
        413 => Answer::too_large(message),
        401 | 403 => Answer::unauthorized(message),
        // These blame the data, so sending it again would not help.
        400 | 422 => Answer::rejected(message),
        // It broke while it worked, or a proxy does not know what became of it.
        500.. => Answer::unclear(message),
        // These blame something else, such as the URL. The increments wait until that is repaired.
        _ => Answer::carry_over(message),
    }
}

/// Whether the request can have arrived although no answer came.
fn not_answered(error: &ureq::Error) -> Answer {
    let message = error.to_string();
    let never_sent = match error {
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => true,
        ureq::Error::Timeout(during) => matches!(during, ureq::Timeout::Resolve | ureq::Timeout::Connect),
        ureq::Error::Io(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        _ => false,
    };
    match never_sent {
        true => Answer::retry(message),
        false => Answer::unclear(message),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (url, received) = receive()?;
    let registry = Registry::new();
    let orders = registry
        .counter("orders_total", "Orders taken, by shop.")
        .labels(["shop"])
        .register()?;
    let weight = registry
        .histogram("order_weight_kilograms", "What an order weighs.")
        .register()?;
    let exporter = Exporter::new(Webhook::new(&url))
        // The default waits are for networks; this one is repaired at once.
        .retry(RetryPolicy::new().initial(Duration::from_millis(10)))
        .start(&registry)?;

    for day in 1..=20_u32 {
        for order in 0..10 * day {
            orders.with([if order % 3 == 0 { "oslo" } else { "lima" }]).inc();
            weight.observe(f64::from(order % 64) / 4.0);
        }
        // A service would leave this to the interval. What fails is tried again, here with the next day's.
        match exporter.flush(Duration::from_secs(5)) {
            Ok(report) => println!("day {day}: {} points delivered", report.delivered),
            Err(error) => println!("day {day}: {error}"),
        }
    }
    exporter.shutdown(Duration::from_secs(30))?;

    let received = received.lock().unwrap();
    let statistics = exporter.stats();
    println!(
        "{} requests, {} of them seen before and {} put off; {} points may have arrived twice",
        received.requests, received.seen_before, received.put_off, statistics.possible_duplicate_points
    );
    let mut is_equal = true;
    for (what, recorded) in [
        ("orders_total oslo", orders.with(["oslo"]).get() as f64),
        ("orders_total lima", orders.with(["lima"]).get() as f64),
        ("order_weight_kilograms", weight.get().sum()),
    ] {
        let received = received.totals.get(what).copied().unwrap_or_default();
        println!("{what}: {recorded} recorded, {received} received");
        is_equal &= recorded == received;
    }
    match is_equal {
        true => Ok(()),
        false => Err("the receiver has not what was recorded".into()),
    }
}

/// What the receiver has taken.
#[derive(Default)]
struct Received {
    /// By name and label: counts, and sums of histograms.
    totals: BTreeMap<String, f64>,
    keys: HashSet<String>,
    requests: u32,
    seen_before: u32,
    put_off: u32,
}

/// Starts the receiver, which ends with the process. Its URL, and what it takes.
fn receive() -> io::Result<(String, Arc<Mutex<Received>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/metrics", listener.local_addr()?);
    let received = Arc::new(Mutex::new(Received::default()));
    let shared = received.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let taken = stream.and_then(|stream| {
                let request = http::Request::read(&stream)?;
                match shared.lock().unwrap().take(&request) {
                    Some((status, body)) => http::answer(&stream, status, body),
                    None => Ok(()),
                }
            });
            if let Err(error) = taken {
                eprintln!("a request was not answered: {error}");
            }
        }
    });
    Ok((url, received))
}

impl Received {
    /// The status to answer and what to say with it; none to hang up instead.
    fn take(&mut self, request: &http::Request) -> Option<(u16, &'static str)> {
        if request.path != "/metrics" {
            return Some((404, "post to /metrics"));
        }
        self.requests += 1;
        if self.requests.is_multiple_of(9) {
            self.put_off += 1;
            return Some((503, "not now"));
        }
        if !self.keys.insert(request.header("idempotency-key").to_owned()) {
            self.seen_before += 1;
            return Some((409, "seen before"));
        }
        for line in request
            .body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let Ok(point) = serde_json::from_slice::<Json>(line) else {
                return Some((400, "not JSON"));
            };
            self.add(&point);
        }
        // All of it is taken, but nobody is told.
        (!self.requests.is_multiple_of(5)).then_some((204, ""))
    }

    fn add(&mut self, point: &Json) {
        let text = |json: &Json| json.as_str().unwrap_or_default().to_owned();
        let series = format!("{} {}", text(&point["name"]), text(&point["labels"]["shop"]));
        let value = point["value"].as_f64().or_else(|| point["value"]["sum"].as_f64());
        *self.totals.entry(series.trim_end().to_owned()).or_default() += value.unwrap_or_default();
    }
}
