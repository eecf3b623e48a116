//! Another program as a child of the test: its lines as they come, an end that is awaited with a
//! deadline, a folder for its files, and no orphan whatever happens.

use serde_json::Value;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{self, Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that is waited for: a server's start, a scrape, an end. Far more than any
/// of them needs, so that a slow machine does not fail the test; reaching it always fails it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A child process. It is killed, by its own handle, when this is dropped.
pub struct Program {
    name: String,
    child: Child,
    lines: Receiver<String>,
    printed: Vec<String>,
}

impl Program {
    /// Starts `command` and collects what it prints on both of its streams.
    ///
    /// # Panics
    ///
    /// If the program is not there: a missing server is a failure, never a reason to skip.
    pub fn start(command: &mut Command) -> Program {
        Program::spawn(command.stdin(Stdio::null())).0
    }

    /// As [`start`](Program::start), and what is written to the pipe is the program's standard input.
    ///
    /// # Panics
    ///
    /// If the program is not there.
    pub fn start_with_input(command: &mut Command) -> (Program, ChildStdin) {
        let (program, input) = Program::spawn(command.stdin(Stdio::piped()));
        (program, input.expect("stdin is piped"))
    }

    fn spawn(command: &mut Command) -> (Program, Option<ChildStdin>) {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}; {INSTALL}"));
        let (sender, lines) = channel();
        forward(child.stdout.take().expect("stdout is piped"), sender.clone());
        forward(child.stderr.take().expect("stderr is piped"), sender);
        let input = child.stdin.take();
        let program = Program {
            name,
            child,
            lines,
            printed: Vec::new(),
        };
        (program, input)
    }

    /// Waits for a line that `pick` takes, and hands back what it made of it. An error, with all that was
    /// printed, if the program ends first or `patience` does.
    pub fn wait_for_line<T>(
        &mut self,
        patience: Duration,
        mut pick: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, String> {
        let deadline = Instant::now() + patience;
        loop {
            match self.next_line(deadline) {
                Ok(line) => {
                    let picked = pick(&line);
                    self.printed.push(line);
                    if let Some(picked) = picked {
                        return Ok(picked);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(self.report(&format!("did not print the line within {patience:?}")));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let ended = self.child.wait().expect("a child can be waited for");
                    return Err(self.report(&format!("ended ({ended}) before it printed the line")));
                }
            }
        }
    }

    /// Its number, by which the system lists what it has open.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What ctrl-c in a terminal sends.
    pub fn interrupt(&self) {
        self.signal("INT");
    }

    /// Sends that signal. The standard library can only kill, so a shell's `kill` does it.
    pub fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &kill]).status().expect("a shell starts");
        assert!(sent.success(), "`{kill}` failed");
    }

    /// Stops it, and waits until all of its threads stand still. [`thaw`](Program::thaw) lets it go on.
    pub fn freeze(&self) {
        self.signal("STOP");
        let deadline = Instant::now() + PATIENCE;
        while !stands_still(self.child.id()) {
            assert!(Instant::now() < deadline, "{} runs on", self.name);
            thread::yield_now();
        }
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// Waits for the end: both streams closed, then the status.
    pub fn wait_for_end(&mut self) -> Result<ExitStatus, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.next_line(deadline) {
                Ok(line) => self.printed.push(line),
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(self.child.wait().expect("a child can be waited for"));
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(self.report(&format!("did not end within {PATIENCE:?}")));
                }
            }
        }
    }

    /// All that the program has printed, under a heading, for the message of a failure.
    pub fn report(&mut self, what: &str) -> String {
        self.printed.extend(self.lines.try_iter());
        format!("{} {what}; it printed:\n{}", self.name, self.printed.join("\n"))
    }

    fn next_line(&self, deadline: Instant) -> Result<String, RecvTimeoutError> {
        self.lines
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // An error means that it has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder of this test alone, below cargo's folder for temporary files.
pub struct Folder(PathBuf);

impl Folder {
    /// Creates it, empty, with a name that begins so.
    pub fn create(name: &str) -> Folder {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}-{number}", process::id()));
        // A folder of that name was left by a process that had the same number and was killed.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("cargo's folder for temporary files can be written");
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays behind is below `target` and harms nothing.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The word that follows `key` in a line of a log.
pub fn word_after<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split_once(key)?.1.split_whitespace().next()
}

/// Whether a process is stopped.
fn stands_still(id: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{id}/task")) else {
        // Not Linux.
        let id = id.to_string();
        let state = Command::new("ps").args(["-o", "state=", "-p", &id]).output();
        return state.expect("ps starts").stdout.starts_with(b"T");
    };
    // The state is behind the name, which is in parentheses and may hold any.
    let state = |thread: &Path| {
        fs::read_to_string(thread.join("stat"))
            .ok()?
            .rsplit(") ")
            .next()?
            .chars()
            .next()
    };
    let mut threads = threads.map(|thread| thread.expect("a folder of /proc can be read").path());
    threads.all(|thread| state(&thread) == Some('T'))
}

/// The path of a program below the folder that the scripts in `.ci/servers` install into.
pub fn installed(program: &str) -> PathBuf {
    let path = project().join("target/servers").join(program);
    assert!(path.exists(), "target/servers/{program} is missing: {INSTALL}");
    path
}

/// One of the project's examples, built as `cargo run` builds it. No proxy is between it and the servers of a test.
pub fn example(name: &str) -> Command {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--message-format=json-render-diagnostics"]);
    build.args(["--example", name]).current_dir(project());
    // What cargo tells this test of its package is not what it tells a build script, and one that heeds it would run anew: now, and in
    // the next build after this.
    for (variable, _) in env::vars_os() {
        let is_told = |prefix: &&str| variable.to_string_lossy().starts_with(prefix);
        if ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(is_told) {
            build.env_remove(&variable);
        }
    }
    let built = build.stderr(Stdio::inherit()).output().expect("cargo starts");
    assert!(
        built.status.success(),
        "the example {name} is not built: {}",
        built.status
    );
    let told = String::from_utf8(built.stdout).expect("JSON is UTF-8");
    let path = told.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).expect("each message is one JSON object");
        message["executable"].as_str().map(str::to_owned)
    });
    let mut command = Command::new(path.expect("cargo says what it has built"));
    command.env("no_proxy", "*");
    command
}

/// The root of the project.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub const INSTALL: &str = "the scripts in .ci/servers install what these tests need; .ci/run runs them all";

/// Reads lines on a thread of its own, which ends with the stream. Bytes that are no UTF-8 are replaced: this
/// text is only searched and shown.
fn forward(stream: impl Read + Send + 'static, lines: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            if lines.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
}
