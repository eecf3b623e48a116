//! Whether the requests of a destination over HTTP are compressed, and how.

use std::io::Write;

/// Whether requests are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// They are not. The default.
    #[default]
    None,
    /// With gzip, at its fastest level, which makes them about ten times smaller. Every receiver of OTLP has to take it, and a
    /// Pushgateway does since 1.5.0.
    Gzip,
}

impl Compression {
    /// As in `Content-Encoding`; nothing without.
    pub(super) fn name(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Gzip => "gzip",
        }
    }
}

/// Appends a text, compressed at the fastest level, as scrapes are.
pub(super) fn gzip(plain: &[u8], into: &mut Vec<u8>) {
    let mut encoder = flate2::write::GzEncoder::new(into, flate2::Compression::fast());
    encoder
        .write_all(plain)
        .and_then(|()| encoder.try_finish())
        .expect("writing to a vector does not fail");
}
