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
//!   loads and stores are relaxed; the two exceptions are argued at [`Front::add`] and [`Front::observe`].
//! - *A directory that a front shows covers every id that its owner can have.* There is no bounds check. Before `Space` gives
//!   an id beyond the directories it calls all owners ([`Front::call`]), and a called owner grows its directory itself before it
//!   shows it again. Whoever uses the id got it from that thread, at however many removes, through something that orders
//!   memory (safe code has no other way, and a table publishes lives with a release and reads them with an acquire); so
//!   the call happened before, and even a relaxed load sees it or what the owner showed since.
//! - *Nobody but the owner shows a directory*: what it finds behind its front it has itself put there or seen under the lock, so
//!   relaxed loads of pointers are enough to follow them.
//! - *Memory outlives its readers*: chunks are freed when the bank is dropped and never before; a directory is only read under
//!   the lock or by the owner, and only the owner replaces it; a front is taken back from `Space`, under its lock, before its
//!   memory goes.
//! - *In the child of a fork there is one owner*, the thread that forked, and it is called before anything else happens there.
//!   The fronts of all others are where new threads will have something else, so `Space` forgets them before it looks at any
//!   (`Space::plan`); their banks stay whole, for nobody. The owner writes again when `Space` has cleared its cells.

#[cfg(not(loom))]
use super::space::{SPACE, Stale, Write};
use crate::sync::{AtomicPtr, AtomicU64, Mutex, Ordering};
use std::ptr::NonNull;

/// Cells in a chunk, and so the largest block that one series can have.
pub(crate) const CHUNK_CELLS: usize = if cfg!(loom) { 4 } else { 256 };

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

    /// Generations run from 1 to this one; a block whose generations are used up is not used again, and stays at the next, so
    /// that it never has that of `UNSET`.
    pub(crate) const LAST_GENERATION: u16 = 0xFFFD;

    /// Bits of an index: a process has a quarter of a billion cells to give. The bits above are free for others' use.
    pub(crate) const INDEX_BITS: u32 = 28;

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

/// Where a thread finds its cells: the directory of its bank, or null when it has to ask `Space` before it goes on.
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
    /// The sum has two cells, and the lowest bit of `offset` picks one: an addition then seldom has to wait for the one before it
    /// to pass through memory, and its cell is known without waiting for the count. Where there is but one counting cell, as in
    /// a float counter, the second stays unused. Count first, sum second, with a release whose partner is the acquiring load in
    /// `Space::sum`: a reader, who takes the sum first, counts at least the observations that are in the sum. The sum never is
    /// ahead; it lags by what is observed while it is read.
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
        sum.store(total.to_bits(), Ordering::Release);
        true
    }

    #[inline(always)]
    fn chunk(&self, id: CellId) -> Option<&Chunk> {
        let directory = self.directory.load(Ordering::Relaxed);
        if directory.is_null() {
            return None;
        }
        // SAFETY: the directory covers the id, as argued at the head of this file. `CellId::UNSET` has index 0, which every
        // directory covers. Entries are never null. The bank, and with it the chunks, is kept alive by a thread whose front shows
        // its directory; the directory is replaced by this thread alone.
        Some(unsafe { &*(*directory.add(id.index() / CHUNK_CELLS)).load(Ordering::Relaxed) })
    }

    /// Makes the owner's next operation take the slow path; under `Space`'s lock.
    pub(crate) fn call(&self) {
        self.directory.store(std::ptr::null_mut(), Ordering::Relaxed);
    }

    /// Shows the directory of the owner's bank; the owner's to call, under `Space`'s lock.
    pub(crate) fn show(&self, bank: &Bank) {
        let first = bank.with_directory(|directory| directory.as_ptr().cast_mut());
        self.directory.store(first, Ordering::Relaxed);
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

    /// Whether it leads there; it is not followed.
    pub(crate) fn is(&self, front: *const Front) -> bool {
        std::ptr::eq(self.0.as_ptr(), front)
    }

    pub(crate) fn front(&self) -> &Front {
        // SAFETY: promised by whoever called `new`.
        unsafe { self.0.as_ref() }
    }
}

/// One thread's cells.
pub(crate) struct Bank {
    directory: Mutex<Directory>,
}

impl Bank {
    pub(crate) fn new() -> Self {
        Bank {
            directory: Mutex::new(Vec::new()),
        }
    }

    /// Chunk number `at`, if it has come into being; under `Space`'s lock.
    pub(crate) fn chunk(&self, at: usize) -> Option<&Chunk> {
        let chunk = self.with_directory(|directory| directory.get(at).map(|entry| entry.load(Ordering::Relaxed)))?;
        // SAFETY: the pointer came from `Box::into_raw` in `cover`, and the chunk is freed only in `drop`, which has `&mut self`.
        (chunk != absent()).then(|| unsafe { &*chunk })
    }

    /// Every chunk that has come into being, with its number.
    pub(crate) fn chunks(&self) -> Vec<(usize, &Chunk)> {
        let len = self.with_directory(|directory| directory.len());
        (0..len).filter_map(|at| Some((at, self.chunk(at)?))).collect()
    }

    /// Makes all cells zero and nobody's; under `Space`'s lock, while the owner, if there is one, is called.
    pub(crate) fn clear(&self) {
        for (_, chunk) in self.chunks() {
            for cell in &chunk.cells {
                cell.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Makes the directory cover `covered` chunks, and brings number `at` into being if it is not there; the owner's to call,
    /// because a front that shows the directory must show it anew. Under `Space`'s lock.
    pub(crate) fn cover(&self, at: usize, covered: usize) -> &Chunk {
        let chunk = {
            let mut directory = self.directory.lock();
            let covered = covered.max(directory.len());
            directory.resize_with(covered, || AtomicPtr::new(absent()));
            let entry = &directory[at];
            if entry.load(Ordering::Relaxed) == absent() {
                entry.store(Box::into_raw(Box::new(Chunk::new())), Ordering::Relaxed);
            }
            entry.load(Ordering::Relaxed)
        };
        // SAFETY: as in `chunk`; the pointer is not the absent chunk's.
        unsafe { &*chunk }
    }

    fn with_directory<R>(&self, read: impl FnOnce(&Directory) -> R) -> R {
        read(&self.directory.lock())
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
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
            // takes the reference back; in the child of a fork, `Space` has done so before anybody follows it.
            Seat(FRONT.with(|front| SPACE.take_bank(unsafe { FrontRef::new(front) })))
        }
    }

    impl Drop for Seat {
        fn drop(&mut self) {
            SPACE.leave_bank(&self.0);
        }
    }

    /// Says to `Space` which thread a fork's child has; in that thread.
    #[cfg(unix)]
    pub(crate) fn forked() {
        FRONT.with(|front| SPACE.forked(front));
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

#[cfg(all(unix, not(loom)))]
pub(crate) use thread::forked;

#[cfg(all(test, unix, not(loom)))]
mod tests {
    use super::{super::space::*, *};
    use std::sync::Arc;

    const COUNT: Shape = Shape { counts: 1, sum: false };

    #[test]
    fn after_a_fork_the_fronts_of_lost_threads_are_left_alone() {
        let space = Space::new();
        let id = space.allocate(COUNT).expect("there is room");
        let fronts = [const { Front::new() }; 2];
        // SAFETY: the fronts stay until the end, which is that of the space too.
        let banks = fronts
            .each_ref()
            .map(|front| space.take_bank(unsafe { FrontRef::new(front) }));
        let inc = |thread: usize, id: CellId| {
            let write = Write {
                offset: 0,
                amount: 1,
                value: None,
            };
            if !fronts[thread].add(id, 0, 1, Ordering::Relaxed) {
                assert_eq!(space.write(Some(&banks[thread]), id, write), Ok(()));
            }
        };
        let count = |id| {
            let mut count = [0];
            space.sum(COUNT, &[id], &mut count, &mut []);
            count[0]
        };
        inc(0, id);
        inc(1, id);
        // Nobody settles the second one's part any more.
        let ended = space.allocate(COUNT).expect("there is room");
        inc(1, ended);
        space.release(ended, &Arc::default(), &mut [0]);
        inc(1, id);
        assert_eq!(count(id), 3);

        space.forked(&fronts[0]);
        space.start_again();
        assert_eq!(count(id), 0);
        assert!(
            !fronts[0].add(id, 0, 1, Ordering::Relaxed),
            "the forking thread is called"
        );
        inc(0, id);
        assert_eq!(count(id), 1);
        // All owners are called when there are more ids than directories cover, and when a life ends that they wrote into.
        while space.allocate(COUNT).expect("there is room").index() < 64 * CHUNK_CELLS {}
        space.release(id, &Arc::default(), &mut [0]);
        let shown = fronts
            .each_ref()
            .map(|front| !front.directory.load(Ordering::Relaxed).is_null());
        assert_eq!(shown, [false, true]);
        // A new thread has cells of its own.
        // SAFETY: as above.
        let new = space.take_bank(unsafe { FrontRef::new(&fronts[1]) });
        assert!(banks.iter().all(|bank| !Arc::ptr_eq(bank, &new)));
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::{super::space::*, *};
    use crate::sync::model::{explore, meet, thread};
    use std::sync::Arc;

    const COUNT: Shape = Shape { counts: 1, sum: false };
    const BALANCE: Shape = Shape { counts: 2, sum: false };
    const FLOAT: Shape = Shape { counts: 1, sum: true };
    const BUCKETS: Shape = Shape { counts: 2, sum: true };

    /// What a thread has in its thread-local memory, and what it does when it ends.
    struct Owner {
        space: Arc<Space>,
        front: Arc<Front>,
        /// Until it ends.
        bank: Option<Arc<Bank>>,
    }

    impl Owner {
        fn new(space: &Arc<Space>) -> Self {
            let front = Arc::new(Front::new());
            // SAFETY: the owner keeps the front until it has left the bank.
            let bank = Some(space.take_bank(unsafe { FrontRef::new(&front) }));
            Owner {
                space: space.clone(),
                front,
                bank,
            }
        }

        fn add(&self, id: CellId, offset: usize, amount: u64, order: Ordering) -> Result<(), Stale> {
            meet();
            if self.front.add(id, offset, amount, order) {
                return Ok(());
            }
            self.space.write(
                self.bank.as_ref(),
                id,
                Write {
                    offset,
                    amount,
                    value: None,
                },
            )
        }

        fn inc(&self, id: CellId) -> Result<(), Stale> {
            self.add(id, 0, 1, Ordering::Relaxed)
        }

        fn observe(&self, id: CellId, offset: usize, value: f64) -> Result<(), Stale> {
            meet();
            if self.front.observe(id, offset, value, 1) {
                return Ok(());
            }
            let write = Write {
                offset,
                amount: 1,
                value: Some(value),
            };
            self.space.write(self.bank.as_ref(), id, write)
        }
    }

    impl Owner {
        /// What the thread's destructor does, before or after those of other thread-local values that count.
        fn leave(&mut self) {
            if let Some(bank) = self.bank.take() {
                meet();
                self.space.leave_bank(&bank);
            }
        }
    }

    impl Drop for Owner {
        fn drop(&mut self) {
            self.leave();
        }
    }

    fn count(space: &Space, id: CellId) -> u64 {
        meet();
        let mut count = [0];
        space.sum(COUNT, &[id], &mut count, &mut []);
        count[0]
    }

    fn balance(space: &Space, id: CellId) -> i64 {
        meet();
        let mut counts = [0; 2];
        space.sum(BALANCE, &[id], &mut counts, &mut []);
        counts[0] as i64 - counts[1] as i64
    }

    fn float(space: &Space, id: CellId) -> f64 {
        meet();
        let mut sum = [0.0];
        space.sum(FLOAT, &[id], &mut [0], &mut sum);
        sum[0]
    }

    #[test]
    fn sums_grow_while_two_threads_add_and_miss_nothing_in_the_end() {
        explore(3, || {
            let space = Arc::new(Space::new());
            let id = space.allocate(COUNT).unwrap();
            let add = |amount: u64| {
                let space = space.clone();
                thread::spawn(move || {
                    let owner = Owner::new(&space);
                    owner.add(id, 0, amount, Ordering::Relaxed).unwrap();
                    owner.add(id, 0, amount, Ordering::Relaxed).unwrap();
                    owner
                })
            };
            let threads = [add(1), add(10)];
            let (first, second) = (count(&space, id), count(&space, id));
            assert!(first <= second && second <= 22, "{first}, then {second}");
            let _owners = threads.map(|thread| thread.join().unwrap());
            assert_eq!(count(&space, id), 22);
        });
    }

    #[test]
    fn a_thread_that_ends_leaves_its_counts_whoever_comes_next() {
        explore(3, || {
            let space = Arc::new(Space::new());
            let id = space.allocate(COUNT).unwrap();
            let add = |amount: u64| {
                let space = space.clone();
                thread::spawn(move || {
                    // Adopts the other's bank if that has left, and is folded with it if not.
                    let mut owner = Owner::new(&space);
                    owner.add(id, 0, amount, Ordering::Relaxed).unwrap();
                    owner.leave();
                    owner.add(id, 0, amount, Ordering::Relaxed).unwrap();
                })
            };
            let threads = [add(1), add(10)];
            let (first, second) = (count(&space, id), count(&space, id));
            assert!(first <= second && second <= 22, "{first}, then {second}");
            let [(), ()] = threads.map(|thread| thread.join().unwrap());
            assert_eq!(count(&space, id), 22);
        });
    }

    #[test]
    fn a_float_total_does_not_fall_when_banks_are_adopted_and_folded() {
        explore(2, || {
            let space = Arc::new(Space::new());
            let id = space.allocate(FLOAT).unwrap();
            // In the order of the banks these come to 2^53 + 2, in another to 2^53.
            let [_one, other, large, last] = [1.0, 1.0, 2_f64.powi(53), 0.0].map(|value| {
                let owner = Owner::new(&space);
                owner.observe(id, 0, value).unwrap();
                owner
            });
            let adder = thread::spawn(move || other.observe(id, 0, 2.0).unwrap());
            let reader = {
                let space = space.clone();
                thread::spawn(move || {
                    let (first, second) = (float(&space, id), float(&space, id));
                    assert!(first <= second, "{first}, then {second}");
                })
            };
            let before = float(&space, id);
            drop(large);
            // Two are spare then: the first is folded.
            drop(last);
            assert!(before <= float(&space, id));
            adder.join().unwrap();
            reader.join().unwrap();
            assert!(float(&space, id) >= 2_f64.powi(53) + 4.0);
        });
    }

    #[test]
    fn a_front_covers_every_id_that_reaches_its_owner() {
        explore(3, || {
            let space = Arc::new(Space::new());
            let first = space.allocate(COUNT).unwrap();
            let handed = Arc::new(AtomicU64::new(0));
            let taker = {
                let (space, handed) = (space.clone(), handed.clone());
                thread::spawn(move || {
                    let owner = Owner::new(&space);
                    owner.inc(first).unwrap();
                    owner.inc(first).unwrap();
                    let id = CellId::from_bits(handed.load(Ordering::Acquire));
                    if id.bits() != 0 {
                        let shown = owner.front.directory.load(Ordering::Relaxed);
                        owner.bank.as_ref().unwrap().with_directory(|directory| {
                            let covers = directory.len() > id.index() / CHUNK_CELLS;
                            assert!(shown.is_null() || (shown == directory.as_ptr().cast_mut() && covers));
                        });
                        owner.inc(id).unwrap();
                    }
                    (owner, id)
                })
            };
            meet();
            // One chunk is full, and the next is beyond what directories cover.
            let ids = [(); CHUNK_CELLS].map(|()| space.allocate(COUNT).unwrap());
            let id = ids[CHUNK_CELLS - 1];
            handed.store(id.bits(), Ordering::Release);
            let (_owner, taken) = taker.join().unwrap();
            assert_eq!(count(&space, first), 2);
            assert_eq!(count(&space, id), (taken == id) as u64);
        });
    }

    #[test]
    fn late_writes_are_counted_and_never_in_the_next_life() {
        explore(3, || {
            let space = Arc::new(Space::new());
            let (old, lost) = (space.allocate(COUNT).unwrap(), Arc::new(AtomicU64::new(0)));
            let other = space.allocate(COUNT).unwrap();
            let writer = {
                let space = space.clone();
                thread::spawn(move || {
                    let owner = Owner::new(&space);
                    let mut refused = owner.inc(old).is_err() as u64;
                    // Goes on with a series that lives, which must not let late writes pass again.
                    owner.inc(other).unwrap();
                    refused += owner.inc(old).is_err() as u64;
                    refused + owner.inc(old).is_err() as u64
                })
            };
            let owner = Owner::new(&space);
            meet();
            let mut counted = [0];
            space.release(old, &lost, &mut counted);
            let new = space.allocate(COUNT).unwrap();
            assert!(new.index() == old.index() && new != old);
            owner.add(new, 0, 10, Ordering::Relaxed).unwrap();
            assert_eq!(count(&space, new), 10);
            let refused = writer.join().unwrap();
            assert_eq!(count(&space, new), 10);
            assert_eq!(counted[0] + lost.load(Ordering::Relaxed) + refused, 3);
        });
    }

    #[test]
    fn a_thread_that_wrote_late_counts_well_in_the_next_life() {
        explore(3, || {
            let space = Arc::new(Space::new());
            let (old, lost) = (space.allocate(COUNT).unwrap(), Arc::new(AtomicU64::new(0)));
            let handed = Arc::new(AtomicU64::new(0));
            let writer = {
                let (space, handed) = (space.clone(), handed.clone());
                thread::spawn(move || {
                    let owner = Owner::new(&space);
                    let mut refused = owner.inc(old).is_err() as u64;
                    let new = CellId::from_bits(handed.load(Ordering::Acquire));
                    let ended = new.bits() != 0;
                    let declined = owner.inc(old).is_err();
                    assert!(
                        declined || !ended,
                        "late writes are told at once, if it is known that the life is over"
                    );
                    let written = ended && owner.inc(new).is_ok();
                    refused += declined as u64 + owner.inc(old).is_err() as u64;
                    (owner, written as u64, refused)
                })
            };
            meet();
            let mut counted = [0];
            space.release(old, &lost, &mut counted);
            let new = space.allocate(COUNT).unwrap();
            handed.store(new.bits(), Ordering::Release);
            let during = count(&space, new);
            let (owner, written, refused) = writer.join().unwrap();
            assert!(during <= written);
            assert_eq!(count(&space, new), written);
            // Whatever is left of the old life is settled at the latest when the thread ends.
            drop(owner);
            assert_eq!(count(&space, new), written);
            assert_eq!(counted[0] + lost.load(Ordering::Relaxed) + refused, 3);
        });
    }

    #[test]
    fn a_final_reading_and_what_is_late_come_to_what_was_written() {
        explore(3, || {
            let space = Arc::new(Space::new());
            let (id, lost) = (space.allocate(BUCKETS).unwrap(), Arc::new(AtomicU64::new(0)));
            let owner = Owner::new(&space);
            owner.observe(id, 0, 1.0).unwrap();
            let observer = thread::spawn(move || {
                let refused = [1, 0, 1].map(|offset| owner.observe(id, offset, 1.0).is_err() as u64);
                // Settles what is left.
                drop(owner);
                refused.iter().sum::<u64>()
            });
            let read = || {
                meet();
                let (mut counts, mut sum) = ([0; 2], [0.0]);
                space.sum(BUCKETS, &[id], &mut counts, &mut sum);
                (counts, sum[0])
            };
            let before = read();
            meet();
            let mut counts = [0; 2];
            let sum = space.release(id, &lost, &mut counts);
            let grown = before.0.iter().zip(&counts).all(|(before, end)| before <= end) && before.1 <= sum;
            assert!(grown, "{before:?}, in the end {counts:?} {sum}");
            assert!(sum <= counts.iter().sum::<u64>() as f64, "{counts:?} {sum}");
            let refused = observer.join().unwrap();
            assert_eq!(counts.iter().sum::<u64>() + lost.load(Ordering::Relaxed) + refused, 4);
            // It is over, and nothing comes of it again.
            let mut again = [0; 2];
            assert_eq!((space.release(id, &lost, &mut again), again), (0.0, [0; 2]));
        });
    }

    #[test]
    fn an_up_down_counter_ends_with_every_arrival_before_a_departure() {
        explore(3, || {
            let space = Arc::new(Space::new());
            let (id, lost) = (space.allocate(BALANCE).unwrap(), Arc::new(AtomicU64::new(0)));
            let passed_on = Arc::new(AtomicU64::new(0));
            // The threads have touched their cells: no lock orders what they do.
            let [one, other] = [(); 2].map(|()| {
                let owner = Owner::new(&space);
                owner.add(id, 0, 0, Ordering::Relaxed).unwrap();
                owner
            });
            let other = {
                let passed_on = passed_on.clone();
                thread::spawn(move || {
                    let arrived = other.add(id, 0, 1, Ordering::Relaxed);
                    passed_on.store(1, Ordering::Release);
                    drop(other);
                    (1, arrived.is_err() as u64)
                })
            };
            let one = thread::spawn(move || {
                let mut written = (0, 0);
                if passed_on.load(Ordering::Acquire) == 1 {
                    written = (1, one.add(id, 1, 1, Ordering::Release).is_err() as u64);
                }
                drop(one);
                written
            });
            meet();
            let mut counts = [0; 2];
            space.release(id, &lost, &mut counts);
            assert!(counts[0] >= counts[1], "{counts:?}");
            let written = [one, other].map(|thread| thread.join().unwrap());
            let refused = written[0].1 + written[1].1;
            let ended = counts[0] + counts[1] + lost.load(Ordering::Relaxed) + refused;
            assert_eq!(ended, written[0].0 + written[1].0);
        });
    }

    #[test]
    fn the_sum_of_a_histogram_is_never_ahead_of_its_counts() {
        explore(3, || {
            let space = Arc::new(Space::new());
            let id = space.allocate(BUCKETS).unwrap();
            let read = |space: &Space| {
                meet();
                let (mut counts, mut sum) = ([0; 2], [0.0]);
                space.sum(BUCKETS, &[id], &mut counts, &mut sum);
                (counts, sum[0])
            };
            let owner = Owner::new(&space);
            owner.observe(id, 0, 1.0).unwrap();
            let observer = thread::spawn(move || {
                owner.observe(id, 1, 1.0).unwrap();
                owner.observe(id, 0, 1.0).unwrap();
                owner.observe(id, 0, 1.0).unwrap();
                owner
            });
            let (first, second) = (read(&space), read(&space));
            for (counts, sum) in [first, second] {
                assert!(sum <= counts.iter().sum::<u64>() as f64, "{counts:?} {sum}");
            }
            assert!(first.0 <= second.0 && first.1 <= second.1);
            let _owner = observer.join().unwrap();
            assert_eq!(read(&space), ([3, 1], 4.0));
        });
    }

    #[test]
    fn an_up_down_counter_never_dips_below_what_it_was() {
        explore(3, || {
            let space = Arc::new(Space::new());
            let id = space.allocate(BALANCE).unwrap();
            let passed_on = Arc::new(AtomicU64::new(0));
            // The threads have touched their cells: no lock orders what they do.
            let [one, other] = [(); 2].map(|()| {
                let owner = Owner::new(&space);
                owner.add(id, 0, 0, Ordering::Relaxed).unwrap();
                owner
            });
            let one = {
                let passed_on = passed_on.clone();
                thread::spawn(move || {
                    one.add(id, 0, 2, Ordering::Relaxed).unwrap();
                    passed_on.store(1, Ordering::Release);
                    one.add(id, 1, 1, Ordering::Release).unwrap();
                    one
                })
            };
            let other = thread::spawn(move || {
                if passed_on.load(Ordering::Acquire) == 1 {
                    other.add(id, 1, 1, Ordering::Release).unwrap();
                }
                other
            });
            assert!(balance(&space, id) >= 0);
            let _owners = [one, other].map(|thread| thread.join().unwrap());
            assert!([0, 1].contains(&balance(&space, id)));
        });
    }
}
