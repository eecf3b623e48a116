//! Lines of EMF on the standard output of a real process, among those of its other threads: in a pipe that is read slowly, of a
//! process that is frozen in the midst of it, and in a file.

#![cfg(unix)]

use serde_json::Value;
use std::{
    env,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};
use tidegauge::{Emf, Exporter, FamilySnapshot, Filter, Registry};

const DEADLINE: Duration = Duration::from_secs(60);

/// Set in the child.
const CHILD: &str = "TIDEGAUGE_TEST_EMF";

const ROUNDS: u64 = 20;
const SERIES: u64 = 40;

/// This test as a process of its own, of which the standard output is to be looked at.
fn child() -> Command {
    let mut child = Command::new(env::current_exe().unwrap());
    // With two threads, the harness says nothing of a test before it is done, so that no line of it is begun.
    child.args([
        "--exact",
        "child_process",
        "--ignored",
        "--nocapture",
        "--test-threads=2",
    ]);
    child.env(CHILD, "1").env_remove("AWS_LAMBDA_FUNCTION_NAME");
    child
}

#[test]
#[ignore = "runs as a child of the other tests"]
fn child_process() {
    if env::var_os(CHILD).is_none() {
        return;
    }
    // Lines that are longer than what a pipe takes in one piece.
    let builder = (0..10).fold(Registry::builder(), |builder, at| {
        builder.label(format!("label{at}"), "x".repeat(1000))
    });
    let registry = builder.build().unwrap();
    let jobs = registry.counter("jobs", "Jobs.").labels(["name"]).register().unwrap();
    let emf = Emf::stdout("Shop").unwrap();
    let without_own = |family: &FamilySnapshot| !family.name().starts_with("tidegauge_");
    let exporter = Exporter::new(emf).filter(Filter::new().families(without_own));
    let exporter = exporter.drop_deadline(Duration::ZERO).start(&registry).unwrap();
    let is_done = AtomicBool::new(false);
    let print = |printer: usize| {
        let mut printed = 0;
        while !is_done.load(Ordering::Relaxed) {
            println!("noise {printer} {printed} {}", "n".repeat(printed % 300));
            printed += 1;
        }
        printed as u64
    };
    let printed: u64 = thread::scope(|scope| {
        let print = &print;
        let printers = [0, 1].map(|printer| scope.spawn(move || print(printer)));
        for _ in 0..ROUNDS {
            for name in 0..SERIES {
                jobs.with([name.to_string()]).inc();
            }
            exporter.flush(DEADLINE).unwrap();
        }
        is_done.store(true, Ordering::Relaxed);
        printers.into_iter().map(|printer| printer.join().unwrap()).sum()
    });
    println!("printed {printed}");
}

/// What the lines of a child come to: the sum of its counter. Every line is one of EMF or of noise, whole, or the harness' own, and
/// all noise is there.
fn read(lines: impl Iterator<Item = String>) -> u64 {
    let (mut jobs, mut noise, mut printed) = (0, 0, None);
    for line in lines {
        if let Some(rest) = line.strip_prefix("noise ") {
            let parts: Vec<&str> = rest.split(' ').collect();
            let length = parts[1].parse::<usize>().unwrap() % 300;
            assert_eq!(parts[2], "n".repeat(length), "{line}");
            noise += 1;
        } else if let Some(count) = line.strip_prefix("printed ") {
            printed = Some(count.parse().unwrap());
        } else if line.contains('{') {
            let object: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!(object["_aws"]["CloudWatchMetrics"][0]["Namespace"], "Shop");
            jobs += object["jobs"].as_u64().unwrap();
        } else {
            let of_harness = ["running ", "test ", "failures:"];
            let is_known = line.is_empty() || of_harness.iter().any(|known| line.starts_with(known));
            assert!(is_known, "{line:?} is half a line");
        }
    }
    assert_eq!(Some(noise), printed);
    jobs
}

#[test]
fn lines_in_a_pipe_are_whole_among_those_of_other_threads() {
    let found = read_from_pipe(|_, _| {});
    assert_eq!(found, ROUNDS * SERIES);
}

#[test]
fn lines_of_a_process_that_is_frozen_while_it_writes_are_whole() {
    // The pipe is full by then, so it stands still in the midst of a line.
    let found = read_from_pipe(|child, line| {
        if line % 500 == 499 {
            for signal in ["STOP", "CONT"] {
                let kill = format!("kill -{signal} {}", child.id());
                assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
            }
        }
    });
    assert_eq!(found, ROUNDS * SERIES);
}

/// What the lines of a child come to that are read from a pipe; `disturb` is called behind each.
fn read_from_pipe(disturb: impl Fn(&Child, usize)) -> u64 {
    let mut child = child().stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    // It is read in small pieces, so that the pipe is full most of the time, and writes end anywhere.
    let pipe = BufReader::with_capacity(512, child.stdout.take().unwrap());
    let lines = pipe.lines().map(Result::unwrap).enumerate();
    let found = read(lines.inspect(|(at, _)| disturb(&child, *at)).map(|(_, line)| line));
    assert!(child.wait().unwrap().success());
    found
}

fn path(test: &str) -> PathBuf {
    env::temp_dir().join(format!("tidegauge-stdout-{}-{test}", std::process::id()))
}

#[test]
fn lines_in_a_file_are_whole_among_those_of_other_threads() {
    let path = path("file");
    let mut file = File::create(&path).unwrap();
    file.write_all(b"running before\n").unwrap();
    let status = child().stdout(file).status().unwrap();
    assert!(status.success());
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(read(text.lines().map(str::to_owned)), ROUNDS * SERIES);
    fs::remove_file(path).unwrap();
}
