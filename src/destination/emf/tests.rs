//! Settings and what is wrong with them; files that are not there, or full; payloads that were interrupted.

use super::*;
use crate::{Exporter, FamilySnapshot, Filter, Registry, RetryPolicy, Spool, transport::lines::Medium};
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    io::{self, Write},
    iter,
    path::Path,
    sync::{Arc, Mutex},
};

const DEADLINE: Duration = Duration::from_secs(60);

/// A path of the test's own, where nothing is.
fn path(test: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("tidegauge-emf-{}-{test}", std::process::id()));
    let _ = fs::remove_file(&path);
    let _ = fs::remove_dir_all(&path);
    path
}

fn without_own() -> Filter {
    Filter::new().families(|family: &FamilySnapshot| !family.name().starts_with("tidegauge_"))
}

/// The lines that one counter comes to, in a function's environment.
fn written(builder: EmfBuilder, path: &PathBuf) -> String {
    let variables = |name: &str| {
        let value = match name {
            "AWS_LAMBDA_FUNCTION_NAME" => "orders",
            "AWS_REGION" => "eu-central-1",
            "AWS_EMF_NAMESPACE" => "Environment",
            _ => return None,
        };
        Some(OsString::from(value))
    };
    let registry = Registry::new();
    registry.counter("jobs", "Jobs.").register().unwrap().add(3);
    let exporter = Exporter::new(builder.build_in(&variables).unwrap()).filter(without_own());
    let exporter = exporter.phase(false);
    exporter.start(&registry).unwrap().flush(DEADLINE).unwrap();
    let text = fs::read_to_string(path).unwrap();
    fs::remove_file(path).unwrap();
    text
}

#[test]
fn a_setting_beats_the_url_and_the_url_the_environment() {
    let path = path("namespace");
    let url = format!("emf+file://{}", path.display());
    let named = format!("{url}?namespace=Of%20URL");
    for (builder, namespace) in [
        (Emf::builder(&url).environment(false), "tidegauge"),
        (Emf::builder(&url), "Environment"),
        (Emf::builder(&named), "Of URL"),
        (Emf::builder(&named).namespace("Setting"), "Setting"),
    ] {
        let text = written(builder, &path);
        assert!(text.contains(&format!(r#""Namespace":"{namespace}""#)), "{text}");
    }
}

#[test]
fn lines_of_a_function_say_which_it_is() {
    let path = path("lambda");
    let builder = EmfBuilder::to(LineTarget::File(path.clone()));
    let text = written(builder.property("stage", "test").property("region", "mine"), &path);
    let properties = r#","stage":"test","region":"mine","functionName":"orders","jobs":3}"#;
    assert!(text.ends_with(&format!("{properties}\n")), "{text}");
    let text = written(EmfBuilder::to(LineTarget::File(path.clone())).environment(false), &path);
    assert!(text.ends_with("]}]},\"jobs\":3}\n"), "{text}");
}

#[test]
fn what_cannot_be_is_named_with_its_rule() {
    let builder = || EmfBuilder::to(LineTarget::Stdout).namespace("Shop").environment(false);
    let long = "x".repeat(256);
    let names: Vec<String> = (0..31).map(|at| format!("label{at}")).collect();
    for (builder, words) in [
        (builder().namespace(" "), ["namespace \"\"", "must not be empty"]),
        (builder().namespace(&long), ["namespace", "at most 255"]),
        (builder().namespace("Bücher"), ["namespace \"Bücher\"", "ASCII"]),
        (builder().namespace(":x"), ["namespace", "colon"]),
        (builder().namespace("AWS/Lambda"), ["namespace", "AWS keeps"]),
        (builder().dimensions([[""; 0]; 0]), ["dimensions", "at least one set"]),
        (builder().dimensions([&names]), ["dimensions", "at most 30"]),
        (builder().dimensions([["a", "a"]]), ["dimension \"a\"", "twice"]),
        (builder().dimensions([[""]]), ["dimension \"\"", "must not be empty"]),
        (builder().dimensions([[&long]]), ["dimension", "at most 250"]),
        (builder().property("", "x"), ["property", "must have a name"]),
        (builder().property("_aws", "x"), ["property \"_aws\"", "format's own"]),
        (builder().property("x", "y".repeat(200_000)), ["properties", "half"]),
        (builder().event_size(4095), ["event size", "not 4095"]),
        (builder().event_size(1_000_001), ["event size", "1000000"]),
    ] {
        let message = builder.build().unwrap_err().to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    }
    assert!(builder().dimensions([[""; 0]]).event_size(1_000_000).build().is_ok());
}

#[test]
fn what_could_not_be_written_is_written_when_it_can_be() {
    let folder = path("folder");
    let path = folder.join("metrics.json");
    let registry = Registry::new();
    let jobs = registry.counter("jobs", "Jobs.").register().unwrap();
    let exporter = Exporter::new(Emf::file("Shop", &path).unwrap()).filter(without_own());
    let exporter = exporter.phase(false);
    let exporter = exporter.start(&registry).unwrap();
    jobs.add(3);
    // One that has no time to collect anything does not say why.
    let error = iter::repeat_with(|| exporter.flush(Duration::from_millis(50)).unwrap_err())
        .map(|error| error.to_string())
        .take(1000)
        .find(|error| error.contains("cannot open it"))
        .expect("it says why in the end");
    assert!(error.contains("metrics.json"), "{error}");
    jobs.add(4);
    fs::create_dir(&folder).unwrap();
    exporter.flush(DEADLINE).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let counts = text.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["jobs"].as_u64().unwrap()
    });
    assert_eq!(counts.sum::<u64>(), 7, "{text}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_relative_path_is_where_the_process_is_when_it_is_given() {
    let here = std::env::current_dir().unwrap();
    let emf = Emf::file("Shop", "metrics.json").unwrap();
    assert_eq!(emf.address(), here.join("metrics.json").display().to_string());
    let error = Emf::file("Shop", "").unwrap_err().to_string();
    assert!(error.contains("file") && error.contains("empty"), "{error}");
}

fn payload(sequence: u64, bytes: &str) -> Payload {
    Payload::new(bytes.into(), BatchId { exporter: 1, sequence }, 2)
}

#[test]
fn lines_of_a_payload_that_was_interrupted_are_not_repeated() {
    let path = path("interrupted");
    let mut emf = Emf::file("Shop", &path).unwrap();
    let (first, second) = (payload(1, "{1}\n{2}\n"), payload(2, "{3}\n{4}\n"));
    // Its first line is in the file.
    fs::write(&path, "{1}\n").unwrap();
    let answer = emf.halted(first.id(), 4, "full".to_owned());
    assert_eq!(answer, Answer::unclear("full"));
    assert_eq!(emf.send(&second, DEADLINE), Answer::delivered());
    assert_eq!(emf.send(&first, DEADLINE), Answer::delivered());
    assert_eq!(fs::read_to_string(&path).unwrap(), "{1}\n{3}\n{4}\n{2}\n");
    assert_eq!(emf.begun.len(), 0);
    fs::remove_file(path).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_payload_that_is_interrupted_twice_goes_on_where_it_was() {
    let mut emf = Emf::file("Shop", "/dev/full").unwrap();
    let payload = payload(1, "{1}\n{2}\n");
    emf.halted(payload.id(), 4, String::new());
    let answer = emf.send(&payload, DEADLINE);
    assert_eq!(answer, Answer::unclear(answer.message.clone()));
    assert_eq!(emf.written_of(payload.id()), 4);
}

#[test]
fn payloads_that_never_come_again_are_forgotten() {
    let mut emf = Emf::stdout("Shop").unwrap();
    for sequence in 0..1000 {
        emf.halted(payload(sequence, "").id(), 1, String::new());
    }
    assert_eq!(emf.begun.len(), MOST_BEGUN);
}

#[cfg(target_os = "linux")]
#[test]
fn what_nothing_is_written_of_is_tried_again() {
    let mut emf = Emf::file("Shop", "/dev/full").unwrap();
    let answer = emf.send(&payload(1, "{1}\n"), DEADLINE);
    assert_eq!(answer, Answer::retry(answer.message.clone()));
    assert!(answer.message.contains("No space left"), "{}", answer.message);
}

/// What becomes of the next write calls: so many bytes are taken, or none and the disk is full. Behind its end all is taken.
type Script = Vec<Option<usize>>;

#[derive(Clone)]
struct Faulty(Arc<Mutex<Disk>>);

struct Disk {
    script: Script,
    taken: Vec<u8>,
    can_take_back: bool,
}

impl Faulty {
    fn with<R>(&self, look: impl FnOnce(&mut Disk) -> R) -> R {
        look(&mut self.0.lock().unwrap())
    }
}

impl Write for Faulty {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|disk| {
            let most = match disk.script.pop() {
                None => bytes.len(),
                Some(Some(most)) => most.clamp(1, bytes.len()),
                Some(None) => return Err(io::ErrorKind::StorageFull.into()),
            };
            disk.taken.extend_from_slice(&bytes[..most]);
            Ok(most)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Medium for Faulty {
    fn take_back(&mut self, bytes: u64) -> bool {
        self.with(|disk| {
            if disk.can_take_back {
                disk.taken.truncate(disk.taken.len() - bytes as usize);
            }
            disk.can_take_back
        })
    }

    fn is_at(&self, _: &Path) -> bool {
        true
    }
}

/// An exporter to a disk that takes what its script says, and the counter that it exports.
fn to_disk(disk: &Faulty, spool: &Path) -> (crate::ExporterHandle, crate::Family<crate::Counter, 1>) {
    let mut emf = EmfBuilder::to(LineTarget::Stdout).environment(false).build().unwrap();
    emf.lines = Lines::to(disk.clone());
    let registry = Registry::new();
    let jobs = registry.counter("jobs", "Jobs.").labels(["name"]).register().unwrap();
    let exporter = Exporter::new(emf)
        .filter(without_own())
        .spool(Spool::new(spool))
        .interval(Duration::from_secs(3600))
        .phase(false);
    (exporter.start(&registry).unwrap(), jobs)
}

#[test]
fn a_payload_that_was_interrupted_and_spooled_is_written_from_its_beginning_by_the_next_process_and_counted() {
    let spool = path("spool");
    // It takes a line, and is full for good.
    let mut script: Script = vec![None; 10_000];
    script.push(Some(10_000));
    let disk = Faulty(Arc::new(Mutex::new(Disk {
        script,
        taken: Vec::new(),
        can_take_back: true,
    })));
    let (exporter, jobs) = to_disk(&disk, &spool);
    jobs.with(["a"]).add(3);
    jobs.with(["b"]).add(4);
    let error = exporter.shutdown(Duration::from_secs(2)).unwrap_err();
    assert_eq!(error.report().spooled, 2, "{error}");

    disk.with(|disk| disk.script.clear());
    let (next, jobs) = to_disk(&disk, &spool);
    jobs.with(["a"]).add(5);
    next.flush(DEADLINE).unwrap();
    let text = String::from_utf8(disk.with(|disk| disk.taken.clone())).unwrap();
    let read = text.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        (
            line["name"].as_str().unwrap().to_owned(),
            line["jobs"].as_u64().unwrap(),
        )
    });
    let read: Vec<_> = read.collect();
    let expected = [("a", 3), ("a", 3), ("b", 4), ("a", 5)];
    assert_eq!(read, expected.map(|(name, jobs)| (name.to_owned(), jobs)));
    assert_eq!(next.stats().possible_duplicate_points, 2);
    fs::remove_dir_all(spool).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever is taken of lines, and whenever: each increment is in one whole line, and halves are in none.
    #[test]
    fn interrupted_writes_lose_and_repeat_nothing(
        rounds in prop::collection::vec((prop::collection::vec(0..5_u64, 1..8), any::<bool>()), 1..10),
        script in prop::collection::vec(prop::option::weighted(0.6, 1..300_usize), 0..60),
        can_take_back: bool,
    ) {
        let disk = Faulty(Arc::new(Mutex::new(Disk { script, taken: Vec::new(), can_take_back })));
        let mut emf = EmfBuilder::to(LineTarget::Stdout).environment(false).build().unwrap();
        emf.lines = Lines::to(disk.clone());
        let registry = Registry::new();
        let jobs = registry.counter("jobs", "Jobs.").labels(["name"]).register().unwrap();
        let at_once = RetryPolicy::new().initial(Duration::from_millis(1)).most(Duration::from_millis(1));
        let exporter = Exporter::new(emf)
            .filter(without_own())
            // What fails is given up at once, unless a flush has time for it.
            .retry(at_once.retry_for(Duration::ZERO))
            .interval(Duration::from_secs(3600))
            .phase(false)
            .start(&registry)
            .unwrap();
        let mut recorded = BTreeMap::new();
        for (counts, waits) in rounds {
            for (name, count) in counts.into_iter().enumerate().filter(|(_, count)| *count > 0) {
                jobs.with([name.to_string()]).add(count);
                *recorded.entry(name.to_string()).or_default() += count;
            }
            // One that does not wait leaves its payloads to be given up, while the next is asked for.
            let _ = exporter.flush(if waits { DEADLINE } else { Duration::from_millis(2) });
        }
        disk.with(|disk| disk.script.clear());
        let flushed = exporter.flush(DEADLINE);
        prop_assert!(flushed.is_ok(), "{:?}", flushed);
        prop_assert_eq!(exporter.stats().dropped_superseded_points, 0);

        let text = String::from_utf8(disk.with(|disk| disk.taken.clone())).unwrap();
        let mut read: BTreeMap<String, u64> = BTreeMap::new();
        // The end of the last line may be on its way.
        let lines = text.split_terminator('\n');
        for line in lines {
            match serde_json::from_str::<serde_json::Value>(line) {
                Ok(line) => *read.entry(line["name"].as_str().unwrap().to_owned()).or_default() += line["jobs"].as_u64().unwrap(),
                Err(_) => prop_assert!(!can_take_back, "{} is half a line", line),
            }
        }
        prop_assert_eq!(read, recorded);
    }
}
