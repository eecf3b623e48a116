//! Who sends: the attributes of the resource (<https://opentelemetry.io/docs/specs/otel/resource/sdk/>), with a name
//! for this very process, so that no two ever write to one series.

use crate::platform;
use std::{
    env,
    hash::{BuildHasher, RandomState},
    path::Path,
    process,
    time::SystemTime,
};

/// The attributes of the resource.
pub(super) struct Resource {
    attributes: Vec<(String, String)>,
    /// Whether the instance id is random. One that was given stays.
    random_id: bool,
    /// Of the process that it was made in.
    generation: u64,
}

/// A key that only a service has.
pub(super) const SERVICE_NAME: &str = "service.name";

/// A key that differs from process to process.
pub(super) const SERVICE_INSTANCE_ID: &str = "service.instance.id";

impl Resource {
    /// What is there anyway, replaced and completed by what is given: of two values of one key, the later one counts.
    pub(super) fn new(given: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut resource = Resource {
            attributes: Vec::new(),
            random_id: false,
            generation: platform::generation(),
        };
        let library = [
            (SERVICE_NAME, default_service_name()),
            ("telemetry.sdk.language", "rust".to_owned()),
            ("telemetry.sdk.name", env!("CARGO_PKG_NAME").to_owned()),
            ("telemetry.sdk.version", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        let library = library.map(|(key, value)| (key.to_owned(), value));
        for (key, value) in library.into_iter().chain(given) {
            resource.put(key, value);
        }
        if !resource.attributes.iter().any(|(key, _)| key == SERVICE_INSTANCE_ID) {
            resource.random_id = true;
            resource.put(SERVICE_INSTANCE_ID.to_owned(), random_uuid());
        }
        resource
    }

    /// Keys and values, each key once.
    pub(super) fn attributes(&self) -> &[(String, String)] {
        &self.attributes
    }

    /// Whether this process was forked from the one in which it was last asked. If so, the instance id is a new one.
    pub(super) fn renew(&mut self) -> bool {
        let generation = platform::generation();
        let forked = self.generation != generation;
        self.generation = generation;
        if forked && self.random_id {
            self.put(SERVICE_INSTANCE_ID.to_owned(), random_uuid());
        }
        forked
    }

    /// Makes it look as if it had been made in a process that this one was forked from.
    #[cfg(test)]
    pub(super) fn forget_process(&mut self) {
        self.generation = platform::generation().wrapping_sub(1);
    }

    fn put(&mut self, key: String, value: String) {
        match self.attributes.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => *known = value,
            None => self.attributes.push((key, value)),
        }
    }
}

/// What the specification has for a service that was not given a name:
/// <https://opentelemetry.io/docs/specs/semconv/resource/#service>.
fn default_service_name() -> String {
    let executable = env::current_exe().ok();
    let name = executable.as_deref().and_then(Path::file_name);
    match name {
        Some(name) => format!("unknown_service:{}", name.to_string_lossy()),
        None => "unknown_service".to_owned(),
    }
}

/// A random UUID, version 4 (<https://www.rfc-editor.org/rfc/rfc9562#section-5.4>).
fn random_uuid() -> String {
    // The keys of the hashers come from the operating system. A forked process has its parent's, so who it is and when
    // goes in as well.
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let half = |half: u8| RandomState::new().hash_one((half, process::id(), now));
    let (high, low) = (half(0), half(1));
    let version = high & !0xF000 | 0x4000;
    let variant = low >> 2 | 1 << 63;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        version >> 32,
        version >> 16 & 0xFFFF,
        version & 0xFFFF,
        variant >> 48,
        variant & 0xFFFF_FFFF_FFFF
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(resource: &'a Resource, key: &str) -> &'a str {
        let mut found = resource.attributes().iter().filter(|(known, _)| known == key);
        let (_, value) = found.next().unwrap_or_else(|| panic!("there is no {key}"));
        assert!(found.next().is_none(), "{key} is there twice");
        value
    }

    fn given(attributes: &[(&str, &str)]) -> Resource {
        Resource::new(
            attributes
                .iter()
                .map(|(key, value)| (key.to_string(), value.to_string())),
        )
    }

    #[test]
    fn a_resource_says_what_is_there_anyway_and_the_last_word_counts() {
        let resource = given(&[]);
        assert!(value(&resource, "service.name").starts_with("unknown_service:"));
        assert_eq!(value(&resource, "telemetry.sdk.name"), "tidegauge");
        assert_eq!(value(&resource, "telemetry.sdk.language"), "rust");

        let resource = given(&[("service.name", "a"), ("region", "eu"), ("service.name", "b")]);
        assert_eq!(value(&resource, "service.name"), "b");
        assert_eq!(value(&resource, "region"), "eu");
    }

    #[test]
    fn an_instance_id_is_random_and_new_in_a_forked_process() {
        let mut resource = given(&[]);
        let first = value(&resource, "service.instance.id").to_owned();
        assert!(!resource.renew());
        assert_eq!(value(&resource, "service.instance.id"), first);

        resource.forget_process();
        assert!(resource.renew() && !resource.renew());
        let second = value(&resource, "service.instance.id").to_owned();
        assert_ne!(first, second);
        assert_ne!(value(&given(&[]), "service.instance.id"), second);
        for id in [first, second] {
            let parts: Vec<&str> = id.split('-').collect();
            assert_eq!(
                parts.iter().map(|part| part.len()).collect::<Vec<_>>(),
                [8, 4, 4, 4, 12],
                "{id}"
            );
            assert!(parts.concat().bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
            assert!(
                parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'a', 'b']),
                "{id}"
            );
        }
    }

    #[test]
    fn an_instance_id_that_was_given_stays() {
        let mut resource = given(&[("service.instance.id", "pod-7")]);
        resource.forget_process();
        assert!(resource.renew());
        assert_eq!(value(&resource, "service.instance.id"), "pod-7");
    }
}
