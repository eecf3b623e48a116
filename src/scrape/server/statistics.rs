//! What the endpoint counts about itself.

/// Totals since the server was started, read with [`Server::statistics`](super::Server::statistics).
///
/// Everything that is bounded is counted here when the bound is met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStatistics {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections open now.
    pub open: u64,
    /// Connections closed to make room for a new one, because the connection limit was reached, no file descriptor was
    /// left, or too many bytes of replies were waiting to be read.
    pub evicted: u64,
    /// Connections closed because the client was too slow to send, or to read.
    pub timed_out: u64,
    /// Times that accepting failed for lack of file descriptors or memory.
    pub accept_failures: u64,
    /// Scrapes asked for, those refused included.
    pub scrapes: u64,
    /// Scrapes refused with 503 because the queue was full.
    pub refused: u64,
    /// Scrapes answered with 503 because rendering took longer than its timeout.
    pub overdue: u64,
    /// Scrapes answered with 500 because rendering panicked.
    pub panicked: u64,
}
