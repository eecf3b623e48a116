//! The thread that owns the listener and every connection. It never waits but in `poll`, never runs the application's code,
//! and gives everybody a bounded turn: rendered scrapes first, then sockets that are ready, then deadlines, then newcomers.
//! Newcomers come last so that a flood of them cannot push out a request that has already arrived.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use super::connection::{Connection, Expiry, Rank, Step, Surroundings};
use super::control::Control;
use super::limits::Limits;
use super::listener::{Listener, Stream};
use super::render::{Finished, Job, RenderQueue};
use super::routes::{self, Site};
use super::statistics::ServerStatistics;
use super::timeline::Timeline;
use crate::sync::Mutex;

pub(crate) struct EventLoop {
    poll: Poll,
    /// Gone once stopping has begun.
    listener: Option<Box<dyn Listener>>,
    connections: HashMap<Token, Member>,
    deadlines: Timeline<Instant>,
    ranks: Timeline<Rank>,
    /// Connections that used up their turn.
    runnable: BTreeSet<Token>,
    /// When to try accepting: at once after a sign from the listener, later after a failure.
    accept_at: Option<Instant>,
    next_token: usize,
    /// Bytes of replies held by all connections.
    held_bytes: usize,
    scratch: Vec<u8>,
    now: Instant,
    stop_by: Option<Instant>,
    site: Site,
    limits: Limits,
    queue: RenderQueue,
    finished: Receiver<Finished>,
    control: Arc<Control>,
    statistics: Arc<Mutex<ServerStatistics>>,
}

/// A connection and what of it is in the loop's sums.
struct Member {
    connection: Connection,
    held_bytes: usize,
}

/// All that the loop is made of.
pub(crate) struct Parts {
    pub(crate) poll: Poll,
    pub(crate) listener: Box<dyn Listener>,
    pub(crate) site: Site,
    pub(crate) limits: Limits,
    pub(crate) queue: RenderQueue,
    pub(crate) finished: Receiver<Finished>,
    pub(crate) control: Arc<Control>,
    pub(crate) statistics: Arc<Mutex<ServerStatistics>>,
}

pub(crate) const WAKER: Token = Token(0);
const LISTENER: Token = Token(1);
const FIRST_CONNECTION: usize = 2;

/// Newcomers taken before the others have their turn again. Less than the connection limit, so that nobody is pushed out
/// before being read at all.
const ACCEPTS_A_TURN: usize = 32;
const EVENTS_A_TURN: usize = 1024;
const SCRATCH_BYTES: usize = 16 * 1024;

impl EventLoop {
    pub(crate) fn new(mut parts: Parts) -> io::Result<EventLoop> {
        parts
            .poll
            .registry()
            .register(parts.listener.source(), LISTENER, Interest::READABLE)?;
        Ok(EventLoop {
            poll: parts.poll,
            listener: Some(parts.listener),
            connections: HashMap::new(),
            deadlines: Timeline::new(),
            ranks: Timeline::new(),
            runnable: BTreeSet::new(),
            accept_at: None,
            next_token: FIRST_CONNECTION,
            held_bytes: 0,
            scratch: vec![0; SCRATCH_BYTES],
            now: Instant::now(),
            stop_by: None,
            site: parts.site,
            limits: parts.limits,
            queue: parts.queue,
            finished: parts.finished,
            control: parts.control,
            statistics: parts.statistics,
        })
    }

    /// Serves until told to stop.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_A_TURN);
        loop {
            let patience = self.patience(Instant::now());
            if let Err(error) = self.poll.poll(&mut events, patience)
                && error.kind() != io::ErrorKind::Interrupted
            {
                // The poll itself is broken (its descriptor was closed by somebody else): nothing can be served any more.
                return;
            }
            self.now = Instant::now();
            self.begin_stopping();
            self.take_finished();
            for event in &events {
                match event.token() {
                    WAKER => {}
                    LISTENER => self.accept_at = Some(self.now),
                    token => self.drive(token),
                }
            }
            for token in mem::take(&mut self.runnable) {
                self.drive(token);
            }
            for token in self.deadlines.due(self.now) {
                self.expire(token);
            }
            self.accept();
            if self
                .stop_by
                .is_some_and(|by| self.connections.is_empty() || by <= self.now)
            {
                return;
            }
        }
    }

    /// How long there is nothing to do unless somebody calls.
    fn patience(&self, now: Instant) -> Option<Duration> {
        if !self.runnable.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadline = self.deadlines.first().map(|(deadline, _)| deadline);
        let next = [deadline, self.accept_at, self.stop_by].into_iter().flatten().min();
        next.map(|next| next.saturating_duration_since(now))
    }

    fn begin_stopping(&mut self) {
        let asked = self.control.stop_by();
        let begins = self.stop_by.is_none() && asked.is_some();
        self.stop_by = asked;
        if !begins {
            return;
        }
        if let Some(mut listener) = self.listener.take() {
            // It is closed right after, which takes it out of the poll as well.
            let _ = self.poll.registry().deregister(listener.source());
        }
        self.accept_at = None;
        let tokens: Vec<Token> = self.connections.keys().copied().collect();
        for token in tokens {
            // A request that has arrived is still answered; who has sent none is not waited for.
            self.drive(token);
            let idle = self
                .connections
                .get(&token)
                .is_some_and(|member| member.connection.is_between_requests());
            if idle {
                self.close(token);
            }
        }
    }

    fn take_finished(&mut self) {
        // Only what is there now: driving asks for further scrapes, and the others are to have their turn between.
        let all: Vec<Finished> = self.finished.try_iter().collect();
        for finished in all {
            let token = finished.token;
            let (around, members, _) = self.split();
            let Some(member) = members.get_mut(&token) else {
                continue;
            };
            if !member.connection.awaits(&finished.interest) {
                continue;
            }
            let (response, panicked) = finished.into_response();
            member.connection.rendered(response, &around);
            self.count(|statistics| statistics.panicked += u64::from(panicked));
            self.drive(token);
        }
    }

    /// Lets a connection get on; does nothing for one that is gone.
    fn drive(&mut self, token: Token) {
        let (around, members, scratch) = self.split();
        let Some(member) = members.get_mut(&token) else {
            return;
        };
        match member.connection.drive(&around, scratch) {
            Step::Wait => {}
            Step::Again => {
                self.runnable.insert(token);
            }
            Step::Close => return self.close(token),
            Step::Render(scrape, interest) => {
                self.count(|statistics| statistics.scrapes += 1);
                let job = Job {
                    token,
                    interest,
                    scrape,
                };
                if self.queue.push(job).is_err() {
                    self.count(|statistics| statistics.refused += 1);
                    let (around, members, _) = self.split();
                    if let Some(member) = members.get_mut(&token) {
                        member.connection.rendered(routes::busy(), &around);
                    }
                    self.runnable.insert(token);
                }
            }
        }
        self.settle(token);
    }

    fn expire(&mut self, token: Token) {
        let (around, members, _) = self.split();
        let Some(member) = members.get_mut(&token) else {
            return;
        };
        // What was driven in this turn may have got a new deadline.
        if member.connection.deadline() > around.now {
            return;
        }
        match member.connection.expire(&around) {
            Expiry::Silent => {
                self.count(|statistics| statistics.timed_out += 1);
                self.close(token);
            }
            Expiry::Slow => {
                self.count(|statistics| statistics.timed_out += 1);
                self.drive(token);
            }
            Expiry::Overdue => {
                self.count(|statistics| statistics.overdue += 1);
                self.drive(token);
            }
            Expiry::Farewell => self.close(token),
        }
    }

    /// Brings the sums and orders up to date with a connection, and keeps the bound on bytes held.
    fn settle(&mut self, token: Token) {
        let Some(member) = self.connections.get_mut(&token) else {
            return;
        };
        self.deadlines.set(token, member.connection.deadline());
        self.ranks.set(token, member.connection.rank());
        let held = member.connection.held_bytes();
        self.held_bytes = self.held_bytes - mem::replace(&mut member.held_bytes, held) + held;
        while self.held_bytes > self.limits.reply_bytes {
            // One reply alone may exceed the bound: the newest always goes out.
            let Some(victim) = self.ranks.iter().find(|other| {
                *other != token && self.connections.get(other).is_some_and(|member| member.held_bytes > 0)
            }) else {
                return;
            };
            self.evict(victim);
        }
    }

    fn accept(&mut self) {
        if self.accept_at.is_none_or(|at| at > self.now) {
            return;
        }
        let mut made_room = false;
        for _ in 0..ACCEPTS_A_TURN {
            let Some(listener) = &mut self.listener else {
                self.accept_at = None;
                return;
            };
            match listener.accept() {
                Ok(stream) => self.welcome(stream),
                Err(error) => match AcceptFailure::of(&error) {
                    AcceptFailure::NobodyWaits => {
                        self.accept_at = None;
                        return;
                    }
                    AcceptFailure::OfThatClient => {}
                    AcceptFailure::OfTheSystem { descriptors } => {
                        self.count(|statistics| statistics.accept_failures += 1);
                        // Closing the longest idle gives its descriptor to the newcomer; but only once a turn, because the
                        // application may take it first.
                        let victim = self.ranks.first().filter(|_| descriptors && !made_room);
                        if let Some((_, victim)) = victim {
                            self.evict(victim);
                            made_room = true;
                        } else {
                            // The listener gives no sign again for who waits already, so time has to.
                            self.accept_at = Some(self.now + Limits::ACCEPT_PAUSE);
                            return;
                        }
                    }
                },
            }
        }
    }

    fn welcome(&mut self, mut stream: Box<dyn Stream>) {
        if self.connections.len() >= self.limits.connections
            && let Some((_, victim)) = self.ranks.first()
        {
            self.evict(victim);
        }
        let token = self.free_token();
        let both = Interest::READABLE | Interest::WRITABLE;
        if self.poll.registry().register(stream.source(), token, both).is_err() {
            // The system has no memory for it; dropping the stream closes it.
            self.count(|statistics| statistics.accept_failures += 1);
            return;
        }
        let (around, members, _) = self.split();
        let member = Member {
            connection: Connection::new(stream, &around),
            held_bytes: 0,
        };
        members.insert(token, member);
        self.count(|statistics| {
            statistics.accepted += 1;
            statistics.open += 1;
        });
        // Its request may be here already, and is then answered before anybody can push it out.
        self.drive(token);
    }

    fn free_token(&mut self) -> Token {
        loop {
            let token = Token(self.next_token);
            // The last number is mio's own; the first ones are the waker's and the listener's.
            self.next_token = match self.next_token + 1 {
                usize::MAX => FIRST_CONNECTION,
                next => next,
            };
            if !self.connections.contains_key(&token) {
                return token;
            }
        }
    }

    fn evict(&mut self, token: Token) {
        self.count(|statistics| statistics.evicted += 1);
        self.close(token);
    }

    fn close(&mut self, token: Token) {
        let Some(mut member) = self.connections.remove(&token) else {
            return;
        };
        self.runnable.remove(&token);
        // Dropping the stream closes it, which takes it out of the poll as well.
        let _ = self.poll.registry().deregister(member.connection.stream().source());
        self.deadlines.remove(token);
        self.ranks.remove(token);
        self.held_bytes -= member.held_bytes;
        self.count(|statistics| statistics.open -= 1);
    }

    fn count(&self, change: impl FnOnce(&mut ServerStatistics)) {
        change(&mut self.statistics.lock());
    }

    /// The connections, and what they look at, at the same time.
    fn split(&mut self) -> (Surroundings<'_>, &mut HashMap<Token, Member>, &mut [u8]) {
        let around = Surroundings {
            now: self.now,
            site: &self.site,
            limits: &self.limits,
            stopping: self.stop_by.is_some(),
        };
        (around, &mut self.connections, &mut self.scratch)
    }
}

/// Whose failure it is that a connection could not be accepted.
#[derive(Debug, PartialEq, Eq)]
enum AcceptFailure {
    NobodyWaits,
    /// It went away meanwhile; the next may be fine.
    OfThatClient,
    /// No memory, or no descriptor left in the process or the system.
    OfTheSystem {
        descriptors: bool,
    },
}

/// `ENFILE` and `EMFILE` on Unix, `WSAEMFILE` on Windows; the standard library has no kind for them.
const NO_DESCRIPTOR_LEFT: &[i32] = if cfg!(windows) { &[10024] } else { &[23, 24] };

impl AcceptFailure {
    fn of(error: &io::Error) -> AcceptFailure {
        let out_of_descriptors = |code| NO_DESCRIPTOR_LEFT.contains(&code);
        match error.kind() {
            io::ErrorKind::WouldBlock => AcceptFailure::NobodyWaits,
            // Linux passes on what happened to the connection while it waited.
            io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::TimedOut => AcceptFailure::OfThatClient,
            _ => AcceptFailure::OfTheSystem {
                descriptors: error.raw_os_error().is_some_and(out_of_descriptors),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_to_accept_are_told_apart() {
        let of = |error: io::Error| AcceptFailure::of(&error);
        assert_eq!(of(io::ErrorKind::WouldBlock.into()), AcceptFailure::NobodyWaits);
        assert_eq!(of(io::ErrorKind::ConnectionAborted.into()), AcceptFailure::OfThatClient);
        for code in NO_DESCRIPTOR_LEFT {
            let expected = AcceptFailure::OfTheSystem { descriptors: true };
            assert_eq!(of(io::Error::from_raw_os_error(*code)), expected);
        }
        let expected = AcceptFailure::OfTheSystem { descriptors: false };
        assert_eq!(of(io::ErrorKind::OutOfMemory.into()), expected);
    }
}
