//! TLS by rustls on ring: whom to trust, who to be, and certificates that are replaced while the process runs.
//!
//! ureq's own TLS is not used: it takes its certificates once, and panics over a certificate and a key that do not belong
//! together, as the two files do for a moment when they rotate.

use super::{SettingsError, TlsFiles};
use crate::secret::WatchedFile;
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{
    fmt,
    io::{self, Read, Write},
    sync::Arc,
};
use ureq::{
    Error,
    http::Uri,
    unversioned::transport::{Buffers, ConnectionDetails, LazyBuffers, NextTimeout, Transport, TransportAdapter},
};

/// What a client's connections are secured with.
pub(super) struct Tls {
    authorities: Option<WatchedFile>,
    identity: Option<Identity>,
    /// What the files held when `session` was made.
    held: Vec<Vec<u8>>,
    session: Session,
    problem: Option<String>,
}

/// The files of a client certificate and its key, which may be one.
struct Identity {
    certificate: WatchedFile,
    key: WatchedFile,
}

/// What one connection is secured with; `None` where it is not.
pub(super) type Session = Option<Arc<ClientConfig>>;

impl Tls {
    /// Reads what is configured.
    pub(super) fn new(files: &TlsFiles) -> Result<Tls, SettingsError> {
        let watched = |path: &std::path::PathBuf| WatchedFile::new(path.clone(), LARGEST_FILE);
        let identity = match (&files.certificate, &files.key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some(Identity {
                certificate: watched(certificate),
                key: watched(key),
            }),
            (Some(_), None) => {
                return Err(SettingsError::new(
                    "a client certificate needs its key: give the file of the key too, the same one if it has both"
                        .to_owned(),
                ));
            }
            (None, Some(_)) => {
                return Err(SettingsError::new(
                    "the key of a client certificate needs the certificate: give its file too, the same one if it has both"
                        .to_owned(),
                ));
            }
        };
        let mut tls = Tls {
            authorities: files.authorities.as_ref().map(watched),
            identity,
            held: Vec::new(),
            session: None,
            problem: None,
        };
        if tls.files().next().is_some() {
            tls.load().map_err(SettingsError::new)?;
        }
        Ok(tls)
    }

    /// What to secure the next connection with, if it has to be.
    pub(super) fn session(&mut self, needed: bool) -> Result<Session, String> {
        if !needed {
            return Ok(None);
        }
        if self.session.is_none() {
            self.load()?;
        }
        Ok(self.session.clone())
    }

    /// Reads files that have changed, or all of them. Returns whether connections made so far are out of date. What can't be
    /// used leaves everything as it was, and is the problem until it can.
    pub(super) fn refresh(&mut self, at_once: bool) -> bool {
        if self.files().next().is_none() {
            // The system's list may have changed as well.
            if at_once {
                self.session = None;
            }
            return false;
        }
        let mut due = at_once;
        for file in self.files() {
            // What can't be looked at can't be read either, which says why.
            due |= file.changed().unwrap_or(true);
        }
        if !due {
            return false;
        }
        let loaded = self.load();
        if loaded.is_err() {
            // The other one of two files may follow with an older date.
            self.files().for_each(WatchedFile::forget);
        }
        self.problem = loaded.as_ref().err().cloned();
        loaded.unwrap_or(false)
    }

    /// What is wrong with the files just now.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    fn files(&mut self) -> impl Iterator<Item = &mut WatchedFile> {
        let identity = self.identity.as_mut();
        let identity = identity
            .into_iter()
            .flat_map(|identity| [&mut identity.certificate, &mut identity.key]);
        self.authorities.as_mut().into_iter().chain(identity)
    }

    /// Makes a session of what the files hold; says whether that differs from before.
    fn load(&mut self) -> Result<bool, String> {
        let held = self.files().map(WatchedFile::read).collect::<Result<Vec<_>, _>>()?;
        if self.session.is_some() && held == self.held {
            return Ok(false);
        }
        let mut contents = held.iter();
        // In the order of `files`.
        let roots = match &self.authorities {
            Some(file) => trusted(file, contents.next().map_or(&[], Vec::as_slice))?,
            None => trusted_by_the_system()?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?
            .with_root_certificates(roots);
        let mut config = match (&self.identity, contents.next(), contents.next()) {
            (Some(files), Some(certificate), Some(key)) => {
                let chain = certificates(&files.certificate, certificate)?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
                    format!(
                        "{} holds no private key in PEM that is not encrypted: write one there",
                        files.key
                    )
                })?;
                builder.with_client_auth_cert(chain, key).map_err(|error| {
                    let (certificate, key) = (&files.certificate, &files.key);
                    format!(
                        "{certificate} and {key} cannot be used together: {error}: give a certificate and its own key"
                    )
                })?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        self.session = Some(Arc::new(config));
        self.held = held;
        Ok(true)
    }
}

fn certificates(file: &WatchedFile, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(format!("{file} holds no certificate in PEM: write one or more there")),
    }
}

fn trusted(file: &WatchedFile, pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates(file, pem)?);
    if added == 0 {
        return Err(format!(
            "{file} holds no certificate that can be an authority: write one there"
        ));
    }
    Ok(roots)
}

fn trusted_by_the_system() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    // Single ones that can't be read are no reason to trust none.
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        return Err(
            "the system has no list of trusted certificates: install one, such as the package `ca-certificates`, or \
                    give a file of authorities"
                .to_owned(),
        );
    }
    Ok(roots)
}

/// Secures a connection to the host of a URL.
pub(super) fn wrap(
    transport: Box<dyn Transport>,
    details: &ConnectionDetails<'_>,
    reached: &Uri,
    session: &Session,
) -> Result<Box<dyn Transport>, Error> {
    let session = session.as_ref().ok_or(Error::TlsRequired)?;
    let host = reached.host().unwrap_or_default();
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Error::Tls("the host's name is not one that a certificate can have"))?;
    let connection = ClientConnection::new(Arc::clone(session), name).map_err(|error| Error::Other(Box::new(error)))?;
    let mut stream = StreamOwned::new(
        connection,
        TransportAdapter::new(transport, Arc::clone(&details.current_time)),
    );
    stream.sock.set_timeout(details.timeout);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
    Ok(Box::new(Secured { stream, buffers }))
}

/// A connection with TLS. Dropping it sends nothing: what a process after a fork drops is still in use by its parent.
struct Secured {
    stream: StreamOwned<ClientConnection, TransportAdapter>,
    buffers: LazyBuffers,
}

impl Transport for Secured {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.sock.set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        self.stream.flush()?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.sock.set_timeout(timeout);
        // The stream's own `read` writes first what it has left, and fails without a look at what the far end says, where that
        // no longer reads.
        let StreamOwned { conn, sock } = &mut self.stream;
        loop {
            match conn.reader().read(self.buffers.input_append_buf()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    conn.read_tls(sock)?;
                    conn.process_new_packets()
                        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                }
                read => {
                    let read = read?;
                    self.buffers.input_appended(read);
                    return Ok(read > 0);
                }
            }
        }
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for Secured {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Secured({:?})", self.stream.sock.inner())
    }
}

/// What TLS had against a connection, if it was TLS.
pub(super) fn failure(error: &Error) -> Option<String> {
    match error {
        Error::Tls(reason) => Some((*reason).to_owned()),
        _ => cause(error).map(|error| match error {
            rustls::Error::InvalidMessage(_) => {
                "the far end does not speak TLS there: check scheme and port".to_owned()
            }
            error => error.to_string(),
        }),
    }
}

/// Why the far end refused this client's certificate, if it did. In TLS 1.3 it says so after the handshake is over for the
/// client, and so in the place of an answer: it has not looked at the request.
pub(super) fn refusal(error: &Error) -> Option<String> {
    let rustls::Error::AlertReceived(alert) = cause(error)? else {
        return None;
    };
    let of_certificates = matches!(
        alert,
        AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
            | AlertDescription::HandshakeFailure
    );
    of_certificates.then(|| format!("the far end refuses the client's certificate, or wants one: {alert:?}"))
}

fn cause(error: &Error) -> Option<&rustls::Error> {
    match error {
        Error::Io(error) => io::Error::get_ref(error)?.downcast_ref(),
        Error::Other(error) => error.downcast_ref(),
        _ => None,
    }
}

/// A system's whole list of authorities is a quarter of it.
const LARGEST_FILE: u64 = 1024 * 1024;
