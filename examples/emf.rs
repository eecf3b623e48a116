//! CloudWatch metrics without CloudWatch's API: lines in its embedded metric format, which whoever carries a process' output to
//! CloudWatch Logs need not know anything of.
//!
//! A shop takes orders, and its metrics go to a file, from which they are read back as CloudWatch would make metrics of them. What is
//! read has to be what was recorded. With an argument they go where it says, and nothing is read: `emf+stdout:` is what a Lambda
//! function has.
//!
//! ```text
//! cargo run --release --example emf
//! cargo run --release --example emf 'emf+stdout:?namespace=Shop'
//! ```

use serde_json::Value;
use std::{collections::BTreeMap, env, error::Error, fs, path::Path, time::Duration};
use tidegauge::{
    Buckets, Counter, Emf, EmfBuilder, Exporter, Family, FamilySnapshot, Filter, Gauge, Histogram, Registry,
};

#[path = "support/logger.rs"]
mod logger;

const SHOPS: [&str; 3] = ["Lübeck", "Wismar", "Rostock"];

/// Bounds of the histogram, in seconds.
const BOUNDS: [f64; 4] = [0.01, 0.1, 1.0, 10.0];

struct Metrics {
    orders: Family<Counter, 2>,
    queue: Gauge,
    latency: Family<Histogram, 1>,
}

impl Metrics {
    fn register(registry: &Registry) -> Result<Self, Box<dyn Error>> {
        Ok(Metrics {
            orders: registry
                .counter("orders", "Orders taken.")
                .labels(["shop", "customer"])
                .register()?,
            queue: registry
                .gauge("queue_size", "What waits to be sent.")
                .unit("By")
                .register()?,
            latency: registry
                .histogram("latency", "Time to take an order.")
                .unit("s")
                .buckets(Buckets::explicit(BOUNDS)?)
                .labels(["shop"])
                .register()?,
        })
    }

    /// One order, as they come.
    fn order(&self, number: u64) {
        let shop = SHOPS[(number % 3) as usize];
        let customer = format!("customer {}", number % 5);
        self.orders.with([shop, customer.as_str()]).inc();
        self.latency.with([shop]).observe(0.004 * (number % 400) as f64);
        self.queue.set((number % 7) as f64 * 1024.0);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    logger::start();
    let url = env::args().nth(1);
    let path = env::temp_dir().join(format!("tidegauge-example-{}.json", std::process::id()));
    let builder = match &url {
        Some(url) => Emf::builder(url),
        None => Emf::builder(format!("emf+file://{}?namespace=Shop", path.display())),
    };
    let result = run(builder, url.is_none().then_some(&path));
    if url.is_none() {
        fs::remove_file(&path)?;
    }
    result
}

fn run(builder: EmfBuilder, path: Option<&Path>) -> Result<(), Box<dyn Error>> {
    let emf = builder
        // Who has ordered is in the lines, but each customer would be a metric to pay for: no dimension.
        .dimensions([&["shop"][..], &[]])
        .property("stage", "example")
        .build()?;
    let registry = Registry::new();
    let metrics = Metrics::register(&registry)?;
    let exporter = Exporter::new(emf)
        // What the exporter says of itself would be paid for, too.
        .filter(Filter::new().families(|family: &FamilySnapshot| !family.name().starts_with("tidegauge_")))
        .start(&registry)?;
    let mut recorded = 0;
    for _ in 0..4 {
        for _ in 0..2500 {
            metrics.order(recorded);
            recorded += 1;
        }
        exporter.flush(Duration::from_secs(5))?;
    }
    exporter.shutdown(Duration::from_secs(5))?;

    let Some(path) = path else { return Ok(()) };
    let lines = fs::read_to_string(path)?;
    let read = CloudWatch::read(&lines)?;
    println!("{} lines, {} bytes; the first:", lines.lines().count(), lines.len());
    println!("{}", lines.lines().next().unwrap_or_default());
    for ((metric, dimensions), seen) in &read.metrics {
        println!("{metric} {dimensions:?}: {} samples, sum {}", seen.samples, seen.sum);
    }
    check(&read, &metrics, recorded)
}

/// What CloudWatch has is what was recorded.
fn check(read: &CloudWatch, metrics: &Metrics, recorded: u64) -> Result<(), Box<dyn Error>> {
    assert_eq!(read.of("orders", "").sum, recorded as f64);
    let shops: f64 = SHOPS.iter().map(|shop| read.of("orders", &in_ascii(shop)).sum).sum();
    assert_eq!(
        shops, recorded as f64,
        "each shop has its own, and all together have as much"
    );
    for shop in SHOPS {
        let seen = read.of("latency", &in_ascii(shop));
        let observed = metrics.latency.with([shop]).get();
        assert_eq!(seen.samples, observed.count(), "{shop}");
        assert!(
            (seen.sum - observed.sum()).abs() < 1e-6,
            "{shop}: {} of {}",
            seen.sum,
            observed.sum()
        );
        assert_eq!(seen.buckets, observed.counts(), "{shop}");
    }
    println!("what was read is what was recorded");
    Ok(())
}

/// How CloudWatch has a text of a dimension.
fn in_ascii(text: &str) -> String {
    text.replace('ü', "\\u00fc")
}

/// What CloudWatch would make of lines: every set of dimensions is a metric, and values of one add up.
#[derive(Default)]
struct CloudWatch {
    /// By name, and by the value of the dimension if there is one.
    metrics: BTreeMap<(String, String), Seen>,
}

#[derive(Clone, Default)]
struct Seen {
    samples: u64,
    sum: f64,
    /// Samples by the histogram's buckets.
    buckets: Vec<u64>,
}

impl CloudWatch {
    fn read(lines: &str) -> Result<Self, Box<dyn Error>> {
        let mut read = CloudWatch::default();
        for line in lines.lines() {
            let line: Value = serde_json::from_str(line)?;
            assert_eq!(line["stage"], "example");
            for directive in list(&line["_aws"]["CloudWatchMetrics"]) {
                assert_eq!(directive["Namespace"], "Shop");
                for set in list(&directive["Dimensions"]) {
                    let values = list(set).iter().filter_map(|name| line[name.as_str()?].as_str());
                    let dimensions = values.collect::<Vec<_>>().join(", ");
                    for metric in list(&directive["Metrics"]) {
                        let name = metric["Name"].as_str().ok_or("a metric without a name")?;
                        let seen = read.metrics.entry((name.to_owned(), dimensions.clone())).or_default();
                        seen.add(&line[name]);
                    }
                }
            }
        }
        Ok(read)
    }

    fn of(&self, metric: &str, dimensions: &str) -> Seen {
        let key = (metric.to_owned(), dimensions.to_owned());
        self.metrics.get(&key).cloned().unwrap_or_default()
    }
}

impl Seen {
    fn add(&mut self, value: &Value) {
        if let Some(number) = value.as_f64() {
            self.samples += 1;
            self.sum += number;
            return;
        }
        self.buckets.resize(BOUNDS.len() + 1, 0);
        for (value, count) in list(&value["Values"]).iter().zip(list(&value["Counts"])) {
            let (Some(value), Some(count)) = (value.as_f64(), count.as_u64()) else {
                panic!("{value} times {count} is no observation");
            };
            self.samples += count;
            let bucket = BOUNDS.iter().position(|bound| value <= *bound);
            self.buckets[bucket.unwrap_or(BOUNDS.len())] += count;
        }
        self.sum += value["Sum"].as_f64().unwrap_or(f64::NAN);
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
