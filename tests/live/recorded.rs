//! A registry with some of everything in it, and beside it, written down by hand, what everybody must read.

use crate::sample::Samples;
use std::thread;
use tidegauge::{Buckets, Counter, Family, Gauge, Histogram, Registry};

pub struct Recorded {
    pub registry: Registry,
    pub samples: Samples,
    /// Name without `_total`, type, help, unit.
    pub families: Vec<(&'static str, &'static str, &'static str, &'static str)>,
    requests: Family<Counter, 2>,
    temperature: Gauge,
    latency: Histogram,
}

/// Every character that some format gives a meaning, and some that none does.
pub const HOSTILE_HELP: &str = concat!(
    "Says \"quoted\", a back\\slash, two \\\\, a literal \\n, \\t and \\\", a line\nbreak, a tab\tstop, ",
    "{curly=\"1\"} 1 # EOF, zażółć 花 🌊 \u{202e}, a NUL \0 and a \\",
);

/// Label values that break a writer which escapes too little or too much.
pub const HOSTILE_VALUES: [&str; 28] = [
    "",
    " ",
    " both ends ",
    "\"",
    "\"quoted\"",
    "\\",
    "\\\\",
    "ends with \\",
    "\\\"",
    "\\n",
    "\\\n",
    "\n",
    "two\nlines\n",
    "\r\n",
    "tab\there",
    "nul\0byte",
    "\0",
    "\u{1}\u{1f}\u{7f}",
    "a,b=\"c\"",
    "{curly=\"brace\"} 1 # EOF",
    "}",
    "# HELP jobs_total nonsense",
    "zażółć gęślą jaźń",
    "花🌊e\u{301}",
    "\u{feff}mark",
    "\u{2028}\u{85}\u{a0}",
    "\u{202e}left",
    "\u{10ffff}",
];

/// Values that are easily written as something else.
const EDGES: [(&str, f64); 18] = [
    ("zero", 0.0),
    ("minus zero", -0.0),
    ("one", 1.0),
    ("a tenth", 0.1),
    ("sum of tenths", 0.1 + 0.2),
    ("just below a million", 999_999.0),
    ("a million", 1e6),
    ("small", 0.0001),
    ("smaller", 0.000_01),
    ("integers end here", 9_007_199_254_740_993.0),
    ("no integer", 123_456.789),
    ("largest", f64::MAX),
    ("smallest normal", f64::MIN_POSITIVE),
    ("smallest", 5e-324),
    ("negative", -273.15),
    ("infinite", f64::INFINITY),
    ("minus infinite", f64::NEG_INFINITY),
    ("not a number", f64::NAN),
];

/// Declares and records. Sums are of numbers that add up exactly in any order.
pub fn record() -> Recorded {
    let registry = Registry::new();
    let mut samples = Samples::new();
    let none: [(&str, &str); 0] = [];

    let jobs = registry.counter("jobs_total", "Jobs run.").register().unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1_000).for_each(|_| jobs.inc()));
        }
    });
    jobs.add((1 << 53) - 4_000);
    samples.insert("jobs_total", none, 9_007_199_254_740_992.0);

    // Registered without its suffix, and never incremented.
    registry.counter("errors", "Errors seen.").register().unwrap();
    samples.insert("errors_total", none, 0.0);

    let energy = registry
        .float_counter("energy", "Energy used.")
        .unit("J")
        .register()
        .unwrap();
    energy.add(0.5);
    energy.add(1_024.25);
    samples.insert("energy_joules_total", none, 1_024.75);

    let temperature = registry
        .gauge("temperature", "Temperature of the water.")
        .unit("Cel")
        .register()
        .unwrap();
    temperature.set(-0.1);
    samples.insert("temperature_celsius", none, -0.1);

    let edges = registry
        .gauge("edge", "Values at the edge.")
        .labels(["case"])
        .register()
        .unwrap();
    for (case, value) in EDGES {
        edges.with([case]).set(value);
        samples.insert("edge", [("case", case)], value);
    }

    let depth = registry
        .int_gauge("queue_depth", "Depth of the queue.")
        .register()
        .unwrap();
    depth.set(-(1 << 53));
    samples.insert("queue_depth", none, -9_007_199_254_740_992.0);

    let in_flight = registry
        .up_down_counter("in_flight", "Requests in flight.")
        .register()
        .unwrap();
    thread::scope(|scope| {
        scope.spawn(|| in_flight.add(7));
        scope.spawn(|| in_flight.sub(9));
    });
    samples.insert("in_flight", none, -2.0);

    registry
        .observable_gauge("free", "Read when asked.")
        .unit("By")
        .register(|| 4_096.5)
        .unwrap();
    samples.insert("free_bytes", none, 4_096.5);
    registry
        .observable_counter("pages", "Read when asked.")
        .register(|| 42_u64)
        .unwrap();
    samples.insert("pages_total", none, 42.0);

    let latency = registry
        .histogram("latency", "Time to serve.")
        .unit("s")
        .buckets(Buckets::explicit([0.0005, 0.25, 1.0, 2.5, 1e6]).unwrap())
        .register()
        .unwrap();
    // On a bound, between two, above the last, and many at once.
    for value in [0.25, 0.5, 1.0, 2.0, 2_000_000.0] {
        latency.observe(value);
    }
    latency.observe_many(0.125, 1_000);
    expect_histogram(&mut samples, "latency_seconds", &[], &LATENCY_BEFORE, 2_000_128.75);

    let sizes = registry
        .histogram("body_size", "Size of bodies.")
        .unit("By")
        .buckets(Buckets::explicit([100.0, 100_000.0]).unwrap())
        .labels(["route", "kind"])
        .register()
        .unwrap();
    sizes.with(["/", "first"]).observe(64.0);
    sizes.with(["/\"\\\n花", "second"]).observe(100_000.5);
    let first = [("route", "/"), ("kind", "first")];
    expect_histogram(
        &mut samples,
        "body_size_bytes",
        &first,
        &[("100", 1), ("100000", 1), ("+Inf", 1)],
        64.0,
    );
    let second = [("route", "/\"\\\n花"), ("kind", "second")];
    expect_histogram(
        &mut samples,
        "body_size_bytes",
        &second,
        &[("100", 0), ("100000", 0), ("+Inf", 1)],
        100_000.5,
    );

    let requests = registry
        .counter("http_requests_total", "Requests served.")
        .labels(["method", "status"])
        .register()
        .unwrap();
    requests.with(["GET", "200"]).add(3);
    requests.with(("GET", 200)).inc();
    requests.handle(["POST", "500"]).inc();
    // Two series, however the values are joined; and one that is gone.
    requests.with(["ab", "c"]).add(2);
    requests.with(["a", "bc"]).add(3);
    requests.with(["PUT", "204"]).inc();
    assert!(requests.remove(["PUT", "204"]), "the series was there");
    for (method, status, value) in [
        ("GET", "200", 4.0),
        ("POST", "500", 1.0),
        ("ab", "c", 2.0),
        ("a", "bc", 3.0),
    ] {
        samples.insert("http_requests_total", [("method", method), ("status", status)], value);
    }

    let hostile = registry
        .counter("hostile_total", HOSTILE_HELP)
        .labels(["value"])
        .register()
        .unwrap();
    for (number, value) in (1_u32..).zip(HOSTILE_VALUES) {
        hostile.with([value]).add(number.into());
        samples.insert("hostile_total", [("value", value)], number.into());
    }

    let limited = registry
        .counter("limited_total", "Only two series.")
        .labels(["user"])
        .limit(2)
        .register()
        .unwrap();
    for user in ["first", "second", "third", "fourth"] {
        limited.with([user]).inc();
    }
    samples.insert("limited_total", [("user", "first")], 1.0);
    samples.insert("limited_total", [("user", "second")], 1.0);
    samples.insert("limited_total", [("otel_metric_overflow", "true")], 2.0);

    let families = vec![
        ("jobs", "counter", "Jobs run.", ""),
        ("errors", "counter", "Errors seen.", ""),
        ("energy_joules", "counter", "Energy used.", "joules"),
        ("temperature_celsius", "gauge", "Temperature of the water.", "celsius"),
        ("edge", "gauge", "Values at the edge.", ""),
        ("queue_depth", "gauge", "Depth of the queue.", ""),
        ("in_flight", "gauge", "Requests in flight.", ""),
        ("free_bytes", "gauge", "Read when asked.", "bytes"),
        ("pages", "counter", "Read when asked.", ""),
        ("latency_seconds", "histogram", "Time to serve.", "seconds"),
        ("body_size_bytes", "histogram", "Size of bodies.", "bytes"),
        ("http_requests", "counter", "Requests served.", ""),
        ("hostile", "counter", HOSTILE_HELP, ""),
        ("limited", "counter", "Only two series.", ""),
    ];
    Recorded {
        registry,
        samples,
        families,
        requests,
        temperature,
        latency,
    }
}

impl Recorded {
    /// Records some more, into series that are there and into a new one.
    pub fn record_more(&mut self) {
        self.requests.with(["GET", "200"]).add(996);
        self.requests.with(["DELETE", "200"]).inc();
        self.temperature.set(21.5);
        self.latency.observe(0.75);
        self.samples
            .update("http_requests_total", [("method", "GET"), ("status", "200")], 1_000.0);
        self.samples
            .insert("http_requests_total", [("method", "DELETE"), ("status", "200")], 1.0);
        self.samples.update("temperature_celsius", [], 21.5);
        for (bound, count) in LATENCY_AFTER {
            self.samples
                .update("latency_seconds_bucket", [("le", bound)], count.into());
        }
        self.samples.update("latency_seconds_count", [], 1_006.0);
        self.samples.update("latency_seconds_sum", [], 2_000_129.5);
    }
}

const LATENCY_BEFORE: [(&str, u32); 6] = [
    ("0.0005", 0),
    ("0.25", 1_001),
    ("1", 1_003),
    ("2.5", 1_004),
    ("1e+06", 1_004),
    ("+Inf", 1_005),
];
const LATENCY_AFTER: [(&str, u32); 6] = [
    ("0.0005", 0),
    ("0.25", 1_001),
    ("1", 1_004),
    ("2.5", 1_005),
    ("1e+06", 1_005),
    ("+Inf", 1_006),
];

fn expect_histogram(
    samples: &mut Samples,
    name: &str,
    labels: &[(&'static str, &'static str)],
    buckets: &[(&'static str, u32)],
    sum: f64,
) {
    for &(bound, count) in buckets {
        samples.insert(
            &format!("{name}_bucket"),
            labels.iter().copied().chain([("le", bound)]),
            count.into(),
        );
    }
    let count = buckets.last().expect("every histogram has a last bucket").1;
    samples.insert(&format!("{name}_count"), labels.iter().copied(), count.into());
    samples.insert(&format!("{name}_sum"), labels.iter().copied(), sum);
}
