//! Rules of the user's own against this kernel: services that share a unit and no more, and a file that is read again.

mod support;

use std::time::Duration;

use support::cgroup::{Cgroup, turn};
use support::{Agent, TempDir, until};

const PATIENCE: Duration = Duration::from_secs(20);

/// Processor time of a container, in seconds.
fn cpu(agent: &Agent, container: &str) -> Option<f64> {
    agent.scrape().value("container_resources_cpu_usage_seconds_total", &[("container_id", container)])
}

/// Three services that somebody left running over ssh, each in a cgroup below sshd's, are told apart by one rule.
#[test]
fn services_below_one_unit_are_told_apart() {
    let _turn = turn();
    let unit = format!("/system.slice/np{}-ssh.service", std::process::id());
    let mut children = Vec::new();
    let parent = Cgroup::make(&unit, None);
    let services: Vec<Cgroup> =
        ["a", "b", "c"].iter().map(|name| Cgroup::make(&format!("{unit}/service-{name}"), None)).collect();
    for service in &services {
        children.push(service.bash("for i in {1..20000}; do :; done; sleep 60"));
    }
    let directory = TempDir::new("rules");
    let text = |id: &str| {
        let unit = unit.replace('.', r"\.");
        format!(
            "rules:\n  - match: ^{unit}/service-(?<name>[^/]+)\n    id: {id}\n    labels: {{name: $name}}\n"
        )
    };
    let rules = directory.write("rules.yaml", text("/ours/$name"));
    let agent = Agent::start(&[&format!("--container-rules={}", rules.display()), "--collector.tcp=off"]);
    for name in ["a", "b", "c"] {
        until("it has a name of its own", PATIENCE, || {
            cpu(&agent, &format!("/ours/{name}")).filter(|cpu| *cpu > 0.0)
        });
        let labels = [("container_id", &*format!("/ours/{name}")), ("name", name)];
        assert_eq!(agent.scrape().value("container_info", &labels), Some(1.0));
    }
    // The unit is what it was.
    assert!(cpu(&agent, &unit).is_some());

    // Other rules: what runs keeps its name, what comes has the new one.
    directory.write("rules.yaml", text("/theirs/$name"));
    agent.signal(libc::SIGHUP);
    until("the file is read", PATIENCE, || {
        agent.stderr().iter().any(|line| line.contains("reloading")).then_some(())
    });
    agent.scrape();
    let service_d = Cgroup::make(&format!("{unit}/service-d"), None);
    children.push(service_d.bash("sleep 60"));
    until("the new rule counts", PATIENCE, || cpu(&agent, "/theirs/d"));
    assert!(cpu(&agent, "/ours/a").is_some() && cpu(&agent, "/theirs/a").is_none());

    directory.write("rules.yaml", "rules:\n  - match: (\n    id: /x\n");
    agent.signal(libc::SIGHUP);
    until("the mistake is told", PATIENCE, || {
        agent.stderr().iter().any(|line| line.contains("rules.yaml:2:12: match: ")).then_some(())
    });
    let service_e = Cgroup::make(&format!("{unit}/service-e"), None);
    until("the rules of before stay", PATIENCE, || cpu(&agent, "/theirs/e"));
    for child in &mut children {
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
    drop((service_d, service_e, services, parent));
}
