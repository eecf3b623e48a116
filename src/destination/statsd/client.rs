//! What official clients of DogStatsD say of themselves
//! (<https://docs.datadoghq.com/developers/dogstatsd/high_throughput/#client-side-telemetry>), once a collection and as
//! counts: what packets held that the system took, and what became of packets.
//!
//! What is owed is owed until a packet that says it was taken: the counts of an outage arrive after it.

use crate::{
    destination::statsd::{Dialect, HistogramLines},
    encode::statsd::{
        Encoder, Settings,
        message::{CountFields, Message, Put},
    },
    transport::packets::Endpoint,
};

/// Counts that are owed.
pub(super) struct ClientTelemetry {
    encoder: Encoder,
    owed: [u64; KEYS.len()],
    /// The next of them in this collection.
    next: usize,
    /// What was written since the last collection began, and is not known to have been taken.
    written: Vec<Written>,
    /// Bytes of the packet that was taken last.
    last_bytes: u64,
}

struct Written {
    line: Vec<u8>,
    key: usize,
    count: u64,
}

impl ClientTelemetry {
    /// For a destination with these settings.
    pub(super) fn new(settings: &Settings, endpoint: &Endpoint) -> Self {
        let mut settings = Settings {
            prefix: PREFIX.to_owned(),
            histograms: HistogramLines::Samples,
            ..settings.clone()
        };
        debug_assert_eq!(settings.dialect, Dialect::DogStatsD);
        let own = [
            ("client", env!("CARGO_PKG_NAME")),
            ("client_version", env!("CARGO_PKG_VERSION")),
            ("client_transport", transport(endpoint)),
        ];
        let own = own.map(|(key, value)| (key.to_owned(), value.to_owned()));
        settings.tags.extend(own);
        ClientTelemetry {
            encoder: Encoder::new(settings),
            owed: [0; KEYS.len()],
            next: 0,
            written: Vec::new(),
            last_bytes: 0,
        }
    }

    /// A collection begins: all that is owed is to be said.
    pub(super) fn begin(&mut self) {
        self.next = 0;
        self.written.clear();
    }

    /// Appends as many lines to a packet as go into it. How many.
    pub(super) fn put(&mut self, packet: &mut Vec<u8>) -> usize {
        let mut lines = 0;
        while let Some((name, of_type)) = KEYS.get(self.next) {
            let (key, count) = (self.next, self.owed[self.next]);
            if count > 0 {
                let of_type = of_type.map(|of_type| ("metrics_type".to_owned(), of_type.to_owned()));
                let message = Message::Count(CountFields {
                    name,
                    count,
                    tags: of_type.as_slice(),
                });
                let mark = packet.len();
                match self.encoder.put_message(&message, packet) {
                    Put::Full => break,
                    // Longer than any packet, for many tags.
                    Put::Refused(_) => {}
                    Put::Written => {
                        lines += 1;
                        let line = packet[mark..].trim_ascii().to_owned();
                        self.written.push(Written { line, key, count });
                    }
                }
            }
            self.next += 1;
        }
        lines
    }

    /// The system took a packet.
    pub(super) fn taken(&mut self, packet: &[u8]) {
        for line in packet.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            if line.starts_with(PREFIX.as_bytes()) {
                self.settle(line);
            } else {
                self.count_line(line);
            }
        }
        self.last_bytes = packet.len() as u64;
        self.owed[PACKETS_SENT] += 1;
        self.owed[BYTES_SENT] += self.last_bytes;
    }

    /// The system did not take a packet, and perhaps the one that it took before did not get far either.
    pub(super) fn refused(&mut self, packet: &[u8], previous_too: bool) {
        self.drop_packet(packet.len() as u64);
        if previous_too {
            self.previous_refused();
        }
    }

    /// The packet that the system took last did not get far.
    pub(super) fn previous_refused(&mut self) {
        self.drop_packet(self.last_bytes);
    }

    /// Messages that there was no room for.
    pub(super) fn messages_dropped(&mut self, count: u64) {
        self.owed[DROPPED_ON_RECEIVE] += count;
    }

    fn drop_packet(&mut self, bytes: u64) {
        for (key, count) in [
            (PACKETS_DROPPED, 1),
            (PACKETS_DROPPED_WRITER, 1),
            (BYTES_DROPPED, bytes),
            (BYTES_DROPPED_WRITER, bytes),
        ] {
            self.owed[key] += count;
        }
    }

    /// What a line of ours says is owed no longer.
    fn settle(&mut self, line: &[u8]) {
        let is_said = |written: &Written| written.line == line;
        if let Some(at) = self.written.iter().position(is_said) {
            let Written { key, count, .. } = self.written.swap_remove(at);
            self.owed[key] -= count;
        }
    }

    fn count_line(&mut self, line: &[u8]) {
        if line.starts_with(b"_e{") {
            self.owed[EVENTS] += 1;
            return;
        }
        if line.starts_with(b"_sc|") {
            self.owed[SERVICE_CHECKS] += 1;
            return;
        }
        // A name has neither colon nor bar: values begin at the first colon, and the type at the first bar.
        let mut fields = line.split(|byte| *byte == b'|');
        let (Some(values), Some(letter)) = (fields.next(), fields.next()) else {
            return;
        };
        let Some(key) = TYPES.iter().position(|known| known.as_bytes() == letter) else {
            return;
        };
        let values = values.iter().filter(|byte| **byte == b':').count() as u64;
        self.owed[METRICS] += values;
        self.owed[METRICS_BY_TYPE + key] += values;
    }
}

/// How official clients name a transport.
fn transport(endpoint: &Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Udp { .. } => "udp",
        Endpoint::Tcp { .. } => "tcp",
        Endpoint::UnixDatagram(_) | Endpoint::Unix(_) => "uds",
        Endpoint::UnixStream(_) => "uds-stream",
    }
}

const PREFIX: &str = "datadog.dogstatsd.client.";

/// Names of counts, and the type that they are of.
const KEYS: [(&str, Option<&str>); 16] = [
    ("metrics", None),
    ("metrics_by_type", Some("gauge")),
    ("metrics_by_type", Some("count")),
    ("metrics_by_type", Some("histogram")),
    ("metrics_by_type", Some("distribution")),
    ("metrics_by_type", Some("set")),
    ("metrics_by_type", Some("timing")),
    ("events", None),
    ("service_checks", None),
    ("metric_dropped_on_receive", None),
    ("packets_sent", None),
    ("packets_dropped", None),
    ("packets_dropped_writer", None),
    ("bytes_sent", None),
    ("bytes_dropped", None),
    ("bytes_dropped_writer", None),
];

/// Types of lines, in the order of the counts by type.
const TYPES: [&str; 6] = ["g", "c", "h", "d", "s", "ms"];

const METRICS: usize = 0;
const METRICS_BY_TYPE: usize = 1;
const EVENTS: usize = 7;
const SERVICE_CHECKS: usize = 8;
const DROPPED_ON_RECEIVE: usize = 9;
const PACKETS_SENT: usize = 10;
const PACKETS_DROPPED: usize = 11;
const PACKETS_DROPPED_WRITER: usize = 12;
const BYTES_SENT: usize = 13;
const BYTES_DROPPED: usize = 14;
const BYTES_DROPPED_WRITER: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::statsd::Origin;
    use std::collections::BTreeMap;

    fn telemetry() -> ClientTelemetry {
        let settings = Settings {
            dialect: Dialect::DogStatsD,
            protocol: 6,
            limit: 300,
            ends_lines: false,
            prefix: "app.".to_owned(),
            tags: vec![("env".to_owned(), "prod".to_owned())],
            origin: Origin {
                container: Some("abc".to_owned()),
                ..Origin::default()
            },
            timestamps: true,
            histograms: HistogramLines::Counters,
        };
        let endpoint = Endpoint::Udp {
            host: "agent".to_owned(),
            port: 8125,
        };
        ClientTelemetry::new(&settings, &endpoint)
    }

    /// The packets of a collection.
    fn packets(telemetry: &mut ClientTelemetry) -> Vec<String> {
        telemetry.begin();
        let mut packets = Vec::new();
        loop {
            let mut packet = Vec::new();
            if telemetry.put(&mut packet) == 0 {
                return packets;
            }
            assert!(packet.len() <= 300);
            packets.push(String::from_utf8(packet).unwrap());
        }
    }

    /// What its lines say: names, with the type if they have one, and counts.
    fn said(telemetry: &mut ClientTelemetry) -> BTreeMap<String, u64> {
        let version = env!("CARGO_PKG_VERSION");
        let tags = format!("|c|#env:prod,client:tidegauge,client_version:{version},client_transport:udp");
        packets(telemetry)
            .iter()
            .flat_map(|packet| packet.lines())
            .map(|line| {
                let (start, end) = line.split_once(&tags).unwrap_or_else(|| panic!("{line}"));
                let (name, count) = start.strip_prefix(PREFIX).unwrap().split_once(':').unwrap();
                let of_type = end.strip_suffix("|c:abc").unwrap().replace(",metrics_type:", " ");
                (format!("{name}{of_type}"), count.parse().unwrap())
            })
            .collect()
    }

    fn expected(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
        counts
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    }

    #[test]
    fn what_was_taken_is_counted_by_type() {
        let mut telemetry = telemetry();
        assert_eq!(packets(&mut telemetry).len(), 0);
        let packet =
            b"a:1|c|#x:y\nb:1:2:3|h|@0.1\nc:-5|g\nd:1|ms\ne:1:2|d\nf:x|s\n_e{1,1}:a|b|#c:1|c\n_sc|a|0\na:7|c\n";
        telemetry.taken(packet);
        let bytes = packet.len() as u64;
        assert_eq!(
            said(&mut telemetry),
            expected(&[
                ("metrics", 10),
                ("metrics_by_type count", 2),
                ("metrics_by_type histogram", 3),
                ("metrics_by_type gauge", 1),
                ("metrics_by_type timing", 1),
                ("metrics_by_type distribution", 2),
                ("metrics_by_type set", 1),
                ("events", 1),
                ("service_checks", 1),
                ("packets_sent", 1),
                ("bytes_sent", bytes),
            ])
        );
    }

    #[test]
    fn what_is_owed_is_said_until_it_is_taken() {
        let mut telemetry = telemetry();
        telemetry.taken(b"a:1|c");
        telemetry.refused(b"0123456789", true);
        telemetry.messages_dropped(3);
        let owed = expected(&[
            ("metrics", 1),
            ("metrics_by_type count", 1),
            ("metric_dropped_on_receive", 3),
            ("packets_sent", 1),
            ("bytes_sent", 5),
            ("packets_dropped", 2),
            ("packets_dropped_writer", 2),
            ("bytes_dropped", 15),
            ("bytes_dropped_writer", 15),
        ]);
        assert_eq!(said(&mut telemetry), owed);
        // Nothing was taken of it.
        assert_eq!(said(&mut telemetry), owed);

        // And then only a part.
        let packets = packets(&mut telemetry);
        assert!(packets.len() > 2, "{packets:#?}");
        telemetry.taken(packets[1].as_bytes());
        let mut left = owed.clone();
        for line in packets[1].lines() {
            let (name, rest) = line.strip_prefix(PREFIX).unwrap().split_once(':').unwrap();
            let of_type = rest
                .split_once("metrics_type:")
                .map(|(_, of_type)| of_type.split('|').next().unwrap());
            left.remove(&of_type.map_or(name.to_owned(), |of_type| format!("{name} {of_type}")));
        }
        assert!(left.len() < owed.len());
        *left.entry("packets_sent".to_owned()).or_default() += 1;
        *left.entry("bytes_sent".to_owned()).or_default() += packets[1].len() as u64;
        assert_eq!(said(&mut telemetry), left);
    }
}
