//! `cadence`: a line for each event, to a UDP socket. Unbuffered, each is a packet; buffered, so many as fit into 512 bytes, its
//! default, are one; and queued, a thread of its own does that, behind a queue without bound. What is queued is sent outside
//! the measured time as far as it is not sent beside it, which flatters that row.

use crate::library::{Library, Record, Total};
use crate::{data::Lane, server};
use cadence::{BufferedUdpMetricSink, Counted, MetricSink, QueuingMetricSink, SinkStats, StatsdClient, UdpMetricSink};
use std::hint::black_box;
use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

/// A packet an event.
pub const UNBUFFERED: Library = Library {
    statsd_counter_inc: Some(|| Counter::make(UdpMetricSink::from, |_| 0, 0)),
    ..Library::named("cadence-unbuffered")
};

/// A packet when the buffer is full.
pub const BUFFERED: Library = Library {
    statsd_counter_inc: Some(|| Counter::make(BufferedUdpMetricSink::from, |_| 0, 1)),
    ..Library::named("cadence-buffered")
};

/// The same on another thread.
pub const QUEUED: Library = Library {
    statsd_counter_inc: Some(|| {
        Counter::make(
            |server, socket| BufferedUdpMetricSink::from(server, socket).map(QueuingMetricSink::from),
            QueuingMetricSink::queued,
            1,
        )
    }),
    ..Library::named("cadence-queued")
};

struct Counter<S> {
    client: StatsdClient,
    sink: Shared<S>,
    queued: fn(&S) -> u64,
    /// How many bytes a line takes.
    line: u64,
    /// It is there as long as the client.
    _server: UdpSocket,
}

impl<S: MetricSink + Send + Sync + std::panic::RefUnwindSafe + 'static> Counter<S> {
    /// `terminator` is what a line has behind it in a packet.
    fn make<E: std::fmt::Debug>(
        sink: impl FnOnce(std::net::SocketAddr, UdpSocket) -> Result<S, E>,
        queued: fn(&S) -> u64,
        terminator: u64,
    ) -> Box<dyn Record> {
        const LINE: &str = "jobs_total:1|c";
        let server = server::deaf();
        let address = server.local_addr().expect("it is bound");
        let sink = Shared(Arc::new(sink(address, server::deaf()).expect("the address is one")));
        Box::new(Self {
            client: StatsdClient::from_sink("", sink.clone()),
            sink,
            queued,
            line: LINE.len() as u64 + terminator,
            _server: server,
        })
    }
}

impl<S: MetricSink + Send + Sync + std::panic::RefUnwindSafe + 'static> Record for Counter<S> {
    fn run(&self, lane: Lane) {
        lane.repeat(|| {
            black_box(&self.client)
                .count("jobs_total", 1)
                .expect("the loopback device takes packets");
        });
    }

    /// Waits until nothing is queued any more, and then for the thread to have done the last of it.
    fn settle(&self) {
        while (self.queued)(&self.sink.0) > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(5));
    }

    fn total(&self) -> Total {
        self.sink.0.flush().expect("the loopback device takes packets");
        let SinkStats {
            bytes_sent,
            bytes_dropped,
            ..
        } = self.sink.0.stats();
        assert_eq!(bytes_dropped, 0, "the system has refused packets");
        assert_eq!(bytes_sent % self.line, 0, "every line is as long");
        Total::count(bytes_sent / self.line)
    }
}

/// A sink that the client owns, and we too.
struct Shared<S>(Arc<S>);

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: MetricSink> MetricSink for Shared<S> {
    fn emit(&self, metric: &str) -> io::Result<usize> {
        self.0.emit(metric)
    }

    fn flush(&self) -> io::Result<()> {
        self.0.flush()
    }

    fn stats(&self) -> SinkStats {
        self.0.stats()
    }
}
