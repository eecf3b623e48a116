//! STUB until merged.
pub(crate) fn generation() -> u64 {
    0
}
