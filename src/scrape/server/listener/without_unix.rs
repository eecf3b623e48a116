//! Stands in for `unix.rs` where there are no Unix sockets: says so.

use super::{Bound, Listener};
use crate::scrape::server::error::ServeError;

pub(super) fn listen(address: &str, _path: &str) -> Result<(Box<dyn Listener>, Bound), ServeError> {
    Err(ServeError::address(
        address,
        "there are no Unix sockets on this system; listen on host:port, as in 127.0.0.1:9464",
    ))
}
