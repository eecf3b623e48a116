//! Networks and processes that fail: connections that are refused, reset and left hanging, a far end that is killed,
//! and a process that stands still. The law holds with each of them.

use crate::behaviour::Behaviour;
use crate::law::{
    CUMULATIVE, CUMULATIVE_JSON_GZIP, DELTA, DELTA_GZIP, DELTA_JSON, End, Run, Way, in_each, trying, wait_until,
};
use crate::points::Temporality;
use crate::receiver::Receiver;
use std::time::Duration;

const WAYS: [Way; 5] = [DELTA, CUMULATIVE, DELTA_JSON, DELTA_GZIP, CUMULATIVE_JSON_GZIP];

/// Short enough to be over often, long enough for an answer that comes.
const SHORT: Duration = Duration::from_millis(100);

// Refused

#[test]
fn a_far_end_that_is_not_there_yet_gets_everything_once() {
    in_each(&WAYS, |way| {
        let receiver = Receiver::start();
        receiver.refuse();
        let run = Run::to(receiver, way, |otlp| otlp, |exporter| exporter);
        wait_until("carrying over", || run.exporter.stats().carried_over_points > 0);
        run.collects(10);
        let stats = run.exporter.stats();
        assert_eq!((stats.delivered_points, stats.last_success), (0, None));
        assert!(stats.oldest_undelivered.is_some());
        // It tries for as long as it has time, be that too short to collect anything.
        wait_until("a flush that is refused", || {
            let error = run.exporter.flush(SHORT).unwrap_err();
            // A send that is under way at the deadline is unclear until it has ended.
            assert_eq!(error.report().delivered, 0);
            error.to_string().contains("refused")
        });
        run.receiver.listen();
        run.delivers(3);
        let end = run.finish();
        end.assert_never_unclear();
        end.assert_delivered_is_what_was_confirmed();
        assert!(end.stats.retried_points > 0);
        assert_eq!(end.stats.rejected_points, 0);
        assert!(end.stats.last_success.is_some());
    });
}

#[test]
fn a_far_end_that_is_killed_three_times_under_load_gets_everything() {
    in_each(&WAYS, |way| {
        let run = Run::start(way);
        for _ in 0..3 {
            run.delivers(5);
            run.receiver.refuse();
            run.collects(10);
            run.receiver.listen();
        }
        run.delivers(5);
        let end = run.finish();
        assert!(end.stats.connections >= 4, "{}", end.stats.connections);
        assert_eq!(end.stats.rejected_points, 0);
    });
}

#[test]
fn connections_that_are_closed_meanwhile_are_made_anew() {
    let run = Run::start(DELTA);
    for _ in 0..5 {
        run.delivers(2);
        run.receiver.disconnect();
    }
    run.delivers(2);
    let end = run.finish();
    assert!(end.stats.connections >= 6, "{}", end.stats.connections);
}

// Reset

/// Delivers, has the next four requests end so, and delivers again.
fn suffer(way: Way, fault: Behaviour) -> End {
    let run = Run::start(way);
    run.delivers(2);
    run.receiver.next(vec![fault; 4]);
    run.meets_the_script();
    run.delivers(2);
    let end = run.finish();
    assert_eq!(end.stats.rejected_points, 0);
    end
}

#[test]
fn a_reset_before_the_request_is_read_is_unclear_and_nothing_is_lost() {
    in_each(&WAYS, |way| {
        let end = suffer(way, Behaviour::reset_unread());
        end.assert_delivered_is_what_was_confirmed();
        assert!(end.stats.retried_points > 0);
        let is_delta = way.temporality == Temporality::Delta;
        assert_eq!(end.stats.possible_duplicate_points > 0, is_delta);
    });
}

#[test]
fn a_reset_instead_of_the_reply_and_in_the_middle_of_it_is_unclear() {
    in_each(&WAYS, |way| {
        for bytes in [0, 1, 20, 60] {
            for fault in [Behaviour::accept(), Behaviour::answer(200)] {
                trying((bytes, &fault));
                let reply = fault.body("application/json", vec![b' '; 100]);
                let end = suffer(way, reply.reset_after(bytes));
                let (all, increments) = end.repeated();
                assert!(all > 0);
                assert_eq!(end.stats.retried_points, all);
                assert_eq!(end.stats.possible_duplicate_points, increments);
                end.assert_delivered_is_what_was_confirmed();
            }
        }
    });
}

#[test]
fn a_reset_in_the_middle_of_a_body_is_unclear() {
    in_each(&WAYS, |way| {
        let long = "it was a pleasure".repeat(10);
        // The head is whole by then.
        let end = suffer(way, Behaviour::reject(0, &long).reset_after(200));
        let (all, increments) = end.repeated();
        assert!(all > 0);
        assert_eq!(end.stats.retried_points, all);
        assert_eq!(end.stats.possible_duplicate_points, increments);
    });
}

// Hanging

#[test]
fn what_is_accepted_and_never_answered_is_stored_twice_and_said_so() {
    in_each(&WAYS, |way| {
        let run = Run::with(way, |otlp| otlp, |exporter| exporter.send_timeout(SHORT));
        run.delivers(1);
        run.receiver.always(Behaviour::accept().held());
        run.receiver.wait_for(|state| state.held >= 1);
        let before = run.receiver.read(|state| state.requests.len());
        run.receiver.wait_for(|state| state.requests.len() >= before + 6);
        run.receiver.always(Behaviour::accept());
        run.receiver.release();
        let end = run.finish();
        let (all, increments) = end.repeated();
        assert_repeated_where_it_must(way, all);
        end.assert_said_is_what_came(end.stats.retried_points, all);
        end.assert_said_is_what_came(end.stats.possible_duplicate_points, increments);
    });
}

#[test]
fn what_is_read_and_forgotten_is_sent_again() {
    in_each(&[DELTA, CUMULATIVE, DELTA_JSON], |way| {
        let run = Run::with(way, |otlp| otlp, |exporter| exporter.send_timeout(SHORT));
        run.delivers(1);
        run.receiver.always(Behaviour::answer(503).held());
        run.receiver.wait_for(|state| state.held >= 1);
        let before = run.receiver.read(|state| state.requests.len());
        run.receiver.wait_for(|state| state.requests.len() >= before + 4);
        run.receiver.always(Behaviour::accept());
        run.receiver.release();
        let end = run.finish();
        end.assert_said_is_what_came(end.stats.retried_points, end.repeated().0);
    });
}

#[test]
fn a_reply_that_never_ends_ends_at_the_deadline() {
    in_each(&[DELTA, CUMULATIVE, DELTA_GZIP, DELTA_JSON], |way| {
        for fault in [
            Behaviour::endless(1000),
            Behaviour::endless(1000).storing(),
            Behaviour::accept().dribbled(Duration::from_millis(20)),
        ] {
            trying(&fault);
            let run = Run::with(way, |otlp| otlp, |exporter| exporter.send_timeout(SHORT));
            run.delivers(1);
            run.receiver.always(fault);
            run.receiver.wait_for(|state| state.held >= 1);
            let before = run.receiver.read(|state| state.requests.len());
            run.receiver.wait_for(|state| state.requests.len() >= before + 4);
            run.receiver.always(Behaviour::accept());
            run.receiver.release();
            let end = run.finish();
            let (all, increments) = end.repeated();
            assert_repeated_where_it_must(way, all);
            end.assert_said_is_what_came(end.stats.retried_points, all);
            end.assert_said_is_what_came(end.stats.possible_duplicate_points, increments);
        }
    });
}

/// Values as they stand need not be sent again as they were: the next ones have all that they had.
fn assert_repeated_where_it_must(way: Way, points: u64) {
    assert!(points > 0 || way.temporality == Temporality::Cumulative);
}

// A process that stands still

#[cfg(unix)]
mod freeze {
    use crate::law::{DELTA, Run, Stored, flushed, pushing_to, wait_until};
    use crate::receiver::PATIENCE;
    use crate::receiver::Receiver;
    use crate::workload::{Tally, Workload};
    use std::io::{BufRead, BufReader, Read, Write};
    use std::process::{Child, Command, Stdio};
    use tidegauge::Registry;

    const URL: &str = "TIDEGAUGE_TEST_FREEZE_URL";

    /// What the child says before its tally.
    const TALLY: &str = "tally ";

    /// The other process of the test below: it pushes until something comes on its standard input, then tells what it
    /// has recorded.
    #[test]
    fn child() {
        let Ok(url) = std::env::var(URL) else { return };
        let registry = Registry::new();
        let mut workload = Workload::new(&registry);
        let exporter = pushing_to(&url, DELTA, |otlp| otlp).start(&registry).unwrap();
        workload.spawn(2);
        let _ = std::io::stdin().read(&mut [0]);
        let tally = workload.stop();
        flushed(&exporter);
        exporter.shutdown(PATIENCE).unwrap();
        println!("\n{TALLY}{} {}", exporter.stats().connections, tally.to_json());
    }

    #[test]
    fn a_process_that_stood_still_goes_on_with_new_connections() {
        let receiver = Receiver::start();
        let child = Frozen::start(&receiver.url());
        for _ in 0..3 {
            receiver.wait_for(|state| !state.requests.is_empty());
            let seen = receiver.read(|state| state.requests.len());
            receiver.wait_for(|state| state.requests.len() >= seen + 5);
            child.signal("-STOP");
            wait_until("the process to stand still", || child.is_stopped());
            // Several intervals, by the clock of an exporter that goes on.
            Run::start(DELTA).collects(20);
            let connections = receiver.read(|state| state.connections);
            child.signal("-CONT");
            receiver.wait_for(|state| state.connections > connections);
            let seen = receiver.read(|state| state.requests.len());
            receiver.wait_for(|state| state.requests.len() >= seen + 5);
            // Nothing comes on the old ones once there is a new one.
            receiver.read(|state| {
                let fresh = state
                    .requests
                    .iter()
                    .position(|request| request.connection >= connections)
                    .expect("requests came on it");
                assert!(
                    state.requests[fresh..]
                        .iter()
                        .all(|request| request.connection >= connections),
                    "{}",
                    state.summary()
                );
            });
        }
        let tally = child.end();
        receiver.read(|state| {
            let stored = Stored::of(&state.requests);
            stored.assert_increments(&tally, &Default::default());
        });
    }

    struct Frozen(Child);

    impl Frozen {
        fn start(url: &str) -> Frozen {
            let program = std::env::current_exe().expect("a test has a program");
            let name = concat!(module_path!(), "::child");
            let name = name.split_once("::").expect("the crate comes first").1;
            let child = Command::new(program)
                .args(["--exact", name, "--nocapture", "--test-threads=1"])
                .env(URL, url)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("the program can be run again");
            Frozen(child)
        }

        fn signal(&self, signal: &str) {
            let id = self.0.id().to_string();
            let status = Command::new("kill").args([signal, &id]).status().unwrap();
            assert!(status.success());
        }

        /// Whether every thread of it is.
        fn is_stopped(&self) -> bool {
            let id = self.0.id().to_string();
            let output = Command::new("ps").args(["-o", "stat=", "-p", &id]).output().unwrap();
            output.stdout.first() == Some(&b'T')
        }

        /// Lets it end, and hears what it has recorded.
        fn end(mut self) -> Tally {
            self.0.stdin.take().unwrap().write_all(b"\n").unwrap();
            let mut lines = BufReader::new(self.0.stdout.take().unwrap()).lines();
            let tally = lines.find_map(|line| line.unwrap().strip_prefix(TALLY).map(str::to_owned));
            let tally = tally.expect("the child tells its tally");
            assert!(self.0.wait().unwrap().success());
            Tally::from_json(tally.split_once(' ').unwrap().1)
        }
    }

    impl Drop for Frozen {
        fn drop(&mut self) {
            // Also if it stands still.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}
