//! Tests of the life of instances: names, the filter, published ports. And a container with processes, for tests elsewhere.

use super::*;
use crate::args::Config;
use crate::decoders::test::Bed;
use crate::world::World;

const SECOND: u64 = 1_000_000_000;

/// A host with one docker container, and what collectors are told about it.
struct Docker {
    bed: Bed,
    containers: Containers,
    now_ns: MonotonicNs,
}

impl Docker {
    fn new(filter: Filter) -> Docker {
        let containers = Containers::new(ConstLabels::default(), Duration::from_secs(60)).filtered(filter);
        let mut docker = Docker { bed: Bed::new(), containers, now_ns: SECOND };
        docker.containers.appeared(Place::V2, 7, &Docker::path(), |_| None, SECOND);
        docker
    }

    fn id() -> String {
        "0123456789abcdef".repeat(4)
    }

    fn path() -> String {
        format!("/docker/{}", Docker::id())
    }

    /// What its runtime writes about it.
    fn describe(&self, config: &str) {
        self.bed.write(&format!("var/lib/docker/containers/{}/config.v2.json", Docker::id()), config);
    }

    /// Settles after `seconds` and gives the instance with the events.
    fn settle(&mut self, seconds: u64) -> Vec<Event> {
        self.now_ns += seconds * SECOND;
        let mut events = VecDeque::new();
        self.containers.settle(&self.bed.host, self.now_ns, &mut events);
        events.into()
    }

    fn instance(&self) -> InstanceId {
        self.containers.of_cgroup(Place::V2, 7).unwrap()
    }

    fn names(&self) -> Vec<&str> {
        self.containers.living().map(|(_, _, named)| &*named.id).collect()
    }
}

/// A host of files on cgroup v2 with one docker container, in which the processes 10 and 11 live.
pub struct Inhabited {
    pub bed: Bed,
    pub world: World,
    pub id: InstanceId,
}

impl Inhabited {
    pub fn new() -> Inhabited {
        let bed = Bed::new();
        bed.write("sys/fs/cgroup/cgroup.controllers", "");
        bed.write(&Inhabited::list(), "10\n11\n");
        for pid in [10, 11] {
            let stat = format!("{pid} (a) S 1 2 3 4 5 4194304 7 8 9 10 140 150 16 17 20 0 1 0 22000 23 24\n");
            bed.write(&format!("proc/{pid}/stat"), stat);
            bed.write(&format!("proc/{pid}/cgroup"), format!("0::{}\n", Docker::path()));
        }
        let mut world = World::new(Config { root: bed.host.rootfs("/"), ..Config::default() }, 1024);
        let cgroup = walk::id_of(&bed.host.cgroup(&Docker::path())).unwrap();
        world.containers.appeared(Place::V2, cgroup, &Docker::path(), |_| None, world.now_ns);
        world.containers.settle(&bed.host, world.now_ns, &mut world.events);
        let id = world.containers.of_cgroup(Place::V2, cgroup).unwrap();
        Inhabited { bed, world, id }
    }

    /// Where its processes are listed.
    pub fn list() -> String {
        format!("sys/fs/cgroup{}/cgroup.procs", Docker::path())
    }

    /// Has all reads of a file fail.
    pub fn hide(&self, file: &str) {
        let path = self.bed.host.rootfs(file);
        std::fs::rename(&path, path.with_extension("hidden")).unwrap();
        std::fs::create_dir(path).unwrap();
    }

    /// Has them succeed again.
    pub fn show(&self, file: &str) {
        let path = self.bed.host.rootfs(file);
        std::fs::remove_dir(&path).unwrap();
        std::fs::rename(path.with_extension("hidden"), path).unwrap();
    }
}

fn allow(pattern: &str) -> Filter {
    let mut filter = Filter::default();
    filter.allow(pattern).unwrap();
    filter
}

fn deny(pattern: &str) -> Filter {
    let mut filter = Filter::default();
    filter.deny(pattern).unwrap();
    filter
}

#[test]
fn a_container_that_is_left_out_is_nobody() {
    let mut docker = Docker::new(deny("^/docker/"));
    docker.describe(r#"{"Name":"/web"}"#);
    assert_eq!(docker.settle(0), []);
    assert!(docker.names().is_empty() && docker.containers.identities.is_empty());
    // Its cgroup is known for what it is, that of a child too.
    let child = format!("{}/child", Docker::path());
    docker.containers.appeared(Place::V2, 8, &child, |_| None, SECOND);
    let instance = docker.instance();
    assert_eq!(docker.containers.of_cgroup(Place::V2, 8), Some(instance));
    assert_eq!(docker.containers.instance(instance).unwrap().identity, None);
    docker.containers.removed(Place::V2, 7, docker.now_ns);
    assert_eq!(docker.settle(1), [Event::InstanceEnded(instance)]);
    assert_eq!(docker.settle(120), []);
    assert_eq!(docker.containers.cgroup_count(), 0);
}

#[test]
fn a_final_name_brings_it_in() {
    let mut docker = Docker::new(allow("^/docker/web$"));
    let instance = docker.instance();
    assert_eq!((docker.settle(0), docker.names().len()), (vec![], 0));
    docker.describe(r#"{"Name":"/web"}"#);
    assert_eq!(docker.settle(1), [Event::InstanceStarted(instance)]);
    assert_eq!(docker.names(), ["/docker/web"]);
    docker.containers.removed(Place::V2, 7, docker.now_ns);
    assert_eq!(docker.settle(1), [Event::InstanceEnded(instance)]);
    let [Event::IdentityEnded(_)] = docker.settle(120)[..] else { panic!("it lingers for ever") };
}

#[test]
fn a_final_name_throws_it_out() {
    let mut docker = Docker::new(deny("web"));
    let instance = docker.instance();
    assert_eq!(docker.settle(0), [Event::InstanceStarted(instance)]);
    assert_eq!(docker.names(), ["/docker/0123456789ab"]);
    docker.describe(r#"{"Name":"/web"}"#);
    assert_eq!(docker.settle(1), [Event::InstanceEnded(instance)]);
    assert!(docker.names().is_empty());
    // Names are final: what is written later changes nothing.
    docker.describe(r#"{"Name":"/db"}"#);
    assert_eq!(docker.settle(30), []);
    // The counters under the provisional name end after the linger time.
    let [Event::IdentityEnded(_)] = docker.settle(60)[..] else { panic!("it lingers for ever") };
    assert!(docker.containers.by_name.is_empty());
}

#[test]
fn a_name_goes_out_and_another_container_takes_it_up() {
    // Counters stay with the name while the container behind it changes, whichever name the old one has now.
    let mut ledger = ledger::Ledger::<1>::default();
    let mut docker = Docker::new(deny("web"));
    let mut tell = |docker: &mut Docker, seconds: u64, value: u64| {
        docker.settle(seconds).iter().for_each(|event| ledger.event(event));
        for (id, instance, _) in docker.containers.living() {
            ledger.observe(id, instance.identity.unwrap(), 0, [value]);
        }
        ledger.totals().map(|(_, _, total)| total[0]).collect::<Vec<_>>()
    };
    assert_eq!(tell(&mut docker, 0, 10), [10]);
    docker.describe(r#"{"Name":"/web"}"#);
    assert_eq!(tell(&mut docker, 1, 20), [10]);
    // Its cgroup is made again before its metadata says the name: again under the provisional one, from 0.
    docker.containers.removed(Place::V2, 7, docker.now_ns);
    std::fs::remove_dir_all(docker.bed.host.rootfs("/var/lib/docker")).unwrap();
    docker.containers.appeared(Place::V2, 9, &Docker::path(), |_| None, docker.now_ns);
    assert_eq!(tell(&mut docker, 1, 3), [13]);
    docker.describe(r#"{"Name":"/web"}"#);
    assert_eq!(tell(&mut docker, 1, 5), [13]);
}

const PORTS: &str = r#""NetworkSettings":{"Ports":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"},
    {"HostIp":"::","HostPort":"8080"}],"53/udp":[{"HostIp":"0.0.0.0","HostPort":"53"}]}}"#;

fn published(docker: &Docker) -> String {
    let shown: Vec<String> =
        docker.containers.living().flat_map(|(_, it, _)| it.published()).map(|at| at.to_string()).collect();
    shown.join(" ")
}

#[test]
fn ports_come_after_the_name() {
    let mut docker = Docker::new(Filter::default());
    docker.describe(r#"{"Name":"/web","State":{"Pid":0},"NetworkSettings":{"Ports":null}}"#);
    let instance = docker.instance();
    assert_eq!(docker.settle(0), [Event::InstanceStarted(instance)]);
    assert_eq!(published(&docker), "");
    // Neither is a read too early, nor one of a file in the making, the end of it.
    docker.settle(1);
    assert_eq!(docker.containers.instance(instance).unwrap().port_reads, 1);
    docker.settle(3);
    docker.describe("{");
    docker.settle(10);
    assert_eq!((docker.containers.instance(instance).unwrap().port_reads, &*published(&docker)), (3, ""));
    docker.describe(&format!(r#"{{"Name":"/other","State":{{"Pid":12}},{PORTS}}}"#));
    assert_eq!(docker.settle(10), []);
    assert_eq!(published(&docker), "0.0.0.0:8080 [::]:8080");
    assert_eq!(docker.names(), ["/docker/web"]);
    let instance = docker.containers.instance(instance).unwrap();
    assert!(!instance.awaits_ports);
}

#[test]
fn ports_are_read_a_bounded_number_of_times() {
    for (config, reads) in [
        (r#"{"Name":"/web"}"#.to_owned(), limits::PORT_READS),
        (r#"{"Name":"/web","State":{"Pid":1}}"#.to_owned(), 2),
        (format!(r#"{{"Name":"/web","State":{{"Pid":1}},{PORTS}}}"#), 1),
        (format!(r#"{{"Name":"/web","State":{{"Pid":0}},{PORTS}}}"#), limits::PORT_READS),
        (format!(r#"{{"Name":"/hidden",{PORTS}}}"#), 0),
    ] {
        let mut docker = Docker::new(deny("hidden"));
        docker.describe(&config);
        for _ in 0..10 {
            docker.settle(20);
        }
        let instance = docker.containers.instance(docker.instance()).unwrap();
        assert_eq!((instance.port_reads, instance.awaits_ports), (reads, false), "{config}");
    }
}

#[test]
fn ports_of_the_next_start_are_its_own() {
    let mut docker = Docker::new(Filter::default());
    docker.describe(&format!(r#"{{"Name":"/web","State":{{"Pid":12}},{PORTS}}}"#));
    docker.settle(0);
    docker.describe(r#"{"Name":"/web","State":{"Pid":0},"NetworkSettings":{"Ports":{}}}"#);
    docker.containers.removed(Place::V2, 7, docker.now_ns);
    docker.containers.appeared(Place::V2, 9, &Docker::path(), |_| None, docker.now_ns);
    docker.settle(1);
    assert_eq!((published(&docker), docker.names()), (String::new(), vec!["/docker/web"]));
    docker.describe(&format!(r#"{{"Name":"/web","State":{{"Pid":13}},{}}}"#, PORTS.replace("8080", "8081")));
    docker.settle(5);
    assert_eq!(published(&docker), "0.0.0.0:8081 [::]:8081");
}

#[test]
fn units_publish_nothing_and_are_not_asked() {
    let mut docker = Docker::new(Filter::default());
    docker.containers.appeared(Place::V2, 20, "/system.slice/nginx.service", |_| None, SECOND);
    docker.settle(0);
    let unit = docker.containers.of_cgroup(Place::V2, 20).unwrap();
    let unit = docker.containers.instance(unit).unwrap();
    assert!(!unit.awaits_ports && unit.published().is_empty());
}

/// Label pairs of `container_info`, without the constant ones.
fn info(containers: &Containers) -> Vec<String> {
    let shown = |named: &Named| {
        let all = format!("{:?}", named.info()?);
        let bytes = all.trim_start_matches("ConstLabels([").trim_end_matches("])").split(", ");
        let text: Vec<u8> = bytes.map(|byte| byte.parse().unwrap()).collect();
        let text = String::from_utf8(text).unwrap();
        Some(text.split_once("app_id=\"\"").unwrap().1.to_owned())
    };
    containers.living().filter_map(|(_, _, named)| shown(named)).collect()
}

#[test]
fn labels_asked_for_are_in_the_info_alone() {
    let mut docker = Docker::new(Filter::default());
    let mut keys = LabelKeys::default();
    keys.add("b,a.b/c").unwrap();
    docker.containers = docker.containers.labelled(keys, false);
    docker.describe(r#"{"Name":"/web","Config":{"Labels":{"a.b/c":"x\"y","b":"","secret":"s"}}}"#);
    docker.settle(0);
    assert_eq!(info(&docker.containers), [r#",label_a_b_c="x\"y""#]);
    let (_, _, named) = docker.containers.living().next().unwrap();
    assert!(!format!("{:?}", named.labels).contains("108, 97, 98, 101, 108, 95"), "label_ on hot series");
    // Labels that all have may change; these stay behind them.
    docker.containers.set_labels(ConstLabels::default().with(&[("az", "1")]));
    assert_eq!(info(&docker.containers), [r#",label_a_b_c="x\"y""#]);
}

#[test]
fn nothing_known_is_no_info() {
    let mut docker = Docker::new(Filter::default());
    docker.describe(r#"{"Name":"/web"}"#);
    docker.settle(0);
    assert_eq!((docker.names(), info(&docker.containers)), (vec!["/docker/web"], vec![]));
}

#[test]
fn rules_come_first_and_new_ones_are_about_new_cgroups() {
    let mut docker = Docker::new(Filter::default());
    let rules = |text: &str| Rules::parse("r", text.as_bytes()).0.unwrap();
    let jobs = "rules: [{match: '/ssh.service/([a-z]+)', id: /jobs/$1, labels: {job: $1}}, {match: ^/docker, labels: {d: y}}]";
    docker.containers.rules = rules(jobs);
    for (id, path) in [
        (30, "/system.slice/ssh.service"),
        (31, "/system.slice/ssh.service/a/x"),
        (32, "/system.slice/ssh.service/b"),
    ] {
        let root_id = |root: &str| (root == "/system.slice/ssh.service/a").then_some(33);
        docker.containers.appeared(Place::V2, id, path, root_id, SECOND);
    }
    docker.describe(r#"{"Name":"/web","Config":{"Image":"i"}}"#);
    docker.settle(0);
    assert_eq!(docker.names(), ["/docker/web", "/system.slice/ssh.service", "/jobs/a", "/jobs/b"]);
    assert_eq!(info(&docker.containers), [",d=\"y\"", ",job=\"a\"", ",job=\"b\""]);
    let of = |id| docker.containers.of_cgroup(Place::V2, id);
    assert!(of(31) == of(33) && of(31) != of(30) && of(31) != of(32));
    docker.containers.rules = rules("rules: [{match: ., ignore: true}]");
    docker.containers.appeared(Place::V2, 31, "/system.slice/ssh.service/a/x", |_| None, SECOND);
    docker.containers.appeared(Place::V2, 40, "/system.slice/new.service", |_| None, SECOND);
    docker.settle(1);
    assert_eq!(docker.names(), ["/docker/web", "/system.slice/ssh.service", "/jobs/a", "/jobs/b"]);
}

#[test]
fn services_of_systemd_itself_are_left_out_on_request() {
    for (skip, names) in [
        (
            false,
            vec!["/system.slice/a.service", "/system.slice/b.service", "/system.slice/dbus-broker.service"],
        ),
        (true, vec!["/system.slice/b.service"]),
    ] {
        let mut docker = Docker::new(deny("^/docker/"));
        docker.containers = docker.containers.labelled(LabelKeys::default(), skip);
        docker.bed.write("lib/systemd/system/a.service", "[Service]\nType=oneshot");
        docker.bed.write("lib/systemd/system/b.service", "[Service]\nType=notify");
        for (id, name) in [(20, "a"), (21, "b"), (22, "dbus-broker")] {
            docker.containers.appeared(
                Place::V2,
                id,
                &format!("/system.slice/{name}.service"),
                |_| None,
                SECOND,
            );
        }
        docker.settle(0);
        assert_eq!(docker.names(), names);
        let kinds: Vec<&str> = docker.containers.living().map(|(_, _, named)| named.unit.kind).collect();
        assert!(kinds.contains(&"notify"), "{kinds:?}");
    }
}

/// The lists of a user's podman, of which the last has `ids` and all others only mention them; each has many other entries.
fn write_podman_lists(bed: &Bed, ids: &[String]) {
    let others = r#"{"id":"0","names":["a"],"flags":{"x":[1,2,3],"y":null}},"#.repeat(1000);
    let mentions = format!(r#"[{others}{{"id":"1","names":["{}"]}}"#, ids.join("\",\""));
    let entries: String = ids
        .iter()
        .enumerate()
        .map(|(number, id)| format!(r#",{{"id":"{id}","names":["c{number}"]}}"#))
        .collect();
    let storage = "home/eve/.local/share/containers/storage";
    for driver in ["overlay", "vfs", "btrfs", "zfs"] {
        for list in ["containers.json", "volatile-containers.json"] {
            let entries = if (driver, list) == ("zfs", "volatile-containers.json") { &*entries } else { "" };
            bed.write(&format!("{storage}/{driver}-containers/{list}"), format!("{mentions}{entries}]"));
        }
    }
}

#[test]
fn names_that_take_long_are_found_in_several_turns() {
    let mut docker = Docker::new(Filter::default());
    docker.settle(0);
    assert!(docker.names() == ["/docker/0123456789ab"] && !docker.containers.is_naming());
    let ids: Vec<String> = (0..60).map(|number| format!("{number:064x}")).collect();
    write_podman_lists(&docker.bed, &ids);
    docker.describe(r#"{"Name":"/web"}"#);
    let appeared = |docker: &mut Docker, number: usize| {
        let path =
            format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{}.scope", ids[number]);
        let now_ns = docker.now_ns;
        docker.containers.appeared(Place::V2, 100 + number as u64, &path, |_| None, now_ns);
        docker.containers.of_cgroup(Place::V2, 100 + number as u64).unwrap()
    };
    let all: Vec<InstanceId> = (0..ids.len()).map(|number| appeared(&mut docker, number)).collect();
    // The last one is gone before anything has been read about it.
    docker.containers.removed(Place::V2, 100 + ids.len() as u64 - 1, docker.now_ns);
    let (last, mut turns, mut events) = (all[all.len() - 1], 0, Vec::new());
    loop {
        let news = docker.settle(u64::from(turns == 0));
        turns += 1;
        assert!(turns > 1 || news.contains(&Event::InstanceStarted(all[0])), "one at least, and the first");
        // A name that was written late is not kept waiting by the new ones.
        assert_eq!(docker.names()[0], "/docker/web");
        events.extend(news);
        if !docker.containers.is_naming() {
            break;
        }
        assert!(!events.contains(&Event::InstanceEnded(last)), "nobody knows yet whose end it is");
    }
    assert!(turns > 1, "30 MiB in one turn");
    let expected: Vec<String> = (0..ids.len() - 1).map(|number| format!("/podman/c{number}")).collect();
    assert_eq!(docker.names()[1..], expected);
    let started: Vec<&Event> =
        events.iter().filter(|event| matches!(event, Event::InstanceStarted(_))).collect();
    assert!(started.into_iter().eq(&all.iter().map(|&id| Event::InstanceStarted(id)).collect::<Vec<_>>()));
    assert_eq!(events.last(), Some(&Event::InstanceEnded(last)), "{events:?}");
    let gone = docker.containers.instance(last).unwrap().identity.unwrap();
    assert_eq!(&*docker.containers.identity(gone).unwrap().id, "/podman/c59");
    // Nothing is left, so nobody is to come back for it.
    docker.settle(1);
    assert!(!docker.containers.is_naming());
}
