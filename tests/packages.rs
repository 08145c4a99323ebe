//! What is shipped: the Debian package and the tarball, by their looks. `tests/deb/root.sh` installs the package.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::netns::output;
use support::{BINARY, TempDir};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What is packed where it does not matter: the binary under test is large, and packing it takes its time.
const SMALL: &str = "/bin/true";

/// Runs `deploy/package.sh` for a binary; what it made.
#[track_caller]
fn packed(what: &str, arch: &str, binary: &str, directory: &Path) -> PathBuf {
    let mut command = Command::new(repository().join("deploy/package.sh"));
    command.arg(what).envs([("ARCH", arch), ("BINARY", binary), ("SOURCE_DATE_EPOCH", "1700000000")]);
    output({
        command.env("DIST", directory);
        command
    });
    let mut files: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "deb" || end == "gz"));
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

#[track_caller]
fn dpkg_deb(option: &str, package: &Path) -> String {
    let mut command = Command::new("dpkg-deb");
    command.arg(option).arg(package);
    output(command)
}

/// The modes, owners and names `tar -tv` and `dpkg-deb -c` print.
fn entries(listing: &str) -> Vec<(&str, &str, &str)> {
    let lines = listing.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.map(|words| (words[0], words[1], words[5])).collect()
}

#[test]
fn the_debian_package_holds_what_it_should() {
    let directory = TempDir::new("packages");
    // Without what debuggers want, which takes its time to pack.
    let binary = directory.path().join("nodeprobe");
    let mut command = Command::new("llvm-strip");
    command.arg("-o").arg(&binary).arg(BINARY);
    output(command);
    let package = packed("deb", "x86_64", binary.to_str().unwrap(), directory.path());
    assert_eq!(
        package.file_name().unwrap().to_str().unwrap(),
        concat!("nodeprobe_", env!("CARGO_PKG_VERSION"), "_amd64.deb")
    );
    let fields = dpkg_deb("-f", &package);
    for line in ["Package: nodeprobe", "Architecture: amd64", concat!("Version: ", env!("CARGO_PKG_VERSION"))]
    {
        assert!(fields.lines().any(|known| known == line), "no {line} in {fields}");
    }
    assert!(!fields.contains('@') || fields.matches('@').count() == 1, "{fields}");
    let listing = dpkg_deb("-c", &package);
    let entries = entries(&listing);
    assert!(entries.iter().all(|(_, owner, _)| *owner == "root/root"), "{listing}");
    for (mode, path) in [
        ("-rwxr-xr-x", "./usr/bin/nodeprobe"),
        ("-rw-r--r--", "./usr/lib/systemd/system/nodeprobe.service"),
        ("-rw-r--r--", "./usr/lib/systemd/system/nodeprobe.socket"),
        ("-rw-r--r--", "./etc/default/nodeprobe"),
        ("-rw-r--r--", "./usr/share/doc/nodeprobe/copyright"),
        ("-rw-r--r--", "./usr/share/doc/nodeprobe/changelog.gz"),
    ] {
        assert!(
            entries.iter().any(|entry| entry.0 == mode && entry.2 == path),
            "no {mode} {path} in {listing}"
        );
    }
    let tree = directory.path().join("tree");
    let mut command = Command::new("dpkg-deb");
    command.arg("-R").arg(&package).arg(&tree);
    output(command);
    assert_eq!(fs::read_to_string(tree.join("DEBIAN/conffiles")).unwrap(), "/etc/default/nodeprobe\n");
    let unit = fs::read_to_string(tree.join("usr/lib/systemd/system/nodeprobe.service")).unwrap();
    let shipped = fs::read_to_string(repository().join("deploy/nodeprobe.service")).unwrap();
    assert_eq!(unit, shipped.replace("/usr/local/bin/", "/usr/bin/"));
    assert!(unit.contains("\nExecStart=/usr/bin/nodeprobe\n"), "{unit}");
    for script in ["postinst", "prerm", "postrm"] {
        let mut command = Command::new("sh");
        command.arg("-n").arg(tree.join("DEBIAN").join(script));
        output(command);
    }
    let mut command = Command::new("md5sum");
    command.args(["--quiet", "-c", "DEBIAN/md5sums"]).current_dir(&tree);
    output(command);
}

#[test]
fn other_architectures_have_debians_names() {
    for (arch, name) in [("aarch64", "arm64"), ("armv7", "armhf")] {
        let directory = TempDir::new("packages");
        let package = packed("deb", arch, SMALL, directory.path());
        assert_eq!(
            dpkg_deb("-f", &package).lines().find(|line| line.starts_with("Architecture:")),
            Some(&*format!("Architecture: {name}"))
        );
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    for what in ["deb", "tarball"] {
        let [one, two] = [(); 2].map(|()| {
            let directory = TempDir::new("packages");
            let path = packed(what, "x86_64", SMALL, directory.path());
            let sums = fs::read_to_string(directory.path().join("SHA256SUMS")).unwrap();
            let mut command = Command::new("sha256sum");
            command.args(["--quiet", "-c", "SHA256SUMS"]).current_dir(directory.path());
            output(command);
            (fs::read(path).unwrap(), sums)
        });
        assert!(one == two, "two {what}s differ");
        assert_eq!(one.1.lines().count(), 1);
    }
}

#[test]
fn the_tarball_is_one_directory() {
    let directory = TempDir::new("packages");
    let path = packed("tarball", "x86_64", SMALL, directory.path());
    let root = concat!("nodeprobe-", env!("CARGO_PKG_VERSION"), "-x86_64");
    assert_eq!(path.file_name().unwrap().to_str().unwrap(), format!("{root}.tar.gz"));
    let mut command = Command::new("tar");
    command.args(["--numeric-owner", "-tvzf"]).arg(&path);
    let listing = output(command);
    let entries = entries(&listing);
    assert!(entries.iter().all(|(_, owner, path)| *owner == "0/0" && path.starts_with(root)), "{listing}");
    for file in [
        "nodeprobe",
        "nodeprobe.service",
        "nodeprobe.socket",
        "nodeprobe.env",
        "LICENSE",
        "NOTICES",
        "README.md",
    ] {
        assert!(entries.iter().any(|entry| entry.2 == format!("{root}/{file}")), "no {file} in {listing}");
    }
}
