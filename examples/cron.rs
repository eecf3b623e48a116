//! A nightly job, as cron runs it: nobody scrapes it, so it delivers how it went when it ends, to a Pushgateway.
//!
//! If no gateway answers, what it has to say is kept in a directory, and the next run delivers that before its own. The exit
//! status is that of the backup, whatever the gateway does.
//!
//! ```text
//! cargo run --release --example cron
//! cargo run --release --example cron http://127.0.0.1:9091 /var/spool/nightly-backup /home
//! ```

use std::{
    env,
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};
use tidegauge::{Exporter, Job, JobRun, Pushgateway, Registry, Spool};

#[path = "support/logger.rs"]
mod logger;

const JOB: &str = "nightly-backup";

/// What cron waits for after the backup, at most.
const DEADLINE: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn Error>> {
    logger::start();
    let mut arguments = env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "http://127.0.0.1:9091".to_owned());
    let spool = arguments
        .next()
        .map_or_else(|| env::temp_dir().join(JOB), PathBuf::from);
    let folder = arguments.next().map_or_else(|| PathBuf::from("."), PathBuf::from);

    let registry = Registry::new();
    // Not the whole group is replaced but metrics of the same names: a run that fails has no last success, and the
    // gateway keeps the one that it has.
    let gateway = Pushgateway::builder(&url, JOB).replace(false).build()?;
    let job = Job::new(JOB)
        .push_to(Exporter::new(gateway).spool(Spool::new(&spool)))
        .deadline(DEADLINE);
    // Told to end, it says so before it does.
    #[cfg(unix)]
    let job = job.end_on_signals();

    let waited = waiting(&spool);
    let job = job.start(&registry)?;
    // An error that leaves here drops the guard, which says that the run has failed.
    back_up(&job, &folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let report = job.succeed();

    println!("backed up in {:.1?}", report.duration());
    match (report.is_delivered(), waited, waiting(&spool)) {
        (true, 0, _) => println!("{url} has it"),
        (true, ..) => println!("{url} has what waited in {}, and this run", spool.display()),
        (false, _, waits) if waits > 0 => {
            println!("{url} has not got it: it waits in {} for the next run", spool.display())
        }
        (false, ..) => println!("{url} has not got it, and it could not be kept: see the error"),
    }
    Ok(())
}

/// Reads what a backup would copy.
fn back_up(job: &JobRun, folder: &Path) -> io::Result<()> {
    let (files, bytes) = (job.records("files"), job.records("bytes"));
    for entry in fs::read_dir(folder)? {
        let entry = entry?.metadata()?;
        if entry.is_file() {
            files.inc();
            bytes.add(entry.len());
        }
    }
    Ok(())
}

/// How many files of the spool wait to be delivered.
fn waiting(spool: &Path) -> usize {
    let Ok(entries) = fs::read_dir(spool) else { return 0 };
    let is_waiting = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "spool");
    entries.flatten().map(|entry| entry.path()).filter(is_waiting).count()
}
