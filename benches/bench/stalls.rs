//! Ten thousand containers, and as many processes as the machine lets one make: what a scrape waits for.

use super::*;

/// Scrapes with the cgroups there are, spaced like those of a server in a hurry.
fn scrapes(name: &str, agent: &Agent, client: &mut Client, count: u32) -> io::Result<()> {
    for gzip in [false, true] {
        let (mut times, mut costs, mut bytes) = (Vec::new(), Vec::new(), 0);
        for _ in 0..count {
            thread::sleep(Duration::from_secs(5));
            let (began, cpu_ns) = (Instant::now(), agent.scheduled_ns());
            bytes = client.get(gzip)?.body.len();
            times.push(milliseconds(began.elapsed()));
            costs.push((agent.scheduled_ns() - cpu_ns) as f64 / 1e6);
        }
        let form = if gzip { "gzip" } else { "plain" };
        let name = |what: &str| format!("stalls: {name}: {form}: {what}");
        figure(&name("scrape p50"), median(&times), "ms", None);
        figure(&name("scrape p99"), quantile(&times, 0.99), "ms", Some(AtMost(100.0)));
        figure(&name("CPU until it is answered, p50"), median(&costs), "ms", None);
        figure(&name("bytes"), bytes as f64, "B", None);
    }
    Ok(())
}

fn after(name: &str, agent: &Agent, client: &mut Client) -> io::Result<()> {
    let body = client.get(false)?.body;
    let body = String::from_utf8_lossy(&body);
    let name = |what: &str| format!("stalls: {name}: {what}");
    let series = body.lines().filter(|line| !line.starts_with('#')).count();
    figure(&name("series"), series as f64, "", None);
    let all = value(&body, "nodeprobe_loop_turn_seconds_count");
    for (bound, word) in [("0.01", "10 ms"), ("0.1", "100 ms"), ("1", "1 s")] {
        let below = value(&body, &format!("nodeprobe_loop_turn_seconds_bucket{{le=\"{bound}\"}}"));
        figure(&name(&format!("turns longer than {word}")), all - below, "", None);
    }
    let mut slow: Vec<(f64, &str)> = body
        .lines()
        .filter_map(|line| line.strip_prefix("nodeprobe_collector_seconds{collector=\"")?.split_once("\"} "))
        .filter_map(|(collector, seconds)| Some((seconds.parse().ok()?, collector)))
        .collect();
    slow.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (seconds, collector) in slow.into_iter().take(5) {
        figure(&name(&format!("last refresh of {collector}")), seconds * 1e3, "ms", None);
    }
    figure(&name("VmRSS"), agent.status("VmRSS") / 1024.0, "MiB", None);
    let descriptors = agent.descriptors()?.len();
    figure(&name("descriptors"), descriptors as f64, "", None);
    Ok(())
}

/// Many containers without processes, then one with many processes.
pub fn stalls(options: &Options) -> io::Result<()> {
    let count = if options.quick { 5 } else { 20 };
    for containers in [1_000, 2_500, 10_000] {
        clean_up();
        for number in 0..containers {
            make_container(&container_id(number), &format!("bench-{number}"))?;
        }
        let name = format!("{containers} containers");
        let agent = Agent::start(options, &[])?;
        let mut client = Client::open(agent.address)?;
        client.get(true)?;
        scrapes(&name, &agent, &mut client, count)?;
        after(&name, &agent, &mut client)?;
    }
    clean_up();
    nested(options, count)?;
    clean_up();
    processes(options, count)
}

/// As many cgroups, a hundred in each container: as of a runtime within a runtime.
fn nested(options: &Options, count: u32) -> io::Result<()> {
    for number in 0..100 {
        let id = container_id(number);
        make_container(&id, &format!("bench-{number}"))?;
        for directory in container_directories(&id) {
            (0..100).try_for_each(|number| fs::create_dir(directory.join(format!("inner-{number}"))))?;
        }
    }
    let agent = Agent::start(options, &[])?;
    let mut client = Client::open(agent.address)?;
    client.get(true)?;
    let name = "10000 cgroups in 100 containers";
    scrapes(name, &agent, &mut client, count)?;
    after(name, &agent, &mut client)
}

/// As many processes as there may be without taking the rest of the machine's ids, up to 50,000, in one container.
fn processes(options: &Options, count: u32) -> io::Result<()> {
    make_container(&container_id(0), "bench-0")?;
    let ids = fs::read_to_string("/proc/sys/kernel/pid_max")?.trim().parse::<u32>().unwrap_or(32_768);
    let goal = (ids / 2).min(50_000);
    let program = std::env::temp_dir().join(format!("nodeprobe-sleepers-{}", std::process::id()));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/sleepers.c");
    let compiled =
        Command::new("musl-gcc").args(["-static", "-O2", "-o"]).arg(&program).arg(source).status()?;
    if !compiled.success() {
        return Err(io::Error::other("sleepers.c does not compile"));
    }
    // Each thousand has a parent of its own, so that none is slow to end.
    let (mut sleepers, mut made) = (Vec::new(), 0);
    while made < goal {
        let mut child = spawn_sleepers(&program, (goal - made).min(1_000))?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?)
            .read_line(&mut line)?;
        sleepers.push(child);
        match line.trim().parse::<u32>() {
            Ok(got) if got > 0 => made += got,
            _ => break,
        }
    }
    let _ = fs::remove_file(program);
    figure("stalls: processes", f64::from(made), "", Some(AtLeast(50_000.0)));
    let name = format!("{made} processes");
    let result = (|| {
        let agent = Agent::start(options, &[])?;
        let mut client = Client::open(agent.address)?;
        client.get(true)?;
        scrapes(&name, &agent, &mut client, count)?;
        after(&name, &agent, &mut client)
    })();
    for child in &mut sleepers {
        let _ = child.kill();
        let _ = child.wait();
    }
    result
}

/// A process in the first container that makes others and says how many: they end with it.
fn spawn_sleepers(program: &Path, count: u32) -> io::Result<Child> {
    use std::os::unix::process::CommandExt;
    let files: Vec<File> = container_directories(&container_id(0))
        .iter()
        .filter_map(|directory| File::options().write(true).open(directory.join("cgroup.procs")).ok())
        .collect();
    let mut command = Command::new(program);
    command.arg(count.to_string()).stdout(Stdio::piped()).stderr(Stdio::null());
    // SAFETY: between fork and exec only write(2) is called, on descriptors the closure owns.
    unsafe {
        command.pre_exec(move || {
            files.iter().for_each(|mut file| drop(file.write(b"0")));
            Ok(())
        })
    };
    command.spawn()
}
