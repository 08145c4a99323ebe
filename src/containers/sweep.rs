//! Going over all living containers in slices: a turn of the loop, and a scrape, must not take longer the more there are.

use super::{IdentityId, InstanceId};
use crate::limits;
use crate::sys::clock::{self, MonotonicNs};
use crate::world::World;

/// What a slice has at least, so that on nearly all hosts one slice is all, unless that takes [`LONGEST`].
const AT_LEAST: usize = 64;

/// What is longest for a slice, in slices: some containers have a hundred cgroups, or thousands of processes.
const LONGEST: u64 = 3;

/// Containers looked up at a time.
const AT_ONCE: usize = 16;

/// What one collector may do in one turn: work for [`limits::SWEEP_SLICE`], or of 64 things if they take longer, up to three
/// times as long.
#[derive(Debug)]
pub struct Slice {
    began_ns: MonotonicNs,
    done: usize,
}

impl Slice {
    /// Begins now.
    pub fn begin() -> Slice {
        Slice { began_ns: clock::monotonic_ns(), done: 0 }
    }

    /// Whether there is room for one more.
    pub fn has_room(&self) -> bool {
        let slices = if self.done < AT_LEAST { LONGEST } else { 1 };
        self.done == 0 || !self.is_over(slices)
    }

    /// Counts one.
    pub fn count(&mut self) {
        self.done += 1;
    }

    /// Whether its time is over.
    pub fn is_late(&self) -> bool {
        self.is_over(1)
    }

    fn is_over(&self, slices: u64) -> bool {
        clock::monotonic_ns() >= self.began_ns + slices * limits::SWEEP_SLICE.as_nanos() as u64
    }
}

/// One pass over the living containers that have a name. What appears behind its place is met by this pass, the rest by the next.
#[derive(Debug, Default)]
pub struct Sweep {
    is_under_way: bool,
    /// The last one that had its turn.
    done: Option<InstanceId>,
}

impl Sweep {
    /// Begins a pass, unless one is under way.
    pub fn begin(&mut self) {
        if !self.is_under_way {
            *self = Sweep { is_under_way: true, done: None };
        }
    }

    /// True until the pass is over.
    pub fn is_under_way(&self) -> bool {
        self.is_under_way
    }

    /// Hands the containers of the next [`Slice`] to `each`. True when the pass is over.
    pub fn slice(
        &mut self,
        world: &mut World,
        mut each: impl FnMut(&mut World, InstanceId, IdentityId),
    ) -> bool {
        let mut slice = Slice::begin();
        while self.is_under_way && slice.has_room() {
            let next: Vec<_> = world.containers.living_after(self.done).take(AT_ONCE).collect();
            self.is_under_way = !next.is_empty();
            for (id, identity) in next {
                if !slice.has_room() {
                    return false;
                }
                self.done = Some(id);
                slice.count();
                each(world, id, identity);
            }
        }
        !self.is_under_way
    }
}
