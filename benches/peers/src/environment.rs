//! What the numbers depend on: machine, compiler, versions, date. Printed above the results.

use std::time::{SystemTime, UNIX_EPOCH};

const LOCK: &str = include_str!("../Cargo.lock");

/// Packages whose versions are worth saying.
const PACKAGES: [&str; 15] = [
    "tidegauge",
    "prometheus",
    "prometheus-client",
    "fastmetrics",
    "measured",
    "metrics",
    "metrics-exporter-prometheus",
    "metriken",
    "opentelemetry_sdk",
    "opentelemetry-prometheus",
    "opentelemetry-proto",
    "prost",
    "paracord",
    "cadence",
    "metrics-exporter-dogstatsd",
];

/// Prints the comment lines.
pub fn print(quick: bool) {
    println!(
        "# tidegauge against its peers, {} run",
        if quick { "quick" } else { "full" }
    );
    println!("# date: {}", date());
    println!("# machine: {}, {} cores", processor(), cores());
    println!("# system: {} {}", std::env::consts::OS, std::env::consts::ARCH);
    if let Some(load) = load() {
        println!("# load before the start: {load} (other work on the machine spoils the rows)");
    }
    println!(
        "# compiler: {}, release, thin LTO, one codegen unit",
        env!("COMPILER_VERSION")
    );
    let versions: Vec<String> = PACKAGES
        .iter()
        .filter_map(|package| Some(format!("{package} {}", version(LOCK, package)?)))
        .collect();
    println!("# versions: {}", versions.join(", "));
    println!("# threads: those that record, or that had touched every series before a scrape");
}

/// Cores that the process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let mut lines = lock.lines();
    let name = format!("name = \"{package}\"");
    lines.find(|line| *line == name)?;
    lines.next()?.strip_prefix("version = \"")?.strip_suffix('"')
}

fn processor() -> String {
    let described = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        described
            .lines()
            .find_map(|line| line.strip_prefix(name)?.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
    };
    match (field("model name"), field("cpu family"), field("model\t")) {
        (Some(name), Some(family), Some(model)) => {
            format!("{name} (family {family} model {model})")
        }
        (Some(name), ..) => name,
        _ => "unknown processor".to_owned(),
    }
}

fn load() -> Option<String> {
    let averages = std::fs::read_to_string("/proc/loadavg").ok()?;
    averages.split(' ').next().map(str::to_owned)
}

fn date() -> String {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (year, month, day) = civil(seconds / 86_400);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Year, month and day of a number of days since 1970-01-01.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(19_782), (2024, 2, 29));
        assert_eq!(civil(20_818), (2026, 12, 31));
    }

    #[test]
    fn versions_are_those_of_the_lock_file() {
        let lock = "[[package]]\nname = \"metrics\"\nversion = \"0.24.6\"\n";
        assert_eq!(version(lock, "metrics"), Some("0.24.6"));
        assert_eq!(version(lock, "metric"), None);
    }
}
