//! Real containers of docker, podman and Kubernetes' runtime on this machine: names, images, processes, restarts, ends. Needs
//! root, a cgroup mount, and what `make test` installs.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use support::cgroup::{of_container, turn};
use support::runtimes::{IMAGE, Runtimes};
use support::{ANSWER, Agent, Metrics, until};

const INFO: &str = "container_info";
const RESTARTS: &str = "container_restarts_total";
const PROCESSES: &str = "container_processes";
const PIDS: &str = "container_resources_pids";
const STARTED: &str = "container_processes_started_total";
const EXITED: &str = "container_processes_exited_total";
const LIMIT: &str = "container_resources_memory_limit_bytes";

/// Short enough to be waited for; long enough for every look at a dead container's counters before.
const LINGER: Duration = Duration::from_secs(3);

/// What ends with a container itself, and not with its name.
const GAUGES: [&str; 4] = [INFO, PROCESSES, PIDS, LIMIT];

/// Who sleeps in a container until it is told to end; `exec` leaves one process.
const SLEEP: [&str; 2] = ["sleep", "100000"];

fn agent(runtimes: &Runtimes) -> Agent {
    runtimes.agent(&["--linger=3s", "--interval=1s"])
}

/// Waits until a family of a container has this value; a scrape may be a moment behind.
#[track_caller]
fn becomes(agent: &Agent, family: &str, container: &str, wanted: f64) {
    let mut last = f64::NAN;
    let began = Instant::now();
    while last != wanted {
        let metrics = agent.scrape();
        last = metrics.value(family, &[("container_id", container)]).unwrap_or(f64::NAN);
        assert!(
            began.elapsed() < ANSWER,
            "{family} of {container} is {last}, not {wanted}: {:?}",
            names(&metrics)
        );
    }
}

/// All there is a series of, but systemd's units.
fn names(metrics: &Metrics) -> Vec<String> {
    let series = metrics.all().iter().filter_map(|series| {
        let (_, id) = series.labels.iter().find(|(name, _)| name == "container_id")?;
        (!id.ends_with(".service") && !id.ends_with(".slice")).then(|| id.clone())
    });
    let mut names: Vec<String> = series.collect();
    names.sort();
    names.dedup();
    names
}

/// A container that runs and does not restart: its image, processes, and what the kernel's own counter of tasks says.
#[track_caller]
fn runs(agent: &Agent, container: &str, image: &str, processes: f64) {
    becomes(agent, PROCESSES, container, processes);
    // The runtime has threads before it becomes the container's process.
    becomes(agent, PIDS, container, processes);
    let metrics = agent.scrape();
    assert_eq!(
        metrics.value(INFO, &[("container_id", container), ("image", image)]),
        Some(1.0),
        "{container}"
    );
    let started = of_container(&metrics, STARTED, container);
    let exited = of_container(&metrics, EXITED, container);
    println!("{container}: image {image}, {processes} processes, {started} started, {exited} exited");
}

/// What `act` adds to a counter of the container, once it has added something and then nothing for a while.
#[track_caller]
fn restarts(agent: &Agent, container: &str, wanted: f64, act: impl FnOnce()) {
    let before = of_container(&agent.scrape(), RESTARTS, container);
    let began = Instant::now();
    act();
    let took = began.elapsed();
    becomes(agent, RESTARTS, container, before + wanted);
    std::thread::sleep(Duration::from_millis(300));
    becomes(agent, RESTARTS, container, before + wanted);
    println!("{container}: restarted, +{wanted} in {took:?}");
}

/// Gauges end with the container, counters with the linger time.
#[track_caller]
fn goes(agent: &Agent, container: &str, remove: impl FnOnce()) {
    let id = [("container_id", container)];
    let before = of_container(&agent.scrape(), STARTED, container);
    remove();
    let began = Instant::now();
    let metrics = agent.scrape();
    for family in GAUGES {
        assert_eq!(metrics.value(family, &id), None, "{family} of {container} is still there");
    }
    let started = metrics.value(STARTED, &id);
    assert!(started >= Some(before), "{started:?}, {before}");
    until("the counters end", ANSWER, || {
        (!names(&agent.scrape()).iter().any(|name| name == container)).then_some(())
    });
    let took = began.elapsed();
    assert!(took > LINGER - Duration::from_millis(1500), "after {took:?}");
    println!("{container}: gauges gone at the first scrape, counters after {took:.1?}");
}

/// These are all names that containers of these runtimes have and had: none by the start of an id, none of a pod's own
/// container. The machine may have others.
#[track_caller]
fn are_all(runtimes: &Runtimes, agent: &Agent, wanted: &[&str]) {
    let is_foreign = |name: &str| {
        let short = name.rsplit('/').next().unwrap_or_default();
        let is_id = short.len() == 12 && short.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id && !wanted.contains(&name) && !runtimes.knows(short)
    };
    let mut names = names(&agent.scrape());
    names.retain(|name| !is_foreign(name));
    let mut wanted: Vec<&str> = wanted.to_vec();
    wanted.sort_unstable();
    assert_eq!(names, wanted);
}

/// How many containers of 50 ms under names of their own.
const BRIEF: usize = 5;

/// Containers whose life is shorter than any look at them count all the same, under their names.
#[track_caller]
fn brief(agent: &Agent, prefix: &str, run: impl Fn(&str)) {
    let began = Instant::now();
    let name = |number: usize| format!("brief-{number}");
    let mut counts = Vec::new();
    for number in 0..BRIEF {
        run(&name(number));
        let container = format!("{prefix}{}", name(number));
        // The runtime itself is two or three short processes in the cgroup before it becomes the container's first.
        counts.push(until(&format!("{container} has begun and ended"), LINGER, || {
            let metrics = agent.scrape();
            let started = of_container(&metrics, STARTED, &container);
            assert_eq!(of_container(&metrics, RESTARTS, &container), 0.0);
            (started >= 1.0 && started == of_container(&metrics, EXITED, &container)).then_some(started)
        }));
    }
    println!("{BRIEF} containers of 50 ms in {:?}: {counts:?} processes started", began.elapsed());
}

#[test]
fn docker() {
    let _turn = turn();
    let Some(runtimes) = Runtimes::start(&["containerd", "dockerd"]) else { return };
    runtimes.docker(&["import", &runtimes.file("rootfs.tar"), IMAGE]);
    let run = |options: &[&str], command: &[&str]| {
        let all = [&["run", "--network=host"], options, &[IMAGE], command].concat();
        runtimes.docker(&all)
    };
    run(&["-d", "--name=early"], &SLEEP);
    let agent = agent(&runtimes);
    runs(&agent, "/docker/early", IMAGE, 1.0);
    run(&["-d", "--name=web", "--memory=64m"], &SLEEP);
    runs(&agent, "/docker/web", IMAGE, 1.0);
    becomes(&agent, LIMIT, "/docker/web", 67_108_864.0);
    // Elsewhere than in docker's usual cgroup.
    run(&["-d", "--name=else.where_1", "--cgroup-parent=/apart"], &SLEEP);
    runs(&agent, "/docker/else.where_1", IMAGE, 1.0);
    runtimes.docker(&["exec", "-d", "web", "sleep", "100000"]);
    runs(&agent, "/docker/web", IMAGE, 2.0);
    assert_eq!(of_container(&agent.scrape(), RESTARTS, "/docker/web"), 0.0, "a command in it is no restart");
    for container in ["early", "web"] {
        let id = format!("/docker/{container}");
        restarts(&agent, &id, 1.0, || drop(runtimes.docker(&["restart", "-t0", container])));
        restarts(&agent, &id, 2.0, || {
            runtimes.docker(&["restart", "-t0", container]);
            runtimes.docker(&["restart", "-t0", container]);
        });
        runs(&agent, &id, IMAGE, 1.0);
    }
    // One that ends by itself again and again.
    run(&["-d", "--name=loop", "--restart=on-failure:3"], &["sh", "-c", "sleep 0.05; exit 1"]);
    becomes(&agent, RESTARTS, "/docker/loop", 3.0);
    // A new container under the name of a living identity.
    restarts(&agent, "/docker/web", 1.0, || {
        runtimes.docker(&["rm", "-f", "web"]);
        run(&["-d", "--name=web"], &SLEEP);
    });
    are_all(&runtimes, &agent, &["/docker/early", "/docker/else.where_1", "/docker/loop", "/docker/web"]);
    brief(&agent, "/docker/", |name| drop(run(&["--rm", &format!("--name={name}")], &["sleep", "0.05"])));
    goes(&agent, "/docker/web", || drop(runtimes.docker(&["rm", "-f", "web"])));
}

/// The daemon's own file says where its containers are.
#[test]
fn docker_elsewhere() {
    let _turn = turn();
    let Some(runtimes) = Runtimes::start(&["dockerd=/run/data/docker"]) else { return };
    runtimes.docker(&["import", &runtimes.file("rootfs.tar"), IMAGE]);
    let agent = agent(&runtimes);
    runtimes.docker(&["run", "-d", "--network=host", "--name=moved", IMAGE, "sleep", "100000"]);
    let moved = runtimes.try_run(&["ls", "/var/lib/docker"]);
    assert!(moved.is_err(), "{moved:?} in the usual place");
    runs(&agent, "/docker/moved", IMAGE, 1.0);
    restarts(&agent, "/docker/moved", 1.0, || drop(runtimes.docker(&["restart", "-t0", "moved"])));
    are_all(&runtimes, &agent, &["/docker/moved"]);
}

/// `podman run`. Without CAP_SYS_RESOURCE nobody may raise the hard limits, which podman does if it is not told.
#[track_caller]
fn podman_run(runtimes: &Runtimes, options: &[&str], command: &[&str]) -> String {
    let limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000", "--network=host"];
    runtimes.podman(&[&["run"], limits.as_slice(), options, &[IMAGE], command].concat())
}

#[test]
fn podman() {
    let _turn = turn();
    let Some(runtimes) = Runtimes::start(&[]) else { return };
    runtimes.podman(&["import", "-q", &runtimes.file("rootfs.tar"), IMAGE]);
    let image = format!("localhost/{IMAGE}");
    let run = |options: &[&str], command: &[&str]| podman_run(&runtimes, options, command);
    run(&["-d", "--name=early"], &SLEEP);
    let agent = agent(&runtimes);
    runs(&agent, "/podman/early", &image, 1.0);
    run(&["-d", "--name=box", "--memory=64m"], &SLEEP);
    runs(&agent, "/podman/box", &image, 1.0);
    becomes(&agent, LIMIT, "/podman/box", 67_108_864.0);
    restarts(&agent, "/podman/box", 1.0, || drop(runtimes.podman(&["restart", "-t0", "box"])));
    restarts(&agent, "/podman/box", 2.0, || {
        runtimes.podman(&["restart", "-t0", "box"]);
        runtimes.podman(&["restart", "-t0", "box"]);
    });
    runs(&agent, "/podman/box", &image, 1.0);
    are_all(&runtimes, &agent, &["/podman/box", "/podman/early"]);
    brief(&agent, "/podman/", |name| drop(run(&["--rm", &format!("--name={name}")], &["sleep", "0.05"])));
    goes(&agent, "/podman/box", || drop(runtimes.podman(&["rm", "-f", "-t0", "box"])));
}

#[test]
fn kubernetes() {
    let _turn = turn();
    let Some(runtimes) = Runtimes::start(&["containerd"]) else { return };
    for file in ["pause.tar", "image.tar"] {
        runtimes.run(&["ctr", "--namespace=k8s.io", "images", "import", &runtimes.file(file)]);
    }
    let image = "docker.io/test/busybox:2.1";
    let cgroup = "/kubepods/burstable/podUID";
    let pod = |pod: &str, container: &str, shell: &str| {
        runtimes.kubernetes(&["pod", "shop", pod, container, cgroup, image, shell])
    };
    let sleep = "exec sleep 100000";
    pod("early-0", "server", sleep);
    let agent = agent(&runtimes);
    runs(&agent, "/k8s/shop/early-0/server", image, 1.0);
    let [web, first] = pod("web-5d4f8c7b9-x2bcd", "server", sleep).try_into().unwrap();
    let id = "/k8s/shop/web-5d4f8c7b9-x2bcd/server";
    runs(&agent, id, image, 1.0);
    let metrics = agent.scrape();
    let app = [("container_id", id), ("app_id", "/k8s/shop/web")];
    assert_eq!(metrics.value(PROCESSES, &app), Some(1.0));
    // A second container of the pod; the pod's own is never seen.
    let again = |container: &str, shell: &str, attempt: &str| {
        let all = ["shop", "web-5d4f8c7b9-x2bcd", container, cgroup, image, shell, attempt];
        runtimes.kubernetes(&[&["again", web.as_str()], all.as_slice()].concat()).remove(0)
    };
    again("side", "sleep 100000 & exec sleep 100000", "0");
    let side = "/k8s/shop/web-5d4f8c7b9-x2bcd/side";
    runs(&agent, side, image, 2.0);
    are_all(&runtimes, &agent, &["/k8s/shop/early-0/server", id, side]);
    // The kubelet restarts a container by making another, with another id and cgroup.
    restarts(&agent, id, 1.0, || {
        runtimes.kubernetes(&["end", &first]);
        again("server", sleep, "1");
    });
    let ends = "sleep 0.05; exit 1";
    restarts(&agent, side, 2.0, || {
        for attempt in ["1", "2"] {
            again("side", ends, attempt);
        }
    });
    runs(&agent, id, image, 1.0);
    brief(&agent, "/k8s/shop/web-5d4f8c7b9-x2bcd/", |name| drop(again(name, "exec sleep 0.05", "0")));
    goes(&agent, side, || drop(runtimes.kubernetes(&["remove", &web])));
    // The pod's containers end one after the other.
    until("the other's counters end", ANSWER, || {
        (!names(&agent.scrape()).iter().any(|name| name == id)).then_some(())
    });
    are_all(&runtimes, &agent, &["/k8s/shop/early-0/server"]);
}

/// What `ctr` runs has no name but its id.
#[test]
fn plain_containerd() {
    let _turn = turn();
    let Some(runtimes) = Runtimes::start(&["containerd"]) else { return };
    runtimes.run(&["ctr", "images", "import", "--snapshotter=native", &runtimes.file("image.tar")]);
    let agent = agent(&runtimes);
    let id = support::cgroup::container_id();
    let how = ["ctr", "run", "-d", "--snapshotter=native", "docker.io/test/busybox:2.1", &id];
    runtimes.run(&[how.as_slice(), &SLEEP].concat());
    let name = format!("/containerd/{}", &id[..12]);
    becomes(&agent, PROCESSES, &name, 1.0);
    are_all(&runtimes, &agent, &[&name]);
    goes(&agent, &name, || drop(runtimes.run(&["ctr", "task", "rm", "-f", &id])));
}

const MESSAGES: &str = "container_log_messages_total";

/// Messages of a container's source at a level, over all patterns.
fn messages(metrics: &Metrics, container: &str, source: &str, level: &str) -> f64 {
    metrics.sum(MESSAGES, &[("container_id", container), ("source", source), ("level", level)])
}

#[track_caller]
fn has_said(agent: &Agent, container: &str, source: &str, level: &str, wanted: f64) -> Metrics {
    let began = Instant::now();
    loop {
        let metrics = agent.scrape();
        let seen = messages(&metrics, container, source, level);
        if seen == wanted {
            return metrics;
        }
        let files = metrics.value("nodeprobe_log_files", &[]);
        let lost = metrics.value("nodeprobe_log_lost_bytes_total", &[]);
        assert!(
            began.elapsed() < ANSWER,
            "{container} {source} {level}: {seen}, not {wanted}; {files:?} files, {lost:?} lost"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A shell that says so many errors and warnings, and then waits.
fn says(errors: usize, then: &str) -> String {
    format!(
        "i=0; while [ $i -lt {errors} ]; do echo \"ERROR cannot reach host$i: refused\"; echo \"WARN slow answer $i ms\" >&2; i=$((i+1)); done; {then}"
    )
}

#[test]
fn logs() {
    let _turn = turn();
    let Some(runtimes) = Runtimes::start(&["containerd", "dockerd"]) else { return };
    runtimes.docker(&["import", &runtimes.file("rootfs.tar"), IMAGE]);
    let docker = |options: &[&str], shell: &str| {
        let all = [&["run", "--network=host"], options, &[IMAGE, "sh", "-c", shell]].concat();
        runtimes.docker(&all)
    };
    let outputs = "stdout/stderr";
    docker(
        &["-d", "--name=early"],
        &says(100, "sleep 2; echo 'ERROR now'; echo 'ERROR now'; echo 'ERROR now'; exec sleep 100000"),
    );
    let state = support::TempDir::new("state");
    let flags = ["--linger=3s", "--interval=1s", &format!("--state-dir={}", state.path().display())];
    let mut agent = runtimes.agent(&flags);
    // What was said before the start is not counted.
    has_said(&agent, "/docker/early", outputs, "error", 3.0);

    // Rotated many times while it is read.
    let rotated = ["-d", "--name=rotated", "--log-opt=max-size=20k", "--log-opt=max-file=100"];
    docker(&rotated, &says(2000, "exec sleep 100000"));
    let metrics = has_said(&agent, "/docker/rotated", outputs, "error", 2000.0);
    let patterns = metrics.series(MESSAGES);
    let samples: Vec<&str> = patterns
        .iter()
        .filter(|series| series.label("container_id") == "/docker/rotated")
        .map(|series| series.label("sample"))
        .collect();
    println!("rotated: {samples:?}");
    assert!(samples.len() <= 4, "{samples:?}");
    has_said(&agent, "/docker/rotated", outputs, "warning", 2000.0);
    docker(&["-d", "--name=local", "--log-driver=local"], &says(300, "exec sleep 100000"));
    has_said(&agent, "/docker/local", outputs, "error", 300.0);
    // It ends as soon as it has said everything, and its files go with it.
    docker(&["--name=brief"], &says(50, "true"));
    has_said(&agent, "/docker/brief", outputs, "error", 50.0);
    // Started again, in the same files: what it has said is not said again.
    docker(&["-d", "--name=again"], &says(40, "exec sleep 100000"));
    has_said(&agent, "/docker/again", outputs, "error", 40.0);
    runtimes.docker(&["restart", "-t0", "again"]);
    has_said(&agent, "/docker/again", outputs, "error", 80.0);
    // A file of its own.
    docker(
        &["-d", "--name=writer"],
        "mkdir -p /var/log/app; exec 3>>/var/log/app/main.log; i=0; while [ $i -lt 200 ]; do echo \"ERROR disk $i is full\" >&3; i=$((i+1)); done; exec sleep 100000",
    );
    has_said(&agent, "/docker/writer", "/var/log/app/main.log", "error", 200.0);
    // Nobody leads the agent out of a container.
    let lines = "echo 'ERROR stolen' >&3; echo 'ERROR stolen' >&3; echo 'ERROR stolen' >&3";
    docker(
        &["-d", "--name=thief"],
        &format!(
            "mkdir -p /var/log/a /x/b; ln -s /x/b /var/log/link; exec 3>>/var/log/a/hosts; {lines}; mv /var/log/a /var/log/c; ln -s /etc /var/log/a; exec sleep 100000"
        ),
    );

    runtimes.podman(&["import", "-q", &runtimes.file("rootfs.tar"), IMAGE]);
    podman_run(
        &runtimes,
        &["-d", "--name=box", "--log-driver=k8s-file"],
        &["sh", "-c", &says(300, "exec sleep 100000")],
    );
    has_said(&agent, "/podman/box", outputs, "error", 300.0);

    for file in ["pause.tar", "image.tar"] {
        runtimes.run(&["ctr", "--namespace=k8s.io", "images", "import", &runtimes.file(file)]);
    }
    let image = "docker.io/test/busybox:2.1";
    let shell = says(300, "exec sleep 100000");
    runtimes.kubernetes(&["pod", "shop", "talker-0", "server", "/kubepods/burstable/podLOG", image, &shell]);
    has_said(&agent, "/k8s/shop/talker-0/server", outputs, "error", 300.0);

    // Said while nobody looks, and counts go on from where they were.
    agent.stop();
    runtimes.docker(&["exec", "writer", "sh", "-c", "echo 'ERROR disk 900 is full' >>/var/log/app/main.log"]);
    docker(&["-d", "--name=between"], &says(70, "exec sleep 100000"));
    agent = runtimes.agent(&flags);
    has_said(&agent, "/docker/between", outputs, "error", 70.0);
    has_said(&agent, "/docker/rotated", outputs, "error", 2000.0);
    has_said(&agent, "/docker/writer", "/var/log/app/main.log", "error", 201.0);
    let metrics = agent.scrape();
    let stolen: Vec<String> = metrics
        .series(MESSAGES)
        .iter()
        .filter(|series| series.label("container_id") == "/docker/thief")
        .map(|series| series.label("sample").to_owned())
        .collect();
    assert!(stolen.iter().all(|sample| sample == "stolen"), "{stolen:?}");
    assert_eq!(metrics.value("nodeprobe_log_lost_bytes_total", &[]), Some(0.0));
    assert_eq!(metrics.value("nodeprobe_log_records_refused_total", &[("reason", "broken")]), Some(0.0));
}

/// Nothing of the runtimes stays behind, so that no test sees another's.
#[test]
fn nothing_is_left() {
    let _turn = turn();
    let Some(runtimes) = Runtimes::start(&["containerd", "dockerd"]) else { return };
    runtimes.docker(&["import", &runtimes.file("rootfs.tar"), IMAGE]);
    let id = runtimes.docker(&["run", "-d", "--network=host", "--name=left", IMAGE, "sleep", "100000"]);
    let pid = runtimes.docker(&["inspect", "--format={{.State.Pid}}", "left"]);
    runtimes.podman(&["import", "-q", &runtimes.file("rootfs.tar"), IMAGE]);
    let boxed = podman_run(&runtimes, &["-d", "--name=left"], &SLEEP);
    let boxed_pid = runtimes.podman(&["inspect", "--format={{.State.Pid}}", "left"]);
    let processes = [pid, boxed_pid].map(|pid| Path::new("/proc").join(pid));
    let paths = [format!("docker/{id}"), format!("libpod_parent/libpod-{boxed}")];
    let cgroups: Vec<_> = support::cgroup::hierarchies()
        .into_iter()
        .flat_map(|(_, directory)| paths.each_ref().map(|path| directory.join(path)))
        .filter(|directory| directory.exists())
        .collect();
    // One that has ended has none, whether its parent has taken note or not.
    let runs = |process: &PathBuf| fs::read_link(process.join("exe")).is_ok();
    assert!(processes.iter().all(runs) && cgroups.len() >= 2);
    drop(runtimes);
    assert!(!processes.iter().any(runs));
    assert!(!cgroups.iter().any(|directory| directory.exists()), "{cgroups:?}");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains("nodeprobe-runtimes"), "{mounts}");
}
