//! Runs that end with a real Collector out of reach for some of the time, a thousand of them killed while they push and spool: in the
//! end it has what was counted by every run that reached its end.

use crate::collector::{Collector, Settings};
use crate::program::Folder;
use crate::runs::{Phases, Random, Reach, compare, run_clean, run_to_end, run_until_killed, seed};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

const KILLS: usize = 1_000;

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn a_collector_has_what_a_thousand_killed_runs_and_their_survivors_counted() {
    let collector = Collector::start(Settings::default());
    let folder = Folder::create("spool");
    let line = Line::before(collector.address());
    let phases = Phases::new();
    let cut = |random: &mut Random| {
        let (state, reach) = match random.below(4) {
            0 => (State::Hanging, Reach::Out),
            1 => (State::Closed, Reach::Out),
            _ => (State::Open, Reach::Near),
        };
        line.be(state);
        reach
    };
    let disturb = |random: &mut Random| phases.turn(random, cut);
    let (url, directory) = (line.url(), folder.path().join("spool"));
    let mut runs = run_until_killed(KILLS, &url, &directory, seed(), disturb);
    // So that the last one finds something.
    line.be(State::Closed);
    run_to_end(&mut runs, &url, &directory);
    line.be(State::Open);
    let clean = run_clean(&url, &directory);
    compare(&runs, &clean, collector.points(), &directory, None);
    println!("{} connections were hung up on, {} hung", line.closed(), line.hung());
    assert!(line.closed() > 0 && line.hung() > 0);
}

/// A line to a server that can be cut: what is on its way then stays where it is, and new connections meet the same.
struct Line {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Bytes are taken and go nowhere until it is open again.
    Hanging,
    /// Connections are ended, those that there are and those that come.
    Closed,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    closed: AtomicU64,
    hung: AtomicU64,
}

impl Line {
    fn before(server: SocketAddr) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let line = Line {
            address: listener.local_addr().expect("a bound listener has an address"),
            shared: Arc::new(Shared {
                state: Mutex::new(State::Open),
                changed: Condvar::new(),
                closed: AtomicU64::new(0),
                hung: AtomicU64::new(0),
            }),
        };
        let shared = line.shared.clone();
        // Until the test process ends.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = shared.clone();
                thread::spawn(move || connect(client, server, &shared));
            }
        });
        line
    }

    fn url(&self) -> String {
        format!("http://{}/v1/metrics", self.address)
    }

    fn be(&self, state: State) {
        *self.shared.state.lock().unwrap() = state;
        self.shared.changed.notify_all();
    }

    fn closed(&self) -> u64 {
        self.shared.closed.load(Relaxed)
    }

    fn hung(&self) -> u64 {
        self.shared.hung.load(Relaxed)
    }
}

impl Shared {
    /// Waits until bytes may pass; an error if the connection is to end.
    fn pass(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        if *state == State::Hanging {
            self.hung.fetch_add(1, Relaxed);
            state = self
                .changed
                .wait_while(state, |state| *state == State::Hanging)
                .unwrap();
        }
        match *state {
            State::Closed => {
                self.closed.fetch_add(1, Relaxed);
                Err(io::ErrorKind::ConnectionReset.into())
            }
            _ => Ok(()),
        }
    }
}

/// Serves one connection until either side ends it, or it is ended.
fn connect(client: TcpStream, server: SocketAddr, shared: &Arc<Shared>) -> io::Result<()> {
    shared.pass()?;
    let server = TcpStream::connect(server)?;
    let (back_from, back_to, shared_back) = (server.try_clone()?, client.try_clone()?, shared.clone());
    thread::spawn(move || carry(back_from, back_to, &shared_back));
    carry(client, server, shared);
    Ok(())
}

fn carry(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let mut piece = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut piece) {
        if shared.pass().is_err() || to.write_all(&piece[..read]).is_err() {
            break;
        }
    }
    // Both directions end with one.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
