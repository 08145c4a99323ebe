"""Container runtimes with their usual paths, seen by nobody else; and a client of the runtime interface of Kubernetes.

`runtimes.py hold DIRECTORY [DAEMON]...` has a mount namespace of its own, where /etc is a copy and /run and /var/lib are
empty, starts daemons there, says `ready`, and ends all that came of them when its standard input ends. With the word
`network` docker has its usual bridge, for which the caller has made a network namespace.
`runtimes.py pod NAMESPACE POD CONTAINER CGROUP IMAGE SHELL`, in that namespace, runs a pod and says its id and that of the
container; `again POD_ID NAMESPACE ...` puts another container into it, `end ID` removes that, `remove POD_ID` the pod.
`runtimes.py lower ARGUMENTS OF RUNC` takes from a container about to be made what this machine does not have to give.
"""
import ctypes, hashlib, io, json, os, platform, select, shutil, signal, socket, struct, subprocess, sys, tarfile, time

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_CHILD_SUBREAPER = 36
MS_REC_SHARED = 1 << 20 | 1 << 14
CONTAINERD = "/run/containerd/containerd.sock"
# Neither overlay nor AppArmor, which a machine may lack, and no raising of limits, which a container may not do.
CONFIG = """version = 2
[plugins."io.containerd.grpc.v1.cri"]
  disable_apparmor = true
  restrict_oom_score_adj = true
  sandbox_image = "docker.io/test/pause:1"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
"""
# Those that containers inside of others often do not have, by their numbers in linux/capability.h.
CAPABILITIES = {"CAP_SYS_MODULE": 16, "CAP_SYS_RAWIO": 17, "CAP_SYS_BOOT": 22, "CAP_SYS_RESOURCE": 24, "CAP_SYS_TIME": 25}
# Where runtimes make cgroups for containers.
TOPS = ("docker", "libpod_parent", "kubepods", "default", "apart", "k8s.io", "moby")


def rootfs(directory):
    """A tar of a root file system that is busybox and nothing else."""
    path = f"{directory}/rootfs.tar"
    with open("/bin/busybox", "rb") as file:
        assert b"/ld-" not in file.read(4096), "this busybox wants libraries: install busybox-static"
    with tarfile.open(path, "w") as tar:
        tar.add(os.path.realpath("/bin/busybox"), "bin/busybox")
        for name in ("sh", "sleep", "true", "false", "echo", "cat", "wget", "httpd", "tail"):
            info = tarfile.TarInfo(f"bin/{name}")
            info.type, info.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(info)
        for name in ("etc", "proc", "sys", "dev", "tmp", "run"):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
    return path


def image(rootfs, name, path, command):
    """An image of one layer in the layout of the Open Container Initiative."""
    files = {}

    def put(data):
        digest = hashlib.sha256(data).hexdigest()
        files[f"blobs/sha256/{digest}"] = data
        return {"digest": f"sha256:{digest}", "size": len(data)}

    kind = "application/vnd.oci.image."
    with open(rootfs, "rb") as file:
        layer = put(file.read())
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Cmd": command, "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind + "manifest.v1+json",
        "config": put(json.dumps(config).encode()) | {"mediaType": kind + "config.v1+json"},
        "layers": [layer | {"mediaType": kind + "layer.v1.tar"}],
    }
    entry = put(json.dumps(manifest).encode()) | {"mediaType": manifest["mediaType"]}
    entry["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.split(":")[-1]}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    files["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def mount(source, target, kind=None, flags=0):
    call = LIBC.mount(source.encode(), target.encode(), kind and kind.encode(), ctypes.c_ulong(flags), None)
    assert call == 0, f"mount {target}: {os.strerror(ctypes.get_errno())}"


def ours():
    """All processes of this mount namespace but this one, whoever started them, and all below those: containers have
    namespaces of their own."""
    children, found, own = {}, [], os.stat("/proc/self/ns/mnt").st_ino
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            with open(f"/proc/{pid}/stat") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
            if pid != os.getpid() and os.stat(f"/proc/{pid}/ns/mnt").st_ino == own:
                found.append(pid)
        except OSError:
            continue
        children.setdefault(parent, []).append(pid)
    for pid in found:
        found += [child for child in children.get(pid, []) if child not in found]
    return found


def reap():
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return True


def cgroups():
    """The cgroups below the directories that runtimes make, deepest first."""
    found = []
    for hierarchy in [".", *os.listdir("/sys/fs/cgroup")]:
        for top in TOPS:
            for directory, _, _ in os.walk(f"/sys/fs/cgroup/{hierarchy}/{top}", topdown=False):
                found.append(directory)
    return found


def end(before):
    """Ends what is left, which never is a process that somebody else started, and removes its cgroups."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        left = ours()
        if reap() and not left:
            break
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.02)
    deadline = time.monotonic() + 3
    for directory in [path for path in cgroups() if path not in before]:
        while os.path.isdir(directory) and time.monotonic() < deadline:
            try:
                os.rmdir(directory)
            except OSError:
                time.sleep(0.02)


def runc(directory):
    """A runtime for containers that are to have all rights: docker asks for capabilities that a machine may lack."""
    path = f"{directory}/runc"
    with open(path, "w") as file:
        lower = f"{sys.executable} -S -E -B {os.path.abspath(__file__)} lower"
        file.write(f'#!/bin/sh\ncase " $* " in *" create "*) {lower} "$@" || exit ;; esac\nexec runc "$@"\n')
    os.chmod(path, 0o755)
    return path


def lower(arguments):
    """Leaves a container those of its capabilities that this process has."""
    path = arguments[arguments.index("--bundle") + 1] + "/config.json"
    with open("/proc/self/status") as file:
        held = int(next(line for line in file if line.startswith("CapBnd:")).split()[1], 16)
    with open(path) as file:
        spec = json.load(file)
    for kind, names in spec["process"]["capabilities"].items():
        spec["process"]["capabilities"][kind] = [
            name for name in names if name not in CAPABILITIES or held >> CAPABILITIES[name] & 1
        ]
    with open(path, "w") as file:
        json.dump(spec, file)


def daemon(name, directory, command, is_ready):
    with open(f"{directory}/{name}.log", "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    for _ in range(600):
        if process.poll() is not None:
            break
        if subprocess.run(is_ready, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
            return
        time.sleep(0.05)
    with open(f"{directory}/{name}.log") as log:
        sys.exit(f"{name} does not start: " + "".join(log.readlines()[-10:]))


def hold(directory, daemons):
    assert LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    before = set(cgroups())
    try:
        mount("none", directory, "tmpfs")
        shutil.copytree("/etc", f"{directory}/etc", symlinks=True)
        for name in ("docker", "containerd", "containers/containers.conf", "containers/storage.conf", "cni"):
            path = f"{directory}/etc/{name}"
            shutil.rmtree(path) if os.path.isdir(path) else os.path.exists(path) and os.remove(path)
        mount(f"{directory}/etc", "/etc", flags=4096)
        mount("none", "/run", "tmpfs")
        mount("none", "/var/lib", "tmpfs")
        os.makedirs("/run/lock", exist_ok=True)
        if "network" in daemons:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            # As systemd has it, and -v /:/host:rslave wants it.
            mount("none", "/", flags=MS_REC_SHARED)
        tar = rootfs(directory)
        # Without CAP_SYS_RESOURCE nobody may raise the hard limit.
        limit = os.popen("ulimit -Hn").read().strip()
        if "containerd" in daemons:
            os.makedirs("/etc/containerd")
            with open("/etc/containerd/config.toml", "w") as file:
                file.write(CONFIG)
            daemon("containerd", directory, ["containerd"], ["ctr", "version"])
            image(tar, "docker.io/test/pause:1", f"{directory}/pause.tar", ["/bin/sleep", "100000"])
            image(tar, "docker.io/test/busybox:2.1", f"{directory}/image.tar", ["/bin/sh"])
        for argument in daemons:
            # dockerd, or dockerd=DATA_ROOT, which goes into its usual file of settings.
            name, _, root = argument.partition("=")
            if name != "dockerd":
                continue
            if root:
                os.makedirs("/etc/docker")
                with open("/etc/docker/daemon.json", "w") as file:
                    json.dump({"data-root": root}, file)
            command = ["dockerd", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs"]
            command += [] if "network" in daemons else ["--bridge=none"]
            command += ["--exec-opt=native.cgroupdriver=cgroupfs", f"--default-ulimit=nofile=1024:{limit}"]
            command += ["--containerd", CONTAINERD] if "containerd" in daemons else []
            command += [f"--add-runtime=here={runc(directory)}"]
            daemon("dockerd", directory, command, ["docker", "version"])
        print("ready", flush=True)
        while not select.select([0], [], [], 0.05)[0] or os.read(0, 4096):
            reap()
    finally:
        end(before)


def number(value):
    data = b""
    while True:
        value, low = value >> 7, value & 127
        data += bytes([low | (128 if value else 0)])
        if not value:
            return data


def message(*fields):
    """A protobuf message of numbers, texts and other messages."""
    data = b""
    for field, value in fields:
        if isinstance(value, int):
            data += number(field << 3) + number(value)
        else:
            value = value.encode() if isinstance(value, str) else value
            data += number(field << 3 | 2) + number(len(value)) + value
    return data


def call(method, request):
    """One call of gRPC: the answer's first field, a text shorter than 128 bytes."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(CONTAINERD)

    def frame(kind, flags, stream, payload):
        client.sendall(struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload)

    def read(count):
        data = b""
        while len(data) < count:
            piece = client.recv(count - len(data))
            assert piece, f"{method}: the connection ended"
            data += piece
        return data

    def header(name, value):
        # Literal, without indexing, without Huffman.
        return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()

    client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    frame(4, 0, 0, b"")
    path = f"/runtime.v1.RuntimeService/{method}"
    pairs = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")]
    pairs += [("content-type", "application/grpc"), ("te", "trailers")]
    frame(1, 4, 1, b"".join(header(*pair) for pair in pairs))
    frame(0, 1, 1, b"\0" + struct.pack("!I", len(request)) + request)
    answer = b""
    while True:
        head = read(9)
        payload = read(int.from_bytes(head[:3], "big"))
        kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
        if kind == 4 and not flags & 1:
            frame(4, 1, 0, b"")
        elif kind == 6 and not flags & 1:
            frame(6, 1, 0, payload)
        elif kind in (3, 7):
            sys.exit(f"{method}: refused: {payload!r}")
        elif stream == 1 and kind == 0:
            answer += payload
        if stream == 1 and flags & 1:
            break
    # A failed call has trailers alone; the words are in containerd's log.
    assert len(answer) >= 5, f"{method} failed; see containerd.log"
    return answer[7 : 7 + answer[6]].decode() if len(answer) > 5 else ""


# The network of the host for the sandbox and the container.
OPTIONS = message((1, 2))


def sandbox(namespace, pod, cgroup):
    uid = hashlib.sha256(f"{namespace}/{pod}".encode()).hexdigest()
    uid = f"{uid[:8]}-{uid[8:12]}-{uid[12:16]}-{uid[16:20]}-{uid[20:32]}"
    pairs = [("name", pod), ("namespace", namespace), ("uid", uid)]
    pairs = [(f"io.kubernetes.pod.{key}", value) for key, value in pairs]
    return pairs, message(
        (1, message((1, pod), (2, uid), (3, namespace))),
        (3, f"/run/pods/{namespace}_{pod}_{uid}"),
        *[(6, message((1, key), (2, value))) for key, value in pairs],
        (8, message((1, cgroup.replace("UID", uid)), (2, message((1, OPTIONS))))),
    )


def container(pod_id, namespace, pod, name, cgroup, image, shell, attempt="0"):
    pairs, config = sandbox(namespace, pod, cgroup)
    pairs = [*pairs, ("io.kubernetes.container.name", name)]
    spec = message(
        (1, message((1, name), (2, int(attempt)))),
        (2, message((1, image))),
        *[(3, word) for word in ("/bin/sh", "-c", shell)],
        *[(9, message((1, key), (2, value))) for key, value in pairs],
        (11, f"{name}/{attempt}.log"),
        (15, message((2, message((3, OPTIONS))))),
    )
    container_id = call("CreateContainer", message((1, pod_id), (2, spec), (3, config)))
    call("StartContainer", message((1, container_id)))
    return container_id


if __name__ == "__main__":
    verb, arguments = sys.argv[1], sys.argv[2:]
    if verb == "hold":
        hold(arguments[0], arguments[1:])
    elif verb == "pod":
        namespace, pod, _, cgroup = arguments[:4]
        pod_id = call("RunPodSandbox", message((1, sandbox(namespace, pod, cgroup)[1])))
        print(pod_id, container(pod_id, *arguments))
    elif verb == "lower":
        lower(arguments)
    elif verb == "again":
        print(container(*arguments))
    elif verb == "end":
        call("StopContainer", message((1, arguments[0])))
        call("RemoveContainer", message((1, arguments[0])))
    elif verb == "remove":
        call("StopPodSandbox", message((1, arguments[0])))
        call("RemovePodSandbox", message((1, arguments[0])))
    else:
        sys.exit(__doc__)
