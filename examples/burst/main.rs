//! Many producers with one interval: what a server gets in each tenth of a second, with the crate's phase and jitter and without.
//!
//! Three parts: 1,400 producers as the exporter's own schedule places them, computed; some hundred exporters that really run against one
//! UDP socket, whose reader takes its time over each packet; and one exporter whose collection is 20,000 packets, paced by it
//! and sent all at once. Of the packets that the socket's receive buffer had no room for the system has the count.
//!
//! ```text
//! cargo run --release --example burst
//! cargo run --release --example burst -- --producers 100 --interval-ms 1000 --packets 2000
//! ```
//!
//! The first takes two minutes. The exit status is 1 if packets are neither received nor counted as dropped, if the producers
//! are not spread, or if pacing loses more than sending at once.

mod arguments;
mod bins;
mod ends;
mod large;
mod producers;
mod simulation;

#[path = "../support/machine.rs"]
mod machine;
#[path = "../support/picture.rs"]
mod picture;
#[path = "../support/sink.rs"]
mod sink;
#[path = "../support/watched.rs"]
mod watched;

use arguments::Arguments;
use bins::{Bins, WIDTH};
use picture::{Bar, Picture, Tone, thousands};
use sink::Received;
use std::{error::Error, path::Path, process::ExitCode};

/// The exporter's defaults, and what there is without them.
const SPREAD: (bool, f64) = (true, 0.1);
const TOGETHER: (bool, f64) = (false, 0.0);

/// If chance alone spreads producers, no bin has more times the mean than this, where that is at least so much: 14 is what 1,400 of
/// them make in ten seconds, and 50 are nearly ten standard deviations away.
const MOST_RATIO: f64 = 3.6;
const LEAST_MEAN: f64 = 13.0;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{}", arguments::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("burst: {error}");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("burst: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    println!("{}.\n", machine::describe());
    let [together, spread] = [TOGETHER, SPREAD];
    let simulated = [
        simulation::run(arguments, together.0, together.1),
        simulation::run(arguments, spread.0, spread.1),
    ];
    println!(
        "{} producers computed, {:?} interval, packets in each {WIDTH:?}:",
        thousands(arguments.simulated),
        arguments.interval
    );
    println!("  together           {}", simulated[0].summary());
    println!("  phase and jitter   {}", simulated[1].summary());

    println!(
        "\n{} exporters running, {:?} interval, a reader that takes {:?} a packet:",
        arguments.producers, arguments.interval, arguments.reader
    );
    let run = |name: &str, (phase, jitter)| {
        let run = producers::run(arguments, phase, jitter)?;
        println!("  {name:<18} {}", run.bins.summary());
        println!(
            "  {:<18} {} sent, {} received; {}",
            "",
            thousands(run.sent),
            thousands(run.received.packets),
            run.received.losses()
        );
        accounted(name, run.sent, &run.received)?;
        Ok::<_, Box<dyn Error>>(run)
    };
    let running = [run("together", together)?, run("phase and jitter", spread)?];

    println!("\nOne exporter with thousands of packets in one collection, the same reader:");
    let large = [
        ("at once", large::at_once(arguments)?),
        ("paced", large::paced(arguments)?),
    ];
    for (name, run) in &large {
        println!(
            "  {name:<18} {} sent within {:.2?}, {} received; {}",
            thousands(run.sent),
            run.taken,
            thousands(run.received.packets),
            run.received.losses()
        );
        accounted(name, run.sent, &run.received)?;
    }
    if let Some(path) = &arguments.svg {
        draw(arguments, &simulated, &running, &large, path)?;
    }

    let summary = simulated[1].summary();
    if summary.mean >= LEAST_MEAN && summary.ratio() > MOST_RATIO {
        return Err(format!("phase and jitter do not spread producers: {summary}").into());
    }
    let lost = |run: &large::Run| run.sent - run.received.packets;
    if lost(&large[1].1) > lost(&large[0].1) {
        return Err("paced packets were lost more often than those that were sent at once".into());
    }
    Ok(())
}

/// Every packet was received, or the system says that it had no room for it.
fn accounted(name: &str, sent: u64, received: &Received<()>) -> Result<(), String> {
    match received.dropped {
        Some(dropped) if received.packets + dropped != sent => Err(format!(
            "{name}: {sent} packets were sent, but {} received and {dropped} dropped",
            received.packets
        )),
        _ => Ok(()),
    }
}

fn draw(
    arguments: &Arguments,
    simulated: &[Bins; 2],
    running: &[producers::Run; 2],
    large: &[(&str, large::Run); 2],
    path: &Path,
) -> Result<(), Box<dyn Error>> {
    let mut picture = Picture::new("What a server gets when many producers push at one interval");
    let how = ["started together", "random phase and jitter (tidegauge)"];
    let tones = [Tone::Plain, Tone::Ours];
    let mut pair = |who: &str, pair: [&Bins; 2], remarks: [String; 2]| {
        let most = pair.iter().map(|bins| bins.summary().peak).max().unwrap_or(0);
        for (at, bins) in pair.into_iter().enumerate() {
            let title = format!("{who}, {}", how[at]);
            let note = format!("packets in each {WIDTH:?}: {}{}", bins.summary(), remarks[at]);
            picture.columns(&title, &note, bins.counts(), WIDTH.as_secs_f64(), most, tones[at]);
        }
    };
    let who = format!("{} producers, computed", thousands(arguments.simulated));
    pair(&who, simulated.each_ref(), Default::default());
    let who = format!("{} exporters, running", arguments.producers);
    let lost = running.each_ref().map(|run| {
        let lost = run.sent - run.received.packets;
        format!("; {} of {} lost", thousands(lost), thousands(run.sent))
    });
    pair(&who, running.each_ref().map(|run| &run.bins), lost);
    let bars: Vec<Bar> = large
        .iter()
        .zip(tones)
        .map(|((name, run), tone)| Bar {
            label: format!("{name}, in {:.1?}", run.taken),
            value: run.received.packets as f64,
            text: format!(
                "{} of {} ({} lost)",
                thousands(run.received.packets),
                thousands(run.sent),
                thousands(run.sent - run.received.packets)
            ),
            tone,
        })
        .collect();
    picture.bars("One exporter, all packets of one collection: received", &bars);
    picture.caption(&format!(
        "Interval {:?}; the reader takes {:?} a packet and has the system's default receive buffer.",
        arguments.interval, arguments.reader
    ));
    picture.caption(&format!(
        "Over loopback; {}; tidegauge {}.",
        machine::describe(),
        env!("CARGO_PKG_VERSION")
    ));
    Ok(picture.save(path)?)
}
