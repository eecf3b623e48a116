//! Unix sockets, in a folder of each test's own.

use super::{
    tests::{BRIEFLY, HUGE, LONG, assert_end, assert_next, id, refused},
    *,
};
#[cfg(target_os = "linux")]
use crate::sync::{AtomicBool, Ordering};
use crate::testing::ManualClock;
use std::{
    env, fs,
    io::Read,
    os::unix::net::{UnixDatagram, UnixListener, UnixStream},
    path::PathBuf,
    process, thread,
};

/// A path of a test's own.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = env::temp_dir().join(format!("tidegauge-packets-{name}-{}", process::id()));
        let _ = fs::remove_file(&path);
        Place(path)
    }

    /// A server that takes datagrams, in the place of any other.
    fn datagrams(&self) -> UnixDatagram {
        let _ = fs::remove_file(&self.0);
        let socket = UnixDatagram::bind(&self.0).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        socket
    }

    fn listener(&self) -> UnixListener {
        let _ = fs::remove_file(&self.0);
        UnixListener::bind(&self.0).unwrap()
    }

    fn packets(&self, endpoint: fn(PathBuf) -> Endpoint) -> Packets {
        let clock = SharedClock::new(ManualClock::new());
        Packets::new(endpoint(self.0.clone()), Duration::ZERO, clock)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn received(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 16_384];
    let length = socket.recv(&mut bytes).unwrap();
    String::from_utf8(bytes[..length].to_vec()).unwrap()
}

fn accepted(listener: &UnixListener) -> UnixStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

/// The next frame, read as a server does.
fn frame(stream: &mut impl Read) -> Vec<u8> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut packet = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut packet).unwrap();
    packet
}

fn is_patient(packets: &Packets) -> bool {
    let Medium::Unix(unix) = &packets.medium else {
        panic!("not a Unix socket")
    };
    unix.is_patient()
}

#[test]
fn datagrams_survive_restarts_of_the_server() {
    let place = Place::new("restarts");
    for endpoint in [Endpoint::UnixDatagram, Endpoint::Unix] {
        let mut packets = place.packets(endpoint);
        for round in 0..3 {
            let server = place.datagrams();
            for sequence in 0..3 {
                let text = format!("{round} {sequence}");
                assert_eq!(packets.send(text.as_bytes(), id(sequence), LONG), Sent::Taken);
                assert_eq!(received(&server), text);
            }
        }
        assert_eq!(packets.connections(), 3);
    }
}

#[test]
fn a_server_that_is_gone_is_tried_at_each_send() {
    let place = Place::new("gone");
    let mut packets = place.packets(Endpoint::UnixDatagram);
    let (message, previous_too) = refused(packets.send(b"1", id(1), LONG));
    assert!(
        message.starts_with("unixgram:///") && message.contains("there is no socket"),
        "{message}"
    );
    assert!(!previous_too);
    let server = place.datagrams();
    assert_eq!(packets.send(b"1", id(1), LONG), Sent::Taken);
    assert_eq!(received(&server), "1");
    // Its file stays behind.
    drop(server);
    for _ in 0..3 {
        let (message, previous_too) = refused(packets.send(b"2", id(2), LONG));
        assert!(message.contains("nobody listens"), "{message}");
        assert!(!previous_too);
    }
    assert_eq!(packets.connections(), 1);
    let server = place.datagrams();
    assert_eq!(packets.send(b"2", id(2), LONG), Sent::Taken);
    assert_eq!(received(&server), "2");
    assert_eq!(packets.connections(), 2);
    packets.reconnect();
    assert_eq!(packets.send(b"3", id(3), LONG), Sent::Taken);
    assert_eq!(packets.connections(), 3);
}

#[test]
fn a_full_receiver_keeps_the_socket_and_is_waited_for_once() {
    let place = Place::new("full");
    let server = place.datagrams();
    let mut packets = place.packets(Endpoint::Unix);
    let mut taken = 0;
    let message = loop {
        assert!(is_patient(&packets) && taken < 1_000_000);
        match packets.send(format!("{taken}").as_bytes(), id(taken), LONG) {
            Sent::Taken => taken += 1,
            sent => break refused(sent),
        }
    };
    assert!(message.0.contains("does not read fast enough"), "{}", message.0);
    assert!(!message.1);
    for _ in 0..100 {
        refused(packets.send(format!("{taken}").as_bytes(), id(taken), LONG));
        assert!(!is_patient(&packets));
    }
    // When there is room again, what was refused is taken, and patience is back.
    for text in 0..taken {
        assert_eq!(received(&server), text.to_string());
    }
    assert_eq!(
        packets.send(format!("{taken}").as_bytes(), id(taken), LONG),
        Sent::Taken
    );
    assert!(is_patient(&packets));
    assert_eq!(received(&server), taken.to_string());
    assert_eq!(packets.connections(), 1);
}

/// Linux tells whether a thread is waiting.
#[cfg(target_os = "linux")]
#[test]
fn a_full_receiver_is_waited_for() {
    let place = Place::new("patience");
    let server = place.datagrams();
    let other = UnixDatagram::unbound().unwrap();
    other.connect(&place.0).unwrap();
    other.set_nonblocking(true).unwrap();
    let this_thread = fs::canonicalize("/proc/thread-self").unwrap().join("stat");
    let is_waiting = move || fs::read_to_string(&this_thread).unwrap().contains(") S ");
    // On a busy machine nobody may come to read within anybody's patience.
    for _ in 0..100 {
        while other.send(b"other").is_ok() {}
        let mut packets = place.packets(Endpoint::UnixDatagram);
        let over = AtomicBool::new(false);
        let sent = thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    if is_waiting() {
                        server.recv(&mut [0; 8]).unwrap();
                        break;
                    }
                }
            });
            let sent = packets.send(b"this", id(1), LONG);
            over.store(true, Ordering::Relaxed);
            sent
        });
        if sent == Sent::Taken {
            return;
        }
    }
    panic!("nothing was waited for");
}

#[test]
fn a_datagram_that_is_too_large_is_not_sent() {
    let place = Place::new("large");
    let server = place.datagrams();
    let mut packets = place.packets(Endpoint::Unix);
    let Sent::TooLarge(message) = packets.send(&vec![b'x'; HUGE], id(1), LONG) else {
        panic!("taken")
    };
    assert!(message.contains("make packets smaller"), "{message}");
    assert!(is_patient(&packets));
    let large = "x".repeat(8192);
    assert_eq!(packets.send(large.as_bytes(), id(2), LONG), Sent::Taken);
    assert_eq!(received(&server), large);
    assert_eq!(packets.connections(), 1);
}

#[test]
fn the_type_of_the_socket_decides_or_is_named() {
    let place = Place::new("types");
    let listener = place.listener();
    let mut either = place.packets(Endpoint::Unix);
    assert_eq!(either.send(b"framed", id(1), LONG), Sent::Taken);
    assert_eq!(frame(&mut accepted(&listener)), b"framed");
    let (message, _) = refused(place.packets(Endpoint::UnixDatagram).send(b"1", id(1), LONG));
    assert!(message.contains("is a stream, write unixstream://"), "{message}");
    drop(listener);

    // The same server with another type, later.
    let server = place.datagrams();
    assert_eq!(either.send(b"bare", id(2), LONG), Sent::Taken);
    assert_eq!(received(&server), "bare");
    let (message, _) = refused(place.packets(Endpoint::UnixStream).send(b"1", id(1), LONG));
    assert!(message.contains("takes datagrams, write unixgram://"), "{message}");
}

#[test]
fn packets_on_a_stream_are_framed() {
    let place = Place::new("frames");
    let listener = place.listener();
    let mut packets = place.packets(Endpoint::UnixStream);
    assert_eq!(packets.send(b"a:1|c\n", id(1), LONG), Sent::Taken);
    let long = vec![b'y'; 0x0102];
    assert_eq!(packets.send(&long, id(2), LONG), Sent::Taken);
    let mut server = accepted(&listener);
    assert_next(&mut server, "\u{6}\0\0\0a:1|c\n\u{2}\u{1}\0\0");
    let mut rest = vec![0; long.len()];
    server.read_exact(&mut rest).unwrap();
    assert_eq!(rest, long);
    assert_eq!(packets.connections(), 1);
}

#[test]
fn a_stream_survives_restarts_of_the_server() {
    let place = Place::new("stream-restarts");
    let mut packets = place.packets(Endpoint::UnixStream);
    for round in 0..3u8 {
        let listener = place.listener();
        for sequence in 0..3 {
            assert_eq!(packets.send(&[round, sequence], id(sequence.into()), LONG), Sent::Taken);
        }
        let mut server = accepted(&listener);
        for sequence in 0..3 {
            assert_eq!(frame(&mut server), [round, sequence]);
        }
    }
    let (message, _) = refused(packets.send(b"1", id(1), LONG));
    assert!(message.contains("nobody listens"), "{message}");
    assert_eq!(packets.connections(), 3);
}

#[test]
fn a_part_of_a_frame_is_followed_by_the_rest() {
    let place = Place::new("parts");
    let listener = place.listener();
    let mut packets = place.packets(Endpoint::UnixStream);
    let packet = vec![b'x'; HUGE];
    let (message, _) = refused(packets.send(&packet, id(1), BRIEFLY));
    assert!(message.contains("fast enough"), "{message}");
    refused(packets.send(&packet, id(1), Duration::ZERO));
    let mut server = accepted(&listener);
    let reader = thread::spawn(move || {
        let packet = frame(&mut server);
        assert!(packet.len() == HUGE && packet.iter().all(|byte| *byte == b'x'));
        assert_eq!(frame(&mut server), b"end");
    });
    assert_eq!(packets.send(&packet, id(1), LONG), Sent::Taken);
    assert_eq!(packets.send(b"end", id(2), LONG), Sent::Taken);
    reader.join().unwrap();
    assert_eq!(packets.connections(), 1);
}

#[test]
fn another_frame_does_not_follow_a_part() {
    let place = Place::new("no-resync");
    let listener = place.listener();
    let mut packets = place.packets(Endpoint::UnixStream);
    refused(packets.send(&vec![b'x'; HUGE], id(1), BRIEFLY));
    let mut first = accepted(&listener);
    assert_eq!(packets.send(b"y", id(2), LONG), Sent::Taken);
    let mut bytes = Vec::new();
    first.read_to_end(&mut bytes).unwrap();
    assert!(bytes.len() < HUGE);
    assert_eq!(frame(&mut accepted(&listener)), b"y");
    assert_eq!(packets.connections(), 2);
}

#[test]
fn a_part_on_a_connection_that_is_lost_is_nothing() {
    let place = Place::new("lost");
    let listener = place.listener();
    let mut packets = place.packets(Endpoint::UnixStream);
    let packet = vec![b'x'; HUGE];
    refused(packets.send(&packet, id(1), BRIEFLY));
    drop(accepted(&listener));
    let reader = thread::spawn(move || {
        let mut server = accepted(&listener);
        assert_eq!(frame(&mut server).len(), HUGE);
        assert_end(&mut server);
        listener
    });
    assert_eq!(packets.send(&packet, id(1), LONG), Sent::Taken);
    assert_eq!(packets.connections(), 2);
    packets.reconnect();
    let listener = reader.join().unwrap();

    // And where nobody is there to take it: it may be sent again.
    refused(packets.send(&packet, id(2), BRIEFLY));
    drop(accepted(&listener));
    drop(listener);
    let (message, previous_too) = refused(packets.send(&packet, id(2), LONG));
    assert!(message.contains("nobody listens"), "{message}");
    assert!(!previous_too);
}

#[test]
fn a_server_that_accepts_nobody_is_not_waited_for() {
    let place = Place::new("backlog");
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&place.0).unwrap()).unwrap();
    socket.listen(0).unwrap();
    let mut waiting = Vec::new();
    // If it were, the test would not end.
    let (message, _) = loop {
        let mut packets = place.packets(Endpoint::UnixStream);
        match packets.send(b"1", id(1), Duration::from_secs(3600)) {
            Sent::Taken => waiting.push(packets),
            sent => break refused(sent),
        };
        assert!(waiting.len() < 100);
    };
    assert!(
        !waiting.is_empty() && message.contains("accepts no more connections"),
        "{message}"
    );
}
