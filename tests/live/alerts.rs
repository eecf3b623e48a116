//! The alert rules that the README gives, under Prometheus' own test of rules.

use crate::program::{Folder, INSTALL, installed, project};
use std::{fs, process::Command};

/// A minute a sample. The last push of `quiet` comes at minute 9; `stuck` cannot deliver from minute 0 on; `losing` has three
/// kinds of loss.
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
