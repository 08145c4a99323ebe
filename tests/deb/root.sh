#!/bin/bash
# tests/deb/root.sh [DIRECTORY]: the Debian package in a clean root: install, upgrade that keeps a changed setting, remove,
# purge. As root, after `make build`; the first time it fetches the root (60 MB) into DIRECTORY.
#   SUITE=bookworm    Debian's suite
#   BINARY=dist/nodeprobe
set -eu
cd "$(dirname "$0")/../.."
work=$(realpath -m "${1:-/var/tmp/nodeprobe-deb}") suite=${SUITE:-bookworm}
vendor/setup.sh vm
mkdir -p "$work"
base=$work/$suite.tar
if [ ! -e "$base" ]; then
	mmdebstrap --quiet --variant=minbase --skip=check/qemu --include=init-system-helpers,systemd "$suite" "$base.new.tar"
	mv "$base.new.tar" "$base"
fi
run=$(mktemp -d -p "$work")
root=$run/root
mkdir "$root"
trap 'rm -rf "$run"' EXIT
tar -C "$root" -xf "$base" --exclude='./dev/*'
mknod -m 666 "$root/dev/null" c 1 3
bad=0
check() {
	local what=$1
	shift
	if "$@"; then echo "ok: $what"; else echo "BAD: $what"; bad=1; fi
}
# pack VERSION: the package as it would be of that version.
pack() {
	local tree=$run/$1
	BINARY=${BINARY:-dist/nodeprobe} DIST=$run deploy/package.sh deb >/dev/null
	dpkg-deb -R "$run"/nodeprobe_*_amd64.deb "$tree"
	rm "$run"/nodeprobe_*_amd64.deb
	sed -i "s/^Version: .*/Version: $1/" "$tree/DEBIAN/control"
	[ "$1" = 0.0.1 ] || echo "# New in $1." >>"$tree/etc/default/nodeprobe"
	dpkg-deb --root-owner-group -b "$tree" "$root/nodeprobe_$1.deb" >/dev/null
}
in_root() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }
exists() { [ -e "$root/$1" ]; }
lacks() { [ ! -e "$root/$1" ] && [ ! -L "$root/$1" ]; }
has() { grep -q "$1" "$root/$2"; }
enabled=etc/systemd/system/multi-user.target.wants/nodeprobe.service settings=etc/default/nodeprobe
pack 0.0.1
pack 0.0.2
# A host that is running, as far as scripts can see; whatever they would start is written down. Then one with a policy.
mkdir -p "$root/run/systemd/system"
mv "$root/usr/bin/systemctl" "$root/usr/bin/systemctl.real"
cat >"$root/usr/bin/systemctl" <<'END'
#!/bin/sh
echo "$*" >>/systemctl.log
case " $* " in
*" preset "* | *" enable "* | *" disable "* | *" is-enabled "*) SYSTEMD_OFFLINE=1 exec systemctl.real "$@" ;;
esac
END
chmod 755 "$root/usr/bin/systemctl"

check "it installs" in_root dpkg -i /nodeprobe_0.0.1.deb
check "the binary runs" in_root nodeprobe version
check "its unit is where systemd looks" exists lib/systemd/system/nodeprobe.service
check "the unit starts what is installed" has '^ExecStart=/usr/bin/nodeprobe$' lib/systemd/system/nodeprobe.service
check "it is enabled" [ -L "$root/$enabled" ]
check "its socket is not" lacks etc/systemd/system/sockets.target.wants/nodeprobe.socket
check "it is started" has ' start .*nodeprobe.service\|^start .*nodeprobe.service' systemctl.log
check "all files are as packed" in_root dpkg -V nodeprobe

# Somebody changes a setting and switches the service off.
echo NODEPROBE_LISTEN=127.0.0.1:1 >>"$root/$settings"
mkdir -p "$root/var/lib/nodeprobe"
echo positions >"$root/var/lib/nodeprobe/state"
rm -f "$root/$enabled"
: >"$root/systemctl.log"
check "it upgrades" in_root dpkg --force-confold -i /nodeprobe_0.0.2.deb
check "the changed setting is kept" has '^NODEPROBE_LISTEN=127.0.0.1:1$' "$settings"
check "the new settings lie beside" has 'New in 0.0.2' "$settings.dpkg-dist"
check "the state is kept" exists var/lib/nodeprobe/state
check "what was switched off stays off" lacks "$enabled"
check "nothing was stopped" [ -z "$(grep -E '(^| )stop ' "$root/systemctl.log")" ]

check "it is removed" in_root dpkg -r nodeprobe
check "and stopped" has 'stop .*nodeprobe.service' systemctl.log
check "the binary is gone" lacks usr/bin/nodeprobe
check "settings and state stay" exists "$settings"
check "state stays" exists var/lib/nodeprobe/state
check "it is purged" in_root dpkg -P nodeprobe
left=$(cd "$root" && find etc usr var lib/systemd -name '*nodeprobe*' ! -path 'var/lib/dpkg/*' ! -path 'var/cache/*' 2>/dev/null)
check "nothing is left: $left" [ -z "$left" ]

# With a policy nothing starts; without systemd nothing fails.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
: >"$root/systemctl.log"
check "it installs where a policy forbids to start" in_root dpkg -i /nodeprobe_0.0.1.deb
check "and starts nothing" [ -z "$(grep -E '(^| )(re|try-re)?start ' "$root/systemctl.log")" ]
in_root dpkg -P nodeprobe >/dev/null
rm -r "$root/run/systemd/system" "$root/usr/bin/deb-systemd-helper" "$root/usr/bin/deb-systemd-invoke"
check "it installs without systemd" in_root dpkg -i /nodeprobe_0.0.1.deb
check "and goes" in_root dpkg -P nodeprobe
if command -v lintian >/dev/null; then lintian --fail-on error "$root/nodeprobe_0.0.2.deb" || bad=1; fi
exit $bad
