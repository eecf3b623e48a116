//! What the receiver does with one request: what it stores, what it answers, how, and how it ends.

use crate::requests::Encoding;
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse};
use prost::Message;
use serde_json::json;
use std::time::Duration;

/// Made by one of the functions that return it, then changed by the methods that take it.
#[derive(Clone, Debug)]
pub struct Behaviour {
    pub(crate) read: bool,
    pub(crate) store: bool,
    /// How many points at the front of the request are not stored.
    pub(crate) rejected: usize,
    pub(crate) pause: Pause,
    reply: Reply,
    pub(crate) pace: Option<Duration>,
    pub(crate) end: End,
}

impl Behaviour {
    /// Stores all points and answers that.
    pub fn accept() -> Behaviour {
        Behaviour::reject(0, "")
    }

    /// Stores all but the first `rejected` points of the request, and answers 200 with that number and `message`.
    pub fn reject(rejected: usize, message: &str) -> Behaviour {
        Behaviour {
            store: true,
            rejected,
            ..Behaviour::http(200, Body::Success(message.to_string()))
        }
    }

    /// Stores nothing and answers with that status and no body.
    pub fn answer(status: u16) -> Behaviour {
        Behaviour::http(status, Body::Bytes(Vec::new()))
    }

    /// Stores nothing, answers with these bytes, which need not be HTTP, and closes the connection.
    pub fn babble(bytes: impl Into<Vec<u8>>) -> Behaviour {
        Behaviour {
            reply: Reply::Bytes(bytes.into()),
            end: End::Close,
            ..Behaviour::answer(200)
        }
    }

    /// Stores nothing and answers 200 with a body of one byte more than the `bytes` that ever come. Then it holds the
    /// connection until it is told to go on, and resets it.
    pub fn endless(bytes: usize) -> Behaviour {
        Behaviour {
            end: End::Hang,
            ..Behaviour::http(200, Body::Unfinished(bytes))
        }
    }

    /// Resets the connection as soon as the request begins to come. This is not recorded as a request.
    pub fn reset_unread() -> Behaviour {
        Behaviour {
            read: false,
            ..Behaviour::answer(200)
        }
    }

    /// Stores all points, whatever it answers.
    pub fn storing(self) -> Behaviour {
        Behaviour { store: true, ..self }
    }

    /// Adds a header to the reply. Content-Length is there anyway.
    pub fn header(mut self, name: &str, value: &str) -> Behaviour {
        let Reply::Http { headers, .. } = &mut self.reply else {
            panic!("a reply that is no HTTP has no headers");
        };
        headers.push((name.to_string(), value.to_string()));
        self
    }

    /// Answers with this body.
    pub fn body(self, content_type: &str, bytes: impl Into<Vec<u8>>) -> Behaviour {
        self.with(Body::Bytes(bytes.into()))
            .header("Content-Type", content_type)
    }

    /// Answers with a `google.rpc.Status` in the request's encoding.
    pub fn status_body(self, code: i32, message: &str) -> Behaviour {
        self.with(Body::Status(code, message.to_string()))
    }

    /// Waits with the reply until it is told to go on.
    pub fn held(self) -> Behaviour {
        Behaviour {
            pause: Pause::UntilReleased,
            ..self
        }
    }

    /// Waits so long with the reply, or until it is told to go on.
    pub fn slow(self, pause: Duration) -> Behaviour {
        Behaviour {
            pause: Pause::For(pause),
            ..self
        }
    }

    /// Pauses so long after each byte of the reply. Told to go on, it sends the rest at once.
    pub fn dribbled(self, pace: Duration) -> Behaviour {
        Behaviour {
            pace: Some(pace),
            ..self
        }
    }

    /// Resets the connection once so many bytes of the reply are sent. They may be none.
    pub fn reset_after(self, bytes: usize) -> Behaviour {
        Behaviour {
            end: End::ResetAfter(bytes),
            ..self
        }
    }

    /// Closes the connection after the reply, and says so in it.
    pub fn closing(self) -> Behaviour {
        Behaviour {
            end: End::Close,
            ..self
        }
        .header("Connection", "close")
    }

    /// The status of the reply, if it is HTTP.
    pub(crate) fn status(&self) -> Option<u16> {
        match self.reply {
            Reply::Http { status, .. } => Some(status),
            Reply::Bytes(_) => None,
        }
    }

    /// The reply's bytes, head and body, to a request in `encoding` of whose points `rejected` were not stored.
    pub(crate) fn reply(&self, encoding: Encoding, rejected: usize) -> Vec<u8> {
        let (status, headers, body) = match &self.reply {
            Reply::Http { status, headers, body } => (status, headers, body),
            Reply::Bytes(bytes) => return bytes.clone(),
        };
        let mut reply = format!("HTTP/1.1 {status} Status\r\n");
        for (name, value) in headers {
            reply += &format!("{name}: {value}\r\n");
        }
        let (own_type, bytes, more) = match body {
            Body::Success(message) => (true, success(encoding, rejected, message), 0),
            Body::Status(code, message) => (true, rpc_status(encoding, *code, message), 0),
            Body::Bytes(bytes) => (false, bytes.clone(), 0),
            Body::Unfinished(bytes) => (true, vec![b' '; *bytes], 1),
        };
        if own_type {
            reply += &format!("Content-Type: {}\r\n", encoding.content_type());
        }
        reply += &format!("Content-Length: {}\r\n\r\n", bytes.len() + more);
        [reply.into_bytes(), bytes].concat()
    }

    fn http(status: u16, body: Body) -> Behaviour {
        Behaviour {
            read: true,
            store: false,
            rejected: 0,
            pause: Pause::None,
            reply: Reply::Http {
                status,
                headers: Vec::new(),
                body,
            },
            pace: None,
            end: End::Keep,
        }
    }

    fn with(mut self, new: Body) -> Behaviour {
        let Reply::Http { body, .. } = &mut self.reply else {
            panic!("a reply that is no HTTP has no body");
        };
        *body = new;
        self
    }
}

/// Before the reply.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pause {
    None,
    UntilReleased,
    For(Duration),
}

/// After the reply.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// The connection waits for another request.
    Keep,
    Close,
    ResetAfter(usize),
    /// Nothing until it is told to go on, then a reset.
    Hang,
}

#[derive(Clone, Debug)]
enum Reply {
    Http {
        status: u16,
        headers: Vec<(String, String)>,
        body: Body,
    },
    Bytes(Vec<u8>),
}

#[derive(Clone, Debug)]
enum Body {
    /// With a message if it is not empty.
    Success(String),
    Status(i32, String),
    Bytes(Vec<u8>),
    /// So many bytes of one more.
    Unfinished(usize),
}

/// As a Collector writes it: with an empty partial success where nothing was rejected.
fn success(encoding: Encoding, rejected: usize, message: &str) -> Vec<u8> {
    match encoding {
        Encoding::Protobuf => ExportMetricsServiceResponse {
            partial_success: Some(ExportMetricsPartialSuccess {
                rejected_data_points: i64::try_from(rejected).expect("points fit into memory"),
                error_message: message.to_string(),
            }),
        }
        .encode_to_vec(),
        Encoding::Json if rejected == 0 && message.is_empty() => br#"{"partialSuccess":{}}"#.to_vec(),
        Encoding::Json => json!({
            "partialSuccess": {"rejectedDataPoints": rejected.to_string(), "errorMessage": message}
        })
        .to_string()
        .into_bytes(),
    }
}

/// `google.rpc.Status` of <https://github.com/googleapis/googleapis/blob/master/google/rpc/status.proto>.
fn rpc_status(encoding: Encoding, code: i32, message: &str) -> Vec<u8> {
    match encoding {
        Encoding::Protobuf => RpcStatus {
            code,
            message: message.to_string(),
        }
        .encode_to_vec(),
        Encoding::Json => json!({"code": code, "message": message}).to_string().into_bytes(),
    }
}

/// Without the details, which nobody sends with metrics.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
}
