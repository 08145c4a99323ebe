//! stub
use super::{Collector, Opened, Spec, When};
use crate::args::Enable;
use crate::error::{Reason, Result};
use crate::metric::Desc;
use crate::registry::Registry;
use crate::world::World;
static SIZE: Desc = Desc::gauge(
    "container_resources_disk_size_bytes",
    "Size of the file system, in bytes.",
    &["mount_point", "device", "volume"],
);
/// This collector's row.
pub static SPEC: Spec = Spec {
    name: "disk",
    about: "File systems and disk I/O of containers",
    default: Enable::Auto,
    refresh: When::Interval,
    metrics: &[&SIZE],
    open,
};
fn open(_w: &mut World) -> Result<Opened> {
    let _ = Registry::counts;
    let _: Option<Box<dyn Collector>> = None;
    Ok(Opened::Absent(Reason::NotSupported, "stub".into()))
}
