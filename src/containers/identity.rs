//! The `container_id` and `app_id` labels: from a cgroup's class and what its runtime says of it to one stable name.
//!
//! The strings are coroot-node-agent's, so dashboards that know `/k8s/NS/POD/C`,
//! `/docker/NAME` or `/system.slice/x.service` keep working. Beyond it: podman, plain containerd, LXC, machines and users'
//! units have names too, and a container whose metadata is not there yet stands under its runtime and the start of its id.

use std::net::SocketAddr;

use crate::containers::classify::{Class, Runtime};

/// Digits of an id that stand for it, as in `docker ps`.
const SHORT_ID: usize = 12;
/// Longest name taken from metadata, in bytes: Kubernetes allows 253, and a label made of five stays below 1.5 KiB.
const MAX_NAME: usize = 256;
/// How far from now a cron job's schedule may lie for its number to be a time.
const CRONJOB_WINDOW_S: u64 = 7 * 86_400;

/// Label of the pod's name; every reader uses these three, whatever its runtime calls them.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// Label of the pod's namespace.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Label of the container's name inside the pod.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";

/// How lines of a log file are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Docker's json-file: an object with `log`, `stream`, `time`.
    DockerJson,
    /// Docker's local driver: protocol buffers, each between two lengths.
    DockerLocal,
    /// The runtime interface of Kubernetes: time, stream, `P` or `F`, text. Podman's k8s-file and json-file are the same.
    Cri,
}

/// Where a container's output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    /// Absolute path on the host.
    pub path: String,
    /// How its lines are written.
    pub format: LogFormat,
}

/// What a runtime's own files say of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The runtime that knew it; for a bare id it can be another one than the path suggested.
    pub source: Runtime,
    /// The name people use, without a leading slash; empty if there is none.
    pub name: String,
    /// The image as it was asked for.
    pub image: String,
    /// A pod's own container, which holds its namespaces and does nothing.
    pub pause: bool,
    /// Labels, those of Kubernetes under their docker names ([`POD_NAME`] and so on).
    pub labels: Vec<(String, String)>,
    /// The variables whose name starts with `NOMAD_`; others may be secrets and are not kept.
    pub env: Vec<(String, String)>,
    /// Mounts from outside: destination in the container, source on the host.
    pub volumes: Vec<(String, String)>,
    /// Addresses of the host that are its published TCP ports; all of the host's if unspecified.
    pub published: Vec<SocketAddr>,
    /// The runtime has not written down yet what it learns at a start, published ports above all.
    pub starting: bool,
    /// Names of its networks, where the runtime says.
    pub networks: Vec<String>,
    /// Its output, if that is a file.
    pub log: Option<LogFile>,
    /// When it was created, in seconds since 1970.
    pub created_s: Option<u64>,
    /// When it was started last, in seconds since 1970.
    pub started_s: Option<u64>,
}

impl Metadata {
    /// Metadata that says nothing yet.
    pub fn new(source: Runtime) -> Metadata {
        Metadata {
            source,
            name: String::new(),
            image: String::new(),
            pause: false,
            labels: Vec::new(),
            env: Vec::new(),
            volumes: Vec::new(),
            published: Vec::new(),
            starting: false,
            networks: Vec::new(),
            log: None,
            created_s: None,
            started_s: None,
        }
    }

    /// A label's value.
    pub fn label(&self, name: &str) -> Option<&str> {
        value(&self.labels, name)
    }
}

/// What to call a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Its final `container_id`.
    Named(String),
    /// Its metadata was not found: a `container_id` until it is.
    Provisional(String),
    /// Not to be exported: a pod's pause container.
    Ignored,
}

/// The `container_id` of a container. `now_s` tells cron jobs' times from other numbers.
pub fn container_id(class: &Class<'_>, metadata: Option<&Metadata>, now_s: u64) -> Identity {
    match class.runtime {
        Runtime::Systemd => return Identity::Named(unescape(class.id)),
        Runtime::UserUnit => return Identity::Named(user_unit(class.id)),
        Runtime::Rule => return Identity::Named(class.id.to_owned()),
        Runtime::Lxc | Runtime::Nspawn | Runtime::Talos => {
            return Identity::Named(format!("/{}/{}", word(class.runtime), unescape(class.id)));
        }
        _ => {}
    }
    let short = class.id.get(..SHORT_ID).unwrap_or(class.id);
    let Some(metadata) = metadata else {
        return Identity::Provisional(format!("/{}/{short}", word(class.runtime)));
    };
    if metadata.pause {
        return Identity::Ignored;
    }
    if metadata.label(POD_NAME).is_some() {
        return kubernetes(metadata, now_s);
    }
    let name = if metadata.name.is_empty() { short } else { bounded(&metadata.name) };
    Identity::Named(
        swarm(metadata)
            .or_else(|| nomad(metadata))
            .unwrap_or_else(|| format!("/{}/{name}", word(metadata.source))),
    )
}

/// The `app_id` of a container: what the replicas of a Kubernetes workload have in common, else empty.
pub fn app_id(container_id: &str) -> String {
    let mut parts = container_id.strip_prefix("/k8s/").unwrap_or_default().splitn(3, '/');
    let (Some(namespace), Some(pod), Some(_)) = (parts.next(), parts.next(), parts.next()) else {
        return String::new();
    };
    let Some((left, suffix)) = pod.rsplit_once('-') else {
        return String::new();
    };
    let deployment = || {
        let (name, hash) = left.rsplit_once('-')?;
        let is_hash = (1..=10).contains(&hash.len())
            && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (is_hash && is_pod_suffix(suffix)).then_some(name)
    };
    let daemonset = || is_pod_suffix(suffix).then_some(left);
    let statefulset = || is_number(suffix).then_some(left);
    match deployment().or_else(daemonset).or_else(statefulset) {
        Some(name) if !name.is_empty() => format!("/k8s/{namespace}/{name}"),
        _ => String::new(),
    }
}

/// The first part of a `container_id`.
fn word(runtime: Runtime) -> &'static str {
    match runtime {
        Runtime::Docker => "docker",
        Runtime::Containerd | Runtime::Nerdctl => "containerd",
        Runtime::Crio => "crio",
        Runtime::Podman => "podman",
        Runtime::Lxc => "lxc",
        Runtime::Nspawn => "machine",
        Runtime::Talos => "talos",
        Runtime::Systemd | Runtime::UserUnit => "systemd",
        Runtime::Rule => "rule",
    }
}

fn kubernetes(metadata: &Metadata, now_s: u64) -> Identity {
    let label = |name| bounded(metadata.label(name).unwrap_or_default());
    let (namespace, pod, container) = (label(POD_NAMESPACE), label(POD_NAME), label(CONTAINER_NAME));
    // dockershim calls the pause container POD, containerd and CRI-O give it no name.
    if container.is_empty() || container == "POD" {
        return Identity::Ignored;
    }
    Identity::Named(match cronjob(pod, now_s) {
        Some(name) => format!("/k8s-cronjob/{namespace}/{name}/{container}"),
        None => format!("/k8s/{namespace}/{pod}/{container}"),
    })
}

/// `NAME-<minutes since 1970>-<suffix>` is a run of the cron job NAME, if the time is about now.
fn cronjob(pod: &str, now_s: u64) -> Option<&str> {
    let (left, suffix) = pod.rsplit_once('-')?;
    let (name, minutes) = left.rsplit_once('-')?;
    if name.is_empty() || minutes.len() != 8 || !is_number(minutes) || !is_pod_suffix(suffix) {
        return None;
    }
    let scheduled_s = minutes.parse::<u64>().ok()? * 60;
    (scheduled_s.abs_diff(now_s) <= CRONJOB_WINDOW_S).then_some(name)
}

/// Swarm tasks are named `SERVICE.SLOT.ID`.
fn swarm(metadata: &Metadata) -> Option<String> {
    let mut task = metadata.label("com.docker.swarm.task.name")?.split('.');
    let (Some(_), Some(slot), Some(_), None) = (task.next(), task.next(), task.next(), task.next()) else {
        return None;
    };
    let stack = metadata.label("com.docker.stack.namespace").unwrap_or_default();
    let service = metadata.label("com.docker.swarm.service.name").unwrap_or_default();
    let service = service.strip_prefix(stack).and_then(|rest| rest.strip_prefix('_')).unwrap_or(service);
    let stack = if stack.is_empty() { "_" } else { stack };
    Some(format!("/swarm/{}/{}/{}", bounded(stack), bounded(service), bounded(slot)))
}

/// Nomad tells its tasks who they are through their environment.
fn nomad(metadata: &Metadata) -> Option<String> {
    let env = |name| value(&metadata.env, name).filter(|value| !value.is_empty()).map(bounded);
    Some(format!(
        "/nomad/{}/{}/{}/{}/{}",
        env("NOMAD_NAMESPACE")?,
        env("NOMAD_JOB_NAME")?,
        env("NOMAD_GROUP_NAME")?,
        env("NOMAD_ALLOC_ID")?,
        env("NOMAD_TASK_NAME")?
    ))
}

/// `/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service` is `/user.slice/user-1000.slice/foo.service`: the
/// user's systemd and the slices it sorts units into say nothing that a reader needs, the user does.
fn user_unit(path: &str) -> String {
    let mut parts = path.trim_start_matches('/').split('/');
    match (parts.next(), parts.next(), parts.next_back()) {
        (Some(top), Some(user), Some(unit)) => format!("/{top}/{user}/{}", unescape(unit)),
        _ => unescape(path),
    }
}

/// systemd writes a dash inside a name as `\x2d`, since a dash alone parts the levels of slices.
pub(super) fn unescape(name: &str) -> String {
    name.replace(r"\x2d", "-")
}

/// The five characters at the end of a generated name: no vowels, so no words, and nothing that looks like another.
fn is_pod_suffix(text: &str) -> bool {
    text.len() == 5 && text.bytes().all(|byte| b"bcdfghjklmnpqrstvwxz2456789".contains(&byte))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// At most [`MAX_NAME`] bytes of a name, whole characters.
pub(super) fn bounded(name: &str) -> &str {
    name.get(..name.floor_char_boundary(MAX_NAME)).unwrap_or_default()
}

fn value<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::classify::classify;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    /// 2026-11-21, in minutes 29,921,760.
    const NOW_S: u64 = 1_795_305_600;

    fn named(path: &str, metadata: Option<&Metadata>) -> Identity {
        container_id(&classify(&path.replace("ID", ID)).unwrap(), metadata, NOW_S)
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn labelled(labels: &[(&str, &str)]) -> Metadata {
        Metadata { name: "web".to_owned(), labels: pairs(labels), ..Metadata::new(Runtime::Docker) }
    }

    fn pod(pod: &str, container: &str) -> Identity {
        let labels = [(POD_NAME, pod), (POD_NAMESPACE, "prod"), (CONTAINER_NAME, container)];
        named("/kubepods/pod1/ID", Some(&labelled(&labels)))
    }

    fn is(id: &str) -> Identity {
        Identity::Named(id.to_owned())
    }

    #[test]
    fn without_metadata() {
        for (path, id) in [
            ("/system.slice/nginx.service/x", "/system.slice/nginx.service"),
            (
                r"/system.slice/system-serial\x2dgetty.slice/x.service",
                "/system.slice/system-serial-getty.slice",
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service",
                "/user.slice/user-1000.slice/foo.service",
            ),
            (
                "/user.slice/user-0.slice/user@0.service/app.slice/app-a.slice/a@1.service",
                "/user.slice/user-0.slice/app-a.slice",
            ),
            ("/user.slice/user-0.slice/user@0.service/dbus.service", "/user.slice/user-0.slice/dbus.service"),
            ("/lxc.payload.web/init.scope", "/lxc/web"),
            ("/machine.slice/systemd-nspawn@deb.service", "/machine/deb"),
            (r"/machine.slice/machine-qemu\x2d1\x2dvm.scope", "/machine/qemu-1-vm"),
            ("/init", "/talos/init"),
            ("/podruntime/kubelet", "/talos/kubelet"),
        ] {
            assert_eq!(named(path, None), is(id));
        }
        for (path, id) in [
            ("/docker/ID", "/docker/0123456789ab"),
            ("/kubepods/pod1/crio-ID", "/crio/0123456789ab"),
            ("/kubepods/pod1/cri-containerd-ID", "/containerd/0123456789ab"),
            ("/machine.slice/libpod-ID.scope/container", "/podman/0123456789ab"),
            ("/default/ID", "/containerd/0123456789ab"),
        ] {
            assert_eq!(named(path, None), Identity::Provisional(id.to_owned()));
        }
    }

    #[test]
    fn names() {
        let with = |source, name: &str| Metadata { name: name.to_owned(), ..Metadata::new(source) };
        assert_eq!(named("/docker/ID", Some(&with(Runtime::Docker, "web"))), is("/docker/web"));
        assert_eq!(named("/docker/ID", Some(&with(Runtime::Docker, ""))), is("/docker/0123456789ab"));
        assert_eq!(named("/default/ID", Some(&with(Runtime::Nerdctl, "db"))), is("/containerd/db"));
        assert_eq!(named("/x.slice/libpod-ID", Some(&with(Runtime::Podman, "pod"))), is("/podman/pod"));
        // The path looked like containerd, docker knew it (--cgroup-parent).
        assert_eq!(named("/jobs/ID", Some(&with(Runtime::Docker, "job"))), is("/docker/job"));
        let long = named("/docker/ID", Some(&with(Runtime::Docker, &"é".repeat(1000))));
        assert_eq!(long, is(&format!("/docker/{}", "é".repeat(128))));
    }

    #[test]
    fn kubernetes_names() {
        assert_eq!(pod("web-0", "nginx"), is("/k8s/prod/web-0/nginx"));
        assert_eq!(pod("web-0", "POD"), Identity::Ignored);
        assert_eq!(pod("web-0", ""), Identity::Ignored);
        let pause = Metadata { pause: true, ..Metadata::new(Runtime::Containerd) };
        assert_eq!(named("/kubepods/pod1/ID", Some(&pause)), Identity::Ignored);
        // Cron jobs: the number is minutes since 1970, within a week of now.
        assert_eq!(pod("backup-29921760-bcdfg", "c"), is("/k8s-cronjob/prod/backup/c"));
        assert_eq!(pod("a-b-29911680-24578", "c"), is("/k8s-cronjob/prod/a-b/c"));
        assert_eq!(pod("backup-29911679-bcdfg", "c"), is("/k8s/prod/backup-29911679-bcdfg/c"));
        assert_eq!(pod("backup-29931840-bcdfg", "c"), is("/k8s-cronjob/prod/backup/c"));
        assert_eq!(pod("backup-29931841-bcdfg", "c"), is("/k8s/prod/backup-29931841-bcdfg/c"));
        assert_eq!(pod("backup-29921760-abcde", "c"), is("/k8s/prod/backup-29921760-abcde/c"));
        assert_eq!(pod("29921760-bcdfg", "c"), is("/k8s/prod/29921760-bcdfg/c"));
    }

    #[test]
    fn swarm_and_nomad() {
        let task = ("com.docker.swarm.task.name", "shop_web.2.k3j4");
        let service = ("com.docker.swarm.service.name", "shop_web");
        let stack = ("com.docker.stack.namespace", "shop");
        let swarm = |labels: &[(&str, &str)]| named("/docker/ID", Some(&labelled(labels)));
        assert_eq!(swarm(&[task, service, stack]), is("/swarm/shop/web/2"));
        assert_eq!(swarm(&[task, service]), is("/swarm/_/shop_web/2"));
        assert_eq!(swarm(&[("com.docker.swarm.task.name", "a.b"), service]), is("/docker/web"));

        let env = [
            ("ALLOC_ID", "a1"),
            ("GROUP_NAME", "g"),
            ("JOB_NAME", "j"),
            ("NAMESPACE", "n"),
            ("TASK_NAME", "t"),
        ];
        let env: Vec<_> =
            env.iter().map(|(key, value)| (format!("NOMAD_{key}"), (*value).to_owned())).collect();
        let mut nomad = Metadata { name: "x".to_owned(), env, ..Metadata::new(Runtime::Docker) };
        assert_eq!(named("/docker/ID", Some(&nomad)), is("/nomad/n/j/g/a1/t"));
        nomad.env.pop();
        assert_eq!(named("/docker/ID", Some(&nomad)), is("/docker/x"));
    }

    #[test]
    fn app_ids() {
        for (id, app) in [
            ("/k8s/default/web-5d4f8c7b9-x2bcd/nginx", "/k8s/default/web"),
            ("/k8s/default/a-b-c-0123456789-24578/nginx", "/k8s/default/a-b-c"),
            ("/k8s/kube-system/node-exporter-bcdfg/c", "/k8s/kube-system/node-exporter"),
            ("/k8s/db/postgres-12/c", "/k8s/db/postgres"),
            // Eleven digits are no hash, so only the suffix goes; an e is in no suffix.
            ("/k8s/default/web-01234567890-24578/c", "/k8s/default/web-01234567890"),
            ("/k8s/default/web-5d4f8c7b9-abcde/c", ""),
            ("/k8s/default/web/c", ""),
            ("/k8s/default/-24578/c", ""),
            ("/k8s/default/web-0", ""),
            ("/k8s-cronjob/default/backup/c", ""),
            ("/docker/web-0", ""),
            ("", ""),
        ] {
            assert_eq!(app_id(id), app, "{id}");
        }
    }

    #[test]
    fn any_text_is_survived() {
        let mut random = crate::procfs::fuzz::numbers(0x51_7c_c1_b7_27_22_0a_95_u64);
        const PIECES: &[&str] =
            &["/k8s/", "/", "-", "é", "24578", "29921760", "5d4f", "web", ".", "_", "", "0", "\0"];
        for _ in 0..10_000 {
            let mut text = || (0..random() % 8).map(|_| PIECES[random() % PIECES.len()]).collect::<String>();
            let (name, container) = (text(), text());
            app_id(&name);
            pod(&name, &container);
            let task =
                [("com.docker.swarm.task.name", &*name), ("com.docker.swarm.service.name", &*container)];
            named("/docker/ID", Some(&labelled(&task)));
        }
    }
}
