//! Push, against a far end of the tests' own that misbehaves on demand. `tests/live` has the real servers.

mod behaviour;
mod faults;
mod http;
mod json;
mod law;
mod networks;
mod points;
mod receiver;
mod requests;
mod support;
mod workload;
