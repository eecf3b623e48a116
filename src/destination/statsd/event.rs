//! What DogStatsD takes besides metrics, as an application says it: events and service checks
//! (<https://docs.datadoghq.com/developers/dogstatsd/datagram_shell/>). Their lines are in `encode/statsd/message.rs`.

use crate::encode::statsd::message::{CheckFields, EventFields};
use std::time::{SystemTime, UNIX_EPOCH};

/// Something that happened, for Datadog's event explorer; sent by [`Messages::event`](crate::Messages::event).
///
/// Line breaks in its text stay. Elsewhere, what would end a line, a field or a tag becomes an underscore.
///
/// ```
/// use tidegauge::{AlertType, Event};
///
/// let event = Event::new("Deployed", "Version 1.2 is out.\nAll is well.")
///     .alert(AlertType::Success)
///     .tag("service", "shop");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    title: String,
    text: String,
    time: Option<u64>,
    host: Option<String>,
    aggregation_key: Option<String>,
    source: Option<String>,
    priority: EventPriority,
    alert: AlertType,
    tags: Vec<(String, String)>,
}

/// How much an event matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventPriority {
    /// As most. The default.
    #[default]
    Normal,
    /// Less.
    Low,
}

/// What kind of news an event is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AlertType {
    /// Neither good nor bad. The default.
    #[default]
    Info,
    /// Good.
    Success,
    /// Something may be wrong.
    Warning,
    /// Something is.
    Error,
}

/// The state of something that the application depends on; sent by [`Messages::service_check`](crate::Messages::service_check).
///
/// ```
/// use tidegauge::{ServiceCheck, ServiceStatus};
///
/// let check = ServiceCheck::new("shop.database", ServiceStatus::Critical)
///     .message("no connection for 30 s")
///     .tag("shard", "7");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceCheck {
    name: String,
    status: ServiceStatus,
    time: Option<u64>,
    host: Option<String>,
    message: Option<String>,
    tags: Vec<(String, String)>,
}

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServiceStatus {
    /// It works.
    Ok,
    /// It works, and may not for long.
    Warning,
    /// It does not work.
    Critical,
    /// Nobody can tell.
    Unknown,
}

impl Event {
    /// An event of normal priority and without tags of its own, that happens when the Agent receives it. Without a title it is
    /// dropped.
    pub fn new(title: impl Into<String>, text: impl Into<String>) -> Self {
        Event {
            title: title.into(),
            text: text.into(),
            time: None,
            host: None,
            aggregation_key: None,
            source: None,
            priority: EventPriority::default(),
            alert: AlertType::default(),
            tags: Vec::new(),
        }
    }

    /// When it happened, in whole seconds; by default when the Agent receives it. A time before 1970 is taken for none.
    pub fn time(mut self, time: SystemTime) -> Self {
        self.time = seconds(time);
        self
    }

    /// The host it happened on, by default the Agent's.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Events of the same key are shown as one; by default each for itself.
    pub fn aggregation_key(mut self, key: impl Into<String>) -> Self {
        self.aggregation_key = Some(key.into());
        self
    }

    /// The kind of source it comes from, one of those that Datadog knows; by default none.
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// How much it matters, by default as most.
    pub fn priority(mut self, priority: EventPriority) -> Self {
        self.priority = priority;
        self
    }

    /// What kind of news it is, by default information.
    pub fn alert(mut self, alert: AlertType) -> Self {
        self.alert = alert;
        self
    }

    /// A tag of this event, besides the destination's own.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.push((key.into(), value.into()));
        self
    }

    pub(super) fn fields(&self) -> EventFields<'_> {
        EventFields {
            title: &self.title,
            text: &self.text,
            timestamp: self.time,
            hostname: self.host.as_deref(),
            aggregation_key: self.aggregation_key.as_deref(),
            // What is so by default is not said.
            priority: match self.priority {
                EventPriority::Normal => None,
                EventPriority::Low => Some("low"),
            },
            source: self.source.as_deref(),
            alert: match self.alert {
                AlertType::Info => None,
                AlertType::Success => Some("success"),
                AlertType::Warning => Some("warning"),
                AlertType::Error => Some("error"),
            },
            tags: &self.tags,
        }
    }
}

impl ServiceCheck {
    /// A check of this name, at the time at which the Agent receives it. Without a name it is dropped.
    pub fn new(name: impl Into<String>, status: ServiceStatus) -> Self {
        ServiceCheck {
            name: name.into(),
            status,
            time: None,
            host: None,
            message: None,
            tags: Vec::new(),
        }
    }

    /// When it was so, in whole seconds; by default when the Agent receives it. A time before 1970 is taken for none.
    pub fn time(mut self, time: SystemTime) -> Self {
        self.time = seconds(time);
        self
    }

    /// The host it is so on, by default the Agent's.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Why it is so, by default nothing. A vertical bar in it becomes an underscore.
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// A tag of this check, besides the destination's own.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.push((key.into(), value.into()));
        self
    }

    pub(super) fn fields(&self) -> CheckFields<'_> {
        CheckFields {
            name: &self.name,
            status: match self.status {
                ServiceStatus::Ok => 0,
                ServiceStatus::Warning => 1,
                ServiceStatus::Critical => 2,
                ServiceStatus::Unknown => 3,
            },
            timestamp: self.time,
            hostname: self.host.as_deref(),
            tags: &self.tags,
            message: self.message.as_deref(),
        }
    }
}

fn seconds(time: SystemTime) -> Option<u64> {
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_so_by_default_is_not_said() {
        let event = Event::new("a", "b");
        let fields = event.fields();
        assert_eq!((fields.title, fields.text), ("a", "b"));
        assert_eq!((fields.priority, fields.alert, fields.timestamp), (None, None, None));
        let normal = Event::new("a", "b")
            .priority(EventPriority::Normal)
            .alert(AlertType::Info);
        assert_eq!(normal, event);
    }

    #[test]
    fn all_that_is_said_is_in_its_field() {
        let time = UNIX_EPOCH + Duration::from_millis(1_700_000_000_900);
        let event = Event::new("title", "text")
            .time(time)
            .host("h")
            .aggregation_key("k")
            .source("s")
            .priority(EventPriority::Low)
            .alert(AlertType::Error)
            .tag("a", "b");
        let fields = event.fields();
        assert_eq!(fields.timestamp, Some(1_700_000_000));
        let texts = [
            fields.hostname,
            fields.aggregation_key,
            fields.source,
            fields.priority,
            fields.alert,
        ];
        assert_eq!(texts.map(Option::unwrap), ["h", "k", "s", "low", "error"]);
        assert_eq!(fields.tags, [("a".to_owned(), "b".to_owned())]);
        for (alert, word) in [(AlertType::Success, "success"), (AlertType::Warning, "warning")] {
            assert_eq!(Event::new("", "").alert(alert).fields().alert, Some(word));
        }

        let check = ServiceCheck::new("n", ServiceStatus::Unknown)
            .time(time)
            .host("h")
            .message("m")
            .tag("a", "b");
        let fields = check.fields();
        assert_eq!(
            (fields.name, fields.status, fields.timestamp),
            ("n", 3, Some(1_700_000_000))
        );
        assert_eq!(
            (fields.hostname, fields.message, fields.tags.len()),
            (Some("h"), Some("m"), 1)
        );
        let statuses = [ServiceStatus::Ok, ServiceStatus::Warning, ServiceStatus::Critical];
        assert_eq!(
            statuses.map(|status| ServiceCheck::new("", status).fields().status),
            [0, 1, 2]
        );
        let before = ServiceCheck::new("n", ServiceStatus::Ok).time(UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(before.fields().timestamp, None);
    }
}
