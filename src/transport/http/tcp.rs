//! ureq's way to the network: TCP connections whose every wait ends with the patience of the request, whatever time ureq has
//! reckoned for it.

use super::connection::Shared;
use crate::transport::{connect::connect, patience::TimeOver};
use std::{
    fmt,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
};
use ureq::{
    Error, Timeout,
    unversioned::transport::{Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport},
};

/// Makes connections where nobody before it in the chain has.
#[derive(Debug)]
pub(super) struct Reach(pub(super) Arc<Shared>);

impl<In: Transport> Connector<In> for Reach {
    type Out = Either<In, Tcp>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        if let Some(chained) = chained {
            return Ok(Some(Either::A(chained)));
        }
        let addresses: Vec<SocketAddr> = details.addrs.iter().copied().collect();
        let (_, socket) = connect(&addresses, 0, &self.0.patience());
        let socket = match socket {
            Ok(socket) => socket,
            Err(error) => return Err(judged(error)),
        };
        Ok(Some(Either::B(Tcp {
            stream: socket.into(),
            buffers: LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size()),
            shared: Arc::clone(&self.0),
        })))
    }
}

/// One connection.
pub(super) struct Tcp {
    /// It blocks, for a slice at a time.
    stream: TcpStream,
    buffers: LazyBuffers,
    shared: Arc<Shared>,
}

impl Transport for Tcp {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), Error> {
        let mut rest = &self.buffers.output()[..amount];
        while !rest.is_empty() {
            // Some systems refuse it for a connection that the far end has closed; writing tells that better.
            let _ = self.stream.set_write_timeout(Some(self.shared.patience().slice()?));
            match self.stream.write(rest) {
                Ok(0) => return Err(Error::Io(io::ErrorKind::WriteZero.into())),
                Ok(written) => rest = &rest[written..],
                Err(error) if is_to_go_on(&error) => {}
                Err(error) => return Err(Error::Io(error)),
            }
        }
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, Error> {
        loop {
            let slice = self.shared.patience().slice()?;
            let _ = self.stream.set_read_timeout(Some(slice));
            match self.stream.read(self.buffers.input_append_buf()) {
                Ok(read) => {
                    self.buffers.input_appended(read);
                    return Ok(read > 0);
                }
                Err(error) if is_to_go_on(&error) => {}
                Err(error) => return Err(Error::Io(error)),
            }
        }
    }

    /// Whether the far end has neither closed it nor said anything that nobody has asked for.
    fn is_open(&mut self) -> bool {
        let has_more = self
            .stream
            .set_nonblocking(true)
            .and_then(|()| self.stream.peek(&mut [0]));
        let blocks = self.stream.set_nonblocking(false).is_ok();
        blocks && has_more.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl fmt::Debug for Tcp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Tcp({:?})", self.stream.peer_addr().ok())
    }
}

impl From<TimeOver> for Error {
    fn from(over: TimeOver) -> Error {
        match over {
            TimeOver::Timeout => Error::Timeout(Timeout::Global),
            TimeOver::ExporterEnds => Error::Io(over.into()),
        }
    }
}

/// An error of a connection that was not made: ureq tells the end of its time apart.
fn judged(error: io::Error) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TimeOver>()) {
        Some(over) => (*over).into(),
        None => Error::Io(error),
    }
}

/// Whether a wait has ended because its slice is over, or a signal came.
fn is_to_go_on(error: &io::Error) -> bool {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => true,
        // Elsewhere the far end has not confirmed anything for so long that the system has given the connection up.
        io::ErrorKind::TimedOut => cfg!(windows),
        _ => false,
    }
}
