//! The examples that push to a gateway, as processes: what they say of themselves, and what the gateway then has.

use super::{Gateway, wait_until};
use crate::parsers::{Parser, parse};
use crate::program::{Folder, Program, example};
use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

// A nightly job

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn cron_leaves_to_its_next_run_what_a_gateway_that_is_away_does_not_take() {
    let mut gateway = Gateway::start();
    let nightly = Nightly::new(&gateway);
    let (url, spool) = (gateway.url(), nightly.spool());
    let waits = format!("{url} has not got it: it waits in {} for the next run", spool.display());
    gateway.kill();
    nightly.run("one").assert(0, &waits);
    let second = nightly.run("two");
    second.assert(0, &waits);
    assert_eq!(kept(&spool), 2);

    gateway.start_again();
    nightly.run("none").assert(1, "none: No such file");
    assert_eq!((kept(&spool), pushes(&mut gateway)), (0, 3));
    // The third run came last, and had no success: that is the second's, so the first was there before.
    nightly.assert(&mut gateway, "failure", 0, &second);

    // Nor is a failure forgotten, and the success that delivers it comes behind it.
    gateway.kill();
    nightly.run("none").assert(
        1,
        "which ended with failure: the next exporter with its spool delivers the rest",
    );
    assert_eq!(kept(&spool), 1);
    gateway.start_again();
    let last = nightly.run("one");
    last.assert(
        0,
        &format!("{url} has what waited in {}, and this run", spool.display()),
    );
    assert_eq!((kept(&spool), pushes(&mut gateway)), (0, 2));
    nightly.assert(&mut gateway, "success", 1, &last);
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn cron_tells_a_gateway_of_every_run_and_a_failure_leaves_the_last_success() {
    let mut gateway = Gateway::start();
    let nightly = Nightly::new(&gateway);
    let has_it = format!("{} has it", gateway.url());
    let first = nightly.run("two");
    first.assert(0, &has_it);
    nightly.assert(&mut gateway, "success", 2, &first);
    nightly.run("none").assert(1, "none: No such file");
    nightly.assert(&mut gateway, "failure", 0, &first);
    let last = nightly.run("one");
    last.assert(0, &has_it);
    nightly.assert(&mut gateway, "success", 1, &last);
    assert_eq!((kept(&nightly.spool()), pushes(&mut gateway)), (0, 3));
}

/// The example, and folders for it to back up, with as many files as their names say.
struct Nightly {
    folder: Folder,
    url: String,
}

impl Nightly {
    fn new(gateway: &Gateway) -> Nightly {
        let folder = Folder::create("cron");
        for (name, files) in [("one", 1), ("two", 2)] {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            (0..files).for_each(|file| fs::write(path.join(file.to_string()), "ten bytes.").unwrap());
        }
        let url = gateway.url();
        Nightly { folder, url }
    }

    fn spool(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    /// Backs one of the folders up.
    fn run(&self, name: &str) -> Run {
        let folder = self.folder.path().join(name);
        Run::of(example("cron").arg(&self.url).arg(self.spool()).arg(folder))
    }

    /// Fails unless the gateway has that of it, and nothing else.
    #[track_caller]
    fn assert(&self, gateway: &mut Gateway, outcome: &str, files: usize, last_success: &Run) {
        let groups = gateway.groups();
        let [(labels, group)] = &Vec::from_iter(groups)[..] else {
            panic!("there is one job");
        };
        assert_eq!(
            *labels,
            BTreeMap::from([("job".to_owned(), "nightly-backup".to_owned())])
        );
        assert!(group.is_good);
        let by = |label: &str, metric: &str| -> BTreeMap<String, String> {
            let (_, series) = &group.metrics[metric];
            let series = series.iter();
            series
                .map(|(labels, value)| (labels[label].clone(), value.clone()))
                .collect()
        };
        let mut outcomes = by("outcome", "batch_job_outcome");
        assert_eq!(outcomes.len(), 5, "{outcomes:?}");
        outcomes.retain(|_, value| value != "0");
        let pairs = |pairs: &[(&str, usize)]| {
            let pairs = pairs.iter();
            BTreeMap::from_iter(pairs.map(|(key, value)| (key.to_string(), value.to_string())))
        };
        assert_eq!(outcomes, pairs(&[(outcome, 1)]));
        let records = by("kind", "batch_job_records_total");
        assert_eq!(records, pairs(&[("files", files), ("bytes", 10 * files)]));
        let succeeded = &by("batch_job", "batch_job_last_success_timestamp_seconds")["nightly-backup"];
        let succeeded: f64 = succeeded.parse().unwrap();
        assert!(
            last_success.span.contains(&succeeded),
            "{succeeded}, {:?}",
            last_success.span
        );
    }
}

// A load

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn a_gateway_has_what_load_says_that_it_recorded() {
    let mut gateway = Gateway::start();
    let run = Run::of(load(&gateway).args(RECORD));
    run.assert(0, " rejected=0 ");
    assert_tally(&mut gateway, &run);
}

#[test]
#[ignore = "needs the servers of .ci/servers"]
fn load_delivers_what_a_run_before_it_left_in_a_spool() {
    let mut gateway = Gateway::start();
    let folder = Folder::create("load");
    let spool = folder.path().join("spool");
    gateway.kill();
    let before = Run::of(load(&gateway).args(RECORD).arg("--spool").arg(&spool));
    before.assert(0, &format!(" spooled={SERIES} "));
    assert!(kept(&spool) > 0);

    gateway.start_again();
    // It pushes nothing of its own before it is told to end.
    let mut run = load(&gateway);
    let begun = now();
    run.args([
        "--seed",
        "2",
        "--rate",
        "10000",
        "--seconds",
        "1000000",
        "--interval-ms",
        "86400000",
    ]);
    let program = Program::start(run.arg("--spool").arg(&spool));
    wait_until("what was left is there", || !gateway.groups().is_empty());
    assert_tally(&mut gateway, &before);
    program.interrupt();
    let run = Run::end(begun, program);
    run.assert(0, &format!(" delivered_spooled={SERIES} "));
    assert_tally(&mut gateway, &run);
    assert_eq!(kept(&spool), 0);
}

/// As many series as there are, of all kinds.
const SERIES: &str = "700";

const RECORD: [&str; 6] = ["--seconds", "1", "--rate", "50000", "--interval-ms", "100"];

fn load(gateway: &Gateway) -> Command {
    let mut load = example("load");
    load.arg(format!("pushgateway+{}/metrics/job/load/dc/eu", gateway.url()));
    load.args(["--series", SERIES]);
    load
}

/// Fails unless the gateway has what a run says that it recorded, and nothing else. Neither is read by anything of the crate.
#[track_caller]
fn assert_tally(gateway: &mut Gateway, run: &Run) {
    let tally = run
        .report
        .lines()
        .filter(|line| line.starts_with("load_") || line.starts_with("# "));
    let tally: String = tally.map(|line| format!("{line}\n")).collect();
    let tally = parse(
        Parser::Python,
        "application/openmetrics-text;version=1.0.0",
        tally.as_bytes(),
    );
    let group = gateway
        .group([("job", "load"), ("dc", "eu")])
        .expect("the group is there");
    assert!(group.is_good && gateway.groups().len() == 1);
    group
        .samples()
        .assert_eq(&tally.unwrap_or_else(|error| panic!("{error}")).samples);
}

// What they share

/// A process that has ended.
struct Run {
    report: String,
    status: Option<i32>,
    /// From before it began until after it had ended, in seconds since the Unix epoch.
    span: RangeInclusive<f64>,
}

impl Run {
    fn of(command: &mut Command) -> Run {
        let begun = now();
        Run::end(begun, Program::start(command))
    }

    fn end(begun: f64, mut program: Program) -> Run {
        let status = program.wait_for_end().unwrap_or_else(|error| panic!("{error}"));
        Run {
            report: program.report(&format!("ended with {status}")),
            status: status.code(),
            span: begun..=now(),
        }
    }

    #[track_caller]
    fn assert(&self, status: i32, said: &str) {
        assert_eq!(self.status, Some(status), "{}", self.report);
        assert!(self.report.contains(said), "{said:?} is not there: {}", self.report);
    }
}

fn now() -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.expect("it is after 1970").as_secs_f64()
}

/// How many payloads wait in a spool.
fn kept(spool: &Path) -> usize {
    let Ok(entries) = fs::read_dir(spool) else { return 0 };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "spool"))
        .count()
}

/// How many pushes a gateway has taken since it was started.
fn pushes(gateway: &mut Gateway) -> u64 {
    let exposition = gateway.exposition();
    let requests = exposition
        .lines()
        .filter(|line| line.starts_with("pushgateway_http_requests_total{"));
    let pushes = requests.filter(|line| line.contains(r#"code="200",handler="push""#));
    pushes
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
        .sum()
}
