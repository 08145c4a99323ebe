//! containerd: the OCI `config.json` in the state directory of each running task.
//!
//! Annotations of its Kubernetes side are those of containerd's `pkg/cri/annotations`; nerdctl copies its labels
//! (`pkg/labels` of nerdctl) into annotations, so both are in one file. The format is that of the OCI runtime specification.

use std::fs;
use std::net::SocketAddr;

use super::{
    Links, RuntimeReader, configured_path, file, is_plain_path, is_safe, keep, names, publish, read_env,
    read_pairs, set_pod,
};
use crate::containers::classify::Runtime;
use crate::containers::identity::{LogFile, LogFormat, Metadata};
use crate::host::Host;
use crate::json::{Json, JsonError, Kind};

/// containerd's files. A bare id below `kubepods` may be docker's or containerd's.
pub(super) const READER: RuntimeReader = RuntimeReader {
    name: "containerd",
    serves: &[Runtime::Containerd, Runtime::Nerdctl, Runtime::Docker],
    homes: false,
    read,
};

/// State directories of containerd as distributions of Kubernetes place them.
const STATE_ROOTS: &[&str] = &[
    "/run/containerd",
    "/run/k3s/containerd",
    "/run/k0s/containerd",
    "/var/snap/microk8s/common/run/containerd",
];
/// containerd's configuration, where the state directory may be moved.
const CONFIGURATION: &str = "/etc/containerd/config.toml";
/// The plug-ins that run tasks; the older one is that of containerd 1.0 to 1.3.
const TASKS: &[&str] = &["io.containerd.runtime.v2.task", "io.containerd.runtime.v1.linux"];
/// Docker's own namespace: these files lack what docker's say, the name above all.
const DOCKER_NAMESPACE: &str = "moby";

fn read(host: &Host, id: &str) -> Result<Option<Metadata>, String> {
    // A broken configuration only matters when the container is in no usual place, where the message would be.
    let configured = configured_path(host, CONFIGURATION, "", "state").ok().flatten();
    for root in configured.as_deref().into_iter().chain(STATE_ROOTS.iter().copied()) {
        for tasks in TASKS {
            let directory = format!("{root}/{tasks}");
            for namespace in names(host, &directory).iter().filter(|name| *name != DOCKER_NAMESPACE) {
                let directory = format!("{directory}/{namespace}");
                if let Some(spec) = spec(host, &directory, id)? {
                    return Ok(Some(metadata(host, &directory, id, spec)));
                }
            }
        }
    }
    Ok(None)
}

fn spec(host: &Host, directory: &str, id: &str) -> Result<Option<Spec>, String> {
    let path = format!("{directory}/{id}/config.json");
    let Some(data) = file(host, &path, Links::Refuse)? else { return Ok(None) };
    parse(&data).map(Some).map_err(|error| format!("{path}: {error}"))
}

/// What of an OCI `config.json` concerns us.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Spec {
    /// Annotations, as the runtime above set them.
    pub annotations: Vec<(String, String)>,
    /// The kept variables of the first process.
    pub env: Vec<(String, String)>,
    /// Bind mounts: destination, source.
    pub volumes: Vec<(String, String)>,
}

impl Spec {
    /// An annotation's value, empty if it is not there.
    pub(super) fn annotation(&self, name: &str) -> &str {
        self.annotations.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

/// Reads an OCI `config.json`.
pub(super) fn parse(data: &[u8]) -> Result<Spec, JsonError> {
    let (mut json, mut text, mut spec) = (Json::new(data), String::new(), Spec::default());
    json.begin_object()?;
    while json.next_key(&mut text)? {
        match text.as_str() {
            "annotations" => read_pairs(&mut json, &mut spec.annotations)?,
            "mounts" => read_mounts(&mut json, &mut spec.volumes)?,
            "process" => {
                if json.object_or_skip()? {
                    while json.next_key(&mut text)? {
                        if text == "env" { read_env(&mut json, &mut spec.env)? } else { json.skip()? }
                    }
                }
            }
            _ => json.skip()?,
        }
    }
    json.end().map(|()| spec)
}

fn read_mounts(json: &mut Json<'_>, volumes: &mut Vec<(String, String)>) -> Result<(), JsonError> {
    let (mut text, mut destination, mut source) = (String::new(), String::new(), String::new());
    if !json.array_or_skip()? {
        return Ok(());
    }
    while json.next_element()? {
        let mut bind = false;
        destination.clear();
        source.clear();
        if json.object_or_skip()? {
            while json.next_key(&mut text)? {
                match text.as_str() {
                    "destination" => json.string_or_skip(&mut destination).map(|_| ())?,
                    "source" => json.string_or_skip(&mut source).map(|_| ())?,
                    "type" => bind = json.string_or_skip(&mut text)? && text == "bind",
                    _ => json.skip()?,
                }
            }
        }
        if bind {
            keep(volumes, &destination, &source);
        }
    }
    Ok(())
}

fn metadata(host: &Host, directory: &str, id: &str, mut spec: Spec) -> Metadata {
    let cri = |name: &str| spec.annotation(&format!("io.kubernetes.cri.{name}")).to_owned();
    let (kind, pod, namespace) = (cri("container-type"), cri("sandbox-name"), cri("sandbox-namespace"));
    let (container, uid, image) = (cri("container-name"), cri("sandbox-uid"), cri("image-name"));
    let sandbox = cri("sandbox-id");
    let (env, volumes) = (std::mem::take(&mut spec.env), std::mem::take(&mut spec.volumes));
    if kind.is_empty() {
        // nerdctl, or `ctr`, which says nothing.
        let log = nerdctl_log(host, &spec, id);
        let name = spec.annotation("nerdctl/name").to_owned();
        let mut published = Vec::new();
        // It is one annotation of many: if it is malformed, that leaves the ports before the mistake.
        let _ = read_ports(spec.annotation("nerdctl/ports").as_bytes(), &mut published);
        return Metadata {
            name,
            env,
            volumes,
            log,
            published,
            labels: spec.annotations,
            ..Metadata::new(Runtime::Nerdctl)
        };
    }
    let log = kubelet_log(host, directory, id, &sandbox, [&namespace, &pod, &uid, &container]);
    let pause = kind == "sandbox";
    let name = container.clone();
    let mut metadata =
        Metadata { name, image, pause, env, volumes, log, ..Metadata::new(Runtime::Containerd) };
    // Before containerd 1.5 the annotations lacked the pod of a container: that leaves its name and no more.
    if !pod.is_empty() {
        set_pod(&mut metadata, &namespace, &pod, if pause { "POD" } else { &container });
    }
    metadata
}

/// The log of a Kubernetes container. Kubelet links it under the container's id; without the link it is the last restart's
/// in the pod's directory, which the specification of the sandbox (beside this one's in `tasks`) names, or in the usual one.
fn kubelet_log(
    host: &Host,
    tasks: &str,
    id: &str,
    sandbox: &str,
    [namespace, pod, uid, container]: [&str; 4],
) -> Option<LogFile> {
    if ![namespace, pod, container].into_iter().all(is_safe) {
        return None;
    }
    let link = host.rootfs(&format!("/var/log/containers/{pod}_{namespace}_{container}-{id}.log"));
    let linked = fs::read_link(link).ok().and_then(|path| path.into_os_string().into_string().ok());
    let found = || {
        let sandbox = is_safe(sandbox).then(|| spec(host, tasks, sandbox).ok().flatten()).flatten();
        let named =
            sandbox.map(|sandbox| sandbox.annotation("io.kubernetes.cri.sandbox-log-directory").to_owned());
        let usual = || is_safe(uid).then(|| format!("/var/log/pods/{namespace}_{pod}_{uid}"));
        let pod = named.filter(|path| is_plain_path(path)).or_else(usual)?;
        let directory = format!("{pod}/{container}");
        let restarts = names(host, &directory).into_iter();
        let last = restarts.filter_map(|name| name.strip_suffix(".log")?.parse::<u32>().ok()).max()?;
        Some(format!("{directory}/{last}.log"))
    };
    let path = linked.filter(|path| is_plain_path(path)).or_else(found)?;
    Some(LogFile { path, format: LogFormat::Cri })
}

/// `[{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "0.0.0.0"}]`, `PortMapping` of go-cni; its fields have
/// the names they have in Go.
fn read_ports(data: &[u8], published: &mut Vec<SocketAddr>) -> Result<(), JsonError> {
    let (mut json, mut text, mut address, mut protocol) =
        (Json::new(data), String::new(), String::new(), String::new());
    json.begin_array()?;
    while json.next_element()? {
        let mut port = 0;
        address.clear();
        protocol.clear();
        if json.object_or_skip()? {
            while json.next_key(&mut text)? {
                match text.as_str() {
                    "HostPort" if json.peek()? == Kind::Number => port = json.number()?.parse().unwrap_or(0),
                    "HostIP" => json.string_or_skip(&mut address).map(|_| ())?,
                    "Protocol" => json.string_or_skip(&mut protocol).map(|_| ())?,
                    _ => json.skip()?,
                }
            }
        }
        if protocol.eq_ignore_ascii_case("tcp") {
            publish(published, &address, port);
        }
    }
    json.end()
}

/// nerdctl's json-file log is in its state directory, under docker's name and in docker's format.
fn nerdctl_log(host: &Host, spec: &Spec, id: &str) -> Option<LogFile> {
    let path = format!("{}/{id}-json.log", spec.annotation("nerdctl/state-dir"));
    let there = is_plain_path(&path) && host.rootfs(&path).is_file();
    there.then_some(LogFile { path, format: LogFormat::DockerJson })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{mutate, pairs};
    use super::*;

    const CONFIG: &str = r#"{"ociVersion":"1.1.0","process":{"args":["/app"],"env":["A=b","NOMAD_ALLOC_ID=x"]},"mounts":[
        {"destination":"/proc","type":"proc","source":"proc","options":["ro"]},{"destination":"/data","type":"bind","source":"/srv"},null],
        "annotations":{"nerdctl/name":"db"},"linux":{"seccomp":{"syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}}}"#;

    #[test]
    fn a_specification() {
        let spec = parse(CONFIG.as_bytes()).unwrap();
        assert_eq!(spec.env, pairs(&[("NOMAD_ALLOC_ID", "x")]));
        assert_eq!(spec.volumes, pairs(&[("/data", "/srv")]));
        assert_eq!((spec.annotation("nerdctl/name"), spec.annotation("x")), ("db", ""));
        assert_eq!(parse(br#"{"process":null,"mounts":null,"annotations":null}"#).unwrap(), Spec::default());
        assert!(parse(b"null").is_err());
    }

    #[test]
    fn ports_of_nerdctl() {
        let read = |text: &str| {
            let mut published = Vec::new();
            let done = read_ports(text.as_bytes(), &mut published);
            (format!("{published:?}"), done.is_ok())
        };
        let both = r#"[{"HostPort":8080,"ContainerPort":80,"Protocol":"tcp","HostIP":"0.0.0.0"},
            {"HostPort":53,"ContainerPort":53,"Protocol":"udp","HostIP":"0.0.0.0"},null,
            {"HostPort":443,"ContainerPort":443,"Protocol":"TCP","HostIP":"::"},{"HostPort":-1,"Protocol":"tcp","HostIP":"::"},
            {"HostPort":65536,"Protocol":"tcp","HostIP":""},{"HostPort":"80","Protocol":"tcp","HostIP":""}]"#;
        assert_eq!(read(both), ("[0.0.0.0:8080, [::]:443]".to_owned(), true));
        assert_eq!(read(""), ("[]".to_owned(), false));
        let cut = r#"[{"HostPort":81,"Protocol":"tcp","HostIP":"10.0.0.1"},{"HostPort":82,"Pro"#;
        assert_eq!(read(cut), ("[10.0.0.1:81]".to_owned(), false));
        mutate(both.as_bytes(), |data| {
            let _ = read_ports(data, &mut Vec::new());
        });
    }

    #[test]
    fn damaged_files_are_survived() {
        let host = Host::new(std::path::Path::new("/nonexistent"), None);
        mutate(CONFIG.as_bytes(), |data| {
            if let Ok(spec) = parse(data) {
                metadata(&host, "/tasks", "0123", spec);
            }
        });
    }
}
