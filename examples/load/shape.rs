//! Which series there are, in words: nothing of the crate is used here.

/// One family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Busy,
    Calls,
    Connections,
    Events,
    Latency,
    Requests,
    Responses,
    Temperature,
}

/// A histogram's bounds. Observations meet them exactly now and then. None is whole: receivers would spell it differently, `4` or `4.0`.
pub const BOUNDS: [f64; 8] = [0.0625, 0.125, 0.25, 0.5, 1.5, 2.5, 4.5, 8.5];

impl Shape {
    /// That of the series of a number: first the one without labels, then the other families by turns.
    pub fn of(number: u32) -> Self {
        match number.checked_sub(1) {
            Some(turn) => Self::TURNS[turn as usize % Self::TURNS.len()],
            None => Shape::Events,
        }
    }

    const TURNS: [Shape; 7] = [
        Shape::Requests,
        Shape::Latency,
        Shape::Calls,
        Shape::Connections,
        Shape::Responses,
        Shape::Temperature,
        Shape::Busy,
    ];

    /// In the order of their names.
    pub const ALL: [Shape; 8] = [
        Shape::Busy,
        Shape::Calls,
        Shape::Connections,
        Shape::Events,
        Shape::Latency,
        Shape::Requests,
        Shape::Responses,
        Shape::Temperature,
    ];

    /// The name without `_total`, the kind as OpenMetrics calls it, and the help.
    pub fn describe(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Shape::Busy => ("load_busy_seconds", "counter", "Time spent, by worker."),
            Shape::Calls => ("load_calls", "counter", "Calls, by caller, callee and outcome."),
            Shape::Connections => (
                "load_connections",
                "gauge",
                "Connections, by pool; added and taken away.",
            ),
            Shape::Events => ("load_events", "counter", "Events."),
            Shape::Latency => ("load_latency_seconds", "histogram", "Time to answer, by route."),
            Shape::Requests => ("load_requests", "counter", "Requests, by route."),
            Shape::Responses => ("load_responses", "counter", "Responses, by route and status."),
            Shape::Temperature => ("load_temperature_celsius", "gauge", "Temperature, by room; set."),
        }
    }

    pub fn labels(self) -> &'static [&'static str] {
        match self {
            Shape::Busy => &["worker"],
            Shape::Calls => &["caller", "callee", "outcome"],
            Shape::Connections => &["pool"],
            Shape::Events => &[],
            Shape::Latency | Shape::Requests => &["route"],
            Shape::Responses => &["route", "status"],
            Shape::Temperature => &["room"],
        }
    }
}

/// The label values of the series of a number, as many as its family has labels. None needs an escape anywhere.
pub fn values(number: u32) -> Vec<String> {
    const STATUSES: [&str; 4] = ["200", "204", "404", "500"];
    const OUTCOMES: [&str; 3] = ["ok", "late", "failed"];
    let shape = Shape::of(number);
    // Among the series of its family.
    let at = number.saturating_sub(1) as usize / Shape::TURNS.len();
    match shape {
        Shape::Events => Vec::new(),
        Shape::Calls => vec![
            format!("service-{}", at / (OUTCOMES.len() * 8)),
            format!("store-{}", at / OUTCOMES.len() % 8),
            OUTCOMES[at % OUTCOMES.len()].to_owned(),
        ],
        Shape::Responses => vec![
            format!("/route/{}", at / STATUSES.len()),
            STATUSES[at % STATUSES.len()].to_owned(),
        ],
        Shape::Latency | Shape::Requests => vec![format!("/route/{at}")],
        Shape::Busy | Shape::Connections | Shape::Temperature => vec![format!("{}-{at}", shape.labels()[0])],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn all_series_differ_and_have_the_labels_of_their_family() {
        let mut seen = HashSet::new();
        for number in 0..10_000 {
            let (shape, values) = (Shape::of(number), values(number));
            assert_eq!(values.len(), shape.labels().len());
            assert!(seen.insert((shape.describe().0, values)));
        }
        for shape in Shape::ALL {
            assert!((0..8).any(|number| Shape::of(number) == shape), "{shape:?}");
        }
    }
}
