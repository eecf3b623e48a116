//! The process forks while other threads record, look up, insert, remove, register and collect: every child counts from
//! zero and hangs nowhere, and the parent loses nothing.
//!
//! One test at a time forks, and a child runs nothing but the check that it was forked for: it ends by `_exit` before it
//! could return into the harness. The standard library holds locks of its own while a thread of its making starts or
//! ends; what forks while it does cannot start threads. So threads that come and go during forks are the system's here, and those of
//! the standard library are joined one by one before a fork: a scope that is over has seen the end of what its threads do, and not theirs.
#![cfg(unix)]
#![allow(unsafe_code)] // `fork` and what goes with it, and threads of the system, through the helpers at the end

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Barrier, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::channel,
    },
    thread,
    time::{Duration, SystemTime},
};
use tidegauge::{
    Answer, Buckets, Counter, Destination, EncodeOptions, Exporter, Family, FamilySnapshot, FloatCounter, Gauge,
    Histogram, IntGauge, LazyCounter, Losses, Payload, Points, Registry, ScrapeRequest, Temporality, UpDownCounter,
    Value,
};

/// Forks of each of the threads that fork.
const FORKS: u64 = 150;

/// After so many seconds a child is taken to hang, and killed.
const PATIENCE: u32 = 60;

/// Long enough for anything that is going to happen.
const LONG: Duration = Duration::from_secs(30);

static STATIC: LazyCounter = LazyCounter::new("static_total", "Of a static.");

/// All that is recorded into.
struct Metrics {
    registry: Registry,
    events: Counter,
    bytes: FloatCounter,
    running: UpDownCounter,
    sizes: Histogram,
    level: Gauge,
    workers: IntGauge,
    by_worker: Family<Counter, 1>,
    churn: Family<Gauge, 1>,
    crowd: Family<Counter, 1>,
}

impl Metrics {
    fn new() -> Self {
        let registry = Registry::new();
        let metrics = Metrics {
            events: registry.counter("events_total", "Events.").register().unwrap(),
            bytes: registry.float_counter("bytes_total", "Bytes.").register().unwrap(),
            running: registry.up_down_counter("running", "Running.").register().unwrap(),
            sizes: registry
                .histogram("size_bytes", "Sizes.")
                .buckets(Buckets::explicit([1.0, 10.0]).unwrap())
                .register()
                .unwrap(),
            level: registry.gauge("level", "Level.").register().unwrap(),
            workers: registry.int_gauge("workers", "Workers.").register().unwrap(),
            by_worker: registry
                .counter("by_worker_total", "By worker.")
                .labels(["worker"])
                .register()
                .unwrap(),
            churn: registry
                .gauge("churn", "Series that come and go.")
                .labels(["number"])
                .register()
                .unwrap(),
            crowd: registry
                .counter("crowd_total", "More series than fit.")
                .labels(["number"])
                .limit(4)
                .register()
                .unwrap(),
            registry,
        };
        metrics.level.set(21.5);
        metrics.workers.set(7);
        metrics
    }

    /// One round of everything.
    fn record(&self, worker: &str, round: u64) {
        self.events.inc();
        self.bytes.add(0.5);
        self.running.add(3);
        self.running.sub(1);
        self.sizes.observe((round % 3 * 6) as f64);
        self.by_worker.with([worker]).add(2);
        STATIC.inc();
        // Takes locks.
        let number = (worker, round % 97).1.to_string();
        let gone = self.churn.handle([&*number]);
        self.churn.remove([&*number]);
        // Late.
        gone.set(1.0);
        gone.add(f64::NAN);
        self.crowd.with([&*number]).inc();
    }

    fn totals(&self) -> Totals {
        let snapshot = self.registry.snapshot();
        let sum = |name: &str| -> f64 {
            let family = snapshot.family(name).expect("it is registered");
            let value = |value: Value<'_>| match value {
                Value::Counter(count) => count as f64,
                Value::FloatCounter(float) | Value::Gauge(float) => float,
                Value::IntGauge(integer) => integer as f64,
                Value::Histogram(histogram) => histogram.count() as f64,
                _ => unreachable!("there are no others"),
            };
            family.series().map(|series| value(series.value())).sum()
        };
        let sizes = self.sizes.get();
        Totals {
            events: sum("events_total"),
            bytes: sum("bytes_total"),
            running: sum("running"),
            sizes: sizes.counts().to_vec(),
            size: sizes.sum(),
            by_worker: sum("by_worker_total"),
            crowd: sum("crowd_total"),
            of_static: STATIC.get() as f64,
        }
    }

    /// What so many rounds come to.
    fn expected(rounds: &[u64]) -> Totals {
        let all = rounds.iter().sum::<u64>() as f64;
        let of = |rest: u64| rounds.iter().map(|rounds| (rounds + 2 - rest) / 3).sum::<u64>();
        Totals {
            events: all,
            bytes: all * 0.5,
            running: all * 2.0,
            sizes: vec![of(0), of(1), of(2)],
            size: (of(1) * 6 + of(2) * 12) as f64,
            by_worker: all * 2.0,
            crowd: all,
            of_static: all,
        }
    }
}

#[derive(Debug, PartialEq)]
struct Totals {
    events: f64,
    bytes: f64,
    running: f64,
    sizes: Vec<u64>,
    size: f64,
    by_worker: f64,
    crowd: f64,
    of_static: f64,
}

#[test]
fn a_child_counts_from_zero_and_the_parent_loses_nothing() {
    let _alone = alone();
    // Not on this thread's stack, which a child gives to the threads that it starts.
    let metrics: &Metrics = Box::leak(Box::new(Metrics::new()));
    let (over, forks, begin) = (&AtomicBool::new(false), &AtomicU64::new(0), &Barrier::new(6));
    let all_forked = &Barrier::new(2);
    let rounds: Vec<u64> = thread::scope(|scope| {
        let recorders: Vec<_> = ["one", "two", "three"]
            .map(|worker| {
                scope.spawn(move || {
                    begin.wait();
                    let mut round = 0;
                    while !over.load(Ordering::Relaxed) {
                        metrics.record(worker, round);
                        round += 1;
                    }
                    round
                })
            })
            .into();
        scope.spawn(move || {
            begin.wait();
            let mut round = 0;
            while !over.load(Ordering::Relaxed) {
                metrics.totals();
                let name = format!("made_{round}");
                metrics.registry.counter(&name, "Made.").register().expect("new").inc();
                assert!(metrics.registry.unregister(&name));
                // Threads end, and leave their cells to others.
                on_a_thread_of_the_system(metrics, |metrics| metrics.crowd.with(["short-lived"]).add(0));
                round += 1;
            }
        });
        // Two, which also fork at once, and record in between, so that they have cells of their own.
        let forkers: Vec<_> = ["four", "five"]
            .map(|worker| {
                scope.spawn(move || {
                    begin.wait();
                    for round in 0..FORKS {
                        metrics.record(worker, round);
                        let before = SystemTime::now();
                        in_child(|| {
                            // Every other child records first, where its thread did before.
                            if round % 2 == 0 {
                                check_start(metrics, before);
                            }
                            record_and_check(metrics);
                            if round % 10 == 0 {
                                check_grandchild(metrics);
                            }
                        });
                        forks.fetch_add(1, Ordering::Relaxed);
                    }
                    // Neither ends while the other forks.
                    all_forked.wait();
                    FORKS
                })
            })
            .into();
        let mut forked: Vec<_> = forkers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        forked.extend(recorders.into_iter().map(thread::ScopedJoinHandle::join));
        forked
            .into_iter()
            .map(|rounds| rounds.expect("it did not panic"))
            .collect()
    });
    assert_eq!(forks.load(Ordering::Relaxed), 2 * FORKS);
    assert_eq!(metrics.totals(), Metrics::expected(&rounds));
    let (all, losses) = (rounds.iter().sum::<u64>(), metrics.registry.losses());
    assert_eq!(losses.invalid_values, all);
    // Late, unless there was no room for a series that could be removed.
    assert!(
        losses.late_writes <= all && losses.late_writes + losses.past_limit >= all,
        "{losses:?} of {all}"
    );
}

/// In a child that has not recorded: nothing is counted, and all starts now.
fn check_start(metrics: &Metrics, before: SystemTime) {
    assert_eq!(metrics.totals(), Metrics::expected(&[]), "at the start");
    assert_eq!(metrics.registry.losses(), Losses::default(), "at the start");
    assert_eq!((metrics.level.get(), metrics.workers.get()), (21.5, 7));
    for family in metrics.registry.snapshot().families() {
        for series in family.series() {
            assert!(
                series.created() >= before && series.created() <= SystemTime::now(),
                "{family:?}"
            );
        }
    }
    check_created_lines(metrics, before);
}

/// A child of a child, which has recorded.
fn check_grandchild(metrics: &Metrics) {
    let before = SystemTime::now();
    in_child(|| {
        check_start(metrics, before);
        record_and_check(metrics);
    });
    // And again, with threads of this process.
    let (over, begun) = (AtomicBool::new(false), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            begun.wait();
            while !over.load(Ordering::Relaxed) {
                metrics.record("sibling", 0);
            }
        });
        begun.wait();
        in_child(|| record_and_check(metrics));
        over.store(true, Ordering::Relaxed);
    });
}

fn check_created_lines(metrics: &Metrics, before: SystemTime) {
    let before = before.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let request = ScrapeRequest::new()
        .accept(Some("application/openmetrics-text"))
        .options(EncodeOptions::new().created(true));
    let body = String::from_utf8(metrics.registry.scrape_with(&request).into_body()).unwrap();
    let lines: Vec<&str> = body.lines().filter(|line| line.contains("_created")).collect();
    assert!(lines.len() > 4, "{body}");
    for line in lines {
        let (_, seconds) = line.rsplit_once(' ').unwrap();
        // They have milliseconds.
        let created = Duration::from_secs_f64(seconds.parse().unwrap()) + Duration::from_millis(1);
        assert!(created >= before, "{line} before {before:?}");
    }
}

/// Records in this thread and in new ones.
fn record_and_check(metrics: &Metrics) {
    let rounds = [20, 30, 40];
    let record = |worker: usize| {
        for round in 0..rounds[worker] {
            metrics.record(["one", "child", "new"][worker], round);
        }
    };
    record(0);
    assert_eq!(
        metrics.totals(),
        Metrics::expected(&rounds[..1]),
        "of the thread that forked"
    );
    thread::scope(|scope| {
        let threads = [1, 2].map(|worker| scope.spawn(move || record(worker)));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    assert_eq!(metrics.totals(), Metrics::expected(&rounds), "of all threads");
    assert_eq!(metrics.registry.losses().invalid_values, 90);
    metrics.workers.inc();
    metrics.workers.dec();
    assert_eq!(metrics.workers.get(), 7);

    let new = metrics.registry.counter("new_total", "New.").labels(["number"]);
    let new = new.register().expect("nobody has registered it");
    for number in 0..100 {
        new.with((number,)).inc();
    }
    assert_eq!(new.len(), 100);
    new.clear();
    assert!(new.is_empty());
    assert!(metrics.registry.unregister("new_total"));
}

#[test]
fn what_was_in_flight_when_the_process_forked_does_not_end_in_the_child() {
    let _alone = alone();
    let metrics = Metrics::new();
    let mut tracked = Some((metrics.running.track(), metrics.workers.track()));
    in_child(|| {
        drop(tracked.take());
        assert_eq!((metrics.running.get(), metrics.workers.get()), (0, 7));
        let _in_flight = metrics.running.track();
        assert_eq!(metrics.running.get(), 1);
    });
    assert_eq!((metrics.running.get(), metrics.workers.get()), (1, 8));
}

#[test]
fn what_ended_threads_and_no_threads_have_counted_is_the_parents() {
    let _alone = alone();
    let registry = Registry::new();
    let events = registry.counter("events_total", "Events.").register().unwrap();
    let bytes = registry.float_counter("bytes_total", "Bytes.").register().unwrap();
    // Two are more than a thread's cell takes.
    let large = 1 << 46;
    (0..4).for_each(|_| events.add(large));
    // More at once than there are banks kept for new threads.
    let all_there = Barrier::new(20);
    thread::scope(|scope| {
        let record = || {
            events.inc();
            bytes.add(0.5);
            all_there.wait();
        };
        let threads = [(); 20].map(|()| scope.spawn(record));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    in_child(|| {
        assert_eq!((events.get(), bytes.get()), (0, 0.0));
        (0..4).for_each(|_| events.add(large));
        bytes.add(0.5);
        assert_eq!((events.get(), bytes.get()), (4 * large, 0.5));
    });
    assert_eq!((events.get(), bytes.get()), (4 * large + 20, 10.0));
}

#[test]
fn labels_that_a_lost_thread_was_reading_do_not_fill_the_child() {
    let _alone = alone();
    let registry = Registry::new();
    let family: Family<Counter, 1> = registry
        .counter("churn_total", "Series that come and go.")
        .labels(["number"])
        .register()
        .unwrap();
    family.with(["inherited"]).inc();
    let (read, has_read) = channel();
    let (over, until) = channel::<()>();
    thread::scope(|scope| {
        // Dropped at the end, even that of a test that fails.
        let _over = over;
        let registry = &registry;
        scope.spawn(move || {
            let _snapshot = registry.snapshot();
            read.send(()).unwrap();
            let _ = until.recv();
        });
        has_read.recv().unwrap();
        let inherited = registry.snapshot();
        in_child(|| {
            // More than may wait to serve again.
            for number in 0..20_000 {
                family.with((number,)).inc();
                assert!(family.remove([&*number.to_string()]));
            }
            assert_eq!(registry.losses(), Losses::default());
            assert!(family.remove(["inherited"]));
            for number in 0..20_000 {
                family.with((number,)).inc();
                assert!(family.remove([&*number.to_string()]));
            }
            // What was read before the fork is as it was.
            let series = inherited.family("churn_total").unwrap().series().next().unwrap();
            assert_eq!(
                (series.label("number"), series.value()),
                (Some("inherited"), Value::Counter(1))
            );
        });
    });
}

#[cfg(feature = "serve")]
#[test]
fn a_server_is_inert_in_the_child_and_serves_on_in_the_parent() {
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
    };

    let _alone = alone();
    let registry = Registry::new();
    registry.counter("jobs_total", "Jobs.").register().unwrap().add(3);
    let path = std::env::temp_dir().join(format!("tidegauge-fork-{}.sock", std::process::id()));
    let mut server = Some(tidegauge::serve(format!("unix:{}", path.display()), &registry).unwrap());
    let scrape = |path: &std::path::Path| {
        let mut stream = UnixStream::connect(path).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    };
    for stop in [true, false] {
        in_child(|| {
            // The child's copy: the parent's handle stays where it is.
            let server = server.take().unwrap();
            let _ = (server.statistics(), format!("{server:?}"));
            if stop {
                assert_eq!(server.stop(), tidegauge::Stopped::Joined);
            } else {
                drop(server);
            }
            assert!(path.exists());
            // The child's own.
            let own = path.with_extension("child");
            let server = tidegauge::serve(format!("unix:{}", own.display()), &registry).unwrap();
            assert!(scrape(&own).contains("\njobs_total 0\n"));
            server.stop();
            assert!(!own.exists());
        });
        assert!(scrape(&path).contains("\njobs_total 3\n"));
    }
    assert_eq!(server.take().unwrap().stop(), tidegauge::Stopped::Joined);
    assert!(!path.exists());
}

/// A far end in memory: what it was sent of each family, added up.
#[derive(Clone, Default)]
struct FarEnd(Arc<Mutex<BTreeMap<String, u64>>>);

impl FarEnd {
    fn jobs(&self) -> u64 {
        let totals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        totals.get("jobs_total").copied().unwrap_or_default()
    }
}

impl Destination for FarEnd {
    fn name(&self) -> &str {
        "far"
    }

    fn temporality(&self, _: &FamilySnapshot) -> Temporality {
        Temporality::Delta
    }

    fn encode(&mut self, points: &mut Points<'_>, payload: &mut Vec<u8>) {
        while let Some(family) = points.next_family() {
            while let Some(point) = points.peek() {
                if let Value::Counter(count) = point.value() {
                    payload.extend(format!("{} {count}\n", family.name()).bytes());
                }
                points.take();
            }
        }
    }

    fn send(&mut self, payload: &Payload, _: Duration) -> Answer {
        let mut totals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for line in std::str::from_utf8(payload.bytes()).unwrap().lines() {
            let (name, count) = line.split_once(' ').unwrap();
            *totals.entry(name.to_owned()).or_default() += count.parse::<u64>().unwrap();
        }
        Answer::delivered()
    }
}

#[test]
fn an_exporter_is_inert_in_the_child_which_sends_nothing_of_the_parents() {
    let _alone = alone();
    let registry = Registry::new();
    let jobs = registry
        .counter("jobs_total", "Jobs.")
        .labels(["queue"])
        .register()
        .unwrap();
    let far_end = FarEnd::default();
    let exporter = Exporter::new(far_end.clone()).start(&registry).unwrap();
    jobs.with(["mail"]).add(3);
    assert_eq!(exporter.flush(LONG).map(|report| report.kept), Ok(0));
    jobs.with(["mail"]).add(4);
    let mut exporter = Some(exporter);
    for _ in 0..3 {
        in_child(|| {
            let inherited = exporter.take().unwrap();
            let error = inherited.flush(LONG).unwrap_err();
            assert!(error.to_string().contains("before this process was forked"), "{error}");
            assert!(inherited.shutdown(LONG).is_err());
            drop(inherited);
            // The child's own, under the same name.
            let far_end = FarEnd::default();
            let exporter = Exporter::new(far_end.clone()).start(&registry).unwrap();
            assert_eq!(exporter.name(), "far");
            exporter.flush(LONG).unwrap();
            assert_eq!(far_end.jobs(), 0);
            jobs.with(["mail"]).add(5);
            jobs.with(["print"]).add(6);
            jobs.remove(["mail"]);
            exporter.flush(LONG).unwrap();
            exporter.shutdown(LONG).unwrap();
            assert_eq!(far_end.jobs(), 11);
        });
    }
    let exporter = exporter.take().unwrap();
    exporter.shutdown(LONG).unwrap();
    assert_eq!(far_end.jobs(), 7);
}

#[cfg(feature = "pushgateway")]
#[test]
fn a_push_in_a_child_goes_over_a_connection_of_its_own() {
    use std::{
        io::{BufRead, BufReader, Read, Write},
        net::{TcpListener, TcpStream},
        sync::mpsc::Sender,
    };

    /// Takes every push on a connection, and hands on what it says of jobs and which connection that is.
    fn take_pushes(stream: TcpStream, number: usize, pushes: &Sender<(usize, String)>) {
        let mut reader = BufReader::new(&stream);
        loop {
            let (mut line, mut length) = (String::new(), 0);
            while line != "\r\n" {
                line.clear();
                if reader.read_line(&mut line).unwrap() == 0 {
                    return;
                }
                if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
                    length = value.trim_end().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let jobs = String::from_utf8(body).unwrap().lines().last().unwrap().to_owned();
            pushes.send((number, jobs)).unwrap();
            (&stream)
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
        }
    }

    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, pushes) = channel();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().take(2).enumerate() {
            let (stream, sender) = (stream.unwrap(), sender.clone());
            thread::spawn(move || take_pushes(stream, number, &sender));
        }
    });
    let registry = Registry::new();
    registry.counter("jobs_total", "Jobs.").register().unwrap().add(3);
    let mut group = tidegauge::Pushgateway::builder(url, "test").no_proxy().build().unwrap();
    group.push(&registry).unwrap();
    in_child(|| group.push(&registry).unwrap());
    group.push(&registry).unwrap();
    let pushed: Vec<(usize, String)> = (0..3).map(|_| pushes.recv_timeout(LONG).unwrap()).collect();
    let expected = [(0, "jobs_total 3"), (1, "jobs_total 0"), (0, "jobs_total 3")];
    assert_eq!(pushed, expected.map(|(number, jobs)| (number, jobs.to_owned())));
}

/// Tests that fork wait for each other.
fn alone() -> impl Drop {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` on a thread that the standard library knows nothing of, and waits for its end.
fn on_a_thread_of_the_system(metrics: &'static Metrics, work: fn(&Metrics)) {
    type Argument = (&'static Metrics, fn(&Metrics));

    extern "C" fn start(argument: *mut libc::c_void) -> *mut libc::c_void {
        // SAFETY: it is the argument given below, which lives until the thread is joined.
        let (metrics, work) = unsafe { *argument.cast::<Argument>() };
        work(metrics);
        std::ptr::null_mut()
    }

    let mut argument: Argument = (metrics, work);
    let mut thread = std::mem::MaybeUninit::uninit();
    // SAFETY: the thread is written to a place for it, and joined if it was made.
    unsafe {
        let argument = (&raw mut argument).cast();
        let status = libc::pthread_create(thread.as_mut_ptr(), std::ptr::null(), start, argument);
        assert_eq!(status, 0, "no thread");
        assert_eq!(libc::pthread_join(thread.assume_init(), std::ptr::null_mut()), 0);
    }
}

/// Runs `check` in a child, and fails here if it fails or hangs there.
#[track_caller]
fn in_child(check: impl FnOnce()) {
    // SAFETY: the child runs code that the crate promises works in it, the allocator and thread creation, which the C library
    // makes work, and ends by `_exit`.
    let child = unsafe { libc::fork() };
    assert_ne!(child, -1, "{}", std::io::Error::last_os_error());
    if child == 0 {
        // SAFETY: always safe. The signal ends a child that hangs.
        unsafe { libc::alarm(PATIENCE) };
        std::panic::set_hook(Box::new(|panic| {
            // Not through the harness, which may hold a lock.
            let message = format!("in a child: {panic}\n");
            // SAFETY: the buffer is as long as it says.
            unsafe { libc::write(2, message.as_ptr().cast(), message.len()) };
        }));
        let failed = catch_unwind(AssertUnwindSafe(check)).is_err();
        // SAFETY: always safe.
        unsafe { libc::_exit(failed.into()) };
    }
    let mut status = 0;
    // SAFETY: the status is written to a place for it.
    let waited = unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(waited, child);
    assert!(
        !libc::WIFSIGNALED(status),
        "the child was ended by signal {}",
        libc::WTERMSIG(status)
    );
    assert_eq!(libc::WEXITSTATUS(status), 0, "the child failed");
}
