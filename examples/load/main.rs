//! A seeded load on any number of receivers at once, and the truth to compare them with.
//!
//! It records counters, up-down counters, gauges and histograms from several threads, pushes them to every URL that it is given,
//! and keeps a tally of its own, outside the crate. At the end it prints the tally on standard output, as OpenMetrics text,
//! and on standard error a line for each exporter. A receiver that lost nothing has what the tally says. If standard output is one
//! of the receivers, `emf+stdout:`, the tally is on standard error too, behind these lines.
//!
//! ```text
//! cargo run --release --example load -- --seconds 5 --rate 10000 otlp+http://127.0.0.1:4318
//! cargo run --release --example load -- --help
//! ```
//!
//! Ctrl-c, or SIGTERM, ends it early in the same way; once more, and it ends without the last push. The exit status is 0 if the
//! registry's own scrape says what the tally says, however much the receivers have taken; 1 if not; and 2 if a flag or a URL
//! cannot be read.

mod arguments;
mod pace;
mod shape;
mod stop;
mod tally;
mod targets;
mod workload;

#[path = "../support/logger.rs"]
mod logger;

use arguments::Arguments;
use std::{
    error::Error,
    io::{self, Write},
    process::{self, ExitCode},
    thread,
    time::{Duration, Instant},
};
use stop::Stop;
use tally::Tally;
use tidegauge::{Exporter, ExporterHandle, Registry, Spool};
use workload::Workload;

/// How long the last push may take.
const LAST_PUSH: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    logger::start();
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{}", arguments::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("load: {error}");
            return ExitCode::from(2);
        }
    };
    let exporters = arguments.urls.iter().map(|url| targets::exporter(url, arguments.delta));
    let exporters = match exporters.collect::<Result<Vec<_>, _>>() {
        Ok(exporters) => exporters,
        Err(error) => {
            eprintln!("load: {error}");
            return ExitCode::from(2);
        }
    };
    match run(&arguments, exporters) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, exporters: Vec<Exporter>) -> Result<(), Box<dyn Error>> {
    let stop = Stop::default();
    let signalled = stop.clone();
    ctrlc::set_handler(move || {
        if signalled.set() {
            process::exit(130);
        }
    })?;
    let registry = Registry::new();
    let workload = Workload::register(&registry, arguments.series)?;
    let server = match &arguments.serve {
        Some(address) => Some(tidegauge::serve(address, &registry)?),
        None => None,
    };
    if let Some(url) = server.as_ref().and_then(|server| server.url()) {
        eprintln!("{url}");
    }
    let exporters = exporters
        .into_iter()
        .map(|exporter| {
            let exporter = exporter.interval(arguments.interval);
            match &arguments.spool {
                Some(directory) => exporter.spool(Spool::new(directory)).start(&registry),
                None => exporter.start(&registry),
            }
        })
        .collect::<Result<Vec<_>, _>>()?;

    let tally = record(arguments, &workload, &stop);

    for report in push_last(&exporters) {
        eprintln!("{report}");
    }
    let text = tally.to_openmetrics();
    match arguments.urls.iter().any(|url| targets::takes_stdout(url)) {
        true => io::stderr().lock().write_all(text.as_bytes())?,
        false => io::stdout().lock().write_all(text.as_bytes())?,
    }
    let scrape = registry.scrape(None, None).into_body();
    let differences = tally::differences(&text, &String::from_utf8(scrape)?);
    if let Some(server) = server {
        server.stop();
    }
    match differences.as_slice() {
        [] => Ok(()),
        [first, ..] => Err(format!(
            "the registry's own scrape and the tally differ in {} samples, the first: {first}",
            differences.len()
        )
        .into()),
    }
}

/// Records from all threads until the time is over, and adds their tallies up.
fn record(arguments: &Arguments, workload: &Workload, stop: &Stop) -> Tally {
    let start = Instant::now();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..arguments.threads)
            .map(|thread| scope.spawn(move || workload.run(thread, arguments, &|| start.elapsed().as_secs_f64(), stop)))
            .collect();
        let mut total = Tally::new(arguments.series);
        for thread in threads {
            total.merge(&thread.join().expect("recording does not panic"));
        }
        total
    })
}

/// Shuts all exporters down, at once, so that one that hangs takes no time from the others. A line for each.
fn push_last(exporters: &[ExporterHandle]) -> Vec<String> {
    thread::scope(|scope| {
        let pushing: Vec<_> = exporters
            .iter()
            .map(|exporter| scope.spawn(|| targets::push_last(exporter, LAST_PUSH)))
            .collect();
        let reports = pushing.into_iter();
        reports
            .map(|report| report.join().expect("a shutdown does not panic"))
            .collect()
    })
}
