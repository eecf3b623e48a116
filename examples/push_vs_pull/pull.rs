//! Counted by the crate, and scraped from its own endpoint at an interval, over one connection that stays open, as Prometheus does.

use crate::{Outcome, Wire, events::Load, metrics::Metrics};
use flate2::read::GzDecoder;
use std::{
    error::Error,
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};
use tidegauge::Registry;

/// What Prometheus asks with.
const REQUEST: &str = "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:9464\r\nUser-Agent: Prometheus/3.0\r\n\
    Accept: application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n\
    Accept-Encoding: gzip\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n";

/// How long a scrape may take.
const PATIENCE: Duration = Duration::from_secs(10);

pub fn run(load: &Load) -> Result<Outcome, Box<dyn Error>> {
    let registry = Registry::new();
    let metrics = Metrics::register(&registry)?;
    let server = tidegauge::serve("127.0.0.1:0", &registry)?;
    let address = server.local_addr().ok_or("a network address was asked for")?;
    let segments = tcp_segments();
    let (done, when_done) = mpsc::channel();
    let interval = load.interval;
    let scraping = thread::spawn(move || {
        let mut scraper = Scraper::connect(address)?;
        loop {
            let waited = when_done.recv_timeout(interval);
            scraper.scrape()?;
            if let Err(RecvTimeoutError::Disconnected) = waited {
                return io::Result::Ok(scraper);
            }
        }
    });
    let busy = load.record(|event| metrics.record(event));
    // Another scrape, the last one, has everything.
    drop::<mpsc::Sender<()>>(done);
    let scraper = scraping.join().expect("a scraper does not panic")?;
    let segments = segments.and_then(|before| Some(tcp_segments()?.saturating_sub(before)));
    server.stop();
    let arrived = events(&scraper.last);
    Ok(Outcome {
        name: "tidegauge, scraped",
        busy,
        sent: scraper.wire,
        received: scraper.wire,
        arrived,
        remarks: vec![format!(
            "scraped: {} scrapes; its packets are the segments of 1,448 bytes that requests and replies fill, without \
             acknowledgements{}",
            scraper.scrapes,
            segments.map_or_else(String::new, |count| format!(
                "; the system counted {count} segments meanwhile on this machine, acknowledgements and other programs included"
            ))
        )],
    })
}

struct Scraper {
    stream: BufReader<TcpStream>,
    scrapes: u32,
    /// Requests and replies, with the headers of as many segments as Ethernet would carry them in.
    wire: Wire,
    last: String,
}

impl Scraper {
    fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Scraper {
            stream: BufReader::new(stream),
            scrapes: 0,
            wire: Wire::default(),
            last: String::new(),
        })
    }

    fn scrape(&mut self) -> io::Result<()> {
        self.stream.get_mut().write_all(REQUEST.as_bytes())?;
        let mut head = String::new();
        let (mut length, mut gzip) = (0, false);
        loop {
            let before = head.len();
            if self.stream.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = head[before..].trim_end().to_ascii_lowercase();
            match line.split_once(": ") {
                Some(("content-length", value)) => length = value.parse().map_err(io::Error::other)?,
                Some(("content-encoding", value)) => gzip = value == "gzip",
                _ if line.is_empty() => break,
                _ => {}
            }
        }
        if !head.starts_with("HTTP/1.1 200 ") {
            return Err(io::Error::other(format!(
                "a scrape was answered {:?}",
                head.lines().next()
            )));
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        self.wire.segments(REQUEST.len());
        self.wire.segments(head.len() + length);
        self.scrapes += 1;
        self.last.clear();
        match gzip {
            true => GzDecoder::new(body.as_slice()).read_to_string(&mut self.last)?,
            false => body.as_slice().read_to_string(&mut self.last)?,
        };
        Ok(())
    }
}

/// How many events an exposition tells of.
fn events(exposition: &str) -> u64 {
    let samples = exposition.lines().filter(|line| {
        line.starts_with("shop_orders_total{") || line.starts_with("shop_order_duration_seconds_count{")
    });
    let values = samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    values.sum::<f64>() as u64
}

/// `InSegs` of the section `Tcp` in `/proc/net/snmp`: each segment on the loopback device arrives here once.
fn tcp_segments() -> Option<u64> {
    let counts = fs::read_to_string("/proc/net/snmp").ok()?;
    let mut lines = counts.lines().filter_map(|line| line.strip_prefix("Tcp:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.find(|(name, _)| *name == "InSegs")?.1.parse().ok()
}
