//! One UDP packet for each event, as a client does that formats a line and sends it, and looks no further.

use crate::{
    Outcome, Wire,
    events::{Load, What},
    lines::Arrived,
    sink::Sink,
};
use std::{
    io,
    net::{Ipv4Addr, UdpSocket},
};

pub fn run(load: &Load) -> io::Result<Outcome> {
    let sink = Sink::start(Arrived::default(), Arrived::take)?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(sink.address())?;
    let mut sent = Wire::default();
    let mut refused = 0;
    let busy = load.record(|event| {
        let region = event.region;
        let line = match event.what {
            What::Order => format!("shop.orders:1|c|#region:{region}"),
            What::Done(seconds) => format!("shop.order.duration:{:.3}|ms|#region:{region}", seconds * 1000.0),
        };
        match socket.send(line.as_bytes()) {
            Ok(bytes) => sent.datagram(bytes),
            Err(_) => refused += 1,
        }
    });
    let received = sink.finish()?;
    let mut remarks = vec![format!("naive: {}", received.losses())];
    if refused > 0 {
        remarks.push(format!("naive: the system refused to send {refused} packets"));
    }
    Ok(Outcome {
        name: "a packet an event",
        busy,
        sent,
        received: Wire::datagrams(received.packets, received.bytes),
        arrived: received.state.events(),
        remarks,
    })
}
