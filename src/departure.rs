//! STUB until merged.
use crate::snapshot::FamilySnapshot;
use std::{sync::Arc, time::Duration};
pub(crate) struct Departure {
    pub(crate) family: FamilySnapshot,
    pub(crate) life: u64,
    pub(crate) ended: Duration,
}
pub(crate) struct Inbox;
impl Inbox {
    pub(crate) const CAPACITY: usize = 16_384;
    pub(crate) fn arrived(&self) -> u64 {
        0
    }
    pub(crate) fn take(&self, _until: u64) -> Vec<Arc<Departure>> {
        Vec::new()
    }
    pub(crate) fn dropped(&self) -> u64 {
        0
    }
}
