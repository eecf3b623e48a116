//! Connections ordered by a moment of theirs: by deadline to find who is late, by idleness to find whom to close when the
//! server is full. Holds no clock; the event loop says what time it is.

use std::collections::{BTreeSet, HashMap};

use mio::Token;

/// At most one moment a token, and the earliest of all at hand.
pub(crate) struct Timeline<Moment> {
    ordered: BTreeSet<(Moment, Token)>,
    moments: HashMap<Token, Moment>,
}

impl<Moment: Copy + Ord> Timeline<Moment> {
    pub(crate) fn new() -> Timeline<Moment> {
        Timeline {
            ordered: BTreeSet::new(),
            moments: HashMap::new(),
        }
    }

    /// Gives `token` this moment in place of the one it had.
    pub(crate) fn set(&mut self, token: Token, moment: Moment) {
        match self.moments.insert(token, moment) {
            Some(earlier) if earlier == moment => return,
            Some(earlier) => {
                self.ordered.remove(&(earlier, token));
            }
            None => {}
        }
        self.ordered.insert((moment, token));
    }

    pub(crate) fn remove(&mut self, token: Token) {
        if let Some(moment) = self.moments.remove(&token) {
            self.ordered.remove(&(moment, token));
        }
    }

    /// The earliest moment and whose it is.
    pub(crate) fn first(&self) -> Option<(Moment, Token)> {
        self.ordered.first().copied()
    }

    /// All tokens, earliest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Token> {
        self.ordered.iter().map(|(_, token)| *token)
    }

    /// All whose moment is `now` or earlier, earliest first. They stay until set anew or removed.
    pub(crate) fn due(&self, now: Moment) -> Vec<Token> {
        self.ordered
            .iter()
            .take_while(|(moment, _)| *moment <= now)
            .map(|(_, token)| *token)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_earliest_comes_first_and_a_later_moment_replaces_it() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timeline = Timeline::new();
        timeline.set(Token(1), at(10));
        timeline.set(Token(2), at(20));
        timeline.set(Token(3), at(20));
        assert_eq!(timeline.first(), Some((at(10), Token(1))));
        timeline.set(Token(1), at(30));
        assert_eq!(timeline.first(), Some((at(20), Token(2))));
        assert_eq!(timeline.due(at(19)), []);
        assert_eq!(timeline.due(at(20)), [Token(2), Token(3)]);
        timeline.remove(Token(2));
        timeline.remove(Token(2));
        assert_eq!(timeline.iter().collect::<Vec<_>>(), [Token(3), Token(1)]);
        timeline.remove(Token(3));
        timeline.remove(Token(1));
        assert_eq!(timeline.first(), None);
    }

    #[test]
    fn setting_the_same_moment_twice_keeps_one_entry() {
        let mut timeline = Timeline::new();
        timeline.set(Token(1), 5);
        timeline.set(Token(1), 5);
        timeline.remove(Token(1));
        assert_eq!(timeline.first(), None);
    }
}
