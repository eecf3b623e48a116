//! The endpoint as its clients see it: real sockets, real threads, hostile and ordinary clients.

#![cfg(feature = "serve")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tidegauge::{Registry, Server, ServerStatistics, Stopped};

/// Only ever waited for when a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes replies that no socket's buffers hold.
const FILLER_BYTES: usize = 4 << 20;

fn registry() -> Registry {
    let registry = Registry::new();
    let jobs = registry.counter("jobs_total", "Jobs run.").register().unwrap();
    jobs.add(3);
    let others = registry.counter("others_total", "Other things.").register().unwrap();
    others.add(4);
    registry
}

fn connect(server: &Server) -> TcpStream {
    connect_to(server.local_addr().unwrap())
}

fn connect_to(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    client
}

/// Sends one request and returns all that comes until the server closes.
fn exchange(mut client: impl Read + Write, request: &str) -> String {
    client.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    client.read_to_string(&mut reply).unwrap();
    reply
}

fn last_request(method: &str, target: &str, headers: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}\r\n")
}

fn get(server: &Server, target: &str) -> String {
    exchange(connect(server), &last_request("GET", target, ""))
}

fn status(reply: &str) -> u16 {
    reply["HTTP/1.1 ".len()..][..3].parse().unwrap()
}

fn header<'reply>(reply: &'reply str, name: &str) -> Option<&'reply str> {
    let (head, _) = reply.split_once("\r\n\r\n").unwrap();
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .find(|(given, _)| given.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

fn body(reply: &str) -> &str {
    reply.split_once("\r\n\r\n").unwrap().1
}

/// Asks for the server's health until its statistics are as wanted.
fn wait_until(server: &Server, wanted: impl Fn(&ServerStatistics) -> bool) {
    let start = Instant::now();
    while !wanted(&server.statistics()) {
        assert_eq!(status(&get(server, "/-/healthy")), 200);
        assert!(start.elapsed() < PATIENCE, "{:?}", server.statistics());
    }
}

/// Reads exactly one reply from a connection that stays open.
fn read_reply(reader: &mut impl BufRead) -> String {
    let mut reply = String::new();
    while !reply.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut reply).unwrap(), 0, "closed after {reply:?}");
    }
    let length = header(&reply, "content-length").unwrap().parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    reply + std::str::from_utf8(&body).unwrap()
}

#[test]
fn each_path_answers() {
    let server = tidegauge::serve("127.0.0.1:0", &registry()).unwrap();

    let metrics = get(&server, "/metrics");
    assert_eq!(status(&metrics), 200);
    assert!(header(&metrics, "content-type").unwrap().starts_with("text/plain"));
    assert_eq!(header(&metrics, "x-content-type-options"), Some("nosniff"));
    assert_eq!(header(&metrics, "connection"), Some("close"));
    assert!(body(&metrics).contains("jobs_total 3\n") && body(&metrics).contains("others_total 4\n"));

    let filtered = get(&server, "/metrics?name[]=jobs_total");
    assert!(body(&filtered).contains("jobs_total 3\n") && !body(&filtered).contains("others"));

    assert_eq!(status(&get(&server, "/-/healthy")), 200);
    let landing = get(&server, "/");
    assert_eq!(status(&landing), 200);
    assert!(body(&landing).contains("href=\"/metrics\""));
    for missing in ["/metric", "/metrics/", "/favicon.ico"] {
        let reply = get(&server, missing);
        assert_eq!(status(&reply), 404);
        assert!(header(&reply, "content-type").unwrap().starts_with("text/plain"));
        assert_eq!(
            header(&reply, "content-length").unwrap(),
            body(&reply).len().to_string()
        );
    }
    let absolute = format!("{}?name[]=jobs_total", server.url().unwrap());
    assert!(body(&get(&server, &absolute)).contains("jobs_total 3\n"));
    assert_eq!(server.stop(), Stopped::Joined);
}

#[test]
fn head_is_get_without_the_body() {
    let server = tidegauge::serve("127.0.0.1:0", &registry()).unwrap();
    for target in ["/metrics", "/", "/-/healthy", "/missing"] {
        let got = get(&server, target);
        let headed = exchange(connect(&server), &last_request("HEAD", target, ""));
        assert_eq!(body(&headed), "");
        assert_eq!(headed, &got[..headed.len()]);
    }
}

#[test]
fn other_methods_are_refused() {
    let server = tidegauge::serve("127.0.0.1:0", &registry()).unwrap();
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let reply = exchange(
            connect(&server),
            &last_request(method, "/metrics", "Content-Length: 0\r\n"),
        );
        assert_eq!(status(&reply), 405);
        assert_eq!(header(&reply, "allow"), Some("GET, HEAD"));
    }
}

#[test]
fn a_connection_is_kept_and_its_requests_answered_in_order() {
    let server = tidegauge::serve("127.0.0.1:0", &registry()).unwrap();
    let mut client = connect(&server);
    let mut reader = BufReader::new(client.try_clone().unwrap());
    for _ in 0..3 {
        client.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert!(read_reply(&mut reader).contains("jobs_total 3\n"));
    }
    let targets = ["/metrics", "/-/healthy", "/missing", "/"].repeat(100);
    let requests: String = targets
        .iter()
        .map(|target| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .collect();
    let writer = thread::spawn(move || client.write_all(requests.as_bytes()).map(|()| client));
    for target in targets {
        let expected = if target == "/missing" { 404 } else { 200 };
        let reply = read_reply(&mut reader);
        assert_eq!(status(&reply), expected);
        assert_eq!(reply.contains("jobs_total 3\n"), target == "/metrics");
    }
    let client = writer.join().unwrap().unwrap();
    assert_eq!(server.statistics().accepted, 1);

    // Stopping does not wait for a connection that is merely kept.
    assert_eq!(server.stop(), Stopped::Joined);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    drop(client);
}

#[test]
fn ambiguous_requests_get_one_refusal_and_no_second_reply() {
    let server = tidegauge::serve("127.0.0.1:0", &registry()).unwrap();
    let smuggled = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
    for headers in [
        "Content-Length: 0\r\nContent-Length: 38\r\n",
        "Content-Length: 38\r\nTransfer-Encoding: chunked\r\n",
        "X: y\r\n folded: z\r\n",
        "Host: again\r\n",
    ] {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: a\r\n{headers}\r\n{smuggled}{smuggled}");
        let reply = exchange(connect(&server), &request);
        assert_eq!(status(&reply), 400, "{headers:?}");
        assert_eq!(reply.matches("Content-Length: ").count(), 1, "{reply}");
        assert_eq!(header(&reply, "connection"), Some("close"));
    }
    for (request, expected) in [
        ("GET /metrics HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET /metrics HTTP/2.0\r\n\r\n".to_owned(), 505),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(100_000)), 414),
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(100_000)),
            431,
        ),
    ] {
        let reply = exchange(connect(&server), &request);
        assert_eq!(status(&reply), expected);
        assert_eq!(header(&reply, "connection"), Some("close"));
    }
    assert_eq!(server.statistics().scrapes, 0);
}

#[test]
fn authorization_is_required_for_all_but_health() {
    let server = Server::builder()
        .bearer_token("example-token")
        .basic_auth("user", "word")
        .serve("127.0.0.1:0", &registry())
        .unwrap();
    let ask = |target: &str, header: &str| exchange(connect(&server), &last_request("GET", target, header));
    for target in ["/metrics", "/"] {
        for wrong in ["", "Authorization: Bearer example\r\n", "Authorization: Basic eDp5\r\n"] {
            let reply = ask(target, wrong);
            assert_eq!(status(&reply), 401);
            assert!(header(&reply, "www-authenticate").is_some());
            assert!(!reply.contains("jobs_total"));
        }
        assert_eq!(status(&ask(target, "Authorization: Bearer example-token\r\n")), 200);
        // user:word
        assert_eq!(status(&ask(target, "Authorization: Basic dXNlcjp3b3Jk\r\n")), 200);
    }
    assert_eq!(status(&ask("/-/healthy", "")), 200);
}

#[test]
fn a_scrape_that_hangs_stops_nobody_else() {
    let registry = registry();
    let (begin, begun) = channel();
    let (go, gone) = channel::<()>();
    let (begin, gone) = (Mutex::new(begin), Mutex::new(gone));
    registry
        .observable_gauge("slow", "Read slowly.")
        .register(move || {
            let _ = begin.lock().unwrap().send(());
            // Ends when the test lets go.
            let _ = gone.lock().unwrap().recv();
            1.0
        })
        .unwrap();
    let server = tidegauge::serve("127.0.0.1:0", &registry).unwrap();
    let mut scraper = connect(&server);
    scraper
        .write_all(last_request("GET", "/metrics", "").as_bytes())
        .unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    for _ in 0..10 {
        assert_eq!(status(&get(&server, "/-/healthy")), 200);
        assert_eq!(status(&get(&server, "/missing")), 404);
    }
    drop(go);
    let mut reply = String::new();
    scraper.read_to_string(&mut reply).unwrap();
    assert!(reply.contains("slow 1"));
}

#[test]
fn slow_and_silent_clients_are_let_go() {
    let server = Server::builder()
        .read_timeout(Duration::from_millis(20))
        .idle_timeout(Duration::from_millis(20))
        .serve("127.0.0.1:0", &registry())
        .unwrap();
    let mut timed_out = 0;
    // A client that is not quick enough itself is let go before it has said a word.
    let mut quickly = |request: &str| {
        loop {
            timed_out += 1;
            assert!(timed_out < 200, "nobody is quick enough for it");
            let (mut client, mut reply) = (connect(&server), String::new());
            let told = client.write_all(request.as_bytes());
            match told.and_then(|()| client.read_to_string(&mut reply)) {
                Ok(1..) => return reply,
                Ok(0) => {}
                Err(error) => assert!(
                    [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset].contains(&error.kind()),
                    "{error}"
                ),
            }
        }
    };
    let reply = quickly("GET /metrics HTTP/1.1\r\nHost: ");
    assert_eq!(status(&reply), 408);
    let kept = quickly("GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(status(&kept), 200);
    assert_eq!(exchange(connect(&server), ""), "");
    assert_eq!(server.statistics().timed_out, timed_out + 1);
}

#[test]
fn a_client_that_does_not_read_is_let_go() {
    let registry = registry();
    let filler = "x".repeat(FILLER_BYTES);
    registry.counter("filler_total", &filler).register().unwrap();
    let server = Server::builder()
        .write_stall_timeout(Duration::from_millis(50))
        .serve("127.0.0.1:0", &registry)
        .unwrap();
    let mut client = connect(&server);
    // Several replies, so that no buffer holds them all.
    let requests = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(16);
    client.write_all(requests.as_bytes()).unwrap();
    wait_until(&server, |statistics| statistics.timed_out > 0);
}

#[test]
fn when_full_the_longest_idle_makes_room() {
    let server = Server::builder()
        .connection_limit(3)
        .serve("127.0.0.1:0", &registry())
        .unwrap();
    let request = b"GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut clients: Vec<_> = (0..3)
        .map(|_| {
            let mut client = BufReader::new(connect(&server));
            client.get_mut().write_all(request).unwrap();
            read_reply(&mut client);
            client
        })
        .collect();
    // The first is used again, which leaves the second idle for longest.
    clients[0].get_mut().write_all(request).unwrap();
    read_reply(&mut clients[0]);
    let mut newcomer = BufReader::new(connect(&server));
    newcomer.get_mut().write_all(request).unwrap();
    read_reply(&mut newcomer);
    assert_eq!(clients[1].read(&mut [0]).unwrap(), 0);
    for index in [0, 2] {
        clients[index].get_mut().write_all(request).unwrap();
        read_reply(&mut clients[index]);
    }
    let statistics = server.statistics();
    assert_eq!((statistics.accepted, statistics.open, statistics.evicted), (4, 3, 1));
}

#[test]
fn replies_that_nobody_reads_are_bounded() {
    let registry = registry();
    let filler = "x".repeat(FILLER_BYTES);
    registry.counter("filler_total", &filler).register().unwrap();
    let server = Server::builder()
        .reply_bytes_limit(1)
        .serve("127.0.0.1:0", &registry)
        .unwrap();
    let hoarders: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut client = connect(&server);
            let requests = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(16);
            client.write_all(requests.as_bytes()).unwrap();
            client
        })
        .collect();
    wait_until(&server, |statistics| statistics.evicted > 0);
    assert_eq!(status(&get(&server, "/metrics")), 200);
    drop(hoarders);
}

#[test]
fn many_scrape_at_once() {
    let server = Server::builder()
        .render_queue(1000)
        .serve("127.0.0.1:0", &registry())
        .unwrap();
    let address = server.local_addr().unwrap();
    let start = Arc::new(Barrier::new(16));
    let scrapers: Vec<_> = (0..16)
        .map(|_| {
            let start = Arc::clone(&start);
            thread::spawn(move || {
                start.wait();
                for _ in 0..20 {
                    let reply = exchange(connect_to(address), &last_request("GET", "/metrics", ""));
                    assert!(reply.contains("jobs_total 3\n"));
                }
            })
        })
        .collect();
    for scraper in scrapers {
        scraper.join().unwrap();
    }
    assert_eq!(server.statistics().scrapes, 320);
    assert_eq!(server.stop(), Stopped::Joined);
}

#[test]
fn nobody_is_served_after_the_end() {
    // Where there is an address that no other test has, nobody else is given the port when it is free.
    let own = match cfg!(target_os = "linux") {
        true => "127.0.0.3:0",
        false => "127.0.0.1:0",
    };
    for drop_only in [false, true] {
        let server = tidegauge::serve(own, &registry()).unwrap();
        let address = server.local_addr().unwrap();
        let mut idle = connect(&server);
        if drop_only {
            drop(server);
        } else {
            assert_eq!(server.stop(), Stopped::Joined);
        }
        assert!(TcpStream::connect(address).is_err());
        // Closed, or refused before it was accepted.
        assert!(matches!(idle.read(&mut [0]), Ok(0) | Err(_)));
        // The address is free again at once.
        drop(tidegauge::serve(address, &registry()).unwrap());
    }
}

#[test]
fn ipv6_is_served_where_there_is_any() {
    match tidegauge::serve("[::1]:0", &registry()) {
        Ok(server) => {
            assert!(server.url().unwrap().starts_with("http://[::1]:"));
            assert!(get(&server, "/metrics").contains("jobs_total 3\n"));
        }
        Err(error) => assert!(error.to_string().contains("[::1]:0"), "{error}"),
    }
}

#[test]
fn errors_name_the_address() {
    let first = tidegauge::serve("127.0.0.1:0", &registry()).unwrap();
    let taken = first.local_addr().unwrap();
    let error = tidegauge::serve(taken, &registry()).unwrap_err();
    assert!(error.is_in_use());
    assert!(error.to_string().contains(&taken.to_string()), "{error}");
    let error = tidegauge::serve("9464", &registry()).unwrap_err();
    assert!(error.is_address());
    assert!(error.to_string().contains("on 9464: "), "{error}");
}

#[cfg(unix)]
#[test]
fn a_unix_socket_is_served_and_removed() {
    use std::os::unix::net::UnixStream;

    let path = std::env::temp_dir().join(format!("tidegauge-endpoint-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let address = format!("unix:{}", path.display());
    let server = tidegauge::serve(&address, &registry()).unwrap();
    assert_eq!(server.unix_path(), Some(path.as_path()));
    assert_eq!((server.local_addr(), server.url()), (None, None));
    for _ in 0..2 {
        let client = UnixStream::connect(&path).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let reply = exchange(client, &last_request("GET", "/metrics", ""));
        assert!(reply.contains("jobs_total 3\n"));
    }
    assert!(tidegauge::serve(&address, &registry()).unwrap_err().is_in_use());
    assert_eq!(server.stop(), Stopped::Joined);
    assert!(!path.exists());
}

#[test]
fn a_crowd_does_not_keep_a_scrape_waiting() {
    alone("in_a_crowd", "ulimit -n 24000 || ulimit -n $(ulimit -H -n)");
}

/// Clients that only open a connection, or begin a request and never end it; set `TIDEGAUGE_CROWD` for more of them.
/// Prints how long a scrape takes meanwhile.
#[test]
#[ignore = "needs a process of its own, see a_crowd_does_not_keep_a_scrape_waiting"]
fn in_a_crowd() {
    let wanted = std::env::var("TIDEGAUGE_CROWD").map_or(2_000, |size| size.parse().unwrap());
    // Both ends of a connection are descriptors of this process.
    let size = (descriptors(2 * wanted + 500) / 2).saturating_sub(100).min(wanted);
    for limit in [Server::builder().connection_limit(size + 100), Server::builder()] {
        let server = limit.serve("127.0.0.1:0", &registry()).unwrap();
        let address = server.local_addr().unwrap();
        let mut slowest = Duration::ZERO;
        let mut crowd = Vec::with_capacity(size);
        for number in 0..size {
            let mut client = TcpStream::connect(address).unwrap();
            if number % 2 == 0 {
                // Pushed out already, perhaps.
                let _ = client.write_all(b"GET /metrics HTTP/1.1\r\nHost: slow\r\nX-Slow: ");
            }
            crowd.push(client);
            if number % 100 == 0 {
                slowest = slowest.max(scrape_and_time(address));
            }
        }
        slowest = slowest.max(scrape_and_time(address));
        println!("{size} clients, slowest scrape {slowest:?}, {:?}", server.statistics());
        assert_eq!(server.stop(), Stopped::Joined);
        drop(crowd);
    }
}

/// How many descriptors this process can have, as far as it is worth knowing.
fn descriptors(worth: usize) -> usize {
    let this = std::env::current_exe().unwrap();
    let files: Vec<_> = (0..worth).map_while(|_| std::fs::File::open(&this).ok()).collect();
    files.len()
}

fn scrape_and_time(address: SocketAddr) -> Duration {
    let start = Instant::now();
    let reply = exchange(connect_to(address), &last_request("GET", "/metrics", ""));
    assert!(reply.contains("jobs_total 3\n"));
    start.elapsed()
}

#[cfg(unix)]
#[test]
fn running_out_of_descriptors_is_survived() {
    alone("without_descriptors", "ulimit -n 64");
}

#[cfg(unix)]
#[test]
#[ignore = "needs a process of its own, see running_out_of_descriptors_is_survived"]
fn without_descriptors() {
    let server = tidegauge::serve("127.0.0.1:0", &registry()).unwrap();
    let address = server.local_addr().unwrap();
    let idle: Vec<TcpStream> = (0..10).map(|_| connect_to(address)).collect();
    assert_eq!(status(&get(&server, "/-/healthy")), 200);
    let mut files = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        files.push(file);
    }
    for _ in 0..5 {
        // One descriptor for the client, none for the server.
        files.pop();
        let reply = exchange(connect_to(address), &last_request("GET", "/metrics", ""));
        assert!(reply.contains("jobs_total 3\n"));
        while let Ok(file) = std::fs::File::open("/dev/null") {
            files.push(file);
        }
    }
    assert!(server.statistics().accept_failures >= 1);
    assert!(server.statistics().evicted >= 1);
    drop((files, idle));
    assert_eq!(status(&get(&server, "/-/healthy")), 200);
    assert_eq!(server.stop(), Stopped::Joined);
}

/// Runs one ignored test of this file in a process of its own, where it may exhaust what it likes.
fn alone(test: &str, limits: &str) {
    let this = std::env::current_exe().unwrap();
    let mut command = if cfg!(unix) {
        let mut shell = Command::new("sh");
        let script = format!("({limits}) 2>/dev/null && {{ {limits}; }} 2>/dev/null; exec \"$0\" \"$@\"");
        shell.arg("-c").arg(script).arg(this);
        shell
    } else {
        Command::new(this)
    };
    let output: io::Result<_> = command
        .args(["--ignored", "--exact", test, "--nocapture", "--test-threads", "1"])
        .output();
    let output = output.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    println!("{printed}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && printed.contains("1 passed"));
}
