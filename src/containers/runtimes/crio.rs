//! CRI-O: the OCI `config.json` of each container in the storage library's directories.
//!
//! Annotations are those of CRI-O's `pkg/annotations`; it writes the same file to its run directory and its data directory.

use super::oci::{self, Spec};
use super::{Links, RuntimeReader, file, is_plain_path, keep, read_pairs, set_pod, target, unix_time};
use crate::containers::classify::Runtime;
use crate::containers::identity::{CONTAINER_NAME, LogFile, LogFormat, Metadata, POD_NAME, POD_NAMESPACE};
use crate::host::Host;
use crate::json::{Json, JsonError};

/// CRI-O's files.
pub(super) const READER: RuntimeReader =
    RuntimeReader { name: "crio", serves: &[Runtime::Crio], homes: false, read };

/// `runroot` and `root` of containers-storage; what runs is in the first.
const STORAGE: &[&str] = &["/run/containers/storage", "/var/lib/containers/storage"];

fn read(host: &Host, id: &str) -> Result<Option<Metadata>, String> {
    for root in STORAGE {
        let path = format!("{}/overlay-containers/{id}/userdata/config.json", target(host, root));
        if let Some(data) = file(host, &path, Links::Refuse)? {
            let metadata = oci::parse(&data).and_then(metadata);
            return metadata.map(Some).map_err(|error| format!("{path}: {error}"));
        }
    }
    Ok(None)
}

fn metadata(mut spec: Spec) -> Result<Metadata, JsonError> {
    let crio = |name: &str| spec.annotation(&format!("io.kubernetes.cri-o.{name}")).to_owned();
    let mut metadata = Metadata::new(Runtime::Crio);
    metadata.name = crio("Name");
    metadata.image = ["ImageName", "UserRequestedImage", "Image"]
        .map(crio)
        .into_iter()
        .find(|image| !image.is_empty())
        .unwrap_or_default();
    metadata.pause = crio("ContainerType") == "sandbox";
    metadata.created_s = unix_time(&crio("Created"));
    let log = Some(crio("LogPath")).filter(|path| is_plain_path(path));
    metadata.log = log.map(|path| LogFile { path, format: LogFormat::Cri });
    // Both are JSON in a string.
    let (labels, volumes) = (crio("Labels"), crio("Volumes"));
    if !labels.is_empty() {
        read_pairs(&mut Json::new(labels.as_bytes()), &mut metadata.labels)?;
    }
    read_volumes(volumes.as_bytes(), &mut metadata.volumes)?;
    if metadata.volumes.is_empty() {
        metadata.volumes = std::mem::take(&mut spec.volumes);
    }
    let [namespace, pod, container] =
        [POD_NAMESPACE, POD_NAME, CONTAINER_NAME].map(|name| spec.annotation(name));
    if !pod.is_empty() {
        set_pod(&mut metadata, namespace, pod, container);
    }
    metadata.env = spec.env;
    Ok(metadata)
}

/// `[{"container_path": "/data", "host_path": "/var/lib/kubelet/pods/...", ...}]`
fn read_volumes(data: &[u8], volumes: &mut Vec<(String, String)>) -> Result<(), JsonError> {
    let (mut json, mut text) = (Json::new(data), String::new());
    let (mut destination, mut source) = (String::new(), String::new());
    if data.is_empty() || !json.array_or_skip()? {
        return Ok(());
    }
    while json.next_element()? {
        if json.object_or_skip()? {
            destination.clear();
            source.clear();
            while json.next_key(&mut text)? {
                match text.as_str() {
                    "container_path" => json.string_or_skip(&mut destination).map(|_| ())?,
                    "host_path" => json.string_or_skip(&mut source).map(|_| ())?,
                    _ => json.skip()?,
                }
            }
            keep(volumes, &destination, &source);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{mutate, pairs};
    use super::*;

    const CONFIG: &str = r#"{"annotations":{"io.kubernetes.cri-o.Name":"k8s_c_web-0_prod_u_0","io.kubernetes.cri-o.ContainerType":"container",
        "io.kubernetes.cri-o.Created":"2026-11-20T09:14:02.5Z","io.kubernetes.cri-o.ImageName":"quay.io/web:1","io.kubernetes.cri-o.Image":"sha",
        "io.kubernetes.cri-o.Labels":"{\"io.kubernetes.pod.name\":\"web-0\",\"app\":\"web\"}","io.kubernetes.pod.name":"web-0",
        "io.kubernetes.cri-o.Volumes":"[{\"container_path\":\"/data\",\"host_path\":\"/srv\",\"readonly\":false}]",
        "io.kubernetes.cri-o.LogPath":"/var/log/pods/prod_web-0_u/c/0.log","io.kubernetes.pod.namespace":"prod",
        "io.kubernetes.container.name":"c"},"mounts":[{"destination":"/dev/shm","type":"bind","source":"/run/shm"}]}"#;

    fn parse(data: &[u8]) -> Result<Metadata, JsonError> {
        oci::parse(data).and_then(metadata)
    }

    #[test]
    fn annotations() {
        let container = parse(CONFIG.as_bytes()).unwrap();
        assert_eq!(
            (container.name.as_str(), container.image.as_str()),
            ("k8s_c_web-0_prod_u_0", "quay.io/web:1")
        );
        let pod = [(CONTAINER_NAME, "c"), (POD_NAME, "web-0"), (POD_NAMESPACE, "prod"), ("app", "web")];
        assert_eq!(container.labels, pairs(&pod));
        assert_eq!(container.volumes, pairs(&[("/data", "/srv")]));
        assert_eq!((container.pause, container.created_s), (false, Some(1_795_166_042)));
        assert_eq!(container.log.unwrap().path, "/var/log/pods/prod_web-0_u/c/0.log");

        let sandbox = parse(CONFIG.replace(r#"Type":"container"#, r#"Type":"sandbox"#).as_bytes()).unwrap();
        assert!(sandbox.pause);
        let bare = parse(br#"{"mounts":[{"destination":"/a","type":"bind","source":"/b"}]}"#).unwrap();
        assert_eq!((bare.volumes, bare.log), (pairs(&[("/a", "/b")]), None));
    }

    #[test]
    fn damaged_files_are_survived() {
        mutate(CONFIG.as_bytes(), |data| {
            let _ = parse(data);
            let _ = read_volumes(data, &mut Vec::new());
        });
    }
}
