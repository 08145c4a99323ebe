//! nodeprobe: metrics of a node, its containers and its kernel for Prometheus, from one small static binary.
//!
//! ```text
//!             fds + deadlines                       Event queue (closed enum)
//!  kernel --> poll(2) --> ready(fd) --> decode --> World.events --> event(&ev) --+
//!    ^         agent.rs     collectors/*  procfs/netlink  world.rs   collectors/* | state in the collector
//!    |            |                                                               v
//!    +-- timers --+--> refresh()  (BPF maps, cgroup files, netlink; bounded)  own counters
//!                                                                                 | pure
//!  GET /metrics -> http.rs -> agent.rs -> collect(&self, &World, &mut Registry) -> registry.rs -> text
//! ```
//!
//! One thread owns all state. A collector never calls another one; it pushes an [`event::Event`]. All `unsafe` is in [`sys`],
//! all paths come from [`host::Host`], all bounds are in [`limits`]. `docs/ARCHITECTURE.md` has the rest.

pub mod agent;
pub mod args;
pub mod cgroupfs;
pub mod cloud;
pub mod collectors;
pub mod containers;
pub mod decoders;
pub mod doctor;
pub mod error;
pub mod event;
pub mod host;
pub mod http;
pub mod json;
pub mod kernel_file;
pub mod limits;
pub mod logs;
pub mod memory;
pub mod metric;
pub mod netlink;
pub mod network;
pub mod number;
pub mod page;
pub mod procfs;
pub mod programs;
pub mod registry;
pub mod spelling;
pub mod stderr;
pub mod sys;
pub mod systemd;
pub mod top;
pub mod unit;
pub mod world;
