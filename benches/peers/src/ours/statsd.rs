//! Pushing to StatsD: an [`Exporter`] with [`StatsD`].

use super::Families;
use super::export::Exported;
use crate::data::Labels;
use crate::library::{Export, Fill, Push, Record, Total, recording};
use crate::server::Server;
use crate::workload::statsd::{INTERVAL, await_silence};
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidegauge::{
    Answer, Destination, Exporter, ExporterHandle, FamilySnapshot, Filter, Payload, Points, Preferences, Registry,
    StatsD, Temporality,
};

/// A counter whose exporter runs.
pub fn counter_inc() -> Box<dyn Record> {
    let registry = Registry::new();
    let counter = registry
        .counter("jobs_total", "Jobs run.")
        .register()
        .expect("the name is valid and free");
    let server = Server::start();
    let exporter = start(&registry, statsd(server.address()));
    recording(
        (counter, server, exporter),
        |(counter, ..), lane| lane.repeat(|| black_box(counter).inc()),
        |(counter, server, _)| {
            assert_eq!(await_silence(server), counter.get(), "what the server has heard");
            Total::count(counter.get())
        },
    )
}

/// A registry that is encoded as packets when it is told to.
pub fn encode(series: usize) -> Box<dyn Export> {
    // Longer than the benchmark runs.
    const NEVER: Duration = Duration::from_secs(86_400);
    let families = Families::new(series);
    let kept = Arc::default();
    let destination = Takes {
        statsd: statsd(SocketAddr::from(([127, 0, 0, 1], 8125))),
        kept: Arc::clone(&kept),
    };
    let exporter = Exporter::new(destination)
        .interval(NEVER)
        .phase(false)
        .spread(Duration::ZERO)
        .filter(own_metrics_left_out())
        .start(&families.registry)
        .expect("the settings are valid");
    Box::new(Exported {
        families,
        exporter,
        kept,
    })
}

/// A registry that is pushed, and its packets spread over half of the interval, as they are by default.
pub fn push(series: usize, server: SocketAddr) -> Box<dyn Push> {
    let families = Families::new(series);
    let exporter = start(&families.registry, statsd(server));
    Box::new(Pushed {
        families,
        _exporter: exporter,
    })
}

fn start(registry: &Registry, statsd: StatsD) -> ExporterHandle {
    Exporter::new(statsd)
        .name("ours")
        .interval(INTERVAL)
        .spread(INTERVAL / 2)
        .filter(own_metrics_left_out())
        .start(registry)
        .expect("the settings are valid")
}

fn statsd(server: SocketAddr) -> StatsD {
    StatsD::builder(format!("dogstatsd+udp://{server}"))
        .environment(false)
        .client_telemetry(false)
        .build()
        .expect("the settings are valid")
}

fn own_metrics_left_out() -> Filter {
    Filter::new().families(|family| !family.name().starts_with("tidegauge_"))
}

struct Pushed {
    families: Families,
    _exporter: ExporterHandle,
}

impl Fill for Pushed {
    fn count(&self, labels: Labels, amount: u64) {
        self.families.count(labels, amount);
    }

    fn observe(&self, labels: Labels, value: f64) {
        self.families.observe(labels, value);
    }
}

impl Push for Pushed {
    fn threads(&self) -> &'static str {
        "ours-"
    }
}

/// Does as `StatsD` does, up to the network; keeps the packets if there is something to keep them in.
struct Takes {
    statsd: StatsD,
    kept: Arc<Mutex<Option<Vec<u8>>>>,
}

impl Destination for Takes {
    fn name(&self) -> &str {
        self.statsd.name()
    }

    fn preferences(&self) -> Preferences {
        self.statsd.preferences()
    }

    fn temporality(&self, family: &FamilySnapshot) -> Temporality {
        self.statsd.temporality(family)
    }

    fn encode(&mut self, points: &mut Points<'_>, payload: &mut Vec<u8>) {
        self.statsd.encode(points, payload);
    }

    fn send(&mut self, payload: &Payload, _timeout: Duration) -> Answer {
        if let Some(kept) = &mut *self.kept.lock().expect("nobody panics while holding it") {
            kept.extend_from_slice(payload.bytes());
            kept.push(b'\n');
        }
        Answer::delivered()
    }
}
