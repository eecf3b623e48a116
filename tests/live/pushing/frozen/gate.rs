//! A gate in the line between a function and its Collector, which holds a request or an answer for as long as the test wants,
//! and passes it on then or cuts it off.

use crate::http;
use crate::program::PATIENCE;
use std::io::{self, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// What is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The Collector has not had it.
    Request,
    /// The Collector has had the request, and has answered.
    Reply,
}

/// What becomes of what is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    PassedOn,
    /// The connection is closed, and nothing is passed on.
    CutOff,
}

pub struct Gate {
    address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    /// What the next request or reply that comes there has to wait for.
    hold: Option<Stage>,
    is_held: bool,
    fate: Option<Fate>,
}

impl Gate {
    /// Listens on a port of its own, and passes on what comes to a URL.
    pub fn before(url: String) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let gate = Gate {
            address: listener.local_addr().expect("a bound listener has an address"),
            state: Arc::default(),
        };
        let state = Arc::clone(&gate.state);
        // Blocks for the next connection until the test process ends.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (state, url) = (Arc::clone(&state), url.clone());
                // An error is the end of the connection, which the client sees.
                thread::spawn(move || pass_on(&client, &url, &state));
            }
        });
        gate
    }

    pub fn url(&self) -> String {
        format!("http://{}/v1/metrics", self.address)
    }

    /// Holds the next one.
    pub fn hold(&self, stage: Stage) {
        let mut state = self.state.0.lock().unwrap();
        assert!(state.hold.is_none() && !state.is_held, "one is held");
        state.hold = Some(stage);
    }

    pub fn wait_until_held(&self) {
        let (state, changed) = &*self.state;
        let waited = changed.wait_timeout_while(state.lock().unwrap(), PATIENCE, |state| !state.is_held);
        assert!(waited.unwrap().0.is_held, "nothing came to be held within {PATIENCE:?}");
    }

    pub fn release(&self, fate: Fate) {
        let (state, changed) = &*self.state;
        let mut state = state.lock().unwrap();
        assert!(state.is_held, "nothing is held");
        state.fate = Some(fate);
        changed.notify_all();
        // Then it is done what is said, whatever the test does next.
        let waited = changed.wait_timeout_while(state, PATIENCE, |state| state.is_held);
        assert!(!waited.unwrap().0.is_held, "it is still held");
    }
}

/// Serves a connection until it ends, or is cut off.
fn pass_on(client: &TcpStream, url: &str, state: &(Mutex<State>, Condvar)) -> io::Result<()> {
    let mut reader = BufReader::new(client);
    loop {
        let request = http::read(&mut reader, client)?;
        if wait(state, Stage::Request) == Fate::CutOff {
            return Ok(());
        }
        let mut post = ureq::post(url).config().http_status_as_error(false).build();
        for name in ["content-type", "content-encoding"] {
            if let Some(value) = request.header(name) {
                post = post.header(name, value);
            }
        }
        let mut reply = post.send(&request.body).map_err(io::Error::other)?;
        let body = reply.body_mut().read_to_vec().map_err(io::Error::other)?;
        if wait(state, Stage::Reply) == Fate::CutOff {
            return Ok(());
        }
        let kind = reply
            .headers()
            .get("content-type")
            .and_then(|value| value.to_str().ok());
        let head = format!(
            "HTTP/1.1 {} \r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
            reply.status().as_u16(),
            kind.unwrap_or_default(),
            body.len()
        );
        let mut client = client;
        client.write_all(&[head.as_bytes(), &body].concat())?;
    }
}

/// Waits for the test, if this is what it wants held.
fn wait(state: &(Mutex<State>, Condvar), stage: Stage) -> Fate {
    let (state, changed) = state;
    let mut state = state.lock().unwrap();
    if state.hold != Some(stage) {
        return Fate::PassedOn;
    }
    state.hold = None;
    state.is_held = true;
    changed.notify_all();
    let waited = changed.wait_timeout_while(state, PATIENCE, |state| state.fate.is_none());
    let mut state = waited.unwrap().0;
    state.is_held = false;
    changed.notify_all();
    state.fate.take().unwrap_or(Fate::CutOff)
}
