//! What the crate logs, on standard error. A service has a logger of its own.

use log::{LevelFilter, Log, Metadata, Record};

struct StandardError;

impl Log for StandardError {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("tidegauge")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            eprintln!("{}: {}", record.level(), record.args());
        }
    }

    fn flush(&self) {}
}

/// Writes down, from now on, each change of an exporter's state, and what in its configuration is not supported.
pub fn start() {
    log::set_logger(&StandardError).expect("an example has one logger");
    log::set_max_level(LevelFilter::Info);
}
