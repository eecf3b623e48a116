//! The alert rules that the README gives, under Prometheus' own test of rules.

use crate::program::{Folder, INSTALL, installed, project};
use std::{fs, process::Command};

/// A minute a sample, an hour where it is about jobs. The last push of `quiet` comes at minute 9; `stuck` cannot deliver from minute
/// 0 on; what loses something does so in three ways. Of the jobs `fine` succeeds at hours 0, 24 and 48, `failing` and `gone` did at
/// hour 0 alone, and `hopeless` never.
const TESTS: &str = r#"
rule_files: [rules.yaml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - series: tidegauge_uptime_seconds{job="quiet"}
        values: 0+60x9 stale
      - series: tidegauge_uptime_seconds{job="alive"}
        values: 0+60x120
      - series: tidegauge_uptime_seconds{job="restarted"}
        values: 0+60x9 0+60x110
    alert_rule_test:
      - eval_time: 9m
        alertname: ProducerSilent
      - eval_time: 20m
        alertname: ProducerSilent
        exp_alerts:
          - exp_labels: {severity: page, job: quiet}
            exp_annotations: {summary: "no metrics any more from quiet"}
  - interval: 1m
    input_series:
      - series: tidegauge_exporter_oldest_undelivered_age_seconds{job="stuck", exporter="otlp"}
        values: 0+60x30
      - series: tidegauge_exporter_oldest_undelivered_age_seconds{job="slow", exporter="otlp"}
        values: 0 60 120 0 60 0x30
    alert_rule_test:
      - eval_time: 4m
        alertname: PushStuck
      - eval_time: 15m
        alertname: PushStuck
        exp_alerts:
          - exp_labels: {severity: page, job: stuck, exporter: otlp}
            exp_annotations: {summary: "stuck has not delivered to otlp for 15m 0s"}
  - interval: 1m
    input_series:
      - series: tidegauge_exporter_points_total{job="refused", exporter="otlp", outcome="rejected"}
        values: 0x10 5x30
      - series: tidegauge_exporter_points_total{job="fine", exporter="otlp", outcome="delivered"}
        values: 0+100x40
      - series: tidegauge_exporter_points_total{job="fine", exporter="otlp", outcome="carried_over"}
        values: 0+100x40
      - series: tidegauge_exporter_dropped_points_total{job="churning", exporter="otlp", reason="removed_series"}
        values: 0x10 7x30
      - series: tidegauge_exporter_dropped_points_total{job="fine", exporter="otlp", reason="queue_full"}
        values: 0+100x40
      - series: tidegauge_losses_total{job="exploding", reason="past_limit"}
        values: 0x10 9x30
    alert_rule_test:
      - eval_time: 9m
        alertname: MetricsLost
      - eval_time: 12m
        alertname: MetricsLost
        exp_alerts:
          - exp_labels: {severity: ticket, job: refused, exporter: otlp, outcome: rejected}
            exp_annotations: {summary: "refused loses metrics"}
          - exp_labels: {severity: ticket, job: churning, exporter: otlp, reason: removed_series}
            exp_annotations: {summary: "churning loses metrics"}
          - exp_labels: {severity: ticket, job: exploding, reason: past_limit}
            exp_annotations: {summary: "exploding loses metrics"}
      - eval_time: 40m
        alertname: MetricsLost
  - interval: 1h
    input_series:
      - series: batch_job_last_success_timestamp_seconds{job="nightly", batch_job="fine"}
        values: 0x23 86400x23 172800x23
      - series: batch_job_outcome{job="nightly", batch_job="fine", outcome="success"}
        values: 1x71
      - series: batch_job_last_success_timestamp_seconds{job="nightly", batch_job="failing"}
        values: 0x71
      - series: batch_job_outcome{job="nightly", batch_job="failing", outcome="success"}
        values: 1x23 0x47
      - series: batch_job_last_success_timestamp_seconds{job="other", batch_job="gone"}
        values: 0x71
      - series: batch_job_outcome{job="other", batch_job="gone", outcome="success"}
        values: 1x71
      - series: batch_job_outcome{job="new", batch_job="hopeless", outcome="success"}
        values: _x40 0x30
      - series: batch_job_outcome{job="new", batch_job="hopeless", outcome="panic"}
        values: _x40 1x30
    alert_rule_test:
      - eval_time: 25h
        alertname: JobOverdue
      - eval_time: 30h
        alertname: JobOverdue
        exp_alerts:
          - exp_labels: {severity: page, job: nightly, batch_job: failing}
            exp_annotations: {summary: "failing is without a success"}
          - exp_labels: {severity: page, job: other, batch_job: gone}
            exp_annotations: {summary: "gone is without a success"}
      - eval_time: 60h
        alertname: JobOverdue
        exp_alerts:
          - exp_labels: {severity: page, job: nightly, batch_job: failing}
            exp_annotations: {summary: "failing is without a success"}
          - exp_labels: {severity: page, job: other, batch_job: gone}
            exp_annotations: {summary: "gone is without a success"}
          - exp_labels: {severity: page, job: new, batch_job: hopeless, outcome: success}
            exp_annotations: {summary: "hopeless is without a success"}
  - interval: 1m
    input_series:
      - series: push_time_seconds{job="fine", instance=""}
        values: 60+60x30
      - series: push_failure_time_seconds{job="fine", instance=""}
        values: 0x30
      - series: push_time_seconds{job="again", instance=""}
        values: 60x9 600x20
      - series: push_failure_time_seconds{job="again", instance=""}
        values: 0x4 300x25
      - series: push_time_seconds{job="never", instance=""}
        values: 0x30
      - series: push_failure_time_seconds{job="never", instance=""}
        values: _x14 900x15
    alert_rule_test:
      - eval_time: 4m
        alertname: PushRefused
      - eval_time: 7m
        alertname: PushRefused
        exp_alerts:
          - exp_labels: {severity: page, job: again}
            exp_annotations: {summary: "the gateway refuses what again pushes"}
      - eval_time: 20m
        alertname: PushRefused
        exp_alerts:
          - exp_labels: {severity: page, job: never}
            exp_annotations: {summary: "the gateway refuses what never pushes"}
"#;

#[test]
#[ignore = "needs promtool"]
fn the_readme_s_alerts_fire_when_they_should_and_not_else() {
    let readme = fs::read_to_string(project().join("README.md")).expect("the README is there");
    let rules = readme
        .split("```yaml\n")
        .filter_map(|block| block.split("```").next())
        .find(|block| block.starts_with("groups:"))
        .expect("the README has alert rules");
    let folder = Folder::create("alerts");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("the folder can be written");
    write("rules.yaml", rules);
    write("tests.yaml", TESTS);
    let output = Command::new(installed("prometheus-3.15.0/promtool"))
        .args(["test", "rules", "tests.yaml"])
        .current_dir(folder.path())
        .output()
        .unwrap_or_else(|error| panic!("promtool does not start: {error}; {INSTALL}"));
    let words = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
}
