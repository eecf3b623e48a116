//! The addresses of an endpoint's name, which move: servers are replaced, and their names point elsewhere then.
//!
//! A look-up that only renews what is known is waited for briefly, and taken up by a later send if it takes longer: a slow
//! resolver must not stop packets for which there is a good socket. A resolver that fails is not asked for each packet.

use crate::{
    clock::SharedClock,
    transport::{
        names::{self, Asked, LookUp},
        patience::Patience,
    },
};
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// What a name stands for, asked again from time to time.
pub(super) struct Addresses {
    /// As `host:port`; an IPv6 address is in brackets.
    name: String,
    look_up: Arc<LookUp>,
    every: Duration,
    clock: SharedClock,
    known: Vec<SocketAddr>,
    /// Whether `known` was written out: nobody is asked then.
    literal: bool,
    /// A look-up under way, and whether somebody has waited for it.
    asked: Option<(Asked, bool)>,
    /// When the last look-up began.
    asked_at: Option<Duration>,
    /// Whether there is a reason to ask again.
    doubted: bool,
    problem: String,
}

impl Addresses {
    pub(super) fn new(look_up: Arc<LookUp>, name: &str, every: Duration, clock: SharedClock) -> Addresses {
        let literal = names::literal(name);
        Addresses {
            name: name.to_owned(),
            look_up,
            every: every.max(SHORTEST_INTERVAL),
            clock,
            known: literal.into_iter().collect(),
            literal: literal.is_some(),
            asked: None,
            asked_at: None,
            doubted: false,
            problem: String::new(),
        }
    }

    /// The addresses that are best known now, at least one. Asks if it is time to.
    ///
    /// # Errors
    ///
    /// If none was ever found: the message says why.
    pub(super) fn current(&mut self, patience: &Patience) -> Result<&[SocketAddr], String> {
        if !self.literal {
            self.renew(patience);
        }
        if self.known.is_empty() {
            return Err(self.problem.clone());
        }
        Ok(&self.known)
    }

    /// Has the name looked up again, as soon as that may be: something is wrong with what is known.
    pub(super) fn doubt(&mut self) {
        self.doubted = true;
    }

    /// Has the name looked up again at once, and forgets a look-up that is under way: after a fork its thread is gone.
    pub(super) fn forget(&mut self) {
        self.asked = None;
        self.asked_at = None;
    }

    /// What was found last, which is nothing at first.
    pub(super) fn known(&self) -> &[SocketAddr] {
        &self.known
    }

    /// A message about one of the addresses, which it names unless the endpoint does.
    pub(super) fn shown(&self, address: SocketAddr, message: &str) -> String {
        if self.literal {
            message.to_owned()
        } else {
            format!("at {}: {message}", address.ip())
        }
    }

    fn renew(&mut self, patience: &Patience) {
        if self.asked.is_none() && self.is_due() {
            self.asked_at = Some(self.clock.monotonic());
            match Asked::begin(&self.look_up, &self.name) {
                Ok(asked) => self.asked = Some((asked, false)),
                Err(error) => self.problem = format!("no thread can be had to look its name up ({error})"),
            }
        }
        let Some((asked, waited_for)) = &mut self.asked else {
            return;
        };
        let answer = match (*waited_for, self.known.is_empty()) {
            (true, _) => asked.answer(Duration::ZERO),
            (false, true) => asked.wait(patience).ok(),
            (false, false) => asked.wait(&patience.part(2).at_most(PATIENCE)).ok(),
        };
        *waited_for = true;
        let Some(answer) = answer else {
            self.problem = "its name is still being looked up, see that the resolver answers".to_owned();
            return;
        };
        self.asked = None;
        match answer {
            Ok(mut found) if !found.is_empty() => {
                found.truncate(MOST_ADDRESSES);
                self.known = found;
                self.doubted = false;
            }
            Ok(_) => self.problem = "its name has no address, correct it".to_owned(),
            Err(error) => {
                self.problem = format!("its name can't be looked up, correct it or see to the resolver ({error})")
            }
        }
    }

    fn is_due(&self) -> bool {
        let interval = if self.doubted || self.known.is_empty() {
            SHORTEST_INTERVAL
        } else {
            self.every
        };
        self.asked_at
            .is_none_or(|asked_at| self.clock.monotonic().saturating_sub(asked_at) >= interval)
    }
}

/// A resolver that fails is asked once in so long.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// How long a look-up is waited for that only renews what is known.
const PATIENCE: Duration = Duration::from_millis(100);

/// More are not tried.
const MOST_ADDRESSES: usize = 16;
