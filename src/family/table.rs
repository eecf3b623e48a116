//! From label values to a series, without a lock; and the second of the crate's files with unsafe code.
//!
//! Every series has an entry: a run of 64-bit atomics in an arena.
//!
//! ```text
//! life | birth and page position | value (gauges) | lengths of the label values | their bytes, padded to words
//! ```
//!
//! An index of [`Segment`]s, picked by the leading bits of a hash (extendible hashing), leads to entries. It grows one
//! segment at a time: a crowded one is split into itself and a new one, so the largest piece of work that an insert
//! ever does is to spread two hundred entries, and now and then to copy the directory of segments.
//!
//! # Why readers need no lock and leave no trace
//!
//! *Memory is type-stable.* Arena blocks, segments and directories are freed when the table is dropped and not before; an
//! address once read from the index points to an entry for ever, though perhaps by now to that of another series.
//! Everything that may change under a reader is an atomic, so a stale look is a wrong answer at worst, never undefined.
//!
//! *An entry proves itself.* Its first word names the life it serves: a [`CellId`]'s bits, which no two lives share, beside a
//! flag that hides it and a count of those who keep a handle. A reader takes that word, compares all label words,
//! and takes it again: the same and not hidden means that what lay between belongs to that life. This is a sequence lock:
//! a writer hides the entry, fences, rewrites it and publishes the new life with a release; the reader's acquiring load
//! and acquiring fence are the partners.
//!
//! *A miss proves nothing*, unless [`Table::surely_absent`] says so: while a segment is split, an entry is nowhere for a
//! moment. Whoever misses comes again under the lock.
//!
//! # When an entry serves again
//!
//! A removed entry waits in limbo until nobody holds it: no kept handle (its count of pins is zero) and no [`Reading`] that
//! began before the removal. Readings are what snapshots hold, so label values seen through one never change. Limbo is
//! bounded by refusing new series ([`Table::LIMBO`]); the caller sends them to the overflow series, where they are counted.
//!
//! In the child of a fork nobody can tell what is held by the one thread that it has from what was held by others, which are
//! gone and never let go of it. So entries from before the fork do not serve again there once they are removed; there are no
//! more of them than there were series.

use super::{
    query::{Query, Seed, has_escaped, hash_words, length_words, text_words},
    segment::{CROWDED, Segment},
};
use crate::instrument::bank::CellId;
use crate::{
    platform,
    sync::{AtomicBool, AtomicPtr, AtomicU64, Mutex, MutexGuard, Ordering, fence},
};
use std::{
    collections::{HashMap, VecDeque},
    marker::PhantomData,
    ops::Range,
    ptr::NonNull,
    sync::Arc,
};

/// The part of a life word that names the life: a generation and an index, as in a `CellId`.
const IDENTITY: u64 = !(HIDDEN | PINS);
/// The life is over, or may be soon: look-ups pass the entry by.
const HIDDEN: u64 = 1 << 47;
/// How many handles are kept, half a million of them. The largest number sticks: such a series is kept for ever.
const PINS: u64 = HIDDEN - ONE_PIN;
const ONE_PIN: u64 = 1 << CellId::INDEX_BITS;

/// Where the words of an entry are.
const LIFE: usize = 0;
const BIRTH: usize = 1;
const HEADER: usize = 2;

/// Bits of the second word that say where the entry stands in the pages.
const POSITION_BITS: u32 = 24;
/// The bit above them: the value was written since somebody last took the mark.
const ACTIVE: u64 = 1 << POSITION_BITS;
/// The next bit: some label value has a byte that text formats escape. Seen once, so that no scrape has to look for one.
const ESCAPED: u64 = 1 << (POSITION_BITS + 1);
/// Where the milliseconds begin.
const BIRTH_SHIFT: u32 = POSITION_BITS + 2;

/// A directory is not doubled beyond so many leading bits. Only a hash that has failed gets there.
const DEEPEST: usize = 28;

/// So many entries in limbo that are held are enough to see that it is not worth while to look at more, however full it is.
const MOST_HELD: usize = 64;

/// Entries in a page.
const PAGE: usize = 256;

/// Words in the largest block of the arena.
const LARGEST_BLOCK: usize = 8192;

/// A look-up from label values to series; see the module.
pub(crate) struct Table {
    /// Null until the first series is indexed.
    directory: AtomicPtr<Directory>,
    /// Odd while entries move between segments.
    epoch: AtomicU64,
    seed: Seed,
    labels: usize,
    /// Whether entries hold a value of their own.
    value: bool,
    store: Mutex<Store>,
}

struct Directory {
    /// How far a hash is shifted, after one, for its segment's number.
    shift: u32,
    segments: Vec<AtomicPtr<Segment>>,
}

/// What only writers see.
struct Store {
    /// The generation of the process that made or took over the store.
    process: u64,
    /// The addresses of the blocks that are from before this process was forked, in order.
    inherited: Vec<Range<usize>>,
    blocks: Vec<Vec<AtomicU64>>,
    /// Words of the last block that are handed out.
    used: usize,
    /// Entries that can serve again, by how many words they have.
    free: HashMap<usize, Vec<Entry>>,
    /// Removed entries that may still be held, with the number of the newest reading at their removal.
    limbo: VecDeque<(u64, Entry)>,
    segments: Vec<NonNull<Segment>>,
    directories: Vec<NonNull<Directory>>,
    pages: Vec<Arc<Page>>,
    /// Positions in pages that removed series left.
    holes: Vec<u32>,
    overflow: Option<Entry>,
    len: usize,
    /// By number, and whether each is over.
    readings: VecDeque<(u64, Arc<AtomicBool>)>,
    reading: u64,
    /// Names the lives of series that have no cells.
    lives: u32,
}

/// Series in the order of their birth, but that a new one takes the place of a removed one.
type Page = Vec<Option<Entry>>;

/// One series' words. Made by a table, and used with that table alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Entry(NonNull<AtomicU64>);

// SAFETY: an entry is an address; all that is done with it goes through a table, which is `Sync` by its own argument.
unsafe impl Send for Entry {}
// SAFETY: as above.
unsafe impl Sync for Entry {}

// SAFETY: the pointers lead to memory that the table owns and that holds only atomics (segments, entries) or does not
// change after it is published (directories); `Store` is behind a lock.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

/// A series that was found or made, and the life it had then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    pub(crate) entry: Entry,
    /// A `CellId`'s bits.
    pub(crate) life: u64,
}

/// Why a series was not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoRoom;

impl Table {
    /// Removed entries that may wait to serve again; while there are more, and they are held, no new series is made.
    pub(crate) const LIMBO: usize = 16_384;

    /// A table for series of `labels` labels; with a value in the entry, or without.
    pub(crate) fn new(labels: usize, value: bool) -> Self {
        Table {
            directory: AtomicPtr::new(std::ptr::null_mut()),
            epoch: AtomicU64::new(0),
            seed: Seed::random(),
            labels,
            value,
            store: Mutex::new(Store {
                process: platform::generation(),
                inherited: Vec::new(),
                blocks: Vec::new(),
                used: 0,
                free: HashMap::new(),
                limbo: VecDeque::new(),
                segments: Vec::new(),
                directories: Vec::new(),
                pages: Vec::new(),
                holes: Vec::new(),
                overflow: None,
                len: 0,
                readings: VecDeque::new(),
                reading: 0,
                lives: 0,
            }),
        }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        let mut store = self.store.lock();
        let process = platform::generation();
        if store.process != process {
            store.process = process;
            store.take_over();
        }
        store
    }

    /// What queries of this table are hashed with.
    #[inline(always)]
    pub(crate) fn seed(&self) -> &Seed {
        &self.seed
    }

    /// The series of these label values. `None` proves nothing.
    #[inline(always)]
    pub(crate) fn find(&self, query: Query<'_>) -> Option<Found> {
        self.find_past(HIDDEN, query)
    }

    /// The series of these label values, passing by entries with one of these bits.
    #[inline(always)]
    fn find_past(&self, bits: u64, query: Query<'_>) -> Option<Found> {
        let segment = self.segment(query.hash)?;
        segment.find(query.hash, |address| {
            // SAFETY: addresses in segments are those of entries of this table.
            let entry = Entry(unsafe { NonNull::new_unchecked(address) });
            let life = self.word(entry, LIFE).load(Ordering::Acquire);
            let text = self.text_at();
            // Of an entry with fewer words the lengths differ, and they are compared first.
            let same = |(at, own): (usize, &u64)| *own == self.word(entry, text + at).load(Ordering::Relaxed);
            let proves = || {
                fence(Ordering::Acquire);
                let again = self.word(entry, LIFE).load(Ordering::Relaxed);
                (life ^ again) & IDENTITY == 0 && (life | again) & bits == 0 && (bits == HIDDEN || life & IDENTITY != 0)
            };
            let lengths = length_words(self.labels);
            // Lengths in several words may be those of two lives, and add up to more than the entry has.
            if lengths > 1 && !(query.words[..lengths].iter().enumerate().all(same) && proves()) {
                return None;
            }
            let found = query.words.iter().enumerate().all(same) && proves();
            found.then_some(Found {
                entry,
                life: life & IDENTITY,
            })
        })
    }

    /// The series of these label values, hidden or not; for certain, because the caller has the family's lock.
    pub(crate) fn find_listed(&self, query: Query<'_>) -> Option<Found> {
        self.segment(query.hash)?.find(query.hash, |address| {
            // SAFETY: as in `find`.
            let entry = Entry(unsafe { NonNull::new_unchecked(address) });
            let same = |(at, own): (usize, &u64)| *own == self.word(entry, self.text_at() + at).load(Ordering::Relaxed);
            let life = self.word(entry, LIFE).load(Ordering::Relaxed) & IDENTITY;
            query
                .words
                .iter()
                .enumerate()
                .all(same)
                .then_some(Found { entry, life })
        })
    }

    /// Whether these label values have no series, not even a hidden one, for certain: it is not found, and nothing moved
    /// meanwhile.
    pub(crate) fn surely_absent(&self, query: Query<'_>) -> bool {
        let before = self.epoch.load(Ordering::Acquire);
        if before % 2 == 1 || self.find_past(0, query).is_some() {
            return false;
        }
        fence(Ordering::Acquire);
        self.epoch.load(Ordering::Relaxed) == before
    }

    /// Makes a series that is not there; the family's lock keeps two from making the same. Its values go into the index;
    /// those of the overflow series and of an unlabelled family's only one (`index` false) do not.
    ///
    /// `life` is the bits of a `CellId`, or 0 for a series without cells, which is then named here.
    pub(crate) fn insert(&self, query: Query<'_>, index: bool, life: u64, birth: u64) -> Result<Found, NoRoom> {
        let mut store = self.store();
        let freed = store.reclaim(self);
        if index && (store.limbo.len() > Self::LIMBO && !freed || store.len >> POSITION_BITS != 0) {
            return Err(NoRoom);
        }
        if index {
            self.make_place(&mut store, query.hash)?;
        }
        let life = match life {
            0 => {
                store.lives = store.lives.wrapping_add(1) & ((1 << CellId::INDEX_BITS) - 1);
                1 << 48 | store.lives as u64
            }
            life => life & IDENTITY,
        };
        let entry = store.entry(self.text_at() + query.words.len());
        // The entry may be one that readers still look at: it is hidden, and they must not see new words without seeing that.
        fence(Ordering::Release);
        let position = if index { store.position(entry) } else { 0 };
        let text = query.words.get(length_words(self.labels)..).unwrap_or_default();
        let escaped = if text.iter().any(|word| has_escaped(*word)) {
            ESCAPED
        } else {
            0
        };
        let birth = birth << BIRTH_SHIFT | escaped | position as u64;
        self.word(entry, BIRTH).store(birth, Ordering::Relaxed);
        if self.value {
            self.word(entry, HEADER).store(0, Ordering::Relaxed);
        }
        for (at, word) in query.words.iter().enumerate() {
            self.word(entry, self.text_at() + at).store(*word, Ordering::Relaxed);
        }
        self.word(entry, LIFE).store(life, Ordering::Release);
        if index {
            let segment = self.segment(query.hash).expect("a place was made");
            let inserted = segment.insert(query.hash, entry.0.as_ptr());
            debug_assert!(inserted, "a segment is split before it is full");
            store.len += 1;
        } else if self.labels == 0 {
            store.pages.push(Arc::new(vec![Some(entry)]));
            store.len += 1;
        } else {
            store.overflow = Some(entry);
        }
        Ok(Found { entry, life })
    }

    /// A series that is over from the start, for look-ups in a family that has ended: no reading sees it, and what is written
    /// through it is late.
    pub(crate) fn over(&self) -> Found {
        // Nobody else gets the entry, and its life stays the none that it has: it is hidden since it was new or removed.
        let entry = self.store.lock().entry(self.text_at() + length_words(self.labels));
        let life = CellId::UNSET.bits();
        Found { entry, life }
    }

    /// Ends a series: look-ups and new readings pass it by from now on. True for the one caller that ended it.
    pub(crate) fn remove(&self, found: Found) -> bool {
        let mut store = self.store();
        if !self.is_listed(&store, found) {
            return false;
        }
        // The life is over: its name goes. Relaxed: whoever sees the life's cells change hands sees this too, by the lock under
        // which they do; and a reader is kept from the entry's next words by the fence in `insert`.
        let over = |life| Some(life & PINS | HIDDEN);
        let _ = self
            .word(found.entry, LIFE)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, over);
        if self
            .segment(self.hash_of(found.entry))
            .is_some_and(|segment| segment.remove(self.hash_of(found.entry), found.entry.0.as_ptr()))
        {
            let position = self.position(found.entry);
            Arc::make_mut(&mut store.pages[position / PAGE])[position % PAGE] = None;
            store.holes.push(position as u32);
            store.len -= 1;
        } else if store.overflow == Some(found.entry) {
            store.overflow = None;
        } else {
            store.pages.clear();
            store.len = 0;
        }
        let newest = store.reading;
        if !store.is_inherited(found.entry) {
            store.limbo.push_back((newest, found.entry));
        }
        store.reclaim(self);
        true
    }

    /// Hides a series that no handle pins, so that it can be seen whether it is really idle. False if one does.
    pub(crate) fn hide(&self, found: Found) -> bool {
        let life = self.word(found.entry, LIFE);
        // Only an unpinned life matches. Acquire, the partner of the release in `unpin`: what was done through handles that are
        // gone comes before, and the next collection reads it.
        life.compare_exchange(found.life, found.life | HIDDEN, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Shows a hidden series again; under the family's lock, which keeps it from being removed meanwhile.
    pub(crate) fn show(&self, found: Found) {
        self.word(found.entry, LIFE).fetch_and(!HIDDEN, Ordering::Relaxed);
    }

    /// Keeps a life from expiring and its entry from serving again. False when the life is over.
    ///
    /// Relaxed: what the entry holds is known since it was found; and read-modify-writes do not end what a release began.
    #[inline]
    pub(crate) fn pin(&self, found: Found) -> bool {
        let pin = |life: u64| {
            let lives = (life ^ found.life) & (IDENTITY | HIDDEN) == 0;
            lives.then_some(if life & PINS == PINS { life } else { life + ONE_PIN })
        };
        self.word(found.entry, LIFE)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, pin)
            .is_ok()
    }

    /// Pins once more what the caller has pinned, over or not.
    pub(crate) fn pin_again(&self, entry: Entry) {
        let pin = |life: u64| (life & PINS != PINS).then_some(life + ONE_PIN);
        let _ = self
            .word(entry, LIFE)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, pin);
    }

    /// Takes one pin back. Release, the partner of the acquiring loads in `reclaim` and `hide`.
    #[inline]
    pub(crate) fn unpin(&self, entry: Entry) {
        let unpin = |life: u64| (life & PINS != PINS).then_some(life - ONE_PIN);
        let _ = self
            .word(entry, LIFE)
            .fetch_update(Ordering::Release, Ordering::Relaxed, unpin);
    }

    /// Whether the life goes on and is not hidden.
    #[inline(always)]
    pub(crate) fn lives(&self, found: Found) -> bool {
        (self.word(found.entry, LIFE).load(Ordering::Relaxed) ^ found.life) & (IDENTITY | HIDDEN) == 0
    }

    /// Whether the life goes on, hidden or not. Relaxed: see `remove`.
    pub(crate) fn is_current(&self, found: Found) -> bool {
        (self.word(found.entry, LIFE).load(Ordering::Relaxed) ^ found.life) & IDENTITY == 0
    }

    /// Marks a series as written to.
    #[inline(always)]
    pub(crate) fn mark_active(&self, entry: Entry) {
        let birth = self.word(entry, BIRTH);
        // Mostly it is marked already, and its cache line stays as it is.
        if birth.load(Ordering::Relaxed) & ACTIVE == 0 {
            birth.fetch_or(ACTIVE, Ordering::Relaxed);
        }
    }

    /// Whether a series was written to since this was last asked.
    pub(crate) fn take_active(&self, entry: Entry) -> bool {
        self.word(entry, BIRTH).fetch_and(!ACTIVE, Ordering::Relaxed) & ACTIVE != 0
    }

    /// The value of a series that has no cells. It belongs to the caller's series for as long as the caller has it pinned.
    #[inline(always)]
    pub(crate) fn value(&self, entry: Entry) -> &AtomicU64 {
        debug_assert!(self.value, "only gauges keep a value here");
        self.word(entry, HEADER)
    }

    /// The words of the label values of a series, as [`Row::of_words`] takes them, and how many milliseconds after the family's
    /// registration it was first used; the caller's series for as long as the caller has it pinned.
    pub(crate) fn words_and_birth(&self, entry: Entry) -> (Vec<u64>, u64) {
        let birth = self.word(entry, BIRTH).load(Ordering::Relaxed) >> BIRTH_SHIFT;
        (self.words_of(entry).collect(), birth)
    }

    /// How many series there are, without the overflow series.
    pub(crate) fn len(&self) -> usize {
        self.store().len
    }

    /// All series of this moment, held for as long as the result is.
    pub(crate) fn read(self: &Arc<Table>) -> Reading {
        let mut store = self.store();
        store.reading += 1;
        let over = Arc::new(AtomicBool::new(false));
        let number = store.reading;
        if store.readings.len() >= 64 {
            store.readings.retain(|(_, over)| !over.load(Ordering::Acquire));
        }
        store.readings.push_back((number, over.clone()));
        Reading {
            table: self.clone(),
            pages: store.pages.clone(),
            overflow: store.overflow,
            _held: Arc::new(Held { over }),
        }
    }

    fn text_at(&self) -> usize {
        HEADER + self.value as usize
    }

    #[inline(always)]
    fn word(&self, entry: Entry, at: usize) -> &AtomicU64 {
        // SAFETY: entries are made by `Store::entry` of the table they are used with and lie in blocks that live as long as
        // it. Within the entry: the header and the lengths always are; further words are asked for by the entry's
        // own lengths, or by a query's after its lengths compared equal. Should the entry be rewritten in between, it
        // has the same number of words, because entries serve again only at their size.
        unsafe { entry.0.add(at).as_ref() }
    }

    #[inline(always)]
    fn segment(&self, hash: u64) -> Option<&Segment> {
        let directory = NonNull::new(self.directory.load(Ordering::Acquire))?;
        // SAFETY: directories are published whole and freed when the table is dropped; so are segments.
        unsafe {
            let directory = directory.as_ref();
            let number = (hash >> 1 >> directory.shift) as usize;
            Some(&*directory.segments[number].load(Ordering::Acquire))
        }
    }

    /// Sees to it that the segment of `hash` has a free place.
    fn make_place(&self, store: &mut Store, hash: u64) -> Result<(), NoRoom> {
        if self.directory.load(Ordering::Relaxed).is_null() {
            let first = store.segment(0);
            let segments = vec![AtomicPtr::new(first.as_ptr())];
            self.publish(store, Directory { shift: 63, segments });
        }
        loop {
            let segment = self.segment(hash).expect("there is a directory");
            if segment.used() < CROWDED {
                return Ok(());
            }
            let addresses = segment.addresses();
            let live = addresses.len();
            let split = live >= CROWDED / 2;
            if split && segment.depth() == DEEPEST {
                return Err(NoRoom);
            }
            self.epoch.fetch_add(1, Ordering::Relaxed);
            // The partner of the fence in `surely_absent`: addresses are relaxed, and whoever is misled by one sees the epoch.
            fence(Ordering::Release);
            if split {
                let next = store.segment(segment.depth() + 1);
                self.split(store, hash, segment, next);
            }
            // Whether split or only rid of what removals left: what belongs here comes back.
            segment.clear();
            for address in addresses {
                // SAFETY: as in `find`.
                let entry = Entry(unsafe { NonNull::new_unchecked(address) });
                let own = self.hash_of(entry);
                self.segment(own).expect("there is a directory").insert(own, address);
            }
            self.epoch.fetch_add(1, Ordering::Release);
        }
    }

    /// Gives `next` the half of `segment`'s hashes with the longer prefix that ends in one.
    fn split(&self, store: &mut Store, hash: u64, segment: &Segment, next: NonNull<Segment>) {
        let depth = segment.depth() + 1;
        segment.set_depth(depth);
        // SAFETY: the directory is there, and only this thread, which has the lock, replaces it.
        let mut directory = unsafe { &*self.directory.load(Ordering::Relaxed) };
        let bits = 63 - directory.shift as usize;
        if depth > bits {
            let doubled = directory.segments.iter().flat_map(|segment| {
                let segment = segment.load(Ordering::Relaxed);
                [AtomicPtr::new(segment), AtomicPtr::new(segment)]
            });
            let doubled = Directory {
                shift: directory.shift - 1,
                segments: doubled.collect(),
            };
            directory = self.publish(store, doubled);
        }
        let bits = 63 - directory.shift as usize;
        let span = 1 << (bits - depth);
        let first = ((hash >> 1 >> directory.shift) as usize / (2 * span)) * 2 * span + span;
        for place in &directory.segments[first..first + span] {
            place.store(next.as_ptr(), Ordering::Release);
        }
    }

    fn publish(&self, store: &mut Store, directory: Directory) -> &Directory {
        let directory = NonNull::from(Box::leak(Box::new(directory)));
        store.directories.push(directory);
        self.directory.store(directory.as_ptr(), Ordering::Release);
        // SAFETY: just made, and freed when the table is dropped.
        unsafe { directory.as_ref() }
    }

    fn hash_of(&self, entry: Entry) -> u64 {
        hash_words(&self.words_of(entry).collect::<Vec<_>>(), self.labels, &self.seed)
    }

    /// Lengths and text of an entry; under the lock, or while the entry is held.
    fn words_of(&self, entry: Entry) -> impl Iterator<Item = u64> {
        (0..self.text_words(entry)).map(move |at| self.word(entry, self.text_at() + at).load(Ordering::Relaxed))
    }

    /// How many words lengths and text of an entry take; under the lock, or while the entry is held.
    fn text_words(&self, entry: Entry) -> usize {
        let lengths = length_words(self.labels);
        let word = |at| self.word(entry, self.text_at() + at).load(Ordering::Relaxed);
        (0..lengths).fold(lengths, |words, at| words + text_words(word(at)))
    }

    fn position(&self, entry: Entry) -> usize {
        self.word(entry, BIRTH).load(Ordering::Relaxed) as usize & ((1 << POSITION_BITS) - 1)
    }

    /// Whether the series is among those that readings see, in this life.
    fn is_listed(&self, store: &Store, found: Found) -> bool {
        if (self.word(found.entry, LIFE).load(Ordering::Relaxed) ^ found.life) & IDENTITY != 0 {
            return false;
        }
        let position = self.position(found.entry);
        let listed = store
            .pages
            .get(position / PAGE)
            .and_then(|page| *page.get(position % PAGE)?);
        listed == Some(found.entry) || store.overflow == Some(found.entry)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let store = self.store();
        for segment in &store.segments {
            // SAFETY: made by `Box::leak` in `Store::segment`, freed here alone; `&mut self` shows that nobody reads.
            drop(unsafe { Box::from_raw(segment.as_ptr()) });
        }
        for directory in &store.directories {
            // SAFETY: made by `Box::leak` in `publish`; as above.
            drop(unsafe { Box::from_raw(directory.as_ptr()) });
        }
    }
}

/// How many words an entry has of which so many are needed. There are few sizes of large ones: an entry serves again at its
/// size alone, and values of ever new lengths would use up memory without end.
fn room(words: usize) -> usize {
    words.next_multiple_of((words.next_power_of_two() / 16).max(1))
}

impl Store {
    /// Makes the store this process' own, after a fork: what may be held by threads that are gone is not waited for.
    fn take_over(&mut self) {
        self.readings.clear();
        self.limbo.clear();
        let block = |block: &Vec<AtomicU64>| block.as_ptr_range();
        let addresses = self
            .blocks
            .iter()
            .map(block)
            .map(|block| block.start.addr()..block.end.addr());
        self.inherited = addresses.collect();
        self.inherited.sort_by_key(|block| block.start);
        // The next new entry is in a block of this process.
        self.used = self.blocks.last().map_or(0, Vec::len);
    }

    /// Whether an entry's memory is from before the fork.
    fn is_inherited(&self, entry: Entry) -> bool {
        let address = entry.0.as_ptr().addr();
        let behind = self.inherited.partition_point(|block| block.start <= address);
        behind > 0 && self.inherited[behind - 1].contains(&address)
    }

    /// Memory for an entry of so many words: one that can serve again, or new.
    fn entry(&mut self, words: usize) -> Entry {
        let words = room(words);
        if let Some(entry) = self.free.get_mut(&words).and_then(Vec::pop) {
            return entry;
        }
        let room = self.blocks.last().map_or(0, |block| block.len() - self.used);
        if room < words {
            let last = self.blocks.last().map_or(16, Vec::len);
            let len = (last * 2).min(LARGEST_BLOCK).max(words);
            self.blocks.push((0..len).map(|_| AtomicU64::new(HIDDEN)).collect());
            self.used = 0;
        }
        let block = self.blocks.last().expect("pushed if there was none");
        let entry = Entry(NonNull::from(&block[self.used..][..words]).cast());
        self.used += words;
        entry
    }

    fn segment(&mut self, depth: usize) -> NonNull<Segment> {
        let segment = NonNull::from(Box::leak(Box::new(Segment::new(depth))));
        self.segments.push(segment);
        segment
    }

    fn position(&mut self, entry: Entry) -> usize {
        if let Some(hole) = self.holes.pop() {
            let hole = hole as usize;
            Arc::make_mut(&mut self.pages[hole / PAGE])[hole % PAGE] = Some(entry);
            return hole;
        }
        if self.pages.last().is_none_or(|page| page.len() == PAGE) {
            self.pages.push(Arc::new(Vec::new()));
        }
        let page = self.pages.len() - 1;
        let entries = Arc::make_mut(&mut self.pages[page]);
        entries.push(Some(entry));
        page * PAGE + entries.len() - 1
    }

    /// Frees some of the entries in limbo that nobody holds any more: more than one insert and one removal add, so that
    /// limbo shrinks while either goes on. Whether there was one.
    fn reclaim(&mut self, table: &Table) -> bool {
        // Acquire, here and in `read`: a reader's last use of an entry comes before the release in `Held::drop`.
        let over = |(_, over): &(u64, Arc<AtomicBool>)| over.load(Ordering::Acquire);
        while self.readings.front().is_some_and(over) {
            self.readings.pop_front();
        }
        let oldest = self.readings.front().map_or(u64::MAX, |(number, _)| *number);
        let (mut freed, mut held) = (0, 0);
        let most_held = if self.limbo.len() > Table::LIMBO { MOST_HELD } else { 4 };
        while freed < 4 && held < most_held.min(self.limbo.len()) {
            let Some((newest, entry)) = self.limbo.pop_front() else {
                break;
            };
            let pinned = table.word(entry, LIFE).load(Ordering::Acquire) & PINS != 0;
            if pinned || oldest <= newest {
                self.limbo.push_back((newest, entry));
                held += 1;
            } else {
                let words = room(table.text_at() + table.text_words(entry));
                self.free.entry(words).or_default().push(entry);
                freed += 1;
            }
        }
        freed > 0
    }
}

/// All series of a table at one moment. Their label values do not change while it lasts.
#[derive(Clone)]
pub(crate) struct Reading {
    table: Arc<Table>,
    pages: Vec<Arc<Page>>,
    overflow: Option<Entry>,
    _held: Arc<Held>,
}

/// Says when a reading and all its clones are over.
struct Held {
    over: Arc<AtomicBool>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
    }
}

impl Reading {
    /// How many places there are, those of removed series among them; the overflow series, if there is one, comes last.
    pub(crate) fn places(&self) -> usize {
        let full = self.pages.len().saturating_sub(1) * PAGE;
        full + self.pages.last().map_or(0, |page| page.len()) + self.overflow.is_some() as usize
    }

    /// How many places there are without the overflow series.
    pub(crate) fn listed_places(&self) -> usize {
        self.places() - self.overflow.is_some() as usize
    }

    /// The series in each place.
    pub(crate) fn series(&self) -> impl Iterator<Item = Option<Found>> {
        let entries = self.pages.iter().flat_map(|page| page.iter().copied());
        entries.chain(self.overflow.map(Some)).map(|entry| {
            let entry = entry?;
            let life = self.table.word(entry, LIFE).load(Ordering::Acquire) & IDENTITY;
            // Removed since the reading began.
            (life != 0).then_some(Found { entry, life })
        })
    }

    /// Whether there was a series in a place when the reading began.
    pub(crate) fn is_taken(&self, place: usize) -> bool {
        match self.pages.get(place / PAGE).and_then(|page| page.get(place % PAGE)) {
            Some(entry) => entry.is_some(),
            None => self.overflow.is_some(),
        }
    }

    /// Takes a series out of this reading.
    pub(crate) fn forget(&mut self, place: usize) {
        match self
            .pages
            .get_mut(place / PAGE)
            .map(Arc::make_mut)
            .and_then(|page| page.get_mut(place % PAGE))
        {
            Some(entry) => *entry = None,
            None => self.overflow = None,
        }
    }

    /// The series in a place with its label values.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(crate) fn row(&self, place: usize) -> Option<Row<'_>> {
        let listed = self.pages.get(place / PAGE).and_then(|page| page.get(place % PAGE));
        let entry = match listed {
            Some(entry) => (*entry)?,
            None => self.overflow?,
        };
        let overflow = listed.is_none();
        let labels = if overflow { 0 } else { self.table.labels };
        Some(Row {
            overflow,
            ..self.row_of(entry, labels, self.table.text_at())
        })
    }

    /// Shows `see` the series in a range of places, in order, until it says no, and then tells the place: the fast way to
    /// see all rows, but for the overflow series.
    #[inline(always)]
    pub(crate) fn walk<'a>(
        &'a self,
        places: Range<usize>,
        mut see: impl FnMut(usize, Row<'a>) -> bool,
    ) -> Option<usize> {
        // Loaded once: a compiler cannot know that what `see` writes does not change them.
        let (labels, text_at) = (self.table.labels, self.table.text_at());
        let mut place = places.start;
        while let Some(page) = self.pages.get(place / PAGE) {
            let end = page.len().min(places.end.saturating_sub(place - place % PAGE));
            for entry in page.get(place % PAGE..end)? {
                if let Some(entry) = *entry
                    && !see(place, self.row_of(entry, labels, text_at))
                {
                    return Some(place);
                }
                place += 1;
            }
            if !place.is_multiple_of(PAGE) {
                break;
            }
        }
        None
    }

    #[inline(always)]
    fn row_of(&self, entry: Entry, labels: usize, text_at: usize) -> Row<'_> {
        // Nobody writes these words while this reading is held: it began when the entry was listed, and a listed entry is
        // not rewritten until it is removed, has waited for this reading, and serves again (`reclaim`).
        // SAFETY: an entry has its header; and the address is made from the entry's, which may reach all of its words, not from a
        // reference to one of them.
        let words = unsafe { entry.0.add(text_at) }.cast();
        let birth = self.table.word(entry, BIRTH).load(Ordering::Relaxed);
        Row {
            words,
            labels,
            birth,
            overflow: false,
            held: PhantomData,
        }
    }
}

/// Label values of one series, as words.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    /// The first of the words: lengths of all values, then as much text as these say. They do not change during `'a`.
    words: NonNull<u64>,
    labels: usize,
    /// As the second word of an entry.
    birth: u64,
    /// Whether this is the series for all that is past the limit, which has a label of its own instead.
    pub(crate) overflow: bool,
    held: PhantomData<&'a [u64]>,
}

// SAFETY: a row is a shared reference to words that do not change.
unsafe impl Send for Row<'_> {}
// SAFETY: as above.
unsafe impl Sync for Row<'_> {}

impl<'a> Row<'a> {
    /// A row of words that [`Query::words`] gave, first used so many milliseconds after the family's registration.
    pub(crate) fn of_words(words: &'a [u64], labels: usize, birth: u64) -> Self {
        let lengths = length_words(labels);
        let text = words[..lengths].iter().map(|word| text_words(*word)).sum::<usize>();
        assert!(
            words.len() >= lengths + text,
            "a query has the words that its lengths say"
        );
        let escaped = if words[lengths..].iter().any(|word| has_escaped(*word)) {
            ESCAPED
        } else {
            0
        };
        let first = NonNull::from(words).cast();
        Row {
            words: first,
            labels,
            birth: birth << BIRTH_SHIFT | escaped,
            overflow: false,
            held: PhantomData,
        }
    }

    /// Milliseconds from the family's registration to the first use of the series.
    pub(crate) fn birth(self) -> u64 {
        self.birth >> BIRTH_SHIFT
    }

    /// Whether some value has a quote, a backslash or a newline.
    #[inline(always)]
    pub(crate) fn is_escaped(self) -> bool {
        self.birth & ESCAPED != 0
    }

    /// Each label's value: its bytes, padded with zeros to eights, and how many there are.
    #[inline(always)]
    pub(crate) fn padded(self) -> impl Iterator<Item = (&'a [[u8; 8]], usize)> {
        let lengths = self.words.cast::<u16>();
        // SAFETY: the words of lengths come first, then the text.
        let mut text = unsafe { self.words.add(length_words(self.labels)) }.cast::<[u8; 8]>();
        (0..self.labels).map(move |label| {
            // SAFETY: there is a length for each label, four in a word, the first one in its lowest bits. The text has the
            // words that the lengths say, and any eight bytes are a valid `[u8; 8]`, of lesser alignment than a word.
            unsafe {
                let len = lengths
                    .add(if cfg!(target_endian = "big") { label ^ 3 } else { label })
                    .read() as usize;
                let value = std::slice::from_raw_parts(text.as_ptr().cast_const(), len.div_ceil(8));
                text = text.add(value.len());
                (value, len)
            }
        })
    }

    /// As [`padded`](Row::padded), of a row with `N` labels, of which no value is longer than 63 bytes: as nearly all are, and
    /// without a loop.
    #[inline(always)]
    pub(crate) fn padded_short<const N: usize>(self) -> Option<impl Iterator<Item = (&'a [[u8; 8]], usize)>> {
        const LONG: u64 = 0xFFC0_FFC0_FFC0_FFC0;
        const { assert!(N <= 4, "the lengths are in one word") };
        if self.labels != N {
            return None;
        }
        // SAFETY: there is a word of lengths, as there are labels, and text behind it.
        let (lengths, mut text) = unsafe { (self.words.read(), self.words.add(1).cast::<[u8; 8]>()) };
        (lengths & LONG == 0).then(move || {
            (0..N).map(move |label| {
                let len = (lengths >> (16 * label)) as usize & 63;
                // SAFETY: as in `padded`.
                unsafe {
                    let value = std::slice::from_raw_parts(text.as_ptr().cast_const(), len.wrapping_add(7) >> 3);
                    text = text.add(value.len());
                    (value, len)
                }
            })
        })
    }

    /// Each label's value.
    pub(crate) fn values(self) -> impl Iterator<Item = &'a str> {
        self.padded().map(|(padded, len)| {
            let bytes = &padded.as_flattened()[..len];
            // SAFETY: the words were made of strings, and a row's words do not change.
            unsafe { std::str::from_utf8_unchecked(bytes) }
        })
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::{
        family::query::query,
        sync::model::{explore, meet, thread},
    };

    fn look<R>(table: &Table, value: &str, look_up: impl FnOnce(Query<'_>) -> R) -> R {
        query([value], table.seed(), look_up).expect("short")
    }

    fn find(table: &Table, value: &str) -> Option<Found> {
        meet();
        look(table, value, |query| table.find(query))
    }

    fn surely_absent(table: &Table, value: &str) -> bool {
        meet();
        look(table, value, |query| table.surely_absent(query))
    }

    fn insert(table: &Table, value: &str) -> Found {
        meet();
        look(table, value, |query| table.insert(query, true, 0, 0)).expect("there is room")
    }

    fn remove(table: &Table, found: Found) {
        meet();
        assert!(table.remove(found));
    }

    /// Values whose hashes are in a quarter of all, and whose series go to a group.
    fn values(quarter: u64, group: u64) -> impl Iterator<Item = String> {
        let seed = Seed::random();
        let bits = move |value: &str| query([value], &seed, |query| (query.hash >> 62, query.hash % 2));
        let numbers = (0..).map(|number: u32| number.to_string());
        numbers.filter(move |value| bits(value) == Some((quarter, group)))
    }

    #[test]
    fn a_look_up_finds_all_of_a_series_or_nothing() {
        explore(3, || {
            let table = Arc::new(Table::new(1, true));
            let inserter = {
                let table = table.clone();
                thread::spawn(move || [insert(&table, "a"), insert(&table, "b")])
            };
            let found = ["b", "a"].map(|value| find(&table, value));
            let values = found.map(|found| found.map(|found| table.value(found.entry).load(Ordering::Relaxed)));
            assert!(values.iter().flatten().all(|value| *value == 0));
            let [a, b] = inserter.join().unwrap();
            assert!(found[0].is_none_or(|found| found == b) && found[1].is_none_or(|found| found == a));
            assert_eq!(["a", "b"].map(|value| find(&table, value)), [Some(a), Some(b)]);
        });
    }

    /// Splits a segment by inserting into the last of these quarters of all hashes, while the ones before are looked for.
    fn split(quarters: &'static [u64]) {
        explore(2, || {
            let table = Arc::new(Table::new(1, false));
            let mut by_quarter = [0, 1, 2, 3].map(|quarter| values(quarter, 0));
            let mut all = quarters
                .iter()
                .map(|quarter| by_quarter[*quarter as usize].next().unwrap());
            let there: Vec<_> = all.by_ref().take(quarters.len() - 1).collect();
            let last = all.next().unwrap();
            let series: Vec<_> = there.iter().map(|value| insert(&table, value)).collect();
            let splitter = {
                let (table, last) = (table.clone(), last.clone());
                thread::spawn(move || insert(&table, &last))
            };
            for at in [there.len() - 1, there.len() - 2] {
                assert!(!surely_absent(&table, &there[at]));
                assert!(find(&table, &there[at]).is_none_or(|found| found == series[at]));
            }
            let made = splitter.join().unwrap();
            let find = |value: &String| find(&table, value).expect("it is there");
            assert_eq!((there.iter().map(find).collect(), find(&last)), (series, made));
            assert!(surely_absent(&table, "absent"));
        });
    }

    #[test]
    fn a_series_is_never_surely_absent_while_the_first_segment_is_split() {
        split(&[0, 2, 1, 3]);
    }

    #[test]
    fn a_series_is_never_surely_absent_while_one_segment_of_several_is_split() {
        // The lower half is split before, and the directory is long enough for the upper half.
        split(&[0, 1, 0, 1, 2, 3, 2, 3]);
    }

    #[test]
    fn a_look_up_goes_past_a_group_that_was_full() {
        explore(3, || {
            let table = Arc::new(Table::new(1, false));
            // The third finds no place in the group that all three belong in.
            let [first, second, third]: [String; 3] = std::array::from_fn(|at| values(0, 0).nth(at).unwrap());
            let series = [&first, &second, &third].map(|value| insert(&table, value));
            let finder = {
                let (table, third) = (table.clone(), third.clone());
                thread::spawn(move || [(); 2].map(|()| find(&table, &third)))
            };
            remove(&table, series[0]);
            remove(&table, series[1]);
            assert_eq!(finder.join().unwrap(), [Some(series[2]); 2]);
            assert_eq!(
                [&first, &second, &third].map(|value| find(&table, value)),
                [None, None, Some(series[2])]
            );
        });
    }

    #[test]
    fn an_entry_that_serves_again_is_never_taken_for_what_it_was() {
        // Alike to a segment, so that a look-up of the second comes to the first's entry before the second is announced.
        let bits = |value: &str| query([value], &Seed::random(), |query| query.hash % (1 << 12));
        let b = (0..)
            .map(|number: u32| number.to_string())
            .find(|value| bits(value) == bits("a"))
            .unwrap();
        explore(3, move || {
            let table = Arc::new(Table::new(1, false));
            let first = insert(&table, "a");
            let finder = {
                let (table, b) = (table.clone(), b.clone());
                thread::spawn(move || [&b, "a"].map(|value| find(&table, value)))
            };
            remove(&table, first);
            let second = insert(&table, &b);
            assert_eq!(first.entry, second.entry);
            let [found_b, found_a] = finder.join().unwrap();
            assert!(found_a.is_none_or(|found| found == first), "{found_a:?}");
            assert!(found_b.is_none_or(|found| found == second), "{found_b:?}");
            assert!(!table.pin(first) && !table.lives(first) && !table.is_current(first));
        });
    }

    #[test]
    fn what_is_written_through_a_pin_is_never_in_another_life() {
        explore(3, || {
            let table = Arc::new(Table::new(1, true));
            let first = insert(&table, "a");
            let writer = {
                let table = table.clone();
                thread::spawn(move || {
                    meet();
                    if table.pin(first) {
                        meet();
                        let value = table.value(first.entry);
                        value.store(7, Ordering::Relaxed);
                        assert_eq!(value.load(Ordering::Relaxed), 7);
                        meet();
                        table.unpin(first.entry);
                    }
                })
            };
            remove(&table, first);
            let others = [insert(&table, "b"), insert(&table, "c")];
            let read = || others.map(|other| table.value(other.entry).load(Ordering::Relaxed));
            assert_eq!(read(), [0; 2]);
            writer.join().unwrap();
            assert_eq!(read(), [0; 2]);
        });
    }

    #[test]
    fn a_series_is_hidden_or_pinned_and_shows_what_was_written_before() {
        explore(3, || {
            let table = Arc::new(Table::new(1, false));
            let series = insert(&table, "a");
            // Stands for the series' cells.
            let cell = Arc::new(AtomicU64::new(0));
            let user = {
                let (table, cell) = (table.clone(), cell.clone());
                thread::spawn(move || {
                    assert!(!surely_absent(&table, "a"));
                    let pinned = find(&table, "a").is_some_and(|found| table.pin(found));
                    if pinned {
                        cell.store(1, Ordering::Relaxed);
                        meet();
                        assert!(table.lives(series));
                        table.unpin(series.entry);
                    }
                    pinned
                })
            };
            meet();
            let hidden = table.hide(series);
            let seen = cell.load(Ordering::Relaxed);
            let pinned = user.join().unwrap();
            // If both, one after the other.
            assert!(hidden || pinned);
            assert!(!(hidden && pinned) || seen == 1);
            assert_eq!((table.lives(series), table.is_current(series)), (!hidden, true));
            assert_eq!(find(&table, "a"), (!hidden).then_some(series));
            assert_eq!(look(&table, "a", |query| table.find_listed(query)), Some(series));
            table.show(series);
            assert_eq!(find(&table, "a"), Some(series));
        });
    }

    #[test]
    fn words_do_not_change_under_a_reading() {
        explore(3, || {
            let table = Arc::new(Table::new(1, false));
            let first = insert(&table, "a");
            let reader = {
                let table = table.clone();
                thread::spawn(move || {
                    meet();
                    let reading = table.read();
                    meet();
                    let entry = reading.pages[0][0];
                    // As plain memory, which is how a row has them: loom objects if anybody writes meanwhile.
                    // SAFETY: none is needed, loom checks.
                    let word = entry.map(|entry| unsafe { table.word(entry, table.text_at() + 1).unsync_load() });
                    meet();
                    drop(reading);
                    word
                })
            };
            remove(&table, first);
            let second = insert(&table, "b");
            let third = insert(&table, "c");
            let word = reader.join().unwrap();
            let letters = [b'a', b'b', b'c'].map(|letter| (letter as u64).to_le());
            assert!(word.is_none_or(|word| letters.contains(&word)));
            assert!(second.entry != third.entry);
        });
    }
}
