//! The client against real TLS servers, with an authority made for the test.

use super::{
    tests::{OK, Script, Server, client, hanging, header, post, post_until_the_exporter_ends, read_request, url},
    *,
};
use crate::secret::Folder;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, Stream,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::{io::Write, net::TcpStream, sync::mpsc::channel};

/// A certificate authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn issue(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        Identity {
            certificate,
            key: key.serialize_pem(),
        }
    }

    /// What a server of this authority needs; with `clients`, only those with a certificate of that authority get in.
    fn server(&self, name: &str, clients: Option<&Authority>) -> Arc<ServerConfig> {
        let identity = self.issue(name, ExtendedKeyUsagePurpose::ServerAuth);
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(certificate(&authority.pem())).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        Arc::new(
            builder
                .with_single_cert(vec![certificate(&identity.certificate)], key)
                .unwrap(),
        )
    }
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// Answers so many requests on one connection; asks for the client's certificate each time, where there is one.
fn answering(config: &Arc<ServerConfig>, requests: usize, seen: impl Fn(Option<Vec<u8>>) + Send + 'static) -> Script {
    let config = Arc::clone(config);
    Box::new(move |mut stream| {
        secured(&config, &mut stream, |secured| {
            for _ in 0..requests {
                let (head, body) = read_request(secured);
                assert_eq!(
                    (head.lines().next(), &*body),
                    (Some("POST /v1/metrics HTTP/1.1"), &b"body"[..])
                );
                seen(secured.conn.peer_certificates().map(|chain| chain[0].to_vec()));
                secured.write_all(OK).unwrap();
                secured.flush().unwrap();
            }
        });
    })
}

/// Runs `play` with the server's end of TLS in a stream.
fn secured<S: Read + Write>(
    config: &Arc<ServerConfig>,
    stream: &mut S,
    play: impl FnOnce(&mut Stream<'_, ServerConnection, S>),
) {
    let mut connection = ServerConnection::new(Arc::clone(config)).unwrap();
    play(&mut Stream::new(&mut connection, stream));
}

/// Shakes hands and does not get far.
fn refused(config: &Arc<ServerConfig>) -> Script {
    let config = Arc::clone(config);
    Box::new(move |mut stream| {
        let mut connection = ServerConnection::new(config).unwrap();
        let mut secured = Stream::new(&mut connection, &mut stream);
        let mut byte = [0];
        assert!(!matches!(secured.read(&mut byte), Ok(1)), "a request came through");
    })
}

fn secure_url(server: &Server, host: &str) -> HttpUrl {
    url(&format!("https://{host}:{}/v1/metrics", server.address.port()))
}

fn trusting(files: TlsFiles) -> HttpClient {
    client(HttpSettings {
        tls: files,
        ..HttpSettings::default()
    })
}

#[track_caller]
fn assert_tls(answer: Result<Response, Failure>, words: &str) {
    let failure = answer.expect_err("an answer instead of a failure");
    assert_eq!(failure.kind, FailureKind::Tls, "{failure}");
    assert!(failure.message.contains(words), "{failure}");
}

#[test]
fn an_authority_of_its_own_is_trusted_and_no_other() {
    let folder = Folder::new("tls-authority");
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let config = ours.server("localhost", None);
    let trusted = |authority: &Authority, name| TlsFiles {
        authorities: Some(folder.write(name, &authority.pem())),
        ..TlsFiles::default()
    };

    let server = Server::start(vec![answering(&config, 2, |_| ())]);
    let mut client = trusting(trusted(&ours, "ours.pem"));
    for _ in 0..2 {
        assert_eq!(
            post(&mut client, &secure_url(&server, "localhost")).unwrap().body,
            b"ok"
        );
    }
    assert_eq!(client.connections(), 1);
    server.end();

    let server = Server::start(vec![refused(&config), refused(&config), refused(&config)]);
    assert_tls(
        post(&mut client, &secure_url(&server, "127.0.0.1")),
        "not valid for name",
    );
    let mut client = trusting(trusted(&theirs, "theirs.pem"));
    assert_tls(post(&mut client, &secure_url(&server, "localhost")), "UnknownIssuer");
    // Nor is it one that the system trusts; where the system has no list, that is what is wrong.
    let mut client = trusting(TlsFiles::default());
    let failure = post(&mut client, &secure_url(&server, "localhost")).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Tls, "{failure}");
    let _ = TcpStream::connect(server.address);
    server.end();
}

#[test]
fn clients_show_a_certificate_and_a_new_one_once_it_is_there() {
    let folder = Folder::new("tls-client");
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let config = ours.server("localhost", Some(&ours));
    let files = TlsFiles {
        authorities: Some(folder.write("authority.pem", &ours.pem())),
        certificate: Some(folder.path("client.pem")),
        key: Some(folder.path("client.key")),
    };
    let write = |identity: &Identity| {
        folder.write("client.pem", &identity.certificate);
        folder.write("client.key", &identity.key);
        certificate(&identity.certificate).to_vec()
    };
    let (sender, seen) = channel();
    let answering = |requests| {
        let sender = sender.clone();
        answering(&config, requests, move |shown| sender.send(shown.unwrap()).unwrap())
    };
    let server = Server::start(vec![
        answering(2),
        answering(1),
        refused(&config),
        answering(1),
        refused(&config),
    ]);
    let url = secure_url(&server, "localhost");

    let first = write(&ours.issue("client", ExtendedKeyUsagePurpose::ClientAuth));
    let mut client = trusting(files.clone());
    post(&mut client, &url).unwrap();
    assert_eq!(seen.recv().unwrap(), first);
    assert!(!client.reload());
    // The key is not yet the new certificate's: the old pair stays in use, on the old connection.
    let next = ours.issue("client", ExtendedKeyUsagePurpose::ClientAuth);
    folder.write("client.pem", &next.certificate);
    assert!(!client.reload());
    assert!(
        client.problems()[0].contains("cannot be used together"),
        "{:?}",
        client.problems()
    );
    post(&mut client, &url).unwrap();
    assert_eq!(seen.recv().unwrap(), first);
    assert_eq!(client.connections(), 1);
    // Now it is.
    let second = write(&next);
    assert!(client.reload());
    assert!(client.problems().is_empty());
    post(&mut client, &url).unwrap();
    assert_eq!(seen.recv().unwrap(), second);
    assert_eq!(client.connections(), 2);

    // One that the server refuses, and files are read again at once because of it.
    write(&theirs.issue("client", ExtendedKeyUsagePurpose::ClientAuth));
    assert!(client.reload());
    let third = ours.issue("client", ExtendedKeyUsagePurpose::ClientAuth);
    let third = write(&third);
    assert_tls(post(&mut client, &url), "client's certificate");
    post(&mut client, &url).unwrap();
    assert_eq!(seen.recv().unwrap(), third);

    let mut without = trusting(TlsFiles {
        certificate: None,
        key: None,
        ..files
    });
    assert_tls(post(&mut without, &url), "CertificateRequired");
    server.end();
}

#[test]
fn what_is_not_tls_is_said_to_be() {
    let folder = Folder::new("tls-none");
    let files = TlsFiles {
        authorities: Some(folder.write("authority.pem", &Authority::new("ours").pem())),
        ..TlsFiles::default()
    };
    let mut client = trusting(files);
    let server = Server::start(vec![Box::new(|mut stream| {
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        let _ = stream.read(&mut [0; 10_000]);
    })]);
    assert_tls(
        post(&mut client, &secure_url(&server, "localhost")),
        "does not speak TLS",
    );
    server.end();

    // Ended, or silent, before there was TLS: nothing was sent.
    let (done, wait) = channel::<()>();
    let server = Server::start(vec![
        Box::new(|mut stream| stream.read_exact(&mut [0; 5]).unwrap()),
        Box::new(move |_stream| wait.recv().unwrap()),
    ]);
    let url = secure_url(&server, "localhost");
    let failure = post(&mut client, &url).unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotSent, "{failure}");
    let timeout = Duration::from_secs(1);
    let request = Request {
        method: Method::Post,
        url: &url,
        headers: &[],
        body: b"",
        timeout,
        overdue: None,
    };
    let failure = client.request(request).unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotSent, "{failure}");
    assert!(failure.message.ends_with("no connection within 1s"), "{failure}");
    assert_eq!(client.connections(), 0);
    done.send(()).unwrap();
    server.end();
}

#[test]
fn an_agreement_is_not_waited_for_when_the_exporter_ends() {
    let folder = Folder::new("tls-ends");
    let files = TlsFiles {
        authorities: Some(folder.write("authority.pem", &Authority::new("ours").pem())),
        ..TlsFiles::default()
    };
    // The far end itself, and a proxy that is asked for a tunnel to it.
    for is_proxy in [false, true] {
        let (server, _released) = hanging(|stream| stream.read_exact(&mut [0]).unwrap());
        let (proxy, url) = match is_proxy {
            false => (ProxySettings::Direct, secure_url(&server, "localhost")),
            true => (
                ProxySettings::Url(format!("http://{}", server.address)),
                url("https://far.test/"),
            ),
        };
        let mut client = client(HttpSettings {
            proxy,
            tls: files.clone(),
            ..HttpSettings::default()
        });
        let failure = post_until_the_exporter_ends(&mut client, &url, b"body", 20).unwrap_err();
        assert_eq!(failure.kind, FailureKind::NotSent, "{failure}");
        assert!(failure.message.contains("the exporter ends"), "{failure}");
    }
}

#[test]
fn dropping_connections_sends_nothing() {
    let folder = Folder::new("tls-drop");
    let authority = Authority::new("ours");
    let config = authority.server("localhost", None);
    let files = TlsFiles {
        authorities: Some(folder.write("authority.pem", &authority.pem())),
        ..TlsFiles::default()
    };
    let dropped: [fn(HttpClient); 2] = [drop, |mut client| client.reconnect()];
    for drop_it in dropped {
        let answer = answering(&config, 1, |_| ());
        let server = Server::start(vec![Box::new(move |stream| {
            answer(stream.try_clone().unwrap());
            // Below TLS: what a child after a fork would add here, its parent's connection would not survive.
            let mut raw = stream;
            assert_eq!(raw.read(&mut [0]).unwrap(), 0);
        })]);
        let mut client = trusting(files.clone());
        post(&mut client, &secure_url(&server, "localhost")).unwrap();
        drop_it(client);
        server.end();
    }
}

#[test]
fn a_proxy_makes_a_tunnel() {
    let folder = Folder::new("tls-tunnel");
    let authority = Authority::new("ours");
    let config = authority.server("far.test", None);
    let answer = answering(&config, 2, |_| ());
    let server = Server::start(vec![
        Box::new(move |mut stream| {
            let (head, _) = read_request(&mut stream);
            assert!(head.starts_with("CONNECT far.test:443 HTTP/1.1\r\n"), "{head}");
            assert_eq!(header(&head, "proxy-authorization"), Some("Basic dXNlcjpodXNo"));
            assert!(!head.contains("token"), "{head}");
            stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
            answer(stream);
        }),
        Box::new(|mut stream| {
            read_request(&mut stream);
            stream
                .write_all(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
        }),
        Box::new(|mut stream| {
            read_request(&mut stream);
        }),
    ]);
    let mut headers = Headers::default();
    headers.insert_bearer("token".into()).unwrap();
    let mut client = client(HttpSettings {
        headers,
        proxy: ProxySettings::Url(format!("http://user:hush@{}", server.address)),
        tls: TlsFiles {
            authorities: Some(folder.write("authority.pem", &authority.pem())),
            ..TlsFiles::default()
        },
        ..HttpSettings::default()
    });
    let url = url("https://far.test/v1/metrics");
    for _ in 0..2 {
        assert_eq!(post(&mut client, &url).unwrap().status, 200);
        assert_eq!(client.connections(), 1);
    }
    client.reconnect();
    for words in ["407", "did not respond"] {
        let failure = post(&mut client, &url).unwrap_err();
        assert_eq!(failure.kind, FailureKind::NotSent, "{failure}");
        assert!(failure.message.contains(words), "{failure}");
    }
    server.end();
}

#[test]
fn the_way_to_a_proxy_can_be_encrypted_too() {
    let folder = Folder::new("tls-proxy");
    let authority = Authority::new("ours");
    let (near, far) = (authority.server("localhost", None), authority.server("far.test", None));
    let near_too = Arc::clone(&near);
    let server = Server::start(vec![
        Box::new(move |mut stream| {
            secured(&near, &mut stream, |proxy| {
                let (head, _) = read_request(proxy);
                assert!(
                    head.starts_with("POST http://far.test/v1/metrics HTTP/1.1\r\n"),
                    "{head}"
                );
                proxy.write_all(OK).unwrap();
            });
        }),
        Box::new(move |mut stream| {
            secured(&near_too, &mut stream, |proxy| {
                let (head, _) = read_request(proxy);
                assert!(head.starts_with("CONNECT far.test:443 HTTP/1.1\r\n"), "{head}");
                proxy.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
                secured(&far, proxy, |server| {
                    let (head, _) = read_request(server);
                    assert!(head.starts_with("POST /v1/metrics HTTP/1.1\r\n"), "{head}");
                    server.write_all(OK).unwrap();
                });
            });
        }),
    ]);
    let mut client = client(HttpSettings {
        proxy: ProxySettings::Url(format!("https://localhost:{}", server.address.port())),
        tls: TlsFiles {
            authorities: Some(folder.write("authority.pem", &authority.pem())),
            ..TlsFiles::default()
        },
        ..HttpSettings::default()
    });
    for url in [url("http://far.test/v1/metrics"), url("https://far.test/v1/metrics")] {
        assert_eq!(post(&mut client, &url).unwrap().status, 200);
    }
    assert_eq!(client.connections(), 2);
    server.end();
}

#[test]
fn files_are_checked_at_once() {
    let folder = Folder::new("tls-files");
    let authority = Authority::new("ours");
    let identity = authority.issue("client", ExtendedKeyUsagePurpose::ClientAuth);
    let other = authority.issue("client", ExtendedKeyUsagePurpose::ClientAuth);
    let refused = |files| {
        HttpClient::new(HttpSettings {
            tls: files,
            ..HttpSettings::default()
        })
        .unwrap_err()
        .to_string()
    };
    for (content, rule) in [("", "no certificate in PEM"), (&identity.key, "no certificate in PEM")] {
        let authorities = Some(folder.write("authority.pem", content));
        let message = refused(TlsFiles {
            authorities,
            ..TlsFiles::default()
        });
        assert!(message.contains("authority.pem") && message.contains(rule), "{message}");
    }
    let authorities = Some(folder.path("missing.pem"));
    let message = refused(TlsFiles {
        authorities,
        ..TlsFiles::default()
    });
    assert!(
        message.contains("missing.pem") && message.contains("cannot be read"),
        "{message}"
    );
    for (key, rule) in [
        ("", "no private key"),
        (&identity.certificate, "no private key"),
        (&other.key, "together"),
    ] {
        let certificate = Some(folder.write("client.pem", &identity.certificate));
        let key = Some(folder.write("client.key", key));
        let authorities = Some(folder.write("authority.pem", &authority.pem()));
        let message = refused(TlsFiles {
            authorities,
            certificate,
            key,
        });
        assert!(message.contains("client.key") && message.contains(rule), "{message}");
    }
}
