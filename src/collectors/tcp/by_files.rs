//! Listeners where no program can look for them: the sockets that processes of containers have open, by /proc.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::layout::Destination;
use super::listeners::Open;
use crate::containers::{InstanceId, owners};
use crate::error::{Error, Reason};
use crate::limits;
use crate::netlink::socket_diag::state;
use crate::world::World;

/// Every listening socket a living container has open, as far as [`limits::FILES_LOOKED_AT`] goes; and to `at_home` whether
/// each container is in the host's network namespace. False when not everything was looked at.
pub fn listeners(world: &mut World, at_home: &mut HashMap<InstanceId, bool>) -> (Vec<Open>, bool) {
    let mut found = Vec::new();
    at_home.clear();
    let mut by_namespace: BTreeMap<u64, HashMap<u64, (Destination, bool)>> = BTreeMap::new();
    let mut budget = limits::FILES_LOOKED_AT;
    let (processes, mut is_complete) = processes(world);
    for (instance, pid) in processes {
        let Ok(namespace) = fs::metadata(world.host.proc(&format!("{pid}/ns/net"))) else {
            continue;
        };
        let netns = namespace.ino();
        let Some(namespaces) = world.namespaces.as_mut() else {
            return (found, false);
        };
        namespaces.note(&world.host, netns, pid);
        *at_home.entry(instance).or_insert(true) &= netns == namespaces.host();
        let sockets = by_namespace.entry(netns).or_insert_with(|| {
            let listed = namespaces.list_sockets(&world.host, netns, state::mask(state::LISTEN));
            is_complete &= listed.is_ok();
            let listening = listed.unwrap_or_default().into_iter().map(|socket| {
                let local = Destination { address: socket.local.ip(), port: socket.local.port() };
                (u64::from(socket.inode), (local, socket.is_v6_only.unwrap_or(false)))
            });
            listening.collect()
        });
        if sockets.is_empty() {
            continue;
        }
        let files = match fs::read_dir(world.host.proc(&format!("{pid}/fd"))) {
            Ok(files) => files,
            // It ended, or keeps everybody out. Without descriptors to look, nothing is known.
            Err(error) => {
                is_complete &= Error::from(error).reason() != Reason::ResourceLimit;
                continue;
            }
        };
        for file in files.flatten() {
            if budget == 0 {
                return (found, false);
            }
            budget -= 1;
            let socket =
                fs::read_link(file.path()).ok().and_then(|target| sockets.get(&socket_inode(&target)?));
            if let Some(&(local, is_v6_only)) = socket {
                found.push(Open { instance, netns, pid, local, is_v6_only });
            }
        }
    }
    (found, is_complete)
}

/// The processes of living containers; false when not all could be listed.
fn processes(world: &World) -> (Vec<(InstanceId, u32)>, bool) {
    let (mut found, mut is_complete) = (Vec::new(), true);
    for (id, instance, _) in world.containers.living() {
        match owners::processes(world, instance) {
            Ok(pids) => found.extend(pids.into_iter().map(|pid| (id, pid))),
            Err(_) => is_complete = false,
        }
    }
    (found, is_complete)
}

/// The number in `socket:[12345]`.
fn socket_inode(target: &Path) -> Option<u64> {
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_have_a_sockets_number() {
        assert_eq!(socket_inode(Path::new("socket:[4026531840]")), Some(4_026_531_840));
        for other in ["pipe:[12]", "socket:[]", "socket:[1", "socket:[x]", "/socket:[1]", ""] {
            assert_eq!(socket_inode(Path::new(other)), None, "{other}");
        }
    }
}
