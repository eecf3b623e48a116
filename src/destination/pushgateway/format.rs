//! How a push is written.

use crate::{
    encode::{
        Format,
        protobuf::{self, Protobuf},
        samples::Shows,
        text::Text,
    },
    snapshot::FamilySnapshot,
};

/// A format that a Pushgateway reads (<https://github.com/prometheus/pushgateway#request-body>). What it is told by either, it
/// has and shows in the same way.
///
/// ```
/// assert_eq!(tidegauge::PushFormat::default(), tidegauge::PushFormat::Text);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PushFormat {
    /// Prometheus' text format 0.0.4, which people and what stands between can read. The default.
    #[default]
    Text,
    /// Delimited `MetricFamily` messages of protobuf
    /// (<https://github.com/prometheus/client_model/blob/master/io/prometheus/client/metrics.proto>), which have the unit of each
    /// metric besides, and need a fraction of the bytes where there are histograms: for large pushes, and for what is in front of
    /// a gateway and takes nothing else.
    Protobuf,
}

impl PushFormat {
    /// The value of the `Content-Type` header that belongs to it.
    pub fn content_type(self) -> &'static str {
        match self {
            PushFormat::Text => Format::Text.content_type(),
            PushFormat::Protobuf => protobuf::CONTENT_TYPE,
        }
    }

    /// Begins a push in a buffer whose content is overwritten.
    pub(super) fn writer(self, bytes: &mut Vec<u8>) -> Writer<'_> {
        match self {
            PushFormat::Text => Writer::Text(Text::new(bytes)),
            PushFormat::Protobuf => Writer::Protobuf(Protobuf::new(bytes)),
        }
    }
}

/// A push that is being written.
pub(super) enum Writer<'a> {
    Text(Text<'a>),
    Protobuf(Protobuf<'a>),
}

impl Writer<'_> {
    /// Writes a family and those of its series that are to be shown. Nothing if there are none.
    pub(super) fn write(&mut self, family: &FamilySnapshot, shows: Option<Shows<'_>>) {
        match self {
            Writer::Text(text) => text.write(family, shows),
            Writer::Protobuf(protobuf) => protobuf.write(family, shows),
        }
    }

    pub(super) fn finish(self) {
        match self {
            Writer::Text(text) => text.finish(),
            Writer::Protobuf(_) => {}
        }
    }
}
