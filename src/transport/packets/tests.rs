//! UDP and TCP, over the loopback interface.

use super::*;
#[cfg(target_os = "linux")]
use crate::transport::connect::full_listener;
use crate::{
    destination::Overdue,
    sync::{AtomicUsize, LongMutex, Ordering},
    testing::ManualClock,
    transport::connect::closed_port,
};
use names::LookUp;
use socket2::{Domain, Socket, Type};
use std::{
    io::{self, Read},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::mpsc,
    thread,
    time::Instant,
};

pub(super) const LONG: Duration = Duration::from_secs(60);

const RESOLVE_EVERY: Duration = Duration::from_secs(60);

pub(super) fn id(sequence: u64) -> BatchId {
    BatchId { exporter: 7, sequence }
}

/// The message of a packet that was refused, and whether the one before was, too.
#[track_caller]
pub(super) fn refused(sent: Sent) -> (String, bool) {
    match sent {
        Sent::Refused { message, previous_too } => (message, previous_too),
        sent => panic!("{sent:?}"),
    }
}

/// Waits until something is so that is about to be.
#[track_caller]
pub(super) fn eventually(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < deadline, "it never was");
        thread::yield_now();
    }
}

fn udp(address: SocketAddr) -> Packets {
    let endpoint = Endpoint::Udp {
        host: address.ip().to_string(),
        port: address.port(),
    };
    Packets::new(endpoint, RESOLVE_EVERY, SharedClock::new(ManualClock::new()))
}

fn tcp(address: SocketAddr) -> (Packets, ManualClock) {
    let endpoint = Endpoint::Tcp {
        host: address.ip().to_string(),
        port: address.port(),
    };
    let clock = ManualClock::new();
    (
        Packets::new(endpoint, RESOLVE_EVERY, SharedClock::new(clock.clone())),
        clock,
    )
}

fn named(scheme: &str, look_up: Arc<LookUp>) -> (Packets, ManualClock) {
    let (endpoint, _) = Endpoint::parse(&format!("{scheme}://name:8125")).unwrap();
    let clock = ManualClock::new();
    let packets = Packets::resolving_with(look_up, endpoint, RESOLVE_EVERY, SharedClock::new(clock.clone()));
    (packets, clock)
}

/// A resolver that gives what it is told to, and counts how often it is asked.
#[derive(Default)]
struct Resolver {
    addresses: LongMutex<Vec<SocketAddr>>,
    asked: AtomicUsize,
}

impl Resolver {
    fn of(addresses: &[SocketAddr]) -> Arc<Resolver> {
        let resolver = Resolver::default();
        resolver.points_to(addresses);
        Arc::new(resolver)
    }

    fn points_to(&self, addresses: &[SocketAddr]) {
        *self.addresses.lock().unwrap() = addresses.to_vec();
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn look_up(self: &Arc<Resolver>) -> Arc<LookUp> {
        let resolver = Arc::clone(self);
        Arc::new(move |name| {
            assert_eq!(name, "name:8125");
            resolver.asked.fetch_add(1, Ordering::SeqCst);
            let addresses = resolver.addresses.lock().unwrap().clone();
            if addresses.is_empty() {
                return Err(io::Error::other("no such host"));
            }
            Ok(addresses)
        })
    }
}

/// A UDP port that is held for a test, whether somebody listens or not.
struct Port {
    address: SocketAddr,
    /// Bound, and connected elsewhere: nothing that we send is for it.
    _deaf: Socket,
}

impl Port {
    fn new() -> Port {
        let deaf = Port::bound((Ipv4Addr::LOCALHOST, 0).into());
        let address = deaf.local_addr().unwrap().as_socket().unwrap();
        deaf.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, 1)).into())
            .unwrap();
        Port { address, _deaf: deaf }
    }

    fn listen(&self) -> UdpSocket {
        let socket: UdpSocket = Port::bound(self.address).into();
        socket.set_read_timeout(Some(LONG)).unwrap();
        socket
    }

    fn bound(address: SocketAddr) -> Socket {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket
    }

    /// As an address that is not known to be on this machine.
    fn as_if_remote(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), self.address.port()))
    }
}

fn received(socket: &UdpSocket) -> String {
    let mut bytes = [0; 2048];
    let length = socket.recv(&mut bytes).unwrap();
    String::from_utf8(bytes[..length].to_vec()).unwrap()
}

#[track_caller]
fn assert_nothing_came(socket: &UdpSocket) {
    socket.set_nonblocking(true).unwrap();
    let error = socket.recv(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    socket.set_nonblocking(false).unwrap();
}

/// Sends a datagram past the bookkeeping, so that what the far end says to it comes at an unexpected time.
fn send_aside(packets: &Packets) {
    let Medium::Udp(udp) = &packets.medium else {
        panic!("not UDP")
    };
    udp.socket().unwrap().send(b"aside").unwrap();
}

#[test]
fn datagrams_arrive_over_one_socket() {
    let port = Port::new();
    let server = port.listen();
    let mut packets = udp(port.address);
    for text in ["one", "two"] {
        assert_eq!(packets.send(text.as_bytes(), id(1), LONG), Sent::Taken);
        assert_eq!(received(&server), text);
    }
    assert_eq!(packets.connections(), 1);
    packets.reconnect();
    assert_eq!(packets.send(b"three", id(2), LONG), Sent::Taken);
    assert_eq!(received(&server), "three");
    assert_eq!(packets.connections(), 2);
    assert_eq!(packets.late_refusal(), None);
}

#[test]
fn a_datagram_that_nobody_listens_for_is_refused_alone_on_this_machine() {
    let port = Port::new();
    let mut packets = udp(port.address);
    for sequence in 0..3 {
        let (message, previous_too) = refused(packets.send(b"lost", id(sequence), LONG));
        assert!(!previous_too);
        assert!(
            message.starts_with(&format!("udp://{}: nobody listens", port.address)),
            "{message}"
        );
    }
    let server = port.listen();
    assert_eq!(packets.send(b"first", id(3), LONG), Sent::Taken);
    assert_eq!(received(&server), "first");
    drop(server);
    assert!(!refused(packets.send(b"lost", id(4), LONG)).1);
    assert_eq!(packets.late_refusal(), None);
    let server = port.listen();
    assert_eq!(packets.send(b"second", id(4), LONG), Sent::Taken);
    assert_eq!(received(&server), "second");
    assert_eq!(packets.connections(), 1);
}

#[test]
fn a_refusal_from_elsewhere_blames_the_datagram_before_too() {
    let port = Port::new();
    let server = port.listen();
    let mut packets = udp(port.as_if_remote());
    // The mapped address takes a socket of IPv6 to reach.
    assert_eq!(packets.send(b"kept", id(1), LONG), Sent::Taken);
    assert_eq!(received(&server), "kept");
    drop(server);
    assert!(refused(packets.send(b"lost", id(2), LONG)).1);
    assert!(!refused(packets.send(b"lost", id(3), LONG)).1, "it is blamed once");
}

#[test]
fn a_refusal_that_waits_for_the_next_datagram_blames_the_one_before() {
    let port = Port::new();
    let server = port.listen();
    let mut packets = udp(port.address);
    assert_eq!(packets.send(b"lost later", id(1), LONG), Sent::Taken);
    drop(server);
    send_aside(&packets);
    let server = port.listen();
    assert!(refused(packets.send(b"not sent", id(2), LONG)).1);
    assert_nothing_came(&server);
    assert_eq!(packets.send(b"sent", id(2), LONG), Sent::Taken);
    assert_eq!(received(&server), "sent");
}

#[test]
fn a_refusal_of_the_last_datagram_is_told_when_asked_for_once() {
    let port = Port::new();
    let server = port.listen();
    let mut packets = udp(port.address);
    assert_eq!(packets.late_refusal(), None);
    assert_eq!(packets.send(b"lost later", id(1), LONG), Sent::Taken);
    assert_eq!(packets.late_refusal(), None);
    drop(server);
    send_aside(&packets);
    let message = packets.late_refusal().unwrap();
    assert!(message.contains("nobody listens"), "{message}");
    send_aside(&packets);
    assert_eq!(packets.late_refusal(), None, "it is blamed once");
}

#[test]
fn a_datagram_that_is_too_large_is_not_sent() {
    let port = Port::new();
    let server = port.listen();
    let mut packets = udp(port.address);
    let Sent::TooLarge(message) = packets.send(&[b'x'; 70_000], id(1), LONG) else {
        panic!("taken")
    };
    assert!(message.contains("70000 bytes"), "{message}");
    assert_eq!(packets.send(b"small", id(2), LONG), Sent::Taken);
    assert_eq!(received(&server), "small");
    assert_eq!(packets.connections(), 1);
}

#[test]
fn addresses_are_tried_in_turn_and_the_good_one_is_kept() {
    let port = Port::new();
    let server = port.listen();
    let elsewhere = SocketAddr::from(([127, 0, 0, 2], port.address.port()));
    // Connecting a UDP socket to a network that there is no way to fails at once.
    let nowhere: SocketAddr = "[fe80::1]:9".parse().unwrap();
    let resolver = Resolver::of(&[elsewhere, nowhere, port.address]);
    let (mut packets, _clock) = named("udp", resolver.look_up());
    for text in ["one", "two"] {
        assert_eq!(packets.send(text.as_bytes(), id(1), LONG), Sent::Taken);
        assert_eq!(received(&server), text);
    }
    assert_eq!(packets.connections(), 2);
    assert_nothing_came(&server);
    drop(server);
    let (message, previous_too) = refused(packets.send(b"lost", id(2), LONG));
    assert!(!previous_too);
    assert!(message.contains("name:8125: at "), "{message}");
    let server = port.listen();
    assert_eq!(packets.send(b"three", id(2), LONG), Sent::Taken);
    assert_eq!(received(&server), "three");
}

#[test]
fn a_name_that_moves_is_followed() {
    let (old, new) = (Port::new(), Port::new());
    let (old_server, new_server) = (old.listen(), new.listen());
    let resolver = Resolver::of(&[old.address]);
    let (mut packets, clock) = named("udp", resolver.look_up());
    assert_eq!(packets.send(b"1", id(1), LONG), Sent::Taken);
    resolver.points_to(&[new.address]);
    clock.advance(RESOLVE_EVERY - Duration::from_nanos(1));
    assert_eq!(packets.send(b"2", id(2), LONG), Sent::Taken);
    assert_eq!(
        (received(&old_server), received(&old_server)),
        ("1".to_owned(), "2".to_owned())
    );
    assert_eq!(resolver.asked(), 1);

    clock.advance(Duration::from_nanos(1));
    new_server.set_nonblocking(true).unwrap();
    // The answer is not waited for while there is a good socket.
    eventually(|| packets.send(b"3", id(3), LONG) == Sent::Taken && new_server.recv(&mut [0; 8]).is_ok());
    assert_eq!((resolver.asked(), packets.connections()), (2, 2));

    // Another order is no move.
    resolver.points_to(&[old.address, new.address]);
    clock.advance(RESOLVE_EVERY);
    eventually(|| packets.send(b"4", id(4), LONG) == Sent::Taken && packets_know(&packets, 2));
    assert_eq!((resolver.asked(), packets.connections()), (3, 2));
}

fn packets_know(packets: &Packets, addresses: usize) -> bool {
    let Medium::Udp(udp) = &packets.medium else {
        panic!("not UDP")
    };
    udp.known().len() == addresses
}

#[test]
fn a_refusal_has_the_name_looked_up_again() {
    let (old, new) = (Port::new(), Port::new());
    let new_server = new.listen();
    let resolver = Resolver::of(&[old.address]);
    let (mut packets, clock) = named("udp", resolver.look_up());
    refused(packets.send(b"1", id(1), LONG));
    resolver.points_to(&[new.address]);
    refused(packets.send(b"1", id(1), LONG));
    assert_eq!(resolver.asked(), 1, "not for each packet");
    clock.advance(Duration::from_secs(1));
    eventually(|| packets.send(b"1", id(1), LONG) == Sent::Taken);
    assert_eq!(received(&new_server), "1");
    assert_eq!(resolver.asked(), 2);
    // What was found since is not doubted.
    clock.advance(Duration::from_secs(1));
    assert_eq!(packets.send(b"2", id(2), LONG), Sent::Taken);
    assert_eq!(resolver.asked(), 2);
}

#[test]
fn a_resolver_that_fails_is_asked_once_a_second() {
    let resolver = Resolver::of(&[]);
    let (mut packets, clock) = named("udp", resolver.look_up());
    for asked in 1..4 {
        for _ in 0..100 {
            let (message, previous_too) = refused(packets.send(b"1", id(1), LONG));
            assert!(message.contains("no such host"), "{message}");
            assert!(!previous_too);
        }
        assert_eq!(resolver.asked(), asked);
        clock.advance(Duration::from_secs(1));
    }
    let port = Port::new();
    let server = port.listen();
    resolver.points_to(&[port.address]);
    assert_eq!(packets.send(b"1", id(1), LONG), Sent::Taken);
    assert_eq!(received(&server), "1");
}

/// A resolver that answers when it is told to.
fn gated(address: SocketAddr) -> (Arc<LookUp>, mpsc::Sender<()>, Arc<AtomicUsize>) {
    let (open, gate) = mpsc::channel();
    let gate = LongMutex::new(gate);
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let look_up: Arc<LookUp> = Arc::new(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        let _ = gate.lock().unwrap().recv();
        Ok(vec![address])
    });
    (look_up, open, asked)
}

#[test]
fn a_slow_resolver_is_waited_for_once_and_its_answer_used() {
    let port = Port::new();
    let server = port.listen();
    let (look_up, open, asked) = gated(port.address);
    let (mut packets, clock) = named("udp", look_up);
    let (message, _) = refused(packets.send(b"1", id(1), Duration::from_millis(10)));
    assert!(message.contains("still being looked up"), "{message}");
    // If these waited for as long as they may, the test would not end.
    clock.advance(RESOLVE_EVERY);
    for _ in 0..100 {
        refused(packets.send(b"1", id(1), Duration::from_secs(3600)));
    }
    open.send(()).unwrap();
    eventually(|| packets.send(b"1", id(1), LONG) == Sent::Taken);
    assert_eq!(received(&server), "1");
    assert_eq!(asked.load(Ordering::SeqCst), 1);

    // While it is slow again, the socket that there is goes on.
    clock.advance(RESOLVE_EVERY);
    for _ in 0..100 {
        assert_eq!(packets.send(b"2", id(2), Duration::from_secs(3600)), Sent::Taken);
        assert_eq!(received(&server), "2");
    }
    eventually(|| asked.load(Ordering::SeqCst) == 2);
    assert_eq!(packets.connections(), 1);
    // After a fork the thread that looks up is gone: another one is asked.
    packets.reconnect();
    assert_eq!(packets.send(b"3", id(3), Duration::from_secs(1)), Sent::Taken);
    eventually(|| asked.load(Ordering::SeqCst) == 3);
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn accepted(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

#[track_caller]
pub(super) fn assert_next(stream: &mut impl Read, text: &str) {
    let mut bytes = vec![0; text.len()];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), text);
}

#[track_caller]
pub(super) fn assert_end(stream: &mut impl Read) {
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
}

/// Waits until this end of a connection knows that the other one has been closed.
fn wait_for_end(packets: &Packets) {
    let Medium::Tcp(tcp) = &packets.medium else {
        panic!("not TCP")
    };
    let socket = tcp.stream().unwrap().socket();
    eventually(|| match socket.peek(&mut [std::mem::MaybeUninit::uninit(); 1]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    });
}

/// For what nobody reads: long enough to connect and to write some of it.
pub(super) const BRIEFLY: Duration = Duration::from_millis(500);

/// More than the buffers of both ends hold.
pub(super) const HUGE: usize = 32 << 20;

#[test]
fn a_connection_carries_packets_without_delay() {
    let (listener, address) = listener();
    let (mut packets, _clock) = tcp(address);
    assert_eq!(packets.send(b"a:1|c\n", id(1), LONG), Sent::Taken);
    assert_eq!(packets.send(b"b:1|c\n", id(2), LONG), Sent::Taken);
    assert_next(&mut accepted(&listener), "a:1|c\nb:1|c\n");
    assert_eq!(packets.connections(), 1);
    let Medium::Tcp(tcp) = &packets.medium else {
        panic!("not TCP")
    };
    assert!(tcp.stream().unwrap().socket().tcp_nodelay().unwrap());
}

#[test]
fn a_connection_that_was_closed_is_not_written_to() {
    let (listener, address) = listener();
    let (mut packets, _clock) = tcp(address);
    for sequence in 0..3 {
        assert_eq!(packets.send(b"a:1|c\n", id(sequence), LONG), Sent::Taken);
        let mut server = accepted(&listener);
        assert_next(&mut server, "a:1|c\n");
        drop(server);
        wait_for_end(&packets);
    }
    assert_eq!(packets.connections(), 3);
}

#[test]
fn a_connection_that_is_found_dead_when_written_to_is_replaced() {
    let (listener, address) = listener();
    let (mut packets, _clock) = tcp(address);
    assert_eq!(packets.send(b"a", id(1), LONG), Sent::Taken);
    let Medium::Tcp(tcp) = &packets.medium else {
        panic!("not TCP")
    };
    // Reading from it tells nothing.
    tcp.stream()
        .unwrap()
        .socket()
        .shutdown(std::net::Shutdown::Write)
        .unwrap();
    assert_eq!(packets.send(b"b", id(2), LONG), Sent::Taken);
    assert_next(&mut accepted(&listener), "a");
    assert_next(&mut accepted(&listener), "b");
    assert_eq!(packets.connections(), 2);
}

#[test]
fn connecting_backs_off() {
    let (socket, address) = closed_port();
    let (mut packets, clock) = tcp(address);
    let (message, previous_too) = refused(packets.send(b"a", id(1), LONG));
    assert!(
        message.starts_with(&format!("tcp://{address}: nobody listens there")),
        "{message}"
    );
    assert!(!previous_too);
    socket.listen(8).unwrap();
    let (message, _) = refused(packets.send(b"a", id(1), LONG));
    assert!(
        message.contains("nobody listens there") && message.contains("tried again"),
        "{message}"
    );
    clock.advance(Duration::from_millis(100));
    assert_eq!(packets.send(b"a", id(1), LONG), Sent::Taken);
    assert_next(&mut accepted(&socket.into()), "a");
    assert_eq!(packets.connections(), 1);
}

#[test]
fn after_a_fork_or_a_freeze_connecting_does_not_wait() {
    let (socket, address) = closed_port();
    let (mut packets, _clock) = tcp(address);
    refused(packets.send(b"a", id(1), LONG));
    socket.listen(8).unwrap();
    packets.reconnect();
    assert_eq!(packets.send(b"a", id(1), LONG), Sent::Taken);
}

#[test]
fn connections_go_to_the_first_address_that_answers() {
    let (listener, address) = listener();
    let elsewhere = SocketAddr::from(([127, 0, 0, 2], address.port()));
    let resolver = Resolver::of(&[elsewhere, address]);
    let (mut packets, clock) = named("tcp", resolver.look_up());
    assert_eq!(packets.send(b"a", id(1), LONG), Sent::Taken);
    assert_next(&mut accepted(&listener), "a");
    // A connection that stands is not given up for a look-up.
    clock.advance(RESOLVE_EVERY * 2);
    assert_eq!(packets.connections(), 1);
    assert_eq!(resolver.asked(), 1);
}

/// An exporter that ends after it was asked so often how much time there is, and nobody else who ends anything.
fn until_the_exporter_ends(asked: usize) -> Patience {
    let count = AtomicUsize::new(0);
    let overdue = Overdue::new(move || {
        let has_ended = count.fetch_add(1, Ordering::Relaxed) >= asked;
        Some(Duration::from_millis(u64::from(!has_ended)))
    });
    Patience::new(Duration::from_secs(3600), Some(&overdue))
}

#[test]
fn nothing_is_waited_for_when_the_exporter_ends() {
    let (_open, closed_gate) = mpsc::channel::<()>();
    let closed_gate = LongMutex::new(closed_gate);
    let (mut packets, _clock) = named(
        "tcp",
        Arc::new(move |_| {
            let _ = closed_gate.lock().unwrap().recv();
            Ok(Vec::new())
        }),
    );
    let (message, _) = refused(packets.send(b"a", id(1), until_the_exporter_ends(20)));
    assert!(message.contains("still being looked up"), "{message}");

    let (listener, address) = listener();
    let (mut packets, _clock) = tcp(address);
    let Sent::Unclear(_) = packets.send(&vec![b'x'; HUGE], id(1), until_the_exporter_ends(20)) else {
        panic!("nobody reads")
    };
    drop(listener);
}

#[cfg(target_os = "linux")]
#[test]
fn a_connection_is_not_waited_for_when_the_exporter_ends() {
    let (_full, address) = full_listener();
    let (mut packets, _clock) = tcp(address);
    let (message, _) = refused(packets.send(b"a", id(1), until_the_exporter_ends(20)));
    assert!(message.contains("the exporter ends"), "{message}");
}

#[test]
fn a_part_that_was_written_is_followed_by_the_rest() {
    let (listener, address) = listener();
    let (mut packets, _clock) = tcp(address);
    let packet = vec![b'x'; HUGE];
    let Sent::Unclear(message) = packets.send(&packet, id(1), BRIEFLY) else {
        panic!("it does not fit the buffers")
    };
    assert!(message.contains(&format!("of {HUGE} bytes")), "{message}");
    // Again without time: it goes on from where it is, whatever there is room for.
    let Sent::Unclear(_) = packets.send(&packet, id(1), Duration::ZERO) else {
        panic!("nobody reads")
    };
    let mut server = accepted(&listener);
    let reader = thread::spawn(move || {
        let mut bytes = vec![0; HUGE];
        server.read_exact(&mut bytes).unwrap();
        assert!(bytes.iter().all(|byte| *byte == b'x'));
        assert_next(&mut server, "end");
    });
    assert_eq!(packets.send(&packet, id(1), LONG), Sent::Taken);
    assert_eq!(packets.send(b"end", id(2), LONG), Sent::Taken);
    reader.join().unwrap();
    assert_eq!(packets.connections(), 1);
}

#[test]
fn another_packet_does_not_follow_a_part() {
    let (listener, address) = listener();
    let (mut packets, _clock) = tcp(address);
    let Sent::Unclear(_) = packets.send(&vec![b'x'; HUGE], id(1), BRIEFLY) else {
        panic!("it does not fit the buffers")
    };
    let mut first = accepted(&listener);
    assert_eq!(packets.send(b"y", id(2), LONG), Sent::Taken);
    let mut bytes = Vec::new();
    first.read_to_end(&mut bytes).unwrap();
    assert!(bytes.len() < HUGE && bytes.iter().all(|byte| *byte == b'x'));
    assert_next(&mut accepted(&listener), "y");
    assert_eq!(packets.connections(), 2);
}

#[test]
fn a_part_on_a_connection_that_is_lost_is_unclear() {
    let (listener, address) = listener();
    let (mut packets, _clock) = tcp(address);
    let packet = vec![b'x'; HUGE];
    let Sent::Unclear(_) = packets.send(&packet, id(1), BRIEFLY) else {
        panic!("it does not fit the buffers")
    };
    drop(accepted(&listener));
    wait_for_end(&packets);
    let Sent::Unclear(message) = packets.send(&packet, id(1), LONG) else {
        panic!("a part was read, for all one knows")
    };
    assert!(message.contains("closed the connection"), "{message}");
    let sender = thread::spawn(move || {
        assert_eq!(packets.send(&packet, id(1), LONG), Sent::Taken);
        packets.connections()
    });
    let mut server = accepted(&listener);
    let mut bytes = vec![0; HUGE];
    server.read_exact(&mut bytes).unwrap();
    assert_eq!(sender.join().unwrap(), 2);
    assert_end(&mut server);
}

#[test]
fn messages_are_one_bounded_line() {
    let resolver: Arc<LookUp> = Arc::new(|_| Err(io::Error::other("a\nb".repeat(1000))));
    let (mut packets, _clock) = named("udp", resolver);
    let (message, _) = refused(packets.send(b"1", id(1), LONG));
    assert!(
        message.chars().count() <= MESSAGE_CHARACTERS + 1 && !message.contains('\n'),
        "{message}"
    );
    assert!(format!("{packets:?}").contains("name"));
}
