//! Ways for bytes to leave before a deadline, one file a medium. Transports know nothing of metrics: a destination builds the
//! bytes and judges the answer.

#[cfg(feature = "otlp")]
pub(crate) mod http;
pub(crate) mod names;
#[cfg(feature = "statsd")]
#[cfg_attr(not(test), allow(dead_code))] // its destination is not there yet
pub(crate) mod packets;
