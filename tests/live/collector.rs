//! A real OpenTelemetry Collector that receives OTLP over HTTP on a loopback port and writes down what it got.

use crate::json;
use crate::points::{Point, points};
use crate::program::{Folder, PATIENCE, Program, installed, word_after};
use crate::receiver::own_address;
use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

/// What a Collector is told beyond where to listen and where to write. Each component is a line of YAML,
/// `name: {its: settings}`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Further settings of the receiver's server.
    pub http: &'static [&'static str],
    /// Between the receiver and the file, in this order.
    pub processors: &'static [&'static str],
    pub extensions: &'static [&'static str],
    /// Passes everything on there, in place of writing it down: one request at a time, while one more may wait.
    pub far_end: Option<SocketAddr>,
}

/// It answers a request once it has written it down, so that even when it is killed, all that it acknowledged can be
/// read. That does not hold if there is a processor that keeps what it gets, such as `batch`.
pub struct Collector {
    settings: Settings,
    // Dropped in this order: first the server ends, then its folder goes.
    program: Option<Program>,
    address: SocketAddr,
    /// How often it was started. Each time it writes a file of its own, because a killed one may have written a part of
    /// a line.
    starts: usize,
    folder: Folder,
}

impl Collector {
    /// Starts it on a port that the system picks, of an address of its own: nobody else gets the port while it does not run.
    pub fn start(settings: Settings) -> Collector {
        Collector::start_at(own_address(), Folder::create("collector"), settings)
    }

    /// Starts it on a port that the system picks, in a folder that has the files which the settings name. Certificates are for the
    /// usual address.
    pub fn start_in(folder: Folder, settings: Settings) -> Collector {
        Collector::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), folder, settings)
    }

    fn start_at(address: SocketAddr, folder: Folder, settings: Settings) -> Collector {
        let mut collector = Collector {
            settings,
            program: None,
            address,
            starts: 0,
            folder,
        };
        collector.start_again();
        collector
    }

    /// Starts it on the port that it had, after [`stop`](Collector::stop) or [`kill`](Collector::kill).
    pub fn start_again(&mut self) {
        assert!(self.program.is_none(), "the Collector runs");
        self.starts += 1;
        let configuration = self.folder.path().join("collector.yml");
        fs::write(&configuration, self.configure()).expect("the folder can be written");
        let mut program = Program::start(
            Command::new(installed("collector-0.162.0/otelcol"))
                .arg("--config")
                .arg(configuration)
                .current_dir(self.folder.path()),
        );
        // Its own log says where it listens, so nobody else on that port can be taken for it.
        let mut address = None::<SocketAddr>;
        let address = program.wait_for_line(PATIENCE, |line| {
            if line.contains("Starting HTTP server") {
                let word = word_after(line, r#""endpoint": ""#)?;
                address = word.trim_end_matches(['"', '}', ',']).parse().ok();
            }
            address.filter(|_| line.contains("Everything is ready"))
        });
        self.address = address.unwrap_or_else(|error| panic!("{error}"));
        self.program = Some(program);
    }

    /// Starts it on the port that it had, after it was stopped, with other settings.
    pub fn start_again_with(&mut self, settings: Settings) {
        self.settings = settings;
        self.start_again();
    }

    /// The folder that it runs in.
    #[cfg(feature = "tls")]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where to post metrics.
    pub fn url(&self) -> String {
        format!("http://{}/v1/metrics", self.address)
    }

    /// Ends it in order: processors pass on what they kept.
    pub fn stop(&mut self) {
        let mut program = self.program.take().expect("the Collector runs");
        program.interrupt();
        let status = program.wait_for_end().unwrap_or_else(|error| panic!("{error}"));
        assert!(status.success(), "{}", program.report(&format!("ended with {status}")));
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        drop(self.program.take().expect("the Collector runs"));
    }

    /// Every point that it has written down, in the order of their coming, from all its runs.
    pub fn points(&self) -> Vec<Point> {
        let mut all = Vec::new();
        for run in 1..=self.starts {
            let text = match fs::read_to_string(self.file(run)) {
                Ok(text) => text,
                // Written with the first request.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => panic!("the Collector's file: {error}"),
            };
            // A line without its end is being written, or was when it was killed: it is not acknowledged.
            let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
            for line in whole.lines() {
                let read = json::request(line.as_bytes()).and_then(|request| points(&request));
                all.extend(read.unwrap_or_else(|error| panic!("the Collector wrote {line}: {error}")));
            }
        }
        all
    }

    fn file(&self, run: usize) -> PathBuf {
        self.folder.path().join(format!("points-{run}.json"))
    }

    fn configure(&self) -> String {
        let Settings {
            http,
            processors,
            extensions,
            far_end,
        } = self.settings;
        let mut lines = vec![
            "receivers:".to_string(),
            "  otlp:".to_string(),
            "    protocols:".to_string(),
            "      http:".to_string(),
            format!("        endpoint: {}", self.address),
        ];
        lines.extend(http.iter().map(|line| format!("        {line}")));
        lines.push("exporters:".to_string());
        let exporter = match far_end {
            None => {
                lines.extend([
                    "  file:".to_string(),
                    format!("    path: '{}'", self.file(self.starts).display()),
                    // With rotation, even if it never comes to it, nothing is buffered.
                    "    rotation: {max_megabytes: 1000000}".to_string(),
                ]);
                "file"
            }
            Some(address) => {
                lines.extend([
                    "  otlp_http:".to_string(),
                    format!("    endpoint: http://{address}"),
                    "    sending_queue: {queue_size: 1, num_consumers: 1, block_on_overflow: false}".to_string(),
                ]);
                "otlp_http"
            }
        };
        for (section, components) in [("processors:", processors), ("extensions:", extensions)] {
            if !components.is_empty() {
                lines.push(section.to_string());
                lines.extend(components.iter().map(|line| format!("  {line}")));
            }
        }
        lines.extend([
            "service:".to_string(),
            // Its own metrics would be served on a fixed port.
            "  telemetry: {metrics: {level: none}}".to_string(),
            format!("  extensions: [{}]", names(extensions)),
            "  pipelines:".to_string(),
            format!(
                "    metrics: {{receivers: [otlp], processors: [{}], exporters: [{exporter}]}}",
                names(processors)
            ),
        ]);
        lines.join("\n") + "\n"
    }
}

fn names(components: &[&str]) -> String {
    let names: Vec<&str> = components
        .iter()
        .map(|line| line.split_once(": ").map_or(*line, |(name, _)| name))
        .collect();
    names.join(", ")
}
