//! The same 100,000 events on three ways: a UDP packet for each, pushed by the crate to a StatsD server, and scraped from it.
//!
//! For each way it prints what an event costs the thread that records it, what goes over the wire, and how many events arrive.
//! The receiver of packets is a thread that parses each line, behind a receive buffer as large as the system makes it.
//!
//! ```text
//! cargo run --release --example push_vs_pull -- [--events N] [--seconds S] [--interval-ms I] [--svg FILE]
//! ```
//!
//! The events come in a hundred bursts over S seconds (by default 10), and pushes and scrapes are I milliseconds apart (by default
//! 1000): the more events there are to an interval, the less bytes each takes on the ways that add up. The exit status is 1 unless
//! every event has arrived on both ways of the crate; what a packet an event loses is nobody's fault here.

mod events;
mod lines;
mod metrics;
mod naive;
mod pull;
mod push;

#[path = "../support/machine.rs"]
mod machine;
#[path = "../support/picture.rs"]
#[allow(dead_code)] // its columns are for other examples
mod picture;
#[path = "../support/sink.rs"]
mod sink;
#[path = "../support/watched.rs"]
mod watched;

use events::{BURSTS, Load};
use picture::{Bar, Picture, Tone, thousands};
use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
    time::Duration,
};

/// What became of all events on one way.
pub struct Outcome {
    name: &'static str,
    /// How long the thread that records was at it.
    busy: Duration,
    sent: Wire,
    received: Wire,
    /// Events.
    arrived: u64,
    remarks: Vec<String>,
}

/// What went over the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Wire {
    packets: u64,
    /// Without headers.
    bytes: u64,
    headers: u64,
}

/// Of IPv4 and UDP.
const DATAGRAM_HEADERS: u64 = 28;
/// Of IPv4 and TCP, with its timestamps.
const SEGMENT_HEADERS: u64 = 52;
/// What of a stream fits into a packet on Ethernet beside these.
const SEGMENT: u64 = 1448;

impl Wire {
    fn datagrams(packets: u64, bytes: u64) -> Self {
        Wire {
            packets,
            bytes,
            headers: packets * DATAGRAM_HEADERS,
        }
    }

    fn datagram(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
        self.headers += DATAGRAM_HEADERS;
    }

    /// One message of a stream.
    fn segments(&mut self, bytes: usize) {
        let segments = (bytes as u64).div_ceil(SEGMENT);
        self.packets += segments;
        self.bytes += bytes as u64;
        self.headers += segments * SEGMENT_HEADERS;
    }

    fn all_bytes(&self) -> u64 {
        self.bytes + self.headers
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("push_vs_pull: {error}");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("push_vs_pull: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let load = &arguments.load;
    let outcomes = [naive::run(load)?, push::run(load)?, pull::run(load)?];
    print(load, &outcomes);
    if let Some(path) = &arguments.svg {
        draw(load, &outcomes, path)?;
    }
    let [_, ours @ ..] = &outcomes;
    for outcome in ours {
        if outcome.arrived != u64::from(load.events) {
            return Err(format!(
                "{}: {} of {} events have arrived",
                outcome.name, outcome.arrived, load.events
            )
            .into());
        }
    }
    Ok(())
}

fn print(load: &Load, outcomes: &[Outcome]) {
    println!("{}", conditions(load));
    println!("{}.\n", machine::describe());
    println!(
        "{:<29}{:>10}{:>9}{:>12}{:>14}{:>10}{:>12}{:>10}",
        "", "ns/event", "packets", "bytes", "with headers", "packets", "bytes", "events"
    );
    println!(
        "{:<29}{:>10}{:>9}{:>12}{:>14}{:>10}{:>12}{:>10}",
        "", "to record", "sent", "sent", "sent", "received", "received", "arrived"
    );
    for outcome in outcomes {
        println!(
            "{:<29}{:>10.1}{:>9}{:>12}{:>14}{:>10}{:>12}{:>10}",
            outcome.name,
            outcome.nanoseconds(load),
            thousands(outcome.sent.packets),
            thousands(outcome.sent.bytes),
            thousands(outcome.sent.all_bytes()),
            thousands(outcome.received.packets),
            thousands(outcome.received.bytes),
            thousands(outcome.arrived),
        );
    }
    println!();
    for remark in outcomes.iter().flat_map(|outcome| &outcome.remarks) {
        println!("{remark}");
    }
}

fn draw(load: &Load, outcomes: &[Outcome], path: &Path) -> Result<(), Box<dyn Error>> {
    let mut picture = Picture::new("One packet an event, push, and pull");
    let mut bars = |title: &str, value: fn(&Outcome, &Load) -> f64, text: fn(f64) -> String| {
        let bars: Vec<Bar> = (0..)
            .zip(outcomes)
            .map(|(at, outcome)| {
                let value = value(outcome, load);
                Bar {
                    label: outcome.name.to_owned(),
                    value,
                    text: text(value),
                    tone: if at == 0 { Tone::Plain } else { Tone::Ours },
                }
            })
            .collect();
        picture.bars(title, &bars);
    };
    let whole = |value: f64| thousands(value as u64);
    bars(
        "An event costs the thread that records it",
        Outcome::nanoseconds,
        |value| format!("{} ns", thousands(value.round() as u64)),
    );
    bars("Packets sent", |outcome, _| outcome.sent.packets as f64, whole);
    bars(
        "Bytes sent, with IP headers",
        |outcome, _| outcome.sent.all_bytes() as f64,
        whole,
    );
    bars("Events that arrived", |outcome, _| outcome.arrived as f64, whole);
    picture.caption(&conditions(load));
    picture.caption(
        "Pushed: what the exporter says of itself is in it. Labels are looked up for each event on the lower two.",
    );
    picture.caption("Scraped: requests and replies (gzip), as segments of 1,448 bytes, without acknowledgements.");
    picture.caption(&format!(
        "Over loopback; {}; tidegauge {}.",
        machine::describe(),
        env!("CARGO_PKG_VERSION")
    ));
    Ok(picture.save(path)?)
}

fn conditions(load: &Load) -> String {
    format!(
        "{} events in {BURSTS} bursts over {:?}; pushed, or scraped, every {:?}.",
        thousands(load.events.into()),
        load.over,
        load.interval
    )
}

impl Outcome {
    fn nanoseconds(&self, load: &Load) -> f64 {
        self.busy.as_nanos() as f64 / f64::from(load.events.max(1))
    }
}

struct Arguments {
    load: Load,
    svg: Option<PathBuf>,
}

impl Arguments {
    fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Arguments {
            load: Load {
                events: 100_000,
                over: Duration::from_secs(10),
                interval: Duration::from_secs(1),
            },
            svg: None,
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word}: needs a value behind it"));
            match word.as_str() {
                "--events" => arguments.load.events = number(&word, &value()?)?,
                "--seconds" => arguments.load.over = Duration::from_secs(number::<u32>(&word, &value()?)?.into()),
                "--interval-ms" => {
                    arguments.load.interval = Duration::from_millis(number::<u32>(&word, &value()?)?.max(1).into());
                }
                "--svg" => arguments.svg = Some(value()?.into()),
                _ => {
                    return Err(format!(
                        "{word}: there is no such flag; the example's first lines show all"
                    ));
                }
            }
        }
        Ok(arguments)
    }
}

fn number<T: FromStr>(flag: &str, value: &str) -> Result<T, String> {
    let number = value.parse();
    number.map_err(|_| format!("{flag}: {value:?} is not a whole number that fits; give one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_a_stream_fills_segments() {
        let mut wire = Wire::default();
        wire.segments(100);
        wire.segments(1448);
        wire.segments(1449);
        assert_eq!((wire.packets, wire.bytes, wire.all_bytes()), (4, 2997, 2997 + 4 * 52));
    }
}
