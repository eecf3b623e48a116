//! What is recorded: the instruments, and a sequence of events for each thread.
//!
//! All amounts are whole or multiples of 1/1024, so sums are exact in any order, and each gauge is set by one thread alone. So
//! it does not matter how threads take turns: the seed, and how many events each thread has had, determine all values.

use crate::{
    arguments::Arguments,
    pace::{Next, Pace},
    shape::{self, BOUNDS, Shape},
    stop::Stop,
    tally::{Tallied, Tally},
};
use std::error::Error;
use tidegauge::{Buckets, Counter, Family, FloatCounter, Gauge, Histogram, Registry, UpDownCounter};

pub struct Workload {
    /// By the number of the series.
    instruments: Vec<Instrument>,
}

enum Instrument {
    Counter(Counter),
    FloatCounter(FloatCounter),
    UpDownCounter(UpDownCounter),
    Gauge(Gauge),
    Histogram(Histogram),
}

impl Workload {
    /// Registers the families, and makes all of their series.
    pub fn register(registry: &Registry, series: u32) -> Result<Self, Box<dyn Error>> {
        let families = Families::register(registry, series as usize)?;
        Ok(Workload {
            instruments: (0..series).map(|number| families.instrument(number)).collect(),
        })
    }

    /// Records the events of one thread, until its time is over or somebody says stop. `elapsed` says how many seconds have
    /// passed.
    pub fn run(&self, thread: u32, arguments: &Arguments, elapsed: &dyn Fn() -> f64, stop: &Stop) -> Tally {
        let mut tally = Tally::new(arguments.series);
        let own = self.series_of(thread, arguments.threads);
        let mut random = Random::new(arguments.seed, thread);
        let mut pace = Pace::new(thread, arguments);
        while let Some(next) = pace.next(elapsed()) {
            let stopped = match next {
                Next::Record(events) => {
                    for _ in 0..events {
                        let series = own[(random.next() % own.len() as u64) as usize];
                        record(&self.instruments[series as usize], random.next(), tally.of(series));
                    }
                    stop.is_set()
                }
                Next::Wait(time) => stop.wait(time),
            };
            if stopped {
                break;
            }
        }
        tally
    }

    /// The series that a thread records in: all, but of the gauges only its own.
    fn series_of(&self, thread: u32, threads: u32) -> Vec<u32> {
        let series = (0..).zip(&self.instruments);
        let own = series.filter(|(number, instrument)| match instrument {
            Instrument::Gauge(_) => number % threads == thread,
            _ => true,
        });
        own.map(|(number, _)| number).collect()
    }
}

/// Records one event, and does with the tally what the instrument is expected to do.
fn record(instrument: &Instrument, random: u64, tallied: &mut Tallied) {
    match (instrument, tallied) {
        (Instrument::Counter(counter), Tallied::Count(count)) => {
            let amount = 1 + random % 4;
            counter.add(amount);
            *count += amount;
        }
        (Instrument::FloatCounter(counter), Tallied::Sum(sum)) => {
            let amount = parts(random % 4096);
            counter.add(amount);
            *sum += amount;
        }
        (Instrument::UpDownCounter(counter), Tallied::Level(level)) => {
            let amount = (random % 9) as i64 - 4;
            counter.add(amount);
            *level += amount;
        }
        (Instrument::Gauge(gauge), Tallied::Reading(reading)) => {
            let value = parts(random % 65_536) - 20.0;
            gauge.set(value);
            *reading = Some(value);
        }
        (Instrument::Histogram(histogram), Tallied::Distribution(distribution)) => {
            // Up to 16, the lower the more often.
            let value = parts((random % 16_384) >> (random >> 32).trailing_zeros());
            histogram.observe(value);
            distribution.counts[BOUNDS.iter().take_while(|bound| value > **bound).count()] += 1;
            distribution.sum += value;
        }
        _ => unreachable!("an instrument and its tally are of one kind"),
    }
}

/// So many parts of 1024.
fn parts(count: u64) -> f64 {
    count as f64 / 1024.0
}

struct Families {
    busy: Family<FloatCounter, 1>,
    calls: Family<Counter, 3>,
    connections: Family<UpDownCounter, 1>,
    events: Counter,
    latency: Family<Histogram, 1>,
    requests: Family<Counter, 1>,
    responses: Family<Counter, 2>,
    temperature: Family<Gauge, 1>,
}

impl Families {
    fn register(registry: &Registry, limit: usize) -> Result<Self, Box<dyn Error>> {
        let name = |shape: Shape| shape.describe().0;
        let help = |shape: Shape| shape.describe().2;
        let counter = |shape| registry.counter(name(shape), help(shape));
        Ok(Families {
            busy: registry
                .float_counter(name(Shape::Busy), help(Shape::Busy))
                .labels(["worker"])
                .limit(limit)
                .register()?,
            calls: counter(Shape::Calls)
                .labels(["caller", "callee", "outcome"])
                .limit(limit)
                .register()?,
            connections: registry
                .up_down_counter(name(Shape::Connections), help(Shape::Connections))
                .labels(["pool"])
                .limit(limit)
                .register()?,
            events: counter(Shape::Events).register()?,
            latency: registry
                .histogram(name(Shape::Latency), help(Shape::Latency))
                .buckets(Buckets::explicit(BOUNDS)?)
                .labels(["route"])
                .limit(limit)
                .register()?,
            requests: counter(Shape::Requests).labels(["route"]).limit(limit).register()?,
            responses: counter(Shape::Responses)
                .labels(["route", "status"])
                .limit(limit)
                .register()?,
            temperature: registry
                .gauge(name(Shape::Temperature), help(Shape::Temperature))
                .labels(["room"])
                .limit(limit)
                .register()?,
        })
    }

    /// Makes the series of a number.
    fn instrument(&self, number: u32) -> Instrument {
        let values = shape::values(number);
        let value = |at: usize| values[at].as_str();
        match Shape::of(number) {
            Shape::Busy => Instrument::FloatCounter(self.busy.handle([value(0)])),
            Shape::Calls => Instrument::Counter(self.calls.handle([value(0), value(1), value(2)])),
            Shape::Connections => Instrument::UpDownCounter(self.connections.handle([value(0)])),
            Shape::Events => Instrument::Counter(self.events.clone()),
            Shape::Latency => Instrument::Histogram(self.latency.handle([value(0)])),
            Shape::Requests => Instrument::Counter(self.requests.handle([value(0)])),
            Shape::Responses => Instrument::Counter(self.responses.handle([value(0), value(1)])),
            Shape::Temperature => Instrument::Gauge(self.temperature.handle([value(0)])),
        }
    }
}

/// Numbers that follow from a seed: a counter, its bits mixed until each depends on all.
struct Random(u64);

impl Random {
    fn new(seed: u64, thread: u32) -> Self {
        // Threads begin far apart.
        Random(mix(seed) ^ mix(!u64::from(thread)))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }
}

fn mix(mut bits: u64) -> u64 {
    for multiplier in [0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB] {
        bits = (bits ^ (bits >> 31)).wrapping_mul(multiplier);
    }
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::differences;

    fn arguments(threads: u32) -> Arguments {
        let words = format!("--threads {threads} --series 100 --seconds 1 --rate 20000");
        let arguments = Arguments::parse(words.split(' ').map(str::to_owned));
        arguments.expect("they are right").expect("no help is asked for")
    }

    /// Records what all threads would, one after the other, at the end of the second.
    fn run(threads: u32, order: impl Iterator<Item = u32>) -> (Registry, String) {
        let registry = Registry::new();
        let workload = Workload::register(&registry, 100).expect("the names are right");
        let mut tally = Tally::new(100);
        for thread in order {
            tally.merge(&workload.run(thread, &arguments(threads), &|| 1.0, &Stop::default()));
        }
        (registry, tally.to_openmetrics())
    }

    #[test]
    fn the_registry_has_what_the_tally_has() {
        let (registry, tally) = run(3, 0..3);
        let scrape = String::from_utf8(registry.scrape(None, None).into_body()).expect("it is text");
        assert_eq!(differences(&tally, &scrape), [""; 0]);
    }

    #[test]
    fn the_order_of_threads_does_not_matter_and_their_number_does() {
        assert_eq!(differences(&run(3, 0..3).1, &run(3, (0..3).rev()).1), [""; 0]);
        assert_ne!(run(3, 0..3).1, run(2, 0..2).1);
    }
}
