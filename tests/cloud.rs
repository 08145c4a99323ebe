//! Metadata of cloud instances: every cloud at its own address, in a network namespace that stands for the host's, with the
//! firmware such an instance has. Needs root.

mod support;

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use support::cgroup::{Cgroup, turn};
use support::imds::{Asked, Imds, Reply};
use support::netns::{AsHost, Netns};
use support::{ANSWER, Agent, Metrics, fixture_hosts, once, run_command, until};

const INFO: &str = "node_cloud_info";
const NOTICE: &str = "node_cloud_interruption_notice";

/// What has nothing to do with clouds and would take time.
const OTHERS_OFF: [&str; 4] =
    ["--collector.tcp=off", "--collector.disk=off", "--collector.resources=off", "--log-level=info"];

/// A cloud as its instances meet it.
struct Provider {
    name: &'static str,
    firmware: (&'static str, &'static str),
    address: Ipv4Addr,
    /// The header that every GET must have, and its value.
    header: (&'static str, &'static str),
    /// The PUT for a token, the header it must have, and its answer.
    token: Option<(&'static str, &'static str, &'static str)>,
    /// What is answered to each GET, the one that nothing goes without first.
    answers: &'static [(&'static str, &'static str)],
    /// Labels of the whole answer, in the order of the family.
    labels: [&'static str; 9],
    /// Which of them the first answer alone gives.
    partial: &'static [usize],
}

const LABELS: [&str; 9] = [
    "account_id",
    "instance_id",
    "instance_type",
    "instance_life_cycle",
    "region",
    "availability_zone",
    "availability_zone_id",
    "local_ipv4",
    "public_ipv4",
];

const LINK_LOCAL: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

#[rustfmt::skip]
const PROVIDERS: &[Provider] = &[
    Provider {
        name: "AWS",
        firmware: ("board_vendor", "Amazon EC2"),
        address: LINK_LOCAL,
        header: ("x-aws-ec2-metadata-token", "TOKEN=="),
        token: Some(("/latest/api/token", "x-aws-ec2-metadata-token-ttl-seconds", "TOKEN==")),
        answers: &[
            ("/latest/dynamic/instance-identity/document", r#"{"accountId":"123456789012","instanceId":"i-0abc","instanceType":"m5.large","region":"eu-west-1","availabilityZone":"eu-west-1a","privateIp":"10.0.0.5"}"#),
            ("/latest/meta-data/instance-life-cycle", "on-demand"),
            ("/latest/meta-data/placement/availability-zone-id", "euw1-az1"),
            ("/latest/meta-data/public-ipv4", "1.2.3.4"),
        ],
        labels: ["123456789012", "i-0abc", "m5.large", "on-demand", "eu-west-1", "eu-west-1a", "euw1-az1", "10.0.0.5", "1.2.3.4"],
        partial: &[0, 1, 2, 4, 5, 7],
    },
    Provider {
        name: "GCP",
        firmware: ("product_name", "Google Compute Engine"),
        address: LINK_LOCAL,
        header: ("metadata-flavor", "Google"),
        token: None,
        answers: &[
            ("/computeMetadata/v1/instance/id", "42"),
            ("/computeMetadata/v1/project/project-id", "proj"),
            ("/computeMetadata/v1/instance/machine-type", "projects/1/machineTypes/e2-medium"),
            ("/computeMetadata/v1/instance/zone", "projects/1/zones/us-central1-a"),
            ("/computeMetadata/v1/instance/scheduling/preemptible", "FALSE"),
            ("/computeMetadata/v1/instance/network-interfaces/0/ip", "10.128.0.2"),
            ("/computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip", "34.1.2.3"),
        ],
        labels: ["proj", "42", "e2-medium", "on-demand", "us-central1", "us-central1-a", "", "10.128.0.2", "34.1.2.3"],
        partial: &[1],
    },
    Provider {
        name: "Azure",
        firmware: ("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77"),
        address: LINK_LOCAL,
        header: ("metadata", "true"),
        token: None,
        answers: &[("/metadata/instance?api-version=2020-09-01&format=json", r#"{"compute":{"vmId":"u-u","vmSize":"Standard_D2","location":"westeurope","zone":"1","subscriptionId":"s","priority":"Regular","name":"vm"},"network":{"interface":[{"ipv4":{"ipAddress":[{"privateIpAddress":"10.0.0.4","publicIpAddress":"5.6.7.8"}]}}]}}"#)],
        labels: ["s", "u-u", "Standard_D2", "on-demand", "westeurope", "1", "", "10.0.0.4", "5.6.7.8"],
        partial: &[0, 1, 2, 3, 4, 5, 7, 8],
    },
    Provider {
        name: "Hetzner",
        firmware: ("sys_vendor", "Hetzner"),
        address: LINK_LOCAL,
        header: ("host", "169.254.169.254"),
        token: None,
        answers: &[
            ("/hetzner/v1/metadata", "availability-zone: fsn1-dc14\nhostname: web\ninstance-id: 42419283\nlocal-ipv4: ''\npublic-ipv4: 95.217.3.4\nregion: eu-central\n"),
            ("/hetzner/v1/metadata/private-networks", "- ip: 10.0.0.2\n  interface_num: 1\n"),
        ],
        labels: ["", "42419283", "", "", "eu-central", "fsn1-dc14", "", "10.0.0.2", "95.217.3.4"],
        partial: &[1, 4, 5, 8],
    },
    Provider {
        name: "DigitalOcean",
        firmware: ("board_vendor", "DigitalOcean"),
        address: LINK_LOCAL,
        header: ("host", "169.254.169.254"),
        token: None,
        answers: &[
            ("/metadata/v1/id", "2756294"),
            ("/metadata/v1/region", "nyc3"),
            ("/metadata/v1/interfaces/private/0/ipv4/address", "10.132.255.113"),
            ("/metadata/v1/interfaces/public/0/ipv4/address", "104.131.20.105"),
        ],
        labels: ["", "2756294", "", "", "nyc3", "nyc3", "", "10.132.255.113", "104.131.20.105"],
        partial: &[1],
    },
    Provider {
        name: "Alibaba",
        firmware: ("sys_vendor", "Alibaba Cloud"),
        address: Ipv4Addr::new(100, 100, 100, 200),
        header: ("x-aliyun-ecs-metadata-token", "TOKEN=="),
        token: Some(("/latest/api/token", "x-aliyun-ecs-metadata-token-ttl-seconds", "TOKEN==")),
        answers: &[
            ("/latest/meta-data/instance-id", "i-bp13znx0"),
            ("/latest/meta-data/owner-account-id", "1609123456789012"),
            ("/latest/meta-data/instance/instance-type", "ecs.g6e.large"),
            ("/latest/meta-data/region-id", "cn-hangzhou"),
            ("/latest/meta-data/zone-id", "cn-hangzhou-i"),
            ("/latest/meta-data/private-ipv4", "192.168.0.5"),
            ("/latest/meta-data/eipv4", "120.55.1.2"),
        ],
        labels: ["1609123456789012", "i-bp13znx0", "ecs.g6e.large", "", "cn-hangzhou", "cn-hangzhou-i", "", "192.168.0.5", "120.55.1.2"],
        partial: &[1],
    },
    Provider {
        name: "Scaleway",
        firmware: ("sys_vendor", "Scaleway"),
        address: Ipv4Addr::new(169, 254, 42, 42),
        header: ("host", "169.254.42.42"),
        token: None,
        answers: &[("/conf", "ID=7f1b8c7e\nCOMMERCIAL_TYPE=DEV1-S\nORGANIZATION=ecc1c86a\nPUBLIC_IP_ADDRESS=51.15.1.2\nPRIVATE_IP=10.68.1.2\nZONE='fr-par-1'\n")],
        labels: ["ecc1c86a", "7f1b8c7e", "DEV1-S", "", "fr-par", "fr-par-1", "", "10.68.1.2", "51.15.1.2"],
        partial: &[0, 1, 2, 4, 5, 7, 8],
    },
    Provider {
        name: "Oracle",
        firmware: ("chassis_asset_tag", "OracleCloud.com"),
        address: LINK_LOCAL,
        header: ("authorization", "Bearer Oracle"),
        token: None,
        answers: &[
            ("/opc/v2/instance/", r#"{"id":"ocid1.instance","tenantId":"ocid1.tenancy","shape":"VM.Standard","canonicalRegionName":"eu-frankfurt-1","availabilityDomain":"Uocm:EU-FRANKFURT-1-AD-2"}"#),
            ("/opc/v2/vnics/", r#"[{"privateIp":"10.0.3.6"}]"#),
        ],
        labels: ["ocid1.tenancy", "ocid1.instance", "VM.Standard", "", "eu-frankfurt-1", "eu-frankfurt-1-ad-2", "", "10.0.3.6", ""],
        partial: &[0, 1, 2, 4, 5],
    },
    Provider {
        name: "IBM",
        firmware: ("chassis_vendor", "IBM:Cloud Compute Server 1.0:bx2-2x8"),
        address: LINK_LOCAL,
        header: ("authorization", "Bearer eyJ.x"),
        token: Some(("/instance_identity/v1/token?version=2025-04-22", "metadata-flavor", r#"{"access_token":"eyJ.x"}"#)),
        answers: &[("/metadata/v1/instance?version=2025-04-22", r#"{"crn":"crn:v1:bluemix:public:is:us-south-1:a/123456::instance:0717_1e","id":"0717_1e","profile":{"name":"bx2-2x8"},"zone":{"name":"us-south-1"},"primary_network_interface":{"primary_ip":{"address":"10.0.0.32"}}}"#)],
        labels: ["123456", "0717_1e", "bx2-2x8", "", "us-south", "us-south-1", "", "10.0.0.32", ""],
        partial: &[0, 1, 2, 4, 5, 7],
    },
];

fn provider(name: &str) -> &'static Provider {
    PROVIDERS.iter().find(|provider| provider.name == name).unwrap()
}

impl Provider {
    /// A well-behaved service's answer; what must not be asked is refused.
    fn answer(&self, asked: &Asked) -> Reply {
        let (method, path) = asked.what.split_once(' ').unwrap();
        let refused = Reply::Say(401, String::new());
        if let Some((_, header, answer)) = self.token.filter(|(known, ..)| (method, path) == ("PUT", known)) {
            let is_right = !asked.header(header).is_empty() && !asked.header("content-length").is_empty();
            return if is_right { Reply::Say(200, answer.to_owned()) } else { refused };
        }
        if method != "GET" || asked.header(self.header.0) != self.header.1 {
            return refused;
        }
        let found = self.answers.iter().find(|(known, _)| *known == path);
        found.map_or(Reply::Say(404, "<html>".to_owned()), |(_, body)| Reply::Say(200, (*body).to_owned()))
    }

    fn is_for_token(&self, asked: &Asked) -> bool {
        self.token.is_some() && asked.what.starts_with("PUT ")
    }

    fn host(&self, netns: &Netns) -> AsHost {
        AsHost::with_firmware(netns, &[self.firmware], true)
    }

    /// Fails unless the family says of the whole answer what is at `known`, and nothing else.
    #[track_caller]
    fn assert_labels(&self, metrics: &Metrics, known: &[usize], what: &str) {
        let found = metrics.series(INFO);
        assert_eq!(found.len(), 1, "{} {what}", self.name);
        let label = |name: &str| found[0].label(name);
        assert_eq!(label("provider"), self.name, "{what}");
        for (at, name) in LABELS.into_iter().enumerate() {
            let expected = if known.contains(&at) { self.labels[at] } else { "" };
            assert_eq!(label(name), expected, "{} {what}: {name}", self.name);
        }
    }
}

/// What `once` says of a host, how long that took, and its stderr.
#[track_caller]
fn observe(host: &AsHost, args: &[&str]) -> (Metrics, Duration, String) {
    let mut command = Command::new(host.binary());
    command.arg("once").args(OTHERS_OFF).args(args);
    let began = Instant::now();
    let output = run_command(command, ANSWER);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    (Metrics::parse(std::str::from_utf8(&output.stdout).unwrap()), began.elapsed(), said)
}

fn is_up(metrics: &Metrics) -> bool {
    metrics.value("nodeprobe_collector_up", &[("collector", "cloud")]) == Some(1.0)
}

const ALL: [usize; 9] = [0, 1, 2, 3, 4, 5, 6, 7, 8];

/// Starts an agent on a host in a namespace, which the calling thread must be in.
#[track_caller]
fn start(host: &AsHost, args: &[&str]) -> Agent {
    Agent::start_binary(&host.binary(), &[&OTHERS_OFF, args].concat())
}

/// Every cloud, well-behaved and not.
#[test]
fn every_cloud_is_asked_as_it_wants_and_believed_as_far_as_it_makes_sense() {
    let _turn = turn();
    for provider in PROVIDERS {
        let netns = Netns::new("imds");
        let imds = Imds::start(&netns, provider.address);
        let host = provider.host(&netns);

        imds.behave(|asked| provider.answer(asked));
        let (metrics, took, said) = observe(&host, &[]);
        println!("{}: whole in {took:?}", provider.name);
        provider.assert_labels(&metrics, &ALL, "whole");
        assert!(is_up(&metrics), "{said}");
        let asked = imds.take_asked();
        assert_eq!(
            asked.iter().filter(|asked| provider.is_for_token(asked)).count(),
            provider.token.iter().count()
        );
        assert!(asked.len() <= 9, "{asked:?}");
        assert!(asked.iter().all(|asked| asked.header("user-agent").starts_with("nodeprobe/")), "{asked:?}");

        let first = provider.answers[0].0;
        imds.behave(move |asked| match asked.what.split_once(' ').unwrap() {
            ("GET", path) if path != first => Reply::Say(404, String::new()),
            _ => provider.answer(asked),
        });
        let (metrics, _, said) = observe(&host, &[]);
        provider.assert_labels(&metrics, provider.partial, "partial");
        assert!(is_up(&metrics), "{said}");

        let mut large = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        large.resize(200_000, b'x');
        let misbehaviours: &[(&str, Reply, &str)] = &[
            ("404", Reply::Say(404, "<html>not here</html>".to_owned()), "status 404"),
            ("500", Reply::Say(500, String::new()), "status 500"),
            ("a redirect", Reply::Elsewhere, "status 302"),
            ("a page", Reply::Say(200, "<html>please log in</html>".to_owned()), " "),
            ("garbage", Reply::Bytes(b"\0\xff".repeat(5000)), "no HTTP"),
            ("a large body", Reply::Bytes(large), "a body too large"),
            (
                "a cut body",
                Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ni-0".to_vec()),
                "a body cut short",
            ),
            ("a slow drip", Reply::Drip, "no answer in time"),
            ("silence", Reply::Silence, "no answer in time"),
        ];
        for (what, reply, problem) in misbehaviours {
            let reply = reply.clone();
            imds.take_asked();
            imds.behave(move |_| reply.clone());
            let (metrics, took, said) = observe(&host, &[]);
            provider.assert_labels(&metrics, &[], what);
            assert!(!is_up(&metrics), "{} {what}", provider.name);
            assert!(
                said.contains(&format!("metadata of {}: {}", provider.name, provider.address)),
                "{what}: {said}"
            );
            assert!(said.contains(problem), "{} {what}: {said}", provider.name);
            // Three seconds for the inquiry; the rest is the agent's start on a busy machine.
            assert!(took < Duration::from_secs(10), "{} {what}: {took:?}", provider.name);
            let asked = imds.take_asked();
            assert!(
                asked.len() <= 9 && asked.iter().all(|asked| !asked.what.contains("elsewhere")),
                "{asked:?}"
            );
        }
    }
}

/// Where only the old version of the service is there, or the new one's answer does not come through.
#[test]
fn without_a_token_the_old_version_is_asked() {
    let _turn = turn();
    let aws = provider("AWS");
    let netns = Netns::new("v1");
    let imds = Imds::start(&netns, aws.address);
    let host = aws.host(&netns);
    for refuse in [Reply::Say(404, String::new()), Reply::Say(403, String::new()), Reply::Silence] {
        imds.behave(move |asked| {
            if asked.what.starts_with("PUT ") {
                return refuse.clone();
            }
            assert_eq!(asked.header("x-aws-ec2-metadata-token"), "");
            let path = asked.what.strip_prefix("GET ").unwrap();
            let found = aws.answers.iter().find(|(known, _)| *known == path).unwrap();
            Reply::Say(200, found.1.to_owned())
        });
        let (metrics, _, said) = observe(&host, &[]);
        aws.assert_labels(&metrics, &ALL, "v1");
        assert!(is_up(&metrics), "{said}");
    }
}

/// A namespace with a way out, whose other end takes all that comes and answers nothing; and that end.
fn swallowing(purpose: &str) -> (Netns, Netns) {
    let (netns, world) = (Netns::new(purpose), Netns::new("world"));
    // The kernel itself would send to neighbours.
    netns.sysctl("ipv6/conf/all/disable_ipv6", "1");
    netns.sysctl("ipv6/conf/default/disable_ipv6", "1");
    // Namespaces begin with what the host has: a router would answer that there is no way.
    world.sysctl("ipv4/ip_forward", "0");
    netns.cable("out", &["10.9.9.1/24"], &world, "in", &["10.9.9.2/24"]);
    netns.ip("route add default via 10.9.9.2");
    (netns, world)
}

/// Packets that have left by the way out.
#[track_caller]
fn packets(netns: &Netns) -> u64 {
    let mut command = Command::new("cat");
    command.arg("/proc/net/dev");
    netns.enter(&mut command);
    let text = support::netns::output(command);
    let line = text.lines().find_map(|line| line.trim().strip_prefix("out:")).unwrap();
    line.split_whitespace().nth(9).unwrap().parse().unwrap()
}

/// Off the clouds, with the collector off, and of a copy of a host, no packet leaves the machine.
#[test]
fn no_packet_leaves_unless_the_firmware_says_so() {
    let _turn = turn();
    let (netns, _world) = swallowing("silent");
    netns.enter_thread();
    let aws = provider("AWS").firmware;
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);
    let hosts: &[Case<'_>] = &[
        ("no firmware", &[], &[]),
        ("a server", &[("sys_vendor", "Dell Inc."), ("board_vendor", "Dell Inc.")], &[]),
        (
            "Hyper-V at home",
            &[("sys_vendor", "Microsoft Corporation"), ("board_vendor", "Microsoft Corporation")],
            &[],
        ),
        ("a Chromebook", &[("sys_vendor", "Google"), ("board_vendor", "Google")], &[]),
        ("flags that name a cloud", &[], &["--provider=AWS", "--region=eu-west-1"]),
        ("switched off", &[aws], &["--collector.cloud=off"]),
    ];
    for (what, firmware, args) in hosts {
        let host = AsHost::with_firmware(&netns, firmware, true);
        let agent = start(&host, &[args, &["--interval=1s"][..]].concat());
        // What the loop does by itself it has done by then.
        let metrics = until("an interval goes by", ANSWER, || {
            let metrics = agent.scrape();
            (metrics.value("nodeprobe_uptime_seconds", &[])? > 1.2).then_some(metrics)
        });
        let labels: &[(&str, &str)] = match *what {
            "flags that name a cloud" => &[("provider", "AWS"), ("region", "eu-west-1")],
            _ => &[("provider", ""), ("region", "")],
        };
        assert_eq!(metrics.value(INFO, &[labels, &[("instance_id", "")]].concat()), Some(1.0), "{what}");
        assert!(metrics.series(NOTICE).is_empty());
        assert_eq!(packets(&netns), 0, "{what}");
    }
    // The same way out does count.
    let host = AsHost::with_firmware(&netns, &[aws], true);
    let _agent = start(&host, &[]);
    until("a packet leaves when the firmware says AWS", ANSWER, || (packets(&netns) > 0).then_some(()));
}

/// A copy of a host's files has its cloud's name, and nobody is asked.
#[test]
fn a_copy_of_an_instance_asks_nobody() {
    let _turn = turn();
    let (netns, _world) = swallowing("copy");
    netns.enter_thread();
    let host = fixture_hosts().into_iter().find(|host| host.ends_with("systemd-v2")).unwrap();
    let copy = support::TempDir::new("copy");
    support::copy_tree(&host, copy.path());
    std::fs::write(copy.path().join("sys/devices/virtual/dmi/id/sys_vendor"), "Hetzner\n").unwrap();
    let text = once(&[&format!("--root={}", copy.path().display())]);
    let metrics = Metrics::parse(&text);
    assert_eq!(metrics.value(INFO, &[("provider", "Hetzner"), ("instance_id", "")]), Some(1.0));
    let reason = [("collector", "cloud"), ("reason", "not_live")];
    assert_eq!(metrics.value("nodeprobe_collector_info", &reason), Some(1.0));
    assert_eq!(packets(&netns), 0);
}

/// The first scrape does not wait for a service that does not answer: not as long as a request may take, nor does any turn
/// of the loop.
#[test]
fn the_first_scrape_is_as_fast_with_a_black_hole_as_without() {
    let _turn = turn();
    const ROUNDS: usize = 9;
    let (netns, _world) = swallowing("hole");
    netns.enter_thread();
    let aws = provider("AWS");
    let (hole, none) =
        (AsHost::with_firmware(&netns, &[aws.firmware], true), AsHost::with_firmware(&netns, &[], true));
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (host, times) in [&hole, &none].into_iter().zip(&mut times) {
            let began = Instant::now();
            let agent = start(host, &[]);
            let metrics = agent.scrape_once();
            times.push(began.elapsed());
            let turns = |bound: &[(&str, &str)], name: &str| metrics.value(name, bound).unwrap();
            let all = turns(&[], "nodeprobe_loop_turn_seconds_count");
            assert_eq!(turns(&[("le", "0.1")], "nodeprobe_loop_turn_seconds_bucket"), all, "a turn waited");
            // What may still be coming is not waited for.
            let expected = if std::ptr::eq(host, &hole) { "AWS" } else { "" };
            assert_eq!(metrics.value(INFO, &[("provider", expected), ("instance_id", "")]), Some(1.0));
        }
    }
    assert!(packets(&netns) > 0);
    for times in &mut times {
        times.sort_unstable();
    }
    let [hole, none] = times.map(|times| times[ROUNDS / 2]);
    println!("start to first scrape: {hole:?} with a black hole, {none:?} without, median of {ROUNDS}");
    assert!(hole.as_secs_f64() < 1.5 * none.as_secs_f64(), "{hole:?} with a black hole, {none:?} without");
}

/// A black hole takes an inquiry no longer than its first connection, and the next ones come less and less often.
#[test]
fn a_black_hole_is_left_alone_more_and_more() {
    let _turn = turn();
    let (netns, _world) = swallowing("pause");
    netns.enter_thread();
    let host = provider("Azure").host(&netns);
    let agent = start(&host, &[]);
    let began = Instant::now();
    until("two inquiries have failed", ANSWER, || {
        (packets(&netns) >= 2 && began.elapsed() > Duration::from_secs(8)).then_some(())
    });
    // At 0, 3 and 8 seconds: a second for each connection, then 2 and 4 seconds of pause. A SYN is sent once in that second,
    // or twice.
    let sent = packets(&netns);
    println!("{sent} packets in {:?}", began.elapsed());
    assert!((2..=6).contains(&sent), "{sent} packets");
    let metrics = agent.scrape();
    assert!(!is_up(&metrics));
    let said = agent.stderr().join("\n");
    assert_eq!(said.matches("metadata of Azure: ").count(), 1, "{said}");
}

/// It is asked again until it answers, and containers get their labels when it does.
#[test]
fn labels_come_when_the_metadata_does() {
    let _turn = turn();
    let gcp = provider("GCP");
    let netns = Netns::new("late");
    netns.enter_thread();
    let imds = Imds::start(&netns, gcp.address);
    imds.behave(|_| Reply::Say(503, String::new()));
    let cgroup = Cgroup::docker(None);
    let host = gcp.host(&netns);
    let agent = Agent::start_binary(&host.binary(), &["--collector.tcp=off", "--collector.disk=off"]);
    let id = cgroup.container_id();
    let of_container = |metrics: &Metrics| {
        let all = metrics.all().iter().filter(|series| series.label("container_id") == id);
        all.cloned().collect::<Vec<_>>()
    };
    let early = until("a failed inquiry and the container", ANSWER, || {
        let metrics = agent.scrape();
        (!is_up(&metrics) && !of_container(&metrics).is_empty()).then_some(metrics)
    });
    assert!(early.all().iter().all(|series| series.label("az").is_empty()));
    let families = of_container(&early).len();

    imds.behave(|asked| gcp.answer(asked));
    let late = until("labels", ANSWER, || {
        let metrics = agent.scrape();
        is_up(&metrics).then_some(metrics)
    });
    gcp.assert_labels(&late, &ALL, "after a failure");
    assert!(of_container(&late).len() >= families);
    for series in late.all() {
        let is_of_container = series.name.starts_with("container_");
        let expected =
            if is_of_container { ["us-central1-a", "us-central1"] } else { ["", series.label("region")] };
        assert_eq!([series.label("az"), series.label("region")], expected, "{series:?}");
    }
}

/// Flags make labels at once, and only both of them.
#[test]
fn flags_make_labels_at_once() {
    let _turn = turn();
    let host = fixture_hosts().into_iter().find(|host| host.ends_with("docker-v2")).unwrap();
    let root = format!("--root={}", host.display());
    let count = |flags: &[&str], labels: &[(&str, &str)]| {
        let metrics = Metrics::parse(&once(&[&[root.as_str(), "--log-level=error"], flags].concat()));
        let containers: Vec<_> =
            metrics.all().iter().filter(|series| series.name.starts_with("container_")).collect();
        let with = metrics.all().iter().filter(|series| !series.label("az").is_empty());
        let right = containers
            .iter()
            .filter(|series| labels.iter().all(|(name, value)| series.label(name) == *value));
        (containers.len(), with.count(), right.count())
    };
    let (all, none, _) = count(&[], &[]);
    assert!(all > 0 && none == 0);
    let both = ["--region=r", "--availability-zone=z"];
    assert_eq!(count(&both, &[("az", "z"), ("region", "r")]), (all, all, all));
    assert_eq!(count(&[both[0]], &[]), (all, 0, all));
    assert_eq!(count(&[both[1]], &[]), (all, 0, all));
    assert_eq!(count(&[both[0], both[1], "--collector.cloud=off"], &[("az", "z")]), (all, all, all));
}

/// Flags stand above what the service says.
#[test]
fn flags_stand_above_metadata() {
    let _turn = turn();
    let aws = provider("AWS");
    let netns = Netns::new("flags");
    let imds = Imds::start(&netns, aws.address);
    imds.behave(|asked| aws.answer(asked));
    let flags = [
        "--provider=p",
        "--region=r",
        "--availability-zone=z",
        "--instance-type=t",
        "--instance-life-cycle=l",
    ];
    let (metrics, _, _) = observe(&aws.host(&netns), &flags);
    let labels = [
        ("provider", "p"),
        ("region", "r"),
        ("availability_zone", "z"),
        ("instance_type", "t"),
        ("instance_life_cycle", "l"),
        ("instance_id", "i-0abc"),
    ];
    assert_eq!(metrics.value(INFO, &labels), Some(1.0));
    let (metrics, _, _) = observe(&aws.host(&netns), &[&flags[..2], &["--collector.cloud=off"]].concat());
    assert_eq!(metrics.value(INFO, &[("provider", "p"), ("region", "r"), ("instance_id", "")]), Some(1.0));
}

/// The agent's own namespace has no way to the service; the host's has.
#[test]
fn the_service_is_asked_from_the_hosts_namespace() {
    let _turn = turn();
    let aws = provider("AWS");
    let (host, own) = (Netns::new("host"), Netns::new("own"));
    let imds = Imds::start(&host, aws.address);
    imds.behave(|asked| aws.answer(asked));
    own.enter_thread();
    let as_host = AsHost::with_firmware(&host, &[aws.firmware], false);
    let (metrics, _, said) = observe(&as_host, &[]);
    assert!(is_up(&metrics), "{said}");
    aws.assert_labels(&metrics, &ALL, "from the host's namespace");
}

/// Clouds that take instances away say so first; only such instances are asked about.
#[test]
fn notices_of_the_end_are_heard() {
    let _turn = turn();
    let cases = [
        (
            "AWS",
            ("/latest/meta-data/instance-life-cycle", "on-demand", "spot"),
            "/latest/meta-data/spot/instance-action",
            Reply::Say(404, String::new()),
            r#"{"action":"terminate","time":"2017-09-18T08:22:00Z"}"#,
        ),
        (
            "GCP",
            ("/computeMetadata/v1/instance/scheduling/preemptible", "FALSE", "TRUE"),
            "/computeMetadata/v1/instance/preempted",
            Reply::Say(200, "FALSE".to_owned()),
            "TRUE",
        ),
        (
            "Azure",
            ("/metadata/instance?api-version=2020-09-01&format=json", "Regular", "Spot"),
            "/metadata/scheduledevents?api-version=2020-07-01",
            Reply::Say(200, r#"{"DocumentIncarnation":1,"Events":[]}"#.to_owned()),
            r#"{"DocumentIncarnation":2,"Events":[{"EventType":"Preempt","Resources":["vm"]}]}"#,
        ),
    ];
    for (name, (place, lasting, fleeting), path, nothing, notice) in cases {
        let provider = provider(name);
        let netns = Netns::new("notice");
        let imds = Imds::start(&netns, provider.address);
        let host = provider.host(&netns);
        netns.enter_thread();
        let is_asked = move |asked: &Asked| asked.what == format!("GET {path}");

        imds.behave(|asked| provider.answer(asked));
        let agent = start(&host, &[]);
        let metrics = until("the metadata of an instance that stays", ANSWER, || {
            let metrics = agent.scrape();
            metrics.value(INFO, &[("instance_life_cycle", "on-demand")]).map(|_| metrics)
        });
        assert!(metrics.series(NOTICE).is_empty());
        drop(agent);
        assert!(!imds.take_asked().iter().any(is_asked));

        let behave = |reply: Reply| {
            imds.behave(move |asked| match provider.answer(asked) {
                Reply::Say(200, body) if asked.what == format!("GET {place}") => {
                    Reply::Say(200, body.replace(lasting, fleeting))
                }
                Reply::Say(401, body) => Reply::Say(401, body),
                _ if is_asked(asked) => reply.clone(),
                answer => answer,
            });
        };
        behave(nothing);
        let agent = start(&host, &[]);
        let value = |expected: f64| {
            until(&format!("notice {expected} of {name}"), ANSWER, || {
                (agent.scrape().value(NOTICE, &[]) == Some(expected)).then_some(())
            });
        };
        value(0.0);
        behave(Reply::Say(200, notice.to_owned()));
        let began = Instant::now();
        value(1.0);
        println!("{name}: heard after {:?}", began.elapsed());
        // It is still 1 when the service has broken down.
        behave(Reply::Say(500, String::new()));
        imds.take_asked();
        until("it is asked again", ANSWER, || imds.take_asked().iter().any(is_asked).then_some(()));
        value(1.0);
    }
}
