//! Time: how long threads take to record, in rounds that go from library to library.

use crate::clock::{time_on_core, time_waiting_for_core};
use crate::data::Lane;
use crate::environment::cores;
use crate::library::{Record, Total};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How thorough a run is.
#[derive(Clone, Copy)]
pub struct Plan {
    /// Rounds; the best of them counts.
    pub rounds: usize,
    /// Rounds of workloads that take seconds each.
    pub long_rounds: usize,
    /// How long one library records in one round.
    pub batch: Duration,
    /// How long one library scrapes in one round, one scrape at least.
    pub scraping: Duration,
    /// How long writers are watched at a time.
    pub window: Duration,
    /// How often writers are watched in each circumstance.
    pub windows: usize,
    /// Whether libraries take part that are sure to be far from the best and take their time.
    pub everybody: bool,
}

impl Plan {
    /// Everything within a minute.
    pub const QUICK: Self = Self {
        rounds: 3,
        long_rounds: 1,
        batch: Duration::from_millis(12),
        scraping: Duration::from_millis(10),
        window: Duration::from_millis(40),
        windows: 7,
        everybody: false,
    };

    /// As good as the machine allows.
    pub const FULL: Self = Self {
        rounds: 5,
        long_rounds: 3,
        batch: Duration::from_millis(200),
        scraping: Duration::from_millis(200),
        window: Duration::from_millis(200),
        windows: 15,
        everybody: true,
    };
}

/// What an instrument holds in the end, told from what was recorded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// One event an operation.
    Count,
    /// The amounts, added up.
    Sum,
    /// The last amount.
    Last,
    /// One event an operation, and the values added up.
    Distribution,
}

/// Something to record into, with all that was recorded so far and the best time of it.
pub struct Contender {
    /// Whose it is.
    pub library: &'static str,
    best: f64,
    disturbed: f64,
    record: Box<dyn Record>,
    recorded: Total,
    operations: u64,
}

impl Contender {
    /// A contender that has recorded nothing.
    pub fn new(library: &'static str, record: Box<dyn Record>) -> Self {
        Self {
            library,
            best: f64::INFINITY,
            disturbed: f64::INFINITY,
            record,
            recorded: Total::default(),
            operations: 0,
        }
    }

    /// Finds out how many operations a thread does in the time of a batch.
    pub fn calibrate(&mut self, threads: usize, batch: Duration, expected: Expected) {
        const FEWEST: u64 = 512;
        const MOST: u64 = 1 << 31;
        // More threads than cores share the time; waking them all would drown a first try.
        let at_once = threads.min(cores());
        let mut operations = FEWEST;
        loop {
            let taken = self.batch(at_once, operations, expected).time;
            if taken >= batch / 8 || operations >= MOST {
                let scale = batch.as_secs_f64() / taken.as_secs_f64().max(1e-9);
                let scale = scale * at_once as f64 / threads as f64;
                self.operations = ((operations as f64 * scale) as u64).clamp(FEWEST, MOST);
                return;
            }
            operations *= 4;
        }
    }

    /// Records for the time of a batch on so many threads, and keeps the time if it is the best.
    ///
    /// Where the threads did not run at once, as other work kept a core busy, nobody stood in
    /// anybody's way, and the time says nothing: that is tried again, but not for ever.
    pub fn round(&mut self, threads: usize, expected: Expected) {
        const TRIES: usize = 4;
        for _ in 0..TRIES {
            let taken = self.batch(threads, self.operations, expected);
            let nanoseconds = taken.time.as_nanos() as f64 / self.operations as f64;
            if taken.at_once {
                self.best = self.best.min(nanoseconds);
                return;
            }
            self.disturbed = self.disturbed.min(nanoseconds);
        }
    }

    /// Nanoseconds an operation in the best round, and whether they can be trusted.
    pub fn best(&self) -> (f64, bool) {
        if self.best.is_finite() {
            (self.best, true)
        } else {
            (self.disturbed, false)
        }
    }

    fn batch(&mut self, threads: usize, operations: u64, expected: Expected) -> Taken {
        let taken = record(&*self.record, threads, operations);
        self.record.settle();
        for thread in 0..threads {
            for operations in [WARM_UP, operations] {
                self.note(Lane { operations, thread }, expected);
            }
        }
        taken
    }

    fn note(&mut self, lane: Lane, expected: Expected) {
        let Total { count, sum } = &mut self.recorded;
        if matches!(expected, Expected::Count | Expected::Distribution) {
            *count.get_or_insert(0) += lane.operations;
        }
        match expected {
            Expected::Count => {}
            Expected::Sum => *sum.get_or_insert(0.0) += lane.sum_of_amounts(),
            Expected::Last => *sum = Some(lane.last_amount()),
            Expected::Distribution => *sum.get_or_insert(0.0) += lane.sum_of_observations(),
        }
    }

    /// Ends the process unless the library holds exactly what was recorded.
    pub fn verify(&self, workload: &str) {
        let held = self.record.total();
        let same = |held: Option<f64>, recorded: Option<f64>| match (held, recorded) {
            (Some(held), Some(recorded)) => held == recorded,
            // A histogram without a sum says nothing about it.
            _ => true,
        };
        let counts = same(
            held.count.map(|count| count as f64),
            self.recorded.count.map(|count| count as f64),
        );
        let known = held.count.is_some() || held.sum.is_some();
        assert!(
            known && counts && same(held.sum, self.recorded.sum),
            "{workload}: {} holds {held:?} after {:?} was recorded",
            self.library,
            self.recorded
        );
    }
}

/// Operations each thread does before the clock starts.
const WARM_UP: u64 = 1_000;

/// Time of a thread for so many operations, all threads started together.
///
/// Where each thread has a core this is the time from the first start to the last end. Threads that
/// take turns on the cores would add their waiting to it: of them it is the mean time on a core.
fn record(record: &dyn Record, threads: usize, operations: u64) -> Taken {
    let line = StartingLine::new(threads);
    let times: Vec<Times> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let line = &line;
                let work = move || {
                    record.run(Lane {
                        operations: WARM_UP,
                        thread,
                    });
                    line.wait();
                    let waited = time_waiting_for_core();
                    let (start, before) = (Instant::now(), time_on_core());
                    record.run(Lane { operations, thread });
                    Times {
                        on_core: time_on_core() - before,
                        start,
                        end: Instant::now(),
                        waiting: time_waiting_for_core() - waited,
                    }
                };
                std::thread::Builder::new()
                    .stack_size(STACK)
                    .spawn_scoped(scope, work)
                    .expect("the system has room for the threads of a benchmark")
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("no library panics while recording"))
            .collect()
    });
    if threads > cores() {
        let on_cores: Duration = times.iter().map(|times| times.on_core).sum();
        return Taken {
            time: on_cores / u32::try_from(threads).unwrap_or(u32::MAX),
            at_once: true,
        };
    }
    let start = times.iter().map(|times| times.start).min();
    let end = times.iter().map(|times| times.end).max();
    let time = match (start, end) {
        (Some(start), Some(end)) => end - start,
        _ => Duration::ZERO,
    };
    Taken {
        time,
        at_once: times.iter().all(|times| times.waiting <= time.mul_f64(0.1)),
    }
}

/// How long the threads took.
struct Taken {
    time: Duration,
    /// Whether each had a core whenever it wanted one, nearly, if there is one for each.
    at_once: bool,
}

/// When a thread recorded.
struct Times {
    start: Instant,
    end: Instant,
    on_core: Duration,
    waiting: Duration,
}

/// Where threads wait for each other. Those that have a core each wait awake: one that had to be
/// woken might start when the others are done.
struct StartingLine {
    threads: usize,
    arrived: AtomicUsize,
    asleep: Barrier,
}

impl StartingLine {
    fn new(threads: usize) -> Self {
        Self {
            threads,
            arrived: AtomicUsize::new(0),
            asleep: Barrier::new(threads),
        }
    }

    fn wait(&self) {
        if self.threads > cores() {
            self.asleep.wait();
            return;
        }
        self.arrived.fetch_add(1, Ordering::AcqRel);
        while self.arrived.load(Ordering::Acquire) < self.threads {
            std::hint::spin_loop();
        }
    }
}

/// Stack of a measuring thread: small, as there are hundreds of them.
pub const STACK: usize = 256 * 1_024;

/// Lets every contender have its turn in every round, then checks what they hold.
pub fn round_robin(
    workload: &str,
    contenders: &mut [Contender],
    threads: usize,
    rounds: usize,
    batch: Duration,
    expected: Expected,
) {
    for contender in contenders.iter_mut() {
        contender.calibrate(threads, batch, expected);
    }
    for round in 0..rounds {
        // Nobody always follows the same neighbour.
        let first = round % contenders.len().max(1);
        let (before, after) = contenders.split_at_mut(first);
        for contender in after.iter_mut().chain(before) {
            contender.round(threads, expected);
        }
    }
    for contender in contenders.iter() {
        contender.verify(workload);
    }
}
