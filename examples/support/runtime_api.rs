//! The [runtime API](https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html) of AWS Lambda, from both sides: as a function
//! has it, and a stand-in for Lambda itself. Not to be copied: the stand-in, which invokes one function one time after the other.

use crate::http;
use serde_json::{Value, json};
use std::{
    error::Error,
    io::{self, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// As a function has it.
pub struct RuntimeApi {
    invocations: String,
    /// It waits for the next invocation for as long as it takes.
    agent: ureq::Agent,
}

pub struct Invocation {
    pub id: String,
    /// When it has to be answered.
    pub deadline: SystemTime,
    pub event: Value,
}

impl RuntimeApi {
    /// That of a host and a port.
    pub fn at(address: &str) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .build();
        RuntimeApi {
            invocations: format!("http://{address}/2018-06-01/runtime/invocation"),
            agent: agent.new_agent(),
        }
    }

    /// Waits for the next invocation; none if the function is to end.
    pub fn next(&self) -> Result<Option<Invocation>, Box<dyn Error>> {
        let mut reply = self.agent.get(format!("{}/next", self.invocations)).call()?;
        match reply.status().as_u16() {
            200 => {}
            // "Non-recoverable state. Runtime should exit promptly."
            500 => return Ok(None),
            status => return Err(format!("there is no next invocation: {status}").into()),
        }
        let header = |name| {
            let value = reply.headers().get(name).and_then(|value| value.to_str().ok());
            value.ok_or_else(|| format!("an invocation without {name}"))
        };
        let id = header("Lambda-Runtime-Aws-Request-Id")?.to_owned();
        let deadline = Duration::from_millis(header("Lambda-Runtime-Deadline-Ms")?.parse()?);
        Ok(Some(Invocation {
            id,
            deadline: UNIX_EPOCH + deadline,
            event: serde_json::from_str(&reply.body_mut().read_to_string()?)?,
        }))
    }

    /// Says what came of an invocation.
    pub fn answer(&self, id: &str, answer: Result<Value, String>) -> Result<(), Box<dyn Error>> {
        let (path, body) = match answer {
            Ok(answer) => ("response", answer),
            Err(message) => (
                "error",
                json!({ "errorMessage": message, "errorType": "NoOrder", "stackTrace": [] }),
            ),
        };
        let url = format!("{}/{id}/{path}", self.invocations);
        match self.agent.post(url).send(body.to_string())?.status().as_u16() {
            202 => Ok(()),
            status => Err(format!("the answer to {id} was refused: {status}").into()),
        }
    }
}

/// What stands in for Lambda: invokes whoever asks with each of some events, and then says that it is to end.
pub struct StandIn {
    address: SocketAddr,
    answers: Arc<Mutex<Vec<Value>>>,
}

impl StandIn {
    /// Starts it, on a thread that ends with the process. Each invocation may take so long.
    pub fn start(events: &'static [&'static str], timeout: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let stand_in = StandIn {
            address: listener.local_addr()?,
            answers: Arc::default(),
        };
        let answers = Arc::clone(&stand_in.answers);
        thread::spawn(move || {
            let mut invoked = 0;
            for stream in listener.incoming() {
                let served = stream.and_then(|stream| serve(&stream, events, timeout, &mut invoked, &answers));
                if let Err(error) = served {
                    eprintln!("Lambda's stand-in has not answered: {error}");
                }
            }
        });
        Ok(stand_in)
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// What the function has said so far, errors among it.
    pub fn answers(&self) -> Vec<Value> {
        self.answers.lock().expect("nobody panics with it").clone()
    }
}

/// Serves the one request of a connection.
fn serve(
    mut stream: &TcpStream,
    events: &[&str],
    timeout: Duration,
    invoked: &mut usize,
    answers: &Mutex<Vec<Value>>,
) -> io::Result<()> {
    let request = http::Request::read(stream)?;
    let path = request.path.strip_prefix("/2018-06-01/runtime/invocation/");
    match path.and_then(|path| path.split_once('/').or(Some((path, "")))) {
        Some(("next", "")) => {
            let Some(event) = events.get(*invoked) else {
                return http::answer(stream, 500, "");
            };
            *invoked += 1;
            let deadline = SystemTime::now() + timeout;
            let deadline = deadline
                .duration_since(UNIX_EPOCH)
                .map_err(io::Error::other)?
                .as_millis();
            write!(
                stream,
                "HTTP/1.1 200 \r\nLambda-Runtime-Aws-Request-Id: {invoked}\r\nLambda-Runtime-Deadline-Ms: {deadline}\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{event}",
                event.len()
            )
        }
        // One at a time: an answer is to the last invocation.
        Some((id, "response" | "error")) if *id == invoked.to_string() => {
            let answer = serde_json::from_slice(&request.body)?;
            answers.lock().expect("nobody panics with it").push(answer);
            http::answer(stream, 202, r#"{"status":"OK"}"#)
        }
        _ => http::answer(stream, 404, ""),
    }
}
