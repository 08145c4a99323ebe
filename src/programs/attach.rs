//! Where programs attach: as their section says. libbpf knows most sections; two are ebpf_exporter's own.

use crate::error::{Context, Error, Reason, Result};
use crate::host::{Host, read_bounded};
use crate::sys::bpf::{Links, Loaded, MapType, Object, Program, ProgramType};
use crate::sys::perf::{Event, Every};
use crate::sys::socket;

/// `perf_event/type=T,config=C,frequency=F`: a sample of that event on every processor.
const PERF_EVENT: &str = "perf_event/";
/// `xdp/INTERFACE`.
const XDP: &str = "xdp/";

/// Bytes of /sys/devices/system/cpu/online: a list of ranges.
const CPU_LIST_BYTES: usize = 4096;

/// Tells libbpf the type of programs in sections it does not know.
///
/// # Errors
/// Those of libbpf; an object with operations of the kernel. Nothing here would attach them, and on the way into the kernel
/// libbpf believes whatever their types say, reads past their ends and takes any map of that type for one with operations.
pub fn prepare(object: &mut Object) -> Result<()> {
    if let Some(map) = object.maps().iter().find(|map| map.kind == MapType::STRUCT_OPS) {
        let line = format!("map {}: operations of the kernel (struct_ops) are not supported", map.name);
        return Err(Error::new(Reason::NotSupported, line));
    }
    for program in object.programs() {
        let section = section(&program);
        if section.starts_with(PERF_EVENT) {
            object.set_type(&program.name, ProgramType::PerfEvent)?;
        } else if section.starts_with(XDP) {
            object.set_type(&program.name, ProgramType::Xdp)?;
        }
    }
    Ok(())
}

/// Attaches a loaded program.
///
/// # Errors
/// A section that says nonsense or nothing; what the kernel says.
pub fn attach(loaded: &Loaded, program: &Program, host: &Host) -> Result<Links> {
    attach_to(loaded, program, host).map_err(|error| explained(error, section(program), host))
}

fn attach_to(loaded: &Loaded, program: &Program, host: &Host) -> Result<Links> {
    let section = section(program);
    if let Some(settings) = section.strip_prefix(PERF_EVENT) {
        return attach_event(loaded, program, event(settings)?, host);
    }
    if let Some(interface) = section.strip_prefix(XDP) {
        let number = socket::interface_number(interface).context(format_args!("interface {interface}"))?;
        return loaded.attach_to_interface(&program.name, number);
    }
    loaded.attach_program(&program.name)
}

/// Puts in front of "no such file" what it is that the kernel has not.
fn explained(error: Error, section: &str, host: &Host) -> Error {
    let has = |path: &str| host.sys(path).exists();
    let (door, name) = section.split_once('/').unwrap_or((section, ""));
    let missing = match door {
        _ if error.reason() != Reason::NotFound => return error,
        "kprobe" | "kretprobe" if !has("bus/event_source/devices/kprobe") => {
            "this kernel has no kprobes (CONFIG_KPROBE_EVENTS)".to_owned()
        }
        "kprobe" | "kretprobe" => format!("this kernel has no function {name} that can be probed"),
        "tracepoint" | "tp" if !has("kernel/tracing/events") && !has("kernel/debug/tracing/events") => {
            "tracefs is not mounted on /sys/kernel/tracing".to_owned()
        }
        "perf_event" => "this machine has no such event, as is usual for virtual ones".to_owned(),
        "tracepoint" | "tp" | "raw_tp" | "raw_tracepoint" => format!("this kernel has no tracepoint {name}"),
        _ => return error,
    };
    Error::new(error.reason(), format!("{missing}: {error}"))
}

/// The section without the mark for "not loaded by itself".
fn section(program: &Program) -> &str {
    program.section.trim_start_matches('?')
}

fn attach_event(loaded: &Loaded, program: &Program, event: Event, host: &Host) -> Result<Links> {
    let online = read_bounded(&host.sys("devices/system/cpu/online"), CPU_LIST_BYTES);
    let online = online.context("processors that are online")?;
    let mut links = Links::default();
    for cpu in cpu_list(&String::from_utf8_lossy(&online)) {
        let opened = event.open(cpu).context(format_args!("perf_event_open on cpu {cpu}"))?;
        links.append(loaded.attach_to_event(&program.name, opened)?);
    }
    Ok(links)
}

/// `type=0,config=2,frequency=1`, as ebpf_exporter reads it. Without a frequency the event never gives a sample.
fn event(settings: &str) -> Result<Event> {
    let bad = |what: String| Error::new(Reason::Failed, format!("section {PERF_EVENT}{settings}: {what}"));
    let mut event = Event::default();
    for setting in settings.split(',') {
        let Some((key, value)) = setting.split_once('=') else {
            return Err(bad(format!("{setting:?} is not key=number")));
        };
        let number: i64 = value.parse().map_err(|_| bad(format!("{value:?} is not a decimal number")))?;
        match key {
            "type" => event.kind = number as u32,
            "config" => event.config = number as u64,
            "frequency" => event.every = Every::Frequency(number as u64),
            _ => return Err(bad(format!("{key:?} is not type, config or frequency"))),
        }
    }
    Ok(event)
}

/// The numbers in `0-3,8`, at most 8,192 of them (the kernel's NR_CPUS).
fn cpu_list(text: &str) -> Vec<u32> {
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().take(8192).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_as_written() {
        let read = |settings: &str| event(settings).map_err(|error| error.to_string());
        let expected = Event { kind: 1, config: 3, every: Every::Frequency(99) };
        assert_eq!(read("type=1,config=3,frequency=99"), Ok(expected));
        assert_eq!(read("config=-1"), Ok(Event { config: u64::MAX, ..Event::default() }));
        for (settings, word) in [
            ("", "key=number"),
            ("type", "key=number"),
            ("type=x", "decimal"),
            ("type=0x1", "decimal"),
            ("period=1", "frequency"),
            ("type=1,,", "key=number"),
        ] {
            assert!(read(settings).unwrap_err().contains(word), "{settings:?}");
        }
    }

    #[test]
    fn lists_of_processors() {
        assert_eq!(cpu_list("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(cpu_list("0"), [0]);
        assert_eq!(cpu_list(""), []);
        assert_eq!(cpu_list("x,3-1,7"), [7]);
        assert_eq!(cpu_list("0-4294967295").len(), 8192);
    }
}
