"""Kubernetes manifests: whether the API would take them, and what they say, for docker.

`manifests.py check SCHEMAS FILE...` validates every document of the files: each schema in the directory that has a
definition for its kind must agree. Prints `SCHEMA KIND` for each, and problems.
`manifests.py docker FILE` prints the flags, image and arguments of `docker run` that are the same as the first container
of the file's DaemonSet, a word per line. A key that it does not know is an error: what is in the file is what is run.
"""
import glob, json, os, sys

import jsonschema, yaml


class Strict(yaml.SafeLoader):
    """YAML where no key may come twice."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        assert not twice, f"line {node.start_mark.line + 1}: {twice} twice"
        return super().construct_mapping(node, deep)


def documents(path):
    with open(path) as file:
        return list(yaml.load_all(file, Strict))


def check(schemas, paths):
    failed = False
    for path in paths:
        for document in documents(path):
            group, _, version = document["apiVersion"].rpartition("/")
            found = 0
            for name in sorted(glob.glob(f"{schemas}/*.json")):
                with open(name) as file:
                    schema = json.load(file)
                # io.k8s.api.apps.v1.DaemonSet, or the kind alone.
                wanted = f"{(group.split('.')[0] or 'core')}.{version}.{document['kind']}"
                keys = [key for key in schema["$defs"] if key == document["kind"] or key.endswith("." + wanted)]
                if not keys:
                    continue
                found += 1
                schema["$ref"] = f"#/$defs/{keys[0]}"
                print(os.path.basename(name), document["kind"])
                for error in jsonschema.Draft202012Validator(schema).iter_errors(document):
                    failed = True
                    print(f"{path}: {document['kind']}: {'.'.join(map(str, error.path))}: {error.message}")
            if not found:
                failed = True
                print(f"{path}: no schema for {document['apiVersion']} {document['kind']}")
    sys.exit(failed)


def take(mapping, *keys):
    """The values of these keys, which are all that there are."""
    assert not set(mapping) - set(keys), f"unknown: {set(mapping) - set(keys)}"
    return [mapping.get(key) for key in keys]


def docker(path):
    (daemons,) = [document for document in documents(path) if document["kind"] == "DaemonSet"]
    # What docker has nothing to say about, or the test looks at.
    pod = daemons["spec"]["template"]["spec"]
    for key in ("serviceAccountName", "automountServiceAccountToken", "enableServiceLinks", "tolerations"):
        pod.pop(key)
    is_host, grace, (container,), volumes = take(
        pod, "hostPID", "terminationGracePeriodSeconds", "containers", "volumes"
    )
    for key in ("name", "imagePullPolicy", "ports", "readinessProbe", "livenessProbe"):
        container.pop(key)
    image, arguments, resources, security, mounts = take(
        container, "image", "args", "resources", "securityContext", "volumeMounts"
    )
    flags = [f"--stop-timeout={grace}"]
    flags += ["--pid=host"] if is_host else []
    privileged, read_only, capabilities, seccomp, armor = take(
        security, "privileged", "readOnlyRootFilesystem", "capabilities", "seccompProfile", "appArmorProfile"
    )
    # Privileged containers share the host's cgroup namespace; others, on cgroup v2, do not.
    flags += ["--privileged", "--cgroupns=host"] if privileged else ["--cgroupns=private"]
    flags += ["--read-only"] if read_only else []
    if capabilities:
        drop, add = take(capabilities, "drop", "add")
        flags += [f"--cap-drop={name}" for name in drop] + [f"--cap-add={name}" for name in add]
    assert seccomp in (None, {"type": "RuntimeDefault"}), seccomp
    if armor:
        assert armor == {"type": "Unconfined"}, armor
        flags.append("--security-opt=apparmor=unconfined")
    _, limits = take(resources, "requests", "limits")
    (memory,) = take(limits, "memory")
    flags.append("--memory=" + memory.removesuffix("i").lower())
    for mount in mounts:
        name, target, is_read_only, propagation = take(mount, "name", "mountPath", "readOnly", "mountPropagation")
        (source,) = [volume["hostPath"]["path"] for volume in volumes if volume["name"] == name]
        options = ["ro" if is_read_only else "rw"]
        options += {"HostToContainer": ["rslave"], "Bidirectional": ["rshared"], None: []}[propagation]
        flags.append(f"--volume={source}:{target}:{','.join(options)}")
    print("\n".join([*flags, image, *arguments]))


if __name__ == "__main__":
    if sys.argv[1] == "check":
        check(sys.argv[2], sys.argv[3:])
    else:
        docker(sys.argv[2])
