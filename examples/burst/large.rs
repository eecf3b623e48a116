//! One exporter with a collection of thousands of packets: sent at once, as a loop over them does, and by the exporter, which
//! spreads them over the interval.

use crate::{arguments::Arguments, ends, sink::Received, watched::Watched};
use std::{
    error::Error,
    net::{Ipv4Addr, UdpSocket},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};
use tidegauge::{Answer, Counter, Registry};

pub struct Run {
    pub sent: u64,
    pub received: Received<()>,
    /// From the first packet to the last.
    pub taken: Duration,
}

/// About so many lines are a packet, with label values as long as these.
const LINES: u32 = 10;
const LABEL: usize = 120;

/// Every packet of one collection, one behind the other.
pub fn at_once(arguments: &Arguments) -> Result<Run, Box<dyn Error>> {
    let packets = packets(arguments)?;
    let sink = ends::receiver(arguments.reader)?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(sink.address())?;
    let began = Instant::now();
    for packet in &packets {
        socket.send(packet)?;
    }
    let taken = began.elapsed();
    Ok(Run {
        sent: packets.len() as u64,
        received: sink.finish()?,
        taken,
    })
}

/// The same, left to an exporter.
pub fn paced(arguments: &Arguments) -> Result<Run, Box<dyn Error>> {
    let registry = Registry::new();
    let counters = register(&registry, arguments.packets * LINES)?;
    let sink = ends::receiver(arguments.reader)?;
    let sent = Arc::new(Mutex::new(Vec::new()));
    let noted = sent.clone();
    let destination = Watched::new(ends::statsd(sink.address())?, move |payload| {
        let packet = (Instant::now(), payload.points());
        noted.lock().expect("nobody panics with it").push(packet);
        None
    });
    let sent = || sent.lock().expect("nobody panics with it");
    counters.iter().for_each(Counter::inc);
    let exporter = ends::exporter(destination)
        .interval(arguments.interval)
        .phase(false)
        .jitter(0.0)
        .spread(arguments.interval / 2)
        .start(&registry)?;
    // The first collection has everything, and is sent in the interval after it.
    let deadline = Instant::now() + 4 * arguments.interval + Duration::from_secs(10);
    while sent().iter().map(|(_, points)| points).sum::<usize>() < counters.len() {
        if Instant::now() > deadline {
            return Err(format!("the exporter has not sent everything: {:?}", exporter.stats()).into());
        }
        thread::sleep(Duration::from_millis(100));
    }
    let _ = exporter.shutdown(Duration::ZERO);
    let received = sink.finish()?;
    let sent = sent();
    let taken = match (sent.first(), sent.last()) {
        (Some((first, _)), Some((last, _))) => *last - *first,
        _ => Duration::ZERO,
    };
    Ok(Run {
        sent: sent.len() as u64,
        received,
        taken,
    })
}

/// What the crate makes of a collection, without sending it.
fn packets(arguments: &Arguments) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let registry = Registry::new();
    let counters = register(&registry, arguments.packets * LINES)?;
    counters.iter().for_each(Counter::inc);
    let packets = Arc::new(Mutex::new(Vec::new()));
    let kept = packets.clone();
    let destination = Watched::new(ends::statsd(([127, 0, 0, 1], 8125).into())?, move |payload| {
        kept.lock()
            .expect("nobody panics with it")
            .push(payload.bytes().to_vec());
        Some(Answer::delivered())
    });
    let exporter = ends::exporter(destination).spread(Duration::ZERO).start(&registry)?;
    exporter.flush(Duration::from_secs(60))?;
    let _ = exporter.shutdown(Duration::ZERO);
    Ok(std::mem::take(&mut *packets.lock().expect("nobody panics with it")))
}

fn register(registry: &Registry, series: u32) -> Result<Vec<Counter>, Box<dyn Error>> {
    let jobs = registry
        .counter("burst.jobs", "Jobs done, by queue.")
        .labels(["queue"])
        .limit(series as usize)
        .register()?;
    Ok((0..series)
        .map(|number| jobs.handle([format!("{number:0LABEL$}")]))
        .collect())
}
