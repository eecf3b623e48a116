//! Cells that one thread writes and any thread reads: the hot path, and the first of the crate's files with unsafe code.
//!
//! An increment of a shared atomic is a locked read-modify-write on a cache line that every writer wants. A [`Bank`] belongs
//! to one thread, so its owner may load, add and store, with no lock prefix and no line to fight for; whoever wants the total
//! sums the same cell over all banks. A bank is a directory of chunks, and a chunk comes into being when its owner first
//! writes into it, so a thread pays for what it uses. The owner comes to its cells through its [`Front`], one pointer in
//! thread-local memory.
//!
//! # Tags
//!
//! A cell that counts holds the generation of the series it serves in its upper 16 bits and a count in the lower 48; a
//! [`CellId`] carries the same generation. One comparison of the *new* value with the id tells that all is well: that the
//! chunk is there (absent chunks are one shared chunk of zeros, and no series has generation 0), that the cell serves this
//! very series and not one that had the cell before or after, and that the count has room. Everything else is the business
//! of [`Space`](super::space::Space), under its lock. A cell for floats is untagged; it is written only after a counting cell of the
//! same block has passed the comparison.
//!
//! # What must hold
//!
//! - *No lost update*: [`Front::add`] and [`Front::observe`] are called by the owner alone, and everybody else only reads,
//!   except that `Space` resets cells of a bank that has no owner. Ownership passes through `Space`'s lock.
//! - *Reads are monotone*: a cell's count only grows while its tag stays, and coherence of one atomic does the rest. So
//!   loads and stores are relaxed; the one exception is argued at [`Front::add`].
//! - *A directory that a front shows covers every id that its owner can have.* There is no bounds check. `Space` gives an id
//!   beyond the directories only after it has put larger ones into all fronts. Whoever uses the id got it from that thread, at
//!   however many removes, through something that orders memory (safe code has no other way, and a table publishes lives
//!   with a release and reads them with an acquire); so the larger directory's store to the front happened before, and
//!   even a relaxed load sees it or a later one.
//! - *Memory outlives its readers*: chunks and directories are freed when the bank is dropped and never before; a front is taken
//!   back from `Space`, under its lock, before its memory goes.

#[cfg(not(loom))]
use super::space::{SPACE, Stale, Write};
use crate::sync::{AtomicPtr, AtomicU64, Mutex, Ordering};
use std::ptr::NonNull;

/// Cells in a chunk, and so the largest block that one series can have.
pub(crate) const CHUNK_CELLS: usize = 256;

/// Bits of a counting cell that hold the count. The 48th stays clear so that an addition never carries into the tag.
const COUNT_BITS: u32 = 47;

/// Where the tag begins.
const TAG_SHIFT: u32 = 48;

/// The count of a tagged cell.
pub(crate) const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// How many cells at the head of a block with floats share one running sum; see [`Front::observe`].
pub(crate) const SUM_STRIPES: usize = 2;

/// Names the block of cells of one life of one series: its first cell's index below, the generation above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CellId(u64);

impl CellId {
    /// An id that no cell matches: what a static holds before its first use.
    pub(crate) const UNSET: CellId = CellId(0xFFFF << TAG_SHIFT);

    /// Generations run from 1 to this one; a block whose generations are used up is not used again.
    pub(crate) const LAST_GENERATION: u16 = 0xFFFE;

    pub(crate) const fn new(index: u32, generation: u16) -> Self {
        CellId((generation as u64) << TAG_SHIFT | index as u64)
    }

    pub(crate) const fn from_bits(bits: u64) -> Self {
        CellId(bits)
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as u32 as usize
    }

    pub(crate) const fn generation(self) -> u16 {
        (self.0 >> TAG_SHIFT) as u16
    }

    /// A cell of this life with a count of zero.
    pub(crate) const fn tag(self) -> u64 {
        self.0 >> TAG_SHIFT << TAG_SHIFT
    }

    /// Whether `cell` counts for this life.
    pub(crate) const fn owns(self, cell: u64) -> bool {
        (cell ^ self.0) >> COUNT_BITS == 0
    }
}

/// A run of cells; aligned to a cache line so that two threads' chunks never share one.
#[repr(align(64))]
pub(crate) struct Chunk {
    cells: [AtomicU64; CHUNK_CELLS],
}

impl Chunk {
    #[cfg(not(loom))]
    const fn new() -> Self {
        Chunk {
            cells: [const { AtomicU64::new(0) }; CHUNK_CELLS],
        }
    }

    #[cfg(loom)]
    fn new() -> Self {
        // A model follows every atomic: it gets as many as it uses.
        Chunk {
            cells: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// The cell at `index`, which wraps within the chunk: that keeps the bounds check off the hot path.
    #[inline(always)]
    pub(crate) fn cell(&self, index: usize) -> &AtomicU64 {
        &self.cells[index % CHUNK_CELLS]
    }
}

/// Stands for every chunk that is not there yet. Nothing writes into it: generation 0 belongs to no series.
#[cfg(not(loom))]
static ABSENT: Chunk = Chunk::new();

#[cfg(not(loom))]
fn absent() -> *mut Chunk {
    (&raw const ABSENT).cast_mut()
}

#[cfg(loom)]
loom::lazy_static! {
    static ref ABSENT: Chunk = Chunk::new();
}

#[cfg(loom)]
fn absent() -> *mut Chunk {
    (&raw const *ABSENT).cast_mut()
}

// A vector, not a box: the raw pointer to its entries must survive that it is moved.
type Directory = Vec<AtomicPtr<Chunk>>;

/// Where a thread finds its cells: the newest directory of its bank, or null when it has to ask `Space` before it goes on.
pub(crate) struct Front {
    directory: AtomicPtr<AtomicPtr<Chunk>>,
}

impl Front {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Front {
            directory: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Front {
            directory: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    /// Adds `amount` to the counting cell `offset` places into the block; the owner's to call. False, with nothing
    /// changed, when the slow path has to be taken.
    ///
    /// `order` is `Relaxed`, or `Release` for the cell that counts departures of an up-down counter: its partner is
    /// the acquiring load in `Space::sum`, which thereby sees every arrival that happened before a departure it counts.
    #[inline(always)]
    pub(crate) fn add(&self, id: CellId, offset: usize, amount: u64, order: Ordering) -> bool {
        let Some(chunk) = self.chunk(id) else { return false };
        let cell = chunk.cell(id.index() + offset);
        let next = cell.load(Ordering::Relaxed).wrapping_add(amount);
        // `amount` joins the test so that a large one cannot carry one tag into another.
        if ((next ^ id.0) | amount) >> COUNT_BITS != 0 {
            return false;
        }
        cell.store(next, order);
        true
    }

    /// Counts `times` observations of `value` in the counting cell `offset`, and adds their sum to the block's floats; the
    /// owner's to call. False, with nothing changed, when the slow path has to be taken.
    ///
    /// The sum has two cells, and the count's lowest bit picks one: an addition then does not have to wait for the one
    /// before it to pass through memory. Count first, sum second: a reader between the two sees a sum that lags by this
    /// one call, and never one that is ahead.
    #[inline(always)]
    pub(crate) fn observe(&self, id: CellId, offset: usize, value: f64, times: u64) -> bool {
        let Some(chunk) = self.chunk(id) else { return false };
        let cell = chunk.cell(id.index() + SUM_STRIPES + offset);
        let next = cell.load(Ordering::Relaxed).wrapping_add(times);
        if ((next ^ id.0) | times) >> COUNT_BITS != 0 {
            return false;
        }
        cell.store(next, Ordering::Relaxed);
        let sum = chunk.cell(id.index() + offset % SUM_STRIPES);
        let total = f64::from_bits(sum.load(Ordering::Relaxed)) + value * times as f64;
        sum.store(total.to_bits(), Ordering::Relaxed);
        true
    }

    #[inline(always)]
    fn chunk(&self, id: CellId) -> Option<&Chunk> {
        let directory = self.directory.load(Ordering::Relaxed);
        if directory.is_null() {
            return None;
        }
        // SAFETY: the directory covers the id, as argued at the head of this file. `CellId::UNSET` has index 0, which every
        // directory covers. Entries are never null, and they and the directory live until the bank is dropped, which a thread
        // whose front shows its directory keeps alive.
        Some(unsafe { &*(*directory.add(id.index() / CHUNK_CELLS)).load(Ordering::Relaxed) })
    }

    /// Makes the owner's next operation take the slow path; under `Space`'s lock.
    pub(crate) fn call(&self) {
        self.directory.store(std::ptr::null_mut(), Ordering::Relaxed);
    }

    /// Shows the newest directory of the owner's bank; under `Space`'s lock.
    pub(crate) fn show(&self, bank: &Bank) {
        // Release: the partner of the owner's load is by way of the id, as argued at the head of this file.
        self.directory.store(bank.newest(), Ordering::Release);
    }

    /// Shows the newest directory, unless the owner has been called.
    pub(crate) fn renew(&self, bank: &Bank) {
        if !self.directory.load(Ordering::Relaxed).is_null() {
            self.show(bank);
        }
    }
}

/// A front that `Space` reaches while its thread lives.
#[derive(Clone, Copy)]
pub(crate) struct FrontRef(NonNull<Front>);

// SAFETY: a front is made of atomics; that it is there is the business of whoever made the reference.
unsafe impl Send for FrontRef {}

impl FrontRef {
    /// # Safety
    ///
    /// The front stays where it is until the reference has been taken back from `Space` by `leave_bank`.
    pub(crate) unsafe fn new(front: &Front) -> Self {
        FrontRef(NonNull::from(front))
    }

    pub(crate) fn front(&self) -> &Front {
        // SAFETY: promised by whoever called `new`.
        unsafe { self.0.as_ref() }
    }
}

/// One thread's cells.
pub(crate) struct Bank {
    /// Every directory so far, the newest last: an older one may still be in the owner's hands.
    directories: Mutex<Vec<Directory>>,
}

impl Bank {
    /// A bank whose directory covers so many chunks.
    pub(crate) fn new(chunks: usize) -> Self {
        let directory = (0..chunks).map(|_| AtomicPtr::new(absent())).collect();
        Bank {
            directories: Mutex::new(vec![directory]),
        }
    }

    /// Makes the directory cover so many chunks; under `Space`'s lock.
    pub(crate) fn grow(&self, chunks: usize) {
        let mut directories = self.directories.lock();
        let newest = directories.last().expect("a bank has a directory from the start");
        let entry = |at| {
            newest
                .get(at)
                .map_or_else(absent, |chunk: &AtomicPtr<Chunk>| chunk.load(Ordering::Relaxed))
        };
        let grown = (0..chunks).map(|at| AtomicPtr::new(entry(at))).collect();
        directories.push(grown);
    }

    /// The newest directory's first entry.
    fn newest(&self) -> *mut AtomicPtr<Chunk> {
        self.with_directory(|directory| directory.as_ptr().cast_mut())
    }

    /// Chunk number `at`, if it has come into being.
    pub(crate) fn chunk(&self, at: usize) -> Option<&Chunk> {
        let chunk = self.with_directory(|directory| directory.get(at).map(|entry| entry.load(Ordering::Acquire)))?;
        // SAFETY: the pointer came from `Box::into_raw` in `cover`, and the chunk is freed only in `drop`, which has `&mut self`.
        (chunk != absent()).then(|| unsafe { &*chunk })
    }

    /// Every chunk that has come into being, with its number.
    pub(crate) fn chunks(&self) -> Vec<(usize, &Chunk)> {
        let len = self.with_directory(|directory| directory.len());
        (0..len).filter_map(|at| Some((at, self.chunk(at)?))).collect()
    }

    fn with_directory<R>(&self, read: impl FnOnce(&Directory) -> R) -> R {
        read(
            self.directories
                .lock()
                .last()
                .expect("a bank has a directory from the start"),
        )
    }

    /// Brings chunk number `at` into being if it is not there; under `Space`'s lock.
    pub(crate) fn cover(&self, at: usize) -> &Chunk {
        let chunk = self.with_directory(|directory| {
            let entry = &directory[at];
            if entry.load(Ordering::Relaxed) == absent() {
                entry.store(Box::into_raw(Box::new(Chunk::new())), Ordering::Release);
            }
            entry.load(Ordering::Relaxed)
        });
        // SAFETY: as in `chunk`; the pointer is not the absent chunk's.
        unsafe { &*chunk }
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        // The newest directory names every chunk once; older ones repeat some of them.
        self.with_directory(|directory| {
            for entry in directory {
                let chunk = entry.load(Ordering::Relaxed);
                if chunk != absent() {
                    // SAFETY: the pointer came from `Box::into_raw`, is freed here alone, and `&mut self` shows that nobody reads.
                    drop(unsafe { Box::from_raw(chunk) });
                }
            }
        });
    }
}

/// The calling thread's own front, and the operations as instruments use them.
#[cfg(not(loom))]
mod thread {
    use super::{Bank, CellId, Front, FrontRef, Ordering, SPACE, Stale, Write};
    use std::sync::Arc;

    thread_local! {
        /// Const and without a destructor, so that reaching it is an offset to the thread's own segment, and so that it is
        /// there even while other thread-local values are being destroyed.
        static FRONT: Front = const { Front::new() };

        /// Touched once a thread, for its destructor.
        static SEAT: Seat = Seat::take();
    }

    /// Keeps the thread's bank alive and gives it back when the thread ends.
    struct Seat(Arc<Bank>);

    impl Seat {
        fn take() -> Self {
            // SAFETY: thread-local memory without a destructor stays as long as the thread, and this seat, dropped before that,
            // takes the reference back.
            Seat(FRONT.with(|front| SPACE.take_bank(unsafe { FrontRef::new(front) })))
        }
    }

    impl Drop for Seat {
        fn drop(&mut self) {
            SPACE.leave_bank(&self.0);
        }
    }

    /// Adds to a counting cell of the calling thread; see [`Front::add`].
    #[inline(always)]
    pub(crate) fn add(id: CellId, offset: usize, amount: u64, order: Ordering) -> Result<(), Stale> {
        if FRONT.with(|front| front.add(id, offset, amount, order)) {
            return Ok(());
        }
        write_slowly(
            id,
            Write {
                offset,
                amount,
                value: None,
            },
        )
    }

    /// Observes into the calling thread's block; see [`Front::observe`].
    #[inline(always)]
    pub(crate) fn observe(id: CellId, offset: usize, value: f64, times: u64) -> Result<(), Stale> {
        if FRONT.with(|front| front.observe(id, offset, value, times)) {
            return Ok(());
        }
        write_slowly(
            id,
            Write {
                offset,
                amount: times,
                value: Some(value),
            },
        )
    }

    #[cold]
    #[inline(never)]
    fn write_slowly(id: CellId, write: Write) -> Result<(), Stale> {
        // The error means that this thread's destructors are running and the seat is gone: the write goes to the cells
        // that all threads share.
        SEAT.try_with(|seat| SPACE.write(Some(&seat.0), id, write))
            .unwrap_or_else(|_| SPACE.write(None, id, write))
    }
}

#[cfg(not(loom))]
pub(crate) use thread::{add, observe};
