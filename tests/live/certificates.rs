//! Certificates for servers that want TLS, made anew for each test.

use std::path::Path;
use std::process::Command;

/// Makes, in a folder, `NAME.pem` and `NAME.key` of the authority `ca`, of a `server` on 127.0.0.1 and a `client` that it vouches
/// for, and of the authority `stranger`, which nobody knows, with a client of its own, the `impostor`.
pub fn make_certificates(folder: &Path) {
    let made = Command::new("sh").args(["-c", SCRIPT]).current_dir(folder).output();
    let made = made.expect("a shell starts");
    let words = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "openssl: {words}");
}

/// The keys are on elliptic curves, in the two forms that openssl writes.
const SCRIPT: &str = r#"
    set -e
    authority() {
      openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
      openssl req -x509 -new -key "$1.key" -days 2 -subj "/CN=$1" -out "$1.pem" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
    }
    leaf() {
      openssl req -new -key "$1.key" -subj "/CN=$1" -out "$1.csr"
      printf '%s\n' "basicConstraints=CA:FALSE" "$3" > "$1.ext"
      openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -CAcreateserial -days 2 -extfile "$1.ext" -out "$1.pem"
    }
    authority ca
    authority stranger
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out server.key
    leaf server ca "subjectAltName=IP:127.0.0.1"
    openssl ecparam -name prime256v1 -genkey -noout -out client.key
    leaf client ca "extendedKeyUsage=clientAuth"
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out impostor.key
    leaf impostor stranger "extendedKeyUsage=clientAuth"
"#;
