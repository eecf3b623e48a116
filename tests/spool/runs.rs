//! Runs of a program, each a process of its own, that are killed at points that nobody chose, while they count, push and spool: the
//! parent's side and the program itself, which is the test binary run again.
//!
//! Each run counts on a series of its own, so that the far end tells run by run what has arrived.

use crate::points::{Number, Point, Value};
use std::collections::{BTreeMap, HashMap};
use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use tidegauge::{Exporter, ExporterHandle, Filter, Otlp, Registry, RetryPolicy, Spool, TemporalityPreference};

/// How much each run counts that reaches its end.
pub const EACH: u64 = 10;

/// How long a run takes at most to deliver what it can and to keep the rest.
const DEADLINE: Duration = Duration::from_secs(1);

/// Reaching it fails the test.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the program needs to know: its number, where to send, and its spool, in lines.
const CHILD: &str = "TIDEGAUGE_TEST_RUN";

const BEGUN: &str = "begun";
const ENDS: &str = "ends";
const ENDED: &str = "ended=";
const LATE: &str = "late=";

/// The program. Without a parent it does nothing.
#[test]
#[ignore = "runs as a child of the other tests"]
fn child_process() {
    let Ok(told) = env::var(CHILD) else {
        return;
    };
    let mut told = told.lines();
    let mut next = || told.next().expect("the parent says three things");
    let (run, url, directory) = (next(), next(), next());
    let registry = Registry::new();
    let exporter = exporter(url, Path::new(directory), &registry);
    let jobs = registry
        .counter("jobs_total", "Jobs run.")
        .labels(["run"])
        .register()
        .unwrap();
    println!("{BEGUN}");
    for step in 0..EACH {
        jobs.with([run]).inc();
        if step % 3 == 1 {
            // What it comes to is seen in the end.
            let _ = exporter.flush(Duration::from_millis(50));
        }
    }
    println!("{ENDS}");
    let began = Instant::now();
    let shut = exporter.shutdown(DEADLINE);
    let took = began.elapsed();
    let statistics = exporter.stats();
    if let Err(error) = shut {
        let report = error.report();
        let elsewhere = report.kept + report.rejected + report.dropped + report.unclear;
        if elsewhere > 0 && took >= DEADLINE {
            // What others have of the machine and of its disk has cost it all of its time. It says so, and has reached no end.
            println!("{LATE}{error}");
            return;
        }
        assert!(elsewhere == 0 && report.spooled > 0, "{error}: {statistics:?}");
    }
    assert_eq!(
        (statistics.rejected_points, statistics.spool_errors),
        (0, 0),
        "{statistics:?}"
    );
    println!(
        "{ENDED}{} {} {}",
        statistics.possible_duplicate_points, statistics.spooled_points, statistics.delivered_spooled_points,
    );
}

/// Collects when it is told to, and sends nothing but the runs' counts, one point a payload.
fn exporter(url: &str, directory: &Path, registry: &Registry) -> ExporterHandle {
    let destination = Otlp::builder()
        .metrics_url(url)
        .service_name("runs")
        .no_proxy()
        .temporality(TemporalityPreference::Delta);
    let retry = RetryPolicy::new()
        .initial(Duration::from_millis(5))
        .most(Duration::from_millis(50));
    Exporter::new(destination.build().unwrap())
        .interval(Duration::from_secs(3600))
        .phase(false)
        .retry(retry)
        .filter(Filter::new().families(|family| family.name() == "jobs_total"))
        .spool(Spool::new(directory))
        .start(registry)
        .unwrap()
}

/// What became of a run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    number: u64,
    /// If it reached its end.
    ended: Option<End>,
    killed: bool,
    /// It had no time left for its end, and said so.
    late: bool,
}

/// What a run says at its end, in points.
#[derive(Clone, Copy, Debug)]
struct End {
    /// Sent, though they may have arrived before.
    possible_duplicates: u64,
    spooled: u64,
    delivered_spooled: u64,
}

/// Starts runs, some at once, until so many were killed. Before each one, and when it has begun, `disturb` changes what the far end does.
pub fn run_until_killed(
    kills: usize,
    url: &str,
    directory: &Path,
    seed: u64,
    disturb: impl Fn(&mut Random) -> Reach + Sync,
) -> Vec<Run> {
    let (killed, next, runs) = (AtomicUsize::new(0), AtomicUsize::new(1), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for worker in 0..AT_ONCE {
            let (killed, next, runs, disturb) = (&killed, &next, &runs, &disturb);
            scope.spawn(move || {
                let mut random = Random::new(seed.wrapping_add(worker));
                // The last ones may come at once, so that there are a few more kills than asked for.
                while killed.load(Relaxed) < kills {
                    disturb(&mut random);
                    let number = next.fetch_add(1, Relaxed) as u64;
                    let run = one_run(number, url, directory, &mut random, disturb);
                    killed.fetch_add(usize::from(run.killed), Relaxed);
                    runs.lock().unwrap().push(run);
                }
            });
        }
    });
    runs.into_inner().unwrap()
}

/// Runs to its end, whatever the far end does.
pub fn run_to_end(runs: &mut Vec<Run>, url: &str, directory: &Path) {
    for _ in 0..10 {
        let number = runs.iter().map(|run| run.number).max().unwrap_or(0) + 1;
        let run = Process::start(number, url, directory).finish();
        runs.push(run);
        if run.ended.is_some() {
            return;
        }
    }
    panic!("none of ten runs had the time to reach its end");
}

fn one_run(
    number: u64,
    url: &str,
    directory: &Path,
    random: &mut Random,
    disturb: &(impl Fn(&mut Random) -> Reach + Sync),
) -> Run {
    let mut process = Process::start(number, url, directory);
    process.wait_until_it_says(BEGUN);
    let delay = match (disturb(random), random.below(6)) {
        // Some come to their end, whatever that is.
        (_, 0) => PATIENCE,
        // All is over soon.
        (Reach::Near, _) => Duration::from_micros(random.below(120_000)),
        // It tries for most of its time,
        (Reach::Out, 1 | 2) => Duration::from_micros(random.below(DEADLINE.as_micros() as u64)),
        // and then puts into the spool what is left.
        (Reach::Out, _) => {
            process.wait_until_it_says(ENDS);
            DEADLINE * 3 / 4 + Duration::from_micros(random.below(30_000)) - Duration::from_millis(2)
        }
    };
    let moment = Instant::now() + delay;
    if process.wait_for_end(moment).is_err() {
        process.child.kill().expect("it is there until it is waited for");
    }
    process.finish()
}

struct Process {
    number: u64,
    child: Child,
    lines: Receiver<String>,
    printed: Vec<String>,
}

impl Process {
    fn start(number: u64, url: &str, directory: &Path) -> Process {
        let told = format!("{number}\n{url}\n{}", directory.display());
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "runs::child_process", "--ignored", "--nocapture"])
            .env(CHILD, told)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stream = child.stdout.take().expect("it is piped");
        // Ends with the stream.
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Process {
            number,
            child,
            lines,
            printed: Vec::new(),
        }
    }

    fn wait_until_it_says(&mut self, word: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.printed.iter().any(|line| line.contains(word)) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.printed.push(line),
                Err(error) => panic!("run {} does not say {word:?}: {error}: {:?}", self.number, self.printed),
            }
        }
    }

    /// Waits until it has printed all that it ever will, or until the moment.
    fn wait_for_end(&mut self, moment: Instant) -> Result<(), RecvTimeoutError> {
        loop {
            match self
                .lines
                .recv_timeout(moment.saturating_duration_since(Instant::now()))
            {
                Ok(line) => self.printed.push(line),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(timeout) => return Err(timeout),
            }
        }
    }

    fn finish(mut self) -> Run {
        let number = self.number;
        let ended = self.wait_for_end(Instant::now() + PATIENCE);
        assert!(ended.is_ok(), "run {number} does not end: {:?}", self.printed);
        let status = self.child.wait().unwrap();
        let killed = status.signal() == Some(KILL);
        assert!(
            killed || status.success(),
            "run {number} failed: {status}: {:?}",
            self.printed
        );
        let ended = self.printed.iter().find_map(|line| line.split_once(ENDED));
        let ended = ended.map(|(_, numbers)| {
            let mut numbers = numbers.split(' ').map(|number| number.parse().expect("a number"));
            let mut next = || numbers.next().expect("there are three");
            End {
                possible_duplicates: next(),
                spooled: next(),
                delivered_spooled: next(),
            }
        });
        let late = self.printed.iter().any(|line| line.contains(LATE));
        // Whoever is not killed reaches an end, or says why not.
        assert!(
            killed || late || ended.is_some(),
            "run {number} says nothing: {:?}",
            self.printed
        );
        Run {
            number,
            ended,
            killed,
            late,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the last run found, which nobody killed.
#[derive(Debug)]
pub struct Clean {
    possible_duplicates: u64,
    delivered: u64,
}

/// Delivers what the spool has, in this process.
pub fn run_clean(url: &str, directory: &Path) -> Clean {
    let registry = Registry::new();
    let exporter = exporter(url, directory, &registry);
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = exporter.flush(PATIENCE) {
        assert!(Instant::now() < deadline, "{error}");
    }
    let statistics = exporter.stats();
    exporter.shutdown(PATIENCE).unwrap();
    assert_eq!(
        (statistics.rejected_points, statistics.spool_errors),
        (0, 0),
        "{statistics:?}"
    );
    Clean {
        possible_duplicates: statistics.possible_duplicate_points,
        delivered: statistics.delivered_spooled_points,
    }
}

/// What is left in the spool once everything has been delivered: nothing but temporary files that were torn. What had its name
/// was never torn, as no power failed.
pub fn assert_only_torn_left(directory: &Path) -> usize {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    let torn = |name: &&String| name.ends_with(".tmp.corrupt");
    let is_known = |name: &String| torn(&name) || name.ends_with(".lock");
    assert!(names.iter().all(is_known), "{names:?}");
    names.iter().filter(torn).count()
}

/// Compares what the far end has, each payload once, with what the runs say of themselves: all of each run that reached its end, and no more
/// than each run can have counted.
///
/// What came more than once is no more than what the far end took without telling, if it knows how often it did that, or else what the
/// runs counted as possible duplicates; and one payload of each run that was killed or late, which was on its way or not yet acknowledged.
pub fn compare(
    runs: &[Run],
    clean: &Clean,
    points: impl IntoIterator<Item = Point>,
    directory: &Path,
    untold: Option<u64>,
) {
    let (mut totals, mut seen, mut twice) = (BTreeMap::<String, u64>::new(), HashMap::new(), 0);
    for point in points {
        assert_eq!(point.series.name, "jobs_total");
        let run = format!("{:?}", point.series.attributes["run"]);
        let Value::Sum {
            value: Number::Integer(count),
            ..
        } = point.value
        else {
            panic!("{point:?} is no count");
        };
        // A payload that comes again has the same bytes, so its points have the same times.
        match seen.insert((run.clone(), point.start, point.time), count) {
            None => *totals.entry(run).or_default() += u64::try_from(count).expect("counts grow"),
            Some(before) => {
                assert_eq!(before, count, "{point:?}");
                twice += 1;
            }
        }
    }
    let found = |run: &Run| totals.get(&format!("Text(\"{}\")", run.number)).copied().unwrap_or(0);
    let wrong: Vec<String> = runs
        .iter()
        .filter(|run| match run.ended {
            Some(_) => found(run) != EACH,
            None => found(run) > EACH,
        })
        .map(|run| format!("{run:?}: {} of {EACH}", found(run)))
        .collect();
    let killed = runs.iter().filter(|run| run.killed).count() as u64;
    let late = runs.iter().filter(|run| run.late).count() as u64;
    let ends: Vec<End> = runs.iter().filter_map(|run| run.ended).collect();
    let sum = |of: fn(&End) -> u64| ends.iter().map(of).sum::<u64>();
    let counted = sum(|end| end.possible_duplicates) + clean.possible_duplicates;
    let (spooled, delivered_spooled) = (sum(|end| end.spooled), sum(|end| end.delivered_spooled));
    let torn = assert_only_torn_left(directory);
    let partly = runs.iter().filter(|run| run.ended.is_none() && found(run) > 0);
    println!(
        "{} runs: {killed} were killed, {late} were late, {} reached their end, of {} others something arrived; {} payloads arrived, and {twice} of them once more, {counted} of which were counted; those at their end spooled {spooled} and delivered {delivered_spooled} from the spool, the last one {clean:?}; {torn} torn files",
        runs.len(),
        ends.len(),
        partly.count(),
        seen.len(),
    );
    assert!(
        wrong.is_empty(),
        "{} runs are wrong, such as {:?}",
        wrong.len(),
        &wrong[..wrong.len().min(20)]
    );
    // Otherwise it has not been shown that there is anything to it.
    assert!(spooled > 0 && clean.delivered > 0, "{spooled} {clean:?}");
    assert!(late * 10 <= ends.len() as u64, "{late} runs were late");
    let most = untold.unwrap_or(counted) + killed + late;
    assert!(twice <= most, "{twice} payloads came once more, at most {most} should");
}

/// Random numbers (Marsaglia's xorshift). What they lead to is another matter each time, because processes take their time; but where they
/// are to be repeated, the seed is printed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        // Zero would stay zero.
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// Phases of a far end: what it does, it does for a while, so that some runs meet nothing else.
pub struct Phases {
    current: Mutex<(Reach, Instant)>,
}

/// Whether the far end answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Near,
    Out,
}

impl Phases {
    pub fn new() -> Phases {
        Phases {
            current: Mutex::new((Reach::Near, Instant::now())),
        }
    }

    /// Begins the next phase if the last one is over.
    pub fn turn(&self, random: &mut Random, begin: impl FnOnce(&mut Random) -> Reach) -> Reach {
        let mut current = self.current.lock().unwrap();
        if Instant::now() >= current.1 {
            let lasts = Duration::from_millis(random.below(2 * DEADLINE.as_millis() as u64));
            *current = (begin(random), Instant::now() + lasts);
        }
        current.0
    }
}

/// A seed, from the environment or from the time.
pub fn seed() -> u64 {
    let given = env::var("TIDEGAUGE_TEST_SEED")
        .ok()
        .map(|seed| seed.parse().expect("a number"));
    let seed = given.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.expect("it is after 1970").subsec_nanos().into()
    });
    println!("TIDEGAUGE_TEST_SEED={seed}");
    seed
}

/// How many runs there are at once.
const AT_ONCE: u64 = 8;

/// SIGKILL, by its number on every Unix.
const KILL: i32 = 9;
