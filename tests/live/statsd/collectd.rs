//! collectd with its plugin for StatsD, writing its running totals into files.
//!
//! A counter is an integer there: the plugin keeps a fraction for later, and what it shows is rounded.

use super::reading::{Reading, Server, metric};
use super::sockets::{Kind, listens};
use crate::program::{Folder, Program, installed};
use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::Command;

pub struct Collectd {
    // Dropped in this order: first the server ends, then its folder goes.
    program: Program,
    pub address: SocketAddr,
    folder: Folder,
}

impl Collectd {
    pub fn start() -> Collectd {
        let folder = Folder::create("collectd");
        let configuration = folder.path().join("collectd.conf");
        let path = folder.path().display();
        let text = format!(
            "BaseDir \"{path}\"
PIDFile \"{path}/process\"
PluginDir \"{}\"
TypesDB \"{}\"
Hostname \"test\"
FQDNLookup false
Interval 0.1
LoadPlugin logfile
<Plugin logfile>
  File STDOUT
</Plugin>
LoadPlugin csv
<Plugin csv>
  DataDir \"{path}\"
  StoreRates false
</Plugin>
LoadPlugin statsd
<Plugin statsd>
  Host \"127.0.0.1\"
  Port \"0\"
</Plugin>
",
            installed("collectd-5.12.0/lib").display(),
            installed("collectd-5.12.0/types.db").display(),
        );
        fs::write(&configuration, text).expect("the folder can be written");
        let mut program = Program::start(
            Command::new(installed("collectd-5.12.0/sbin/collectd"))
                .arg("-f")
                .arg("-C")
                .arg(configuration),
        );
        let address = listens(&mut program, Kind::Udp, [127, 0, 0, 1]);
        Collectd {
            program,
            address,
            folder,
        }
    }
}

impl Server for Collectd {
    /// The last line of each metric's file.
    fn read(&mut self) -> Reading {
        let mut reading = Reading::default();
        let files = match fs::read_dir(self.folder.path().join("test/statsd")) {
            Ok(files) => files,
            // Made with the first metric.
            Err(error) if error.kind() == ErrorKind::NotFound => return reading,
            Err(error) => panic!("collectd's folder: {error}"),
        };
        let mut files: Vec<_> = files.map(|file| file.expect("a folder can be listed").path()).collect();
        // The later of two days last.
        files.sort();
        for path in files {
            let text = fs::read_to_string(&path).expect("a file can be read");
            let whole = &text[..text.rfind('\n').unwrap_or(0)];
            // The first line tells what the second column is.
            let Some((_, value)) = whole.lines().skip(1).last().and_then(|line| line.split_once(',')) else {
                continue;
            };
            let file = path
                .file_name()
                .and_then(|name| name.to_str())
                .expect("names are UTF-8");
            let name = &file[..file.len() - "-2026-11-21".len()];
            // It counts since its start and has no value before the second time.
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("{file}: {value} is no number"));
            if let Some(name) = name.strip_prefix("derive-") {
                reading.counters.insert(metric(name, []), value);
            } else if let Some(name) = name.strip_prefix("gauge-") {
                reading.gauges.insert(metric(name, []), value);
            } else {
                panic!("{file} is of a kind that is not read here");
            }
        }
        reading
    }

    fn report(&mut self) -> String {
        self.program.report("receives")
    }
}
