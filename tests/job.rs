//! Jobs in real processes, however these end: what their destination has had by then, the exit status that their parent sees, and what
//! they say of what was left behind.
//!
//! Each test runs this program again, as a process whose `main` is one of the scenarios below. So the program has a `main` of
//! its own, and not that of the harness, which would have a word in how a process ends.
#![allow(unsafe_code)] // signals and forks, through the helpers at the end

fn main() -> std::process::ExitCode {
    #[cfg(unix)]
    return unix::main();
    #[cfg(not(unix))]
    std::process::ExitCode::SUCCESS
}

#[cfg(unix)]
mod unix {
    use std::{
        collections::BTreeMap,
        env,
        error::Error,
        fs::{self, OpenOptions},
        io::{Read, Write},
        os::unix::process::ExitStatusExt,
        panic,
        path::PathBuf,
        process::{self, Command, ExitCode, ExitStatus, Stdio},
        sync::{
            LazyLock, OnceLock,
            atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
            mpsc::{Receiver, Sender, channel},
        },
        thread,
        time::Duration,
    };
    use tidegauge::{
        Answer, Destination, Exporter, ExporterHandle, Job, JobError, JobOutcome, JobRun, Payload, Points, Registry,
        Spool, Value,
    };

    /// Says to a process which scenario it is.
    const SCENARIO: &str = "TIDEGAUGE_JOB_SCENARIO";

    /// Where it delivers to.
    const FOLDER: &str = "TIDEGAUGE_JOB_FOLDER";

    /// Long enough for anything that is going to happen. Deadlines that must not be waited for are longer.
    const LONG: Duration = Duration::from_secs(60);
    const TOO_LONG: Duration = Duration::from_secs(3600);

    /// For what is not going to happen.
    const SHORT: Duration = Duration::from_millis(200);

    /// For what is not going to happen beside what is: that has to be through by then, on a machine with other work to do too.
    const ENOUGH: Duration = Duration::from_secs(5);

    type Scenario = fn() -> Result<(), Box<dyn Error>>;

    /// A process, and what its parent expects of it.
    type Test = (&'static str, Scenario, fn(Ended));

    const TESTS: &[Test] = &[
        ("success", success, |ended| {
            assert_eq!(ended.status.code(), Some(0));
            assert_eq!(ended.outcome(), "success");
            assert_eq!(ended.records(), Some(5.0));
            let [start, end] = ["start", "success"].map(|what| ended.time(what));
            assert!(start.unwrap() > 1e9 && start <= end, "{start:?} {end:?}");
            assert_eq!(ended.stderr, "");
        }),
        ("error_return", error_return, |ended| {
            assert_eq!(ended.status.code(), Some(1));
            assert_eq!(ended.outcome(), "failure");
            assert_eq!(ended.records(), Some(5.0));
            assert_eq!(ended.time("success"), None);
        }),
        ("panicking", panicking, |ended| {
            assert_eq!(ended.status.code(), Some(101));
            assert_eq!(ended.outcome(), "panic");
            assert_eq!(ended.records(), Some(5.0));
        }),
        ("panic_in_a_closure", panic_in_a_closure, |ended| {
            assert_eq!(ended.status.code(), Some(101));
            assert_eq!(ended.outcome(), "panic");
        }),
        ("dropped_beside_a_panic", dropped_beside_a_panic, |ended| {
            assert_eq!(ended.status.code(), Some(101));
            assert_eq!(ended.outcome(), "failure");
        }),
        ("exit", exit, |ended| {
            assert_eq!(ended.status.code(), Some(7));
            assert_eq!(ended.outcome(), "exit");
            assert_eq!(ended.records(), Some(5.0));
            assert_eq!(ended.stderr, "");
        }),
        ("exit_of_another_thread", exit_of_another_thread, |ended| {
            assert_eq!(ended.status.code(), Some(7));
            assert_eq!(ended.outcome(), "exit");
            assert_eq!(ended.records(), Some(5.0));
        }),
        ("two_threads_exit", two_threads_exit, |ended| {
            assert_eq!(ended.status.code(), Some(7));
            assert_eq!(ended.outcome(), "exit");
        }),
        ("exit_with_an_exporter", exit_with_an_exporter, |ended| {
            assert_eq!(ended.status.code(), Some(7));
            assert_eq!(ended.value("other_total{}"), Some(3.0));
        }),
        ("exit_during_a_shutdown", exit_during_a_shutdown, |ended| {
            assert_eq!(ended.status.code(), Some(7));
            assert_eq!(ended.value("other_total{}"), Some(3.0));
        }),
        (
            "exit_on_a_thread_of_a_shutdown",
            exit_on_a_thread_of_a_shutdown,
            |ended| {
                assert_eq!(ended.status.code(), Some(6));
            },
        ),
        ("static_exporter", static_exporter, |ended| {
            assert_eq!(ended.status.code(), Some(0));
            assert_eq!(ended.value("other_total{}"), Some(3.0));
            assert_eq!(ended.stderr, "");
        }),
        ("static_job", static_job, |ended| {
            assert_eq!(ended.status.code(), Some(0));
            assert_eq!(ended.outcome(), "exit");
        }),
        ("not_at_exit", not_at_exit, |ended| {
            assert_eq!(ended.status.code(), Some(0));
            assert_eq!(ended.value("other_total{}"), None);
        }),
        ("exit_in_a_collector", exit_in_a_collector, |ended| {
            assert_eq!(ended.status.code(), Some(5));
            assert!(ended.stderr.contains("one of its own threads"), "{}", ended.stderr);
        }),
        ("exit_in_a_send", exit_in_a_send, |ended| {
            assert_eq!(ended.status.code(), Some(6));
            assert!(ended.stderr.contains("one of its own threads"), "{}", ended.stderr);
            // The other exporter is none the worse for it.
            assert_eq!(ended.outcome(), "exit");
        }),
        ("exit_with_a_dead_far_end", exit_with_a_dead_far_end, |ended| {
            assert_eq!(ended.status.code(), Some(7));
            assert!(ended.stderr.contains("exporter \"dead\""), "{}", ended.stderr);
            assert_eq!(ended.outcome(), "exit");
        }),
        ("logger_with_thread_locals", logger_with_thread_locals, |ended| {
            assert_eq!(ended.status.code(), Some(0));
            assert!(ended.stderr.contains("logged: "), "{}", ended.stderr);
            assert!(!ended.stderr.contains("tidegauge: "), "{}", ended.stderr);
        }),
        ("logger_that_panics", logger_that_panics, |ended| {
            assert_eq!(ended.status.code(), Some(101));
            // The one of the application, and that of the logger, and what the logger would not take.
            assert!(ended.stderr.contains("no rows today"), "{}", ended.stderr);
            assert!(ended.stderr.contains("logger is broken"), "{}", ended.stderr);
            assert!(ended.stderr.contains("tidegauge: job \"nightly\""), "{}", ended.stderr);
        }),
        ("logger_that_panics_at_exit", logger_that_panics, |ended| {
            assert_eq!(ended.status.code(), Some(7));
            assert!(ended.stderr.contains("logger is broken"), "{}", ended.stderr);
            assert!(ended.stderr.contains("tidegauge: job \"nightly\""), "{}", ended.stderr);
        }),
        ("logger_that_hangs_at_exit", logger_that_hangs_at_exit, |ended| {
            assert_eq!(ended.status.code(), Some(7));
        }),
        (
            "logger_that_hangs_at_a_signal",
            logger_that_hangs_at_a_signal,
            |ended| {
                assert_eq!(ended.status.signal(), Some(libc::SIGTERM));
                assert_eq!(ended.outcome(), "signal");
            },
        ),
        (
            "logger_that_hangs_after_a_signal",
            logger_that_hangs_at_a_signal,
            |ended| {
                assert_eq!(ended.status.signal(), Some(libc::SIGTERM));
                assert_eq!(ended.outcome(), "signal");
            },
        ),
        ("never_answers", never_answers, |ended| {
            assert_eq!(ended.status.code(), Some(0));
            assert_eq!(ended.outcome(), "success");
            let lines: Vec<&str> = ended.stderr.lines().collect();
            assert_eq!(lines.len(), 1, "{}", ended.stderr);
            for part in [
                "job \"nightly\"",
                "success",
                "exporter \"dead\"",
                "5s",
                "nobody will try again",
            ] {
                assert!(lines[0].contains(part), "{part} in {}", lines[0]);
            }
        }),
        ("refused", refused, |ended| {
            assert_eq!(ended.status.code(), Some(0));
            assert!(ended.stderr.contains("we are closed"), "{}", ended.stderr);
        }),
        ("refused_in_a_panic", refused_in_a_panic, |ended| {
            assert_eq!(ended.status.code(), Some(101));
            assert!(ended.stderr.contains("we are closed"), "{}", ended.stderr);
        }),
        ("spooled", spooled, |ended| {
            assert_eq!(ended.status.code(), Some(0));
            assert_eq!(ended.stderr, "");
            assert_eq!(ended.spooled, 1);
        }),
        ("spooled_at_exit", spooled, |ended| {
            assert_eq!(ended.status.code(), Some(7));
            assert_eq!(ended.stderr, "");
            assert_eq!(ended.spooled, 1);
        }),
        ("spooled_at_a_signal", spooled, |ended| {
            assert_eq!(ended.status.signal(), Some(libc::SIGTERM));
            assert_eq!(ended.stderr, "");
            assert_eq!(ended.spooled, 1);
        }),
        ("evicting", evicting, |ended| {
            assert_eq!(ended.spooled, 1);
            // What comes last is said whatever was said before it.
            for part in [
                "logged: exporter \"file\"",
                ": cannot lock its `deliver-",
                "older points went from the spool",
            ] {
                assert!(ended.stderr.contains(part), "{part} in {}", ended.stderr);
            }
        }),
        ("no_time_with_a_spool", no_time_with_a_spool, |ended| {
            assert_eq!(ended.status.code(), Some(0));
            assert!(ended.spooled > 0, "{}", ended.stderr);
            assert!(ended.pushes.is_empty(), "{:?}", ended.values);
        }),
        ("no_time_with_a_spool_at_exit", no_time_with_a_spool, |ended| {
            assert_eq!(ended.status.code(), Some(7));
            // A disk that takes longer than the moment that it has is told of.
            assert!(
                ended.spooled == 1 || ended.stderr.contains("nightly"),
                "{}",
                ended.stderr
            );
            assert!(ended.pushes.is_empty(), "{:?}", ended.values);
        }),
        ("stderr_is_closed", stderr_is_closed, |ended| {
            assert_eq!(ended.status.code(), Some(0));
        }),
        ("in_a_runtime", in_a_runtime, |ended| {
            assert_eq!(ended.status.code(), Some(0));
            assert_eq!(ended.outcome(), "success");
        }),
        ("cannot_start", cannot_start, |ended| {
            assert_eq!(ended.status.code(), Some(0));
            assert!(ended.values.is_empty(), "{:?}", ended.values);
        }),
        ("sigterm", signalled, |ended| {
            assert_eq!(ended.status.signal(), Some(libc::SIGTERM));
            assert_eq!(ended.outcome(), "signal");
            assert_eq!(ended.records(), Some(5.0));
            assert_eq!(ended.stderr, "");
        }),
        ("sigint", signalled, |ended| {
            assert_eq!(ended.status.signal(), Some(libc::SIGINT));
            assert_eq!(ended.outcome(), "signal");
            assert_eq!(ended.records(), Some(5.0));
        }),
        ("sigterm_without_asking", signalled, |ended| {
            assert_eq!(ended.status.signal(), Some(libc::SIGTERM));
            assert_eq!(ended.value("batch_job_outcome{batch_job=nightly,outcome=signal}"), None);
        }),
        ("signal_with_a_dead_far_end", signal_with_a_dead_far_end, |ended| {
            assert_eq!(ended.status.signal(), Some(libc::SIGTERM));
            assert!(ended.stderr.contains("exporter \"dead\""), "{}", ended.stderr);
        }),
        ("second_signal", second_signal, |ended| {
            assert_eq!(ended.status.signal(), Some(libc::SIGINT));
        }),
        ("first_process", first_process, |ended| {
            if ended.stderr == NO_NAMESPACE {
                return println!("first_process: {}", ended.stderr.trim_end());
            }
            assert_eq!(ended.stderr, "");
            assert_eq!(ended.status.code(), Some(0));
            assert_eq!(ended.outcome(), "signal");
        }),
        ("second_signal_of_the_first_process", first_process, |ended| {
            if ended.stderr != NO_NAMESPACE {
                assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
            }
        }),
        ("two_jobs", two_jobs, |ended| {
            assert_eq!(ended.status.signal(), Some(libc::SIGTERM));
            for job in ["nightly", "other"] {
                let outcome = format!("batch_job_outcome{{batch_job={job},outcome=signal}}");
                assert_eq!(ended.value(&outcome), Some(1.0), "{job}");
            }
        }),
        (
            "guard_ends_while_a_signal_does",
            guard_ends_while_a_signal_does,
            |ended| {
                assert_eq!(ended.status.signal(), Some(libc::SIGTERM));
                assert_eq!(ended.outcome(), "signal");
            },
        ),
        (
            "main_returns_while_a_signal_ends",
            main_returns_while_a_signal_ends,
            |ended| {
                assert_eq!(ended.status.signal(), Some(libc::SIGTERM));
                assert_eq!(ended.outcome(), "signal");
            },
        ),
        ("chained", chained, |ended| {
            assert_eq!(ended.status.code(), Some(0));
            assert_eq!(ended.outcome(), "success");
            assert_eq!(ended.records(), Some(6.0));
        }),
        ("chained_without_a_word", chained_without_a_word, |ended| {
            assert_eq!(ended.status.code(), Some(0));
            assert_eq!(ended.outcome(), "signal");
        }),
        ("handler_that_exits", handler_that_exits, |ended| {
            assert_eq!(ended.status.code(), Some(9));
            assert_eq!(ended.outcome(), "signal");
        }),
        ("ignored_stays_ignored", ignored_stays_ignored, |ended| {
            assert_eq!(ended.status.code(), Some(0));
            assert_eq!(ended.outcome(), "success");
        }),
        ("given_back", given_back, |ended| {
            assert_eq!(ended.status.signal(), Some(libc::SIGTERM));
            assert_eq!(ended.outcome(), "success");
        }),
        ("handler_in_front_of_ours", handler_in_front_of_ours, |ended| {
            assert_eq!(ended.status.code(), Some(0));
            assert_eq!(ended.outcome(), "success");
        }),
        ("child_of_a_fork", child_of_a_fork, |ended| {
            assert_eq!(ended.status.code(), Some(0));
            assert_eq!(ended.outcome(), "success");
            assert_eq!(
                ended.pushes_with("batch_job_outcome{batch_job=nightly,outcome=success}"),
                1
            );
            assert_eq!(ended.stderr, "");
        }),
        ("job_in_a_child", job_in_a_child, |ended| {
            assert_eq!(ended.status.code(), Some(0));
            assert_eq!(
                ended.value("batch_job_outcome{batch_job=child,outcome=signal}"),
                Some(1.0)
            );
            assert_eq!(ended.outcome(), "success");
        }),
    ];

    pub(super) fn main() -> ExitCode {
        match env::var(SCENARIO) {
            Err(_) => run_tests(),
            Ok(name) => {
                // SAFETY: always safe. It ends a process that hangs, after its parent has noticed.
                unsafe { libc::alarm(4 * LONG.as_secs() as u32) };
                // As a process of a terminal has them: a shell has those in the background ignore one of them, and theirs, too.
                for signal in [libc::SIGTERM, libc::SIGINT] {
                    install(signal, libc::SIG_DFL);
                }
                let test = TESTS.iter().find(|(test, ..)| *test == name);
                let (_, scenario, _) = test.expect("there is such a scenario");
                match scenario() {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(error) => {
                        eprintln!("Error: {error}");
                        ExitCode::FAILURE
                    }
                }
            }
        }
    }

    // What jobs do. Each function is a process.

    fn success() -> Result<(), Box<dyn Error>> {
        let registry = Registry::new();
        let job = nightly().start(&registry)?;
        job.records("rows").add(5);
        let report = job.succeed();
        assert_eq!(report.outcome(), JobOutcome::Success);
        assert!(report.is_delivered());
        Ok(())
    }

    fn error_return() -> Result<(), Box<dyn Error>> {
        let registry = Registry::new();
        let _job = running(&registry)?;
        Err("no rows today".into())
    }

    fn panicking() -> Result<(), Box<dyn Error>> {
        let registry = Registry::new();
        let _job = running(&registry)?;
        panic!("no rows today");
    }

    fn panic_in_a_closure() -> Result<(), Box<dyn Error>> {
        nightly().start(&Registry::new())?.run(|_| panic!("no rows today"))
    }

    /// A guard that a destructor starts and drops has nothing to do with the panic that runs the destructor.
    fn dropped_beside_a_panic() -> Result<(), Box<dyn Error>> {
        struct AtTheEnd;
        impl Drop for AtTheEnd {
            fn drop(&mut self) {
                drop(running(&Registry::new()));
            }
        }
        let _end = AtTheEnd;
        panic!("elsewhere");
    }

    fn exit() -> Result<(), Box<dyn Error>> {
        let registry = Registry::new();
        let _job = running(&registry)?;
        process::exit(7);
    }

    fn exit_of_another_thread() -> Result<(), Box<dyn Error>> {
        let registry = Registry::new();
        let _job = running(&registry)?;
        thread::spawn(|| process::exit(7));
        wait_for_the_end()
    }

    fn two_threads_exit() -> Result<(), Box<dyn Error>> {
        let (pushed, pushes) = channel();
        let registry = Registry::new();
        let _job = Job::new(NIGHTLY).push_to(telling(pushed)).start(&registry)?;
        thread::spawn(move || {
            // The other one's exit has begun.
            wait_for(&pushes, "outcome=exit} 1");
            process::exit(8);
        });
        process::exit(7);
    }

    fn exit_with_an_exporter() -> Result<(), Box<dyn Error>> {
        let _exporter = other_exporter(|exporter| exporter)?;
        process::exit(7);
    }

    /// What somebody else is at delivering is waited for.
    fn exit_during_a_shutdown() -> Result<(), Box<dyn Error>> {
        static EXITING: AtomicBool = AtomicBool::new(false);
        extern "C" fn exiting() {
            EXITING.store(true, Ordering::SeqCst);
        }
        let (sending, sends) = channel();
        let registry = Registry::new();
        registry.counter("other_total", "Other.").register()?.add(3);
        let slow = to("slow", move |text| {
            let _ = sending.send(());
            while !EXITING.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            write(text)
        });
        let exporter = slow.start(&registry)?;
        // What is registered later runs earlier.
        // SAFETY: the function has the right type, and neither unwinds nor goes away.
        unsafe { libc::atexit(exiting) };
        thread::spawn(move || exporter.shutdown(LONG));
        sends.recv_timeout(LONG)?;
        process::exit(7);
    }

    /// It cannot end while it waits for itself to end.
    fn exit_on_a_thread_of_a_shutdown() -> Result<(), Box<dyn Error>> {
        let exporter = to("exits", |_| process::exit(6)).start(&Registry::new())?;
        drop(exporter.shutdown(TOO_LONG));
        wait_for_the_end()
    }

    static EXPORTER: OnceLock<ExporterHandle> = OnceLock::new();

    fn static_exporter() -> Result<(), Box<dyn Error>> {
        let exporter = other_exporter(|exporter| exporter)?;
        EXPORTER.set(exporter).expect("it is set once");
        Ok(())
    }

    fn static_job() -> Result<(), Box<dyn Error>> {
        static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::new);
        static JOB: OnceLock<JobRun> = OnceLock::new();
        JOB.set(running(&REGISTRY)?).expect("it is set once");
        Ok(())
    }

    fn not_at_exit() -> Result<(), Box<dyn Error>> {
        let exporter = other_exporter(|exporter| exporter.flush_at_exit(false))?;
        EXPORTER.set(exporter).expect("it is set once");
        Ok(())
    }

    fn exit_in_a_collector() -> Result<(), Box<dyn Error>> {
        let registry = Registry::new();
        let job = nightly().deadline(TOO_LONG).start(&registry)?;
        registry.collector(|_| process::exit(5));
        let exporter = job.exporters().next().expect("there is one");
        drop(exporter.flush(TOO_LONG));
        wait_for_the_end()
    }

    fn exit_in_a_send() -> Result<(), Box<dyn Error>> {
        let registry = Registry::new();
        let job = nightly().push_to(to("exits", |_| process::exit(6))).deadline(TOO_LONG);
        let job = job.start(&registry)?;
        let exporter = job.exporters().nth(1).expect("there are two");
        drop(exporter.flush(TOO_LONG));
        wait_for_the_end()
    }

    fn exit_with_a_dead_far_end() -> Result<(), Box<dyn Error>> {
        let _job = nightly().push_to(dead()).deadline(ENOUGH).start(&Registry::new())?;
        process::exit(7);
    }

    fn logger_with_thread_locals() -> Result<(), Box<dyn Error>> {
        thread_local! {
            static LINE: std::cell::RefCell<String> = const { std::cell::RefCell::new(String::new()) };
        }
        log_by(|text| {
            LINE.with_borrow_mut(|line| {
                *line = format!("logged: {text}\n");
                eprint!("{line}");
            })
        });
        LINE.with_borrow_mut(|line| line.push('!'));
        let exporter = to("closed", |_| Answer::rejected("we are closed")).start(&Registry::new())?;
        EXPORTER.set(exporter).expect("it is set once");
        Ok(())
    }

    fn logger_that_panics() -> Result<(), Box<dyn Error>> {
        log_by(|_| panic!("the logger is broken"));
        // Of a refusal the exporter would speak first.
        let job = Job::new(NIGHTLY).push_to(dead()).deadline(SHORT);
        let _job = job.start(&Registry::new())?;
        if env::var(SCENARIO)?.ends_with("exit") {
            process::exit(7);
        }
        panic!("no rows today");
    }

    /// As one does whose lock is held by the thread that exits.
    fn logger_that_hangs_at_exit() -> Result<(), Box<dyn Error>> {
        log_by(|_| drop(hang()));
        let job = Job::new(NIGHTLY).push_to(dead()).deadline(SHORT);
        let _job = job.start(&Registry::new())?;
        process::exit(7);
    }

    /// As one does that writes to a pipe which nobody reads: to the first word of the signal, or to what was left behind.
    fn logger_that_hangs_at_a_signal() -> Result<(), Box<dyn Error>> {
        let (least, job) = match env::var(SCENARIO)?.contains("at_a") {
            true => (log::Level::Warn, nightly()),
            false => (log::Level::Error, nightly().push_to(dead()).deadline(ENOUGH)),
        };
        log_from(least, |_| drop(hang()));
        let _job = job.end_on_signals().start(&Registry::new())?;
        send_signal(libc::SIGTERM);
        wait_for_the_end()
    }

    fn never_answers() -> Result<(), Box<dyn Error>> {
        let job = nightly().push_to(dead()).deadline(ENOUGH).start(&Registry::new())?;
        let report = job.succeed();
        let delivered: Vec<_> = report
            .deliveries()
            .map(|(name, result)| (name, result.is_ok()))
            .collect();
        assert_eq!(delivered, [("file", true), ("dead", false)]);
        Ok(())
    }

    fn refused() -> Result<(), Box<dyn Error>> {
        let job = Job::new(NIGHTLY).push_to(to("closed", |_| Answer::rejected("we are closed")));
        assert!(!job.start(&Registry::new())?.succeed().is_delivered());
        Ok(())
    }

    fn refused_in_a_panic() -> Result<(), Box<dyn Error>> {
        let job = Job::new(NIGHTLY).push_to(to("closed", |_| Answer::rejected("we are closed")));
        let _job = job.start(&Registry::new())?;
        panic!("no rows today");
    }

    /// A spool has what the far end has not, so nobody needs to be alarmed.
    fn spooled() -> Result<(), Box<dyn Error>> {
        let spool = Spool::new(PathBuf::from(env::var(FOLDER)?).join("spool"));
        let closed = to("closed", |_| Answer::retry("we are closed")).spool(spool);
        let job = Job::new(NIGHTLY).push_to(closed).deadline(ENOUGH).end_on_signals();
        let job = job.start(&Registry::new())?;
        match env::var(SCENARIO)?.as_str() {
            "spooled_at_exit" => process::exit(7),
            "spooled_at_a_signal" => {
                send_signal(libc::SIGTERM);
                return wait_for_the_end();
            }
            _ => {}
        }
        let report = job.succeed();
        assert!(!report.is_delivered());
        Ok(())
    }

    /// Two runs, of which the second has no room for what the first one has left.
    fn evicting() -> Result<(), Box<dyn Error>> {
        log_by(|text| eprintln!("logged: {text}"));
        let directory = spool_directory();
        let run = |max_bytes| {
            let spool = Spool::new(&directory).max_bytes(max_bytes);
            let exporter = to("file", |_| Answer::retry("we are closed")).spool(spool);
            exporter.start(&Registry::new()).map(drop)
        };
        run(1 << 20)?;
        let kept = fs::read_dir(&directory)?.map(|file| file.map(|file| file.path()));
        let kept = kept.collect::<Result<Vec<_>, _>>()?;
        let is_spooled = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "spool");
        let file = kept.iter().find(is_spooled).ok_or("the first run has left a file")?;
        // Something is in the way of a lock, so that there is an error to be said before the eviction.
        let hash = file.file_stem().and_then(|stem| stem.to_str()?.split('-').next_back());
        let lock = format!("deliver-{}.lock", hash.ok_or("the file has a hash")?);
        fs::create_dir(directory.join(lock))?;
        let length = fs::metadata(file)?.len();
        run(length * 3 / 2)?;
        Ok(())
    }

    /// The deadline is that of the delivery: what is recorded is not delivered, and not lost.
    fn no_time_with_a_spool() -> Result<(), Box<dyn Error>> {
        // A warning is no error.
        log_by(|text| eprintln!("logged: {text}"));
        let job = || {
            let exporter = to_file("file").spool(Spool::new(spool_directory()));
            let job = Job::new(NIGHTLY).push_to(exporter).deadline(Duration::ZERO);
            let job = job.start(&Registry::new())?;
            job.records("rows").add(5);
            Ok::<_, Box<dyn Error>>(job)
        };
        if env::var(SCENARIO)?.ends_with("exit") {
            let _job = job()?;
            process::exit(7);
        }
        // The disk has a moment, which is not always enough on a machine with other work to do.
        for _ in 0..50 {
            let report = job()?.succeed();
            let mut deliveries = report.deliveries();
            if deliveries.all(|(_, result)| result.is_err_and(|error| error.is_spooled())) {
                return Ok(());
            }
        }
        Err("nothing is kept".into())
    }

    fn spool_directory() -> PathBuf {
        PathBuf::from(env::var(FOLDER).expect("it is set")).join("spool")
    }

    fn stderr_is_closed() -> Result<(), Box<dyn Error>> {
        // SAFETY: nobody else has taken the descriptor.
        unsafe { libc::close(2) };
        refused()
    }

    fn in_a_runtime() -> Result<(), Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(async {
            running(&Registry::new())?.succeed();
            Ok(())
        })
    }

    fn cannot_start() -> Result<(), Box<dyn Error>> {
        let registry = Registry::new();
        registry.counter("other_total", "Other.").register()?.inc();
        let twice = nightly().push_to(to("file", |_| Answer::delivered()));
        let error = twice.start(&registry).expect_err("the name is taken");
        assert_eq!(error.to_string(), "job \"nightly\": an exporter cannot be started");
        let source = error.source().expect("it says why").to_string();
        assert!(source.contains("name: another exporter"), "{source}");
        // Whether there is a job is known before it has begun.
        assert!(tidegauge::testing::value(&registry, "batch_job_last_start_timestamp_seconds", []).is_none());
        Ok(())
    }

    fn signalled() -> Result<(), Box<dyn Error>> {
        let scenario = env::var(SCENARIO)?;
        let registry = Registry::new();
        let mut job = nightly();
        if scenario != "sigterm_without_asking" {
            job = job.end_on_signals();
        }
        let job = job.start(&registry)?;
        job.records("rows").add(5);
        send_signal(match scenario.starts_with("sigterm") {
            true => libc::SIGTERM,
            false => libc::SIGINT,
        });
        wait_for_the_end()
    }

    fn signal_with_a_dead_far_end() -> Result<(), Box<dyn Error>> {
        let job = Job::new(NIGHTLY).push_to(dead()).deadline(SHORT).end_on_signals();
        let _job = job.start(&Registry::new())?;
        send_signal(libc::SIGTERM);
        wait_for_the_end()
    }

    fn second_signal() -> Result<(), Box<dyn Error>> {
        let again = to("again", |_| {
            send_signal(libc::SIGINT);
            hang()
        });
        let job = Job::new(NIGHTLY).push_to(again).deadline(TOO_LONG).end_on_signals();
        let _job = job.start(&Registry::new())?;
        send_signal(libc::SIGTERM);
        wait_for_the_end()
    }

    fn two_jobs() -> Result<(), Box<dyn Error>> {
        let _one = nightly().end_on_signals().start(&Registry::new())?;
        let other = Job::new("other").push_to(to_file("other")).end_on_signals();
        let _other = other.start(&Registry::new())?;
        let third = Job::new("third").end_on_signals().start(&Registry::new())?;
        // One that has ended takes nothing from the others.
        third.succeed();
        send_signal(libc::SIGTERM);
        wait_for_the_end()
    }

    fn guard_ends_while_a_signal_does() -> Result<(), Box<dyn Error>> {
        let (pushed, pushes) = channel();
        let job = Job::new(NIGHTLY).push_to(telling(pushed)).end_on_signals();
        let job = job.start(&Registry::new())?;
        send_signal(libc::SIGTERM);
        wait_for(&pushes, "outcome=signal} 1");
        job.succeed();
        Ok(())
    }

    fn main_returns_while_a_signal_ends() -> Result<(), Box<dyn Error>> {
        let (pushed, pushes) = channel();
        let job = Job::new(NIGHTLY).push_to(telling(pushed)).end_on_signals();
        std::mem::forget(job.start(&Registry::new())?);
        send_signal(libc::SIGTERM);
        wait_for(&pushes, "outcome=signal} 1");
        Ok(())
    }

    const NO_NAMESPACE: &str = "no namespace of processes is to be had here\n";

    /// The first process of a container, which the system does not let die of a signal that nobody handles: one more signal, or the first
    /// one when all is delivered, ends it with the status that shells have for it.
    fn first_process() -> Result<(), Box<dyn Error>> {
        if !in_a_namespace() {
            eprint!("{NO_NAMESPACE}");
            return Ok(());
        }
        let hangs = env::var(SCENARIO)?.starts_with("second");
        let first = in_child(move || {
            assert_eq!(process::id(), 1);
            die_with_parent();
            let exporter = if hangs { dead() } else { to_file("file") };
            let job = Job::new(NIGHTLY).push_to(exporter).deadline(TOO_LONG).end_on_signals();
            let _job = job.start(&Registry::new()).expect("it can be started");
            raise(libc::SIGTERM);
            if hangs {
                raise(libc::SIGINT);
            }
            wait_for_the_end().expect("it ends");
        });
        let signal = if hangs { libc::SIGINT } else { libc::SIGTERM };
        assert_eq!(first.code(), Some(128 + signal), "{first}");
        Ok(())
    }

    static HANDLED: AtomicU64 = AtomicU64::new(0);

    extern "C" fn count(_: libc::c_int) {
        HANDLED.fetch_add(1, Ordering::SeqCst);
    }

    fn chained() -> Result<(), Box<dyn Error>> {
        install(libc::SIGTERM, count as *const () as usize);
        let (pushed, pushes) = channel();
        let registry = Registry::new();
        let job = Job::new(NIGHTLY).push_to(telling(pushed)).end_on_signals();
        let job = job.start(&registry)?;
        job.records("rows").add(5);
        // The system calls the handler before this returns.
        raise(libc::SIGTERM);
        assert_eq!(HANDLED.load(Ordering::SeqCst), 1);
        // Delivered although nobody has ended the job.
        wait_for(&pushes, "outcome=signal} 1");
        job.records("rows").inc();
        job.succeed();
        assert_eq!(HANDLED.load(Ordering::SeqCst), 1);
        assert_eq!(handler(libc::SIGTERM), count as *const () as usize);
        Ok(())
    }

    fn chained_without_a_word() -> Result<(), Box<dyn Error>> {
        install(libc::SIGTERM, count as *const () as usize);
        let (pushed, pushes) = channel();
        let job = Job::new(NIGHTLY).push_to(telling(pushed)).end_on_signals();
        let _job = job.start(&Registry::new())?;
        for round in 1..=2 {
            raise(libc::SIGTERM);
            assert_eq!(HANDLED.load(Ordering::SeqCst), round);
            if round == 1 {
                wait_for(&pushes, "outcome=signal} 1");
            }
        }
        Ok(())
    }

    fn handler_that_exits() -> Result<(), Box<dyn Error>> {
        install(libc::SIGTERM, count as *const () as usize);
        let _job = nightly().end_on_signals().start(&Registry::new())?;
        raise(libc::SIGTERM);
        process::exit(9);
    }

    fn ignored_stays_ignored() -> Result<(), Box<dyn Error>> {
        install(libc::SIGTERM, libc::SIG_IGN);
        let job = nightly().end_on_signals().start(&Registry::new())?;
        raise(libc::SIGTERM);
        assert_eq!(handler(libc::SIGTERM), libc::SIG_IGN);
        // The other one is not.
        assert_ne!(handler(libc::SIGINT), libc::SIG_DFL);
        job.succeed();
        assert_eq!(handler(libc::SIGINT), libc::SIG_DFL);
        Ok(())
    }

    fn given_back() -> Result<(), Box<dyn Error>> {
        for _ in 0..3 {
            let job = nightly().end_on_signals().start(&Registry::new())?;
            assert_ne!(handler(libc::SIGTERM), libc::SIG_DFL);
            job.succeed();
            assert_eq!(handler(libc::SIGTERM), libc::SIG_DFL);
        }
        raise(libc::SIGTERM);
        wait_for_the_end()
    }

    static BEHIND: AtomicUsize = AtomicUsize::new(0);

    extern "C" fn count_and_pass_on(number: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        HANDLED.fetch_add(1, Ordering::SeqCst);
        type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
        // SAFETY: it is the handler that was found when this one was installed, and has three arguments.
        let behind = unsafe { std::mem::transmute::<usize, Handler>(BEHIND.load(Ordering::SeqCst)) };
        behind(number, info, context);
    }

    /// One that calls ours, as tokio's does, which must not call it: the process's life is in its hands, as if it had been there before.
    fn handler_in_front_of_ours() -> Result<(), Box<dyn Error>> {
        let job = nightly().end_on_signals().start(&Registry::new())?;
        BEHIND.store(handler(libc::SIGTERM), Ordering::SeqCst);
        install(libc::SIGTERM, count_and_pass_on as *const () as usize);
        job.succeed();
        // It was not taken away with ours.
        assert_eq!(handler(libc::SIGTERM), count_and_pass_on as *const () as usize);
        // Nor does ours, which is still there, do what it does not want done.
        raise(libc::SIGTERM);
        assert_eq!(HANDLED.load(Ordering::SeqCst), 1);
        let (pushed, pushes) = channel();
        let job = Job::new(NIGHTLY).push_to(telling(pushed)).end_on_signals();
        let job = job.start(&Registry::new())?;
        raise(libc::SIGTERM);
        assert_eq!(HANDLED.load(Ordering::SeqCst), 2);
        wait_for(&pushes, "outcome=signal} 1");
        job.succeed();
        Ok(())
    }

    fn child_of_a_fork() -> Result<(), Box<dyn Error>> {
        let registry = Registry::new();
        let job = nightly().end_on_signals().start(&registry)?;
        let _exporter = other_exporter(|exporter| exporter)?;
        let signalled = in_child(|| {
            raise(libc::SIGTERM);
            wait_for_the_end().expect("it ends");
        });
        assert_eq!(signalled.signal(), Some(libc::SIGTERM));
        assert_eq!(in_child(|| process::exit(3)).code(), Some(3));
        job.succeed();
        Ok(())
    }

    fn job_in_a_child() -> Result<(), Box<dyn Error>> {
        let job = nightly().end_on_signals().start(&Registry::new())?;
        wait_until_all_others_wait();
        let child = in_child(|| {
            let child = Job::new("child").push_to(to_file("child")).end_on_signals();
            let _child = child.start(&Registry::new()).expect("a child can have jobs");
            raise(libc::SIGTERM);
            wait_for_the_end().expect("it ends");
        });
        assert_eq!(child.signal(), Some(libc::SIGTERM));
        job.succeed();
        Ok(())
    }

    // What they are made of.

    /// Has errors written by a logger of the application's.
    fn log_by(write: fn(&str)) {
        log_from(log::Level::Error, write);
    }

    /// The same for all that is as important as this.
    fn log_from(least: log::Level, write: fn(&str)) {
        struct Logger(log::Level, fn(&str));
        impl log::Log for Logger {
            fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
                metadata.level() <= self.0
            }

            fn log(&self, record: &log::Record<'_>) {
                if self.enabled(record.metadata()) {
                    (self.1)(&record.args().to_string());
                }
            }

            fn flush(&self) {}
        }
        log::set_logger(Box::leak(Box::new(Logger(least, write)))).expect("it is the first");
        log::set_max_level(log::LevelFilter::Trace);
    }

    const NIGHTLY: &str = "nightly";

    fn nightly() -> Job {
        Job::new(NIGHTLY).push_to(to_file("file")).deadline(LONG)
    }

    fn running(registry: &Registry) -> Result<JobRun, JobError> {
        let job = nightly().start(registry)?;
        job.records("rows").add(5);
        Ok(job)
    }

    /// An exporter without a job, that has something to deliver.
    fn other_exporter(with: fn(Exporter) -> Exporter) -> Result<ExporterHandle, Box<dyn Error>> {
        let registry = Registry::new();
        registry.counter("other_total", "Other.").register()?.add(3);
        Ok(with(to_file("other").drop_deadline(LONG)).start(&registry)?)
    }

    fn to_file(name: &str) -> Exporter {
        to(name, write)
    }

    fn write(text: &str) -> Answer {
        let path = PathBuf::from(env::var(FOLDER).expect("it is set")).join("pushes");
        let file = OpenOptions::new().create(true).append(true).open(path);
        // In one piece, for there may be two processes.
        file.and_then(|mut file| file.write_all(format!("{text}\n").as_bytes()))
            .expect("the folder is there");
        Answer::delivered()
    }

    /// To the file, and to a thread that waits for it.
    fn telling(pushed: Sender<String>) -> Exporter {
        to("file", move |text| {
            let answer = write(text);
            let _ = pushed.send(text.to_owned());
            answer
        })
    }

    fn wait_for(pushes: &Receiver<String>, part: &str) {
        while !pushes.recv_timeout(LONG).expect("it is pushed").contains(part) {}
    }

    /// It takes what it gets and never says a word.
    fn dead() -> Exporter {
        to("dead", |_| hang())
    }

    fn to(name: &str, send: impl FnMut(&str) -> Answer + Send + 'static) -> Exporter {
        // It pushes when it is asked to, and not by chance.
        Exporter::new(To(send)).name(name).interval(TOO_LONG).phase(false)
    }

    /// Writes a line for each value.
    struct To<F>(F);

    impl<F: FnMut(&str) -> Answer + Send + 'static> Destination for To<F> {
        fn name(&self) -> &str {
            "to"
        }

        fn encode(&mut self, points: &mut Points<'_>, payload: &mut Vec<u8>) {
            while let Some(family) = points.next_family() {
                let name = family.name();
                while let Some(point) = points.peek() {
                    let labels: Vec<String> = point.labels().map(|(name, value)| format!("{name}={value}")).collect();
                    let value = match point.value() {
                        Value::Counter(count) => count as f64,
                        Value::Gauge(value) => value,
                        Value::IntGauge(value) => value as f64,
                        _ => 0.0,
                    };
                    payload.extend(format!("{name}{{{}}} {value}\n", labels.join(",")).bytes());
                    points.take();
                }
            }
        }

        fn send(&mut self, payload: &Payload, _timeout: Duration) -> Answer {
            (self.0)(std::str::from_utf8(payload.bytes()).expect("it is text"))
        }
    }

    /// Nothing happens here any more but the end of the process.
    fn wait_for_the_end() -> Result<(), Box<dyn Error>> {
        thread::sleep(LONG);
        Err("nothing has ended the process".into())
    }

    fn hang() -> Answer {
        thread::sleep(TOO_LONG);
        Answer::delivered()
    }

    // Their parent.

    /// A process that has ended.
    struct Ended {
        status: ExitStatus,
        stderr: String,
        /// What it delivered, one after the other.
        pushes: Vec<BTreeMap<String, f64>>,
        /// What its far end has in the end.
        values: BTreeMap<String, f64>,
        /// Files in its spool.
        spooled: usize,
    }

    impl Ended {
        fn value(&self, series: &str) -> Option<f64> {
            self.values.get(series).copied()
        }

        fn records(&self) -> Option<f64> {
            self.value("batch_job_records_total{batch_job=nightly,kind=rows}")
        }

        fn time(&self, what: &str) -> Option<f64> {
            self.value(&format!("batch_job_last_{what}_timestamp_seconds{{batch_job=nightly}}"))
        }

        /// The one that is 1, if exactly one is.
        fn outcome(&self) -> &str {
            let outcomes: Vec<&str> = self
                .values
                .iter()
                .filter(|(_, value)| **value == 1.0)
                .filter_map(|(series, _)| series.strip_prefix("batch_job_outcome{batch_job=nightly,outcome="))
                .filter_map(|outcome| outcome.strip_suffix('}'))
                .collect();
            match *outcomes {
                [outcome] => outcome,
                _ => panic!("not one outcome in {:?}; stderr: {}", self.values, self.stderr),
            }
        }

        fn pushes_with(&self, series: &str) -> usize {
            let with = |push: &&BTreeMap<String, f64>| push.get(series) == Some(&1.0);
            self.pushes.iter().filter(with).count()
        }
    }

    /// Runs all tests, or those whose names contain one of the arguments.
    fn run_tests() -> ExitCode {
        let wanted: Vec<String> = env::args()
            .skip(1)
            .filter(|argument| !argument.starts_with('-'))
            .collect();
        let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str()));
        let tests: Vec<_> = TESTS.iter().filter(|(name, ..)| is_wanted(name)).collect();
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while let Some((name, _, check)) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let passed = panic::catch_unwind(|| check(run(name))).is_ok();
                        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
                        failed.fetch_or(!passed, Ordering::Relaxed);
                    }
                });
            }
        });
        println!("{} tests", tests.len());
        ExitCode::from(u8::from(failed.into_inner()))
    }

    fn run(name: &str) -> Ended {
        let folder = Folder::new(name);
        let mut child = Command::new(env::current_exe().expect("a test has a program"))
            .env(SCENARIO, name)
            .env(FOLDER, &folder.0)
            // To put one together takes longer than a logger that panics has at an exit.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it can be started");
        let mut stderr = child.stderr.take().expect("it is piped");
        let (said, says) = channel();
        thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            let _ = said.send(text);
        });
        // Until it has ended, and its children.
        let stderr = says.recv_timeout(2 * LONG).unwrap_or_else(|_| {
            child.kill().expect("it has not been waited for");
            "it hangs".to_owned()
        });
        let status = child.wait().expect("it was started");
        let text = fs::read_to_string(folder.0.join("pushes")).unwrap_or_default();
        let parse = |line: &str| {
            let (series, value) = line.rsplit_once(' ').expect("each line has a value");
            (series.to_owned(), value.parse().expect("it is a number"))
        };
        let pushes: Vec<BTreeMap<String, f64>> = text
            .split_terminator("\n\n")
            .map(|push| push.lines().map(parse).collect())
            .collect();
        let files = fs::read_dir(folder.0.join("spool")).into_iter().flatten().flatten();
        let is_spooled = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "spool");
        Ended {
            spooled: files.map(|file| file.path()).filter(is_spooled).count(),
            status,
            stderr,
            values: pushes
                .iter()
                .flatten()
                .map(|(series, value)| (series.clone(), *value))
                .collect(),
            pushes,
        }
    }

    /// A folder of a test's own.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = env::temp_dir().join(format!("tidegauge-job-{}-{name}", process::id()));
            fs::create_dir(&path).expect("nobody else has it");
            Folder(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    // What the standard library does not have.

    /// To the process, whichever of its threads takes it.
    fn send_signal(number: libc::c_int) {
        // SAFETY: always safe.
        unsafe { libc::kill(libc::getpid(), number) };
    }

    /// To this thread.
    fn raise(number: libc::c_int) {
        // SAFETY: always safe.
        unsafe { libc::raise(number) };
    }

    /// Has the next child be the first process of a namespace of its own, if the system lets us.
    fn in_a_namespace() -> bool {
        #[cfg(target_os = "linux")]
        // SAFETY: always safe; what the second asks for needs a process of one thread, and fails in others.
        unsafe {
            libc::unshare(libc::CLONE_NEWPID) == 0 || libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWPID) == 0
        }
        #[cfg(not(target_os = "linux"))]
        false
    }

    /// Nobody else ends a first process that hangs.
    fn die_with_parent() {
        #[cfg(target_os = "linux")]
        // SAFETY: always safe.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        }
    }

    fn install(number: libc::c_int, handler: libc::sighandler_t) {
        // SAFETY: all zero is an action with no flags; the handlers that are given do nothing that is not safe in one.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler;
            if handler == count_and_pass_on as *const () as usize {
                action.sa_flags = libc::SA_SIGINFO;
            }
            assert_eq!(libc::sigaction(number, &action, std::ptr::null_mut()), 0);
        }
    }

    fn handler(number: libc::c_int) -> libc::sighandler_t {
        // SAFETY: the action is written to a place for it.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            assert_eq!(libc::sigaction(number, std::ptr::null(), &mut action), 0);
            action.sa_sigaction
        }
    }

    /// Until no other thread is about to begin or to end: the standard library has a lock then, and a fork that finds it held leaves a
    /// child that cannot start threads.
    fn wait_until_all_others_wait() {
        let this = process::id().to_string();
        let Ok(threads) = fs::canonicalize("/proc/self/task") else {
            // Not Linux, which alone tells.
            return;
        };
        let waits = |thread: fs::DirEntry| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // The state stands behind the name, which is in parentheses and may hold any.
            thread.file_name() == *this || stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S'))
        };
        while !fs::read_dir(&threads).expect("it is there").flatten().all(waits) {
            thread::yield_now();
        }
    }

    /// How a child ends that runs `work` and nothing else.
    fn in_child(work: impl FnOnce()) -> ExitStatus {
        // SAFETY: the child runs code that the crate promises works in it, the allocator and thread creation, which the C library
        // makes work, and ends by `_exit` if nothing has ended it before.
        let child = unsafe { libc::fork() };
        assert_ne!(child, -1, "{}", std::io::Error::last_os_error());
        if child == 0 {
            let _ = panic::catch_unwind(panic::AssertUnwindSafe(work));
            // SAFETY: always safe.
            unsafe { libc::_exit(99) };
        }
        let mut status = 0;
        // SAFETY: the status is written to a place for it.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        ExitStatus::from_raw(status)
    }
}
