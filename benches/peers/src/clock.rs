//! Times that tell a thread's own work from that of others on the machine.

use std::time::Duration;

/// How long the calling thread has been on a core since it began.
pub fn time_on_core() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// How long the calling thread could have run but had to wait for a core; zero where the system
/// does not say.
pub fn time_waiting_for_core() -> Duration {
    let counted = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = counted.split(' ').nth(1).and_then(|field| field.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

/// How long the threads of this process have been on a core whose names begin so; zero where the system does not say. The system
/// keeps the first 15 characters of a name.
pub fn time_on_core_of(name: &str) -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanoseconds = threads.filter_map(|thread| {
        let read = |file| std::fs::read_to_string(thread.path().join(file)).ok();
        let counted = read("schedstat").filter(|_| read("comm").is_some_and(|comm| comm.starts_with(name)))?;
        counted.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}
