//! Ways for bytes to leave before a deadline, one file a medium. Transports know nothing of metrics: a destination builds the
//! bytes and judges the answer.

#[cfg(any(feature = "otlp", feature = "pushgateway", feature = "statsd"))]
pub(crate) mod connect;
#[cfg(any(feature = "otlp", feature = "pushgateway"))]
pub(crate) mod http;
#[cfg(feature = "emf")]
pub(crate) mod lines;
#[cfg(any(feature = "otlp", feature = "pushgateway", feature = "statsd"))]
pub(crate) mod names;
#[cfg(feature = "statsd")]
pub(crate) mod packets;
#[cfg(any(feature = "otlp", feature = "pushgateway", feature = "statsd"))]
pub(crate) mod patience;
