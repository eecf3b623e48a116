//! tidegauge against its peers: the same workloads, one process, one run.
//!
//! ```text
//! cargo run --release -- [--quick] [--only NAME]
//! ```
//!
//! Prints comment lines on the machine and the versions, then one tab-separated row a measurement
//! (`workload`, `threads`, `library`, `ns_per_op`; where the value is not nanoseconds, the
//! workload's name says what it is), then rows of ratios (`ratio`, workload, threads, our value
//! divided by the best peer's, that peer's name). Smaller is better throughout.
//!
//! A row is the best of five rounds (three with `--quick`), and the rounds go from library to
//! library, so that drift of the machine meets all of them alike. Every workload reads back what it
//! recorded and ends the process if that is not what the library holds. `--only` keeps the
//! workloads whose names contain NAME. `--quick` ends within a minute on two cores.
//!
//! Reading order: `library` (what takes part must do), `peer` (how each peer is driven), `ours`,
//! `data` (what they are fed), `measure` (rounds and clocks), `workload` (what is measured),
//! `report` (rows and ratios), `server` (where StatsD goes).

mod allocator;
mod clock;
mod data;
mod environment;
mod exposition;
mod library;
mod measure;
#[cfg(feature = "ours")]
mod ours;
mod peer;
mod report;
mod server;
mod workload;

use library::Library;
use measure::Plan;
use report::Report;
use std::process::ExitCode;
use workload::{crowd, export, insert, memory, outage, record, scrape, slowdown, statsd};

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(complaint) => {
            eprintln!("{complaint}\nusage: tidegauge-peers [--quick] [--only NAME]");
            return ExitCode::from(2);
        }
    };
    let plan = if options.quick { Plan::QUICK } else { Plan::FULL };
    environment::print(options.quick);
    workload::prepare();
    println!("workload\tthreads\tlibrary\tns_per_op");

    let libraries = libraries();
    let mut report = Report::default();
    for name in record::names() {
        if options.wants(name) {
            record::run(name, &libraries, plan, &mut report);
        }
    }
    if options.wants("counter_inc_512_threads") {
        crowd::time(&libraries, plan, &mut report);
    }
    if options.wants("counter_inc_bytes_per_thread") {
        crowd::memory(&libraries, &mut report);
    }
    for series in scrape::SIZES {
        if options.wants(&format!("scrape_text_{series} allocations_scrape snapshot encode")) {
            scrape::run(series, &libraries, plan, &mut report);
        }
    }
    for series in scrape::SIZES {
        if options.wants(&format!("otlp_encode_{series} allocations_otlp_encode otlp_bytes")) {
            export::run(series, &libraries, plan, &mut report);
        }
    }
    if options.wants(&format!("otlp_encode_delta_{}", export::DELTA)) {
        export::delta(&libraries, plan, &mut report);
    }
    if options.wants("counter_inc_beside_hanging_exporter counter_inc_without_exporter") {
        outage::time(&libraries, plan, &mut report);
    }
    if options.wants("export_memory_bytes_while_down") {
        outage::memory(&libraries, &mut report);
    }
    if options.wants("bytes_per_series_per_thread") {
        memory::run(&libraries, &mut report);
    }
    if options.wants("bytes_per_series_unique") {
        memory::unique(&libraries, &mut report);
    }
    if options.wants("worst_insert_1m mean_insert_1m") {
        insert::run(&libraries, plan, &mut report);
    }
    if options.wants("writer_slowdown_percent") {
        slowdown::run(&libraries, plan, &mut report);
    }
    // Last, as a peer's thread here runs as long as the process.
    if options.wants("statsd_counter_inc") {
        statsd::count(&libraries, plan, &mut report);
    }
    if options.wants(&format!(
        "statsd_encode_{0} statsd_packets_{0} statsd_bytes_{0}",
        statsd::SERIES
    )) {
        statsd::encode(&libraries, plan, &mut report);
    }
    if options.wants(&format!("statsd_push_on_core_{}", statsd::SERIES)) {
        statsd::push(&libraries, plan, &mut report);
    }
    report.print_ratios();
    ExitCode::SUCCESS
}

/// Everybody who takes part, we first.
fn libraries() -> Vec<Library> {
    let mut libraries = Vec::new();
    #[cfg(feature = "ours")]
    libraries.push(ours::LIBRARY);
    libraries.extend(peer::ALL);
    libraries
}

struct Options {
    quick: bool,
    only: Option<String>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            quick: false,
            only: None,
        };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--only" => {
                    let name = arguments.next();
                    options.only = Some(name.ok_or("--only needs the name of a workload")?);
                }
                // What `cargo bench` adds.
                "--bench" => {}
                other => return Err(format!("{other:?} is not an option")),
            }
        }
        Ok(options)
    }

    fn wants(&self, workloads: &str) -> bool {
        self.only.as_ref().is_none_or(|only| workloads.contains(only.as_str()))
    }
}
