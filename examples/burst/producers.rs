//! Producers that run: so many exporters at once, each with a registry and two threads of its own, all pushing to one socket. Each push
//! is one packet.

use crate::{arguments::Arguments, bins::Bins, ends, sink::Received, watched::Watched};
use std::{
    error::Error,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};
use tidegauge::{Counter, Exporter, ExporterHandle, Registry};

pub struct Run {
    /// By when the exporters sent.
    pub bins: Bins,
    /// All that was sent, also outside of the time that was looked at.
    pub sent: u64,
    pub received: Received<()>,
    /// How long it took to start all of them.
    pub started_within: Duration,
}

/// Metrics of a producer, so many that they fit into a packet.
const COUNTERS: usize = 20;

pub fn run(arguments: &Arguments, phase: bool, jitter: f64) -> Result<Run, Box<dyn Error>> {
    let sink = ends::receiver(arguments.reader)?;
    let until = arguments.interval * (arguments.intervals + 1);
    let noted = Arc::new(Mutex::new((Bins::new(arguments.interval, until), 0)));
    let start = Instant::now();
    let producers = (0..arguments.producers)
        .map(|_| {
            let noted = noted.clone();
            let destination = Watched::new(ends::statsd(sink.address())?, move |_| {
                let mut noted = noted.lock().expect("nobody panics with it");
                noted.0.add(start.elapsed());
                noted.1 += 1;
                None
            });
            let exporter = ends::exporter(destination)
                .interval(arguments.interval)
                .phase(phase)
                .jitter(jitter);
            Producer::start(exporter)
        })
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    let started_within = start.elapsed();

    // Every push has something new in it.
    while start.elapsed() < until {
        producers
            .iter()
            .flat_map(|producer| &producer.counters)
            .for_each(Counter::inc);
        thread::sleep(arguments.interval / 4);
    }
    for producer in &producers {
        // A last push of all would be a burst of its own.
        let _ = producer.exporter.shutdown(Duration::ZERO);
    }
    drop(producers);
    let received = sink.finish()?;
    let Ok(noted) = Arc::try_unwrap(noted) else {
        return Err("an exporter is still there after it was shut down".into());
    };
    let (bins, sent) = noted.into_inner().expect("nobody panics with it");
    Ok(Run {
        bins,
        sent,
        received,
        started_within,
    })
}

struct Producer {
    counters: Vec<Counter>,
    exporter: ExporterHandle,
}

impl Producer {
    fn start(exporter: Exporter) -> Result<Self, Box<dyn Error>> {
        let registry = Registry::new();
        let jobs = registry
            .counter("burst.jobs", "Jobs done, by queue.")
            .labels(["queue"])
            .register()?;
        Ok(Producer {
            counters: (0..COUNTERS)
                .map(|queue| jobs.handle([format!("queue-{queue}")]))
                .collect(),
            exporter: exporter.start(&registry)?,
        })
    }
}
