//! Statics, the global registry, and what stands in for it.

use log::{Level, LevelFilter, Log, Metadata, Record};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, Once, PoisonError},
    thread,
};
use tidegauge::{
    LazyCounter, LazyCounterFamily, LazyDistribution, LazyDistributionFamily, LazyFloatCounter, LazyFloatCounterFamily,
    LazyGauge, LazyGaugeFamily, LazyHistogram, LazyHistogramFamily, LazyIntGauge, LazyIntGaugeFamily,
    LazyUpDownCounter, LazyUpDownCounterFamily, Registry, global, set_global,
    testing::{assert_change, assert_value, value, with_global},
};

/// Tests in this file run one at a time: while one has a stand-in, another would take it for the global registry.
fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was logged, all errors since the first call.
fn errors() -> Vec<String> {
    static ERRORS: Mutex<Vec<String>> = Mutex::new(Vec::new());
    struct Errors;
    impl Log for Errors {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.level() == Level::Error
        }
        fn log(&self, record: &Record<'_>) {
            if self.enabled(record.metadata()) {
                ERRORS.lock().unwrap().push(record.args().to_string());
            }
        }
        fn flush(&self) {}
    }
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        log::set_logger(&Errors).expect("nobody else logs");
        log::set_max_level(LevelFilter::Error);
    });
    ERRORS.lock().unwrap().clone()
}

static COUNTER: LazyCounter = LazyCounter::new("jobs_total", "Jobs.");
static FLOAT: LazyFloatCounter = LazyFloatCounter::new("energy", "Energy.").unit("J");
static GAUGE: LazyGauge = LazyGauge::new("temperature", "Temperature.").unit("Cel");
static INTEGER: LazyIntGauge = LazyIntGauge::new("depth", "Depth.");
static BALANCE: LazyUpDownCounter = LazyUpDownCounter::new("in_flight", "In flight.");
static HISTOGRAM: LazyHistogram = LazyHistogram::new("wait_seconds", "Wait.").buckets(&[0.5, 1.0]);
static COUNTERS: LazyCounterFamily<2> = LazyCounterFamily::new("by_total", "By.", &["a", "b"]);
static FLOATS: LazyFloatCounterFamily<1> = LazyFloatCounterFamily::new("floats", "F.", &["a"]);
static GAUGES: LazyGaugeFamily<1> = LazyGaugeFamily::new("gauges", "G.", &["a"]);
static INTEGERS: LazyIntGaugeFamily<1> = LazyIntGaugeFamily::new("integers", "I.", &["a"]);
static BALANCES: LazyUpDownCounterFamily<1> = LazyUpDownCounterFamily::new("balances", "B.", &["a"]);
static HISTOGRAMS: LazyHistogramFamily<1> = LazyHistogramFamily::new("sizes", "S.", &["a"])
    .buckets(&[10.0])
    .unit("By");
static DISTRIBUTION: LazyDistribution = LazyDistribution::new("latency_seconds", "Latency.")
    .buckets(&[0.5])
    .samples(100);
static DISTRIBUTIONS: LazyDistributionFamily<1> = LazyDistributionFamily::new("lengths", "L.", &["a"])
    .buckets(&[1.0, 2.0])
    .samples(100)
    .unit("By");

#[test]
fn a_static_of_every_kind_is_used_as_what_it_stands_for() {
    let _alone = alone();
    with_global(|registry| {
        assert_eq!(
            registry.snapshot().families().count(),
            0,
            "nothing registers before its first use"
        );
        COUNTER.inc();
        FLOAT.add(1.5);
        GAUGE.set(-2.5);
        INTEGER.set(3);
        BALANCE.sub(4);
        HISTOGRAM.observe(0.75);
        COUNTERS.with(("x", 1)).add(5);
        FLOATS.with(["x"]).add(0.5);
        GAUGES.with(["x"]).set(6.0);
        INTEGERS.with(["x"]).dec();
        BALANCES.with(["x"]).inc();
        HISTOGRAMS.with(["x"]).observe_many(9.0, 7);
        DISTRIBUTION.observe(0.25);
        DISTRIBUTIONS.with(["x"]).observe(2.0);
        for (name, expected) in [
            ("jobs_total", 1.0),
            ("energy_joules_total", 1.5),
            ("temperature_celsius", -2.5),
            ("depth", 3.0),
            ("in_flight", -4.0),
            ("wait_seconds", 1.0),
            ("by_total", 5.0),
            ("floats_total", 0.5),
            ("gauges", 6.0),
            ("integers", -1.0),
            ("balances", 1.0),
            ("sizes_bytes", 7.0),
            ("latency_seconds", 1.0),
            ("lengths_bytes", 1.0),
        ] {
            assert_value(registry, name, [], expected);
        }
        assert_eq!(registry.snapshot().families().count(), 14);
        assert_eq!(HISTOGRAM.get().counts(), [0, 1, 0]);
        assert_eq!(HISTOGRAMS.with(["x"]).get().counts(), [7, 0]);
        assert_eq!(DISTRIBUTION.get().counts(), [1, 0]);
        assert_eq!(DISTRIBUTIONS.with(["x"]).get().counts(), [0, 1, 0]);
        // Whatever the instrument can do.
        let kept = COUNTERS.handle(["x", "1"]);
        kept.inc();
        assert!(COUNTERS.remove(["x", "1"]) && COUNTERS.is_empty());
        drop(BALANCE.track());
        HISTOGRAM.time(|| ());
        assert_eq!(COUNTER.clone().get(), 1);
    });
}

#[test]
fn each_stand_in_starts_from_nothing_and_nobody_else_sees_it() {
    let _alone = alone();
    for _ in 0..3 {
        with_global(|registry| {
            assert_eq!(value(registry, "jobs_total", []), None);
            COUNTER.add(2);
            COUNTERS.with(["x", "y"]).inc();
            assert_change(registry, "jobs_total", [], 1.0, || COUNTER.inc());
            assert_value(registry, "jobs_total", [], 3.0);
            assert_value(&global(), "by_total", [("a", "x")], 1.0);
        });
    }
}

#[test]
fn threads_that_start_under_a_stand_in_record_there() {
    let _alone = alone();
    with_global(|registry| {
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for number in 0..100 {
                        COUNTER.inc();
                        COUNTERS.with((number, "x")).inc();
                    }
                });
            }
        });
        assert_value(registry, "jobs_total", [], 800.0);
        assert_value(registry, "by_total", [("a", "99")], 8.0);
    });
}

#[test]
fn a_test_that_panics_gives_the_global_registry_back() {
    let _alone = alone();
    catch_unwind(AssertUnwindSafe(|| with_global(|_| panic!("in a test")))).unwrap_err();
    with_global(|registry| {
        COUNTER.inc();
        assert_value(registry, "jobs_total", [], 1.0);
    });
}

#[test]
fn a_static_can_be_registered_before_its_first_use() {
    let _alone = alone();
    static SHOWN: LazyCounter = LazyCounter::new("shown_total", "Shown from the start.");
    with_global(|registry| {
        SHOWN.register().unwrap();
        assert_value(registry, "shown_total", [], 0.0);
        SHOWN.register().unwrap();
        SHOWN.inc();
        assert_value(registry, "shown_total", [], 1.0);
    });
}

#[test]
fn two_statics_of_one_declaration_are_one_metric() {
    let _alone = alone();
    static ONE: LazyCounter = LazyCounter::new("common", "Common.");
    static OTHER: LazyCounter = LazyCounter::new("common_total", "Common.");
    with_global(|registry| {
        ONE.inc();
        OTHER.inc();
        assert_value(registry, "common_total", [], 2.0);
        assert_eq!(ONE.get(), 2);
    });
}

#[test]
fn a_clash_is_reported_once_and_recording_goes_on() {
    let _alone = alone();
    static FIRST: LazyCounter = LazyCounter::new("clashing_total", "The first.");
    static PLAIN: LazyGauge = LazyGauge::new("clashing", "Clashes with the first.");
    static LABELLED: LazyHistogramFamily<2> = LazyHistogramFamily::new("clashing", "Clashes too.", &["a", "b"]);
    let about = |errors: Vec<String>| errors.iter().filter(|error| error.contains("clashing")).count();
    with_global(|registry| {
        let before = about(errors());
        FIRST.inc();
        for number in 0..10 {
            PLAIN.set(5.0);
            LABELLED.with((number, "x")).observe(1.0);
        }
        assert_eq!(
            about(errors()) - before,
            2,
            "one report for each static: {:?}",
            errors()
        );
        assert_eq!(PLAIN.get(), 5.0, "it can be used as if nothing were");
        assert_eq!(LABELLED.len(), 10);
        assert_value(registry, "clashing_total", [], 1.0);
        assert_eq!(registry.snapshot().families().count(), 1);
        let error = PLAIN.register().unwrap_err();
        assert!(
            error.is_conflict() && error.to_string().contains("clashing_total"),
            "{error}"
        );
        assert_eq!(about(errors()) - before, 2, "what is returned is not reported");
    });
}

#[test]
fn what_cannot_be_registered_is_reported_and_recording_goes_on() {
    let _alone = alone();
    static NAME: LazyCounter = LazyCounter::new("9lives", "Lives.");
    static HELP: LazyGauge = LazyGauge::new("no_help", "");
    static UNIT: LazyIntGauge = LazyIntGauge::new("odd_unit", "Odd.").unit("{");
    static LABEL: LazyCounterFamily<1> = LazyCounterFamily::new("odd_label", "Odd.", &["le"]);
    static BOUNDS: LazyHistogram = LazyHistogram::new("odd_bounds", "Odd.").buckets(&[2.0, 1.0]);
    static NONE: LazyHistogramFamily<1> = LazyHistogramFamily::new("no_bounds", "None.", &["a"]).buckets(&[]);
    with_global(|registry| {
        let before = errors().len();
        for _ in 0..3 {
            NAME.inc();
            HELP.set(1.0);
            UNIT.inc();
            LABEL.with(["x"]).inc();
            BOUNDS.observe(1.0);
            NONE.with(["x"]).observe(1.0);
        }
        let reported = errors()[before..].join("\n");
        assert_eq!(errors().len() - before, 6, "{reported}");
        for mention in [
            "9lives",
            "help",
            "\"{\"",
            "\"le\"",
            "strictly increasing",
            "bucket boundaries: there must be",
        ] {
            assert!(reported.contains(mention), "{mention:?} is not in {reported}");
        }
        assert!(NAME.register().unwrap_err().is_invalid());
        assert_eq!(registry.snapshot().families().count(), 0);
    });
}

#[test]
fn the_global_registry_can_be_set_before_its_first_use_and_not_after() {
    let _alone = alone();
    static EARLY: LazyCounter = LazyCounter::new("early_total", "Used before and after.");
    let own = Registry::builder().prefix("app").build().unwrap();
    // A stand-in is not the global registry, nor does it put one in place.
    with_global(|registry| {
        EARLY.inc();
        assert_value(registry, "early_total", [], 1.0);
    });
    set_global(&own).expect("it was not used yet");
    let error = set_global(&Registry::new()).unwrap_err().to_string();
    assert!(error.contains("set_global") && error.contains("main"), "{error}");

    EARLY.add(5);
    assert_value(&own, "app_early_total", [], 5.0);
    assert_value(&global(), "app_early_total", [], 5.0);
    with_global(|registry| {
        EARLY.add(7);
        assert_value(registry, "early_total", [], 7.0);
    });
    EARLY.inc();
    assert_value(&own, "app_early_total", [], 6.0);
    assert!(set_global(&own).is_err());
}
