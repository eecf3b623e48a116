//! What the command line says.

use std::{path::PathBuf, str::FromStr, time::Duration};

pub const USAGE: &str = "\
burst [flags]

Counts in each tenth of a second what many producers send together, with the crate's phase and jitter and without.

  --simulated N    producers of the simulation; by default 1400
  --producers N    exporters of the run, each with two threads; by default 300
  --packets N      packets of one collection of one exporter, about; by default 20000
  --interval-ms I  from one push to the next; by default 10000
  --intervals K    how many intervals are looked at; by default 3
  --reader-us T    how long the receiver takes over a packet, in microseconds; by default 100
  --svg FILE       where a picture is written to; by default there is none
";

#[derive(Debug, PartialEq)]
pub struct Arguments {
    pub simulated: u64,
    pub producers: u32,
    pub packets: u32,
    pub interval: Duration,
    pub intervals: u32,
    /// How long the receiver takes over a packet.
    pub reader: Duration,
    pub svg: Option<PathBuf>,
}

impl Arguments {
    /// None if only help is asked for.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Option<Self>, String> {
        let mut arguments = Arguments {
            simulated: 1400,
            producers: 300,
            packets: 20_000,
            interval: Duration::from_secs(10),
            intervals: 3,
            reader: Duration::from_micros(100),
            svg: None,
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word}: needs a value behind it"));
            match word.as_str() {
                "--help" | "-h" => return Ok(None),
                "--simulated" => arguments.simulated = number::<u32>(&word, &value()?)?.into(),
                "--producers" => arguments.producers = number(&word, &value()?)?,
                "--packets" => arguments.packets = number(&word, &value()?)?,
                "--interval-ms" => {
                    arguments.interval = Duration::from_millis(number::<u32>(&word, &value()?)?.into());
                }
                "--intervals" => arguments.intervals = number(&word, &value()?)?,
                "--reader-us" => arguments.reader = Duration::from_micros(number::<u32>(&word, &value()?)?.into()),
                "--svg" => arguments.svg = Some(value()?.into()),
                _ => return Err(format!("{word}: there is no such flag; --help shows all")),
            }
        }
        Ok(Some(arguments))
    }
}

fn number<T: FromStr + Default + PartialOrd>(flag: &str, value: &str) -> Result<T, String> {
    let number = value.parse().ok().filter(|number| *number > T::default());
    number.ok_or_else(|| format!("{flag}: {value:?} is not a whole number above 0 that fits; give one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Arguments>, String> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn every_flag_is_read() {
        let line = "--simulated 1 --producers 2 --packets 3 --interval-ms 4 --intervals 5 --reader-us 6 --svg a.svg";
        let expected = Arguments {
            simulated: 1,
            producers: 2,
            packets: 3,
            interval: Duration::from_millis(4),
            intervals: 5,
            reader: Duration::from_micros(6),
            svg: Some("a.svg".into()),
        };
        assert_eq!(parse(line), Ok(Some(expected)));
        assert_eq!(parse("--packets 7 --help"), Ok(None));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (line, named) in [
            ("--packets", "--packets"),
            ("--producers 0", "\"0\""),
            ("--interval-ms 1.5", "--interval-ms"),
            ("--seconds 3", "--seconds"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(named), "{line}: {error}");
        }
    }
}
