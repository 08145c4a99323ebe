//! What systemd's unit files say of a service: its type, and what starts it.
//!
//! Files, not D-Bus: nothing to wait for. The price is that a unit is seen as it is written now, not as systemd loaded it.
//! Where the files are and which of two stands is systemd.unit(5); what the settings mean is systemd.service(5).

use std::collections::{BTreeMap, HashMap};

use super::runtimes::{Links, file, names_within, target};
use crate::host::Host;
use crate::limits;
use crate::sys::clock::MonotonicNs;

/// Directories of the system's units; a file in an earlier one hides its namesakes in the later ones.
const DIRECTORIES: &[&str] = &[
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
    "/run/systemd/generator.late",
];

/// Entries of a directory of units that are looked at; a desktop has some 500.
const MAX_UNITS: usize = 4096;

/// Units that may start others; a desktop has some 30.
const MAX_TRIGGERS: usize = 1024;

/// How long the list of what starts what may be old.
const TRIGGERS_AGE_NS: u64 = 60_000_000_000;

/// Values of `Type=`.
const TYPES: &[&str] = &["simple", "exec", "forking", "oneshot", "dbus", "notify", "notify-reload", "idle"];

/// Units that start others, in the order in which one is named when there are several.
const KINDS: &[&str] = &["timer", "path", "socket"];

/// What coroot-node-agent takes for systemd's own.
const SYSTEM_SERVICES: &[&str] = &[
    "systemd-",
    "dbus",
    "getty",
    "system-serial",
    "system-getty",
    "serial-getty",
    "snapd",
    "packagekit",
    "unattended-upgrades",
    "multipathd",
    "qemu-guest-agent",
    "irqbalance",
    "networkd-dispatcher",
    "rpcbind",
];

/// What is known of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    /// `Type=`, or the type that systemd gives a service without; empty if there is no such unit.
    pub kind: &'static str,
    /// The timer, path or socket that starts it; of several a timer, of several of these the first by name. Empty if none.
    pub triggered_by: Box<str>,
}

impl Unit {
    /// Whether coroot-node-agent takes the service `name` for one of systemd's own: what runs once, by a timer or for D-Bus,
    /// and some names.
    pub fn is_system_service(&self, name: &str) -> bool {
        matches!(self.kind, "oneshot" | "dbus")
            || self.triggered_by.ends_with(".timer")
            || SYSTEM_SERVICES.iter().any(|start| name.starts_with(start))
    }
}

/// The units of the system.
#[derive(Debug, Default)]
pub struct Units {
    /// By service what starts it.
    triggers: HashMap<Box<str>, Box<str>>,
    read_ns: Option<MonotonicNs>,
}

impl Units {
    /// What the files say of the service whose cgroup is at `path`. A slice stands for the instances of a template.
    pub fn of_cgroup(&mut self, host: &Host, path: &str, now_ns: MonotonicNs) -> Unit {
        let Some(name) = service(path) else { return Unit::default() };
        let kind = kind(host, &name);
        // A service that has no file cannot be started by another unit either.
        if kind.is_empty() {
            return Unit::default();
        }
        if self.read_ns.is_none_or(|at| at.saturating_add(TRIGGERS_AGE_NS) <= now_ns) {
            self.triggers = triggers(host);
            self.read_ns = Some(now_ns);
        }
        let trigger = self.triggers.get(&*name).or_else(|| self.triggers.get(&*template(&name)?));
        Unit { kind, triggered_by: trigger.cloned().unwrap_or_default() }
    }
}

/// `nginx.service` of `/system.slice/nginx.service`, `getty@.service` of `/system.slice/system-getty.slice`.
pub fn service(path: &str) -> Option<String> {
    let last = path.rsplit('/').next()?;
    let name = match last.strip_prefix("system-").and_then(|rest| rest.strip_suffix(".slice")) {
        // Only the dashes of slices are escaped: those in the names of services are not.
        Some(stem) => format!("{}@.service", stem.replace(r"\x2d", "-")),
        None => last.to_owned(),
    };
    let is_plain = (9..=255).contains(&name.len()) && !name.starts_with('.') && !name.contains('\0');
    (is_plain && name.ends_with(".service")).then_some(name)
}

/// `x@.service` of `x@1.service`.
fn template(name: &str) -> Option<String> {
    let (stem, rest) = name.split_once('@')?;
    let (_, kind) = rest.rsplit_once('.')?;
    Some(format!("{stem}@.{kind}"))
}

/// A line of a unit file.
#[derive(Debug, PartialEq, Eq)]
struct Setting<'a> {
    section: &'a str,
    key: &'a str,
    value: &'a str,
}

/// The settings of a unit file. A line that ends in a backslash goes on, but nothing looked for here is that long.
fn settings(text: &str) -> impl Iterator<Item = Setting<'_>> {
    let mut section = "";
    let mut goes_on = false;
    text.lines().filter_map(move |line| {
        let line = line.trim();
        let is_rest = std::mem::replace(&mut goes_on, line.ends_with('\\'));
        if is_rest || line.starts_with(['#', ';']) {
            // A comment between two halves of a line does not end it.
            goes_on |= is_rest && line.starts_with(['#', ';']);
            return None;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
            return None;
        }
        let (key, value) = line.split_once('=')?;
        Some(Setting { section, key: key.trim_end(), value: value.trim_start() })
    })
}

/// Gives `each` the settings of a unit in the order in which they count, the last first of all; false if there is no such unit.
fn read(host: &Host, name: &str, mut each: impl FnMut(Setting<'_>)) -> bool {
    let template = template(name).filter(|template| template != name);
    let own_names = || [Some(name), template.as_deref()].into_iter().flatten();
    let text = |path: &str| {
        let data = file(host, &target(host, path), Links::Follow).ok().flatten()?;
        Some(String::from_utf8_lossy(&data).into_owned())
    };
    let fragment = own_names()
        .find_map(|name| DIRECTORIES.iter().find_map(|directory| text(&format!("{directory}/{name}"))));
    let Some(fragment) = fragment else { return false };
    settings(&fragment).for_each(&mut each);
    // Of drop-ins with one name the first stands; then they count in the order of their names.
    let kind = name.rsplit('.').next().unwrap_or_default();
    let mut dropins: BTreeMap<String, String> = BTreeMap::new();
    for owner in own_names().chain([kind]) {
        for directory in DIRECTORIES {
            let directory = format!("{directory}/{owner}.d");
            let files = names_within(host, &directory, MAX_UNITS).into_iter();
            for file in files.filter(|file| file.ends_with(".conf")) {
                let path = format!("{directory}/{file}");
                dropins.entry(file).or_insert(path);
            }
        }
    }
    for path in dropins.values().take(limits::UNIT_DROPINS) {
        text(path).iter().for_each(|text| settings(text).for_each(&mut each));
    }
    true
}

/// The type of a service.
fn kind(host: &Host, name: &str) -> &'static str {
    let (mut kind, mut has_bus, mut has_command) = ("", false, false);
    let is_there = read(host, name, |setting| match (setting.section, setting.key) {
        ("Service", "Type") => {
            kind = TYPES.iter().find(|word| **word == setting.value).copied().unwrap_or_default();
        }
        ("Service", "BusName") => has_bus = !setting.value.is_empty(),
        ("Service", "ExecStart") => has_command = !setting.value.is_empty(),
        _ => {}
    });
    match (is_there, kind) {
        (false, _) => "",
        (true, "") if has_bus => "dbus",
        (true, "") if has_command => "simple",
        (true, "") => "oneshot",
        (true, kind) => kind,
    }
}

/// By service the unit that starts it, of all timers, paths and sockets that are enabled or transient.
fn triggers(host: &Host) -> HashMap<Box<str>, Box<str>> {
    let mut units: Vec<String> = Vec::new();
    for directory in DIRECTORIES {
        for entry in names_within(host, directory, MAX_UNITS) {
            if entry.ends_with(".wants") || entry.ends_with(".requires") {
                units.extend(names_within(host, &format!("{directory}/{entry}"), MAX_UNITS));
            } else if directory.ends_with("/transient") {
                units.push(entry);
            }
        }
    }
    let rank =
        |name: &str| KINDS.iter().position(|kind| name.rsplit_once('.').is_some_and(|(_, end)| end == *kind));
    units.retain(|unit| rank(unit).is_some());
    units.sort_unstable_by(|a, b| (rank(a), a).cmp(&(rank(b), b)));
    units.dedup();
    let mut triggers = HashMap::new();
    for unit in units.into_iter().take(MAX_TRIGGERS) {
        let Some((stem, _)) = unit.rsplit_once('.') else { continue };
        let (mut started, mut per_connection) = (format!("{stem}.service"), false);
        let is_there = read(host, &unit, |setting| match (setting.section, setting.key) {
            ("Timer" | "Path", "Unit") | ("Socket", "Service") if !setting.value.is_empty() => {
                setting.value.clone_into(&mut started);
            }
            ("Socket", "Accept") => per_connection = matches!(setting.value, "yes" | "true" | "on" | "1"),
            _ => {}
        });
        if !is_there {
            continue;
        }
        if per_connection {
            started = format!("{stem}@.service");
        }
        let unit: Box<str> = unit.into();
        if let Some(template) = template(&started) {
            triggers.entry(template.into()).or_insert_with(|| unit.clone());
        }
        triggers.entry(started.into()).or_insert(unit);
    }
    triggers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::test::Bed;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn types_are_those_systemd_gives() {
        let bed = Bed::new();
        let about =
            |name: &str| Units::default().of_cgroup(&bed.host, &format!("/system.slice/{name}"), 0).kind;
        assert_eq!(about("a.service"), "");
        for (text, kind) in [
            ("[Service]\nType=notify\nExecStart=/x\n", "notify"),
            ("[Unit]\nType=idle\n[Service]\nExecStart = /x \\\n  Type=forking\n", "simple"),
            ("[Service]\nExecStart=/x \\\n# Type=exec\n; y\nType=forking\n# more\nType=exec", "exec"),
            ("[Service]\nBusName=org.x\nExecStart=/x\n", "dbus"),
            ("[Service]\nBusName=\nExecStop=/x\n", "oneshot"),
            ("[Service]\nType=magic\nExecStart=/x", "simple"),
            ("", "oneshot"),
        ] {
            bed.write("usr/lib/systemd/system/a.service", text);
            assert_eq!(about("a.service"), kind, "{text:?}");
        }
        bed.write("usr/lib/systemd/system/a.service.d/20-b.conf", "[Service]\nType=idle");
        bed.write("usr/lib/systemd/system/service.d/30-c.conf", "[Service]\nType=exec");
        assert_eq!(about("a.service"), "exec", "in the order of their names");
        bed.write("etc/systemd/system/a.service.d/30-c.conf", "[Service]\nType=dbus");
        assert_eq!(about("a.service"), "dbus", "the administrator's hides the vendor's");
        bed.write("run/systemd/transient/a.service", "[Service]\nExecStart=/y");
        bed.write("etc/systemd/system/a.service.d/30-c.conf", "");
        assert_eq!(about("a.service"), "idle");
        bed.write("usr/lib/systemd/system/service.d/30-c.conf", "");
        bed.write("lib/systemd/system/pg@.service", "[Service]\nType=forking");
        assert_eq!((about("pg@9.service"), about("system-pg.slice")), ("forking", "forking"));
        assert_eq!((about("pg.service"), about("system-x.slice"), about("x.mount")), ("", "", ""));
    }

    #[test]
    fn what_is_enabled_starts_its_service() {
        let bed = Bed::new();
        for unit in ["a", "b", "c", "d", "e@"] {
            bed.write(&format!("usr/lib/systemd/system/{unit}.service"), "[Service]\nExecStart=/x");
        }
        let system = "usr/lib/systemd/system";
        bed.write(&format!("{system}/a.timer"), "[Timer]\nOnCalendar=daily");
        bed.write(&format!("{system}/a.socket"), "[Socket]\nListenStream=1");
        bed.write(&format!("{system}/z.path"), "[Path]\nUnit=b.service");
        bed.write(&format!("{system}/c.timer"), "[Timer]");
        bed.write(&format!("{system}/e.socket"), "[Socket]\nAccept=yes");
        for wants in
            ["timers.target.wants/a.timer", "sockets.target.wants/a.socket", "paths.target.wants/z.path"]
        {
            bed.write(&format!("etc/systemd/system/{wants}"), "");
        }
        bed.write(&format!("{system}/sockets.target.wants/e.socket"), "");
        let mut units = Units::default();
        let mut by = |name: &str, now_ns| {
            units.of_cgroup(&bed.host, &format!("/system.slice/{name}"), now_ns).triggered_by.into_string()
        };
        let found = ["a.service", "b.service", "c.service", "d.service", "e@1.service", "system-e.slice"]
            .map(|name| by(name, 0));
        assert_eq!(found, ["a.timer", "z.path", "", "", "e.socket", "e.socket"]);
        bed.write("run/systemd/transient/d.timer", "[Timer]\nOnActiveSec=5");
        assert_eq!(by("d.service", 59 * SECOND), "");
        assert_eq!(by("d.service", 60 * SECOND), "d.timer");
    }

    #[test]
    fn services_of_cgroups() {
        for (path, name) in [
            ("/system.slice/nginx.service", Some("nginx.service")),
            (r"/system.slice/system-serial\x2dgetty.slice", Some("serial-getty@.service")),
            ("/system.slice/x.mount", None),
            ("/system.slice/.service", None),
            ("", None),
        ] {
            assert_eq!(service(path).as_deref(), name, "{path}");
        }
    }

    #[test]
    fn systems_own() {
        let unit = |kind, trigger: &str| Unit { kind, triggered_by: trigger.into() };
        assert!(unit("oneshot", "").is_system_service("a.service"));
        assert!(unit("dbus", "").is_system_service("a.service"));
        assert!(unit("simple", "a.timer").is_system_service("a.service"));
        assert!(unit("notify", "").is_system_service("systemd-journald.service"));
        assert!(!unit("notify", "a.socket").is_system_service("docker.service"));
    }

    #[test]
    fn any_file_is_survived() {
        crate::procfs::fuzz::hammer(b"[Service]\nType=notify\\\n # x\nExecStart=/x \\\n y\n", |data| {
            settings(&String::from_utf8_lossy(data)).for_each(drop);
        });
    }
}
