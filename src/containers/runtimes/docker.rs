//! Docker: `containers/ID/config.v2.json` below its data directory.
//!
//! Its format is that of `container.Container` in moby's `container/container.go`, written since docker 1.10.

use super::{
    Links, RuntimeReader, distrust, file, homes, is_plain_path, keep, names, publish, read_env, read_pairs,
    target, unix_time,
};
use crate::containers::classify::Runtime;
use crate::containers::identity::{LogFile, LogFormat, Metadata};
use crate::host::Host;
use crate::json::{Json, JsonError, Kind};
use crate::warning;

/// Docker's files. A bare id below another cgroup parent looks like plain containerd, so that asks here too.
pub(super) const READER: RuntimeReader =
    RuntimeReader { name: "docker", serves: &[Runtime::Docker, Runtime::Nerdctl], homes: false, read };

/// The files of dockers that users run. Asked last: a user must not be able to rename a container of the system.
pub(super) const ROOTLESS: RuntimeReader =
    RuntimeReader { name: "docker-rootless", serves: &[Runtime::Docker], homes: true, read: read_rootless };

const CONFIGURATION: &str = "/etc/docker/daemon.json";
const DATA_ROOTS: &[&str] = &["/var/lib/docker", "/var/snap/docker/common/var-lib-docker"];

fn read(host: &Host, id: &str) -> Result<Option<Metadata>, String> {
    // A broken daemon.json only matters when the container is in no usual place.
    let configured = daemon(host);
    let daemon = configured.as_ref().ok().cloned().unwrap_or_default();
    let usual = DATA_ROOTS.iter().map(|root| (*root).to_owned());
    for root in daemon.data_root.into_iter().chain(usual) {
        let root = target(host, &root);
        if let Some(metadata) = container(host, &root, id)? {
            return Ok(Some(metadata));
        }
        // With userns-remap the data of each mapping is in a directory named by its first uid and gid.
        let remapped = if daemon.remapped { names(host, &root) } else { Vec::new() };
        for name in
            remapped.iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
        {
            if let Some(metadata) = container(host, &format!("{root}/{name}"), id)? {
                return Ok(Some(metadata));
            }
        }
    }
    configured.map(|_| None)
}

fn read_rootless(host: &Host, id: &str) -> Result<Option<Metadata>, String> {
    // One user's broken file hides nobody else's containers.
    let mut failed = None;
    for root in homes(host, ".local/share/docker") {
        match container(host, &root, id) {
            Ok(Some(mut metadata)) => {
                // It says so itself, and what is elsewhere is not its own.
                metadata.log = metadata.log.filter(|log| log.path.starts_with(&format!("{root}/")));
                return Ok(Some(distrust(metadata)));
            }
            Ok(None) => {}
            Err(problem) => failed = Some(problem),
        }
    }
    failed.map_or(Ok(None), Err)
}

fn container(host: &Host, root: &str, id: &str) -> Result<Option<Metadata>, String> {
    let path = format!("{root}/containers/{id}/config.v2.json");
    let Some(data) = file(host, &path, Links::Refuse)? else {
        return Ok(None);
    };
    let mut metadata = parse(&data).map_err(|error| format!("{path}: {error}"))?;
    if metadata.log.is_none() {
        metadata.log = log(host, &format!("{root}/containers/{id}"), id).unwrap_or_else(|problem| {
            warning!("log of a container: {problem}");
            None
        });
    }
    Ok(Some(metadata))
}

/// Where the log is going to be: docker writes its path down when the container has long started, and that of the driver `local`
/// never (moby's `container/container.go`). The driver stands beside it from the beginning.
fn log(host: &Host, directory: &str, id: &str) -> Result<Option<LogFile>, String> {
    let path = format!("{directory}/hostconfig.json");
    let Some(data) = file(host, &path, Links::Refuse)? else {
        return Ok(None);
    };
    let driver = parse_driver(&data).map_err(|error| format!("{path}: {error}"))?;
    Ok(match driver.as_str() {
        "json-file" => {
            Some(LogFile { path: format!("{directory}/{id}-json.log"), format: LogFormat::DockerJson })
        }
        "local" => Some(LogFile {
            path: format!("{directory}/local-logs/container.log"),
            format: LogFormat::DockerLocal,
        }),
        _ => None,
    })
}

/// `{"LogConfig": {"Type": "json-file", ...}, ...}`
fn parse_driver(data: &[u8]) -> Result<String, JsonError> {
    let (mut json, mut text, mut driver) = (Json::new(data), String::new(), String::new());
    json.begin_object()?;
    while json.next_key(&mut text)? {
        if text == "LogConfig" && json.object_or_skip()? {
            while json.next_key(&mut text)? {
                match text.as_str() {
                    "Type" => drop(json.string_or_skip(&mut driver)?),
                    _ => json.skip()?,
                }
            }
        } else if text != "LogConfig" {
            json.skip()?;
        }
    }
    json.end().map(|()| driver)
}

#[derive(Clone, Default)]
struct Daemon {
    data_root: Option<String>,
    remapped: bool,
}

/// What of the daemon's configuration moves its data.
fn daemon(host: &Host) -> Result<Daemon, String> {
    let Some(data) = file(host, CONFIGURATION, Links::Follow)? else {
        return Ok(Daemon::default());
    };
    let parsed = parse_daemon(&data);
    parsed.map_err(|error| format!("{CONFIGURATION}: {error}"))
}

fn parse_daemon(data: &[u8]) -> Result<Daemon, JsonError> {
    let (mut json, mut text, mut daemon) = (Json::new(data), String::new(), Daemon::default());
    json.begin_object()?;
    while json.next_key(&mut text)? {
        match text.as_str() {
            // `graph` is its name before docker 17.05.
            "data-root" | "graph" => {
                json.string_or_skip(&mut text)?;
                daemon.data_root = is_plain_path(&text).then(|| text.trim_end_matches('/').to_owned());
            }
            "userns-remap" => {
                json.string_or_skip(&mut text)?;
                daemon.remapped = !text.is_empty();
            }
            _ => json.skip()?,
        }
    }
    json.end().map(|()| daemon)
}

fn parse(data: &[u8]) -> Result<Metadata, JsonError> {
    let (mut json, mut text) = (Json::new(data), String::new());
    let mut metadata = Metadata { starting: true, ..Metadata::new(Runtime::Docker) };
    json.begin_object()?;
    while json.next_key(&mut text)? {
        match text.as_str() {
            "Name" => {
                json.string_or_skip(&mut text)?;
                metadata.name = text.trim_start_matches('/').to_owned();
            }
            "Created" => {
                json.string_or_skip(&mut text)?;
                metadata.created_s = unix_time(&text);
            }
            // Docker sets it for the json-file driver alone, and keeps it empty for all others.
            "LogPath" => {
                json.string_or_skip(&mut text)?;
                let path = is_plain_path(&text).then(|| text.clone());
                metadata.log = path.map(|path| LogFile { path, format: LogFormat::DockerJson });
            }
            "State" if json.object_or_skip()? => read_state(&mut json, &mut metadata)?,
            "Config" if json.object_or_skip()? => read_config(&mut json, &mut metadata)?,
            "NetworkSettings" if json.object_or_skip()? => read_network(&mut json, &mut metadata)?,
            "MountPoints" if json.object_or_skip()? => read_mounts(&mut json, &mut metadata)?,
            // Their guards have skipped them.
            "State" | "Config" | "NetworkSettings" | "MountPoints" => {}
            _ => json.skip()?,
        }
    }
    json.end()?;
    metadata.pause = metadata.label("io.kubernetes.docker.type") == Some("podsandbox");
    Ok(metadata)
}

fn read_state(json: &mut Json<'_>, metadata: &mut Metadata) -> Result<(), JsonError> {
    let mut text = String::new();
    while json.next_key(&mut text)? {
        match text.as_str() {
            "StartedAt" => {
                json.string_or_skip(&mut text)?;
                metadata.started_s = unix_time(&text);
            }
            // Written with the addresses and ports of this start, at its end; 0 again when the container has stopped, which is
            // written before the cgroup of the next start is made (`State` in moby's `container/state.go`).
            "Pid" if json.peek()? == Kind::Number => metadata.starting = json.number()? == "0",
            _ => json.skip()?,
        }
    }
    Ok(())
}

fn read_config(json: &mut Json<'_>, metadata: &mut Metadata) -> Result<(), JsonError> {
    let mut text = String::new();
    while json.next_key(&mut text)? {
        match text.as_str() {
            "Image" => {
                json.string_or_skip(&mut metadata.image)?;
            }
            "Labels" => read_pairs(json, &mut metadata.labels)?,
            "Env" => read_env(json, &mut metadata.env)?,
            _ => json.skip()?,
        }
    }
    Ok(())
}

/// `{"/data": {"Source": "/srv/data", "Destination": "/data", ...}}`
fn read_mounts(json: &mut Json<'_>, metadata: &mut Metadata) -> Result<(), JsonError> {
    let (mut text, mut destination, mut source) = (String::new(), String::new(), String::new());
    while json.next_key(&mut destination)? {
        source.clear();
        if json.object_or_skip()? {
            while json.next_key(&mut text)? {
                match text.as_str() {
                    "Source" => json.string_or_skip(&mut source).map(|_| ())?,
                    "Destination" => json.string_or_skip(&mut destination).map(|_| ())?,
                    _ => json.skip()?,
                }
            }
            keep(&mut metadata.volumes, &destination, &source);
        }
    }
    Ok(())
}

/// `{"Networks": {"bridge": {...}}, "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}}`
fn read_network(json: &mut Json<'_>, metadata: &mut Metadata) -> Result<(), JsonError> {
    let mut text = String::new();
    while json.next_key(&mut text)? {
        match text.as_str() {
            "Networks" if json.object_or_skip()? => {
                while json.next_key(&mut text)? {
                    if metadata.networks.len() < super::MAX_PAIRS {
                        metadata.networks.push(text.clone());
                    }
                    json.skip()?;
                }
            }
            "Ports" if json.object_or_skip()? => {
                while json.next_key(&mut text)? {
                    // A port that is exposed but not published is `null`.
                    if !text.ends_with("/tcp") {
                        json.skip()?;
                    } else if json.array_or_skip()? {
                        while json.next_element()? {
                            read_port(json, metadata)?;
                        }
                    }
                }
            }
            "Networks" | "Ports" => {}
            _ => json.skip()?,
        }
    }
    Ok(())
}

fn read_port(json: &mut Json<'_>, metadata: &mut Metadata) -> Result<(), JsonError> {
    let (mut text, mut address, mut port) = (String::new(), String::new(), 0);
    if json.object_or_skip()? {
        while json.next_key(&mut text)? {
            match text.as_str() {
                "HostIp" => json.string_or_skip(&mut address).map(|_| ())?,
                "HostPort" => {
                    json.string_or_skip(&mut text)?;
                    port = text.parse().unwrap_or(0);
                }
                _ => json.skip()?,
            }
        }
    }
    publish(&mut metadata.published, &address, port);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{mutate, pairs};
    use super::*;

    const CONFIG: &str = r#"{"State":{"Running":true,"Pid":3311,"StartedAt":"2026-11-20T09:14:03.98Z"},"ID":"0123","Created":"2026-11-20T10:14:02+01:00",
        "Args":["--x",{}],"Config":{"Image":"nginx:1","Labels":{"a":"b","n":1,"io.kubernetes.docker.type":"podsandbox"},
        "Env":["PATH=/bin","NOMAD_JOB_NAME=j=1","broken",null]},"NetworkSettings":{"Networks":{"bridge":{"IPAddress":"172.17.0.2"}},
        "Ports":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"},{"HostIp":"::","HostPort":"8080"},{"HostIp":"0.0.0.0","HostPort":"8080"},
        {"HostIp":"::","HostPort":"99999"},{"HostIp":"example.org","HostPort":"1"},{"HostIp":"::1","HostPort":"1-2"},{"HostIp":1,"HostPort":2},null],
        "81/tcp":[{"HostPort":"65535","HostIp":"127.0.0.1"},{}],"82/tcp":{},"443/tcp":null,"53/udp":[{"HostPort":"53"}]}},
        "LogPath":"/var/lib/docker/containers/0123/0123-json.log","Name":"/web","MountPoints":{"/data":{"Source":"/srv","Destination":"/data"}}}"#;

    #[test]
    fn everything_is_found() {
        let metadata = parse(CONFIG.as_bytes()).unwrap();
        let expected = Metadata {
            name: "web".to_owned(),
            image: "nginx:1".to_owned(),
            pause: true,
            labels: pairs(&[("a", "b"), ("io.kubernetes.docker.type", "podsandbox")]),
            env: pairs(&[("NOMAD_JOB_NAME", "j=1")]),
            volumes: pairs(&[("/data", "/srv")]),
            published: ["0.0.0.0:8080", "[::]:8080", "127.0.0.1:65535"]
                .map(|at| at.parse().unwrap())
                .to_vec(),
            networks: vec!["bridge".to_owned()],
            log: Some(LogFile {
                path: "/var/lib/docker/containers/0123/0123-json.log".to_owned(),
                format: LogFormat::DockerJson,
            }),
            created_s: Some(1_795_166_042),
            started_s: Some(1_795_166_043),
            ..Metadata::new(Runtime::Docker)
        };
        assert_eq!(metadata, expected);
    }

    #[test]
    fn missing_and_null_members() {
        let nothing =
            r#"{"State":null,"Config":null,"NetworkSettings":null,"MountPoints":null,"LogPath":"","Name":1}"#;
        let empty = Metadata { starting: true, ..Metadata::new(Runtime::Docker) };
        assert_eq!(parse(nothing.as_bytes()).unwrap(), empty);
        let inner = r#"{"Config":{"Labels":null,"Env":null},"NetworkSettings":{"Ports":null,"Networks":null},"MountPoints":{"/a":null}}"#;
        assert_eq!(parse(inner.as_bytes()).unwrap(), empty);
        for (pid, starting) in [("0", true), ("1", false), ("null", true), ("\"1\"", true), ("{}", true)] {
            let config = format!(r#"{{"State":{{"Pid":{pid}}}}}"#);
            assert_eq!(parse(config.as_bytes()).unwrap().starting, starting, "{pid}");
        }
        assert!(parse(b"[]").is_err() && parse(b"").is_err() && parse(b"{} x").is_err());
    }

    #[test]
    fn the_daemons_configuration() {
        let daemon = parse_daemon(
            br#"{"data-root":"/srv/docker/","userns-remap":"default","log-opts":{"max-size":"1m"}}"#,
        )
        .unwrap();
        assert_eq!((daemon.data_root.as_deref(), daemon.remapped), (Some("/srv/docker"), true));
        assert_eq!(parse_daemon(br#"{"data-root":"/srv/../etc"}"#).unwrap().data_root, None);
        assert!(parse_daemon(b"data-root: /x").is_err());
    }

    #[test]
    fn damaged_files_are_survived() {
        mutate(CONFIG.as_bytes(), |data| {
            let _ = parse(data);
            let _ = parse_daemon(data);
        });
    }
}
