//! What container runtimes write on disk about their containers: one file per kind, [`RUNTIMES`] lists them.
//!
//! Reading files instead of asking a socket means no client to write, no daemon to wait for, and an answer while the
//! daemon is down. Everything here is untrusted to some degree (a user's home most of all): ids become part of paths only
//! if they are plain, files are bounded and must be regular ones, and what is kept of them is bounded as well.

mod crio;
mod docker;
mod oci;
mod podman;

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;

use crate::containers::classify::Runtime;
use crate::containers::identity::{CONTAINER_NAME, Metadata, POD_NAME, POD_NAMESPACE};
use crate::host::Host;
use crate::json::{Json, JsonError};
use crate::limits;

/// The largest file that is read. An OCI config with every seccomp rule is 40 KiB, a docker one 10 KiB.
const MAX_FILE: u64 = 1 << 20;
/// The most entries of a directory that are looked at: home directories, containerd namespaces, log files.
const MAX_ENTRIES: usize = 256;
/// The most labels, variables or volumes that are kept of one container; people use dozens.
const MAX_PAIRS: usize = 256;
/// The longest label, variable or volume that is kept, name and value together. PATH_MAX, so no path is lost.
const MAX_PAIR: usize = 4096;

/// One kind of files, and which containers are described by it.
pub struct RuntimeReader {
    /// Whose files they are.
    pub name: &'static str,
    /// Containers of these runtimes may be found there.
    pub serves: &'static [Runtime],
    /// Only for containers that users run: looks below home directories, which may be slow to reach.
    pub homes: bool,
    /// Looks for a container by its id, which is safe to be part of a path.
    pub read: fn(&Host, &str) -> Result<Option<Metadata>, String>,
}

/// Every kind of files, in the order they are asked.
pub const RUNTIMES: &[&RuntimeReader] =
    &[&docker::READER, &oci::READER, &crio::READER, &podman::READER, &docker::ROOTLESS, &podman::ROOTLESS];

/// What is known of the container `id`, `None` when no file describes it (yet). Home directories are searched only for
/// containers that users run (`rootless`).
///
/// # Errors
/// When a file is there but cannot be read or is malformed: a message that names it, to be logged once.
pub fn read(host: &Host, runtime: Runtime, id: &str, rootless: bool) -> Result<Option<Metadata>, String> {
    if !is_safe(id) {
        return Ok(None);
    }
    let mut failed = None;
    let serves = |reader: &&&RuntimeReader| reader.serves.contains(&runtime) && (rootless || !reader.homes);
    for reader in RUNTIMES.iter().filter(serves) {
        match (reader.read)(host, id) {
            Ok(Some(metadata)) => return Ok(Some(metadata)),
            Ok(None) => {}
            Err(problem) => {
                failed.get_or_insert(problem);
            }
        }
    }
    failed.map_or(Ok(None), Err)
}

/// True for a text that is one ordinary component of a path: no slash, no leading dot, nothing to be surprised by.
fn is_safe(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=128).contains(&id.len()) && !id.starts_with('.') && id.bytes().all(plain)
}

/// Whether the last component of a path may be a symbolic link.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// As in `/etc`, which only root writes.
    Follow,
    /// As below a user's home, whose owner may point it anywhere.
    Refuse,
}

/// A small regular file of the host, `None` when there is none.
///
/// `O_NONBLOCK` and the check of its type keep a FIFO or a device in its place from stopping nodeprobe.
pub(super) fn file(host: &Host, path: &str, links: Links) -> Result<Option<Vec<u8>>, String> {
    let flags = if links == Links::Refuse { libc::O_NOFOLLOW } else { 0 } | libc::O_NONBLOCK | libc::O_NOCTTY;
    let open = OpenOptions::new().read(true).custom_flags(flags).open(host.rootfs(path));
    let file = match open {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(format!("{path}: {error}")),
    };
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(format!("{path}: not a regular file"));
    }
    let mut data = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut data).map_err(|error| format!("{path}: {error}"))?;
    if data.len() as u64 > MAX_FILE {
        return Err(format!("{path}: larger than {MAX_FILE} bytes"));
    }
    Ok(Some(data))
}

/// The names in a directory of the host, sorted; none when it cannot be read.
fn names(host: &Host, directory: &str) -> Vec<String> {
    names_within(host, directory, MAX_ENTRIES)
}

/// The same of at most `most` entries.
pub(super) fn names_within(host: &Host, directory: &str, most: usize) -> Vec<String> {
    let entries = fs::read_dir(host.rootfs(directory)).into_iter().flatten().flatten().take(most);
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

/// `relative` below every home directory: where rootless runtimes keep their state.
fn homes(host: &Host, relative: &str) -> Vec<String> {
    names(host, "/home")
        .into_iter()
        .filter(|name| is_safe(name))
        .map(|name| format!("/home/{name}/{relative}"))
        .collect()
}

/// Where `path` leads if it is an absolute symbolic link, as `/var/lib/docker` often is. Below `/proc/1/root` the kernel
/// would take such a link from nodeprobe's own root.
pub(super) fn target(host: &Host, path: &str) -> String {
    match fs::read_link(host.rootfs(path)).ok().and_then(|link| link.into_os_string().into_string().ok()) {
        Some(link) if is_plain_path(&link) => link,
        _ => path.to_owned(),
    }
}

/// The path that `key` in the table `table` (empty: above all tables) of a TOML file of the host has for its value.
fn configured_path(host: &Host, file: &str, table: &str, key: &str) -> Result<Option<String>, String> {
    let data = self::file(host, file, Links::Follow)?.unwrap_or_default();
    let path = toml_text(&String::from_utf8_lossy(&data), table, key).filter(|path| is_plain_path(path));
    Ok(path.map(|path| path.trim_end_matches('/').to_owned()))
}

/// A text on one line in TOML. Escapes, several lines and dotted keys are no paths that anybody writes, and are not read.
fn toml_text(text: &str, table: &str, key: &str) -> Option<String> {
    let mut here = "";
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            here = name.trim();
        } else if here == table
            && let Some((name, value)) = line.split_once('=')
            && name.trim() == key
        {
            let value = value.trim();
            let quote = value.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
            let (value, _) = value.get(1..)?.split_once(quote)?;
            return (!value.contains('\\')).then(|| value.to_owned());
        }
    }
    None
}

/// An absolute path that does not climb.
fn is_plain_path(path: &str) -> bool {
    path.starts_with('/') && path.len() <= MAX_PAIR && path.split('/').all(|part| part != "..")
}

/// Keeps a pair within the bounds.
fn keep(pairs: &mut Vec<(String, String)>, name: &str, value: &str) {
    if pairs.len() < MAX_PAIRS && name.len() + value.len() <= MAX_PAIR {
        pairs.push((name.to_owned(), value.to_owned()));
    }
}

/// Keeps an address of the host at which a TCP port is published, within the bounds: once, and only if it is one. No address
/// means all of IPv4, as docker's and nerdctl's `-p` have it.
fn publish(published: &mut Vec<SocketAddr>, address: &str, port: u16) {
    let address = if address.is_empty() { Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) } else { address.parse() };
    if let Ok(address) = address.map(|address| SocketAddr::new(address, port))
        && port != 0
        && published.len() < limits::PUBLISHED_PORTS
        && !published.contains(&address)
    {
        published.push(address);
    }
}

/// Reads an object whose values are strings; other values are skipped.
fn read_pairs(json: &mut Json<'_>, pairs: &mut Vec<(String, String)>) -> Result<(), JsonError> {
    let (mut name, mut value) = (String::new(), String::new());
    if json.object_or_skip()? {
        while json.next_key(&mut name)? {
            if json.string_or_skip(&mut value)? {
                keep(pairs, &name, &value);
            }
        }
    }
    Ok(())
}

/// Reads an array of `NAME=value`, of which only Nomad's names are kept.
fn read_env(json: &mut Json<'_>, env: &mut Vec<(String, String)>) -> Result<(), JsonError> {
    let mut text = String::new();
    if json.array_or_skip()? {
        while json.next_element()? {
            json.string_or_skip(&mut text)?;
            match text.split_once('=') {
                Some((name, value)) if name.starts_with("NOMAD_") => keep(env, name, value),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Sets the labels that say which container of which pod this is.
fn set_pod(metadata: &mut Metadata, namespace: &str, pod: &str, container: &str) {
    for (name, value) in [(POD_NAMESPACE, namespace), (POD_NAME, pod), (CONTAINER_NAME, container)] {
        metadata.labels.retain(|(label, _)| label != name);
        metadata.labels.insert(0, (name.to_owned(), value.to_owned()));
    }
}

/// A user may label own containers as the cluster's: not believed.
fn distrust(mut metadata: Metadata) -> Metadata {
    metadata.labels.retain(|(name, _)| !name.starts_with("io.kubernetes."));
    metadata
}

/// Seconds since 1970 of an RFC 3339 time as Go writes it (`2026-11-21T20:43:00.123456789+01:00`); `None` before 1970, which is how
/// Go writes «never».
fn unix_time(text: &str) -> Option<u64> {
    let number =
        |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok().filter(|number| *number >= 0);
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let zone = text.get(19..)?.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset_s = match zone.as_bytes().first()? {
        b'Z' => 0,
        sign @ (b'+' | b'-') => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let east = hours.parse::<u8>().ok()? as i64 * 3600 + minutes.parse::<u8>().ok()? as i64 * 60;
            if *sign == b'+' { east } else { -east }
        }
        _ => return None,
    };
    // Days since 1970 with years that begin in March, so that the leap day is the last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468;
    u64::try_from(days * 86_400 + hour * 3600 + minute * 60 + second - offset_s).ok()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::containers::classify::classify;
    use crate::containers::identity::{Identity, LogFormat, container_id};

    pub(super) fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// Gives `read` 10,000 damaged copies of `data`.
    pub(super) fn mutate(data: &[u8], read: impl Fn(&[u8])) {
        let mut random = crate::procfs::fuzz::numbers(0x2545_f491_4f6c_dd1d_u64);
        const LIKELY: &[u8] = b"{}[]\",:\\ue0 1\xff\0";
        for _ in 0..10_000 {
            let mut data = data.to_vec();
            for _ in 0..=random() % 4 {
                let at = random() % data.len().max(1);
                match random() % 5 {
                    0 => data.truncate(at),
                    1 if !data.is_empty() => data[at] = random() as u8,
                    2 => data.insert(at.min(data.len()), LIKELY[random() % LIKELY.len()]),
                    3 if !data.is_empty() => drop(data.remove(at)),
                    _ if !data.is_empty() => data[at] = LIKELY[random() % LIKELY.len()],
                    _ => {}
                }
            }
            read(&data);
        }
    }

    fn fixture(name: &str) -> Host {
        Host::new(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name), None)
    }

    /// Every container of a fixture host by the cgroups it shows, sorted; pause containers are `-`.
    fn containers(host: &Host, hierarchy: &str) -> Vec<String> {
        let top = host.cgroup(hierarchy);
        let (mut directories, mut found) = (vec![top.clone()], Vec::new());
        while let Some(directory) = directories.pop() {
            let entries = fs::read_dir(&directory).unwrap().flatten();
            directories.extend(
                entries.filter(|entry| entry.file_type().unwrap().is_dir()).map(|entry| entry.path()),
            );
            let path = format!("/{}", directory.strip_prefix(&top).unwrap().display());
            let Some(class) = classify(&path) else { continue };
            let metadata = read(host, class.runtime, class.id, true).unwrap();
            match container_id(&class, metadata.as_ref(), 1_795_305_600) {
                Identity::Named(id) => found.push(id),
                Identity::Provisional(id) => panic!("{path} stays {id}"),
                Identity::Ignored => found.push("-".to_owned()),
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    #[test]
    fn the_fixture_hosts() {
        let docker_v1 =
            ["/docker/db", "/docker/web", "/system.slice/docker.service", "/system.slice/sshd.service"];
        for hierarchy in ["cpu", "cpuacct", "memory", "blkio", "pids", "systemd"] {
            assert_eq!(containers(&fixture("docker-v1"), hierarchy), docker_v1);
        }
        let expected = [
            "/docker/cache",
            "/docker/web",
            "/swarm/shop/api/2",
            "/system.slice/docker.service",
            "/system.slice/ssh.service",
        ];
        assert_eq!(containers(&fixture("docker-v2"), ""), expected);
        let expected = [
            "-",
            "/k8s/db/postgres-0/postgres",
            "/k8s/default/web-6d4cf56db6-x2bcd/nginx",
            "/system.slice/containerd.service",
            "/system.slice/kubelet.service",
        ];
        assert_eq!(containers(&fixture("k8s-containerd-v2"), ""), expected);
        let expected = [
            "/podman/grafana",
            "/system.slice/nginx.service",
            "/system.slice/sshd.service",
            "/system.slice/system-postgresql.slice",
            "/user.slice/user-1000.slice/syncthing.service",
        ];
        assert_eq!(containers(&fixture("systemd-v2"), ""), expected);
        let expected = [
            "-",
            "/containerd/2752ea5db34c",
            "/docker/locallog",
            "/docker/nolog",
            "/docker/web",
            "/k8s/ns1/pod1/c1",
            "/podman/pjson",
            "/podman/pvol",
            "/podman/pweb",
        ];
        assert_eq!(containers(&fixture("moved-runtimes"), "memory"), expected);
        let hybrid = fixture("hybrid");
        assert_eq!(
            containers(&hybrid, "memory"),
            ["/docker/idle", "/docker/worker", "/system.slice/chrony.service"]
        );
        assert_eq!(containers(&hybrid, "cpu"), ["/system.slice/chrony.service"]);
        assert!(containers(&hybrid, "unified").is_empty());
        assert_eq!(
            containers(&fixture("raspberry-pi"), ""),
            ["/docker/mosquitto", "/docker/pihole", "/system.slice/ssh.service"]
        );
    }

    #[test]
    fn published_ports_of_the_fixture_hosts() {
        let host = fixture("docker-v2");
        let published: Vec<(String, String)> = names(&host, "/var/lib/docker/containers")
            .iter()
            .filter_map(|id| read(&host, Runtime::Docker, id, false).unwrap())
            .filter(|metadata| !metadata.starting)
            .map(|metadata| (metadata.name, format!("{:?}", metadata.published)))
            .collect();
        let expected = [
            ("web", "[0.0.0.0:8080, [::]:8080]"),
            ("cache", "[]"),
            ("shop_api.2.k3j4h5g6f7d8s9a0q1w2e3r4t", "[]"),
        ];
        assert_eq!(published, pairs(&expected));
    }

    #[test]
    fn addresses_are_kept_once_and_bounded() {
        let mut published = Vec::new();
        for (address, port) in [
            ("0.0.0.0", 80),
            ("", 80),
            ("::", 80),
            ("127.0.0.1", 80),
            ("0.0.0.0", 0),
            ("localhost", 80),
            ("fe80::1%eth0", 80),
            ("1.2.3", 80),
        ] {
            publish(&mut published, address, port);
        }
        assert_eq!(format!("{published:?}"), "[0.0.0.0:80, [::]:80, 127.0.0.1:80]");
        (0..1000).for_each(|port| publish(&mut published, "10.0.0.1", port));
        assert_eq!(published.len(), limits::PUBLISHED_PORTS);
    }

    #[test]
    fn logs_and_volumes_of_the_fixture_hosts() {
        let host = fixture("k8s-containerd-v2");
        let tasks = "/run/containerd/io.containerd.runtime.v2.task/k8s.io";
        let all: Vec<Metadata> = names(&host, tasks)
            .iter()
            .filter_map(|id| read(&host, Runtime::Docker, id, false).unwrap())
            .collect();
        assert_eq!(all.iter().filter(|metadata| metadata.pause).count(), 2);
        let postgres = all.iter().find(|metadata| metadata.name == "postgres").unwrap();
        assert_eq!(postgres.image, "docker.io/library/postgres:16");
        assert!(
            postgres
                .volumes
                .iter()
                .any(|(to, from)| to == "/var/lib/postgresql/data" && from.contains("pvc-0b7e6a54"))
        );
        for metadata in all.iter().filter(|metadata| !metadata.pause) {
            let log = metadata.log.as_ref().unwrap();
            assert!(host.rootfs(&log.path).is_file() && log.format == LogFormat::Cri, "{log:?}");
        }
        let host = fixture("systemd-v2");
        let id = names(&host, "/var/lib/containers/storage/overlay-containers").remove(0);
        let grafana = read(&host, Runtime::Podman, &id, false).unwrap().unwrap();
        assert_eq!(
            (grafana.image.as_str(), grafana.created_s),
            ("docker.io/grafana/grafana:12.0", Some(1_795_302_000))
        );
        assert!(host.rootfs(&grafana.log.unwrap().path).is_file());
    }

    /// A host of its own for one test.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Tree {
            let path = std::env::temp_dir().join(format!("nodeprobe-runtimes-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            Tree(path)
        }

        fn put(&self, path: &str, text: &str) -> &Tree {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            self
        }

        fn read(&self, runtime: Runtime, id: &str) -> Result<Option<Metadata>, String> {
            read(&Host::new(&self.0, None), runtime, id, true)
        }

        fn name(&self, runtime: Runtime) -> String {
            self.read(runtime, "aa").unwrap().unwrap().name
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn other_places() {
        let config = |name: &str| format!(r#"{{"Name":"/{name}"}}"#);
        let tree = Tree::new("places");
        assert_eq!(tree.read(Runtime::Docker, "aa"), Ok(None));
        tree.put("home/joe/.local/share/docker/containers/aa/config.v2.json", &config("rootless"));
        assert_eq!(tree.name(Runtime::Docker), "rootless");
        let task = "io.containerd.runtime.v2.task/default/aa/config.json";
        tree.put(&format!("run/k3s/containerd/{task}"), r#"{"annotations":{"nerdctl/name":"k3s"}}"#);
        assert_eq!(tree.name(Runtime::Nerdctl), "k3s");
        assert_eq!(tree.name(Runtime::Docker), "k3s");
        tree.put("var/snap/docker/common/var-lib-docker/containers/aa/config.v2.json", &config("snap"));
        assert_eq!(tree.name(Runtime::Docker), "snap");
        tree.put("data/docker/100000.100000/containers/aa/config.v2.json", &config("remapped"));
        tree.put("etc/docker/daemon.json", r#"{"data-root":"/data/docker","userns-remap":"default"}"#);
        assert_eq!(tree.name(Runtime::Docker), "remapped");
        tree.put("etc/docker/daemon.json", r#"{"data-root":"/moved"}"#)
            .put("new/containers/aa/config.v2.json", &config("moved"));
        std::os::unix::fs::symlink("/new", tree.0.join("moved")).unwrap();
        assert_eq!(tree.name(Runtime::Docker), "moved");
        tree.put(
            "home/joe/.local/share/containers/storage/overlay-containers/volatile-containers.json",
            r#"[{"id":"aa","names":["joes"]}]"#,
        );
        assert_eq!(tree.name(Runtime::Podman), "joes");
    }

    #[test]
    fn what_is_wrong_is_said_and_never_waited_for() {
        let tree = Tree::new("wrong");
        let config = "var/lib/docker/containers/aa/config.v2.json";
        tree.put(config, r#"{"Name":"/web","#);
        let problem = tree.read(Runtime::Docker, "aa").unwrap_err();
        assert!(problem.starts_with("/var/lib/docker/containers/aa/config.v2.json: byte "), "{problem}");
        tree.put(config, &" ".repeat(MAX_FILE as usize + 1));
        assert!(tree.read(Runtime::Docker, "aa").unwrap_err().contains("larger"));
        // A FIFO that nobody writes to.
        fs::remove_file(tree.0.join(config)).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(tree.0.join(config)).status().unwrap().success());
        assert!(tree.read(Runtime::Docker, "aa").unwrap_err().contains("regular"));
        fs::remove_file(tree.0.join(config)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", tree.0.join(config)).unwrap();
        assert!(tree.read(Runtime::Docker, "aa").is_err());
        for id in ["", "..", ".", "a/b", "../aa", "a\0", "é", &"a".repeat(129)] {
            assert_eq!(tree.read(Runtime::Docker, id), Ok(None));
        }
    }

    #[test]
    fn a_user_cannot_pass_for_the_cluster() {
        let tree = Tree::new("trust");
        let config = r#"{"Name":"/x","Config":{"Labels":{"io.kubernetes.pod.name":"api","io.kubernetes.container.name":"c"}}}"#;
        tree.put("home/eve/.local/share/docker/containers/aa/config.v2.json", config);
        let metadata = tree.read(Runtime::Docker, "aa").unwrap().unwrap();
        assert!(metadata.labels.is_empty());
    }

    #[test]
    fn paths_in_toml() {
        let text = "# state = '/no'\nversion = 2\nstate = \"/a\" # state\nroot='/b'\n[grpc]\n state = '/c'\nx = \"a\\\\b\"\n";
        let found = |table: &str, key: &str| toml_text(text, table, key);
        assert_eq!(found("", "state").as_deref(), Some("/a"));
        assert_eq!(found("", "root").as_deref(), Some("/b"));
        assert_eq!(found("grpc", "state").as_deref(), Some("/c"));
        assert_eq!((found("", "version"), found("grpc", "x"), found("ttrpc", "state")), (None, None, None));
        mutate(text.as_bytes(), |data| drop(toml_text(&String::from_utf8_lossy(data), "", "state")));
    }

    #[test]
    fn the_fixture_host_with_moved_roots() {
        let host = fixture("moved-runtimes");
        let all = |directory: &str, runtime| -> Vec<Metadata> {
            names(&host, directory).iter().filter_map(|id| read(&host, runtime, id, false).unwrap()).collect()
        };
        let log = |metadata: &Metadata| {
            let log = metadata.log.as_ref()?;
            assert!(host.rootfs(&log.path).is_file(), "{log:?}");
            Some((log.path.rsplit('/').next()?.get(..5)?.to_owned(), log.format))
        };
        let mut docker = all("/srv/docker/containers", Runtime::Docker);
        docker.sort_by(|a, b| a.name.cmp(&b.name));
        let logs: Vec<_> = docker.iter().map(|metadata| (metadata.name.as_str(), log(metadata))).collect();
        let expected = [
            ("locallog", Some(("conta".to_owned(), LogFormat::DockerLocal))),
            ("nolog", None),
            ("web", Some(("437fe".to_owned(), LogFormat::DockerJson))),
        ];
        assert_eq!(logs, expected);
        assert_eq!(docker[2].label("app.kubernetes.io/name"), Some("shop"));
        let tasks = "/srv/containerd/state/io.containerd.runtime.v2.task";
        let pods = all(&format!("{tasks}/k8s.io"), Runtime::Containerd);
        let container = pods.iter().find(|metadata| !metadata.pause).unwrap();
        assert_eq!((pods.len(), container.image.as_str()), (2, "docker.io/rig/bb:1"));
        assert_eq!(log(container), Some(("0.log".to_owned(), LogFormat::Cri)));
        let plain = all(&format!("{tasks}/default"), Runtime::Nerdctl);
        assert!(
            plain.iter().any(|metadata| metadata.label("app") == Some("demo") && metadata.name.is_empty())
        );
        let podman = all("/srv/podman/vfs-containers", Runtime::Podman);
        let logs: Vec<_> =
            podman.iter().map(|metadata| (metadata.name.as_str(), log(metadata).is_some())).collect();
        assert_eq!(logs, [("pweb", true), ("pvol", false), ("pjson", true)]);
    }

    #[test]
    fn times() {
        for (text, time) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-11-20T09:14:02.123456789Z", Some(1_795_166_042)),
            ("2026-11-20T10:14:02+01:00", Some(1_795_166_042)),
            ("2026-11-20T03:44:02.5-05:30", Some(1_795_166_042)),
            ("2024-02-29T23:59:59Z", Some(1_709_251_199)),
            ("2000-03-01T00:00:00Z", Some(951_868_800)),
            ("0001-01-01T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-11-20", None),
            ("2026-11-20T09:14:02", None),
            ("2026-11-20T09:14:02+1", None),
            ("é026-11-20T09:14:02Z", None),
            ("", None),
        ] {
            assert_eq!(unix_time(text), time, "{text}");
        }
        mutate(b"2026-11-20T09:14:02.123456789+01:00", |data| {
            let _ = unix_time(&String::from_utf8_lossy(data));
        });
    }
}
