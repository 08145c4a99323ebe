//! What sources tell collectors: one closed list.

use crate::containers::{IdentityId, InstanceId};

/// Something that happened on the host. A collector never calls another one: it pushes one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A container's cgroup appeared and its identity is known (perhaps provisionally).
    InstanceStarted(InstanceId),
    /// An instance goes by another identity from now on: its metadata was found.
    InstanceRenamed(InstanceId),
    /// All cgroup directories of an instance are gone; or it turned out to be nothing that is exported.
    InstanceEnded(InstanceId),
    /// No instance of the identity has lived for the linger time: its counters end.
    IdentityEnded(IdentityId),
    /// `world.containers.paths` has changes for who follows them.
    CgroupsChanged,
}
