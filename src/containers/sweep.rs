//! Going over all living containers in slices: a turn of the loop, and a scrape, must not take longer the more there are.

use super::{IdentityId, InstanceId};
use crate::limits;
use crate::sys::clock;
use crate::world::World;

/// Containers that a slice has at least, so that on nearly all hosts one slice is all.
const AT_LEAST: usize = 64;

/// Containers taken up between two looks at the clock.
const AT_ONCE: usize = 16;

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

    /// Hands the next containers to `each`: for [`limits::SWEEP_SLICE`], or 64 if that takes longer. True when the pass is over.
    pub fn slice(
        &mut self,
        world: &mut World,
        mut each: impl FnMut(&mut World, InstanceId, IdentityId),
    ) -> bool {
        let end_ns = clock::monotonic_ns() + limits::SWEEP_SLICE.as_nanos() as u64;
        let mut count = 0;
        while self.is_under_way && (count < AT_LEAST || clock::monotonic_ns() < end_ns) {
            let next: Vec<_> = world.containers.living_after(self.done).take(AT_ONCE).collect();
            self.is_under_way = !next.is_empty();
            for (id, identity) in next {
                self.done = Some(id);
                count += 1;
                each(world, id, identity);
            }
        }
        !self.is_under_way
    }
}
