//! The container image for real: written without a daemon and built by one, run by the lines of `docs/DEPLOY.md` and by the
//! manifests for Kubernetes, beside a container that has connections and logs. Needs root and what `make test` installs.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use support::cgroup::turn;
use support::runtimes::{IMAGE, Runtimes};
use support::{ANSWER, Metrics, TempDir, run_command, until};

const WEB: &str = "/docker/web";

/// Bytes that a registry sends.
const MAX_PULL: u64 = 1_600_000;

/// What is there of a container that connects, fails to, logs in two ways and has a volume, whoever looks at it.
const FAMILIES: [&str; 15] = [
    "container_application_type",
    "container_info",
    "container_log_messages_total",
    "container_net_tcp_active_connections",
    "container_net_tcp_failed_connects_total",
    "container_net_tcp_listen_info",
    "container_net_tcp_successful_connects_total",
    "container_oom_kills_total",
    "container_processes_started_total",
    "container_resources_cpu_delay_seconds_total",
    "container_resources_cpu_usage_seconds_total",
    "container_resources_disk_size_bytes",
    "container_resources_memory_rss_bytes",
    "container_resources_pids",
    "container_restarts_total",
];

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The release program if there is one, else the one under test.
fn binary() -> PathBuf {
    let dist = file("dist/nodeprobe");
    if dist.exists() { dist } else { PathBuf::from(support::BINARY) }
}

/// What a command prints; it must succeed.
#[track_caller]
fn output(command: &mut Command) -> String {
    let what = format!("{command:?}");
    let command = std::mem::replace(command, Command::new("true"));
    let output = run_command(command, Duration::from_secs(60));
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{what}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn write_archive(archive: &Path) -> String {
    output(Command::new(file("deploy/image.sh")).arg(binary()).arg("amd64").arg(archive))
}

/// The files in the only layer of an archive of docker's.
fn files_of(archive: &Path) -> String {
    let shell = "manifest=$(tar -xOf \"$1\" manifest.json 2>/dev/null || tar -xOf \"$1\" ./manifest.json)
        layers=$(sed 's/.*\"Layers\":\\[\\([^]]*\\)\\].*/\\1/' <<<\"$manifest\" | tr -d '\"' | tr , ' ')
        for layer in $layers; do tar -xOf \"$1\" $layer ./$layer 2>/dev/null >\"$1.layer\" || true; tar -tf \"$1.layer\"; done";
    output(Command::new("bash").args(["-euc", shell, "-"]).arg(archive))
}

#[test]
fn the_archive_is_one_file_and_the_same_each_time() {
    let directory = TempDir::new("image");
    let paths = ["one.tar", "two.tar"].map(|name| directory.path().join(name));
    for path in &paths {
        let said = write_archive(path);
        print!("{said}");
        let size = said.split(' ').nth(2).and_then(|size| size.parse::<u64>().ok()).expect("a size");
        assert!(size <= MAX_PULL || binary() != file("dist/nodeprobe"), "{said}");
    }
    assert!(fs::read(&paths[0]).unwrap() == fs::read(&paths[1]).unwrap());
    assert_eq!(files_of(&paths[0]), "nodeprobe\n");
}

/// `docker` with the containers of the test, in a network namespace of its own.
struct Scene {
    runtimes: Runtimes,
    /// Where `api` listens.
    address: String,
    /// False where the directory of the test is in no file system of a disk.
    has_disk: bool,
}

/// A right, what is missing without it, and collectors that are absent, with their reasons.
type Lack<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, &'a str)]);

/// Somebody who looks at the scene from a container.
struct Observer<'a> {
    scene: &'a Scene,
    url: String,
}

impl Scene {
    #[track_caller]
    fn start() -> Option<Scene> {
        let runtimes = Runtimes::start(&["dockerd", "network"])?;
        runtimes.docker(&["import", &runtimes.file("rootfs.tar"), IMAGE]);
        let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image");
        fs::create_dir_all(&data).unwrap();
        let volume = format!("--volume={}:/data", data.display());
        let shell = "httpd -p 8080; exec busybox nc -l -p 8090 -e sleep 100000";
        runtimes.docker(&["run", "-d", "--name=api", IMAGE, "sh", "-c", shell]);
        let address = runtimes.docker(&[
            "inspect",
            "--format={{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
            "api",
        ]);
        let shell = format!(
            "exec 3>>/var/log/app/main.log; busybox chown 1000 /var/log/app/main.log; \
             busybox chmod 600 /var/log/app/main.log; httpd -p 8080; \
             (while sleep 0.1; do sleep 100000 | busybox nc {address} 8090; done) & i=0; while :; do i=$((i+1)); \
             wget -q -O - http://{address}:8080/ 2>/dev/null; wget -q -O - http://{address}:8081/ 2>/dev/null; \
             echo \"ERROR cannot reach host$i: refused\"; echo \"ERROR disk $i is full\" >&3; sleep 0.2; done"
        );
        let options = ["run", "-d", "--name=web", "--tmpfs=/var/log/app", "--memory=64m", &volume, IMAGE];
        runtimes.docker(&[&options[..], &["sh", "-c", &shell]].concat());
        let kind = output(Command::new("stat").args(["-f", "-c", "%T"]).arg(&data));
        let has_disk = ["ext", "xfs", "btrfs", "f2fs"].iter().any(|known| kind.starts_with(known));
        Some(Scene { runtimes, address, has_disk })
    }

    /// `docker run` with these flags and arguments, waits until it serves at `url`.
    #[track_caller]
    fn observe(&self, words: &[&str], url: Option<&str>) -> Observer<'_> {
        // A machine may lack capabilities that docker gives whoever is privileged.
        self.runtimes.docker(&[&["run", "-d", "--name=nodeprobe", "--runtime=here"], words].concat());
        let url = url.map(str::to_owned).unwrap_or_else(|| {
            let format = "--format={{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
            let address = self.runtimes.docker(&["inspect", format, "nodeprobe"]);
            format!("http://{address}:9435")
        });
        let observer = Observer { scene: self, url };
        until("it serves", ANSWER, || observer.get("/healthz").ok());
        observer
    }
}

impl Observer<'_> {
    fn get(&self, path: &str) -> Result<String, String> {
        let url = format!("{}{path}", self.url);
        self.scene.runtimes.try_run(&["curl", "-sfS", "--max-time", "20", &url])
    }

    #[track_caller]
    fn scrape(&self) -> Metrics {
        Metrics::parse(&(self.get("/metrics").unwrap() + "\n"))
    }

    /// Collectors that are absent, with their reasons, once all is seen but what cannot be; and these families.
    #[track_caller]
    fn sees_all_but(&self, missing: &[&str]) -> Vec<(String, String)> {
        let mut lacks = Vec::new();
        let began = Instant::now();
        loop {
            let metrics = self.scrape();
            lacks.clear();
            lacks.extend(FAMILIES.into_iter().filter(|family| {
                let has = |series: &&support::Series| series.label("container_id") == WEB;
                !metrics.series(family).iter().any(has)
            }));
            if !self.scene.has_disk {
                lacks.retain(|family| !family.contains("_disk_"));
            }
            lacks.extend(self.wrong(&metrics, missing));
            let missing = missing.iter().filter(|family| self.scene.has_disk || !family.contains("_disk_"));
            if lacks.iter().eq(missing) {
                let memory = metrics.value("nodeprobe_resident_memory_bytes", &[]).unwrap();
                assert!(memory < 64e6, "{memory} bytes");
                let absent = metrics.series("nodeprobe_collector_info").into_iter();
                let absent = absent.filter(|series| !["ok", "disabled"].contains(&series.label("reason")));
                let named = |name: &str, series: &support::Series| series.label(name).to_owned();
                return absent.map(|series| (named("collector", series), named("reason", series))).collect();
            }
            assert!(began.elapsed() < ANSWER, "lacks {lacks:?}: {}", self.said());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// What is there, and is not what it should be.
    fn wrong(&self, metrics: &Metrics, missing: &[&str]) -> Vec<&'static str> {
        let address = &self.scene.address;
        let web = |family: &str, labels: &[(&str, &str)]| {
            missing.contains(&family)
                || metrics.sum(family, &[&[("container_id", WEB)], labels].concat()) >= 1.0
        };
        let logs = "container_log_messages_total";
        let at = |port: u16| format!("{address}:{port}");
        let facts = [
            ("image", web("container_info", &[("image", IMAGE)])),
            ("successful", web("container_net_tcp_successful_connects_total", &[("destination", &at(8080))])),
            ("failed", web("container_net_tcp_failed_connects_total", &[("destination", &at(8081))])),
            ("active", web("container_net_tcp_active_connections", &[("destination", &at(8090))])),
            ("outputs", web(logs, &[("source", "stdout/stderr"), ("level", "error")])),
            ("file", web(logs, &[("source", "/var/log/app/main.log"), ("level", "error")])),
            ("memory", web("container_resources_memory_rss_bytes", &[])),
        ];
        facts.into_iter().filter(|(_, is_right)| !is_right).map(|(name, _)| name).collect()
    }

    fn said(&self) -> String {
        let Ok(said) = self.scene.runtimes.try_run(&["sh", "-c", "docker logs nodeprobe 2>&1"]) else {
            return String::new();
        };
        said
    }

    /// Ends it, as soon as it is told to.
    #[track_caller]
    fn stop(self) {
        let docker = |words: &[&str]| self.scene.runtimes.docker(words);
        let began = Instant::now();
        docker(&["stop", "nodeprobe"]);
        let took = began.elapsed();
        // Killed, it would end with 137, after five or ten seconds.
        assert_eq!(docker(&["inspect", "--format={{.State.ExitCode}}", "nodeprobe"]), "0", "{took:?}");
        docker(&["rm", "nodeprobe"]);
        println!("  stopped in {took:.1?}");
    }
}

/// The `docker run` lines of a document, without `docker run -d --name nodeprobe`.
fn lines_of(document: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(file(document)).unwrap().replace("\\\n", " ");
    let lines = text.lines().filter_map(|line| line.strip_prefix("docker run -d --name nodeprobe "));
    lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

/// What `docker run` must be told to be the same as a manifest.
fn words_of(manifest: &str) -> Vec<String> {
    let mut python = Command::new("/usr/bin/python3");
    python.arg("-B").arg(file("tests/support/manifests.py")).arg("docker").arg(file(manifest));
    output(python.env_remove("LD_LIBRARY_PATH")).lines().map(str::to_owned).collect()
}

fn as_strs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

#[test]
fn it_runs_as_documented_and_sees_the_host() {
    let _turn = turn();
    let Some(scene) = Scene::start() else { return };
    let docker = |words: &[&str]| scene.runtimes.docker(words);
    let directory = TempDir::new("image");
    let archive = directory.path().join("nodeprobe.tar");
    print!("{}", write_archive(&archive));
    docker(&["load", "--input", &archive.display().to_string()]);
    let config = "--format={{json .Config.Env}} {{json .Config.Entrypoint}} {{json .Config.Cmd}} {{json .Config.ExposedPorts}} {{json .Config.Labels}} {{.Architecture}}";
    let loaded = docker(&["image", "inspect", config, "nodeprobe"]);

    // What docker builds is not told apart.
    fs::create_dir(directory.path().join("amd64")).unwrap();
    fs::copy(binary(), directory.path().join("amd64/nodeprobe")).unwrap();
    let context = directory.path().display().to_string();
    let dockerfile = file("deploy/Dockerfile").display().to_string();
    fs::write(directory.path().join(".dockerignore"), "*.tar\n").unwrap();
    let build = ["docker", "build", "-q", "-t", "built", "-f", &dockerfile, &context];
    scene.runtimes.run(&[&["env", "DOCKER_BUILDKIT=0"], &build[..]].concat());
    // The older builder says PATH, which is for shells.
    let built = docker(&["image", "inspect", config, "built"]);
    assert_eq!(without_path(&built), without_path(&loaded));
    let archive = directory.path().join("built.tar");
    docker(&["save", "-o", &archive.display().to_string(), "built"]);
    assert_eq!(files_of(&archive), "nodeprobe\n");

    let lines = lines_of("docs/DEPLOY.md");
    assert_eq!(lines.len(), 2, "the privileged line and the other: {lines:?}");
    assert_eq!(lines_of("README.md"), lines, "README and docs/DEPLOY.md");
    for line in &lines {
        println!("{}", line.join(" "));
        let observer = scene.observe(&as_strs(line), Some("http://127.0.0.1:9435"));
        assert_eq!(observer.sees_all_but(&[]), []);
        observer.stop();
    }
    for manifest in ["daemonset.yaml", "least-privilege.yaml"] {
        println!("{manifest}");
        let words = words_of(&format!("deploy/kubernetes/{manifest}"));
        let observer = scene.observe(&as_strs(&words), None);
        assert_eq!(observer.sees_all_but(&[]), []);
        observer.stop();
    }

    // As somebody has it who replaces coroot-node-agent: names are read through /proc/1/root, where the machine's own docker
    // is, and not that of the test.
    let line = "--privileged --pid host -v /sys/kernel/debug:/sys/kernel/debug:rw -v /sys/fs/cgroup:/host/sys/fs/cgroup:ro \
                ghcr.io/coroot/coroot-node-agent --cgroupfs-root=/host/sys/fs/cgroup";
    println!("{line}");
    docker(&["tag", "nodeprobe", "ghcr.io/coroot/coroot-node-agent"]);
    let observer = scene.observe(&line.split(' ').collect::<Vec<_>>(), None);
    let id = format!("/docker/{}", &docker(&["inspect", "--format={{.Id}}", "web"])[..12]);
    until("connections are seen", ANSWER, || {
        let metrics = observer.scrape();
        let count = metrics.sum("container_net_tcp_successful_connects_total", &[("container_id", &id)]);
        (count >= 1.0).then_some(())
    });
    observer.stop();

    // What each of the rights is for.
    let delays = "container_resources_cpu_delay_seconds_total";
    let sizes = "container_resources_disk_size_bytes";
    let without: [Lack; 5] = [
        (
            "--cap-add=SYS_ADMIN",
            &[
                "container_net_tcp_active_connections",
                "container_net_tcp_failed_connects_total",
                "container_net_tcp_listen_info",
                "container_net_tcp_successful_connects_total",
                // The kernel tells of processes in the host's network only.
                "container_processes_started_total",
            ],
            &[("tcp", "no_permission")],
        ),
        // Nor files that a container writes itself.
        ("--cap-add=SYS_PTRACE", &[sizes, "file"], &[("container_net", "no_permission")]),
        // That file is another user's alone.
        ("--cap-add=DAC_READ_SEARCH", &["file"], &[]),
        ("--cap-add=NET_ADMIN", &[delays], &[("delays", "no_permission")]),
        (
            "--pid=host",
            &[
                "container_application_type",
                // Those from before the start.
                "container_net_tcp_active_connections",
                "container_net_tcp_listen_info",
                delays,
                sizes,
                "file",
            ],
            &[("delays", "not_supported")],
        ),
    ];
    for (right, families, reasons) in without {
        println!("without {right}");
        let line: Vec<&str> = lines[1].iter().map(String::as_str).filter(|word| *word != right).collect();
        assert_eq!(line.len() + 1, lines[1].len(), "{right}");
        let observer = scene.observe(&line, Some("http://127.0.0.1:9435"));
        let absent = observer.sees_all_but(families);
        let absent: Vec<(&str, &str)> = absent.iter().map(|(name, reason)| (&**name, &**reason)).collect();
        assert_eq!(absent, reasons);
        observer.stop();
    }
}

fn without_path(config: &str) -> String {
    let (before, behind) = config.split_once("\"PATH=").unwrap_or((config, "\""));
    let behind = behind.split_once('"').map_or("", |(_, behind)| behind.trim_start_matches(','));
    before.to_owned() + behind
}

/// What `manifests.py check` says, and whether the API would take it.
fn validate(paths: &[PathBuf]) -> (bool, String) {
    let mut python = Command::new("/usr/bin/python3");
    python.arg("-B").arg(file("tests/support/manifests.py")).arg("check");
    python.arg(file("tests/fixtures/k8s-schemas")).args(paths).env_remove("LD_LIBRARY_PATH");
    let output = run_command(python, Duration::from_secs(60));
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn the_api_takes_the_manifests() {
    let all = ["daemonset.yaml", "podmonitor.yaml"].map(|name| file("deploy/kubernetes").join(name));
    let (is_right, said) = validate(&all);
    println!("{said}");
    assert!(is_right, "{said}");
    // Three versions of three kinds, and the operator's own.
    assert_eq!(said.lines().count(), 10, "{said}");
    let (_, said) = validate(&[file("deploy/kubernetes/least-privilege.yaml")]);
    let wrong: Vec<&str> = said.lines().filter(|line| line.contains(": ")).collect();
    assert!(matches!(&wrong[..], [one] if one.contains("'appArmorProfile' was unexpected")), "{said}");
    assert!(said.contains("kubernetes-1.30.json DaemonSet\nkubernetes-1.37.json DaemonSet\n"), "{said}");
}

/// The two forms differ in rights alone.
#[test]
fn the_manifests_are_one() {
    let [all, least] = ["daemonset", "least-privilege"]
        .map(|name| fs::read_to_string(file(&format!("deploy/kubernetes/{name}.yaml"))).unwrap());
    let parts = |text: &str| {
        let (_, text) = text.split_once("\napiVersion").unwrap();
        let (before, rest) = text.split_once("          securityContext:\n").unwrap();
        let (_, behind) = rest.split_once("          volumeMounts:\n").unwrap();
        [before.to_owned(), behind.to_owned()]
    };
    assert_eq!(parts(&all), parts(&least));
}

/// A validator that takes everything would say the same.
#[test]
fn mistakes_in_manifests_are_found() {
    let right = fs::read_to_string(file("deploy/kubernetes/daemonset.yaml")).unwrap();
    let directory = TempDir::new("manifests");
    for (what, with) in [
        ("hostPID: true", "hostPid: true"),
        ("hostPID: true", "hostPID: \"yes\""),
        ("privileged: true", "privileged: {}"),
        ("mountPropagation: HostToContainer", "mountPropagation: [HostToContainer]"),
        ("containers:", "container:"),
        ("kind: DaemonSet", "kind: DeamonSet"),
        ("hostPID: true", "hostPID: true\n      hostPID: true"),
    ] {
        assert!(right.contains(what));
        let path = directory.write("wrong.yaml", right.replace(what, with));
        let (is_right, said) = validate(&[path]);
        assert!(!is_right, "{with}: {said}");
    }
}
