//! What following TCP connections costs: those who make them, the kernel, and the agent.

use super::*;
use crate::programs::Directory;

/// The bench's own listener is where clients' ports are, which the agent leaves out by default.
pub const ALL_PORTS: &str = "--ephemeral-port-range=";

/// What following TCP connections costs those who make them.
pub fn connect(options: &Options) -> io::Result<()> {
    let id = container_id(0);
    make_container(&id, "bench-connect")?;
    let seconds = if options.quick { "0.3" } else { "1" };
    let (mut off, mut on, mut slower, mut agent_ns) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..if options.quick { 5 } else { 30 } {
        // Whoever comes second finds a warmer machine, so they take turns.
        let mut rates = [0.0; 2];
        for step in [round % 2, 1 - round % 2] {
            let agent = if step == 1 { Some(Agent::start(options, &[ALL_PORTS])?) } else { None };
            let before_ns = agent.as_ref().map_or(0, Agent::cpu_ns);
            let run = connects(seconds, &id)?;
            rates[step] = run.per_second;
            if let Some(agent) = agent {
                // With what it takes to read and export the counts once.
                Client::open(agent.address)?.get(false)?;
                agent_ns.push((agent.cpu_ns() - before_ns) as f64 / run.count as f64);
            }
        }
        off.push(rates[0]);
        on.push(rates[1]);
        slower.push((1.0 - rates[1] / rates[0]) * 100.0);
    }
    figure("connect: rate without the agent, median", median(&off).round(), "1/s", None);
    figure("connect: rate with the agent, median", median(&on).round(), "1/s", None);
    figure("connect: slowdown, median of pairs", median(&slower), "%", None);
    let (low, high) = interval(&slower);
    figure("connect: slowdown, 95 % interval of the median, from", low, "%", None);
    figure("connect: slowdown, 95 % interval of the median, to", high, "%", None);
    figure("connect: the agent's CPU per connect, median", median(&agent_ns), "ns", Some(AtMost(100.0)));
    bpf_times(options, seconds, &id)
}

/// Between which two of the values the median of all such values lies, with 95 % certainty: by their ranks, so whatever their
/// distribution is.
pub fn interval(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let half = 0.98 * count.sqrt() / count;
    (quantile(values, (0.5 - half).max(0.0)), quantile(values, (0.5 + half).min(1.0)))
}

struct Connects {
    count: u64,
    per_second: f64,
}

fn connects(seconds: &str, id: &str) -> io::Result<Connects> {
    let output = Command::new(std::env::current_exe()?).args([CONNECT_LOOP, seconds, id]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let parse = || {
        let (count, seconds) = text.trim().split_once(' ')?;
        let (count, seconds): (u64, f64) = (count.parse().ok()?, seconds.parse().ok()?);
        Some(Connects { count, per_second: count as f64 / seconds })
    };
    parse().ok_or_else(|| {
        io::Error::other(format!("{CONNECT_LOOP}: {}", String::from_utf8_lossy(&output.stderr)))
    })
}

/// Connects to a listener of its own from within the container `id` and prints how often that went, and in how many seconds.
pub fn connect_loop(seconds: f64, id: &str) -> io::Result<()> {
    // Not every v1 hierarchy takes a process without more ado; those that count do.
    for directory in container_directories(id) {
        let _ = fs::write(directory.join("cgroup.procs"), "0");
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (began, mut count) = (Instant::now(), 0u64);
    while began.elapsed().as_secs_f64() < seconds {
        for _ in 0..50 {
            let client = TcpStream::connect(address)?;
            let (server, _) = listener.accept()?;
            // Closed with a reset: thousands of sockets in TIME_WAIT would be measured otherwise.
            reset_on_close(&client);
            drop((client, server));
            count += 1;
        }
    }
    println!("{count} {}", began.elapsed().as_secs_f64());
    Ok(())
}

pub fn reset_on_close(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: an open descriptor, and pointer and size of the struct the option takes.
    unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    };
}

/// Time per run of each of the agent's programs, as the kernel counts it, and what following one connection takes.
fn bpf_times(options: &Options, seconds: &str, id: &str) -> io::Result<()> {
    let old: BTreeSet<u32> = match loaded_programs() {
        Ok(programs) => programs.into_iter().map(|program| program.id).collect(),
        Err(error) => {
            println!("connect: no times of BPF programs: bpftool: {error}");
            return Ok(());
        }
    };
    let directory = Directory::new()?;
    let empty = directory.config("empty.bpf.c", &["STATE"], "metrics: { counters: [] }\n")?;
    *bpf_stats() = Some(fs::read_to_string(BPF_STATS)?);
    fs::write(BPF_STATS, "1")?;
    let measured = (|| {
        let _agent = Agent::start(options, &[ALL_PORTS, &empty])?;
        let run = connects(seconds, id)?;
        for number in 1..200 {
            make_container(&container_id(number), "")?;
        }
        Ok::<_, io::Error>((run, loaded_programs()?))
    })();
    restore_bpf_stats();
    let (run, programs) = measured?;
    let (mut ours_ns, mut ours, mut nothing_ns) = (0, 0, 0.0);
    for program in programs.iter().filter(|program| !old.contains(&program.id) && program.runs > 0) {
        let name = format!("connect: BPF {}, {} runs", program.name, program.runs);
        figure(&name, (program.time_ns / program.runs) as f64, "ns/run", None);
        match program.name.as_str() {
            "on_state" | "on_state_again" | "on_state_third" => {
                ours_ns += program.time_ns;
                ours += program.runs;
            }
            "empty" => nothing_ns = program.time_ns as f64 / program.runs as f64,
            _ => {}
        }
    }
    let net_ns = (ours_ns as f64 - ours as f64 * nothing_ns) / run.count as f64;
    let name = "connect: BPF per connect, both ends, less what empty programs take";
    figure(name, net_ns, "ns", Some(AtMost(800.0)));
    Ok(())
}

/// What the kernel says of a BPF program.
pub struct Program {
    pub id: u32,
    pub name: String,
    pub time_ns: u64,
    pub runs: u64,
}

/// The kernel's BPF programs, from lines such as `7: tracing  name on_state  tag …  run_time_ns 900 run_cnt 3`.
pub fn loaded_programs() -> io::Result<Vec<Program>> {
    // cargo points LD_LIBRARY_PATH at libraries that are not for this program.
    let output = Command::new("bpftool").args(["prog", "show"]).env_remove("LD_LIBRARY_PATH").output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter_map(|line| {
            let (id, rest) = line.split_once(": ")?;
            let words: Vec<&str> = rest.split_whitespace().collect();
            let after = |word: &str| {
                let at = words.iter().position(|other| *other == word)?;
                words.get(at + 1).copied()
            };
            let number = |word: &str| after(word).and_then(|text| text.parse().ok()).unwrap_or(0);
            Some(Program {
                id: id.parse().ok()?,
                name: after("name")?.to_owned(),
                time_ns: number("run_time_ns"),
                runs: number("run_cnt"),
            })
        })
        .collect())
}
