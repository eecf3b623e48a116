//! Answers that a far end should not give, and a queue that is full: the law holds with each of them, and the exporter
//! says what happened, in exact numbers where the fault fixes them.

use crate::behaviour::Behaviour;
use crate::law::{
    CUMULATIVE, CUMULATIVE_JSON_GZIP, DELTA, DELTA_GZIP, DELTA_JSON, End, Letters, Run, Scraped, Stored, Way, delivers,
    flushed, impatient, in_each, pushing, trying, wait_until,
};
use crate::points::{Attribute, Point};
use crate::receiver::{Outcome, PATIENCE, Receiver, Request};
use crate::workload::{STEP_SERIES, Workload};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};
use tidegauge::{Compression, DropPolicy, Filter, Protocol, Registry, Secret};

const WAYS: [Way; 5] = [DELTA, CUMULATIVE, DELTA_JSON, DELTA_GZIP, CUMULATIVE_JSON_GZIP];

/// What one status shows in a way, all of them need not show in each.
fn is_plain(way: Way) -> bool {
    way.compression == Compression::None && way.protocol == Protocol::Protobuf
}

/// Delivers, has the next requests answered so, and delivers again.
fn suffer(way: Way, fault: Vec<Behaviour>) -> End {
    let run = Run::start(way);
    run.delivers(2);
    run.receiver.next(fault);
    run.meets_the_script();
    run.delivers(2);
    let end = run.finish();
    end.assert_delivered_is_what_was_confirmed();
    end
}

// What is to be tried again

#[test]
fn throttled_and_unavailable_are_repeated_with_the_same_bytes() {
    let date = httpdate::fmt_http_date(SystemTime::now());
    in_each(&WAYS, |way| {
        let statuses: &[u16] = if is_plain(way) { &[429, 502, 503, 504] } else { &[503] };
        for &status in statuses {
            for wait in [None, Some("0"), Some(&*date), Some("soon"), Some("-1"), Some("1.5")] {
                trying((status, wait));
                let answer = Behaviour::answer(status).status_body(14, "later");
                let answer = match wait {
                    None => answer,
                    Some(wait) => answer.header("Retry-After", wait),
                };
                let end = suffer(way, vec![answer; 3]);
                end.assert_never_unclear();
                assert_eq!(end.answered(status).count(), 3);
                // Each was sent again until it was taken, or was carried over by bytes that never came again.
                let refused = end.points(|request| request.outcome == Outcome::Answered(status));
                assert!(end.repeated().0 > 0);
                assert_eq!(end.stats.retried_points, end.repeated().0);
                assert_eq!(end.stats.retried_points + end.given_up(), refused);
                assert_eq!(end.stats.rejected_points, 0);
            }
        }
    });
}

#[test]
fn nothing_comes_before_a_wait_that_was_asked_for_is_over() {
    for is_date in [false, true] {
        trying(is_date);
        let run = Run::start(DELTA);
        run.delivers(1);
        wait_until("a wait that is not over before it has been looked at", || {
            // A date has no fractions of a second.
            let (wait, least) = (Duration::from_secs(4), Duration::from_secs(3));
            let began = Instant::now();
            let wait = match is_date {
                false => least.as_secs().to_string(),
                true => httpdate::fmt_http_date(SystemTime::now() + wait),
            };
            run.receiver.next([Behaviour::answer(429).header("Retry-After", &wait)]);
            run.meets_the_script();
            let requests = run.receiver.read(|state| state.requests.len());
            // A small part of the wait.
            run.collects(5);
            let flushed = run.exporter.flush(Duration::from_millis(1));
            let since = run.receiver.read(|state| state.requests.len()) - requests;
            let is_seen = began.elapsed() < least;
            if is_seen {
                assert_eq!(since, 0);
                let error = flushed.unwrap_err();
                assert!(
                    !error.report().last_error.as_deref().unwrap_or("").is_empty(),
                    "{error}"
                );
            }
            is_seen
        });
        let end = run.finish();
        end.assert_never_unclear();
        end.assert_delivered_is_what_was_confirmed();
    }
}

#[test]
fn a_flush_does_not_wait_for_a_far_end_that_asks_for_more_time_than_it_has() {
    let run = Run::with(
        DELTA,
        |otlp| otlp,
        |exporter| exporter.retry(impatient().most_asked(Duration::from_secs(2))),
    );
    let much = Behaviour::answer(503).header("Retry-After", "3600");
    run.receiver.always(much);
    wait_until("a flush that is told to wait", || {
        let error = run.exporter.flush(Duration::from_millis(50)).unwrap_err();
        error.to_string().contains("as the far end asks")
    });
    run.receiver.always(Behaviour::accept());
    let end = run.finish();
    end.assert_never_unclear();
    end.assert_delivered_is_what_was_confirmed();
}

// What is not to be tried again, though the data is not to blame

#[test]
fn answers_that_must_not_be_retried_are_carried_over() {
    in_each(&WAYS, |way| {
        let statuses: &[u16] = match is_plain(way) {
            true => &[500, 501, 403, 404, 402, 408, 415],
            false => &[500],
        };
        for &status in statuses {
            trying(status);
            let end = suffer(way, vec![Behaviour::answer(status).body("text/plain", "no"); 4]);
            end.assert_never_unclear();
            assert_eq!(end.answered(status).count(), 4);
            assert_eq!((end.repeated().0, end.stats.retried_points), (0, 0));
            let refused = end.points(|request| request.outcome == Outcome::Answered(status));
            assert_eq!(end.given_up(), refused);
            assert_eq!(
                end.scraped.value("payloads_total", Some(("outcome", "carried_over"))),
                4.0
            );
            assert_eq!(end.stats.rejected_points, 0);
        }
    });
}

#[test]
fn a_token_that_expired_is_carried_over_until_its_file_is_replaced() {
    in_each(&[DELTA, CUMULATIVE, DELTA_JSON], |way| {
        let file = TokenFile::new("old");
        let receiver = Receiver::start();
        receiver.always_ask(|request| match request.message.header("authorization") {
            Some("Bearer new") => Behaviour::accept(),
            _ => Behaviour::answer(401).body("text/plain", "expired"),
        });
        let token = Secret::file(&file.0);
        let run = Run::to(receiver, way, |otlp| otlp.bearer_token(token), |exporter| exporter);
        run.receiver.wait_for(|state| state.requests.len() >= 40);
        let error = run.exporter.flush(PATIENCE).unwrap_err();
        assert!(error.to_string().contains("401: expired"), "{error}");
        assert!(!error.to_string().contains("old"), "{error}");
        assert_eq!(run.exporter.stats().credential_reloads, 0);
        assert_eq!(run.exporter.stats().delivered_points, 0);
        assert!(run.exporter.stats().oldest_undelivered.is_some());
        file.replace("new");
        run.delivers(3);
        let end = run.finish();
        end.assert_never_unclear();
        end.assert_delivered_is_what_was_confirmed();
        assert_eq!(end.stats.credential_reloads, 1);
        // The one that was refused last was sent again at once, with the new token.
        let refused = end.points(|request| request.outcome == Outcome::Answered(401));
        assert_eq!(end.stats.retried_points, end.repeated().0);
        assert_eq!(end.given_up() + end.stats.retried_points, refused);
    });
}

#[test]
fn a_redirect_is_not_followed_and_the_error_names_where_it_leads() {
    let target = Receiver::start();
    in_each(&[DELTA, CUMULATIVE_JSON_GZIP], |way| {
        for status in [301, 302, 303, 307, 308] {
            trying(status);
            let location = target.url().replace("http://", "http://me:secret@");
            let run = Run::start(way);
            run.delivers(1);
            let answer = Behaviour::answer(status).header("Location", &location);
            run.receiver.always(answer);
            run.receiver
                .wait_for(|state| state.requests.last().is_some_and(|last| last.stored == 0));
            let error = run.exporter.flush(PATIENCE).unwrap_err().to_string();
            assert!(
                error.contains(&target.url()) && error.contains("not followed"),
                "{error}"
            );
            assert!(!error.contains("secret"), "{error}");
            run.receiver.always(Behaviour::accept());
            let end = run.finish();
            end.assert_never_unclear();
            end.assert_delivered_is_what_was_confirmed();
            assert_eq!((end.repeated().0, end.stats.retried_points), (0, 0));
            let refused = end.points(|request| request.outcome == Outcome::Answered(status));
            assert_eq!(end.given_up(), refused);
        }
    });
    assert_eq!(target.read(|state| state.connections), 0);
}

// What blames the data

#[test]
fn what_is_refused_for_good_is_rejected_and_becomes_a_dead_letter() {
    in_each(&WAYS, |way| {
        for (words, answer) in [
            ("it answered 400", Behaviour::answer(400)),
            (
                "it answered 400: too old",
                Behaviour::answer(400).status_body(3, "too old"),
            ),
            (
                "it answered 400: <b>no</b>",
                Behaviour::answer(400).body("text/html", "<b>no</b>"),
            ),
        ] {
            trying(words);
            let end = suffer(way, vec![answer; 4]);
            end.assert_never_unclear();
            assert_eq!(end.messages, [words; 4]);
            assert_eq!((end.repeated().0, end.stats.retried_points), (0, 0));
            assert_eq!(end.stats.carried_over_points, 0);
            let refused = end.points(|request| request.outcome == Outcome::Answered(400));
            assert_eq!(end.stats.rejected_points, refused);
            assert_eq!(end.scraped.value("payloads_total", Some(("outcome", "rejected"))), 4.0);
        }
    });
}

#[test]
fn partial_success_rejects_what_it_says() {
    in_each(&WAYS, |way| {
        let end = suffer(way, vec![Behaviour::reject(3, "three are too old"); 5]);
        end.assert_never_unclear();
        assert_eq!(end.messages, ["three are too old"; 5]);
        assert_eq!(end.stats.rejected_points, 15);
        assert_eq!(end.stats.retried_points + end.stats.carried_over_points, 0);
    });
    // More than there are, and a mere warning.
    let end = suffer(DELTA, vec![Behaviour::reject(usize::MAX >> 1, "all")]);
    assert_eq!(end.messages, ["all"]);
    let end = suffer(DELTA, vec![Behaviour::reject(0, "old fashioned"); 3]);
    assert!(end.messages.is_empty());
    assert_eq!(end.stats.rejected_points, 0);
}

#[test]
fn what_is_too_large_is_halved_until_it_fits() {
    in_each(&WAYS, |way| {
        let receiver = Receiver::start();
        receiver.always_ask(|request| match request.points {
            0..6 => Behaviour::accept(),
            _ => Behaviour::answer(413),
        });
        let run = Run::to(receiver, way, |otlp| otlp, |exporter| exporter);
        run.delivers(20);
        let end = run.finish();
        end.assert_never_unclear();
        end.assert_delivered_is_what_was_confirmed();
        assert!(end.answered(413).count() > 0);
        assert!(end.answered(200).all(|request| request.points < 6));
        assert_eq!((end.repeated().0, end.stats.retried_points), (0, 0));
        assert_eq!(end.stats.rejected_points, 0);
    });
}

#[test]
fn one_point_that_is_too_large_is_rejected_and_the_others_arrive() {
    for way in [DELTA, DELTA_JSON] {
        let receiver = Receiver::start();
        let large = |point: &Point| point.series.name == "law_seconds_total";
        receiver.always_ask(move |request| match request.decoded().iter().any(large) {
            true => Behaviour::answer(413).body("text/plain", "it is too much"),
            false => Behaviour::accept(),
        });
        let run = Run::to(receiver, way, |otlp| otlp, |exporter| exporter);
        wait_until("rejections", || run.exporter.stats().rejected_points >= 3);
        run.receiver.always(Behaviour::accept());
        let end = run.finish();
        end.assert_never_unclear();
        end.assert_delivered_is_what_was_confirmed();
        let alone = end.answered(413).filter(|request| request.points == 1).count();
        assert_eq!(end.stats.rejected_points, alone as u64);
        assert_eq!(end.messages, vec!["it answered 413: it is too much"; alone]);
    }
}

// What is not what it says

#[test]
fn an_answer_that_is_none_of_the_protocol_is_unclear() {
    in_each(&WAYS, |way| {
        for (what, answer) in [
            (
                "a login page",
                Behaviour::answer(200).body("text/html", "<html>Who are you?</html>"),
            ),
            (
                "garbage",
                Behaviour::answer(200).body("application/x-protobuf", b"\xff\xff\xff".as_slice()),
            ),
            (
                "half JSON",
                Behaviour::answer(200).body("application/json", "{\"partial"),
            ),
            ("another protocol", Behaviour::babble("220 smtp.example.com ESMTP\r\n")),
        ] {
            for answer in [answer.clone(), answer.storing()] {
                trying((what, &answer));
                let run = Run::start(way);
                run.delivers(2);
                run.receiver.next(vec![answer.clone(); 4]);
                run.meets_the_script();
                run.delivers(2);
                let end = run.finish();
                let (all, increments) = end.repeated();
                assert!(all > 0);
                assert_eq!(end.stats.retried_points, all);
                assert_eq!(end.stats.possible_duplicate_points, increments);
                assert_eq!(end.stats.rejected_points, 0);
            }
        }
    });
}

// A queue that is full

#[test]
fn what_a_full_queue_drops_is_in_what_comes_later() {
    for policy in [DropPolicy::Oldest, DropPolicy::Newest] {
        in_each(&[DELTA, CUMULATIVE, DELTA_GZIP], |way| {
            trying(policy);
            let mut run = Run::quiet(
                Receiver::start(),
                way,
                |otlp| otlp,
                |exporter| exporter.queue(1, usize::MAX).drop_policy(policy),
            );
            run.workload.step();
            // From here on every collection has all series.
            flushed(&run.exporter);
            let dropped = |run: &Run| {
                let scraped = Scraped::of(&run.workload.registry, run.exporter.name());
                let of = |name| scraped.value(name, Some(("reason", "queue_full"))) as u64;
                [of("dropped_points_total"), of("dropped_collections_total")]
            };
            let mut before = dropped(&run);
            // Both of the same moment: nothing was dropped in between.
            wait_until("a moment", || {
                let last = std::mem::replace(&mut before, dropped(&run));
                before == last
            });
            run.receiver.next([Behaviour::accept().held()]);
            run.workload.step();
            run.receiver.wait_for(|state| state.held == 1);
            // One is on its way, one waits, and all others have no room.
            for _ in 0..20 {
                run.workload.step();
                run.collects(1);
            }
            assert_eq!(run.exporter.stats().queued_collections, 1);
            run.receiver.release();
            run.delivers(1);
            let end = run.finish();
            end.assert_never_unclear();
            end.assert_delivered_is_what_was_confirmed();
            let dropped = end
                .scraped
                .value("dropped_collections_total", Some(("reason", "queue_full")));
            let dropped = dropped as u64 - before[1];
            assert!(dropped >= 15, "{dropped}");
            // The series that are stepped, and the two that have no labels.
            let each = STEP_SERIES + SERIES_WITHOUT_LABELS;
            assert_eq!(end.stats.dropped_queue_full_points - before[0], dropped * each);
            assert_eq!(end.stats.dropped_queue_bytes_points, 0);
        });
    }
}

#[test]
fn the_queue_does_not_grow_while_the_far_end_is_down() {
    let mut run = Run::quiet(
        Receiver::start(),
        DELTA,
        |otlp| otlp,
        |exporter| exporter.queue(8, usize::MAX).interval(Duration::from_millis(5)),
    );
    run.workload.step();
    run.delivers(1);
    run.receiver.always(Behaviour::accept().held());
    run.workload.step();
    run.receiver.wait_for(|state| state.held == 1);
    wait_until("a full queue", || run.exporter.stats().queued_collections == 8);
    let full = run.exporter.stats().queued_bytes;
    assert!(full > 0);
    for _ in 0..300 {
        run.workload.step();
        run.collects(1);
        let stats = run.exporter.stats();
        assert_eq!((stats.queued_collections, stats.queued_bytes), (8, full));
    }
    run.receiver.always(Behaviour::accept());
    run.receiver.release();
    let end = run.finish();
    end.assert_never_unclear();
    assert!(end.stats.dropped_queue_full_points >= 300 * STEP_SERIES);
}

#[test]
fn a_queue_that_is_bounded_by_bytes_stays_below_them() {
    let mut run = Run::quiet(
        Receiver::start(),
        DELTA,
        |otlp| otlp,
        |exporter| exporter.queue(usize::MAX, 1).interval(Duration::from_millis(5)),
    );
    run.workload.step();
    run.delivers(1);
    run.receiver.next([Behaviour::accept().held()]);
    run.workload.step();
    run.receiver.wait_for(|state| state.held == 1);
    for _ in 0..20 {
        run.workload.step();
        run.collects(1);
        assert!(run.exporter.stats().queued_collections <= 1);
    }
    run.receiver.release();
    let end = run.finish();
    end.assert_never_unclear();
    assert!(end.stats.dropped_queue_bytes_points > 0);
    assert_eq!(end.stats.dropped_queue_full_points, 0);
}

// Several requests, and several exporters

/// The series that are in the second of three requests.
const MIDDLE: &str = "f";

#[test]
fn the_second_of_three_requests_fails_for_ten_intervals() {
    for (what, answer) in [
        ("carried over", Behaviour::answer(500)),
        ("retried", Behaviour::answer(503)),
        ("unclear", Behaviour::accept().reset_after(0)),
        ("refused unclearly", Behaviour::answer(200).reset_after(0)),
    ] {
        for way in [DELTA, CUMULATIVE, DELTA_JSON] {
            trying((what, way));
            let (receiver, answer) = (Receiver::start(), answer.clone());
            receiver.always_ask(move |request| match is_in_the_middle(request) {
                true => answer.clone(),
                false => Behaviour::accept(),
            });
            let third = (STEP_SERIES + SERIES_WITHOUT_LABELS).div_ceil(3) as usize;
            let mut run = Run::quiet(receiver, way, |otlp| otlp.max_points(third), |exporter| exporter);
            let mut failed = 0;
            for _ in 0..10 {
                run.workload.step();
                run.receiver.wait_for(|state| {
                    state
                        .requests
                        .iter()
                        .filter(|request| is_in_the_middle(request))
                        .count()
                        > failed
                });
                failed = run.receiver.read(|state| {
                    state
                        .requests
                        .iter()
                        .filter(|request| is_in_the_middle(request))
                        .count()
                });
                // The first and the third arrive all the same.
                let before = run.exporter.stats().delivered_payloads;
                run.workload.step();
                wait_until("the other requests", || {
                    run.exporter.stats().delivered_payloads >= before + 2
                });
            }
            let last = run.receiver.read(|state| state.requests.len());
            run.receiver.always(Behaviour::accept());
            run.receiver.wait_for(|state| state.requests.len() > last);
            let end = run.finish();
            assert!(end.requests.iter().filter(|request| is_in_the_middle(request)).count() > 10);
            assert_eq!(end.stats.rejected_points, 0);
            match what {
                "carried over" | "retried" => {
                    end.assert_never_unclear();
                    end.assert_delivered_is_what_was_confirmed();
                    assert!(end.stats.carried_over_points > 0);
                }
                _ => assert_eq!(end.stats.possible_duplicate_points, end.repeated().1),
            }
        }
    }
}

fn is_in_the_middle(request: &Request) -> bool {
    let middle = Attribute::Text(MIDDLE.to_owned());
    let is_middle = |point: &Point| point.series.attributes.get("kind") == Some(&middle);
    request.decoded().iter().any(is_middle)
}

#[test]
fn exporters_do_not_wait_for_each_other() {
    let registry = Registry::new();
    let mut workload = Workload::new(&registry);
    let (hanging, well) = (Receiver::start(), Receiver::start());
    let letters = Letters::default();
    let deltas = letters
        .attach(pushing(&hanging, DELTA, |otlp| otlp))
        .start(&registry)
        .unwrap();
    let values = pushing(&well, CUMULATIVE, |otlp| otlp)
        .filter(Filter::new().families(|family| family.name() == "law_events_total"))
        .start(&registry)
        .unwrap();
    assert_eq!((deltas.name(), values.name()), ("otlp", "otlp-2"));
    workload.spawn(2);
    delivers(&deltas, 1);
    hanging.always(Behaviour::accept().held());
    hanging.wait_for(|state| state.held == 1);
    let rounds = workload.rounds();
    delivers(&values, 20);
    wait_until("recording", || workload.rounds() > rounds + 100);
    let collections = deltas.stats().collections;
    wait_until("collections", || deltas.stats().collections > collections + 5);
    assert_eq!(hanging.read(|state| state.held), 1);
    hanging.always(Behaviour::accept());
    hanging.release();
    delivers(&deltas, 1);

    let tally = workload.stop();
    for exporter in [&deltas, &values] {
        flushed(exporter);
        exporter.shutdown(PATIENCE).unwrap();
        Scraped::of(&registry, exporter.name()).assert_agrees(&exporter.stats());
        assert_eq!(exporter.stats().possible_duplicate_points, 0);
    }
    hanging.read(|state| Stored::of(&state.requests).assert_increments(&tally, &Default::default()));
    well.read(|state| {
        assert!(state.series.keys().all(|series| series.name == "law_events_total"));
        Stored::of(&state.requests).assert_values(&tally.only("law_events_total"), false);
    });
}

#[test]
fn a_far_end_that_hangs_stops_no_recording_and_no_scrape() {
    let run = Run::start(DELTA);
    run.delivers(1);
    run.receiver.next([Behaviour::accept().held()]);
    run.receiver.wait_for(|state| state.held == 1);
    let before = run.workload.rounds();
    let mut scrapes = 0;
    wait_until("recording", || {
        scrapes += usize::from(!run.workload.registry.scrape(None, None).body().is_empty());
        run.workload.rounds() > before + 1000
    });
    assert!(scrapes > 0);
    run.collects(5);
    assert_eq!(run.receiver.read(|state| state.held), 1);
    run.receiver.release();
    let end = run.finish();
    end.assert_never_unclear();
    end.assert_delivered_is_what_was_confirmed();
}

/// `law_seconds_total` and `law_depth`.
const SERIES_WITHOUT_LABELS: u64 = 2;

/// A file with a token, which goes when the test ends.
struct TokenFile(PathBuf);

impl TokenFile {
    fn new(token: &str) -> TokenFile {
        // Tests run side by side, in one process or several.
        let thread = std::thread::current();
        let name = format!("tidegauge-{}-{:?}", std::process::id(), thread.id());
        let file = TokenFile(std::env::temp_dir().join(name));
        fs::write(&file.0, token).unwrap();
        file
    }

    /// As those do that rotate tokens: whole or not at all.
    fn replace(&self, token: &str) {
        let new = self.0.with_extension("new");
        fs::write(&new, token).unwrap();
        fs::rename(new, &self.0).unwrap();
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
