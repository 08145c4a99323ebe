//! Checks of what runs on the node: cgroups, container runtimes, the journal, the cloud.

use std::fs;
use std::io;

use super::{Context, Outcome};
use crate::cloud::detect;
use crate::cloud::firmware::Firmware;
use crate::containers::hierarchies::Place;
use crate::host::read_bounded;

/// Runtimes and where they leave traces on the host, sockets first.
const RUNTIMES: &[(&str, &[&str])] = &[
    ("docker", &["/run/docker.sock", "/var/lib/docker/containers"]),
    ("containerd", &["/run/containerd/containerd.sock", "/run/containerd/io.containerd.runtime.v2.task"]),
    ("k3s", &["/run/k3s/containerd/containerd.sock", "/var/lib/rancher/k3s/agent"]),
    ("cri-o", &["/run/crio/crio.sock", "/var/lib/crio"]),
    ("podman", &["/run/podman/podman.sock", "/run/libpod", "/var/lib/containers/storage"]),
];

pub(super) fn cgroups(context: &Context) -> Outcome {
    let hierarchies = &context.hierarchies;
    let mut first: Vec<&str> = Vec::new();
    for (place, controller) in [(Place::Cpu, "cpu"), (Place::Memory, "memory"), (Place::Pids, "pids")] {
        if hierarchies.directory(place).is_some() {
            first.push(controller);
        }
    }
    first.extend(hierarchies.cpuacct().map(|_| "cpuacct"));
    first.extend(hierarchies.blkio().map(|_| "blkio"));
    let second = hierarchies.directory(Place::V2).map(|mount| {
        let controllers = read_bounded(&mount.join("cgroup.controllers"), 4096).unwrap_or_default();
        String::from_utf8_lossy(&controllers).trim().to_owned()
    });
    let mut detail = hierarchies.layout().to_owned();
    if !first.is_empty() {
        detail += &format!("; v1: {}", first.join(" "));
    }
    if let Some(second) = second.as_deref().filter(|controllers| !controllers.is_empty()) {
        detail += &format!("; v2: {second}");
    }
    if hierarchies.layout() == "none" {
        return Outcome::missing(
            format!("none at {}", context.host.cgroup("").display()),
            "mount cgroups there, or say --cgroupfs-root",
        );
    }
    let has_memory = |controllers: &str| controllers.split(' ').any(|name| name == "memory");
    if first.contains(&"memory") || second.as_deref().is_some_and(has_memory) {
        return Outcome::ok(detail);
    }
    // Raspberry Pi OS and some Debian kernels leave it off.
    Outcome::note(format!("{detail}; no memory"), "boot with cgroup_enable=memory")
}

pub(super) fn runtimes(context: &Context) -> Outcome {
    let found: Vec<String> = RUNTIMES
        .iter()
        .filter_map(|(name, traces)| {
            let trace = traces.iter().find(|trace| context.host.rootfs(trace).exists())?;
            Some(format!("{name} ({trace})"))
        })
        .collect();
    if found.is_empty() {
        return Outcome::note("none found", "if one runs here, make /run and /var/lib visible");
    }
    Outcome::ok(found.join(", "))
}

pub(super) fn journald(context: &Context) -> Outcome {
    let mut found = Vec::new();
    let mut refused = None;
    for directory in ["/run/log/journal", "/var/log/journal"] {
        match fs::read_dir(context.host.rootfs(directory)).map(|entries| entries.count()) {
            // One directory for each machine id; an empty one was only made ready.
            Ok(1..) => found.push(directory),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                refused = Some((directory, error));
            }
            _ => {}
        }
    }
    match refused {
        _ if !found.is_empty() => Outcome::ok(found.join(" ")),
        Some((directory, error)) => {
            Outcome::missing(format!("{directory}: {error}"), "CAP_DAC_READ_SEARCH or group systemd-journal")
        }
        None => Outcome::note(
            "none in /run/log/journal, /var/log/journal",
            "if journald runs here, make them visible",
        ),
    }
}

pub(super) fn cloud(context: &Context) -> Outcome {
    if let Some(cloud) = detect(&context.host) {
        return Outcome::ok(format!("{}, metadata at {}", cloud.provider, cloud.address));
    }
    match Firmware::of(&context.host, |firmware| firmware.dmi("sys_vendor")) {
        vendor if vendor.is_empty() => Outcome::note("no vendor", "in a cloud, say --provider"),
        vendor => Outcome::ok(format!("{vendor}: none that is known")),
    }
}
