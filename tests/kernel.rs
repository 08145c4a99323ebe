//! The agent against this kernel: real cgroups, real connections, exact counts. Needs root and a cgroup mount.

mod support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use support::cgroup::{Cgroup, container_id, hierarchies, of_container, turn};
use support::tcp::{ACTIVE, CLOSED_PORT, FAILURES, OPEN_PORT, SUCCESSES, Server, connects, destination};
use support::{ANSWER, Agent, Metrics, until};

/// Scrapes until a container's sum of a family is exactly this: where a refresh takes long it comes behind the answer.
#[track_caller]
fn becomes(agent: &Agent, family: &str, container: &str, wanted: f64) -> Metrics {
    support::tcp::becomes(agent, family, &[("container_id", container)], wanted)
}

#[test]
fn connects_of_processes_that_live_milliseconds_are_exact() {
    let _turn = turn();
    let _server = Server::start(OPEN_PORT, false);
    let agent = Agent::start(&[]);
    let names: Vec<String> = hierarchies().into_iter().map(|(name, _)| name).collect();
    // In every hierarchy, and in one hierarchy only, as hybrid hosts have it.
    let mut layouts: Vec<Option<Vec<&str>>> = vec![None];
    for only in ["unified", "memory", "cpu", "pids"] {
        if names.iter().any(|name| name == only) {
            layouts.push(Some(vec![only]));
        }
    }
    assert!(layouts.len() > 1);
    for layout in layouts {
        let cgroup = Cgroup::docker(layout.as_deref());
        cgroup.run(&(connects("127.0.0.1", OPEN_PORT, 100) + &connects("127.0.0.1", CLOSED_PORT, 37)));
        let container = cgroup.container_id();
        let metrics = becomes(&agent, SUCCESSES, &container, 100.0);
        let open = format!("127.0.0.1:{OPEN_PORT}");
        let closed = format!("127.0.0.1:{CLOSED_PORT}");
        assert_eq!(destination(&metrics, SUCCESSES, &container, &open), Some(100.0), "{layout:?}");
        assert_eq!(destination(&metrics, FAILURES, &container, &open), Some(0.0), "{layout:?}");
        assert_eq!(destination(&metrics, FAILURES, &container, &closed), Some(37.0), "{layout:?}");
        assert_eq!(destination(&metrics, SUCCESSES, &container, &closed), Some(0.0), "{layout:?}");
        assert_eq!(of_container(&metrics, ACTIVE, &container), 0.0, "{layout:?}");
        // And again, without a pause.
        cgroup.run(&connects("127.0.0.1", OPEN_PORT, 3));
        let metrics = becomes(&agent, SUCCESSES, &container, 103.0);
        assert_eq!(destination(&metrics, SUCCESSES, &container, &open), Some(103.0), "{layout:?}");
    }
}

#[test]
fn a_cgroup_that_is_gone_before_anybody_looks_is_counted() {
    let _turn = turn();
    let _server = Server::start(OPEN_PORT, false);
    let agent = Agent::start(&[]);
    let mut containers = Vec::new();
    for _ in 0..20 {
        let cgroup = Cgroup::docker(None);
        cgroup.run(&connects("127.0.0.1", OPEN_PORT, 5));
        containers.push(cgroup.container_id());
    }
    for container in containers {
        let metrics = becomes(&agent, SUCCESSES, &container, 5.0);
        assert_eq!(
            of_container(&metrics, "container_resources_memory_rss_bytes", &container),
            0.0,
            "gauges end at once"
        );
    }
}

#[test]
fn many_writers_on_one_key_lose_nothing() {
    let _turn = turn();
    let _server = Server::start(OPEN_PORT, false);
    let agent = Agent::start(&[]);
    let writers = 2 * std::thread::available_parallelism().unwrap().get();
    // A new container each round, because creation of the key is the moment two processors meet.
    for round in 0..10 {
        let cgroup = Cgroup::docker(None);
        let children: Vec<Child> =
            (0..writers).map(|_| cgroup.bash(&connects("127.0.0.1", OPEN_PORT, 50))).collect();
        for mut child in children {
            child.wait().unwrap();
        }
        println!("round {round}");
        becomes(&agent, SUCCESSES, &cgroup.container_id(), (writers * 50) as f64);
    }
}

/// Four clients and two servers in a network namespace of their own; says `made` when every connect succeeded.
const STEERED_LOAD: &str = r"
import os, socket, struct
address = ('10.99.0.1', PORT)
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(address)
server.listen(4096)
for _ in range(2):
    if os.fork() == 0:
        while True:
            server.accept()[0].close()
clients = []
for _ in range(4):
    pid = os.fork()
    if pid == 0:
        for _ in range(CONNECTS):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
            client.connect(address)
            client.close()
        os._exit(0)
    clients.append(pid)
if all(os.waitpid(pid, 0)[1] == 0 for pid in clients):
    print('made', flush=True)
os.killpg(0, 9)
";

/// Packets that another processor hands over interrupt tasks in the middle of the program: the kernel does not run it twice at
/// once on a processor, and what it would have counted must be counted all the same.
#[test]
fn packets_steered_between_processors_lose_nothing() {
    const CONNECTS: usize = 4_000;
    let _turn = turn();
    let agent = Agent::start(&[]);
    let cgroup = Cgroup::docker(None);
    let processors = std::thread::available_parallelism().unwrap().get().min(32);
    let mask = format!("{:x}", (1u64 << processors) - 1);
    let python =
        STEERED_LOAD.replace("PORT", &OPEN_PORT.to_string()).replace("CONNECTS", &CONNECTS.to_string());
    let file = support::TempDir::new("steered");
    fs::write(file.path().join("load.py"), python).unwrap();
    let mut child = cgroup.bash(&format!(
        "exec setsid unshare -nm sh -c 'mount -t sysfs sys /sys && ip link set lo up && ip addr add 10.99.0.1/32 dev lo && \
         echo {mask} > /sys/class/net/lo/queues/rx-0/rps_cpus && exec python3 {}/load.py'",
        file.path().display()
    ));
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut said).unwrap();
    child.wait().unwrap();
    assert_eq!(said, "made\n", "the load failed");
    let container = cgroup.container_id();
    println!("{:?} not followed", agent.scrape().value("nodeprobe_tcp_connections_lost_total", &[]));
    let metrics = becomes(&agent, SUCCESSES, &container, 4.0 * CONNECTS as f64);
    assert_eq!(of_container(&metrics, FAILURES, &container), 0.0);
    until("the last connection to be closed", Duration::from_secs(10), || {
        (of_container(&agent.scrape(), ACTIVE, &container) == 0.0).then_some(())
    });
}

/// On hybrid hosts runc leaves a container's tasks in v2 where the runtime's own service is.
#[test]
fn a_container_is_preferred_to_the_unit_of_its_runtime() {
    let _turn = turn();
    let names: Vec<String> = hierarchies().into_iter().map(|(name, _)| name).collect();
    if names.len() == 1 {
        // There is one hierarchy, so a task is in one cgroup: the case cannot arise.
        return;
    }
    let _server = Server::start(OPEN_PORT, false);
    let agent = Agent::start(&[]);
    let unit = Cgroup::make("/system.slice/nodeprobe-test.service", Some(&["unified"]));
    let mut container = Cgroup::docker(Some(&["memory", "cpu", "pids"]));
    container.directories.extend(unit.directories.iter().cloned());
    container.run(&connects("127.0.0.1", OPEN_PORT, 7));
    let metrics = becomes(&agent, SUCCESSES, &container.container_id(), 7.0);
    assert_eq!(of_container(&metrics, SUCCESSES, &unit.path), 0.0);
}

/// What a container does that is left out is nobody's, not even that of the unit its tasks are in on hybrid hosts.
#[test]
fn a_container_that_is_left_out_is_nobody() {
    let _turn = turn();
    let _server = Server::start(OPEN_PORT, false);
    let agent = Agent::start(&["--container-denylist=^/docker/"]);
    let mut container = Cgroup::docker(None);
    let unit = Cgroup::make("/system.slice/nodeprobe-test.service", Some(&["unified"]));
    if hierarchies().len() > 1 {
        container = Cgroup::docker(Some(&["memory", "cpu", "pids"]));
        container.directories.extend(unit.directories.iter().cloned());
    }
    container.run(&connects("127.0.0.1", OPEN_PORT, 7));
    let metrics = agent.scrape();
    let ours = format!("127.0.0.1:{OPEN_PORT}");
    assert_eq!(metrics.sum(SUCCESSES, &[("destination", &ours)]), 0.0);
    assert_eq!(
        of_container(&metrics, SUCCESSES, &unit.path) + of_container(&metrics, SUCCESSES, "~other"),
        0.0
    );
    let left_out = |series: &&support::Series| series.label("container_id").starts_with("/docker/");
    assert_eq!(metrics.all().iter().filter(left_out).count(), 0);
}

/// All that a container did before its name was found counts once that brings it in, and once.
#[test]
fn a_name_brings_a_container_in() {
    let _turn = turn();
    let _server = Server::start(OPEN_PORT, false);
    let host = NamedHost::new();
    let agent = Agent::start_binary(&host.script, &["--container-allowlist=^/docker/shown$"]);
    let id = container_id();
    let cgroup = Cgroup::make(&format!("/docker/{id}"), None);
    let shown = |metrics: &Metrics| of_container(metrics, SUCCESSES, "/docker/shown");
    cgroup.run(&connects("127.0.0.1", OPEN_PORT, 5));
    let metrics = agent.scrape();
    assert_eq!(shown(&metrics) + of_container(&metrics, SUCCESSES, &cgroup.container_id()), 0.0);
    host.name(&id, "shown");
    until("the name to be found", Duration::from_secs(10), || (shown(&agent.scrape()) == 5.0).then_some(()));
    cgroup.run(&connects("127.0.0.1", OPEN_PORT, 3));
    becomes(&agent, SUCCESSES, "/docker/shown", 8.0);
}

/// A controller that is switched off and on makes its files anew: descriptors of the old ones read an error for ever.
#[test]
fn files_that_are_made_anew_are_read_anew() {
    let _turn = turn();
    let cgroup = Cgroup::docker(None);
    let unified = hierarchies().into_iter().find(|(name, _)| name == "unified").expect("cgroup v2").1;
    let directory = unified.join(cgroup.path.trim_start_matches('/'));
    let switch = directory.join("cgroup.pressure");
    if !switch.exists() {
        return support::skip("this kernel has no cgroup.pressure (Linux 6.1)");
    }
    let agent = Agent::start(&[]);
    agent.scrape();
    fs::write(&switch, "0").unwrap();
    agent.scrape();
    fs::write(&switch, "1").unwrap();
    // More busy tasks than processors wait for one.
    let loops = 2 * std::thread::available_parallelism().unwrap().get();
    cgroup.run(&format!(
        "for ((n = 0; n < {loops}; n++)); do for ((i = 0; i < 300000; i++)); do :; done & done; wait"
    ));
    let file = fs::read_to_string(directory.join("cpu.pressure")).unwrap();
    let total: f64 = file.lines().next().unwrap().rsplit('=').next().unwrap().parse().unwrap();
    until(&format!("half of the {total} us that the file says"), ANSWER, || {
        let waited = agent.scrape().value(
            "container_resources_cpu_pressure_waiting_seconds_total",
            &[("container_id", &cgroup.container_id()), ("kind", "some")],
        );
        waited.is_some_and(|waited| waited > total / 2e6).then_some(())
    });
}

#[test]
fn beyond_its_caps_the_table_keeps_the_sum() {
    let _turn = turn();
    let _server = Server::start(OPEN_PORT, false);
    for flags in [
        ["--tcp-destinations=16", "--tcp-destinations-per-container=128"],
        ["--tcp-destinations=8192", "--tcp-destinations-per-container=7"],
    ] {
        let agent = Agent::start(&flags);
        let cgroups = [Cgroup::docker(None), Cgroup::docker(None)];
        let mut made = 0;
        for cgroup in &cgroups {
            let script: String =
                (1..=40).map(|host| connects(&format!("127.0.0.{host}"), OPEN_PORT, 1 + host % 3)).collect();
            made += (1..=40).map(|host| 1 + host % 3).sum::<usize>();
            cgroup.run(&script);
        }
        let metrics = until(&format!("{made} connects with {flags:?}"), ANSWER, || {
            let metrics = agent.scrape();
            let of = |cgroup: &Cgroup| of_container(&metrics, SUCCESSES, &cgroup.container_id());
            (cgroups.iter().map(of).sum::<f64>() == made as f64).then_some(metrics)
        });
        for cgroup in &cgroups {
            let other = destination(&metrics, SUCCESSES, &cgroup.container_id(), "~other");
            assert!(other.is_some_and(|count| count > 0.0), "{flags:?}");
        }
        let overflow = metrics.value("nodeprobe_tcp_overflow_connects_total", &[]).unwrap();
        let other: f64 = cgroups
            .iter()
            .filter_map(|cgroup| destination(&metrics, SUCCESSES, &cgroup.container_id(), "~other"))
            .sum();
        assert_eq!(overflow, other, "{flags:?}");
    }
}

#[test]
fn active_connections_follow_the_sockets() {
    let _turn = turn();
    let _server = Server::start(OPEN_PORT, true);
    let agent = Agent::start(&[]);
    let cgroup = Cgroup::docker(None);
    let container = cgroup.container_id();
    let mut child = cgroup.bash(&format!(
        "for n in 3 4 5 6 7; do eval \"exec $n<>/dev/tcp/127.0.0.1/{OPEN_PORT}\"; done; echo open; sleep 1000 & wait"
    ));
    let mut line = [0; 5];
    std::io::Read::read_exact(&mut child.stdout.take().unwrap(), &mut line).unwrap();
    becomes(&agent, ACTIVE, &container, 5.0);
    // Killed without closing anything; `sleep` holds copies of the sockets until it ends too.
    for directory in &cgroup.directories {
        for pid in fs::read_to_string(directory.join("cgroup.procs")).unwrap().lines() {
            // SAFETY: signals a process this test started.
            unsafe { libc::kill(pid.parse().unwrap(), libc::SIGKILL) };
        }
    }
    child.wait().unwrap();
    let metrics = until("no active connection", Duration::from_secs(10), || {
        let metrics = agent.scrape();
        (of_container(&metrics, ACTIVE, &container) == 0.0).then_some(metrics)
    });
    assert_eq!(of_container(&metrics, SUCCESSES, &container), 5.0);
}

/// `major:minor` of the whole disk that `directory` is on.
fn disk_of(directory: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    let device = fs::metadata(directory).unwrap().dev();
    let number = format!("{}:{}", libc::major(device), libc::minor(device));
    let node = fs::canonicalize(format!("/sys/dev/block/{number}")).expect("the directory is on a disk");
    let whole = if node.join("partition").exists() { node.parent().unwrap().to_owned() } else { node };
    fs::read_to_string(whole.join("dev")).unwrap().trim().to_owned()
}

#[test]
fn cpu_memory_and_disk_are_the_kernels() {
    let _turn = turn();
    let agent = Agent::start(&[]);
    let cgroup = Cgroup::docker(None);
    let container = cgroup.container_id();
    let root_disk = disk_of(&std::env::temp_dir());
    for directory in &cgroup.directories {
        // Since Linux 6.10 a v1 cgroup counts its I/O only once it has a limit; this one is never reached.
        let limit = directory.join("blkio.throttle.write_bps_device");
        if limit.exists() {
            fs::write(limit, format!("{root_disk} 107374182400")).unwrap();
        }
    }
    let file = std::env::temp_dir().join(format!("nodeprobe-disk-{}", std::process::id()));
    // Before Linux 5.13 each processor may keep 128 KiB to itself before they are in memory.stat.
    let mut child = cgroup.bash(&format!(
        "for ((i = 0; i < 200000; i++)); do :; done; dd if=/dev/zero of={} bs=1M count=8 oflag=direct; \
         printf -v held %16777216s; echo done; kill -STOP $$",
        file.display()
    ));
    let mut line = [0; 5];
    std::io::Read::read_exact(&mut child.stdout.take().unwrap(), &mut line).unwrap();
    // The first scrape finds the container; the child that looks at its mounts reports within moments.
    let written =
        |metrics: &Metrics| of_container(metrics, "container_resources_disk_written_bytes_total", &container);
    let metrics = until("disk metrics", Duration::from_secs(20), || {
        let metrics = agent.scrape();
        (written(&metrics) > 0.0).then_some(metrics)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_file(&file).unwrap();
    assert!(written(&metrics) >= 8.0 * 1048576.0, "{}", written(&metrics));
    let on_mount = metrics
        .series("container_resources_disk_writes_total")
        .into_iter()
        .find(|series| series.label("container_id") == container && series.value > 0.0)
        .unwrap();
    assert!(!on_mount.label("device").is_empty());
    let cpu = of_container(&metrics, "container_resources_cpu_usage_seconds_total", &container);
    assert!(cpu > 0.1, "a loop of 200,000 rounds took {cpu} s");
    let memory = of_container(&metrics, "container_resources_memory_rss_bytes", &container);
    assert!(memory > 10_000.0, "{memory}");
    let working_set = of_container(&metrics, "container_resources_memory_working_set_bytes", &container);
    assert!(working_set >= 10_000.0, "{working_set}");
    assert_eq!(of_container(&metrics, "container_resources_pids", &container), 1.0, "bash, stopped");
    if !on_mount.label("mount_point").is_empty() {
        let size = of_container(&metrics, "container_resources_disk_size_bytes", &container);
        let used = of_container(&metrics, "container_resources_disk_used_bytes", &container);
        assert!(size > used && used > 0.0, "{size} {used}");
    }
}

#[test]
fn without_capabilities_everything_else_works() {
    let _turn = turn();
    let directory = std::env::temp_dir().join(format!("nodeprobe-nocaps-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let script = directory.join("nodeprobe");
    let binary = env!("CARGO_BIN_EXE_nodeprobe");
    let caps = "-bpf,-perfmon,-sys_admin";
    fs::write(
        &script,
        format!("#!/bin/sh\nexec /usr/bin/setpriv --bounding-set={caps} --inh-caps={caps} {binary} \"$@\"\n"),
    )
    .unwrap();
    Command::new("chmod").arg("755").arg(&script).status().unwrap();
    let agent = Agent::start_binary(&script, &[]);
    let metrics = agent.scrape();
    let info =
        |reason| metrics.value("nodeprobe_collector_info", &[("collector", "tcp"), ("reason", reason)]);
    assert_eq!(info("no_permission"), Some(1.0), "{:?}", agent.stderr());
    assert_eq!(metrics.value("nodeprobe_collector_up", &[("collector", "tcp")]), Some(0.0));
    assert!(metrics.series("nodeprobe_cgroup_watch_info")[0].label("door") == "inotify");
    // New containers, and those nested in a directory that is new itself, are found through inotify.
    let cgroup = Cgroup::docker(None);
    let nested = Cgroup::make(&format!("/np-test/docker/{}", container_id()), None);
    let _ = &nested;
    let found = |container: &str| {
        until("the container", Duration::from_secs(10), || {
            let metrics = agent.scrape();
            let series = metrics.series("container_resources_cpu_usage_seconds_total");
            series.iter().any(|series| series.label("container_id") == container).then_some(())
        });
    };
    found(&cgroup.container_id());
    let gone = cgroup.container_id();
    drop(cgroup);
    until("the end of its gauges", Duration::from_secs(10), || {
        let metrics = agent.scrape();
        let series = metrics.series("container_resources_memory_rss_bytes");
        series.iter().all(|series| series.label("container_id") != gone).then_some(())
    });
    drop(agent);
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn on_means_must() {
    let _turn = turn();
    let output = support::run(
        &["--collector.tcp=on", "--root=/nonexistent", "--listen=127.0.0.1:0"],
        Duration::from_secs(10),
    );
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("--collector.tcp=on"), "{stderr}");
    let agent = Agent::start(&["--collector.tcp=off"]);
    let metrics = agent.scrape();
    let off = [("collector", "tcp"), ("reason", "disabled")];
    assert_eq!(metrics.value("nodeprobe_collector_info", &off), Some(1.0));
}

/// A root that is this host, but with a docker data directory of the test's own, so that containers have names.
struct NamedHost {
    root: PathBuf,
    script: PathBuf,
}

impl NamedHost {
    fn new() -> NamedHost {
        let root = std::env::temp_dir().join(format!("nodeprobe-root-{}", std::process::id()));
        for directory in ["proc", "sys", "var/lib/docker/containers", "etc"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        let script = root.join("nodeprobe");
        let (binary, path) = (env!("CARGO_BIN_EXE_nodeprobe"), root.display());
        let text = format!(
            "#!/bin/sh\nexec unshare -m sh -c 'mount --rbind /proc {path}/proc && mount --rbind /sys {path}/sys && exec {binary} \
             --root={path} \"$@\"' sh \"$@\"\n"
        );
        fs::write(&script, text).unwrap();
        Command::new("chmod").arg("755").arg(&script).status().unwrap();
        NamedHost { root, script }
    }

    /// Writes what docker would have written about the container.
    fn name(&self, id: &str, name: &str) {
        let directory = self.root.join("var/lib/docker/containers").join(id);
        fs::create_dir_all(&directory).unwrap();
        let text = format!(
            "{{\"ID\":\"{id}\",\"Name\":\"/{name}\",\"Config\":{{\"Image\":\"test:{name}\",\"Labels\":{{}}}}}}"
        );
        fs::File::create(directory.join("config.v2.json")).unwrap().write_all(text.as_bytes()).unwrap();
    }
}

impl Drop for NamedHost {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Random creation, work, overlap, replacement and removal of containers: no exported counter ever falls, and when all is
/// over every connect is counted under its name.
#[test]
fn no_counter_ever_falls() {
    let _turn = turn();
    let _server = Server::start(OPEN_PORT, false);
    let host = NamedHost::new();
    let agent = Agent::start_binary(&host.script, &["--linger=120s"]);
    agent.scrape();
    let fds_before = agent.open_fds();
    let names = ["alpha", "beta", "gamma"];
    let mut made = [0usize; 3];
    let mut alive: Vec<(usize, Cgroup)> = Vec::new();
    let mut last: std::collections::HashMap<String, f64> = std::collections::HashMap::new();
    let mut state = 0x5eed_u64;
    let mut next = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    for step in 0..150 {
        match next(6) {
            0 | 1 if alive.len() < 6 => {
                let which = next(names.len());
                let id = container_id();
                host.name(&id, names[which]);
                alive.push((which, Cgroup::make(&format!("/docker/{id}"), None)));
            }
            2 if !alive.is_empty() => drop(alive.swap_remove(next(alive.len()))),
            _ if !alive.is_empty() => {
                let (which, cgroup) = &alive[next(alive.len())];
                let count = 1 + next(5);
                cgroup.run(&connects("127.0.0.1", OPEN_PORT, count));
                made[*which] += count;
            }
            _ => {}
        }
        let metrics = agent.scrape();
        let mut now = std::collections::HashMap::new();
        for family in [SUCCESSES, FAILURES, "container_resources_cpu_usage_seconds_total"] {
            for series in metrics.series(family) {
                let key =
                    format!("{family} {} {}", series.label("container_id"), series.label("destination"));
                now.insert(key, series.value);
            }
        }
        for (key, before) in &last {
            let after = now.get(key);
            assert!(
                after.is_some_and(|after| after >= before),
                "step {step}: {key} was {before}, is {after:?}"
            );
        }
        last = now;
    }
    for (which, name) in names.iter().enumerate() {
        becomes(&agent, SUCCESSES, &format!("/docker/{name}"), made[which] as f64);
    }
    assert!(made.iter().sum::<usize>() > 50);
    alive.clear();
    until("the files of dead containers to be closed", Duration::from_secs(10), || {
        agent.scrape();
        // One more by which conntrack is asked.
        (agent.open_fds() <= fds_before + 1).then_some(())
    });
}
