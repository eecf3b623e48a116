//! Real directories: order, kills at every point as what they leave behind, damage of every byte, other processes as other open
//! files, and disks that take nothing.

use super::{
    directory::{Directory, SPOOLED, State, TEMPORARY, stem},
    lock::Lock,
    record::{self, Header, Note, Unread},
    store::{Losses, Size},
    *,
};
use crate::{clock::SharedClock, destination::BatchId, testing::ManualClock};
use proptest::prelude::*;
use std::{
    fs::{self, File},
    io::Cursor,
    path::Path,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

const KEY: &str = "otlp http://localhost:4318/v1/metrics protobuf";

/// A day before the time at which the clocks stand, in nanoseconds since the Unix epoch.
const YESTERDAY: u64 = TODAY - 86_400_000_000_000;
const TODAY: u64 = 1_700_000_000_000_000_000;

/// A folder in which a spool's directory is to be made; it goes when the test ends.
struct Place {
    folder: PathBuf,
    clock: ManualClock,
}

impl Place {
    fn new() -> Place {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("tidegauge-spool-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Place {
            folder,
            clock: ManualClock::new(),
        }
    }

    fn directory(&self) -> PathBuf {
        self.folder.join("spool")
    }

    fn spool(&self) -> Spool {
        Spool::new(self.directory())
    }

    /// As if it were of another process.
    fn store(&self) -> Store {
        self.store_of(self.spool(), KEY)
    }

    fn store_of(&self, spool: Spool, key: &str) -> Store {
        Store::new(spool, key, false, SharedClock::new(self.clock.clone()))
    }

    fn replacing(&self) -> Store {
        Store::new(self.spool(), KEY, true, SharedClock::new(self.clock.clone()))
    }

    /// What is there, without locks.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| !name.ends_with(".lock")).collect();
        names.sort();
        names
    }

    fn only_name(&self) -> String {
        let names = self.names();
        assert_eq!(names.len(), 1, "{names:?}");
        names.into_iter().next().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    /// What a file of these payloads takes, with all of its marks.
    fn room_for(&self, payloads: &[&str]) -> u64 {
        (self.file_of(payloads).len() + payloads.len() * super::record::MARKS) as u64
    }

    /// The bytes of a file with these payloads.
    fn file_of(&self, payloads: &[&str]) -> Vec<u8> {
        let other = Place::new();
        put(&mut other.store(), payloads);
        fs::read(other.path(&other.only_name())).unwrap()
    }

    /// A file that was put so many nanoseconds after the clocks' yesterday, before all that is put today.
    fn plant(&self, nanoseconds: u64, end: &str, bytes: &[u8]) -> String {
        self.plant_at(YESTERDAY + nanoseconds, end, bytes)
    }

    fn plant_at(&self, order: u64, end: &str, bytes: &[u8]) -> String {
        fs::create_dir_all(self.directory()).unwrap();
        let name = format!("{}{end}", stem(order, crc32fast::hash(KEY.as_bytes())));
        fs::write(self.path(&name), bytes).unwrap();
        name
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A record of as many points as its bytes.
fn record(bytes: &[u8]) -> Record<'_> {
    Record {
        bytes,
        id: BatchId {
            exporter: 7,
            sequence: bytes.len() as u64,
        },
        points: bytes.len() as u64,
        increments: 2 * bytes.len() as u64,
        unclear: bytes.len() % 2 == 1,
    }
}

fn try_put(store: &mut Store, payloads: &[&str]) -> Result<(), SpoolError> {
    let records: Vec<Record<'_>> = payloads.iter().map(|payload| record(payload.as_bytes())).collect();
    store.put(&records, Duration::ZERO)
}

fn put(store: &mut Store, payloads: &[&str]) {
    try_put(store, payloads).unwrap();
}

fn text(entry: &Entry) -> String {
    String::from_utf8(entry.bytes.clone()).unwrap()
}

/// Delivers the next payload.
fn deliver(store: &mut Store) -> Option<String> {
    let entry = store.next().unwrap()?;
    store.acknowledge(&entry).unwrap();
    Some(text(&entry))
}

fn deliver_all(store: &mut Store) -> Vec<String> {
    std::iter::from_fn(|| deliver(store)).collect()
}

fn losses(evicted_points: u64, expired_points: u64, unread_files: u64) -> Losses {
    Losses {
        evicted_points,
        expired_points,
        unread_files,
        noted_points: 0,
    }
}

// Order

#[test]
fn what_was_put_first_is_delivered_first() {
    let place = Place::new();
    let (mut one, mut other) = (place.store(), place.store());
    put(&mut one, &["a", "b"]);
    // The clock stands, and then it goes back.
    put(&mut other, &["c"]);
    place.clock.set_unix(Duration::from_secs(1));
    put(&mut one, &["d", "e", "f"]);
    assert_eq!(place.names().len(), 3);
    assert_eq!(one.size().files, 3);
    assert_eq!(deliver_all(&mut place.store()), ["a", "b", "c", "d", "e", "f"]);
    assert_eq!(place.names(), [""; 0]);
    assert_eq!(deliver(&mut one), None);
}

#[test]
fn what_is_put_while_something_is_delivered_comes_after_it() {
    let place = Place::new();
    let (mut one, mut other) = (place.store(), place.store());
    put(&mut one, &["a", "b"]);
    put(&mut one, &["c"]);
    assert_eq!(deliver(&mut other).unwrap(), "a");
    put(&mut one, &["d"]);
    put(&mut other, &["e"]);
    assert_eq!(deliver_all(&mut other), ["b", "c", "d", "e"]);
}

#[test]
fn nothing_is_put_for_nothing() {
    let place = Place::new();
    let mut store = place.store();
    store.put(&[], Duration::ZERO).unwrap();
    assert!(store.next().unwrap().is_none());
    assert!(!place.directory().exists());
    assert_eq!(store.size(), Size::default());
}

#[test]
fn each_key_has_its_own() {
    let place = Place::new();
    let mut one = place.store();
    let mut other = place.store_of(place.spool(), "pushgateway http://localhost:9091/");
    put(&mut one, &["one"]);
    put(&mut other, &["other"]);
    let entry = one.next().unwrap().unwrap();
    assert_eq!(deliver_all(&mut other), ["other"]);
    assert_eq!(text(&entry), "one");
    assert_eq!(other.size().files, 1);
}

#[test]
fn a_name_that_only_seems_to_be_of_the_key_is_not_enough() {
    let place = Place::new();
    let mut foreign = place.store_of(place.spool(), "of another key");
    put(&mut foreign, &["foreign"]);
    // As if both keys had the same hash.
    let bytes = fs::read(place.path(&place.only_name())).unwrap();
    fs::remove_file(place.path(&place.only_name())).unwrap();
    let name = place.plant(5, SPOOLED, &bytes);
    let mut store = place.store();
    put(&mut store, &["own"]);
    assert_eq!(deliver_all(&mut store), ["own"]);
    assert_eq!(place.names(), [name]);
    assert_eq!(store.take_losses(), Losses::default());
}

// What is written is what is read

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_was_put_comes_back(
        puts in prop::collection::vec(
            prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..2000), any::<[u64; 4]>(), any::<bool>()),
                0..5,
            ),
            0..4,
        ),
        key in ".{0,40}",
    ) {
        let place = Place::new();
        let mut writer = place.store_of(place.spool(), &key);
        for records in &puts {
            let records: Vec<Record<'_>> = records
                .iter()
                .map(|(bytes, numbers, unclear)| Record {
                    bytes,
                    id: BatchId { exporter: numbers[0], sequence: numbers[1] },
                    points: numbers[2],
                    increments: numbers[3],
                    unclear: *unclear,
                })
                .collect();
            writer.put(&records, Duration::ZERO).unwrap();
        }
        let mut reader = place.store_of(place.spool(), &key);
        for (bytes, numbers, unclear) in puts.iter().flatten() {
            let entry = reader.next().unwrap().expect("there is one more");
            prop_assert_eq!(&entry.bytes, bytes);
            prop_assert_eq!([entry.id.exporter, entry.id.sequence, entry.points, entry.increments], *numbers);
            prop_assert_eq!(entry.unclear, *unclear);
            reader.acknowledge(&entry).unwrap();
        }
        prop_assert!(reader.next().unwrap().is_none());
        prop_assert_eq!(reader.take_losses(), Losses::default());
    }
}

#[test]
fn the_format_is_the_one_that_is_written_down() {
    let header = Header {
        created: 1,
        key: "k".to_owned(),
        note: Note {
            evicted_points: 2,
            expired_points: 3,
            unread_files: 4,
        },
        evicted_through: 5,
        ..Header::default()
    };
    let record = Record {
        bytes: b"123456789",
        id: BatchId {
            exporter: 6,
            sequence: 7,
        },
        points: 8,
        increments: 9,
        unclear: true,
    };
    let head = record::head(&header, &[record]);
    let mut expected = b"tdgspool".to_vec();
    expected.extend([1, 0, 0, 0, 98, 0, 0, 0]);
    expected.extend(crc32fast::hash(&expected).to_le_bytes());
    expected.extend([1, 2, 3, 4, 5].into_iter().flat_map(u64::to_le_bytes));
    expected.extend([1, 0, 0, 0, b'k', 1, 0, 0, 0]);
    expected.extend([9, 6, 7, 8, 9].into_iter().flat_map(u64::to_le_bytes));
    // The check value of this CRC-32 in the catalogues.
    expected.extend([1, 0x26, 0x39, 0xF4, 0xCB]);
    let checksum = crc32fast::hash(&expected[20..]);
    expected.extend(checksum.to_le_bytes());
    assert_eq!(head, expected);
    assert_eq!(stem(6, crc32fast::hash(b"123456789")), "00000000000000000006-cbf43926");
}

// Damage

#[test]
fn whatever_is_cut_off_a_file_it_is_set_aside_and_stops_nothing() {
    let place = Place::new();
    let whole = place.file_of(&["first", "second!", "third"]);
    let follows = place.file_of(&["what follows"]);
    for length in 0..whole.len() {
        let place = Place::new();
        let name = place.plant(1, SPOOLED, &whole[..length]);
        let mut store = place.store();
        place.plant(2, SPOOLED, &follows);
        assert_eq!(deliver_all(&mut store), ["what follows"], "{length} of {}", whole.len());
        assert_eq!(store.take_losses(), losses(0, 0, 1), "{length}");
        assert_eq!(place.names(), [format!("{name}.corrupt")], "{length}");
        // Counted once.
        assert_eq!(deliver_all(&mut place.store()), [""; 0]);
        assert_eq!(store.take_losses(), Losses::default(), "{length}");
    }
}

#[test]
fn whichever_bit_of_a_file_turns_it_is_noticed() {
    let place = Place::new();
    let whole = place.file_of(&["first", "second!", "third"]);
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let read = record::read_whole(&mut Cursor::new(&damaged), damaged.len() as u64);
        assert!(matches!(read, Err(Unread::Flawed(_))), "bit {bit}: {read:?}");
    }
}

#[test]
fn whichever_byte_of_a_file_turns_it_is_set_aside_and_stops_nothing() {
    let place = Place::new();
    let whole = place.file_of(&["first", "second!", "third"]);
    let follows = place.file_of(&["what follows"]);
    for at in 0..whole.len() {
        let place = Place::new();
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        let name = place.plant(1, SPOOLED, &damaged);
        let mut store = place.store();
        place.plant(2, SPOOLED, &follows);
        assert_eq!(deliver_all(&mut store), ["what follows"], "{at}");
        assert_eq!(store.take_losses(), losses(0, 0, 1), "{at}");
        assert_eq!(place.names(), [format!("{name}.corrupt")], "{at}");
    }
}

#[test]
fn acknowledgements_count_whatever_they_are() {
    let place = Place::new();
    let whole = place.file_of(&["first", "second!", "third"]);
    for (bytes, left) in [
        (&b""[..], &["first", "second!", "third"][..]),
        // The next one was about to be sent.
        (b"\n", &["first", "second!", "third"]),
        (b"\0\n", &["second!", "third"]),
        (b"\0\n\xff\n", &["third"]),
        // Its deliverer could not delete it.
        (b"\n\n\n\n\n\n", &[]),
    ] {
        let place = Place::new();
        place.plant(1, SPOOLED, &[&whole, bytes].concat());
        let mut store = place.store();
        assert_eq!(deliver_all(&mut store), left);
        assert_eq!(store.take_losses(), Losses::default());
        assert_eq!(place.names(), [""; 0]);
    }
    let place = Place::new();
    place.plant(1, SPOOLED, &[&whole, &b"\n\n\n\n\n\n\n"[..]].concat());
    let mut store = place.store();
    assert_eq!(deliver_all(&mut store), [""; 0]);
    assert_eq!(store.take_losses(), losses(0, 0, 1));
}

#[test]
fn nothing_is_set_aside_over_something_else() {
    let place = Place::new();
    for content in ["one", "two", "three"] {
        place.plant(1, SPOOLED, content.as_bytes());
        assert_eq!(deliver_all(&mut place.store()), [""; 0]);
    }
    let contents: Vec<String> = place
        .names()
        .iter()
        .map(|name| fs::read_to_string(place.path(name)).unwrap())
        .collect();
    assert_eq!(contents.len(), 3);
    for content in ["one", "two", "three"] {
        assert!(contents.iter().any(|found| found == content), "{contents:?}");
    }
}

#[test]
fn a_file_that_breaks_while_it_is_delivered_is_set_aside() {
    let place = Place::new();
    let mut store = place.store();
    put(&mut store, &["first", "second"]);
    assert_eq!(deliver(&mut store).unwrap(), "first");
    let path = place.path(&place.only_name());
    let mut bytes = fs::read(&path).unwrap();
    // The last two are the marks of the first record.
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(deliver(&mut store), None);
    assert_eq!(store.take_losses(), losses(0, 0, 1));
}

#[test]
fn what_a_later_version_wrote_stays_and_stops_nothing() {
    let place = Place::new();
    let mut newer = place.file_of(&["of another format"]);
    newer[8] = 2;
    let checksum = crc32fast::hash(&newer[..16]);
    newer[16..20].copy_from_slice(&checksum.to_le_bytes());
    newer.truncate(60);
    let spooled = place.plant(1, SPOOLED, &newer);
    let temporary = place.plant(2, TEMPORARY, &newer);
    let mut store = place.store();
    put(&mut store, &["what follows"]);
    assert_eq!(deliver_all(&mut store), ["what follows"]);
    assert_eq!(store.take_losses(), Losses::default());
    assert_eq!(place.names(), [spooled, temporary]);
}

#[test]
fn a_length_that_lies_is_not_believed() {
    let whole = Place::new().file_of(&["first"]);
    let with = |at: usize, value: &[u8]| {
        let mut bytes = whole.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        let first = crc32fast::hash(&bytes[..16]);
        bytes[16..20].copy_from_slice(&first.to_le_bytes());
        let header = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
        if let Some(end) = (20 + header)
            .checked_sub(4)
            .filter(|end| (20..bytes.len()).contains(end))
        {
            let second = crc32fast::hash(&bytes[20..end]);
            bytes[end..end + 4].copy_from_slice(&second.to_le_bytes());
        }
        bytes
    };
    let key = 20 + 5 * 8;
    let count = key + 4 + KEY.len();
    for (what, bytes) in [
        ("header", with(12, &u32::MAX.to_le_bytes())),
        ("header", with(12, &1_u32.to_le_bytes())),
        ("header", with(12, &0_u32.to_le_bytes())),
        ("key", with(key, &u32::MAX.to_le_bytes())),
        ("key", with(key, &0_u32.to_le_bytes())),
        ("records", with(count, &u32::MAX.to_le_bytes())),
        ("records", with(count, &0_u32.to_le_bytes())),
        ("a record", with(count + 4, &u64::MAX.to_le_bytes())),
        ("a record", with(count + 4, &(1_u64 << 40).to_le_bytes())),
        ("a record", with(count + 4, &0_u64.to_le_bytes())),
        ("flags", with(count + 4 + 40, &[2])),
        ("no text", with(key + 4, &[0xff])),
    ] {
        let read = record::read_whole(&mut Cursor::new(&bytes), bytes.len() as u64);
        assert!(matches!(read, Err(Unread::Flawed(_))), "{what}: {read:?}");
    }
    // Without a lie it is read.
    let bytes = with(12, &whole[12..16]);
    record::read_whole(&mut Cursor::new(&bytes), bytes.len() as u64).unwrap();
}

#[test]
fn what_is_larger_than_the_spool_may_be_is_not_read() {
    let place = Place::new();
    put(&mut place.store(), &[&"x".repeat(2000)]);
    let mut small = place.store_of(place.spool().max_bytes(1000), KEY);
    assert_eq!(deliver(&mut small), None);
    assert_eq!(deliver(&mut place.store()).unwrap().len(), 2000);
}

#[test]
fn what_is_not_of_a_spool_is_left_alone() {
    let place = Place::new();
    let whole = place.file_of(&["planted"]);
    let outside = place.folder.join("outside");
    fs::create_dir_all(place.directory()).unwrap();
    fs::write(&outside, &whole).unwrap();
    let hash = crc32fast::hash(KEY.as_bytes());
    for name in [
        "notes.txt",
        "1-2.spool",
        "99999999999999999999-00000000.spool",
        ".spool",
    ] {
        fs::write(place.path(name), &whole).unwrap();
    }
    fs::create_dir(place.path(&format!("{}.spool", stem(1, hash)))).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;
        symlink(&outside, place.path(&format!("{}.spool", stem(2, hash)))).unwrap();
        symlink(&outside, place.path(&format!("{}.tmp", stem(3, hash)))).unwrap();
        // Who opens it waits until somebody writes.
        let pipe = place.path(&format!("{}.spool", stem(4, hash)));
        assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
    }
    let before = place.names();
    place.clock.advance(Duration::from_secs(365 * 86_400));
    let mut store = place.store_of(place.spool().max_bytes(500), KEY);
    put(&mut store, &["own"]);
    assert_eq!(store.size().files, 1);
    assert_eq!(deliver_all(&mut store), ["own"]);
    assert_eq!(store.take_losses(), Losses::default());
    assert_eq!(place.names(), before);
    assert_eq!(fs::read(&outside).unwrap(), whole);
}

#[cfg(unix)]
#[test]
fn a_file_that_is_exchanged_for_a_link_is_not_followed() {
    use std::os::unix::fs::symlink;
    let place = Place::new();
    fs::create_dir_all(place.directory()).unwrap();
    let outside = place.folder.join("outside");
    fs::write(&outside, "kept").unwrap();
    let directory = Directory::new(place.directory());
    symlink(&outside, place.path("link")).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(place.path("pipe"))
            .status()
            .unwrap()
            .success()
    );
    for name in ["link", "pipe"] {
        directory.open(name).unwrap_err();
        directory.open_to_read(name).unwrap_err();
        directory.open_lock(name).unwrap_err();
        directory.write(name, [&b"over it"[..]].into_iter()).unwrap_err();
    }
    assert_eq!(fs::read_to_string(&outside).unwrap(), "kept");
    // And the locks themselves.
    symlink(&outside, place.path("write.lock")).unwrap();
    let error = try_put(&mut place.store(), &["x"]).unwrap_err().to_string();
    assert!(error.contains("write.lock"), "{error}");
}

// Deliverers

#[test]
fn a_deliverer_that_is_killed_anywhere_repeats_one_payload_at_most() {
    let payloads = ["a", "bb", "ccc", "dddd"];
    for killed_after in 0..=payloads.len() {
        for was_acknowledged in [false, true] {
            let place = Place::new();
            put(&mut place.store(), &payloads);
            let mut killed = place.store();
            let mut arrived: Vec<String> = (0..killed_after).map(|_| deliver(&mut killed).unwrap()).collect();
            if !was_acknowledged {
                arrived.extend(killed.next().unwrap().as_ref().map(text));
            }
            // The system closes what it had open.
            drop(killed);
            let mut next = place.store();
            let twice = arrived.len() - killed_after;
            arrived.extend(deliver_all(&mut next));
            assert!(twice <= 1);
            assert_eq!(arrived.len(), payloads.len() + twice);
            arrived.dedup();
            assert_eq!(arrived, payloads);
            assert_eq!(next.take_losses(), Losses::default());
            assert_eq!(place.names(), [""; 0]);
        }
    }
}

#[test]
fn one_delivers_at_a_time() {
    let place = Place::new();
    let (mut one, mut other) = (place.store(), place.store());
    put(&mut one, &["a", "b"]);
    put(&mut one, &["c"]);
    assert_eq!(deliver(&mut one).unwrap(), "a");
    assert!(other.next().unwrap().is_none());
    assert!(!other.lease().unwrap());
    one.release();
    assert_eq!(deliver(&mut other).unwrap(), "b");
    assert!(one.next().unwrap().is_none());
    drop(other);
    assert_eq!(deliver_all(&mut one), ["c"]);
    // Who has nothing more to deliver is in nobody's way.
    put(&mut one, &["d"]);
    let mut third = place.store();
    assert_eq!(deliver(&mut third).unwrap(), "d");
}

#[test]
fn what_is_not_acknowledged_is_given_again() {
    let place = Place::new();
    let mut store = place.store();
    put(&mut store, &["a", "b"]);
    for _ in 0..3 {
        assert_eq!(text(&store.next().unwrap().unwrap()), "a");
    }
    let entry = store.next().unwrap().unwrap();
    store.release();
    let error = store.acknowledge(&entry).unwrap_err().to_string();
    assert!(error.contains(&entry.id.to_string()), "{error}");
    assert_eq!(text(&store.next().unwrap().unwrap()), "a");
    store.acknowledge(&entry).unwrap();
    store.acknowledge(&entry).unwrap_err();
    assert_eq!(deliver_all(&mut store), ["b"]);
}

#[test]
fn a_file_that_is_gone_is_no_error() {
    let place = Place::new();
    let mut store = place.store();
    put(&mut store, &["a", "b"]);
    put(&mut store, &["c", "d"]);
    let entry = store.next().unwrap().unwrap();
    for name in place.names() {
        fs::remove_file(place.path(&name)).unwrap();
    }
    store.acknowledge(&entry).unwrap();
    assert!(store.next().unwrap().is_none());
    put(&mut store, &["e"]);
    let entry = store.next().unwrap().unwrap();
    fs::remove_dir_all(place.directory()).unwrap();
    store.acknowledge(&entry).unwrap();
    assert!(store.next().unwrap().is_none());
    assert_eq!(store.take_losses(), Losses::default());
}

#[test]
fn a_forked_child_takes_no_lock_from_its_parent() {
    let place = Place::new();
    fs::create_dir_all(place.directory()).unwrap();
    let open = || File::options().append(true).create(true).open(place.path("some.lock"));
    let shared = open().unwrap();
    let take = |of_parent: bool| {
        let lock = Lock::try_take(|| shared.try_clone()).unwrap().unwrap();
        match of_parent {
            true => lock.into_parents(),
            false => lock,
        }
    };
    let is_free = || Lock::try_take(open).unwrap().is_some();
    let in_child = take(true);
    assert!(!in_child.is_of_this_process());
    drop(in_child);
    assert!(!is_free(), "the parent still has it");
    // The parent gives it back while the child has the file open.
    drop(take(false));
    assert!(is_free());
}

// Writers

#[test]
fn a_writer_that_is_stopped_keeps_nobody_waiting_for_longer_than_asked() {
    let place = Place::new();
    let mut store = place.store();
    put(&mut store, &["before"]);
    let stopped = Lock::try_take(|| Directory::new(place.directory()).open_lock("write.lock"));
    let stopped = stopped.unwrap().unwrap();
    let error = store
        .put(&[record(b"x")], Duration::from_millis(20))
        .unwrap_err()
        .to_string();
    assert!(error.contains("write.lock") && error.contains("20ms"), "{error}");
    assert!(error.contains(place.directory().to_str().unwrap()), "{error}");
    // It can be read meanwhile, and what would have to be set aside is passed over.
    let torn = place.plant(3, SPOOLED, b"torn");
    assert_eq!(deliver_all(&mut store), ["before"]);
    assert_eq!(place.only_name(), torn);
    assert_eq!(store.take_losses(), Losses::default());
    drop(stopped);
    put(&mut store, &["after"]);
    assert_eq!(deliver_all(&mut store), ["after"]);
    assert_eq!(store.take_losses(), losses(0, 0, 1));
}

#[test]
fn writers_of_many_threads_lose_nothing() {
    let place = Place::new();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let place = &place;
            scope.spawn(move || {
                for number in 0..10 {
                    let payload = format!("{writer} {number}");
                    let put = place
                        .store()
                        .put(&[record(payload.as_bytes())], Duration::from_secs(60));
                    put.unwrap();
                }
            });
        }
    });
    let arrived = deliver_all(&mut place.store());
    assert_eq!(arrived.len(), 40);
    for writer in 0..4 {
        let of_writer: Vec<&String> = arrived
            .iter()
            .filter(|text| text.starts_with(&format!("{writer} ")))
            .collect();
        assert!(of_writer.is_sorted() && of_writer.len() == 10, "{of_writer:?}");
    }
}

#[test]
fn a_writer_that_is_killed_leaves_all_of_it_or_nothing() {
    let whole = Place::new().file_of(&["first", "second!"]);
    let follows = Place::new().file_of(&["what follows"]);
    for length in 0..=whole.len() {
        let place = Place::new();
        place.plant(1, TEMPORARY, &whole[..length]);
        let mut store = place.store();
        place.plant(2, SPOOLED, &follows);
        let arrived = deliver_all(&mut store);
        if length == whole.len() {
            assert_eq!(arrived, ["first", "second!", "what follows"]);
            assert_eq!(place.names(), [""; 0]);
            assert_eq!(store.take_losses(), Losses::default());
        } else {
            assert_eq!(arrived, ["what follows"], "{length}");
            assert!(place.only_name().ends_with(".tmp.corrupt"));
            assert_eq!(store.take_losses(), losses(0, 0, 1), "{length}");
        }
    }
}

#[test]
fn who_delivers_finds_what_a_killed_writer_left() {
    let place = Place::new();
    let whole = place.file_of(&["kept"]);
    place.plant(1, TEMPORARY, &whole);
    place.plant(2, TEMPORARY, &whole[..whole.len() - 1]);
    let mut store = place.store();
    assert_eq!(deliver_all(&mut store), ["kept"]);
    assert_eq!(store.take_losses(), losses(0, 0, 1));
    assert!(place.only_name().ends_with(".tmp.corrupt"));
}

#[test]
fn a_temporary_file_is_left_to_its_writer() {
    let place = Place::new();
    let whole = place.file_of(&["being written"]);
    let name = place.plant(1, TEMPORARY, &whole[..30]);
    let writer = Lock::try_take(|| Directory::new(place.directory()).open_lock("write.lock")).unwrap();
    assert_eq!(deliver_all(&mut place.store()), [""; 0]);
    assert_eq!(place.only_name(), name);
    drop(writer);
}

// Bounds

#[test]
fn the_oldest_go_when_there_is_no_room_and_are_counted_once() {
    let place = Place::new();
    let file = place.room_for(&[&"x".repeat(1000)]);
    let spool = place.spool().max_bytes(3 * file);
    let mut other = place.store_of(spool.clone(), "of another key");
    other.put(&[record(&[b'o'; 900])], Duration::ZERO).unwrap();
    let mut store = place.store_of(spool.clone(), KEY);
    for payload in ["a", "b"] {
        put(&mut store, &[&payload.repeat(1000)]);
    }
    assert_eq!(store.size().files, 3);
    assert_eq!(store.take_losses(), Losses::default());
    put(&mut store, &[&"c".repeat(1000)]);
    assert_eq!(store.size().files, 3);
    assert!(store.size().bytes <= 3 * file);
    // Said here, and counted by whoever reads it.
    let said = store.take_losses();
    assert_eq!((said.noted_points, said.evicted_points), (900, 0));
    // This note goes on with the next put, when its file goes itself.
    for payload in ["d", "e", "f"] {
        put(&mut store, &[&payload.repeat(1000)]);
    }
    assert_eq!(store.take_losses().noted_points, 3 * 1000 + 900);
    drop(store);

    // A reader that is killed before it has acknowledged anything has counted nothing.
    let mut killed = place.store_of(spool.clone(), KEY);
    assert_eq!(text(&killed.next().unwrap().unwrap()), "d".repeat(1000));
    assert_eq!(killed.take_losses(), Losses::default());
    drop(killed);
    let mut reader = place.store_of(spool, KEY);
    assert_eq!(deliver_all(&mut reader).len(), 3);
    assert_eq!(reader.take_losses(), losses(900 + 3 * 1000, 0, 0));
    assert_eq!(other.take_losses(), Losses::default());
}

#[test]
fn what_is_acknowledged_is_no_loss() {
    let place = Place::new();
    let long = "x".repeat(1000);
    let length = place.room_for(&[&long, &long]);
    let mut store = place.store_of(place.spool().max_bytes(length), KEY);
    put(&mut store, &[&long, &long]);
    deliver(&mut store).unwrap();
    let mut other = place.store_of(place.spool().max_bytes(length), KEY);
    put(&mut other, &["new"]);
    assert_eq!(other.take_losses().noted_points, 1000);
    // The file is gone from under who was delivering it.
    store.release();
    assert_eq!(deliver_all(&mut store), ["new"]);
    assert_eq!(store.take_losses(), losses(1000, 0, 0));
}

#[test]
fn who_delivers_a_file_that_is_evicted_goes_on_with_the_next() {
    let place = Place::new();
    let long = "x".repeat(1000);
    let spool = place.spool().max_bytes(4000);
    let mut store = place.store_of(spool.clone(), KEY);
    put(&mut store, &[&long, "b"]);
    let entry = store.next().unwrap().unwrap();
    put(&mut place.store_of(spool, KEY), &[&"y".repeat(3000)]);
    store.acknowledge(&entry).unwrap();
    assert_eq!(deliver(&mut store).unwrap(), "y".repeat(3000));
}

#[test]
fn an_eviction_that_was_interrupted_is_ended_and_counted_once() {
    let place = Place::new();
    let spool = place.spool().max_bytes(place.room_for(&[&"c".repeat(1700)]));
    // Killed just before the first victim goes, before the second, and before the renaming.
    for victims_left in (0..=2).rev() {
        let _ = fs::remove_dir_all(place.directory());
        let mut store = place.store_of(spool.clone(), KEY);
        put(&mut store, &["a"]);
        put(&mut store, &["b"]);
        let victims: Vec<(String, Vec<u8>)> = place
            .names()
            .into_iter()
            .map(|name| (name.clone(), fs::read(place.path(&name)).unwrap()))
            .collect();
        put(&mut store, &[&"c".repeat(1700)]);
        let name = place.only_name();
        fs::rename(place.path(&name), place.path(&name.replace(SPOOLED, TEMPORARY))).unwrap();
        for (name, bytes) in victims.iter().rev().take(victims_left) {
            fs::write(place.path(name), bytes).unwrap();
        }
        let mut reader = place.store_of(spool.clone(), KEY);
        assert_eq!(deliver_all(&mut reader), ["c".repeat(1700)], "{victims_left}");
        assert_eq!(reader.take_losses(), losses(2, 0, 0), "{victims_left}");
        assert_eq!(place.names(), [""; 0], "{victims_left}");
    }
}

#[test]
fn what_was_set_aside_goes_first_and_is_not_counted_again() {
    let place = Place::new();
    let file = place.room_for(&[&"x".repeat(1000)]);
    let mut store = place.store_of(place.spool().max_bytes(2 * file), KEY);
    put(&mut store, &[&"a".repeat(1000)]);
    place.clock.advance(Duration::from_secs(1));
    let torn = place.plant_at(TODAY + 500_000_000, ".spool.corrupt", &[b't'; 900]);
    assert_eq!(place.names().len(), 2);
    put(&mut store, &[&"b".repeat(1000)]);
    assert!(!place.names().contains(&torn));
    assert_eq!(store.take_losses(), Losses::default());
    assert_eq!(deliver_all(&mut store).len(), 2);
    assert_eq!(store.take_losses(), Losses::default());
}

#[test]
fn what_is_larger_than_the_spool_is_an_error_and_costs_the_others_nothing() {
    let place = Place::new();
    let length = place.room_for(&["x"]);
    let mut store = place.store_of(place.spool().max_bytes(length), KEY);
    put(&mut store, &["a"]);
    let error = try_put(&mut store, &["xx"]).unwrap_err().to_string();
    assert!(
        error.contains("max_bytes") && error.contains(&length.to_string()),
        "{error}"
    );
    assert_eq!(deliver_all(&mut store), ["a"]);
    assert_eq!(store.take_losses(), Losses::default());
}

#[test]
fn there_are_only_so_many_files() {
    let place = Place::new();
    let mut store = place.store().with_most_files(3);
    for payload in ["a", "b", "c", "d", "e"] {
        put(&mut store, &[payload]);
    }
    assert_eq!(store.take_losses().noted_points, 2);
    assert_eq!(deliver_all(&mut store), ["c", "d", "e"]);
    assert_eq!(store.take_losses(), losses(2, 0, 0));
}

#[test]
fn what_is_too_old_goes_and_is_counted_once() {
    let day = Duration::from_secs(86_400);
    let place = Place::new();
    let spool = place.spool().max_age(day);
    let mut store = place.store_of(spool.clone(), KEY);
    put(&mut store, &["old", "older"]);
    place
        .store_of(spool.clone(), "of another key")
        .put(&[record(b"of another")], Duration::ZERO)
        .unwrap();
    place.plant_at(TODAY, ".spool.corrupt", b"torn");
    assert_eq!(deliver(&mut store).unwrap(), "old");
    store.release();
    place.clock.advance(day);
    put(&mut store, &["young"]);
    assert_eq!(place.names().len(), 4);
    // The second of two that were put at once has a time of one more.
    place.clock.advance(Duration::from_nanos(2));
    // By who delivers: what was not acknowledged is lost.
    let mut reader = place.store_of(spool.clone(), KEY);
    assert_eq!(deliver_all(&mut reader), ["young"]);
    assert_eq!(reader.take_losses(), losses(0, 5 + 10, 0));
    assert_eq!(place.names(), [""; 0]);

    // By who puts: noted, and counted by who reads that.
    put(&mut store, &["old"]);
    place.clock.advance(day + day);
    put(&mut store, &["young"]);
    assert_eq!(
        store.take_losses(),
        Losses {
            noted_points: 3,
            ..Losses::default()
        }
    );
    assert_eq!(deliver_all(&mut reader), ["young"]);
    assert_eq!(reader.take_losses(), losses(0, 3, 0));
}

#[test]
fn what_is_from_the_future_is_not_too_old() {
    let place = Place::new();
    let mut store = place.store_of(place.spool().max_age(Duration::ZERO), KEY);
    put(&mut store, &["from the future"]);
    place.clock.set_unix(Duration::from_secs(5));
    // Later than that one, and made before it; when the clock is right again, only its own time counts.
    put(&mut store, &["from the past"]);
    assert_eq!(deliver_all(&mut store), ["from the future", "from the past"]);
    place.clock.set_unix(Duration::from_nanos(TODAY));
    put(&mut store, &["from the future"]);
    place.clock.set_unix(Duration::from_secs(5));
    put(&mut store, &["from the past"]);
    place.clock.set_unix(Duration::from_nanos(TODAY));
    assert_eq!(deliver_all(&mut store), ["from the future"]);
    assert_eq!(store.take_losses(), losses(0, 13, 0));
    assert_eq!(place.names(), [""; 0]);
    place.clock.set_unix(Duration::from_secs(5));
    put(&mut store, &["from the past"]);
    place.clock.set_unix(Duration::from_secs(6));
    assert_eq!(deliver(&mut store), None);
    assert_eq!(store.take_losses(), losses(0, 13, 0));
}

#[test]
fn a_name_from_the_end_of_time_is_named() {
    let place = Place::new();
    place.plant_at(i64::MAX as u64, ".spool.corrupt", b"");
    let error = try_put(&mut place.store(), &["x"]).unwrap_err().to_string();
    assert!(error.contains("2262") && error.contains("delete"), "{error}");
}

// What replaces

#[test]
fn of_what_replaces_only_the_newest_is_there() {
    let place = Place::new();
    let mut store = place.replacing();
    place
        .store_of(place.spool(), "of another key")
        .put(&[record(b"other")], Duration::ZERO)
        .unwrap();
    for payload in ["a", "b", "c"] {
        put(&mut store, &[payload]);
        assert_eq!(place.names().len(), 2);
    }
    assert_eq!(store.size().files, 2);
    assert_eq!(deliver_all(&mut store), ["c"]);
    assert_eq!(store.take_losses(), Losses::default());
}

#[test]
fn of_what_replaces_an_older_one_never_comes_after_a_newer() {
    let place = Place::new();
    // Its writer was killed before it could delete the older one.
    for payload in ["a", "b"] {
        put(&mut place.store(), &[payload]);
    }
    // And this is torn.
    place.plant_at(TODAY + 500_000_000, SPOOLED, b"torn");
    let mut store = place.replacing();
    assert_eq!(deliver_all(&mut store), ["b"]);
    assert_eq!(store.take_losses(), losses(0, 0, 1));
    assert!(place.only_name().ends_with(".corrupt"));
}

#[test]
fn what_something_newer_supersedes_goes() {
    let place = Place::new();
    let (mut one, mut other) = (place.replacing(), place.replacing());
    assert_eq!(one.supersede().unwrap(), 0);
    put(&mut one, &["spooled"]);
    assert_eq!(one.supersede().unwrap(), 0, "without a lease");
    assert!(other.lease().unwrap());
    assert!(one.next().unwrap().is_none());
    assert!(!one.lease().unwrap());
    assert_eq!(other.supersede().unwrap(), 7);
    assert_eq!(place.names(), [""; 0]);
    // What comes in the meantime may be newer.
    put(&mut one, &["newer"]);
    assert_eq!(other.supersede().unwrap(), 0);
    assert_eq!(deliver_all(&mut other), ["newer"]);
    assert!(!one.lease().unwrap(), "a lease is held until it is released");
    other.release();
    assert!(one.lease().unwrap());
    assert_eq!(one.take_losses(), Losses::default());
}

#[test]
fn what_replaces_takes_over_what_was_noted() {
    let place = Place::new();
    let long = "x".repeat(1000);
    let length = place.room_for(&[&long]);
    let bounded = || {
        let spool = place.spool().max_bytes(length);
        Store::new(spool, KEY, true, SharedClock::new(place.clock.clone()))
    };
    let mut foreign = place.store_of(place.spool(), "of another key");
    foreign.put(&[record(b"gone")], Duration::ZERO).unwrap();
    put(&mut bounded(), &[&long]);
    put(&mut bounded(), &["a"]);
    put(&mut bounded(), &["b"]);
    let mut reader = bounded();
    assert_eq!(deliver_all(&mut reader), ["b"]);
    assert_eq!(reader.take_losses(), losses(4, 0, 0));

    foreign.put(&[record(b"gone")], Duration::ZERO).unwrap();
    put(&mut bounded(), &[&long]);
    put(&mut bounded(), &["a"]);
    assert!(reader.lease().unwrap());
    assert_eq!(reader.supersede().unwrap(), 1);
    assert_eq!(reader.take_losses(), losses(4, 0, 0));
}

// Disks that take nothing

#[cfg(unix)]
#[test]
fn it_is_for_its_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let mut store = place.store_of(Spool::new(place.directory().join("below")), KEY);
    put(&mut store, &["a", "b"]);
    store.next().unwrap().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.directory()), 0o700);
    assert_eq!(mode(&place.directory().join("below")), 0o700);
    let files: Vec<PathBuf> = fs::read_dir(place.directory().join("below"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(files.len(), 3, "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    // What is there is not changed.
    fs::set_permissions(place.directory(), fs::Permissions::from_mode(0o750)).unwrap();
    put(&mut place.store(), &["c"]);
    assert_eq!(mode(&place.directory()), 0o750);
}

/// Else who runs a job once as root would lock its user out.
#[cfg(unix)]
#[test]
fn what_root_puts_into_the_directory_of_a_user_is_the_users() {
    use std::os::unix::fs::{MetadataExt, chown};
    const NOBODY: u32 = 65_534;
    let place = Place::new();
    fs::create_dir(place.directory()).unwrap();
    if chown(place.directory(), Some(NOBODY), Some(NOBODY)).is_err() {
        println!("this is not run by root: nothing is shown here");
        return;
    }
    let mut store = place.store();
    put(&mut store, &["a", "b"]);
    assert!(store.next().unwrap().is_some());
    let owners = fs::read_dir(place.directory()).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        (entry.file_name(), metadata.uid(), metadata.gid())
    });
    let owners: Vec<_> = owners.collect();
    assert_eq!(owners.len(), 3, "{owners:?}");
    assert!(
        owners
            .iter()
            .all(|(_, user, group)| (*user, *group) == (NOBODY, NOBODY)),
        "{owners:?}"
    );
}

#[test]
fn a_path_that_cannot_be_a_directory_is_named() {
    let place = Place::new();
    let file = place.folder.join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below")] {
        let mut store = place.store_of(Spool::new(&path), KEY);
        let error = try_put(&mut store, &["x"]).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        assert!(error.contains("choose a path"), "{error}");
        let error = store.next().unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        store.lease().unwrap_err();
        assert_eq!(store.take_losses(), Losses::default());
    }
    assert_eq!(fs::read(&file).unwrap(), b"");
}

#[test]
fn what_was_being_sent_when_its_deliverer_was_killed_may_have_arrived() {
    let place = Place::new();
    put(&mut place.store(), &["ab", "cd"]);
    let mut killed = place.store();
    let entry = killed.next().unwrap().unwrap();
    assert!(!entry.unclear);
    killed.note_attempt(&entry).unwrap();
    killed.note_attempt(&entry).unwrap();
    drop(killed);
    let mut next = place.store();
    let entry = next.next().unwrap().unwrap();
    assert!(entry.unclear, "nobody knows of the attempt");
    next.note_attempt(&entry).unwrap();
    next.acknowledge(&entry).unwrap();
    let entry = next.next().unwrap().unwrap();
    assert!(text(&entry) == "cd" && !entry.unclear);
    // An attempt that the far end has answered is none.
    next.note_attempt(&entry).unwrap();
    next.take_back_attempt(&entry).unwrap();
    next.take_back_attempt(&entry).unwrap();
    drop(next);
    let mut last = place.store();
    let entry = last.next().unwrap().unwrap();
    assert!(text(&entry) == "cd" && !entry.unclear);
    last.acknowledge(&entry).unwrap();
    last.note_attempt(&entry).unwrap_err();
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn an_acknowledgement_that_the_disk_does_not_take_is_made_up_for() {
    let place = Place::new();
    let mut store = place.store();
    put(&mut store, &["a", "b", "c"]);
    let entry = store.next().unwrap().unwrap();
    let healthy = store.exchange_current(File::open(place.path(&place.only_name())).unwrap());
    let error = store.acknowledge(&entry).unwrap_err().to_string();
    assert!(error.contains("acknowledge"), "{error}");
    // This process does not deliver it again.
    let entry = store.next().unwrap().unwrap();
    assert_eq!(text(&entry), "b");
    store.exchange_current(healthy);
    store.acknowledge(&entry).unwrap();
    drop(store);
    assert_eq!(deliver_all(&mut place.store()), ["c"]);
}

#[test]
fn what_the_disk_does_not_take_is_remembered_when_the_store_is_released() {
    let place = Place::new();
    let mut store = place.store();
    put(&mut store, &["ab", "cd", "ef"]);
    let entry = store.next().unwrap().unwrap();
    store.exchange_current(File::open(place.path(&place.only_name())).unwrap());
    store.note_attempt(&entry).unwrap_err();
    store.release();
    let entry = store.next().unwrap().unwrap();
    assert!(
        text(&entry) == "ab" && entry.unclear,
        "its attempt is forgotten: {entry:?}"
    );
    store.exchange_current(File::open(place.path(&place.only_name())).unwrap());
    store.acknowledge(&entry).unwrap_err();
    store.release();
    // It has arrived, and this process knows that.
    let entry = store.next().unwrap().unwrap();
    assert!(text(&entry) == "cd" && !entry.unclear, "{entry:?}");
    store.note_attempt(&entry).unwrap();
    drop(store);
    // By now the disk does, too.
    let entry = place.store().next().unwrap().unwrap();
    assert!(text(&entry) == "cd" && entry.unclear, "{entry:?}");
}

#[test]
fn an_attempt_that_the_disk_does_not_take_back_stays_one_and_is_no_acknowledgement() {
    let place = Place::new();
    let mut store = place.store();
    put(&mut store, &["ab", "cd"]);
    let entry = store.next().unwrap().unwrap();
    store.note_attempt(&entry).unwrap();
    let file = store.exchange_current(File::open(place.path(&place.only_name())).unwrap());
    store.take_back_attempt(&entry).unwrap_err();
    store.exchange_current(file);
    store.note_attempt(&entry).unwrap();
    drop(store);
    // As if the process had been killed in the middle of the second attempt.
    let mut store = place.store();
    let entry = store.next().unwrap().unwrap();
    assert!(text(&entry) == "ab" && entry.unclear, "{entry:?}");
    store.acknowledge(&entry).unwrap();
    assert_eq!(deliver_all(&mut store), ["cd"]);
}

#[test]
fn a_relative_path_is_where_the_process_is_when_it_is_given() {
    let here = std::env::current_dir().unwrap();
    assert_eq!(Spool::new("spool"), Spool::new(here.join("spool")));
}

/// What the tests below run under limits of the system: puts until that fails, and delivers what is there.
#[test]
#[ignore = "runs as a child of the other tests"]
fn child_process() {
    let Some(directory) = std::env::var_os(CHILD) else {
        return;
    };
    let clock = SharedClock::new(ManualClock::new());
    let mut store = Store::new(Spool::new(directory), KEY, false, clock);
    let error = (0..100).find_map(|_| store.put(&[record(&[b'x'; 7000])], Duration::ZERO).err());
    let mut delivered = 0;
    while let Ok(Some(entry)) = store.next() {
        store.acknowledge(&entry).unwrap();
        delivered += 1;
    }
    println!(
        "delivered={delivered} error={}",
        error.expect("it cannot put all of it")
    );
}

const CHILD: &str = "TIDEGAUGE_TEST_SPOOL";

/// What a child prints after a shell has done what comes before, and the names that it leaves behind.
#[cfg(unix)]
fn child(shell: &[&str], before: &str, directory: &Path) -> String {
    let run = "\"$0\" --exact spool::tests::child_process --ignored --nocapture";
    let output = Command::new(shell[0])
        .args(&shell[1..])
        .args(["-c", &format!("{before} && {run} && ls -A \"${CHILD}\" 2>&1")])
        .arg(std::env::current_exe().unwrap())
        .env(CHILD, directory)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(
        printed.contains(&format!("the spool `{}`", directory.display())),
        "{printed}"
    );
    for left in [SPOOLED, TEMPORARY] {
        assert!(!printed.contains(left), "{printed}");
    }
    printed
}

#[cfg(unix)]
#[test]
fn a_file_that_may_not_grow_is_an_error_and_leaves_nothing_behind() {
    let place = Place::new();
    // Of 512 bytes each, or of 1024: less than a file of the child has. Without the signal, a write ends half-way.
    let printed = child(&["sh"], "trap '' XFSZ && ulimit -f 6", &place.directory());
    assert!(printed.contains("delivered=0 "), "{printed}");
    assert!(
        printed.contains("cannot write a file in it: File too large"),
        "{printed}"
    );
    assert!(printed.contains("free space there"), "{printed}");
}

/// A child for which the directory is a file system of its own; none if the system lets nobody mount one.
#[cfg(target_os = "linux")]
fn child_on(options: &str) -> Option<String> {
    const SHELL: [&str; 3] = ["unshare", "-rm", "sh"];
    let place = Place::new();
    fs::create_dir_all(place.directory()).unwrap();
    let mount = format!("mount -t tmpfs -o {options} none \"${CHILD}\"");
    let mut trial = Command::new(SHELL[0]);
    trial
        .args(&SHELL[1..])
        .args(["-c", &mount])
        .env(CHILD, place.directory());
    if !trial.output().is_ok_and(|output| output.status.success()) {
        println!("this system lets nobody mount a file system: nothing is shown here");
        return None;
    }
    Some(child(&SHELL, &mount, &place.directory()))
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_and_leaves_nothing_behind() {
    if let Some(printed) = child_on("size=40k") {
        assert!(
            printed.contains("cannot write a file in it: No space left on device"),
            "{printed}"
        );
        assert!(printed.contains("free space there"), "{printed}");
        // What was there can be delivered all the same.
        assert!(!printed.contains("delivered=0 "), "{printed}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_cannot_be_written_is_an_error() {
    if let Some(printed) = child_on("ro") {
        assert!(printed.contains("delivered=0 "), "{printed}");
        assert!(printed.contains("Read-only file system"), "{printed}");
        assert!(printed.contains("on a file system that can be written"), "{printed}");
    }
}

// What is shown

#[test]
fn no_debug_shows_bytes() {
    let place = Place::new();
    let mut store = place.store();
    let payload = "secret-payload";
    put(&mut store, &[payload]);
    let entry = store.next().unwrap().unwrap();
    let shown = format!(
        "{store:?} {entry:?} {:?} {:?}",
        record(payload.as_bytes()),
        place.spool()
    );
    assert!(!shown.contains("secret"), "{shown}");
    assert!(!shown.contains(&format!("{:?}", payload.as_bytes())), "{shown}");
    assert!(shown.contains("bytes: 14"), "{shown}");
}

#[test]
fn sizes_are_of_all_that_is_there() {
    let place = Place::new();
    let mut store = place.store();
    put(&mut store, &["a"]);
    place.plant(1, ".spool.corrupt", b"12345");
    put(&mut place.store_of(place.spool(), "of another key"), &["b"]);
    store.next().unwrap().unwrap();
    let on_disk: u64 = place
        .names()
        .iter()
        .map(|name| fs::metadata(place.path(name)).unwrap().len())
        .sum();
    assert_eq!((store.size().files, store.size().bytes), (3, on_disk));
    let states: Vec<State> = Directory::new(place.directory())
        .list()
        .unwrap()
        .iter()
        .map(|file| file.state)
        .collect();
    assert_eq!(states, [State::SetAside, State::Spooled, State::Spooled]);
}
