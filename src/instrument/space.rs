//! Who has which cells: blocks for series, banks for threads, and everything that the hot path leaves to a lock.
//!
//! There is one [`Space`] a process. It hands blocks of cells to series and takes them back, gives every thread a [`Bank`],
//! sums blocks over banks, and carries out the writes that a bank declines. All of it happens under one lock that is held
//! for microseconds at a time: a sum over many series lets go of it between batches.
//!
//! # Threads that end
//!
//! A bank whose thread has ended is kept whole, with its counts, and the next new thread goes on with it. At most
//! [`SPARE_BANKS`] wait like that; a further one is folded into the cells that all threads share and freed. So there are
//! never more banks than live threads and the spare ones, each with eight bytes a cell that its threads touched.
//!
//! Adding floats is not associative, so folding could lower a total, which a reader takes for a restart. Banks are
//! therefore always summed in one order, and [`Plan::fold`] raises what it folds until the total is no less than it was.
//! That is enough for ever: an addition of floats is monotone in each operand.
//!
//! # Series that go
//!
//! [`Space::release`] ends a life: the block's generation moves on, so that late writers fail the comparison of tags as soon
//! as the block has a new tenant. Until then a late write would fall unseen into cells that nobody reads, and that must be
//! counted: the owner of every bank that holds cells of the ended life is called (`Front::call`), and, before it writes anything
//! else, compares them with what was read at the end and clears them. What is compared is what went into the final reading
//! itself, each counting cell being read once for both. A late write is so either part of the final reading, which whoever ended
//! the life can still hand on, or counted as lost, and never both, and never in another series.
//!
//! One thing remains of a write that the final reading meets half way: as in any reading, an observation may be in the counts
//! and its value not in the sum, and here no later reading brings it.
//!
//! # Forks
//!
//! A child counts from zero: the parent goes on with what was counted before, and nothing must be reported twice. The fork
//! itself only calls the one thread that the child has ([`Space::forked`]), and whoever first takes the lock in the child starts
//! all counts again ([`Plan::start_again`]). The banks of threads that are gone are left out of all sums from then on, and left
//! alone: their owners' fronts lie in memory that is given to new threads, and cells that are not touched stay shared with the
//! parent. So they are not freed either, but for the spare ones.

use super::bank::{Bank, CHUNK_CELLS, COUNT_MASK, CellId, Chunk, Front, FrontRef, SUM_STRIPES};
use crate::{
    platform,
    sync::{AtomicPtr, AtomicU64, Mutex, MutexGuard, Ordering},
};
use std::{ptr, sync::Arc};

/// How many banks of ended threads wait for a new thread before one is folded.
pub(crate) const SPARE_BANKS: usize = if cfg!(loom) { 1 } else { 8 };

/// How many ended series a write settles before it goes on: some microseconds' worth, with the lock held.
const SETTLED_AT_ONCE: usize = 512;

/// Chunks that a directory covers at least.
const FEWEST_COVERED: usize = if cfg!(loom) { 1 } else { 16 };

/// How many series are summed before the lock is released for a moment.
const BATCH: usize = 256;

/// The one space of the process.
#[cfg(not(loom))]
pub(crate) static SPACE: Space = Space::new();

/// The cells that a series of some kind has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// How many cells count.
    pub(crate) counts: usize,
    /// Whether a running sum of floats goes with them.
    pub(crate) sum: bool,
}

impl Shape {
    fn floats(self) -> usize {
        if self.sum { SUM_STRIPES } else { 0 }
    }

    fn cells(self) -> usize {
        self.floats() + self.counts
    }

    /// The most counting cells that fit beside a sum.
    pub(crate) const MOST_COUNTS: usize = CHUNK_CELLS - SUM_STRIPES;
}

/// A write that came after its series was removed: it is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stale;

/// One operation of an instrument, as the slow path repeats it.
#[derive(Clone, Copy)]
pub(crate) struct Write {
    /// Which counting cell.
    pub(crate) offset: usize,
    /// What to add to it.
    pub(crate) amount: u64,
    /// What to add to the sum, `amount` times.
    pub(crate) value: Option<f64>,
}

/// Blocks, banks and the slow path; see the module.
pub(crate) struct Space {
    plan: Mutex<Plan>,
    /// The front of the thread that made this process by a fork; to be compared, never followed.
    forker: AtomicPtr<Front>,
}

struct Plan {
    /// The generation of the process that the counts belong to.
    process: u64,
    /// In the order in which banks are summed, for ever.
    seats: Vec<Seat>,
    chunks: Vec<ChunkPlan>,
    pools: Vec<Pool>,
    shared: SharedCells,
}

/// A bank and what is to be settled with its owner.
struct Seat {
    bank: Arc<Bank>,
    /// The owner's, if there is one.
    front: Option<FrontRef>,
    revoked: Vec<Revoked>,
}

/// A block of an ended life that a bank still has cells of.
struct Revoked {
    index: u32,
    shape: Shape,
    /// What this bank's part of the final reading was.
    counted: u64,
    lost: Arc<AtomicU64>,
}

/// A chunk serves blocks of one shape.
struct ChunkPlan {
    shape: Shape,
    /// The generation of each block's present or next life.
    generations: Vec<u16>,
}

/// Blocks of one shape.
struct Pool {
    shape: Shape,
    free: Vec<u32>,
    /// The chunk that new blocks are cut from, and how many have been.
    open: Option<(usize, usize)>,
}

/// Cells that belong to no thread: what folded banks held, what did not fit into a tagged cell, and what threads wrote
/// while they ended. Full width, untagged, under the lock; cleared when a block's life ends.
struct SharedCells {
    chunks: Vec<Option<Box<[u64; CHUNK_CELLS]>>>,
}

impl Space {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Space {
            plan: Mutex::new(Plan::new()),
            forker: AtomicPtr::new(ptr::null_mut()),
        }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Space {
            plan: Mutex::new(Plan::new()),
            forker: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Calls the one thread that the child of a fork has; for that child's handler.
    ///
    /// Relaxed: all other threads of the child are started later.
    #[cfg(unix)]
    pub(crate) fn forked(&self, front: &Front) {
        front.call();
        self.forker.store(ptr::from_ref(front).cast_mut(), Ordering::Relaxed);
    }

    /// As if this were the child of a fork.
    #[cfg(all(test, unix, not(loom)))]
    pub(crate) fn start_again(&self) {
        self.plan().start_again(self.forker.load(Ordering::Relaxed));
    }

    /// The plan of this process: in the child of a fork, the parent's counts are not in it.
    fn plan(&self) -> MutexGuard<'_, Plan> {
        let mut plan = self.plan.lock();
        let process = platform::generation();
        if plan.process != process {
            plan.process = process;
            plan.start_again(self.forker.load(Ordering::Relaxed));
        }
        plan
    }

    /// Cells for a new life of a series, or `None` when the process has used up a quarter of a billion of them.
    pub(crate) fn allocate(&self, shape: Shape) -> Option<CellId> {
        self.plan().allocate(shape)
    }

    /// Takes back an id that nobody has used.
    pub(crate) fn give_back(&self, id: CellId) {
        let mut plan = self.plan();
        let shape = plan.shape_of_living(id).expect("nobody has ended what nobody has used");
        plan.pool_mut(shape).free.push(id.index() as u32);
    }

    /// Ends a life. Adds what its counting cells came to in the end to `counts`, as [`sum`](Self::sum) does, and returns what its
    /// sum came to: no less than any reading before. What is written through `id` and not in there is added to `lost`, sooner or
    /// later. Nothing comes of a life that is over already.
    pub(crate) fn release(&self, id: CellId, lost: &Arc<AtomicU64>, counts: &mut [u64]) -> f64 {
        self.plan().release(id, lost, counts)
    }

    /// A bank for a thread: that of an ended thread, or a new one.
    pub(crate) fn take_bank(&self, front: FrontRef) -> Arc<Bank> {
        let mut plan = self.plan();
        if let Some(seat) = plan.seats.iter_mut().find(|seat| seat.front.is_none()) {
            seat.front = Some(front);
            return seat.bank.clone();
        }
        let bank = Arc::new(Bank::new());
        plan.seats.push(Seat {
            bank: bank.clone(),
            front: Some(front),
            revoked: Vec::new(),
        });
        bank
    }

    /// Gives a bank back with all that it holds.
    pub(crate) fn leave_bank(&self, bank: &Arc<Bank>) {
        let mut plan = self.plan();
        let seat = plan.seat(bank);
        plan.seats[seat].settle(usize::MAX);
        if let Some(front) = plan.seats[seat].front.take() {
            front.front().call();
        }
        if plan.seats.iter().filter(|seat| seat.front.is_none()).count() > SPARE_BANKS {
            let first = plan.seats.iter().position(|seat| seat.front.is_none());
            plan.fold(first.expect("more than none are spare"));
        }
    }

    /// Carries out a write that `bank` declined, or that comes from a thread without a bank. `bank` is the caller's own.
    pub(crate) fn write(&self, bank: Option<&Arc<Bank>>, id: CellId, write: Write) -> Result<(), Stale> {
        let mut plan = self.plan();
        let Some(bank) = bank else {
            return plan.write_shared(id, write);
        };
        let seat = plan.seat(bank);
        plan.seats[seat].settle(SETTLED_AT_ONCE);
        if !plan.seats[seat].revoked.is_empty() {
            // Very many series went at once. The owner comes again and again until all is settled, and waits for little
            // each time; until then its own cells stay as they are.
            return plan.write_shared(id, write);
        }
        let shape = plan.shape_of_living(id).ok_or(Stale)?;
        let chunk = bank.cover(id.index() / CHUNK_CELLS, plan.covered());
        let front = plan.seats[seat].front.expect("the caller is the owner");
        let front = front.front();
        front.show(bank);
        let block = Block {
            chunk,
            start: id.index(),
            shape,
        };
        if !id.owns(block.count(0).load(Ordering::Relaxed)) {
            block.reset(id.tag());
        }
        let written = match write.value {
            None => front.add(id, write.offset, write.amount, Ordering::Release),
            Some(value) => front.observe(id, write.offset, value, write.amount),
        };
        if written {
            return Ok(());
        }
        // The count has no room for the tag's sake. What the cell holds moves to the shared ones, which have.
        let cell = block.count(write.offset);
        let held = cell.load(Ordering::Relaxed) & COUNT_MASK;
        cell.store(id.tag(), Ordering::Relaxed);
        plan.shared.add(id.index() + shape.floats() + write.offset, held);
        plan.write_shared(id, write)
    }

    /// Adds up the blocks of `ids` over all threads: `shape.counts` counts a series into `counts`, and where the shape has
    /// a sum, one a series into `sums`. A series whose life has ended adds up to something that its reader has to discard.
    pub(crate) fn sum(&self, shape: Shape, ids: &[CellId], counts: &mut [u64], sums: &mut [f64]) {
        for (batch, ids) in ids.chunks(BATCH).enumerate() {
            let start = batch * BATCH;
            let counts = &mut counts[start * shape.counts..][..ids.len() * shape.counts];
            let sums = if shape.sum {
                &mut sums[start..][..ids.len()]
            } else {
                &mut []
            };
            self.plan().sum(shape, ids, counts, sums);
        }
    }
}

impl Plan {
    const fn new() -> Self {
        Plan {
            process: 0,
            seats: Vec::new(),
            chunks: Vec::new(),
            pools: Vec::new(),
            shared: SharedCells { chunks: Vec::new() },
        }
    }

    /// How many chunks every bank's directory covers: all that there are, and some to come.
    fn covered(&self) -> usize {
        self.chunks.len().next_power_of_two().max(FEWEST_COVERED)
    }

    /// Starts all counts again, in a process whose only thread had this front when the process was made. It has not written
    /// since, because it was called and has not been here.
    fn start_again(&mut self, forker: *const Front) {
        self.seats
            .retain(|seat| seat.front.is_some_and(|front| front.is(forker)));
        for seat in &mut self.seats {
            seat.revoked.clear();
            // Tags go too: those of ended lives, which are not settled any more, must not match a late write.
            seat.bank.clear();
        }
        self.shared.chunks.clear();
    }

    /// Makes every owner come here before it goes on, and there grow its directory.
    fn call_all(&self) {
        for front in self.seats.iter().filter_map(|seat| seat.front.as_ref()) {
            front.front().call();
        }
    }

    fn allocate(&mut self, shape: Shape) -> Option<CellId> {
        debug_assert!(
            shape.counts > 0 && shape.cells() <= CHUNK_CELLS,
            "checked where boundaries are"
        );
        let pool = self
            .pools
            .iter()
            .position(|pool| pool.shape == shape)
            .unwrap_or_else(|| {
                self.pools.push(Pool {
                    shape,
                    free: Vec::new(),
                    open: None,
                });
                self.pools.len() - 1
            });
        let Pool { free, open, .. } = &mut self.pools[pool];
        let index = match (free.pop(), *open) {
            (Some(index), _) => index,
            (None, Some((chunk, used))) if used < CHUNK_CELLS / shape.cells() => {
                *open = Some((chunk, used + 1));
                (chunk * CHUNK_CELLS + used * shape.cells()) as u32
            }
            _ => {
                let chunk = self.chunks.len();
                let index = u32::try_from(chunk * CHUNK_CELLS).ok()?;
                if index >> CellId::INDEX_BITS != 0 {
                    return None;
                }
                *open = Some((chunk, 1));
                if chunk == self.covered() {
                    // Before the id is given away: nobody may look it up in a directory that does not cover it.
                    self.call_all();
                }
                self.chunks.push(ChunkPlan {
                    shape,
                    generations: vec![1; CHUNK_CELLS / shape.cells()],
                });
                index
            }
        };
        Some(CellId::new(index, self.generation(index as usize)))
    }

    fn release(&mut self, id: CellId, lost: &Arc<AtomicU64>, counts: &mut [u64]) -> f64 {
        let Some(shape) = self.shape_of_living(id) else {
            return 0.0;
        };
        let mut stripes = [0.0; SUM_STRIPES];
        let mut counted = vec![0_u64; self.seats.len()];
        self.add_up(shape, &[id], counts, &mut stripes, |seat, count| {
            counted[seat] = counted[seat].wrapping_add(count);
        });
        for (seat, counted) in self.seats.iter_mut().zip(counted) {
            let Some(chunk) = seat.bank.chunk(id.index() / CHUNK_CELLS) else {
                continue;
            };
            let block = Block {
                chunk,
                start: id.index(),
                shape,
            };
            if id.owns(block.count(0).load(Ordering::Relaxed)) {
                seat.revoked.push(Revoked {
                    index: id.index() as u32,
                    shape,
                    counted,
                    lost: lost.clone(),
                });
                match &seat.front {
                    Some(front) => front.front().call(),
                    None => seat.settle(usize::MAX),
                }
            }
        }
        self.shared.clear(id.index(), shape.cells());
        let generation = self.generation_mut(id.index());
        *generation += 1;
        if *generation <= CellId::LAST_GENERATION {
            self.pool_mut(shape).free.push(id.index() as u32);
        }
        stripes.iter().sum()
    }

    fn pool_mut(&mut self, shape: Shape) -> &mut Pool {
        let pool = self.pools.iter_mut().find(|pool| pool.shape == shape);
        pool.expect("a block comes from its shape's pool")
    }

    fn write_shared(&mut self, id: CellId, write: Write) -> Result<(), Stale> {
        let shape = self.shape_of_living(id).ok_or(Stale)?;
        if let Some(value) = write.value {
            self.shared.add_float(id.index(), value * write.amount as f64);
        }
        self.shared
            .add(id.index() + shape.floats() + write.offset, write.amount);
        Ok(())
    }

    fn sum(&self, shape: Shape, ids: &[CellId], counts: &mut [u64], sums: &mut [f64]) {
        let mut stripes = [0.0; BATCH * SUM_STRIPES];
        self.add_up(shape, ids, counts, &mut stripes, |_, _| ());
        for (sum, stripes) in sums.iter_mut().zip(stripes.chunks(SUM_STRIPES)) {
            *sum = stripes.iter().sum();
        }
    }

    /// Adds up the blocks of `ids`: what is shared first, then bank by bank in their order. Tells `saw` of each count it reads, and in
    /// which seat.
    #[inline]
    fn add_up(
        &self,
        shape: Shape,
        ids: &[CellId],
        counts: &mut [u64],
        stripes: &mut [f64],
        mut saw: impl FnMut(usize, u64),
    ) {
        for (at, id) in ids.iter().enumerate() {
            let Some(cells) = self.shared.block(id.index(), shape.cells()) else {
                continue;
            };
            for (stripe, cell) in stripes[at * shape.floats()..].iter_mut().zip(&cells[..shape.floats()]) {
                *stripe += f64::from_bits(*cell);
            }
            for (count, cell) in counts[at * shape.counts..].iter_mut().zip(&cells[shape.floats()..]) {
                *count = count.wrapping_add(*cell);
            }
        }
        if shape == (Shape { counts: 2, sum: false }) {
            // An up-down counter. Departures of all threads before arrivals: an arrival that happened before a departure
            // counted here is then counted too, and the difference does not dip below what it ever was.
            for offset in [1, 0] {
                self.each_block(shape, ids, |seat, at, block| {
                    let read = block.count(offset).load(Ordering::Acquire) & COUNT_MASK;
                    counts[at * 2 + offset] = counts[at * 2 + offset].wrapping_add(read);
                    saw(seat, read);
                });
            }
            return;
        }
        self.each_block(shape, ids, |seat, at, block| {
            for (stripe, total) in stripes[at * shape.floats()..]
                .iter_mut()
                .take(shape.floats())
                .enumerate()
            {
                // Before the counts, and with an acquire: they are no less than what is in the sum.
                *total += f64::from_bits(block.float(stripe).load(Ordering::Acquire));
            }
            for (offset, count) in counts[at * shape.counts..].iter_mut().take(shape.counts).enumerate() {
                let read = block.count(offset).load(Ordering::Relaxed) & COUNT_MASK;
                *count = count.wrapping_add(read);
                saw(seat, read);
            }
        });
    }

    /// Every bank's block of every living series in `ids`, bank by bank in their order, with the number of the bank's seat.
    #[inline]
    fn each_block(&self, shape: Shape, ids: &[CellId], mut visit: impl FnMut(usize, usize, Block<'_>)) {
        for (number_of_seat, seat) in self.seats.iter().enumerate() {
            let mut near: Option<(usize, Option<&Chunk>)> = None;
            for (at, id) in ids.iter().enumerate() {
                let number = id.index() / CHUNK_CELLS;
                let chunk = match near {
                    Some((near, chunk)) if near == number => chunk,
                    _ => seat.bank.chunk(number),
                };
                near = Some((number, chunk));
                let Some(chunk) = chunk else { continue };
                let block = Block {
                    chunk,
                    start: id.index(),
                    shape,
                };
                // Relaxed is enough here and below: blocks are reset under the lock that is held, so that only
                // counting goes on meanwhile.
                if id.owns(block.count(0).load(Ordering::Relaxed)) {
                    visit(number_of_seat, at, block);
                }
            }
        }
    }

    /// Moves what the bank of `seat`, which has no owner, holds to the shared cells, and drops it.
    fn fold(&mut self, seat: usize) {
        self.seats[seat].settle(usize::MAX);
        let bank = self.seats[seat].bank.clone();
        for (number, chunk) in bank.chunks() {
            let shape = self.chunks[number].shape;
            for slot in 0..self.chunks[number].generations.len() {
                let start = number * CHUNK_CELLS + slot * shape.cells();
                let id = CellId::new(start as u32, self.generation(start));
                let block = Block { chunk, start, shape };
                if !id.owns(block.count(0).load(Ordering::Relaxed)) {
                    continue;
                }
                for offset in 0..shape.counts {
                    let held = block.count(offset).load(Ordering::Relaxed) & COUNT_MASK;
                    self.shared.add(start + shape.floats() + offset, held);
                }
                for stripe in 0..shape.floats() {
                    self.fold_float(seat, id, shape, stripe);
                }
            }
        }
        self.seats.remove(seat);
    }

    /// Moves one float of a bank to the shared cells, raised as far as it takes for the total not to fall.
    fn fold_float(&mut self, seat: usize, id: CellId, shape: Shape, stripe: usize) {
        let mut parts = vec![0.0; self.seats.len()];
        for (part, seat) in parts.iter_mut().zip(&self.seats) {
            let Some(chunk) = seat.bank.chunk(id.index() / CHUNK_CELLS) else {
                continue;
            };
            let block = Block {
                chunk,
                start: id.index(),
                shape,
            };
            if id.owns(block.count(0).load(Ordering::Relaxed)) {
                *part = f64::from_bits(block.float(stripe).load(Ordering::Relaxed));
            }
        }
        let cell = self.shared.cell(id.index() + stripe);
        let before = parts.iter().fold(f64::from_bits(*cell), |total, part| total + part);
        let mut base = f64::from_bits(*cell) + parts[seat];
        parts[seat] = 0.0;
        let mut step = f64::from_bits(base.abs().to_bits() + 1) - base.abs();
        while parts.iter().fold(base, |total, part| total + part) < before {
            base += step;
            step *= 2.0;
        }
        *cell = base.to_bits();
    }

    fn seat(&self, bank: &Arc<Bank>) -> usize {
        let seat = self.seats.iter().position(|seat| Arc::ptr_eq(&seat.bank, bank));
        seat.expect("a bank that a thread holds is not folded")
    }

    /// The shape of the block that `id` names, if its life lasts.
    fn shape_of_living(&self, id: CellId) -> Option<Shape> {
        let chunk = self.chunks.get(id.index() / CHUNK_CELLS)?;
        (self.generation(id.index()) == id.generation()).then_some(chunk.shape)
    }

    fn generation(&self, index: usize) -> u16 {
        let chunk = &self.chunks[index / CHUNK_CELLS];
        chunk.generations[index % CHUNK_CELLS / chunk.shape.cells()]
    }

    fn generation_mut(&mut self, index: usize) -> &mut u16 {
        let chunk = &mut self.chunks[index / CHUNK_CELLS];
        &mut chunk.generations[index % CHUNK_CELLS / chunk.shape.cells()]
    }
}

impl Seat {
    /// Counts what was written into ended lives after their final reading, and clears their cells, so that the next such
    /// write is declined at once. The bank's owner calls this, or whoever holds the lock while it has none.
    fn settle(&mut self, most: usize) {
        let rest = self.revoked.len().saturating_sub(most);
        for revoked in self.revoked.drain(rest..) {
            let start = revoked.index as usize;
            let chunk = self
                .bank
                .chunk(start / CHUNK_CELLS)
                .expect("it had cells of the ended life");
            let block = Block {
                chunk,
                start,
                shape: revoked.shape,
            };
            let late = block.total().wrapping_sub(revoked.counted);
            revoked.lost.fetch_add(late, Ordering::Relaxed);
            block.reset(0);
        }
    }
}

/// The cells of one series in one bank.
struct Block<'a> {
    chunk: &'a Chunk,
    start: usize,
    shape: Shape,
}

impl<'a> Block<'a> {
    fn count(&self, offset: usize) -> &'a AtomicU64 {
        self.chunk.cell(self.start + self.shape.floats() + offset)
    }

    fn float(&self, stripe: usize) -> &'a AtomicU64 {
        self.chunk.cell(self.start + stripe)
    }

    fn total(&self) -> u64 {
        (0..self.shape.counts).fold(0, |total, offset| {
            (self.count(offset).load(Ordering::Relaxed) & COUNT_MASK).wrapping_add(total)
        })
    }

    fn reset(&self, tag: u64) {
        for stripe in 0..self.shape.floats() {
            self.float(stripe).store(0, Ordering::Relaxed);
        }
        for offset in 0..self.shape.counts {
            self.count(offset).store(tag, Ordering::Relaxed);
        }
    }
}

impl SharedCells {
    fn cell(&mut self, index: usize) -> &mut u64 {
        let at = index / CHUNK_CELLS;
        if at >= self.chunks.len() {
            self.chunks.resize_with(at + 1, || None);
        }
        &mut self.chunks[at].get_or_insert_with(|| Box::new([0; CHUNK_CELLS]))[index % CHUNK_CELLS]
    }

    fn add(&mut self, index: usize, amount: u64) {
        if amount > 0 {
            let cell = self.cell(index);
            *cell = cell.wrapping_add(amount);
        }
    }

    fn add_float(&mut self, index: usize, amount: f64) {
        let cell = self.cell(index);
        *cell = (f64::from_bits(*cell) + amount).to_bits();
    }

    fn block(&self, index: usize, cells: usize) -> Option<&[u64]> {
        let chunk = self.chunks.get(index / CHUNK_CELLS)?.as_ref()?;
        Some(&chunk[index % CHUNK_CELLS..][..cells])
    }

    fn clear(&mut self, index: usize, cells: usize) {
        if let Some(Some(chunk)) = self.chunks.get_mut(index / CHUNK_CELLS) {
            chunk[index % CHUNK_CELLS..][..cells].fill(0);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const COUNT: Shape = Shape { counts: 1, sum: false };

    #[test]
    fn a_block_that_is_used_up_is_nobodys() {
        let space = Space::new();
        let lost = Arc::default();
        let mut lives = 0;
        loop {
            let id = space.allocate(COUNT).unwrap();
            if id.index() != 0 {
                break;
            }
            lives += 1;
            space.release(id, &lost, &mut [0]);
        }
        assert_eq!(lives, CellId::LAST_GENERATION);
        let write = Write {
            offset: 0,
            amount: 1,
            value: None,
        };
        assert_eq!(space.write(None, CellId::UNSET, write), Err(Stale));
    }

    #[test]
    fn an_id_that_is_given_back_costs_no_life() {
        let space = Space::new();
        let id = space.allocate(COUNT).unwrap();
        space.give_back(id);
        assert_eq!(space.allocate(COUNT), Some(id));
    }

    #[test]
    fn the_cells_of_a_registry_that_is_dropped_serve_again() {
        // A shape that no other test has.
        let shape = Shape { counts: 98, sum: true };
        let used = || {
            let registry = crate::Registry::new();
            let buckets = crate::Buckets::explicit((0..97).map(f64::from)).unwrap();
            registry
                .histogram("size_bytes", "Size.")
                .buckets(buckets)
                .register()
                .unwrap()
                .observe(1.0);
        };
        used();
        let id = SPACE.allocate(shape).unwrap();
        assert_eq!(id.generation(), 2);
    }
}
