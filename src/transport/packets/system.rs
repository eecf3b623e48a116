//! What differs from system to system: how to send without waiting and without a signal, and what errors mean.

use socket2::Socket;
use std::{ffi::c_int, io, time::Duration};

/// Sends what there is room for right now. The socket does not block.
pub(super) fn send_now(socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match socket.send_with_flags(bytes, WITHOUT_SIGNAL) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            sent => return sent,
        }
    }
}

/// Waits for room for at most `patience`, which is not zero, and sends; [`io::ErrorKind::WouldBlock`] if there was none, or if a
/// signal came in between. The socket does not block before and after.
pub(super) fn send_within(socket: &Socket, bytes: &[u8], patience: Duration) -> io::Result<usize> {
    socket.set_write_timeout(Some(patience.max(SHORTEST_PATIENCE)))?;
    socket.set_nonblocking(false)?;
    let sent = socket.send_with_flags(bytes, WITHOUT_SIGNAL);
    socket.set_nonblocking(true)?;
    match sent {
        Err(error) if error.kind() == io::ErrorKind::Interrupted || is_end_of_patience(&error) => {
            Err(io::ErrorKind::WouldBlock.into())
        }
        sent => sent,
    }
}

/// The system rounds what is less down to nothing, which would be no limit.
const SHORTEST_PATIENCE: Duration = Duration::from_millis(1);

/// Whether there is no room at the moment, and the socket is good.
pub(super) fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(NO_BUFFERS)
}

/// Whether the datagram is more than the socket takes.
pub(super) fn is_too_large(error: &io::Error) -> bool {
    error.raw_os_error() == Some(TOO_LARGE)
}

/// Whether the far end has answered that nobody listens: to the datagram before.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
    )
}

/// What can be done about an error, in front of what the system says.
pub(super) fn advice(error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::ConnectionRefused => "nobody listens there, start the server or correct the address",
        io::ErrorKind::NotFound => "there is no socket, start the server or correct the path",
        io::ErrorKind::PermissionDenied => "not allowed, see to the rights of the socket and to firewalls",
        io::ErrorKind::WouldBlock => "the server accepts no more connections, see that it runs",
        io::ErrorKind::TimedOut => "no answer in time, see that the server runs and can be reached",
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            "it can't be reached, see to the network or correct the address"
        }
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => {
            "the server has closed the connection"
        }
        _ => "it can't be sent to",
    };
    format!("{advice} ({error})")
}

#[cfg(unix)]
mod numbers {
    use super::{c_int, io};

    // Apple's sockets are made not to signal, by `socket2::Socket::new`.
    pub(super) const WITHOUT_SIGNAL: c_int = if cfg!(target_vendor = "apple") {
        0
    } else {
        libc::MSG_NOSIGNAL
    };
    pub(super) const NO_BUFFERS: c_int = libc::ENOBUFS;
    pub(super) const TOO_LARGE: c_int = libc::EMSGSIZE;

    /// A write that has waited for as long as it may would block, here.
    pub(super) fn is_end_of_patience(_: &io::Error) -> bool {
        false
    }

    /// Whether the socket there is of another type: datagrams instead of a stream, or the other way round.
    pub(in super::super) fn is_wrong_type(error: &io::Error) -> bool {
        error.raw_os_error() == Some(libc::EPROTOTYPE)
    }
}

#[cfg(not(unix))]
mod numbers {
    use super::{c_int, io};

    // <https://learn.microsoft.com/en-us/windows/win32/winsock/windows-sockets-error-codes-2>
    pub(super) const WITHOUT_SIGNAL: c_int = 0;
    pub(super) const NO_BUFFERS: c_int = 10055;
    pub(super) const TOO_LARGE: c_int = 10040;

    /// A write that has waited for as long as it may has timed out, here.
    pub(super) fn is_end_of_patience(error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::TimedOut
    }
}

#[cfg(unix)]
pub(super) use numbers::is_wrong_type;
use numbers::{NO_BUFFERS, TOO_LARGE, WITHOUT_SIGNAL, is_end_of_patience};
