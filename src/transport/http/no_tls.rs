//! What stands for TLS where it is not compiled in: nothing gets as far as a connection, because URLs and settings that need TLS
//! are refused.

use super::{SettingsError, TlsFiles};
use ureq::{
    Error,
    http::Uri,
    unversioned::transport::{ConnectionDetails, Transport},
};

pub(super) struct Tls;

#[derive(Clone)]
pub(super) struct Session;

impl Tls {
    pub(super) fn new(files: &TlsFiles) -> Result<Tls, SettingsError> {
        if files.authorities.is_some() || files.certificate.is_some() || files.key.is_some() {
            return Err(SettingsError::new(
                "files of certificates and keys need TLS: build tidegauge with its feature `tls`, or leave them out"
                    .to_owned(),
            ));
        }
        Ok(Tls)
    }

    pub(super) fn session(&mut self, _: bool) -> Result<Session, String> {
        Ok(Session)
    }

    pub(super) fn refresh(&mut self, _: bool) -> bool {
        false
    }

    pub(super) fn problem(&self) -> Option<&str> {
        None
    }
}

pub(super) fn wrap(
    _: Box<dyn Transport>,
    _: &ConnectionDetails<'_>,
    _: &Uri,
    _: &Session,
) -> Result<Box<dyn Transport>, Error> {
    Err(Error::TlsRequired)
}

pub(super) fn failure(_: &Error) -> Option<String> {
    None
}

pub(super) fn refusal(_: &Error) -> Option<String> {
    None
}
