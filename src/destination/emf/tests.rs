//! Settings and what is wrong with them; files that are not there, or full; payloads that were interrupted.

use super::*;
use crate::{Exporter, FamilySnapshot, Filter, Registry};
use std::{ffi::OsString, fs};

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
    let exporter = exporter.start(&registry).unwrap();
    jobs.add(3);
    let error = exporter.flush(Duration::from_millis(50)).unwrap_err();
    assert!(error.to_string().contains("cannot open it"), "{error}");
    assert!(error.to_string().contains("metrics.json"), "{error}");
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
