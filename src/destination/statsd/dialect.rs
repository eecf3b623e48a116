//! What StatsD servers differ in, as a user names it.

use std::fmt;

/// Which kind of StatsD a server speaks. Each is written only what its servers read as it is meant.
///
/// | dialect | tags | histograms by default | gauges below zero | servers |
/// |---|---|---|---|---|
/// | [`Etsy`](Dialect::Etsy) | parts of the name | counters | 0 first | statsd, collectd |
/// | [`DogStatsD`](Dialect::DogStatsD) | `n:1\|c\|#k:v` | samples | as they are, 0 first with [protocol](crate::StatsDBuilder::protocol) 0 | the Datadog Agent, the OpenTelemetry Collector |
/// | [`Telegraf`](Dialect::Telegraf) | `n,k=v:1\|c` | samples | 0 first | Telegraf, statsd_exporter |
/// | [`Librato`](Dialect::Librato) | `n#k=v:1\|c` | samples | 0 first | statsd_exporter |
/// | [`SignalFx`](Dialect::SignalFx) | `n[k=v]:1\|c` | samples | 0 first | statsd_exporter |
/// | [`Graphite`](Dialect::Graphite) | `n;k=v:1\|c` | counters | 0 first | statsd before a Graphite with tags |
///
/// Where a gauge with a sign is a change, one below zero is sent as a zero and a change, together in one packet.
///
/// ```
/// use tidegauge::Dialect;
///
/// assert_eq!(Dialect::named("dogstatsd"), Some(Dialect::DogStatsD));
/// assert_eq!(Dialect::Graphite.to_string(), "graphite");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// The first one, without tags: labels become parts of the name.
    /// <https://github.com/statsd/statsd/blob/master/docs/metric_types.md>
    Etsy,
    /// Datadog's, with tags, packed values and fields that say where a line comes from.
    /// <https://docs.datadoghq.com/developers/dogstatsd/datagram_shell/>
    DogStatsD,
    /// With tags as InfluxDB's line protocol has them. Counters are integers there.
    /// <https://github.com/influxdata/telegraf/tree/master/plugins/inputs/statsd>
    Telegraf,
    /// With tags behind `#` in the name.
    /// <https://github.com/prometheus/statsd_exporter#tagging-extensions>
    Librato,
    /// With tags in brackets in the name.
    /// <https://github.com/prometheus/statsd_exporter#tagging-extensions>
    SignalFx,
    /// With tags as Graphite stores them. <https://graphite.readthedocs.io/en/latest/tags.html>
    Graphite,
}

/// How the increments of a histogram are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HistogramLines {
    /// As samples at rates down to 0.0001, so that few of them stand for many observations. Servers that weigh samples by
    /// their rates count each observation exactly; each sample lies within the bucket of the observations it stands for, so a
    /// quantile is off by the width of its bucket at most; and their sum comes as near to the histogram's as that allows. What
    /// it is off by is made up for with the next observations. A first bucket whose bound is above zero is taken to begin at zero.
    ///
    /// A histogram whose unit is one of time is sent in milliseconds, as `ms`; others as `h`, but to Etsy's server, which knows
    /// timers alone, all as `ms`.
    Samples,
    /// As counters: `n.bucket.0_005` of the observations in each bucket alone, or `n.bucket` with the tag `le` where the dialect has
    /// tags; `n.count` of all, and `n.sum` of what they come to, in the histogram's own unit. For servers that do not weigh
    /// samples, and for exact sums. Those that have integers alone get the sum's whole part, and the fraction later; those that
    /// refuse counters that fall get no sum until it has risen again.
    Counters,
}

/// How many tags the Datadog Agent adds to what it receives, of those that it knows of the sender.
/// <https://docs.datadoghq.com/getting_started/tagging/assigning_tags/#tags-cardinality>
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cardinality {
    /// None.
    None,
    /// Those of which there are few, as of hosts or images.
    Low,
    /// Those of pods and tasks as well.
    Orchestrator,
    /// Those of containers as well.
    High,
}

impl Dialect {
    /// The dialect of this name, as [displayed](#impl-Display-for-Dialect), in any case of letters.
    pub fn named(name: &str) -> Option<Dialect> {
        let is_named = |dialect: &Dialect| dialect.name().eq_ignore_ascii_case(name);
        Self::ALL.into_iter().find(is_named)
    }

    fn name(self) -> &'static str {
        match self {
            Dialect::Etsy => "etsy",
            Dialect::DogStatsD => "dogstatsd",
            Dialect::Telegraf => "telegraf",
            Dialect::Librato => "librato",
            Dialect::SignalFx => "signalfx",
            Dialect::Graphite => "graphite",
        }
    }

    /// How its servers take histograms best.
    pub(crate) fn histogram_lines(self) -> HistogramLines {
        match self {
            Dialect::Etsy | Dialect::Graphite => HistogramLines::Counters,
            _ => HistogramLines::Samples,
        }
    }

    /// Whether its servers cut off what is behind the point of a counter's increment.
    pub(crate) fn counts_integers(self) -> bool {
        self == Dialect::Telegraf
    }

    /// Whether all of its servers take a counter's increment that is below zero: statsd_exporter does not.
    pub(crate) fn counts_down(self) -> bool {
        matches!(self, Dialect::Etsy | Dialect::Graphite | Dialect::DogStatsD)
    }

    /// Whether its server takes each type that it does not know for a counter, and knows of samples timers alone.
    pub(crate) fn has_only_timers(self) -> bool {
        matches!(self, Dialect::Etsy | Dialect::Graphite)
    }

    pub(crate) const ALL: [Dialect; 6] = [
        Dialect::Etsy,
        Dialect::DogStatsD,
        Dialect::Telegraf,
        Dialect::Librato,
        Dialect::SignalFx,
        Dialect::Graphite,
    ];
}

impl fmt::Display for Dialect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl Cardinality {
    /// The cardinality of this name, as [displayed](#impl-Display-for-Cardinality), in any case of letters.
    pub fn named(name: &str) -> Option<Cardinality> {
        const ALL: [Cardinality; 4] = [
            Cardinality::None,
            Cardinality::Low,
            Cardinality::Orchestrator,
            Cardinality::High,
        ];
        let is_named = |cardinality: &Cardinality| cardinality.name().eq_ignore_ascii_case(name);
        ALL.into_iter().find(is_named)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Cardinality::None => "none",
            Cardinality::Low => "low",
            Cardinality::Orchestrator => "orchestrator",
            Cardinality::High => "high",
        }
    }
}

impl fmt::Display for Cardinality {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for dialect in Dialect::ALL {
            assert_eq!(Dialect::named(&dialect.to_string().to_uppercase()), Some(dialect));
        }
        for name in ["none", "low", "orchestrator", "high"] {
            assert_eq!(Cardinality::named(name).unwrap().to_string(), name);
        }
        assert_eq!((Dialect::named(""), Cardinality::named("medium")), (None, None));
    }
}
