//! Ways for bytes to leave before a deadline, one file a medium. Transports know nothing of metrics: a destination builds the
//! bytes and judges the answer.

pub(crate) mod http;
pub(crate) mod names;
