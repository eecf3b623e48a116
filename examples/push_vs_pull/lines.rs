//! What a StatsD server makes of packets: how many events its lines stand for.

use std::str;

/// What has come, by packets.
#[derive(Clone, Copy, Default)]
pub struct Arrived {
    /// By counters, times what one line stands for.
    counted: f64,
    /// By samples of a duration, times what one stands for.
    timed: f64,
    pub unreadable: u64,
}

impl Arrived {
    /// How many events the lines about orders stand for.
    pub fn events(&self) -> u64 {
        // Rates such as 0.001 are not exact in binary; the events are whole.
        (self.counted + self.timed).round() as u64
    }

    /// Reads a packet.
    pub fn take(&mut self, packet: &[u8]) {
        let Ok(packet) = str::from_utf8(packet) else {
            self.unreadable += 1;
            return;
        };
        for line in packet.lines() {
            match Line::parse(line) {
                Some(line) if line.name == "shop.orders" => self.counted += line.values.0 * line.weight,
                Some(line) if line.name == "shop.order.duration" => self.timed += line.values.1 * line.weight,
                Some(_) => {}
                None => self.unreadable += 1,
            }
        }
    }
}

struct Line<'a> {
    name: &'a str,
    /// What all values come to, and how many there are.
    values: (f64, f64),
    /// For how many each stands.
    weight: f64,
}

impl<'a> Line<'a> {
    /// `name:value[:value...]|type[|@rate][|...]`.
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split('|');
        let (name, values) = fields.next()?.split_once(':')?;
        let _type = fields.next()?;
        let mut sum = (0.0, 0.0);
        for value in values.split(':') {
            sum.0 += value.parse::<f64>().ok()?;
            sum.1 += 1.0;
        }
        let rate = match fields.find_map(|field| field.strip_prefix('@')) {
            Some(rate) => rate
                .parse()
                .ok()
                .filter(|rate| (f64::MIN_POSITIVE..=1.0).contains(rate))?,
            None => 1.0,
        };
        Some(Line {
            name,
            values: sum,
            weight: 1.0 / rate,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stands_for_its_value_or_its_samples_times_its_weight() {
        let mut arrived = Arrived::default();
        arrived.take(
            b"shop.orders:7|c|#region:asia\nshop.order.duration:1.5:2.5|ms|@0.001|#region:asia\nother:1|c\n\
              shop.order.duration:3|ms\n",
        );
        assert_eq!((arrived.events(), arrived.unreadable), (7 + 2000 + 1, 0));
    }

    #[test]
    fn what_is_no_line_is_counted() {
        let mut arrived = Arrived::default();
        for packet in [
            "shop.orders",
            "shop.orders:x|c",
            "shop.orders:1",
            "shop.orders:1|c|@0",
            "shop.orders:1|c|@2",
        ] {
            arrived.take(packet.as_bytes());
        }
        arrived.take(&[0xFF]);
        assert_eq!((arrived.events(), arrived.unreadable), (0, 6));
    }
}
