//! A function of AWS Lambda, which is frozen as soon as it has answered: it delivers its metrics before each answer.
//!
//! It speaks the [runtime API](https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html), as a custom runtime does, and writes
//! lines in CloudWatch's embedded metric format; with `OTEL_EXPORTER_OTLP_ENDPOINT` it pushes there instead. What the flush of an
//! invocation may take follows from the deadline that comes with it.
//!
//! Without `AWS_LAMBDA_RUNTIME_API` it is what stands in for Lambda: it runs itself once more, invokes that a few times, and reads
//! what it writes as CloudWatch would. Each order has to be there, and once.
//!
//! ```text
//! cargo run --release --example lambda
//! OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 cargo run --release --example lambda
//! ```

use serde_json::{Value, json};
use std::{
    env,
    error::Error,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    thread,
    time::{Duration, SystemTime},
};
use tidegauge::{
    Counter, Emf, Exporter, FamilySnapshot, Filter, Histogram, Lambda, Otlp, Registry, TemporalityPreference,
};

#[path = "support/http.rs"]
mod http;
#[path = "support/logger.rs"]
mod logger;
#[path = "support/runtime_api.rs"]
mod runtime_api;

use runtime_api::{RuntimeApi, StandIn};

fn main() -> Result<(), Box<dyn Error>> {
    logger::start();
    match env::var(RUNTIME_API) {
        Ok(address) => run(&RuntimeApi::at(&address)),
        Err(_) => stand_in(),
    }
}

// The function

/// What it measures.
struct Function {
    orders: Counter,
    failures: Counter,
    duration: Histogram,
}

impl Function {
    /// What it is there for.
    fn handle(&self, event: &Value) -> Result<Value, String> {
        let _timer = self.duration.start_timer();
        match event["books"].as_u64() {
            Some(books) => {
                self.orders.add(books);
                Ok(json!({ "ordered": books }))
            }
            None => {
                self.failures.inc();
                Err(format!("{event} is no order"))
            }
        }
    }
}

fn run(runtime: &RuntimeApi) -> Result<(), Box<dyn Error>> {
    let registry = Registry::new();
    let function = Function {
        orders: registry.counter("orders", "Books ordered.").unit("{book}").register()?,
        failures: registry.counter("failures", "What was no order.").register()?,
        duration: registry
            .histogram("duration", "Time to take an order.")
            .unit("s")
            .register()?,
    };
    let exporter = match pushes() {
        true => {
            let otlp = Otlp::builder().environment();
            // Many instances run at once, each for a while: increments add up, totals of each would not.
            Exporter::new(otlp.temporality(TemporalityPreference::Delta).build()?)
        }
        false => Exporter::new(Emf::stdout("Books")?),
    };
    // What the exporter says of itself would be paid for, too.
    let exporter =
        exporter.filter(Filter::new().families(|family: &FamilySnapshot| !family.name().starts_with("tidegauge_")));
    let lambda = Lambda::start(exporter, &registry)?;

    while let Some(invocation) = runtime.next()? {
        let answer = function.handle(&invocation.event);
        // Before the answer, for with that the process is frozen. What the far end does is no reason not to answer: what is not
        // delivered now is kept, and delivered with what the next invocation records.
        if let Err(error) = lambda.end_invocation(invocation.deadline) {
            eprintln!("{error}");
        }
        runtime.answer(&invocation.id, answer)?;
    }
    lambda.shutdown(SystemTime::now() + Duration::from_millis(500))?;
    Ok(())
}

/// Whether there is an endpoint; an empty variable is as good as none.
fn pushes() -> bool {
    let is_set = |variable| env::var_os(variable).is_some_and(|value| !value.is_empty());
    is_set("OTEL_EXPORTER_OTLP_ENDPOINT") || is_set("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
}

const RUNTIME_API: &str = "AWS_LAMBDA_RUNTIME_API";

// What stands in for Lambda

/// Orders, and what is none.
const EVENTS: [&str; 6] = [
    r#"{"books": 1}"#,
    r#"{"books": 20}"#,
    r#"{"books": "many"}"#,
    r#"{"books": 300}"#,
    r#"{"books": 0}"#,
    r#"{"books": 4000}"#,
];

fn stand_in() -> Result<(), Box<dyn Error>> {
    let lambda = StandIn::start(&EVENTS, Duration::from_secs(3))?;
    let mut function = Command::new(env::current_exe()?)
        .env(RUNTIME_API, lambda.address())
        .env("AWS_LAMBDA_FUNCTION_NAME", "books")
        .env("AWS_REGION", "eu-central-1")
        .stdout(Stdio::piped())
        .spawn()?;
    // Each line is an event of the function's log.
    let log = function.stdout.take().ok_or("its standard output is a pipe")?;
    let log = thread::spawn(move || BufReader::new(log).lines().collect::<Result<Vec<_>, _>>());
    let status = function.wait()?;
    let log = log.join().expect("reading lines does not panic")?;
    if !status.success() {
        return Err(format!("the function ended with {status}").into());
    }
    let answers = lambda.answers();
    let ordered: Vec<u64> = answers.iter().filter_map(|answer| answer["ordered"].as_u64()).collect();
    println!("{} invocations, {} orders", answers.len(), ordered.len());
    assert_eq!(
        (answers.len(), &ordered[..]),
        (EVENTS.len(), &[1, 20, 300, 0, 4000][..])
    );
    if pushes() {
        return Ok(());
    }

    let (mut orders, mut failures, mut durations) = (Vec::new(), 0, 0);
    for line in &log {
        println!("{line}");
        let event: Value = serde_json::from_str(line)?;
        assert_eq!(event["functionName"], "books");
        orders.extend(event["orders"].as_u64());
        failures += event["failures"].as_u64().unwrap_or(0);
        durations += event["duration"]["Count"].as_u64().unwrap_or(0);
    }
    // Each was delivered with its invocation and with no other; of nothing there is nothing to say.
    assert_eq!(orders, [1, 20, 300, 4000]);
    assert_eq!((failures, durations), (1, EVENTS.len() as u64));
    println!("what was delivered is what was recorded");
    Ok(())
}
