//! Servers that speak StatsD: what they say they got is what was recorded.

mod collectd;
mod collector;
mod etsy;
mod exporter;
mod reading;
mod servers;
mod sockets;
mod telegraf;
