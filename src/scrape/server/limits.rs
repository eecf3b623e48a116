//! Every bound the endpoint keeps against clients, with its default. Plain numbers: who breaks one is dealt with where
//! the breach is seen (request, connection, event loop).

use std::time::Duration;

/// The bounds of one server.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) connections: usize,
    pub(crate) head_bytes: usize,
    pub(crate) request_line_bytes: usize,
    pub(crate) render_queue: usize,
    pub(crate) reply_bytes: usize,
    pub(crate) read_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) render_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) write_stall_timeout: Duration,
    pub(crate) stop_timeout: Duration,
}

impl Limits {
    /// Open connections.
    pub(crate) const CONNECTIONS: usize = 256;
    /// Bytes of one request head: request line and headers.
    pub(crate) const HEAD_BYTES: usize = 16 * 1024;
    /// Bytes of the request line within the head.
    pub(crate) const REQUEST_LINE_BYTES: usize = 8 * 1024;
    /// Scrapes that wait for a render thread.
    pub(crate) const RENDER_QUEUE: usize = 32;
    /// Bytes of finished replies that clients have not taken yet, over all connections.
    pub(crate) const REPLY_BYTES: usize = 64 * 1024 * 1024;
    /// From a request's first byte (or the accepted connection) to the end of its head.
    pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(10);
    /// Between a reply and the first byte of the next request.
    pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
    /// From a complete request to its rendered reply, time in the queue included.
    pub(crate) const RENDER_TIMEOUT: Duration = Duration::from_secs(30);
    /// For a whole reply to leave.
    pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
    /// Without a single byte of a reply leaving.
    pub(crate) const WRITE_STALL_TIMEOUT: Duration = Duration::from_secs(10);
    /// What `stop` grants to replies in flight.
    pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(5);

    // The rest is not settable: nobody has a reason to.

    /// What `Drop` grants to replies in flight.
    pub(crate) const DROP_TIMEOUT: Duration = Duration::from_secs(1);
    /// Headers of one request.
    pub(crate) const HEADERS: usize = 100;
    /// Bytes of a request body that are read and thrown away; a GET has no use for one.
    pub(crate) const BODY_BYTES: u64 = 16 * 1024;
    /// A closed connection is listened to for so long, and so many bytes, that the reply on its way is not destroyed by
    /// the reset which unread bytes cause.
    pub(crate) const LINGER: Duration = Duration::from_secs(1);
    pub(crate) const LINGER_BYTES: usize = 256 * 1024;
    /// How long accepting rests when the system has no descriptor left.
    pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
    /// Ten years stand for ever: a longer time added to now could overflow.
    const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

    pub(crate) fn shorten_the_endless(&mut self) {
        for timeout in [
            &mut self.read_timeout,
            &mut self.idle_timeout,
            &mut self.render_timeout,
            &mut self.write_timeout,
            &mut self.write_stall_timeout,
            &mut self.stop_timeout,
        ] {
            *timeout = (*timeout).min(Limits::LONGEST);
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: Limits::CONNECTIONS,
            head_bytes: Limits::HEAD_BYTES,
            request_line_bytes: Limits::REQUEST_LINE_BYTES,
            render_queue: Limits::RENDER_QUEUE,
            reply_bytes: Limits::REPLY_BYTES,
            read_timeout: Limits::READ_TIMEOUT,
            idle_timeout: Limits::IDLE_TIMEOUT,
            render_timeout: Limits::RENDER_TIMEOUT,
            write_timeout: Limits::WRITE_TIMEOUT,
            write_stall_timeout: Limits::WRITE_STALL_TIMEOUT,
            stop_timeout: Limits::STOP_TIMEOUT,
        }
    }
}
