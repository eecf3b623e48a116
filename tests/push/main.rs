//! Push, against a far end of the tests' own that misbehaves on demand. `tests/live` has the real servers.

mod behaviour;
mod http;
mod json;
mod points;
mod receiver;
mod requests;
mod support;
