//! Counted by the crate, and pushed to a StatsD server over UDP at an interval.

use crate::{Outcome, Wire, events::Load, lines::Arrived, metrics::Metrics, sink::Sink, watched::Watched};
use std::{
    error::Error,
    sync::{Arc, Mutex},
    time::Duration,
};
use tidegauge::{Exporter, Registry, StatsD};

/// How long the last push may take.
const LAST_PUSH: Duration = Duration::from_secs(5);

pub fn run(load: &Load) -> Result<Outcome, Box<dyn Error>> {
    let sink = Sink::start(Arrived::default(), Arrived::take)?;
    let registry = Registry::new();
    let metrics = Metrics::register(&registry)?;
    let statsd = StatsD::new(format!("dogstatsd+udp://{}", sink.address()))?;
    let sent = Arc::new(Mutex::new(Wire::default()));
    let noted = sent.clone();
    let destination = Watched::new(statsd, move |payload| {
        noted
            .lock()
            .expect("nobody panics with it")
            .datagram(payload.bytes().len());
        None
    });
    let exporter = Exporter::new(destination).interval(load.interval).start(&registry)?;
    let busy = load.record(|event| metrics.record(event));
    exporter.shutdown(LAST_PUSH)?;
    let received = sink.finish()?;
    let collections = exporter.stats().collections;
    let sent = *sent.lock().expect("nobody panics with it");
    Ok(Outcome {
        name: "tidegauge, pushed to StatsD",
        busy,
        sent,
        received: Wire::datagrams(received.packets, received.bytes),
        arrived: received.state.events(),
        remarks: vec![format!(
            "pushed: {collections} collections, with the metrics of the exporter itself in them; {}",
            received.losses()
        )],
    })
}
