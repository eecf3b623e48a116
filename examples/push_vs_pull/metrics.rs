//! The same events as metrics of the crate. Labels are looked up for each event, as an application does that keeps no handles.

use crate::events::{Event, What};
use tidegauge::{Counter, Family, Histogram, RegisterError, Registry};

pub struct Metrics {
    orders: Family<Counter, 1>,
    duration: Family<Histogram, 1>,
}

impl Metrics {
    pub fn register(registry: &Registry) -> Result<Self, RegisterError> {
        Ok(Metrics {
            orders: registry
                .counter("shop.orders", "Orders taken.")
                .labels(["region"])
                .register()?,
            duration: registry
                .histogram("shop.order.duration", "Time to work an order off.")
                .unit("s")
                .labels(["region"])
                .register()?,
        })
    }

    pub fn record(&self, event: Event) {
        match event.what {
            What::Order => self.orders.with([event.region]).inc(),
            What::Done(seconds) => self.duration.with([event.region]).observe(seconds),
        }
    }
}
