//! The text that is scraped, in both formats: golden, and read back by a small reader of the public rules
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>,
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>).

use proptest::{collection::vec, prelude::*};
use std::{collections::BTreeMap, time::Duration};
use tidegauge::{Buckets, EncodeOptions, Filter, Format, Registry, ScrapeRequest, testing::ManualClock};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0";

fn text(registry: &Registry) -> String {
    body(registry, &ScrapeRequest::new())
}

fn openmetrics(registry: &Registry) -> String {
    body(registry, &ScrapeRequest::new().accept(OPENMETRICS))
}

fn body(registry: &Registry, request: &ScrapeRequest<'_>) -> String {
    String::from_utf8(registry.scrape_with(request).into_body()).unwrap()
}

/// A registry with one of everything.
fn everything() -> (Registry, ManualClock) {
    let clock = ManualClock::new();
    let builder = Registry::builder()
        .clock(clock.clone())
        .prefix("app")
        .label("region", "e\"u");
    let registry = builder.build().unwrap();
    clock.advance(Duration::from_millis(1_250));
    let requests = registry
        .counter("http.requests", "Requests, \"quoted\",\nof two lines and a \\.")
        .labels(["method", "path"])
        .limit(2)
        .register()
        .unwrap();
    requests.with(["GET", "/a\\b\"c\nd"]).add(3);
    requests.with(["", "ü"]).add(1_000_000);
    requests.with(["PUT", "/"]).inc();
    registry
        .float_counter("energy", "Energy.")
        .unit("J")
        .register()
        .unwrap()
        .add(1e6);
    registry
        .gauge("temperature", "Warmth.")
        .unit("Cel")
        .register()
        .unwrap()
        .set(-0.5);
    registry.int_gauge("depth", "Depth.").register().unwrap().set(-42);
    registry
        .up_down_counter("in_flight", "In flight.")
        .register()
        .unwrap()
        .add(7);
    clock.advance(Duration::from_secs(1));
    let buckets = Buckets::explicit([0.00001, 0.5, 1.0, 2e6]).unwrap();
    let wait = registry
        .histogram("wait", "Wait.")
        .unit("s")
        .labels(["step"])
        .buckets(buckets)
        .register()
        .unwrap();
    wait.with(["x"]).observe(0.25);
    wait.with(["x"]).observe_many(1.0, 2);
    wait.with(["x"]).observe(f64::NAN);
    registry
        .observable_gauge("load", "Load.")
        .register(|| f64::INFINITY)
        .unwrap();
    registry.collector(|families| {
        families
            .counter("faults", "Faults.")
            .labels(["kind"])
            .sample(["minor"], 5_u64)
            .sample(["major"], 0.25);
    });
    registry
        .counter("unused", "Never looked up.")
        .labels(["label"])
        .register()
        .unwrap();
    (registry, clock)
}

#[test]
fn text_of_everything() {
    let (registry, _) = everything();
    let expected = r#"# HELP app_depth Depth.
# TYPE app_depth gauge
app_depth{region="e\"u"} -42
# HELP app_energy_joules_total Energy.
# TYPE app_energy_joules_total counter
app_energy_joules_total{region="e\"u"} 1e+06
# HELP app_faults_total Faults.
# TYPE app_faults_total counter
app_faults_total{region="e\"u",kind="minor"} 5
app_faults_total{region="e\"u",kind="major"} 0.25
# HELP app_http_requests_total Requests, "quoted",\nof two lines and a \\.
# TYPE app_http_requests_total counter
app_http_requests_total{region="e\"u",method="GET",path="/a\\b\"c\nd"} 3
app_http_requests_total{region="e\"u",method="",path="ü"} 1000000
app_http_requests_total{otel_metric_overflow="true"} 1
# HELP app_in_flight In flight.
# TYPE app_in_flight gauge
app_in_flight{region="e\"u"} 7
# HELP app_load Load.
# TYPE app_load gauge
app_load{region="e\"u"} +Inf
# HELP app_temperature_celsius Warmth.
# TYPE app_temperature_celsius gauge
app_temperature_celsius{region="e\"u"} -0.5
# HELP app_wait_seconds Wait.
# TYPE app_wait_seconds histogram
app_wait_seconds_bucket{region="e\"u",step="x",le="1e-05"} 0
app_wait_seconds_bucket{region="e\"u",step="x",le="0.5"} 1
app_wait_seconds_bucket{region="e\"u",step="x",le="1.0"} 3
app_wait_seconds_bucket{region="e\"u",step="x",le="2e+06"} 3
app_wait_seconds_bucket{region="e\"u",step="x",le="+Inf"} 4
app_wait_seconds_sum{region="e\"u",step="x"} 2.25
app_wait_seconds_count{region="e\"u",step="x"} 4
"#;
    assert_eq!(text(&registry), expected);
}

#[test]
fn openmetrics_of_everything() {
    let (registry, _) = everything();
    let expected = r#"# TYPE app_depth gauge
# HELP app_depth Depth.
app_depth{region="e\"u"} -42
# TYPE app_energy_joules counter
# UNIT app_energy_joules joules
# HELP app_energy_joules Energy.
app_energy_joules_total{region="e\"u"} 1e+06
# TYPE app_faults counter
# HELP app_faults Faults.
app_faults_total{region="e\"u",kind="minor"} 5.0
app_faults_total{region="e\"u",kind="major"} 0.25
# TYPE app_http_requests counter
# HELP app_http_requests Requests, \"quoted\",\nof two lines and a \\.
app_http_requests_total{region="e\"u",method="GET",path="/a\\b\"c\nd"} 3
app_http_requests_total{region="e\"u",method="",path="ü"} 1000000
app_http_requests_total{otel_metric_overflow="true"} 1
# TYPE app_in_flight gauge
# HELP app_in_flight In flight.
app_in_flight{region="e\"u"} 7
# TYPE app_load gauge
# HELP app_load Load.
app_load{region="e\"u"} +Inf
# TYPE app_temperature_celsius gauge
# UNIT app_temperature_celsius celsius
# HELP app_temperature_celsius Warmth.
app_temperature_celsius{region="e\"u"} -0.5
# TYPE app_wait_seconds histogram
# UNIT app_wait_seconds seconds
# HELP app_wait_seconds Wait.
app_wait_seconds_bucket{region="e\"u",step="x",le="1e-05"} 0
app_wait_seconds_bucket{region="e\"u",step="x",le="0.5"} 1
app_wait_seconds_bucket{region="e\"u",step="x",le="1.0"} 3
app_wait_seconds_bucket{region="e\"u",step="x",le="2e+06"} 3
app_wait_seconds_bucket{region="e\"u",step="x",le="+Inf"} 4
app_wait_seconds_sum{region="e\"u",step="x"} 2.25
app_wait_seconds_count{region="e\"u",step="x"} 4
# EOF
"#;
    assert_eq!(openmetrics(&registry), expected);
}

#[test]
fn start_times_are_written_when_they_are_asked_for() {
    let clock = ManualClock::new();
    let registry = Registry::builder().clock(clock.clone()).build().unwrap();
    let jobs = registry
        .counter("jobs_total", "Jobs.")
        .labels(["queue"])
        .register()
        .unwrap();
    let buckets = Buckets::explicit([1.0]).unwrap();
    registry.histogram("size", "Size.").buckets(buckets).register().unwrap();
    registry.gauge("level", "Level.").register().unwrap();
    clock.advance(Duration::from_millis(1_250));
    jobs.with(["a"]).inc();
    let request = ScrapeRequest::new().options(EncodeOptions::new().created(true));
    let expected = "\
# TYPE jobs counter
# HELP jobs Jobs.
jobs_total{queue=\"a\"} 1
jobs_created{queue=\"a\"} 1700000001.250
# TYPE level gauge
# HELP level Level.
level 0.0
# TYPE size histogram
# HELP size Size.
size_bucket{le=\"1.0\"} 0
size_bucket{le=\"+Inf\"} 0
size_sum 0.0
size_count 0
size_created 1700000000.000
# EOF
";
    assert_eq!(body(&registry, &request.accept(OPENMETRICS)), expected);
    assert!(!text(&registry).contains("_created"));

    jobs.remove(["a"]);
    clock.advance(Duration::from_secs(60));
    jobs.with(["a"]).add(9);
    let after = body(&registry, &request.accept(OPENMETRICS));
    assert!(
        after.contains("jobs_total{queue=\"a\"} 9\njobs_created{queue=\"a\"} 1700000061.250\n"),
        "{after}"
    );
}

#[test]
fn numbers_are_written_as_each_format_has_them() {
    let numbers: [(f64, &str, &str); 15] = [
        (0.0, "0", "0.0"),
        (1.0, "1", "1.0"),
        (-1.5, "-1.5", "-1.5"),
        (100_000.0, "100000", "100000.0"),
        (999_999.0, "999999", "999999.0"),
        (1e6, "1e+06", "1e+06"),
        (1_234_567.0, "1.234567e+06", "1.234567e+06"),
        (17_560_473.0, "1.7560473e+07", "1.7560473e+07"),
        (1e21, "1e+21", "1e+21"),
        (1e100, "1e+100", "1e+100"),
        (0.0001, "0.0001", "0.0001"),
        (0.00001, "1e-05", "1e-05"),
        (f64::INFINITY, "+Inf", "+Inf"),
        (f64::NEG_INFINITY, "-Inf", "-Inf"),
        (f64::NAN, "NaN", "NaN"),
    ];
    let registry = Registry::new();
    let level = registry.gauge("level", "Level.").register().unwrap();
    for (number, in_text, in_openmetrics) in numbers {
        level.set(number);
        assert!(
            text(&registry).ends_with(&format!("\nlevel {in_text}\n")),
            "{}",
            text(&registry)
        );
        assert!(
            openmetrics(&registry).ends_with(&format!("\nlevel {in_openmetrics}\n# EOF\n")),
            "{number}"
        );
    }
    let jobs = registry.counter("jobs", "Jobs.").register().unwrap();
    jobs.add(u64::MAX);
    assert!(text(&registry).contains("\njobs_total 18446744073709551615\n"));
}

#[test]
fn a_histogram_with_negative_bounds_or_sum_has_no_sum_in_openmetrics() {
    let registry = Registry::new();
    let below = Buckets::explicit([-1.0, 1.0]).unwrap();
    registry
        .histogram("below", "Below.")
        .buckets(below)
        .register()
        .unwrap()
        .observe(0.5);
    let above = Buckets::explicit([1.0]).unwrap();
    let histogram = registry.histogram("above", "Above.").buckets(above).register().unwrap();
    histogram.observe(-3.0);
    assert!(!openmetrics(&registry).contains("_sum") && !openmetrics(&registry).contains("_count"));
    assert!(text(&registry).contains("below_sum 0.5\nbelow_count 1\n"));
    assert!(text(&registry).contains("above_sum -3\nabove_count 1\n"));
    histogram.observe(4.0);
    assert!(openmetrics(&registry).contains("above_sum 1.0\nabove_count 2\n"));
}

#[test]
fn an_empty_registry_and_a_family_without_series() {
    let registry = Registry::new();
    assert_eq!(
        (text(&registry), openmetrics(&registry)),
        (String::new(), "# EOF\n".to_owned())
    );
    let jobs = registry
        .counter("jobs_total", "Jobs.")
        .labels(["queue"])
        .register()
        .unwrap();
    jobs.with(["a"]).inc();
    jobs.clear();
    assert_eq!(
        (text(&registry), openmetrics(&registry)),
        (String::new(), "# EOF\n".to_owned())
    );
    registry.counter("plain_total", "Plain.").register().unwrap();
    assert!(
        text(&registry).ends_with("\nplain_total 0\n"),
        "one without labels is always there"
    );
}

#[test]
fn a_scrape_is_the_same_each_time() {
    let (registry, _) = everything();
    let series = registry.counter("many", "Many.").labels(["l"]).register().unwrap();
    (0..1000).for_each(|number| series.with((number,)).inc());
    let (first, first_openmetrics) = (text(&registry), openmetrics(&registry));
    for _ in 0..3 {
        assert_eq!(
            (text(&registry), openmetrics(&registry)),
            (first.clone(), first_openmetrics.clone())
        );
    }
    let mut buffer = b"what was there before".to_vec();
    registry.snapshot().encode(Format::Text, &mut buffer);
    assert_eq!(String::from_utf8(buffer).unwrap(), first);
}

#[test]
fn removed_series_are_not_written_and_new_ones_are() {
    let registry = Registry::new();
    let jobs = registry.counter("jobs", "Jobs.").labels(["queue"]).register().unwrap();
    (0..600).for_each(|number| jobs.with((number,)).inc());
    (0..600)
        .filter(|number| number % 2 == 0)
        .for_each(|number| assert!(jobs.remove((number,))));
    let queues = |body: &str| -> Vec<u32> {
        let queue = |line: &str| line.split('"').nth(1).unwrap().parse().unwrap();
        let mut queues: Vec<u32> = body.lines().filter(|line| !line.starts_with('#')).map(queue).collect();
        queues.sort_unstable();
        queues
    };
    assert_eq!(queues(&text(&registry)), (1..600).step_by(2).collect::<Vec<_>>());
    (1000..1100).for_each(|number| jobs.with((number,)).inc());
    let expected: Vec<u32> = (1..600).step_by(2).chain(1000..1100).collect();
    assert_eq!(queues(&text(&registry)), expected);
    assert_eq!(queues(&openmetrics(&registry)), expected);
}

#[test]
fn a_filter_and_names_decide_what_is_shown() {
    let (registry, _) = everything();
    let families = |body: &str| -> Vec<String> {
        let name = |line: &str| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned());
        body.lines().filter_map(name).collect()
    };
    let asked = |query: &str| families(&body(&registry, &ScrapeRequest::new().query(query)));
    assert_eq!(asked("name[]=app_depth"), ["app_depth"]);
    assert_eq!(
        asked("name[]=app_depth&name[]=app_energy_joules_total"),
        ["app_depth", "app_energy_joules_total"]
    );
    assert_eq!(asked("name%5B%5D=app_wait_seconds_bucket"), ["app_wait_seconds"]);
    assert_eq!(asked("name[]=nothing"), [""; 0]);
    assert_eq!(asked("other=app_depth").len(), 8);

    let filter = Filter::new()
        .families(|family| family.name() != "app_depth")
        .series(|series| series.label("method") != Some("GET") && series.label("kind") != Some("minor"));
    for accept in [None, Some(OPENMETRICS)] {
        let body = body(&registry, &ScrapeRequest::new().accept(accept).filter(&filter));
        assert!(
            !body.contains("app_depth") && !body.contains("GET") && !body.contains("minor"),
            "{body}"
        );
        assert!(body.contains("major") && body.contains("path=\"ü\"") && body.contains("otel_metric_overflow"));
        assert_eq!(body.ends_with("# EOF\n"), accept.is_some());
    }
    let nothing = Filter::new().series(|_| false);
    let request = ScrapeRequest::new().filter(&nothing);
    assert_eq!(body(&registry, &request), "");
    assert_eq!(body(&registry, &request.accept(OPENMETRICS)), "# EOF\n");
}

#[test]
fn a_reply_says_what_it_is() {
    let (registry, _) = everything();
    let reply = registry.scrape(OPENMETRICS, None);
    assert_eq!(reply.status(), 200);
    assert_eq!(
        reply.content_type(),
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert_eq!(reply.content_encoding(), None);
    let headers: BTreeMap<_, _> = reply.headers().collect();
    assert_eq!(headers["Content-Type"], reply.content_type());
    assert!(headers["Vary"].contains("Accept") && headers["Vary"].contains("Accept-Encoding"));
    assert_eq!(
        registry.scrape("text/plain", None).content_type(),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    assert_eq!(
        registry.scrape("nonsense;;;q=7", "more nonsense").body(),
        text(&registry).as_bytes()
    );
}

#[cfg(feature = "gzip")]
#[test]
fn a_compressed_reply_is_the_same_when_it_is_unpacked() {
    use std::io::Read;
    let (registry, _) = everything();
    let reply = registry.scrape(None, "gzip, deflate");
    assert_eq!(reply.content_encoding(), Some("gzip"));
    assert!(reply.headers().any(|header| header == ("Content-Encoding", "gzip")));
    let mut unpacked = String::new();
    flate2::read::GzDecoder::new(reply.body())
        .read_to_string(&mut unpacked)
        .unwrap();
    assert_eq!(unpacked, text(&registry));
    for refused in [None, Some("identity"), Some("gzip;q=0"), Some("deflate")] {
        assert_eq!(registry.scrape(None, refused).content_encoding(), None, "{refused:?}");
    }
}

/// One sample line, read by the rules of the format.
#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: String,
}

/// Takes an escaped text up to `end` off the front. `quotes` says whether a quote may be escaped.
fn unescape(rest: &mut &str, end: char, quotes: bool) -> String {
    let mut text = String::new();
    let mut characters = rest.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => text.push(match characters.next().expect("an escape is not the last").1 {
                '\\' => '\\',
                'n' => '\n',
                '"' if quotes => '"',
                other => panic!("\\{other} is no escape"),
            }),
            _ if character == end => {
                *rest = &rest[at + character.len_utf8()..];
                return text;
            }
            _ => text.push(character),
        }
    }
    panic!("{text:?} has no end");
}

fn take<'a>(rest: &mut &'a str, until: &[char]) -> &'a str {
    let (taken, left) = rest.split_at(rest.find(until).expect("it goes on"));
    *rest = left;
    taken
}

/// Help texts by name, and samples in their order.
fn read(body: &str, is_openmetrics: bool) -> (BTreeMap<String, String>, Vec<Sample>) {
    let (mut helps, mut samples) = (BTreeMap::new(), Vec::new());
    let mut rest = body;
    while !rest.is_empty() {
        if let Some(help) = rest.strip_prefix("# HELP ") {
            rest = help;
            let name = take(&mut rest, &[' ']).to_owned();
            rest = &rest[1..];
            let help = unescape(&mut rest, '\n', is_openmetrics);
            assert!(helps.insert(name, help).is_none(), "help is there once");
        } else if rest.starts_with('#') {
            take(&mut rest, &['\n']);
            rest = &rest[1..];
        } else {
            let name = take(&mut rest, &['{', ' ']).to_owned();
            let mut labels = Vec::new();
            if let Some(inside) = rest.strip_prefix('{') {
                rest = inside;
                loop {
                    let label = take(&mut rest, &['=']).to_owned();
                    rest = rest.strip_prefix("=\"").expect("a value is quoted");
                    labels.push((label, unescape(&mut rest, '"', true)));
                    let ends = rest.starts_with('}');
                    rest = &rest[1..];
                    if ends {
                        break;
                    }
                }
            }
            rest = rest.strip_prefix(' ').expect("one blank before the value");
            let value = take(&mut rest, &['\n']).to_owned();
            rest = &rest[1..];
            samples.push(Sample { name, labels, value });
        }
    }
    (helps, samples)
}

fn number(text: &str) -> f64 {
    match text {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        number => number.parse().unwrap_or_else(|_| panic!("{number:?} is no number")),
    }
}

/// Any string, and many of those characters that mean something.
fn string() -> impl Strategy<Value = String> {
    let character = prop_oneof![
        4 => any::<char>(),
        1 => Just('\\'),
        1 => Just('"'),
        1 => Just('\n'),
        1 => Just('\r'),
        1 => Just('\0'),
        1 => Just('n'),
        1 => Just('{'),
        1 => Just('}'),
        1 => Just(','),
        1 => Just(' '),
    ];
    prop_oneof![
        8 => vec(character.clone(), 0..40),
        1 => vec(character, 100..400),
    ]
    .prop_map(|characters| characters.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_string_survives_as_help_and_label_value(
        help in string(), constant in string(), values in vec([string(), string()], 1..8),
    ) {
        prop_assume!(!help.trim().is_empty());
        let registry = Registry::builder().label("constant", constant.clone()).build().unwrap();
        let jobs = registry.counter("jobs", &help).labels(["a", "b"]).register().unwrap();
        let buckets = Buckets::explicit([1.0]).unwrap();
        let sizes = registry.histogram("size", &help).labels(["a", "b"]).buckets(buckets).register().unwrap();
        let mut expected = Vec::new();
        for labels in &values {
            jobs.with(labels).inc();
            sizes.with(labels).observe(0.5);
            let labels = [("constant", &constant), ("a", &labels[0]), ("b", &labels[1])];
            let labels = labels.map(|(name, value)| (name.to_owned(), value.clone())).to_vec();
            if !expected.contains(&labels) {
                expected.push(labels);
            }
        }
        for (body, is_openmetrics) in [(text(&registry), false), (openmetrics(&registry), true)] {
            let (helps, samples) = read(&body, is_openmetrics);
            prop_assert_eq!(helps.values().collect::<Vec<_>>(), [&help, &help]);
            for name in ["jobs_total", "size_count", "size_sum"] {
                let of_name = samples.iter().filter(|sample| sample.name == name);
                let labels: Vec<_> = of_name.map(|sample| sample.labels.clone()).collect();
                prop_assert_eq!(&labels, &expected);
            }
        }
    }

    #[test]
    fn every_float_survives(values in vec(any::<f64>(), 1..20)) {
        let registry = Registry::new();
        let levels = registry.gauge("level", "Level.").labels(["l"]).register().unwrap();
        for (at, value) in values.iter().enumerate() {
            levels.with((at,)).set(*value);
        }
        for (body, is_openmetrics) in [(text(&registry), false), (openmetrics(&registry), true)] {
            let (_, samples) = read(&body, is_openmetrics);
            for (sample, value) in samples.iter().zip(&values) {
                let read = number(&sample.value);
                prop_assert!(read.to_bits() == value.to_bits() || read.is_nan() && value.is_nan(), "{value} as {}", sample.value);
            }
            prop_assert_eq!(samples.len(), values.len());
        }
    }

    #[test]
    fn recorded_is_exported(
        operations in vec((0..5_usize, 0..6_usize, 0..6_usize, 0..100_u32), 0..200),
        pool in vec(string(), 6),
    ) {
        let registry = Registry::new();
        let bounds = [10.0, 50.0];
        let counters = registry.counter("a", "A.").labels(["x", "y"]).register().unwrap();
        let floats = registry.float_counter("b", "B.").labels(["x", "y"]).register().unwrap();
        let gauges = registry.gauge("c", "C.").labels(["x", "y"]).register().unwrap();
        let balances = registry.up_down_counter("d", "D.").labels(["x", "y"]).register().unwrap();
        let buckets = Buckets::explicit(bounds).unwrap();
        let sizes = registry.histogram("e", "E.").labels(["x", "y"]).buckets(buckets).register().unwrap();
        let mut model: BTreeMap<(String, Vec<(String, String)>), f64> = BTreeMap::new();
        for (which, x, y, amount) in operations {
            let (values, amount) = ([pool[x].as_str(), pool[y].as_str()], f64::from(amount));
            let labels = [("x".to_owned(), pool[x].clone()), ("y".to_owned(), pool[y].clone())];
            let mut add = |name: &str, le: Option<&str>, amount: f64| {
                let le = le.map(|le| ("le".to_owned(), le.to_owned()));
                let labels = labels.iter().cloned().chain(le).collect();
                *model.entry((name.to_owned(), labels)).or_default() += amount;
            };
            match which {
                0 => {
                    counters.with(values).add(amount as u64);
                    add("a_total", None, amount);
                }
                1 => {
                    floats.with(values).add(amount / 4.0);
                    add("b_total", None, amount / 4.0);
                }
                2 => {
                    gauges.with(values).sub(amount);
                    add("c", None, -amount);
                }
                3 => {
                    balances.with(values).add(20 - amount as i64);
                    add("d", None, 20.0 - amount);
                }
                _ => {
                    sizes.with(values).observe(amount);
                    for (bound, le) in [(bounds[0], "10.0"), (bounds[1], "50.0"), (f64::INFINITY, "+Inf")] {
                        add("e_bucket", Some(le), (amount <= bound) as u8 as f64);
                    }
                    add("e_sum", None, amount);
                    add("e_count", None, 1.0);
                }
            }
        }
        for (body, is_openmetrics) in [(text(&registry), false), (openmetrics(&registry), true)] {
            let (_, samples) = read(&body, is_openmetrics);
            let count = samples.len();
            let exported: BTreeMap<_, _> =
                samples.into_iter().map(|sample| ((sample.name, sample.labels), number(&sample.value))).collect();
            prop_assert_eq!(exported.len(), count, "no sample is there twice");
            prop_assert_eq!(&exported, &model);
        }
    }
}
