//! Stands in for `unix.rs` where there are no Unix sockets: says so.

use super::Sent;
use crate::{destination::BatchId, transport::patience::Patience};
use std::path::PathBuf;

pub(super) struct Unix;

impl Unix {
    pub(super) fn datagrams(_: PathBuf) -> Unix {
        Unix
    }

    pub(super) fn stream(_: PathBuf) -> Unix {
        Unix
    }

    pub(super) fn either(_: PathBuf) -> Unix {
        Unix
    }

    pub(super) fn send(&mut self, _: &[u8], _: BatchId, _: &Patience) -> Sent {
        Sent::refused("there are no Unix sockets on this system, use udp:// or tcp://")
    }

    pub(super) fn reconnect(&mut self) {}

    pub(super) fn connections(&self) -> u64 {
        0
    }
}
