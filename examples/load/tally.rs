//! What was recorded, counted apart from the crate, and how it is told.

use crate::shape::{self, BOUNDS, Shape};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

/// The values of all series, by number.
pub struct Tally(Vec<Tallied>);

/// The value of one series.
#[derive(Clone, Debug, PartialEq)]
pub enum Tallied {
    Count(u64),
    Sum(f64),
    Level(i64),
    /// None if it was not set.
    Reading(Option<f64>),
    Distribution(Box<Distribution>),
}

/// How many observations were in each bucket, the last one without a bound, and what all add up to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    pub counts: [u64; BOUNDS.len() + 1],
    pub sum: f64,
}

impl Tallied {
    fn new(shape: Shape) -> Self {
        match shape {
            Shape::Calls | Shape::Events | Shape::Requests | Shape::Responses => Tallied::Count(0),
            Shape::Busy => Tallied::Sum(0.0),
            Shape::Connections => Tallied::Level(0),
            Shape::Temperature => Tallied::Reading(None),
            Shape::Latency => Tallied::Distribution(Box::default()),
        }
    }

    fn merge(&mut self, other: &Tallied) {
        match (self, other) {
            (Tallied::Count(count), Tallied::Count(more)) => *count += more,
            (Tallied::Sum(sum), Tallied::Sum(more)) => *sum += more,
            (Tallied::Level(level), Tallied::Level(more)) => *level += more,
            // One thread alone has set it.
            (Tallied::Reading(reading), Tallied::Reading(other)) => *reading = other.or(*reading),
            (Tallied::Distribution(total), Tallied::Distribution(other)) => {
                let counts = total.counts.iter_mut().zip(other.counts);
                counts.for_each(|(count, more)| *count += more);
                total.sum += other.sum;
            }
            _ => unreachable!("the tallies of a series are of one kind"),
        }
    }
}

impl Tally {
    /// Of so many series in which nothing has been recorded.
    pub fn new(series: u32) -> Self {
        Tally((0..series).map(|number| Tallied::new(Shape::of(number))).collect())
    }

    pub fn of(&mut self, number: u32) -> &mut Tallied {
        &mut self.0[number as usize]
    }

    /// Adds that of another thread.
    pub fn merge(&mut self, other: &Tally) {
        for (tallied, other) in self.0.iter_mut().zip(&other.0) {
            tallied.merge(other);
        }
    }

    /// As <https://prometheus.io/docs/specs/om/open_metrics_spec/> has it.
    pub fn to_openmetrics(&self) -> String {
        let mut text = String::new();
        for shape in Shape::ALL {
            let (name, kind, help) = shape.describe();
            let values = (0..).zip(&self.0);
            let mut series = values.filter(|(number, _)| Shape::of(*number) == shape).peekable();
            if series.peek().is_some() {
                text += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
            }
            for (number, tallied) in series {
                write(&mut text, number, tallied);
            }
        }
        text + "# EOF\n"
    }
}

/// Writes the samples of a series.
fn write(text: &mut String, number: u32, tallied: &Tallied) {
    let shape = Shape::of(number);
    let (name, ..) = shape.describe();
    let labels = shape.labels().iter().zip(shape::values(number));
    let labels: Vec<String> = labels.map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    let mut sample = |suffix: &str, bound: Option<String>, value: String| {
        let labels: Vec<String> = labels.iter().cloned().chain(bound).collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        writeln!(text, "{name}{suffix}{labels} {value}").expect("a string takes everything");
    };
    match tallied {
        Tallied::Count(count) => sample("_total", None, count.to_string()),
        Tallied::Sum(sum) => sample("_total", None, sum.to_string()),
        Tallied::Level(level) => sample("", None, level.to_string()),
        Tallied::Reading(reading) => sample("", None, reading.unwrap_or(0.0).to_string()),
        Tallied::Distribution(distribution) => {
            let Distribution { counts, sum } = &**distribution;
            let bounds = BOUNDS
                .iter()
                .map(|bound| format!("{bound:?}"))
                .chain(["+Inf".to_owned()]);
            let mut count = 0;
            for (bound, of_bucket) in bounds.zip(counts) {
                count += of_bucket;
                sample("_bucket", Some(format!("le=\"{bound}\"")), count.to_string());
            }
            sample("_count", None, count.to_string());
            sample("_sum", None, sum.to_string());
        }
    }
}

/// The samples in which the tally and what a registry shows differ; of the latter, those that the tally is about.
pub fn differences(tally: &str, scrape: &str) -> Vec<String> {
    let (tallied, mut scraped) = (samples(tally), samples(scrape));
    scraped.retain(|name, _| name.starts_with("load_"));
    let names: BTreeSet<&String> = tallied.keys().chain(scraped.keys()).collect();
    let show = |value: Option<&f64>| value.map_or("nothing".to_owned(), f64::to_string);
    let mut differences = Vec::new();
    for name in names {
        let (tallied, scraped) = (tallied.get(name), scraped.get(name));
        if tallied.is_none() || tallied != scraped {
            differences.push(format!("{name}: {} recorded, {} scraped", show(tallied), show(scraped)));
        }
    }
    differences
}

/// The samples of a text, in either format, by their names and labels as they stand there.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let samples = lines.filter_map(|line| line.rsplit_once(' '));
    samples
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap_or(f64::NAN)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_in_openmetrics() {
        let mut tally = Tally::new(3);
        *tally.of(0) = Tallied::Count(7);
        *tally.of(2) = Tallied::Distribution(Box::new(Distribution {
            counts: [1, 0, 2, 0, 0, 0, 0, 0, 3],
            sum: 40.5,
        }));
        let expected = "\
# HELP load_events Events.
# TYPE load_events counter
load_events_total 7
# HELP load_latency_seconds Time to answer, by route.
# TYPE load_latency_seconds histogram
load_latency_seconds_bucket{route=\"/route/0\",le=\"0.0625\"} 1
load_latency_seconds_bucket{route=\"/route/0\",le=\"0.125\"} 1
load_latency_seconds_bucket{route=\"/route/0\",le=\"0.25\"} 3
load_latency_seconds_bucket{route=\"/route/0\",le=\"0.5\"} 3
load_latency_seconds_bucket{route=\"/route/0\",le=\"1.5\"} 3
load_latency_seconds_bucket{route=\"/route/0\",le=\"2.5\"} 3
load_latency_seconds_bucket{route=\"/route/0\",le=\"4.5\"} 3
load_latency_seconds_bucket{route=\"/route/0\",le=\"8.5\"} 3
load_latency_seconds_bucket{route=\"/route/0\",le=\"+Inf\"} 6
load_latency_seconds_count{route=\"/route/0\"} 6
load_latency_seconds_sum{route=\"/route/0\"} 40.5
# HELP load_requests Requests, by route.
# TYPE load_requests counter
load_requests_total{route=\"/route/0\"} 0
# EOF
";
        assert_eq!(tally.to_openmetrics(), expected);
    }

    #[test]
    fn tallies_of_threads_add_up() {
        let mut total = Tally::new(8);
        for thread in 0..2 {
            let mut tally = Tally::new(8);
            *tally.of(0) = Tallied::Count(2);
            *tally.of(2) = Tallied::Distribution(Box::new(Distribution {
                counts: [1; 9],
                sum: 0.5,
            }));
            *tally.of(4) = Tallied::Level(-3);
            if thread == 0 {
                *tally.of(6) = Tallied::Reading(Some(4.5));
            }
            *tally.of(7) = Tallied::Sum(0.25);
            total.merge(&tally);
        }
        let told = samples(&total.to_openmetrics());
        assert_eq!(told["load_events_total"], 4.0);
        assert_eq!(told["load_latency_seconds_count{route=\"/route/0\"}"], 18.0);
        assert_eq!(told["load_latency_seconds_sum{route=\"/route/0\"}"], 1.0);
        assert_eq!(told["load_connections{pool=\"pool-0\"}"], -6.0);
        assert_eq!(told["load_temperature_celsius{room=\"room-0\"}"], 4.5);
        assert_eq!(told["load_busy_seconds_total{worker=\"worker-0\"}"], 0.5);
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        let tally = "load_a_total 1\nload_b 2\nload_c 0\n# EOF\n";
        assert!(differences(tally, "# HELP x y\nload_a_total 1\nload_b 2.0\nload_c 0\nother 3\n").is_empty());
        for (scrape, named) in [
            ("load_a_total 1\nload_b 3\nload_c 0\n", "load_b: 2 recorded, 3 scraped"),
            ("load_a_total 1\nload_b 2\n", "load_c: 0 recorded, nothing scraped"),
            (
                "load_a_total 1\nload_b 2\nload_c 0\nload_d 1\n",
                "load_d: nothing recorded, 1 scraped",
            ),
            (
                "load_a_total NaN\nload_b 2\nload_c 0\n",
                "load_a_total: 1 recorded, NaN scraped",
            ),
        ] {
            assert_eq!(differences(tally, scrape), [named]);
        }
    }
}
