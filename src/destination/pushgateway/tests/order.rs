//! Whatever a gateway answers, and however often: what it has is never replaced by something older, and in the end it has the
//! newest.

use super::*;
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, VecDeque},
    net::{SocketAddr, TcpStream},
    thread::{self, JoinHandle},
};

/// What becomes of a push.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Taken,
    /// It is taken, and the connection ends without an answer.
    Unanswered,
    /// The connection ends before anything is read.
    Cut,
    Answered(&'static str),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => Just(Fate::Taken),
        2 => Just(Fate::Unanswered),
        2 => Just(Fate::Cut),
        3 => Just(Fate::Answered("503 Service Unavailable")),
        1 => Just(Fate::Answered("429 Too Many Requests")),
        1 => Just(Fate::Answered("400 Bad Request")),
        1 => Just(Fate::Answered("401 Unauthorized")),
        1 => Just(Fate::Answered("307 Temporary Redirect")),
    ]
}

/// What a gateway knows of a group, and what it does next; when that is empty, it takes.
#[derive(Default)]
struct State {
    script: VecDeque<Fate>,
    group: BTreeMap<String, u64>,
    /// Of each push that was taken.
    steps: Vec<u64>,
    is_over: bool,
}

impl State {
    /// As the gateway does it (<https://github.com/prometheus/pushgateway#put-method>).
    fn take(&mut self, head: &str, body: &[u8]) {
        let lines = text(body).lines().filter(|line| !line.starts_with('#'));
        let metrics: BTreeMap<String, u64> = lines
            .map(|line| line.split_once(' ').unwrap())
            .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
            .collect();
        self.steps.push(metrics[STEPS]);
        if head.starts_with("PUT ") {
            self.group.clear();
        }
        self.group.extend(metrics);
    }
}

/// Answers one connection after the other until it is over.
fn serve(state: Arc<LongMutex<State>>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        loop {
            let (mut stream, _) = listener.accept().unwrap();
            let fate = {
                let mut state = state.lock().unwrap();
                if state.is_over {
                    return;
                }
                state.script.pop_front().unwrap_or(Fate::Taken)
            };
            if fate == Fate::Cut {
                continue;
            }
            let (head, body) = read_request(&mut stream);
            if matches!(fate, Fate::Taken | Fate::Unanswered) {
                state.lock().unwrap().take(&head, &body);
            }
            // Whoever waits no longer has closed the connection.
            let _ = match fate {
                Fate::Taken => stream.write_all(OK.as_bytes()),
                Fate::Answered(status) => stream.write_all(refusal(status, "").as_bytes()),
                Fate::Unanswered | Fate::Cut => Ok(()),
            };
        }
    });
    (address, thread)
}

/// What an exporter that puts, or posts, makes of such a script. In each turn something is counted, another metric comes or goes,
/// and a flush waits for so many milliseconds.
fn play(puts: bool, script: Vec<Fate>, turns: Vec<(bool, u64)>) -> Result<(), TestCaseError> {
    let state = Arc::new(LongMutex::new(State {
        script: script.into(),
        ..State::default()
    }));
    let (address, server) = serve(Arc::clone(&state));
    let builder = Pushgateway::builder(format!("http://{address}"), "backup").no_proxy();
    let registry = Registry::new();
    let steps = registry.counter(STEPS, "Steps.").register().unwrap();
    let eager = RetryPolicy::new()
        .initial(Duration::from_millis(1))
        .most(Duration::from_millis(5));
    let exporter = Exporter::new(builder.replace(puts).build().unwrap())
        .interval(Duration::from_secs(3600))
        .phase(false)
        .retry(eager)
        .start(&registry)
        .unwrap();
    let mut extra = None;
    for (there, milliseconds) in turns {
        steps.inc();
        registry.unregister(EXTRA);
        extra = there.then(|| steps.get());
        if let Some(value) = extra {
            let gauge = registry.counter(EXTRA, "There at times.").register().unwrap();
            gauge.add(value);
        }
        // One that is not done in time goes on in the background, until something newer waits.
        if exporter.flush(Duration::from_millis(milliseconds)).is_ok() {
            let newest = state.lock().unwrap().group.get(STEPS).copied();
            prop_assert_eq!(newest, Some(steps.get()));
        }
    }
    state.lock().unwrap().script.clear();
    // What is still on its way may be refused yet, and then the flush that saw it says so.
    let _ = exporter.flush(PATIENCE);
    steps.inc();
    exporter.flush(PATIENCE).unwrap();
    drop(exporter.shutdown(PATIENCE));

    let mut state = state.lock().unwrap();
    prop_assert!(state.steps.is_sorted(), "{:?}", state.steps);
    prop_assert_eq!(state.group.get(STEPS), Some(&steps.get()));
    // What is no longer pushed goes with the whole group, or stays.
    if puts || extra.is_some() {
        prop_assert_eq!(state.group.get(EXTRA).copied(), extra);
    }
    state.is_over = true;
    drop(state);
    drop(TcpStream::connect(address));
    server.join().unwrap();
    Ok(())
}

const STEPS: &str = "steps_total";
const EXTRA: &str = "extra_total";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_older_never_takes_the_place_of_what_is_newer(
        puts: bool,
        script in prop::collection::vec(fate(), 0..12),
        turns in prop::collection::vec((any::<bool>(), 1_u64..30), 1..6),
    ) {
        play(puts, script, turns)?;
    }
}
