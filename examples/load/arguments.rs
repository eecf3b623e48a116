//! What the command line says.

use std::{fmt::Display, ops::RangeInclusive, path::PathBuf, str::FromStr, time::Duration};

pub const USAGE: &str = "\
load [flags] URL...

Records a seeded workload, pushes it to every URL, and prints what was recorded.

  --seconds S      how long to record; by default 10
  --threads T      how many threads record; by default 2
  --series N       how many series there are, those of histograms counted once; by default 1000
  --rate EVENTS    how many events a second, of all threads; by default as many as they can
  --interval-ms I  from one push to the next; by default 1000
  --seed K         what chance is made of; by default 1
  --delta          push increments where the protocol has a choice; by default totals
  --spool DIR      keep what cannot be delivered by the end in a directory, and deliver what is there first; one for all URLs
  --serve ADDR     an address such as 127.0.0.1:9464, to be scraped while it runs

  otlp+http://HOST:PORT[/PATH]   OTLP over HTTP; to PATH if that ends in /v1/metrics, else to /v1/metrics below it
  otlp+https://...               the same over TLS, with the feature tls
  pushgateway+http://HOST:PORT/metrics/job/NAME[/LABEL/VALUE...]
                                 a group of a Prometheus Pushgateway; or pushgateway+https://...
  emf+stdout:                    CloudWatch's embedded metric format on standard output, where nothing else is printed then;
                                 ?namespace=NAME behind it names the namespace
  emf+file:///PATH               the same to a file
  statsd+udp://HOST:PORT         StatsD as Etsy's daemon reads it; or statsd+tcp://HOST:PORT, statsd+unixgram:///SOCKET
  dogstatsd+udp://HOST:PORT      DogStatsD; or dogstatsd+unixgram:///SOCKET, dogstatsd+unixstream:///SOCKET
  ?dialect=D                     behind one of these: etsy, dogstatsd, telegraf, librato, signalfx or graphite

The seed determines for each thread the sequence of its events: in which series, and how much. With the same seed, threads, series
and number of events the tally is the same; and with --rate the number of events is S times EVENTS, unless the machine
cannot keep the pace.
";

#[derive(Debug, PartialEq)]
pub struct Arguments {
    pub seconds: f64,
    pub threads: u32,
    pub series: u32,
    /// Events a second; none for as many as possible.
    pub rate: Option<f64>,
    pub interval: Duration,
    pub seed: u64,
    pub delta: bool,
    pub spool: Option<PathBuf>,
    pub serve: Option<String>,
    pub urls: Vec<String>,
}

impl Arguments {
    /// None if only help is asked for.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Option<Self>, String> {
        let mut arguments = Arguments {
            seconds: 10.0,
            threads: 2,
            series: 1000,
            rate: None,
            interval: Duration::from_secs(1),
            seed: 1,
            delta: false,
            spool: None,
            serve: None,
            urls: Vec::new(),
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word}: needs a value behind it"));
            match word.as_str() {
                "--help" | "-h" => return Ok(None),
                "--seconds" => arguments.seconds = number(&word, &value()?, 0.0..=1e6)?,
                "--threads" => arguments.threads = number(&word, &value()?, 1..=1024)?,
                "--series" => arguments.series = number(&word, &value()?, 1..=10_000_000)?,
                "--rate" => arguments.rate = Some(number(&word, &value()?, 0.001..=1e9)?),
                "--interval-ms" => {
                    arguments.interval = Duration::from_millis(number(&word, &value()?, 1..=86_400_000)?);
                }
                "--seed" => arguments.seed = number(&word, &value()?, 0..=u64::MAX)?,
                "--delta" => arguments.delta = true,
                "--spool" => arguments.spool = Some(value()?.into()),
                "--serve" => arguments.serve = Some(value()?),
                flag if flag.starts_with('-') => {
                    return Err(format!("{flag}: there is no such flag; --help shows all"));
                }
                _ => arguments.urls.push(word),
            }
        }
        Ok(Some(arguments))
    }
}

fn number<T: FromStr + PartialOrd + Display>(flag: &str, value: &str, range: RangeInclusive<T>) -> Result<T, String> {
    let number = value.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| {
        let (start, end) = range.into_inner();
        format!("{flag}: {value:?} is not a number from {start} to {end}; give one")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Arguments>, String> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn every_flag_is_read_and_the_rest_are_urls() {
        let line = "a --seconds 0.5 --threads 3 --series 7 --rate 1e4 --interval-ms 250 --seed 9 --delta --spool /var/spool/load \
                    --serve [::]:0 b";
        let expected = Arguments {
            seconds: 0.5,
            threads: 3,
            series: 7,
            rate: Some(10_000.0),
            interval: Duration::from_millis(250),
            seed: 9,
            delta: true,
            spool: Some("/var/spool/load".into()),
            serve: Some("[::]:0".to_owned()),
            urls: vec!["a".to_owned(), "b".to_owned()],
        };
        assert_eq!(parse(line), Ok(Some(expected)));
        assert_eq!(parse("a --help"), Ok(None));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (line, named) in [
            ("--threads", "--threads"),
            ("--threads 0", "1 to 1024"),
            ("--series -1", "\"-1\""),
            ("--rate inf", "--rate"),
            ("--seconds NaN", "\"NaN\""),
            ("--interval-ms 0", "1 to"),
            ("--seconds=3", "--seconds=3"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(named), "{line}: {error}");
        }
    }
}
