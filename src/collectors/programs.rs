//! Users' eBPF programs and nodeprobe's own: metrics made from the maps of objects that a YAML file describes.

use std::os::fd::{AsRawFd, RawFd};

use super::{Collector, Need, Opened, Spec, When};
use crate::args::Enable;
use crate::error::{Reason, Result};
use crate::event::Event;
use crate::metric::Desc;
use crate::programs::set::Set;
use crate::programs::sources;
use crate::registry::Registry;
use crate::sys::capabilities::Capability;
use crate::world::World;

// Names and help of ebpf_exporter, which dashboards know.
static BUILD: Desc = Desc::state(
    "ebpf_exporter_build_info",
    "A metric with a constant '1' value labeled by version, revision, branch, goversion from which ebpf_exporter was built, \
     and the goos and goarch for the build.",
    &["branch", "goarch", "goos", "goversion", "revision", "tags", "version"],
);
static CONFIGS: Desc = Desc::state("ebpf_exporter_enabled_configs", "The set of enabled configs", &["name"]);
static PROGRAMS: Desc = Desc::state(
    "ebpf_exporter_ebpf_program_info",
    "Info about ebpf programs",
    &["config", "id", "program", "tag"],
);
static ATTACHED: Desc =
    Desc::state("ebpf_exporter_ebpf_program_attached", "Whether a program is attached", &["id"]);
static RUN_TIME: Desc = Desc::counter(
    "ebpf_exporter_ebpf_program_run_time_seconds",
    "How long has the program been executing",
    &["id"],
);
static RUNS: Desc = Desc::counter(
    "ebpf_exporter_ebpf_program_run_count_total",
    "How many times has the program been executed",
    &["id"],
);
static ERRORS: Desc = Desc::counter(
    "ebpf_exporter_decoder_errors_total",
    "How many times has decoders encountered errors",
    &["config"],
);
// What the peer does not say.
static PROBLEMS: Desc = Desc::state(
    "nodeprobe_config_problems",
    "Programs and metrics of an eBPF config that do not work; the log says which and why.",
    &["config"],
);
static RELOADED: Desc = Desc::state(
    "nodeprobe_config_last_reload_success",
    "1 when the last SIGHUP made all eBPF configs what their files say, 0 when an old one had to stay.",
    &[],
);
static STRANGERS: Desc = Desc::state(
    "nodeprobe_bucket_keys_out_of_range",
    "Keys in the maps of an eBPF config's histograms that are no bucket, so that their counts are in no series.",
    &["config"],
);
static LOST: Desc = Desc::counter(
    "nodeprobe_perf_events_lost_total",
    "Perf events of an eBPF config that found their ring full.",
    &["config", "metric"],
);

/// This collector's row.
pub static SPEC: Spec = Spec {
    name: "programs",
    about: "eBPF programs of --config.dir and --programs",
    default: Enable::Auto,
    refresh: When::Interval,
    needs: &[
        Need::absent(Capability::Bpf, "loads them"),
        Need::absent(Capability::Perfmon, "attaches them, reads kernel memory"),
        Need::less(
            Capability::SysAdmin,
            "attaches tracepoints and probes where sysctl kernel.perf_event_paranoid is above 2",
        ),
        Need::less(Capability::NetAdmin, "attaches programs to networks: xdp, cgroup_skb and others"),
        Need::less(Capability::Syslog, "sees addresses in /proc/kallsyms, for names of kernel functions"),
    ],
    metrics: &[
        &BUILD, &CONFIGS, &PROGRAMS, &ATTACHED, &RUN_TIME, &RUNS, &ERRORS, &PROBLEMS, &RELOADED, &STRANGERS,
        &LOST,
    ],
    open,
};

struct Programs(Set);

fn open(world: &mut World) -> Result<Opened> {
    if !sources::any_wanted(&world.config) {
        return Ok(Opened::Absent(Reason::Disabled, "neither --config.dir nor --programs".to_owned()));
    }
    if !world.host.is_live() {
        return Ok(Opened::Absent(Reason::NotLive, "the observed root is not a running host".to_owned()));
    }
    // People who ask for a config want to know at once that it is wrong.
    Ok(match Set::open(world) {
        Ok(set) => Opened::Ready(Box::new(Programs(set))),
        Err(error) => Opened::CannotStart(error),
    })
}

impl Collector for Programs {
    fn fds(&self, wait: &mut dyn FnMut(RawFd)) {
        self.0.fds().for_each(wait);
    }

    fn ready(&mut self, world: &mut World, fd: RawFd) -> Result<()> {
        self.0.ready(world, fd);
        Ok(())
    }

    fn event(&mut self, world: &mut World, event: &Event) {
        if *event == Event::CgroupsChanged {
            self.0.follow_cgroups(world);
        }
    }

    fn refresh(&mut self, world: &mut World) -> Result<()> {
        self.0.refresh(world);
        Ok(())
    }

    fn reload(&mut self, world: &mut World) {
        self.0.reload(world);
    }

    fn maps(&self, each: &mut dyn FnMut(RawFd)) {
        self.0.maps().map(AsRawFd::as_raw_fd).for_each(each);
    }

    fn debug_page(&mut self, world: &World) -> Option<String> {
        Some(self.0.print_maps(world))
    }

    fn collect(&self, _world: &World, out: &mut Registry) {
        let version = env!("CARGO_PKG_VERSION");
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        out.add(&BUILD, &["", arch, "linux", "", "", "nodeprobe", version], 1.0);
        for running in self.0.running() {
            let config = &*running.name;
            out.add(&CONFIGS, &[config], 1.0);
            out.add(&ERRORS, &[config], running.decoder_errors as f64);
            out.add(&PROBLEMS, &[config], running.problems().count() as f64);
            out.add(&STRANGERS, &[config], running.strangers as f64);
            for (metric, lost) in running.lost_events() {
                out.add(&LOST, &[config, metric], lost as f64);
            }
            for program in running.programs() {
                let info = program.info();
                let id = info.id.to_string();
                let tag: String = info.tag.iter().map(|byte| format!("{byte:02x}")).collect();
                // A program that was not loaded has no number and no tag.
                let tag = if info.id == 0 { "" } else { &tag };
                out.add(&PROGRAMS, &[config, &id, program.name(), tag], 1.0);
                out.add(&ATTACHED, &[&id], f64::from(u8::from(program.is_attached())));
                if self.0.has_statistics {
                    out.add(&RUN_TIME, &[&id], info.run_time_ns as f64 / 1e9);
                    out.add(&RUNS, &[&id], info.runs as f64);
                }
            }
        }
        for config in self.0.failed() {
            out.add(&PROBLEMS, &[config], 1.0);
        }
        if let Some(reloaded) = self.0.reloaded {
            out.add(&RELOADED, &[], f64::from(u8::from(reloaded)));
        }
        self.0.collect(out);
    }
}
