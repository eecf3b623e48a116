//! Listening on a Unix socket. Owns the socket's file: replaces one that nobody serves any more, never one that somebody
//! does or that is no socket, and removes its own at the end, unless another server has put its file there since.

use std::fs;
use std::io;
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf, absolute};

use mio::event::Source;
use mio::net::{UnixListener, UnixStream};

use super::{Bound, Listener, Stream};
use crate::scrape::server::error::ServeError;

struct SocketFile {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file that this listener made.
    identity: Option<(u64, u64)>,
}

/// Listens on the socket at `path`; `address` is what the user wrote.
pub(super) fn listen(address: &str, path: &str) -> Result<(Box<dyn Listener>, Bound), ServeError> {
    if path.is_empty() {
        return Err(ServeError::address(
            address,
            "the path is missing, write unix:/path/to.sock",
        ));
    }
    // The process may change its directory before the file is removed.
    let path = absolute(path).map_err(|error| ServeError::system(address, "find the path", error))?;
    let listener = match UnixListener::bind(&path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            make_way(address, &path, error)?;
            UnixListener::bind(&path)
        }
        bound => bound,
    };
    let listener = listener.map_err(|error| ServeError::system(address, "listen", error))?;
    let socket = SocketFile {
        listener,
        identity: identity(&path),
        path: path.clone(),
    };
    Ok((Box::new(socket), Bound::Unix(path)))
}

/// Removes a socket that nobody listens on; `in_use` is what binding said.
fn make_way(address: &str, path: &Path, in_use: io::Error) -> Result<(), ServeError> {
    let metadata =
        fs::symlink_metadata(path).map_err(|error| ServeError::system(address, "inspect the socket there", error))?;
    if !metadata.file_type().is_socket() {
        return Err(ServeError::address(
            address,
            "what is there is no socket and is left alone; remove it, or choose another path",
        ));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| ServeError::system(address, "remove the abandoned socket", error))
        }
        // Answered, or too busy to: somebody is there.
        _ => Err(ServeError::system(address, "listen", in_use)),
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            // If it cannot be removed, the next server will find it abandoned and replace it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Listener for SocketFile {
    fn accept(&mut self) -> io::Result<Box<dyn Stream>> {
        let (stream, _) = self.listener.accept()?;
        Ok(Box::new(stream))
    }

    fn source(&mut self) -> &mut dyn Source {
        &mut self.listener
    }
}

impl Stream for UnixStream {
    fn finish_writing(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn source(&mut self) -> &mut dyn Source {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process;

    use super::*;

    /// A path of this test's own, free at the start and at the end.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Place {
            let place = Place(env::temp_dir().join(format!("tidegauge-{name}-{}.sock", process::id())));
            let _ = fs::remove_file(&place.0);
            place
        }

        fn listen(&self) -> Result<(Box<dyn Listener>, Bound), ServeError> {
            let path = self.0.to_str().unwrap();
            listen(&format!("unix:{path}"), path)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn the_file_goes_with_the_listener() {
        let place = Place::new("goes");
        let (listener, bound) = place.listen().unwrap();
        assert_eq!(bound, Bound::Unix(place.0.clone()));
        assert!(place.0.exists());
        drop(listener);
        assert!(!place.0.exists());
    }

    #[test]
    fn an_abandoned_socket_is_replaced() {
        let place = Place::new("abandoned");
        // The standard library's listener leaves its file behind.
        drop(std::os::unix::net::UnixListener::bind(&place.0).unwrap());
        assert!(place.0.exists());
        let _listener = place.listen().unwrap();
        UnixStream::connect(&place.0).unwrap();
    }

    #[test]
    fn a_served_socket_and_a_plain_file_are_left_alone() {
        let place = Place::new("served");
        let first = place.listen().unwrap();
        assert!(place.listen().err().unwrap().is_in_use());
        UnixStream::connect(&place.0).unwrap();
        drop(first);

        fs::write(&place.0, "precious").unwrap();
        let error = place.listen().err().unwrap();
        assert!(error.to_string().contains("no socket"), "{error}");
        assert_eq!(fs::read(&place.0).unwrap(), b"precious");
    }

    #[test]
    fn another_servers_file_is_not_removed() {
        let place = Place::new("another");
        let (listener, _) = place.listen().unwrap();
        fs::remove_file(&place.0).unwrap();
        let _other = place.listen().unwrap();
        drop(listener);
        assert!(place.0.exists());
    }
}
