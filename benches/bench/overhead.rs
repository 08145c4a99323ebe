//! What the agent does to others: CPU time of an exec, a connection, a small read or write, with the agent beside and without.

use super::connect::{ALL_PORTS, interval, loaded_programs, reset_on_close};
use super::*;

/// What is done again and again: the word of the hidden section, and what is said of it.
const KINDS: [(&str, &str); 3] = [
    ("exec", "fork, exec of /bin/true, exit"),
    ("connect", "connect, accept, both ends closed"),
    ("bytes", "16 bytes written to TCP and read"),
];

/// Pairs of runs with the agent and without; who is first takes turns, since whoever comes second finds a warmer machine.
pub fn overhead(options: &Options) -> io::Result<()> {
    let id = container_id(0);
    make_container(&id, "bench-overhead")?;
    let seconds = if options.quick { "0.3" } else { "1" };
    for (kind, what) in KINDS {
        let (mut off, mut more, mut percent) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..if options.quick { 5 } else { 30 } {
            let mut cost_ns = [0.0; 2];
            for step in [round % 2, 1 - round % 2] {
                let agent = if step == 1 { Some(Agent::start(options, &[ALL_PORTS])?) } else { None };
                cost_ns[step] = run(kind, seconds, &id)?.cost_ns;
                drop(agent);
            }
            off.push(cost_ns[0]);
            more.push(cost_ns[1] - cost_ns[0]);
            percent.push((cost_ns[1] / cost_ns[0] - 1.0) * 100.0);
        }
        figure(&format!("overhead: {what}: CPU without the agent, median"), median(&off), "ns", None);
        figure(&format!("overhead: {what}: more with it, median of pairs"), median(&more), "ns", None);
        let (low, high) = interval(&more);
        figure(&format!("overhead: {what}: 95 % interval of that, from"), low, "ns", None);
        figure(&format!("overhead: {what}: 95 % interval of that, to"), high, "ns", None);
        figure(&format!("overhead: {what}: more with it"), median(&percent), "%", None);
    }
    programs(options, &id)?;
    traces(options)
}

struct Run {
    count: u64,
    /// CPU time of one.
    cost_ns: f64,
}

fn run(kind: &str, seconds: &str, id: &str) -> io::Result<Run> {
    let output = Command::new(std::env::current_exe()?).args([LOAD, kind, seconds, id]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers =
        text.trim().split_once(' ').and_then(|(count, cpu)| Some((count.parse().ok()?, cpu.parse().ok()?)));
    let (count, cpu_ns): (u64, f64) = numbers.ok_or_else(|| {
        io::Error::other(format!("{LOAD} {kind}: {}", String::from_utf8_lossy(&output.stderr)))
    })?;
    Ok(Run { count, cost_ns: cpu_ns / count as f64 })
}

/// Does one kind from within the container `id`; prints how often, and what CPU time it took with its children, in nanoseconds.
pub fn load(kind: &str, seconds: f64, id: &str) -> io::Result<()> {
    for directory in container_directories(id) {
        // Not every v1 hierarchy takes a process without more ado; those that count do.
        let _ = fs::write(directory.join("cgroup.procs"), "0");
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut client = TcpStream::connect(address)?;
    client.set_nodelay(true)?;
    let (mut server, _) = listener.accept()?;
    let mut once = || -> io::Result<()> {
        match kind {
            "exec" => Command::new("/bin/true").status().map(drop),
            "connect" => {
                let client = TcpStream::connect(address)?;
                let (server, _) = listener.accept()?;
                // Closed with a reset: thousands of sockets in TIME_WAIT would be measured otherwise.
                reset_on_close(&client);
                drop((client, server));
                Ok(())
            }
            _ => {
                let mut bytes = [7; 16];
                client.write_all(&bytes)?;
                server.read_exact(&mut bytes)
            }
        }
    };
    once()?;
    let (began, began_ns, mut count) = (Instant::now(), cpu_ns(), 0u64);
    while began.elapsed().as_secs_f64() < seconds {
        for _ in 0..20 {
            once()?;
            count += 1;
        }
    }
    println!("{count} {}", cpu_ns() - began_ns);
    Ok(())
}

/// CPU time of this process and its children that have ended.
fn cpu_ns() -> u64 {
    // SAFETY: all zeros is a valid rusage, and the kernel fills the one it is given.
    let children = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let ns = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1000;
    clock::process_cpu_ns() + ns(children.ru_utime) + ns(children.ru_stime)
}

/// What each of the agent's programs takes, as the kernel counts it.
fn programs(options: &Options, id: &str) -> io::Result<()> {
    let old: BTreeSet<u32> = match loaded_programs() {
        Ok(programs) => programs.into_iter().map(|program| program.id).collect(),
        Err(error) => {
            println!("overhead: no times of BPF programs: bpftool: {error}");
            return Ok(());
        }
    };
    *bpf_stats() = Some(fs::read_to_string(BPF_STATS)?);
    fs::write(BPF_STATS, "1")?;
    let measured = (|| {
        for (kind, what) in KINDS {
            let _agent = Agent::start(options, &[ALL_PORTS])?;
            let run = run(kind, "0.5", id)?;
            let mut all_ns = 0;
            for program in loaded_programs()?.iter().filter(|program| !old.contains(&program.id)) {
                all_ns += program.time_ns;
                if program.runs >= run.count / 2 {
                    let name = format!("overhead: {what}: BPF {}", program.name);
                    figure(&name, (program.time_ns / program.runs.max(1)) as f64, "ns/run", None);
                }
            }
            figure(&format!("overhead: {what}: all BPF"), all_ns as f64 / run.count as f64, "ns", None);
        }
        Ok(())
    })();
    restore_bpf_stats();
    measured
}

/// What the kernel has that it had not without the agent.
fn traces(options: &Options) -> io::Result<()> {
    let modules = || fs::read_to_string("/proc/modules").map_or(0, |text| text.lines().count());
    let uprobes = || {
        let list = fs::read_to_string("/sys/kernel/tracing/uprobe_events").unwrap_or_default();
        let links = Command::new("bpftool").args(["link", "show"]).env_remove("LD_LIBRARY_PATH").output();
        let links =
            links.map_or(0, |output| String::from_utf8_lossy(&output.stdout).matches("uprobe").count());
        list.lines().count() + links
    };
    let before = (modules(), uprobes());
    let agent = Agent::start(options, &[])?;
    let body = Client::open(agent.address)?.get(false)?.body;
    let body = String::from_utf8_lossy(&body);
    let maps = body.lines().find_map(|line| line.strip_prefix("nodeprobe_bpf_map_memory_bytes "));
    let maps: f64 = maps.and_then(|bytes| bytes.parse().ok()).unwrap_or(f64::NAN);
    figure("overhead: BPF map memory", maps / MIB, "MiB", Some(AtMost(4.0)));
    figure("overhead: modules loaded", (modules() - before.0) as f64, "", Some(AtMost(0.0)));
    figure("overhead: uprobes", (uprobes() - before.1) as f64, "", Some(AtMost(0.0)));
    Ok(())
}
