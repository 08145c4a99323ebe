//! Podman: names and images from the storage library's `containers.json`, the rest from each container's OCI `config.json`.
//!
//! Root's storage is looked at first, so that a user cannot rename root's containers; then that below each home directory.

use memchr::memmem;

use super::oci::{self, Spec};
use super::{Links, RuntimeReader, configured_path, distrust, file, homes, target};
use crate::containers::classify::Runtime;
use crate::containers::identity::{LogFile, LogFormat, Metadata};
use crate::host::Host;
use crate::json::{Json, JsonError};

/// Podman's files.
pub(super) const READER: RuntimeReader =
    RuntimeReader { name: "podman", serves: &[Runtime::Podman], homes: false, read };

/// The files of podmans that users run.
pub(super) const ROOTLESS: RuntimeReader =
    RuntimeReader { name: "podman-rootless", serves: &[Runtime::Podman], homes: true, read: read_rootless };

/// The storage library's configuration, where root's storage may be moved.
const CONFIGURATION: &str = "/etc/containers/storage.conf";
/// Root's storage.
const STORAGE: &str = "/var/lib/containers/storage";
/// A user's storage, below the home directory.
const USER_STORAGE: &str = ".local/share/containers/storage";
/// Storage drivers; each has directories of its own.
const DRIVERS: &[&str] = &["overlay", "vfs", "btrfs", "zfs"];
/// The list of containers, and that of those which a reboot removes (`podman run --rm` since 4.4).
const LISTS: &[&str] = &["containers.json", "volatile-containers.json"];

fn read(host: &Host, id: &str) -> Result<Option<Metadata>, String> {
    // A broken configuration only matters when the container is in no usual place, where the message would be.
    let configured = configured_path(host, CONFIGURATION, "storage", "graphroot").ok().flatten();
    for root in configured.as_deref().into_iter().chain([STORAGE]) {
        if let Some(metadata) = storage(host, &target(host, root), id)? {
            return Ok(Some(metadata));
        }
    }
    Ok(None)
}

fn read_rootless(host: &Host, id: &str) -> Result<Option<Metadata>, String> {
    // One user's broken file hides nobody else's containers.
    let mut failed = None;
    for root in homes(host, USER_STORAGE) {
        match storage(host, &root, id) {
            Ok(Some(metadata)) => return Ok(Some(distrust(metadata))),
            Ok(None) => {}
            Err(problem) => failed = Some(problem),
        }
    }
    failed.map_or(Ok(None), Err)
}

fn storage(host: &Host, root: &str, id: &str) -> Result<Option<Metadata>, String> {
    for driver in DRIVERS {
        let directory = format!("{root}/{driver}-containers");
        for list in LISTS {
            let path = format!("{directory}/{list}");
            let Some(data) = file(host, &path, Links::Refuse)? else {
                continue;
            };
            // Ids need no escapes: a list without this one is not worth the time to parse it.
            if memmem::find(&data, id.as_bytes()).is_none() {
                continue;
            }
            let found = find(&data, id).map_err(|error| format!("{path}: {error}"))?;
            let Some(mut metadata) = found else { continue };
            let userdata = format!("{directory}/{id}/userdata");
            let path = format!("{userdata}/config.json");
            if let Some(data) = file(host, &path, Links::Refuse)? {
                complete(&mut metadata, oci::parse(&data).map_err(|error| format!("{path}: {error}"))?);
            }
            let path = format!("{userdata}/ctr.log");
            // Both of podman's file formats, k8s-file and json-file, are written as Kubernetes does.
            let log = host.rootfs(&path).is_file().then_some(LogFile { path, format: LogFormat::Cri });
            metadata.log = log;
            return Ok(Some(metadata));
        }
    }
    Ok(None)
}

/// Looks the container up in `[{"id": "...", "names": ["web"], "metadata": "{\"image-name\": \"...\"}", ...}]`.
fn find(data: &[u8], id: &str) -> Result<Option<Metadata>, JsonError> {
    let (mut json, mut text) = (Json::new(data), String::new());
    json.begin_array()?;
    while json.next_element()? {
        let (mut matches, mut name, mut details) = (false, String::new(), String::new());
        json.begin_object()?;
        while json.next_key(&mut text)? {
            match text.as_str() {
                "id" => matches = json.string_or_skip(&mut text)? && text == id,
                "names" if json.array_or_skip()? => {
                    while json.next_element()? {
                        json.string_or_skip(&mut text)?;
                        if name.is_empty() {
                            name.push_str(&text);
                        }
                    }
                }
                "names" => {}
                "metadata" => json.string_or_skip(&mut details).map(|_| ())?,
                _ => json.skip()?,
            }
        }
        if matches {
            let mut metadata = Metadata { name, ..Metadata::new(Runtime::Podman) };
            // Other tools put text of their own there.
            if details.starts_with('{') {
                read_details(&details, &mut metadata)?;
            }
            return Ok(Some(metadata));
        }
    }
    json.end().map(|()| None)
}

fn read_details(details: &str, metadata: &mut Metadata) -> Result<(), JsonError> {
    let (mut json, mut text) = (Json::new(details.as_bytes()), String::new());
    json.begin_object()?;
    while json.next_key(&mut text)? {
        match text.as_str() {
            "image-name" => json.string_or_skip(&mut metadata.image).map(|_| ())?,
            "created-at" if json.peek()? == crate::json::Kind::Number => {
                metadata.created_s = json.number()?.parse().ok()
            }
            _ => json.skip()?,
        }
    }
    json.end()
}

fn complete(metadata: &mut Metadata, spec: Spec) {
    // The container that holds a pod's namespaces; its image is built on the spot.
    let infra = metadata.image.starts_with("localhost/podman-pause:");
    metadata.pause = infra || spec.annotation("io.kubernetes.cri-o.ContainerType") == "sandbox";
    metadata.env = spec.env;
    metadata.volumes = spec.volumes;
    metadata.labels = spec.annotations;
}

#[cfg(test)]
mod tests {
    use super::super::tests::mutate;
    use super::*;

    const LIST: &str = r#"[{"id":"aa","names":["other"],"metadata":"{}"},{"id":"bb","names":["web","alias"],"image":"0123","layer":"4567",
        "metadata":"{\"image-name\":\"docker.io/library/nginx:1\",\"name\":\"web\",\"created-at\":1795302000}","flags":{"x":""}},
        {"id":"cc","names":null,"metadata":"built by another tool"}]"#;

    #[test]
    fn the_list_of_containers() {
        let found = |id| find(LIST.as_bytes(), id).unwrap();
        let web = found("bb").unwrap();
        assert_eq!((web.name.as_str(), web.image.as_str()), ("web", "docker.io/library/nginx:1"));
        assert_eq!(web.created_s, Some(1_795_302_000));
        assert_eq!(found("cc").unwrap(), Metadata::new(Runtime::Podman));
        assert_eq!(found("dd"), None);
        assert!(find(b"{}", "aa").is_err() && find(b"[{},1]", "aa").is_err());
    }

    #[test]
    fn the_container_of_a_pod_does_nothing() {
        let image = "localhost/podman-pause:5.4.0-1".to_owned();
        let mut infra = Metadata { image, ..Metadata::new(Runtime::Podman) };
        complete(&mut infra, Spec::default());
        assert!(infra.pause);
    }

    #[test]
    fn damaged_files_are_survived() {
        mutate(LIST.as_bytes(), |data| {
            let _ = find(data, "bb");
        });
    }
}
