//! A function that is frozen as soon as it has answered, as AWS Lambda and its like do it: it pushes before each return.
//!
//! No interval helps there, for a frozen process does nothing in the background. What helps is `flush`, with a deadline made of the
//! time that the invocation has left. If the far end is away, the flush says so in time, the function answers all the same,
//! and the next invocation delivers what this one has counted.
//!
//! The runtime is a loop in this example. It pushes to where the `OTEL_*` variables say; without an endpoint there, to a small receiver
//! of its own, which is away for two of the invocations, and in the end has to have what was recorded.
//!
//! ```text
//! cargo run --release --example lambda
//! OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 cargo run --release --example lambda
//! ```

use std::{
    env,
    error::Error,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};
use tidegauge::{Counter, Exporter, Histogram, Otlp, Registry, TemporalityPreference};

#[path = "support/http.rs"]
mod http;
#[path = "support/logger.rs"]
mod logger;
#[path = "support/receiver.rs"]
mod receiver;

/// What an invocation may take, as the runtime says.
const TIMEOUT: Duration = Duration::from_millis(800);

/// What is left of it for the way back.
const MARGIN: Duration = Duration::from_millis(50);

/// What the runtime says about an invocation.
struct Context {
    deadline: Instant,
}

impl Context {
    fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

struct Function {
    orders: Counter,
    duration: Histogram,
}

impl Function {
    /// What the function is there for.
    fn handle(&self, books: u64) -> String {
        self.duration.time(|| {
            self.orders.add(books);
            thread::sleep(Duration::from_millis(20));
            format!("{books} books are on their way")
        })
    }
}

/// What the receiver of the example itself has, and whether it is there.
#[derive(Default)]
struct FarEnd {
    away: bool,
    points: usize,
    orders: i64,
}

impl FarEnd {
    fn answer(&mut self, push: &receiver::Push) -> u16 {
        if self.away {
            return 503;
        }
        self.points += push.points();
        self.orders = push.total("orders_total", self.orders);
        200
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    logger::start();
    let registry = Registry::new();
    let function = Function {
        orders: registry.counter("orders_total", "Books ordered.").register()?,
        duration: registry
            .histogram("order_duration_seconds", "Time to take an order.")
            .register()?,
    };

    let far_end = Arc::new(Mutex::new(FarEnd::default()));
    let has_endpoint = is_set("OTEL_EXPORTER_OTLP_ENDPOINT") || is_set("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT");
    let mut destination = Otlp::builder().environment();
    if !has_endpoint {
        let answering = far_end.clone();
        let url = receiver::start(move |push| answering.lock().unwrap().answer(push))?;
        destination = destination.endpoint(url).no_proxy();
    }
    if !is_set("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE") {
        // There are many of this process, each living for a while: increments add up, totals of each would not.
        destination = destination.temporality(TemporalityPreference::Delta);
    }
    let exporter = Exporter::new(destination.build()?)
        // Nothing here waits for it.
        .interval(Duration::from_secs(3600))
        .start(&registry)?;

    for invocation in 1..=6 {
        far_end.lock().unwrap().away = (3..5).contains(&invocation);
        let context = Context {
            deadline: Instant::now() + TIMEOUT,
        };
        let answer = function.handle(invocation);
        let flushed = exporter.flush(context.remaining().saturating_sub(MARGIN));
        let remaining = context.remaining();
        match flushed {
            Ok(report) => println!("{answer}; {} points delivered, {remaining:?} left", report.delivered),
            Err(error) => println!("{answer} all the same, {remaining:?} left; {error}"),
        }
        // Here the process freezes.
    }
    // The runtime gives notice before it ends the process.
    match exporter.shutdown(Duration::from_millis(500)) {
        Ok(report) => println!("the last {} points delivered", report.delivered),
        Err(error) => println!("lost with the process: {error}"),
    }

    let is_disabled = exporter.name().is_empty();
    if !has_endpoint && !is_disabled {
        let far_end = far_end.lock().unwrap();
        let (recorded, received) = (function.orders.get(), far_end.orders);
        println!(
            "{recorded} books ordered; {} points received, with {received} books",
            far_end.points
        );
        if i64::try_from(recorded) != Ok(received) {
            return Err("the receiver has not what was recorded".into());
        }
    }
    Ok(())
}

/// Empty is as good as not set.
fn is_set(variable: &str) -> bool {
    env::var_os(variable).is_some_and(|value| !value.is_empty())
}
