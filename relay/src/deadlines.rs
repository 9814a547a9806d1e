use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::allocations::Id;

/// When allocations end. A deadline that moved or fell away stays in the heap until it comes up and is then found to
/// mean nothing, so setting one costs O(log n) and asking for the next O(1).
#[derive(Debug, Default)]
pub struct Deadlines {
    heap: BinaryHeap<Reverse<(Instant, Id)>>,
}

impl Deadlines {
    pub fn set(&mut self, at: Instant, id: Id) {
        self.heap.push(Reverse((at, id)));
    }

    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// The earliest deadline that is due, once.
    pub fn pop_due(&mut self, now: Instant) -> Option<(Instant, Id)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(due)| due)
    }

    /// Keeps what still means something, if more than half of the heap does not: a client that allocates and
    /// deallocates all day must not fill the memory.
    pub fn prune(&mut self, live: usize, means_something: impl Fn(Instant, Id) -> bool) {
        if live == 0 {
            self.heap.clear();
        }
        if self.heap.len() > 64 + 2 * live {
            self.heap.retain(|Reverse((at, id))| means_something(*at, *id));
        }
    }
}
