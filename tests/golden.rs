//! What nodeprobe says about the fixture hosts, whole: `NODEPROBE_UPDATE=1` writes the expected texts anew.

mod support;

use std::fs;
use std::path::Path;

use support::{ANSWER, Metrics, fixture_hosts, once, promtool_check, run};

/// Families of nodeprobe itself that say the same each time.
const STEADY: [&str; 4] = [
    "nodeprobe_collector_info",
    "nodeprobe_containers",
    "nodeprobe_container_cgroups",
    "nodeprobe_cgroup_watch_info",
];

/// The text about a fixture host, without what varies from run to run and from version to version.
#[track_caller]
fn observed(host: &Path) -> String {
    let text = once(&[&format!("--root={}", host.display()), "--collector.tcp=off", "--log-level=error"]);
    Metrics::parse(&text);
    let mut steady = String::new();
    for line in text.lines() {
        let name = line.strip_prefix("# HELP ").or(line.strip_prefix("# TYPE ")).unwrap_or(line);
        let name = name.split(['{', ' ']).next().unwrap_or_default();
        if !name.starts_with("nodeprobe_") || STEADY.contains(&name) {
            steady.push_str(line);
            steady.push('\n');
        }
    }
    steady.replace(concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""), "version=\"VERSION\"")
}

/// The lines in which two texts differ, for a message a person can read.
fn difference(expected: &str, observed: &str) -> String {
    let only = |in_this: &str, and_not: &str, mark: &str| -> Vec<String> {
        let other: Vec<&str> = and_not.lines().collect();
        let missing = in_this.lines().filter(|line| !other.contains(line));
        missing.map(|line| format!("{mark} {line}")).collect()
    };
    let mut lines = only(expected, observed, "-");
    lines.extend(only(observed, expected, "+"));
    if lines.is_empty() {
        lines.push("the same lines in another order".to_owned());
    }
    lines.join("\n")
}

#[test]
fn fixture_hosts_are_described_as_expected() {
    let update = std::env::var_os("NODEPROBE_UPDATE").is_some();
    let mut wrong = String::new();
    for host in fixture_hosts() {
        let path = host.join("metrics.txt");
        let observed = observed(&host);
        if update {
            fs::write(&path, observed).expect("metrics.txt written");
            continue;
        }
        let expected = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; NODEPROBE_UPDATE=1 writes it", path.display()));
        if expected != observed {
            wrong += &format!("{}:\n{}\n", path.display(), difference(&expected, &observed));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}NODEPROBE_UPDATE=1 accepts this");
}

#[test]
fn promtool_accepts_every_expected_text() {
    for host in fixture_hosts() {
        let text = fs::read_to_string(host.join("metrics.txt")).expect("metrics.txt");
        let (content, said) = promtool_check(&text);
        assert!(content, "{}: {said}", host.display());
    }
}

/// A host is described the same whatever path leads to it and however often it is asked.
#[test]
fn descriptions_repeat() {
    for host in fixture_hosts() {
        assert_eq!(observed(&host), observed(&host), "{}", host.display());
    }
}

/// No series of a container that is left out, and the same as ever of the others.
#[test]
fn containers_are_left_out() {
    let host = fixture_hosts().into_iter().find(|host| host.ends_with("docker-v2")).expect("docker-v2");
    let root = format!("--root={}", host.display());
    let lines = |filter: &[&str]| -> Vec<String> {
        let text = once(&[&[root.as_str(), "--log-level=error"], filter].concat());
        let ours = text.lines().filter(|line| line.contains("container_id=\""));
        ours.map(str::to_owned).collect()
    };
    let all = lines(&[]);
    for (filter, is_kept) in [
        (
            &["--container-allowlist=^/docker/", "--container-allowlist=/api/2$"][..],
            (|line| line.contains("\"/docker/") || line.contains("\"/swarm/")) as fn(&str) -> bool,
        ),
        (&["--container-denylist=service$"], |line| !line.contains(".service\"")),
        (&["--container-allowlist=^/docker/", "--container-denylist=cache"], |line| {
            line.contains("\"/docker/web\"")
        }),
        (&["--container-denylist="], |_| true),
    ] {
        let expected: Vec<&String> = all.iter().filter(|line| is_kept(line)).collect();
        assert!(!expected.is_empty() && lines(filter).iter().eq(expected), "{filter:?}");
    }
    let output = run(&["once", &root, "--container-denylist=web", "--container-denylist=web["], ANSWER);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("--container-denylist: \"web[\" is not a regular expression: "), "{said}");
}

/// What rules and flags say of containers, and where it is said.
#[test]
fn containers_of_the_users_own() {
    let host = |name: &str| {
        let host = fixture_hosts().into_iter().find(|host| host.ends_with(name)).expect(name);
        format!("--root={}", host.display())
    };
    let (docker, moved) = (host("docker-v2"), host("moved-runtimes"));
    let rules = std::env::temp_dir().join(format!("nodeprobe-rules-{}.yaml", std::process::id()));
    let flag = format!("--container-rules={}", rules.display());
    let text = "rules:\n  - {match: '^/default/([^/]+)', id: /ctr/$1, labels: {team: ops}}\n  - {match: ^/libpod_parent, ignore: true}\n";
    fs::write(&rules, text).expect("rules");
    let metrics = Metrics::parse(&once(&[&moved, &flag, "--container-label=tier", "--log-level=error"]));
    let is_there = |family: &str, labels: &[(&str, &str)]| metrics.value(family, labels).is_some();
    assert!(is_there("container_info", &[("container_id", "/ctr/plain1"), ("team", "ops")]));
    assert!(is_there("container_info", &[("container_id", "/docker/web"), ("label_tier", "front")]));
    let memory = "container_resources_memory_rss_bytes";
    assert!(is_there(memory, &[("container_id", "/ctr/plain1")]));
    assert!(is_there(memory, &[("container_id", "/docker/web")]));
    assert!(!is_there(memory, &[("container_id", "/podman/pweb")]));
    for (family, labels) in [(memory, ("team", "ops")), (memory, ("label_tier", "front"))] {
        assert!(!is_there(family, &[labels]), "{labels:?} is on a series of its own");
    }
    let metrics = Metrics::parse(&once(&[&docker, "--log-level=error"]));
    let unit = [
        ("container_id", "/system.slice/docker.service"),
        ("systemd_triggered_by", "docker.socket"),
        ("systemd_type", "notify"),
    ];
    assert_eq!(metrics.value("container_info", &unit), Some(1.0));

    fs::write(&rules, "rules:\n  - match: (\n    id: /x\n  - id: y\n").expect("rules");
    let output = run(&["once", &moved, &flag], ANSWER);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    let expected = format!("--container-rules: {}:2:12: match: ", rules.display());
    assert!(said.contains(&expected) && said.contains("(and 1 more)"), "{said}");
    fs::remove_file(&rules).expect("removed");
    let output = run(&["once", &moved, &flag], ANSWER);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The reader these tests trust refuses what Prometheus refuses.
#[test]
fn the_reader_is_strict() {
    let head = "# HELP a_total A.\n# TYPE a_total counter\n";
    let good = format!("{head}a_total{{x=\"1 {{}},\\\"\\\\\\n\",y=\"\"}} 1e+06\na_total{{x=\"2\"}} NaN\n");
    let metrics = Metrics::parse(&good);
    assert_eq!(metrics.value("a_total", &[("x", "1 {},\"\\\n")]), Some(1e6));
    for bad in [
        "a_total 1\n".to_owned(),
        format!("{head}a_total 1"),
        format!("{head}a_total{{x=\"1\"}} 1\na_total{{x=\"1\"}} 1\n"),
        format!("{head}a_total{{x=\"1\",y=\"2\"}} 1\na_total{{y=\"2\",x=\"1\"}} 1\n"),
        format!("{head}a_total{{x=\"1\",x=\"2\"}} 1\n"),
        format!("{head}b_total 1\n"),
        format!("{head}a_total 1 \n"),
        format!("{head}a_total  1\n"),
        format!("{head}a_total one\n"),
        format!("{head}a_total inf\n"),
        format!("{head}a_total{{x=\"1}} 1\n"),
        format!("{head}a_total{{x=\"\\x\"}} 1\n"),
        format!("{head}a_total{{1=\"\"}} 1\n"),
        format!("{head}a_total 1\n\n"),
        format!("{head}a_total 1\n{head}a_total{{x=\"\"}} 1\n"),
        "# TYPE a_total counter\na_total 1\n".to_owned(),
    ] {
        assert!(Metrics::try_parse(&bad).is_err(), "{bad:?} was accepted");
    }
}
