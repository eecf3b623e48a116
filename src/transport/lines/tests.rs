//! A medium that takes what a script says, and real files: with other owners of their ends, moved away, and full.

use super::*;
use std::{collections::VecDeque, env, process::Command};

/// What becomes of one write call.
enum Fate {
    Takes(usize),
    Fails(io::ErrorKind),
}
use Fate::{Fails, Takes};

/// Takes what its script says, and everything behind its end.
#[derive(Default)]
struct Scripted {
    script: VecDeque<Fate>,
    taken: Vec<u8>,
    calls: usize,
    can_take_back: bool,
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.calls += 1;
        let most = match self.script.pop_front() {
            None => bytes.len(),
            Some(Takes(most)) => most.min(bytes.len()),
            Some(Fails(kind)) => return Err(kind.into()),
        };
        self.taken.extend_from_slice(&bytes[..most]);
        Ok(most)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Medium for Scripted {
    fn take_back(&mut self, bytes: u64) -> bool {
        if self.can_take_back {
            self.taken.truncate(self.taken.len() - bytes as usize);
        }
        self.can_take_back
    }

    fn is_at(&self, _: &Path) -> bool {
        true
    }
}

/// Writes two lines one after the other to a medium with a script; whether each was written, and what is there.
fn two_lines(script: impl IntoIterator<Item = Fate>, can_take_back: bool) -> ([bool; 2], String) {
    let mut medium = Scripted {
        script: script.into_iter().collect(),
        can_take_back,
        ..Scripted::default()
    };
    let mut is_torn = false;
    let now = Instant::now();
    let mut write = |line: &str| write_line(&mut medium, &mut is_torn, line.as_bytes(), now).is_ok();
    let written = [write("{first}\n"), write("{second}\n")];
    (written, String::from_utf8(medium.taken).unwrap())
}

#[test]
fn a_line_is_one_call() {
    let mut medium = Scripted::default();
    let line = format!("{}\n", "x".repeat(200_000));
    write_line(&mut medium, &mut false, line.as_bytes(), Instant::now()).unwrap();
    assert_eq!((medium.calls, medium.taken.len()), (1, line.len()));
}

#[test]
fn what_is_taken_in_pieces_is_whole() {
    let script = [Takes(3), Fails(io::ErrorKind::Interrupted), Takes(1)];
    assert_eq!(two_lines(script, false), ([true; 2], "{first}\n{second}\n".to_owned()));
}

#[test]
fn half_a_line_is_taken_back_or_ended_before_the_next() {
    let full = || Fails(io::ErrorKind::StorageFull);
    for (script, can_take_back, expected) in [
        (vec![full()], false, "{second}\n"),
        (vec![Takes(3), full()], true, "{second}\n"),
        (vec![Takes(3), full()], false, "{fi\n{second}\n"),
        (vec![Takes(3), Takes(0)], false, "{fi\n{second}\n"),
        (
            vec![Takes(3), Fails(io::ErrorKind::WouldBlock)],
            false,
            "{fi\n{second}\n",
        ),
    ] {
        let (written, there) = two_lines(script, can_take_back);
        assert_eq!((written, &there[..]), ([false, true], expected));
    }
}

#[test]
fn a_line_that_lacks_its_end_alone_does_not_come_again() {
    let full = || Fails(io::ErrorKind::StorageFull);
    let (written, there) = two_lines([Takes(7), full()], false);
    assert_eq!((written, &there[..]), ([true; 2], "{first}\n{second}\n"));
    // The end cannot be written either: the line behind it waits.
    let (written, there) = two_lines([Takes(7), full(), full()], false);
    assert_eq!((written, &there[..]), ([true, false], "{first}"));
}

/// A path of the test's own, where nothing is.
fn path(test: &str) -> PathBuf {
    let path = env::temp_dir().join(format!("tidegauge-lines-{}-{test}", std::process::id()));
    let _ = fs::remove_file(&path);
    path
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[test]
fn a_file_is_appended_to_behind_a_whole_line() {
    let path = path("append");
    let mut lines = Lines::new(LineTarget::File(path.clone()));
    lines.write(b"1\n2\n", soon()).unwrap();
    lines.write(b"3\n", soon()).unwrap();
    assert_eq!(lines.opened(), 1);
    // A process was killed within a line.
    fs::write(&path, "1\n{\"ha").unwrap();
    let mut lines = Lines::new(LineTarget::File(path.clone()));
    lines.write(b"2\n", soon()).unwrap();
    lines.write(b"3\n", soon()).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n{\"ha\n2\n3\n");
    fs::remove_file(path).unwrap();
}

#[cfg(unix)]
#[test]
fn a_file_that_is_moved_away_is_made_again() {
    let path = path("rotate");
    let moved = path.with_extension("1");
    let mut lines = Lines::new(LineTarget::File(path.clone()));
    lines.write(b"1\n", soon()).unwrap();
    fs::rename(&path, &moved).unwrap();
    lines.write(b"2\n", soon()).unwrap();
    assert_eq!(fs::read_to_string(&moved).unwrap(), "1\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "2\n");
    fs::remove_file(&path).unwrap();
    lines.write(b"3\n", soon()).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "3\n");
    assert_eq!(lines.opened(), 3);
    for path in [path, moved] {
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn what_cannot_be_opened_is_tried_again() {
    let folder = path("folder");
    let path = folder.join("m.json");
    let mut lines = Lines::new(LineTarget::File(path.clone()));
    let halt = lines.write(b"1\n", soon()).unwrap_err();
    assert_eq!(halt.written, 0);
    assert!(halt.message.starts_with("cannot open it: "), "{}", halt.message);
    fs::create_dir(&folder).unwrap();
    lines.write(b"1\n", soon()).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_half_in_front_of_what_others_wrote_is_not_cut_off() {
    let path = path("others");
    let mut file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
    file.write_all(b"1\n{\"ha").unwrap();
    let mut other = OpenOptions::new().append(true).open(&path).unwrap();
    other.write_all(b"theirs\n").unwrap();
    assert!(!file.take_back(4));
    file.write_all(b"half").unwrap();
    assert!(file.take_back(4));
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n{\"hatheirs\n");
    fs::remove_file(path).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_device_takes_nothing_and_says_so() {
    let mut lines = Lines::new(LineTarget::File("/dev/full".into()));
    let halt = lines.write(b"1\n", soon()).unwrap_err();
    assert_eq!(halt.written, 0);
    assert!(halt.message.contains("No space left"), "{}", halt.message);
}

/// The path that a child process of the test below writes to.
const FULL: &str = "TIDEGAUGE_TEST_FULL_FILE";
/// What fits into a file of the child, and is no multiple of its lines.
const FITS: usize = 4096;
const LINE: &str = "{\"this is a line that is not cut\":1}\n";

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_can_grow_no_more_ends_in_a_whole_line() {
    let path = path("full");
    let shell = "trap '' XFSZ; ulimit -f $(($0 / 512)) && exec \"$@\"";
    let child = Command::new("sh")
        .args(["-c", shell, &FITS.to_string()])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "transport::lines::tests::fills_a_file", "--ignored"])
        .env(FULL, &path)
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    let there = fs::read_to_string(&path).unwrap();
    assert_eq!(there, LINE.repeat(FITS / LINE.len()));
    fs::remove_file(path).unwrap();
}

#[test]
#[ignore = "runs as a child of the test above, in which files cannot grow beyond what fits"]
fn fills_a_file() {
    let Some(path) = env::var_os(FULL) else { return };
    let mut lines = Lines::new(LineTarget::File(path.into()));
    let halt = lines.write(LINE.repeat(1000).as_bytes(), soon()).unwrap_err();
    assert_eq!(halt.written, FITS / LINE.len() * LINE.len());
    assert_ne!(halt.written, FITS, "the last line is written in part");
    for _ in 0..3 {
        assert_eq!(lines.write(LINE.as_bytes(), soon()).unwrap_err().written, 0);
    }
}
