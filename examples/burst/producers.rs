//! Producers that run: so many exporters at once, each with a registry and two threads of its own, all pushing to one socket. Each push
//! is one packet. They stand for processes that are started at one moment, on many machines; as one machine needs longer
//! to start them, time begins for all of them when the last one is there. What they do not stand for: in one process each
//! collection adds up cells of all their threads, so that many hundreds of them hold each other up.

use crate::{arguments::Arguments, bins::Bins, ends, sink::Received, watched::Watched};
use std::{
    error::Error,
    sync::{Arc, Mutex, OnceLock},
    thread,
    time::{Duration, Instant, SystemTime},
};
use tidegauge::{Answer, Clock, Counter, Exporter, ExporterHandle, Registry};

pub struct Run {
    /// By when the exporters sent.
    pub bins: Bins,
    /// All that was sent, also outside of the time that was looked at.
    pub sent: u64,
    pub received: Received<()>,
}

/// Metrics of a producer, so many that they fit into a packet.
const COUNTERS: usize = 20;

/// How long an exporter may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

pub fn run(arguments: &Arguments, phase: bool, jitter: f64) -> Result<Run, Box<dyn Error>> {
    let sink = ends::receiver(arguments.reader)?;
    let until = arguments.interval * (arguments.intervals + 1);
    let noted = Arc::new(Mutex::new((Bins::new(arguments.interval, until), 0)));
    let clock = Together::default();
    let producers = (0..arguments.producers)
        .map(|_| {
            let (noted, now) = (noted.clone(), clock.clone());
            let destination = Watched::new(ends::statsd(sink.address())?, move |_| {
                let now = now.monotonic();
                if now >= until {
                    // The last push of all would be a burst of its own.
                    return Some(Answer::delivered());
                }
                let mut noted = noted.lock().expect("nobody panics with it");
                noted.0.add(now);
                noted.1 += 1;
                None
            });
            let exporter = ends::exporter(destination)
                .interval(arguments.interval)
                .phase(phase)
                .jitter(jitter);
            Producer::start(exporter, clock.clone())
        })
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    clock.start();

    // Every push has something new in it.
    while clock.monotonic() < until {
        producers
            .iter()
            .flat_map(|producer| &producer.counters)
            .for_each(Counter::inc);
        thread::sleep(arguments.interval / 4);
    }
    for producer in &producers {
        producer.exporter.shutdown(PATIENCE)?;
    }
    let received = sink.finish()?;
    drop(producers);
    let noted = Arc::into_inner(noted).expect("the exporters are gone, and with them what they noted in");
    let (bins, sent) = noted.into_inner().expect("nobody panics with it");
    Ok(Run { bins, sent, received })
}

struct Producer {
    counters: Vec<Counter>,
    exporter: ExporterHandle,
}

impl Producer {
    fn start(exporter: Exporter, clock: Together) -> Result<Self, Box<dyn Error>> {
        let registry = Registry::builder().clock(clock).build()?;
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

/// The time since all were started; until then none passes.
#[derive(Clone, Default)]
struct Together(Arc<OnceLock<Instant>>);

impl Together {
    fn start(&self) {
        self.0.set(Instant::now()).expect("they are started once");
    }
}

impl Clock for Together {
    fn monotonic(&self) -> Duration {
        self.0.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    fn unix(&self) -> Duration {
        SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
    }
}
