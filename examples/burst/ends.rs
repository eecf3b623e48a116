//! Both ends of what is run: a receiver that takes its time over each packet, as a server does that parses it, and exporters.

use crate::sink::Sink;
use std::{
    hint, io,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tidegauge::{Destination, Exporter, Filter, StatsD, StatsDError};

/// A receiver that is busy for so long with every packet.
pub fn receiver(each: Duration) -> io::Result<Sink<()>> {
    Sink::start((), move |(), _| {
        let began = Instant::now();
        while began.elapsed() < each {
            hint::spin_loop();
        }
    })
}

/// A destination that sends the application's metrics and nothing else, so that packets can be counted beforehand.
pub fn statsd(receiver: SocketAddr) -> Result<StatsD, StatsDError> {
    StatsD::builder(format!("dogstatsd+udp://{receiver}"))
        .environment(false)
        .client_telemetry(false)
        .build()
}

/// An exporter without the metrics of its own, for the same reason.
pub fn exporter(destination: impl Destination) -> Exporter {
    Exporter::new(destination).filter(Filter::new().families(|family| !family.name().starts_with("tidegauge_")))
}
