//! Which machine something was measured on, in a line.

use std::{env::consts, fs, thread};

/// Cores, processor and system, as far as they are known.
pub fn describe() -> String {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = processors.lines().find_map(|line| {
        let (_, name) = line.strip_prefix("model name")?.split_once(':')?;
        Some(name.trim().to_owned())
    });
    let name = name.unwrap_or_else(|| consts::ARCH.to_owned());
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.split('-').next().unwrap_or_default().trim();
    let virtual_ = processors.split_whitespace().any(|flag| flag == "hypervisor");
    let virtual_ = if virtual_ { " (virtual)" } else { "" };
    format!("{cores} cores of {name}{virtual_}, {} {release}", consts::OS)
}
