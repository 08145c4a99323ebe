//! Which container a cgroup belongs to, told from its path alone.
//!
//! `RULES` is the whole knowledge: one line per layout, first match wins. The order is
//! coroot-node-agent's, with these decisions of our own:
//!
//! - System containers (LXC, nspawn, virtual machines) come first: whatever runs inside them belongs to them.
//! - Kubernetes comes before docker and podman: in kind and k3d the node is a container and the *inner* one is meant.
//! - Everywhere else the *outermost* container wins, since that is the one whose name the host knows.

/// Who made a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Runtime {
    /// Docker Engine; also a bare id below `kubepods`, which containerd with the cgroupfs driver makes as well.
    Docker,
    /// containerd through the Kubernetes runtime interface.
    Containerd,
    /// CRI-O.
    Crio,
    /// Podman, of root or of a user.
    Podman,
    /// containerd without Kubernetes: nerdctl or `ctr`.
    Nerdctl,
    /// LXC, LXD, Incus, Proxmox containers.
    Lxc,
    /// A machine of systemd-machined: systemd-nspawn, or a virtual machine of libvirt.
    Nspawn,
    /// A unit of the system's systemd.
    Systemd,
    /// A unit of a user's systemd.
    UserUnit,
    /// A service of Talos Linux.
    Talos,
    /// Whoever a rule of the user is about.
    Rule,
}

impl Runtime {
    /// True for units of systemd, which hold services rather than what a container runtime made.
    pub fn is_unit(self) -> bool {
        matches!(self, Runtime::Systemd | Runtime::UserUnit)
    }
}

/// A cgroup's container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class<'a> {
    /// Who made it.
    pub runtime: Runtime,
    /// The prefix of the path that is the container's own cgroup; children of it belong to it.
    pub root: &'a str,
    /// The runtime's id: 64 digits for docker, containerd, CRI-O and podman, a name for LXC, machines and Talos, the same
    /// as `root` for units, and the whole `container_id` where a rule of the user gives one.
    pub id: &'a str,
}

/// The longest path that is looked at: the kernel's PATH_MAX. A longer one cannot come from `/proc` or a cgroup mount.
const MAX_PATH: usize = 4096;

/// The length of an id made by docker, containerd, CRI-O and podman: 32 random bytes in hex.
const ID_LENGTH: usize = 64;

/// What a rule says of a path.
#[derive(Clone, Copy)]
enum Gives {
    /// A container of this runtime; its id is what the pattern captured, else the last component of its cgroup.
    Container(Runtime),
    /// A unit of this runtime, named by its path.
    Unit(Runtime),
    /// Known, and not a container.
    Nothing,
}

/// Which paths a rule is about.
enum Pattern {
    /// These components, from the root of the path on; the container's cgroup ends with the last of them.
    From(&'static [Part]),
    /// The component that holds the id of the innermost Kubernetes container.
    Pod(Part),
    /// The outermost component that holds an id and is not a slice.
    First(Part),
}

/// One component of a path.
enum Part {
    /// Exactly one of these.
    Is(&'static [&'static str]),
    /// Starts so.
    Starts(&'static str),
    /// Ends with one of these.
    Ends(&'static [&'static str]),
    /// Anything.
    Any,
    /// Holds an id right after this text; anything may stand before and after.
    Id(&'static str),
    /// Is an id and nothing else.
    BareId,
    /// A name between this text and that; the name is the container's id.
    Name(&'static str, &'static str),
    /// No component: the path ends here.
    End,
}

use Gives::{Container, Nothing, Unit};
use Part::{Any, BareId, End, Ends, Id, Is, Name, Starts};
use Pattern::{First, From, Pod};
use Runtime::{Containerd, Crio, Docker, Lxc, Nerdctl, Nspawn, Podman, Systemd, Talos, UserUnit};

/// The slices whose children are units.
const UNIT_SLICES: Part =
    Is(&["system.slice", "runtime.slice", "reserved.slice", "kube.slice", "azure.slice", "podruntime.slice"]);
const USERS: Part = Is(&["user.slice"]);
const USER: Part = Starts("user-");
const USER_SYSTEMD: Part = Starts("user@");
const SLICE: Part = Ends(&[".slice"]);
const SERVICE: Part = Ends(&[".service"]);
/// Units that hold no service: scopes are processes somebody else started, the others hold helper processes for moments.
const NO_SERVICE: Part = Ends(&[".scope", ".mount", ".socket", ".swap"]);

/// Every layout we know; the first that matches decides, a path that none matches is no container.
#[rustfmt::skip]
const RULES: &[(Pattern, Gives)] = &[
    // Talos Linux runs its own init in a cgroup of this name.
    (From(&[Is(&["init"]), End]),                           Container(Talos)),
    // /lxc.payload.NAME (LXC 4, Incus), /lxc.payload/NAME (LXC 3.1), /lxc/NAME (older, Proxmox); lxc.monitor, lxc.pivot.
    (From(&[Name("lxc.payload.", "")]),                     Container(Lxc)),
    (From(&[Is(&["lxc.payload", "lxc"]), Any]),             Container(Lxc)),
    (From(&[Starts("lxc.")]),                               Nothing),
    // /machine.slice/systemd-nspawn@NAME.service, /machine.slice/machine-NAME.scope (nspawn by hand, libvirt).
    (From(&[Is(&["machine.slice"]), Name("systemd-nspawn@", ".service")]), Container(Nspawn)),
    (From(&[Is(&["machine.slice"]), Name("machine-", ".scope")]),          Container(Nspawn)),

    // Kubernetes: whatever has an id at or below a component with `kubepods` in it. Pods' own slices have none.
    (Pod(Id("crio-conmon-")),                               Nothing),
    (Pod(Id("crio-")),                                      Container(Crio)),
    (Pod(Id("cri-containerd-")),                            Container(Containerd)),
    (Pod(Id("cri-containerd:")),                            Container(Containerd)),
    (Pod(Id("")),                                           Container(Docker)),

    // Docker: /docker/ID, /system.slice/docker-ID.scope, rootless and --cgroup-parent=X.slice, then ECS tasks.
    (From(&[Is(&["docker"]), Id("")]),                      Container(Docker)),
    (First(Id("docker-")),                                  Container(Docker)),
    (From(&[Is(&["ecs"]), Any, BareId]),                    Container(Docker)),
    (From(&[Is(&["ecs"]), Any, Any, BareId]),               Container(Docker)),
    // conmon-ID: the watcher that CRI-O and podman put beside each container.
    (First(Id("conmon-")),                                  Nothing),
    // Podman: libpod-ID.scope below machine.slice or a user's slices; cgroupfs has libpod_parent[/POD]/libpod-ID.
    (From(&[Is(&["libpod_parent"]), Id("libpod-")]),        Container(Podman)),
    (From(&[Is(&["libpod_parent"]), BareId, Id("libpod-")]), Container(Podman)),
    (From(&[Is(&["libpod_parent"])]),                       Nothing),
    (First(Id("libpod-")),                                  Container(Podman)),
    // nerdctl with systemd, and the Kubernetes runtimes used without a kubelet.
    (First(Id("nerdctl-")),                                 Container(Nerdctl)),
    (First(Id("crio-")),                                    Container(Crio)),
    (First(Id("cri-containerd-")),                          Container(Containerd)),
    (First(Id("cri-containerd:")),                          Container(Containerd)),

    // Units of a user's systemd: /user.slice/user-1000.slice/user@1000.service[/app.slice]/foo.service; the slice of a
    // template stands for its instances. A podman pod's slice and everything else below user.slice is no container.
    (From(&[USERS, USER, USER_SYSTEMD, SERVICE]),                        Unit(UserUnit)),
    (From(&[USERS, USER, USER_SYSTEMD, SLICE, SERVICE]),                 Unit(UserUnit)),
    (From(&[USERS, USER, USER_SYSTEMD, SLICE, Id("libpod_pod_")]),       Nothing),
    (From(&[USERS, USER, USER_SYSTEMD, SLICE, SLICE, NO_SERVICE]),       Nothing),
    (From(&[USERS, USER, USER_SYSTEMD, SLICE, SLICE]),                   Unit(UserUnit)),
    (From(&[Is(&["user.slice", "init.scope", "systemd"])]),              Nothing),
    // Talos services: /system/apid, /podruntime/kubelet.
    (From(&[Is(&["system", "podruntime"]), Any]),           Container(Talos)),
    // Units of the system's systemd; only the second component counts, so that instances of a template are one unit.
    (From(&[UNIT_SLICES, Starts("crio-conmon-")]),          Nothing),
    (From(&[UNIT_SLICES, NO_SERVICE]),                      Nothing),
    (From(&[UNIT_SLICES, SLICE, NO_SERVICE]),               Nothing),
    (From(&[UNIT_SLICES, Any]),                             Unit(Systemd)),
    // Plain containerd: /NAMESPACE/ID, with docker's --cgroup-parent=NAME looking the same.
    (From(&[Any, BareId]),                                  Container(Nerdctl)),
];

/// The container that the cgroup at `path` is or belongs to; `None` when it is none of ours.
///
/// `path` is as in `/proc/PID/cgroup`, from the root of the hierarchy on. Linear in its length, allocates nothing.
pub fn classify(path: &str) -> Option<Class<'_>> {
    if !is_from_root(path) {
        return None;
    }
    let ids = Ids::find(path);
    RULES.iter().find_map(|(pattern, gives)| Some((found(pattern, path, &ids)?, gives))).and_then(
        |(found, gives)| {
            let root = path.get(..found.end)?;
            match *gives {
                Container(runtime) => Some(Class { runtime, root, id: found.id }),
                Unit(runtime) => Some(Class { runtime, root, id: root }),
                Nothing => None,
            }
        },
    )
}

/// Whether rules can be tried on `path`.
pub(super) fn is_from_root(path: &str) -> bool {
    // `/..` is a path outside the reader's cgroup namespace: not from the root, so not to be judged here.
    let outside = path == "/.." || path.starts_with("/../");
    path.len() <= MAX_PATH && path.starts_with('/') && !outside && !path.ends_with("(deleted)")
}

/// A component and where in the path it ends.
#[derive(Clone, Copy)]
struct Component<'a> {
    text: &'a str,
    end: usize,
}

/// Where the container's cgroup ends, and its id.
struct Found<'a> {
    end: usize,
    id: &'a str,
}

/// The two components that may hold a container's id.
struct Ids<'a> {
    first: Option<Component<'a>>,
    pod: Option<Component<'a>>,
}

impl<'a> Ids<'a> {
    /// One walk over the path. The innermost pod is the last `kubepods` that an id follows, so a `kubepods` which a
    /// container makes inside itself and leaves empty changes nothing.
    fn find(path: &'a str) -> Ids<'a> {
        let mut ids = Ids { first: None, pod: None };
        let mut below_kubepods = false;
        for component in components(path) {
            below_kubepods |= component.text.contains("kubepods");
            // The slice of a podman pod carries the pod's id.
            if component.text.ends_with(".slice") || id_after(component.text, "").is_none() {
                continue;
            }
            ids.first.get_or_insert(component);
            if below_kubepods {
                ids.pod = Some(component);
                below_kubepods = false;
            }
        }
        ids
    }
}

fn found<'a>(pattern: &Pattern, path: &'a str, ids: &Ids<'a>) -> Option<Found<'a>> {
    match pattern {
        From(parts) => from_root(parts, path),
        Pod(part) => ids.pod.and_then(|component| at(part, component)),
        First(part) => ids.first.and_then(|component| at(part, component)),
    }
}

fn at<'a>(part: &Part, component: Component<'a>) -> Option<Found<'a>> {
    matches(part, component.text).map(|id| Found { end: component.end, id })
}

fn from_root<'a>(parts: &[Part], path: &'a str) -> Option<Found<'a>> {
    let mut rest = components(path);
    let mut last = None;
    for part in parts {
        match (part, rest.next()) {
            (End, None) => {}
            (part, Some(component)) => last = Some(at(part, component)?),
            (_, None) => return None,
        }
    }
    last
}

/// What the part captures of the component, all of it where the part captures nothing; `None` when it does not match.
fn matches<'a>(part: &Part, component: &'a str) -> Option<&'a str> {
    let whole = |yes: bool| yes.then_some(component);
    match part {
        Is(words) => whole(words.contains(&component)),
        Starts(text) => whole(component.starts_with(text)),
        Ends(texts) => whole(texts.iter().any(|text| component.ends_with(text))),
        Any => Some(component),
        Id(before) => id_after(component, before),
        BareId => whole(id_after(component, "").is_some_and(|id| id.len() == component.len())),
        Name(before, after) => {
            let name = component.strip_prefix(before)?.strip_suffix(after)?;
            (!name.is_empty()).then_some(name)
        }
        End => None,
    }
}

/// The components of a path; empty ones (`//`, a trailing slash) are none.
fn components(path: &str) -> impl Iterator<Item = Component<'_>> {
    let mut at = 0;
    path.split('/')
        .map(move |text| {
            let end = at + text.len();
            at = end + 1;
            Component { text, end }
        })
        .filter(|component| !component.text.is_empty())
}

/// The first run of exactly 64 characters of `[a-z0-9]` that stands right after `before`.
fn id_after<'a>(component: &'a str, before: &str) -> Option<&'a str> {
    let mut rest = component;
    let mut at = 0;
    // Most components are too short to hold an id: the loop does not even start.
    while rest.len() >= ID_LENGTH {
        let run = rest.bytes().take_while(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()).count();
        if run == ID_LENGTH && component.get(..at).is_some_and(|left| left.ends_with(before)) {
            return rest.get(..run);
        }
        let step = run + rest.get(run..)?.chars().next().map_or(0, char::len_utf8);
        rest = rest.get(step..)?;
        at += step;
        if step == 0 {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const B: &str = "b43d92bf1e5c6f78bb9b7bc6f40721280299855ba692092716e3a1b6c0b86f3f";
    const USER: &str = "/user.slice/user-1000.slice/user@1000.service";

    /// Path with `A` and `B` standing for ids and `U` for [`USER`], length of the root as the number of its components,
    /// runtime, id (empty: same as root).
    #[rustfmt::skip]
    const CONTAINERS: &[(&str, usize, Runtime, &str)] = &[
        // docker
        ("/docker/A", 2, Docker, "A"),
        ("/docker/A/init.scope", 2, Docker, "A"),
        ("/docker/A/docker/B", 2, Docker, "A"),
        ("/docker/A/system.slice/containerd.service", 2, Docker, "A"),
        ("/docker/A/kubepods/besteffort/pod1", 2, Docker, "A"),
        ("/system.slice/docker-A.scope", 2, Docker, "A"),
        ("/system.slice/docker-A.scope/system.slice/docker-B.scope", 2, Docker, "A"),
        ("/system.slice/docker-A.scope/machine.slice/libpod-B.scope", 2, Docker, "A"),
        ("/foo.slice/foo-bar.slice/docker-A.scope", 3, Docker, "A"),
        ("U/user.slice/docker-A.scope", 5, Docker, "A"),
        ("U/app.slice/docker-A.scope/x", 5, Docker, "A"),
        ("/ecs/0f3a/A", 3, Docker, "A"),
        ("/ecs/cluster/0f3a/A/x", 4, Docker, "A"),
        // kubernetes
        ("/kubepods/burstable/pod0d206349-0faf-445c-8c3f-2d2153784f15/A", 4, Docker, "A"),
        ("/kubepods/podbf5a3d6b/A", 3, Docker, "A"),
        ("/kubepods/podbf5a3d6b/A/docker/B", 3, Docker, "A"),
        ("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podX.slice/docker-A.scope", 4, Docker, "A"),
        ("/kubepods.slice/kubepods-podX.slice/cri-containerd-A.scope", 3, Containerd, "A"),
        ("/kubepods.slice/kubepods-podX.slice/cri-containerd-A.scope/system.slice/a.service", 3, Containerd, "A"),
        ("/system.slice/containerd.service/kubepods-burstable-podX.slice:cri-containerd:A", 3, Containerd, "A"),
        ("/kubepods-besteffort-podX.slice:cri-containerd:A", 1, Containerd, "A"),
        ("/kubepods/besteffort/pod0d/crio-A", 4, Crio, "A"),
        ("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podX.slice/crio-A.scope", 4, Crio, "A"),
        ("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podX.slice/crio-A.scope/container", 4, Crio, "A"),
        // kind, k3d: the inner one; its container may make a kubepods of its own
        ("/docker/A/kubepods/besteffort/pod1/B", 6, Docker, "B"),
        ("/docker/A/k3s/kubepods/burstable/pod1/B/x", 7, Docker, "B"),
        ("/docker/A/kubepods/pod1/B/kubepods/pod2", 5, Docker, "B"),
        ("/system.slice/docker-A.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podX.slice/cri-containerd-B.scope", 6, Containerd, "B"),
        ("/kubepods.slice/kubepods-podX.slice/cri-containerd-A.scope/kubelet-kubepods.slice/crio-B.scope", 5, Crio, "B"),
        ("/machine.slice/libpod-A.scope/container/kubepods.slice/cri-containerd-B.scope", 5, Containerd, "B"),
        // podman
        ("/machine.slice/libpod-A.scope", 2, Podman, "A"),
        ("/machine.slice/libpod-A.scope/container", 2, Podman, "A"),
        ("/machine.slice/machine-libpod_pod_B.slice/libpod-A.scope/container", 3, Podman, "A"),
        ("/libpod_parent/libpod-A", 2, Podman, "A"),
        ("/libpod_parent/B/libpod-A/x", 3, Podman, "A"),
        ("U/user.slice/libpod-A.scope/container", 5, Podman, "A"),
        ("U/app.slice/libpod-A.scope", 5, Podman, "A"),
        ("U/user.slice/user-libpod_pod_B.slice/libpod-A.scope", 6, Podman, "A"),
        // containerd without Kubernetes, CRI runtimes without a kubelet
        ("/default/A", 2, Nerdctl, "A"),
        ("/k8s.io/A/x", 2, Nerdctl, "A"),
        ("/system.slice/nerdctl-A.scope", 2, Nerdctl, "A"),
        ("U/user.slice/nerdctl-A.scope", 5, Nerdctl, "A"),
        ("/system.slice/crio-A.scope", 2, Crio, "A"),
        // system containers and machines: everything inside is theirs
        ("/lxc.payload.web", 1, Lxc, "web"),
        ("/lxc.payload.web/system.slice/nginx.service", 1, Lxc, "web"),
        ("/lxc.payload.first.second/system.slice/docker-A.scope", 1, Lxc, "first.second"),
        ("/lxc.payload/web/init.scope", 2, Lxc, "web"),
        ("/lxc/101/ns/kubepods/pod1/A", 2, Lxc, "101"),
        ("/machine.slice/systemd-nspawn@deb.service/payload/init.scope", 2, Nspawn, "deb"),
        (r"/machine.slice/machine-qemu\x2d1\x2dvm.scope/libvirt/vcpu0", 2, Nspawn, r"qemu\x2d1\x2dvm"),
        // units
        ("/system.slice/nginx.service", 2, Systemd, ""),
        ("/system.slice/nginx.service/child/leaf", 2, Systemd, ""),
        ("/system.slice/nginx.service/x.scope", 2, Systemd, ""),
        ("/system.slice/kubepods-exporter.service", 2, Systemd, ""),
        ("/system.slice/docker.service", 2, Systemd, ""),
        ("/system.slice/web.service/libpod-payload-A", 2, Systemd, ""),
        ("/system.slice/system-postgresql.slice/postgresql@9.4-main.service", 2, Systemd, ""),
        (r"/system.slice/system-serial\x2dgetty.slice", 2, Systemd, ""),
        ("/runtime.slice/containerd.service", 2, Systemd, ""),
        ("/reserved.slice/kubelet.service", 2, Systemd, ""),
        ("/kube.slice/kubelet.service", 2, Systemd, ""),
        ("/azure.slice/walinuxagent.service", 2, Systemd, ""),
        ("/podruntime.slice/containerd.service", 2, Systemd, ""),
        ("U/app.slice/foo.service", 5, UserUnit, ""),
        ("U/app.slice/foo.service/sub", 5, UserUnit, ""),
        ("U/app.slice/app-foo.slice/foo@1.service", 5, UserUnit, ""),
        ("U/dbus.service", 4, UserUnit, ""),
        ("/init", 1, Talos, "init"),
        ("/podruntime/kubelet", 2, Talos, "kubelet"),
        ("/system/apid/x", 2, Talos, "apid"),
    ];

    #[rustfmt::skip]
    const NOTHING: &[&str] = &[
        "", "/", "//", "A", "docker/A", "/..", "/../docker/A", "/../..", "/init.scope", "/init/x", "/system.slice", "/docker",
        "/docker/buildx", "/user.slice", "/user.slice/user-1000.slice/session-3.scope", "U", "U/init.scope", "U/app.slice",
        "U/app.slice/app-firefox-12.scope", "U/app.slice/app-term.slice/vte-1.scope", "U/user.slice/user-libpod_pod_A.slice",
        "U/user.slice/libpod-conmon-A.scope", "/machine.slice", "/machine.slice/libpod-conmon-A.scope",
        "/machine.slice/machine-libpod_pod_A.slice", "/machine.slice/machine-.scope", "/libpod_parent", "/libpod_parent/conmon",
        "/libpod_parent/A", "/kubepods", "/kubepods/besteffort/pod1", "/kubepods.slice/kubepods-podX.slice",
        "/kubepods.slice/kubepods-podX.slice/crio-conmon-A.scope", "/system.slice/crio-conmon-A.scope",
        "/system.slice/crio-conmon-x.service", "/system.slice/run-r1.scope", "/system.slice/dev-hugepages.mount",
        "/system.slice/system-x.slice/y.scope", "/lxc", "/lxc.payload.", "/lxc.monitor.web", "/lxc.monitor/web", "/lxc.pivot",
        "/systemd/x", "/default/redis", "/a/b/A", "/default/Aa", "/default/A0", "/process_api/889062f46cb461e2cb5d33f661448f67",
        "/system.slice/docker-A.scope (deleted)", "/podruntime", "/é/Aé", "/default/éA",
    ];

    fn path(short: &str) -> String {
        let mut path = String::new();
        for word in short.split_inclusive(|c: char| !c.is_ascii_uppercase()) {
            let (capital, rest) =
                word.split_at(word.find(|c: char| !c.is_ascii_uppercase()).unwrap_or(word.len()));
            path.push_str(match capital {
                "A" => A,
                "B" => B,
                "U" => USER,
                other => other,
            });
            path.push_str(rest);
        }
        path
    }

    #[test]
    fn containers() {
        for &(short, parts, runtime, id) in CONTAINERS {
            let full = path(short);
            let root: String = full.split('/').skip(1).take(parts).map(|part| format!("/{part}")).collect();
            let id = if id.is_empty() { root.clone() } else { path(id) };
            assert_eq!(classify(&full), Some(Class { runtime, root: &root, id: &id }), "{short}");
            // The root itself is the same container.
            assert_eq!(classify(&root), classify(&full), "{short}");
        }
    }

    #[test]
    fn nothing() {
        for short in NOTHING {
            assert_eq!(classify(&path(short)), None, "{short}");
        }
        assert_eq!(classify(&format!("/docker/{A}/{}", "x/".repeat(MAX_PATH))), None);
    }

    #[test]
    fn any_path_is_survived_and_its_root_is_a_prefix() {
        let mut random = crate::procfs::fuzz::numbers(0x2545_f491_4f6c_dd1d_u64);
        let check = |path: &str| {
            if let Some(class) = classify(path) {
                assert!(
                    path.starts_with(class.root) && class.root.contains(class.id) && !class.id.is_empty(),
                    "{path}"
                );
                assert_eq!(classify(class.root), Some(class), "{path}");
            }
        };
        const PIECES: &[&str] = &[
            "/",
            "A",
            "B",
            "docker",
            "-",
            ".scope",
            ".slice",
            ".service",
            "kubepods",
            "crio-",
            "system",
            "é",
            "cri-containerd",
            ":",
            "libpod-",
            "lxc.payload.",
            "user",
            "@",
            "1000",
            "machine",
            "\\x2d",
            "\u{0}",
            "..",
            "init",
            "a",
        ];
        for _ in 0..10_000 {
            let made: String = (0..random() % 24).map(|_| PIECES[random() % PIECES.len()]).collect();
            check(&path(&format!("/{made}")));
            let known = path(CONTAINERS[random() % CONTAINERS.len()].0);
            let mut bytes = known.into_bytes();
            for _ in 0..=random() % 3 {
                let at = random() % bytes.len();
                match random() % 3 {
                    0 => bytes[at] = random() as u8,
                    1 => {
                        bytes.remove(at);
                    }
                    _ => bytes.insert(at, b'/'),
                }
            }
            check(&String::from_utf8_lossy(&bytes));
        }
    }
}
