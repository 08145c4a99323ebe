//! Containers that come and go for half an hour, with processes that live for milliseconds, connections to ever new
//! destinations, log lines like no others, and clients that do not read: what of it stays in the agent, in a cgroup that has as
//! much memory as `--memory-limit` says.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;

use super::*;

/// Containers made and removed per minute.
const PER_MINUTE: u32 = 1000;
/// Clients that ask and never read, and how long each is left before the next takes its place.
const SLOW_CLIENTS: usize = 16;
const SLOW_TIME: Duration = Duration::from_secs(20);
/// What the agent's cgroup may take, its default.
const MEMORY: u64 = 64 << 20;
/// Processes that each of them has, one after the other.
const PROCESSES: u32 = 3;
const EXITED: &str = "container_processes_exited_total";

/// Growth of the counters of our containers' ended processes, by container: the value seen last, and all growth so far.
#[derive(Default)]
struct Exits(HashMap<String, [f64; 2]>);

impl Exits {
    fn take(&mut self, body: &[u8]) {
        // One that is gone before anybody looks has no name but the digits all of ours begin with, and shares it with others.
        let provisional = format!("/docker/{}", &MARK[..12]);
        let mut seen = HashMap::new();
        for line in String::from_utf8_lossy(body).lines().filter(|line| line.starts_with(EXITED)) {
            let id = line.split_once("container_id=\"").and_then(|(_, rest)| rest.split_once('"'));
            let id = id.map(|(id, _)| id).filter(|id| id.starts_with("/docker/soak-") || *id == provisional);
            let value = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
            if let (Some(id), Some(value)) = (id, value) {
                seen.insert(id.to_owned(), value);
            }
        }
        for (id, known) in &mut self.0 {
            // Its series ended; should it come back, it begins anew.
            let value = seen.remove(id).unwrap_or(0.0);
            let grown = if value < known[0] { value } else { value - known[0] };
            *known = [value, known[1] + grown];
        }
        self.0.extend(seen.into_iter().map(|(id, value)| (id, [value, value])));
    }

    fn sum(&self) -> f64 {
        self.0.values().map(|known| known[1]).sum()
    }
}

/// One container from its first process to its end.
fn live(number: usize) -> io::Result<()> {
    let id = container_id(number);
    make_container(&id, &format!("soak-{number}"))?;
    let log = Path::new(DOCKER_ROOT).join("containers").join(&id).join(format!("{id}-json.log"));
    let _ = fs::write(log, lines(number));
    let directories = container_directories(&id);
    for _ in 0..PROCESSES {
        // Not every v1 hierarchy takes a process without more ado; those that count do.
        let files: Vec<File> = directories
            .iter()
            .filter_map(|directory| File::options().write(true).open(directory.join("cgroup.procs")).ok())
            .collect();
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(SOAK_LIFE).arg(number.to_string());
        // SAFETY: between fork and exec only write(2) is called, on descriptors the closure owns.
        unsafe {
            command.pre_exec(move || {
                files.iter().for_each(|mut file| drop(file.write(b"0")));
                Ok(())
            })
        };
        command.status()?;
    }
    directories.iter().for_each(|directory| drop(fs::remove_dir(directory)));
    let files = Path::new(DOCKER_ROOT).join("containers").join(&id);
    // A moment for those who read what it has said.
    if !number.is_multiple_of(4) {
        thread::sleep(Duration::from_millis(20));
    }
    let _ = fs::remove_dir_all(files);
    Ok(())
}

/// What a process of container `number` does: connections that are refused, to destinations nobody else has.
pub fn life(number: u32) -> io::Result<()> {
    for port in 0..4 {
        let address = Ipv4Addr::from(0x7f10_0000 + number % 0xf_0000);
        let _ = TcpStream::connect((address, 1024 + port));
    }
    Ok(())
}

/// Lines of docker's JSON that are like no other's.
fn lines(number: usize) -> String {
    let word = |at: usize| {
        let mixed = (number * 16 + at).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let letters = (0..10).map(|letter| char::from(b'a' + (mixed >> (letter * 5) & 15) as u8));
        letters.collect::<String>()
    };
    let line = |at| {
        let level = ["INFO", "WARN", "ERROR"][at % 3];
        let (first, second) = (word(at), word(at + 8));
        format!(
            r#"{{"log":"{level} {first} of {second} failed\n","stream":"stdout","time":"2025-01-01T00:00:00Z"}}"#
        )
    };
    (0..8).map(|at| line(at) + "\n").collect()
}

/// Clients that have asked and do not read.
struct SlowClients(Vec<(Instant, TcpStream)>);

impl SlowClients {
    fn renew(&mut self, agent: &Agent) {
        self.0.retain(|(since, _)| since.elapsed() < SLOW_TIME);
        while self.0.len() < SLOW_CLIENTS {
            let Ok(mut stream) = TcpStream::connect(agent.address) else { return };
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: slow\r\n\r\n");
            self.0.push((Instant::now(), stream));
        }
    }
}

/// A cgroup with little memory, of whichever version counts memory here.
struct Pen {
    directory: PathBuf,
    is_v2: bool,
}

impl Pen {
    fn new(pid: u32) -> io::Result<Pen> {
        let v1 = Path::new(CGROUP_ROOT).join("memory");
        let is_v2 = !v1.join("cgroup.procs").exists();
        let directory = if is_v2 { Path::new(CGROUP_ROOT) } else { &v1 }.join(AGENT_CGROUP);
        fs::create_dir_all(&directory)?;
        let file = if is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
        fs::write(directory.join(file), MEMORY.to_string())?;
        fs::write(directory.join("cgroup.procs"), pid.to_string())?;
        Ok(Pen { directory, is_v2 })
    }

    fn number(&self, v1: &str, v2: &str, word: &str) -> f64 {
        let file = if self.is_v2 { v2 } else { v1 };
        let text = fs::read_to_string(self.directory.join(file)).unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix(word));
        value.and_then(|value| value.trim().parse().ok()).unwrap_or(f64::NAN)
    }

    fn peak(&self) -> f64 {
        self.number("memory.max_usage_in_bytes", "memory.peak", "")
    }

    fn kills(&self) -> f64 {
        self.number("memory.oom_control", "memory.events", "oom_kill ")
    }
}

/// Value of a straight line through points, at two places.
fn line_through(points: &[(f64, f64)], at: [f64; 2]) -> [f64; 2] {
    let count = points.len() as f64;
    let mean = |pick: fn(&(f64, f64)) -> f64| points.iter().map(pick).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let slope = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / spread;
    at.map(|at| y + slope * (at - x))
}

/// 1,000 containers made and removed per minute, for half an hour or `SOAK_MINUTES`.
pub fn soak(options: &Options) -> io::Result<()> {
    let asked = std::env::var("SOAK_MINUTES").ok().and_then(|minutes| minutes.parse().ok());
    let minutes: f64 = asked.unwrap_or(if options.quick { 3.0 } else { 30.0 });
    // What is there after its tables have grown to the size they stay at: destinations nobody tries are kept for ten minutes.
    let settled = if minutes > 14.0 { 12.0 } else { minutes / 2.0 };
    let agent = Agent::start(options, &[])?;
    let pen = Pen::new(agent.pid)?;
    let mut slow = SlowClients(Vec::new());
    let mut client = Client::open(agent.address)?;
    let mut exits = Exits::default();
    exits.take(&client.get(true)?.body);
    thread::sleep(Duration::from_secs(2));
    let at_first = agent.descriptors()?;
    let (began, cpu_ns) = (Instant::now(), agent.cpu_ns());
    let minute = || began.elapsed().as_secs_f64() / 60.0;
    let (mut number, mut memory, mut heap, mut scraped) = (0, Vec::new(), Vec::new(), Instant::now());
    while minute() < minutes {
        live(number)?;
        number += 1;
        if scraped.elapsed() >= Duration::from_secs(5) {
            scraped = Instant::now();
            let body = client.get(false)?.body;
            exits.take(&body);
            memory.push((minute(), agent.status("RssAnon")));
            heap.push((minute(), value(&String::from_utf8_lossy(&body), "nodeprobe_heap_bytes")));
            slow.renew(&agent);
        }
        let next = began + Duration::from_secs(60) / PER_MINUTE * number as u32;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let share = (agent.cpu_ns() - cpu_ns) as f64 / began.elapsed().as_nanos() as f64 * 100.0;
    let per_minute = number as f64 / minute();
    drop(slow);
    // The kernel lets go of the last ones, and their counters end.
    for _ in 0..18 {
        thread::sleep(Duration::from_secs(5));
        exits.take(&client.get(false)?.body);
    }
    for kind in [&mut memory, &mut heap] {
        kind.retain(|(minute, _)| *minute >= settled);
    }
    let [from, to] = line_through(&memory, [settled, minutes]);
    let [heap_from, heap_to] = line_through(&heap, [settled, minutes]);
    let lost = number as f64 * f64::from(PROCESSES) - exits.sum();
    figure("soak: containers made and removed per minute", per_minute.round(), "1/min", Some(AtLeast(990.0)));
    figure("soak: RssAnon, once settled", from / 1024.0, "MiB", None);
    figure("soak: RssAnon, growth from then to the end", (to - from) / from * 100.0, "%", Some(AtMost(1.0)));
    figure("soak: heap in use, once settled", heap_from / MIB, "MiB", None);
    figure("soak: heap in use, growth", (heap_to - heap_from) / heap_from * 100.0, "%", Some(AtMost(1.0)));
    figure("soak: RssAnon, when all are gone", agent.status("RssAnon") / 1024.0, "MiB", None);
    figure("soak: its cgroup's memory, peak of 64 MiB", pen.peak() / MIB, "MiB", None);
    figure("soak: its processes killed for want of memory", pen.kills(), "", Some(AtMost(0.0)));
    let at_last = agent.descriptors()?;
    let grown = at_last.len() as f64 - at_first.len() as f64;
    let mut new = at_last;
    for file in &at_first {
        new.iter().position(|known| known == file).map(|known| new.swap_remove(known));
    }
    println!("soak: open at the end, not at the start: {new:?}");
    for path in ["/metrics", "/healthz", "/"] {
        let answers = Client::open(agent.address)?.get_path(path, false).is_ok();
        figure(&format!("soak: {path} answers"), f64::from(u8::from(answers)), "", Some(AtLeast(1.0)));
    }
    figure("soak: VmHWM", agent.status("VmHWM") / 1024.0, "MiB", None);
    figure("soak: processes started", number as f64 * f64::from(PROCESSES), "", None);
    figure("soak: processes not counted, or too many", lost.abs(), "", Some(AtMost(0.0)));
    figure("soak: descriptors more than at the start", grown, "", Some(AtMost(0.0)));
    figure("soak: CPU", share, "% of one", None);
    Ok(())
}
