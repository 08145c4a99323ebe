#!/bin/bash
# deploy/package.sh deb|tarball: packs the binary that is built into dist/nodeprobe_VERSION_ARCH.deb or
# dist/nodeprobe-VERSION-ARCH.tar.gz, and writes dist/SHA256SUMS. The same input gives the same bytes.
#   ARCH=aarch64     another architecture than x86_64: aarch64 or armv7
#   BINARY=FILE      the binary (default dist/nodeprobe, dist/ARCH/nodeprobe for others than x86_64)
#   DIST=dist        where to put it
#   SOURCE_DATE_EPOCH=SECONDS  the time of all files (default the last commit's)
set -eu
cd "$(dirname "$0")/.."
what=${1:-} arch=${ARCH:-x86_64} dist=${DIST:-dist}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
case $arch in
x86_64) debian=amd64 binary=dist/nodeprobe ;;
aarch64) debian=arm64 binary=dist/$arch/nodeprobe ;;
armv7) debian=armhf binary=dist/$arch/nodeprobe ;;
*)
	echo "ARCH is x86_64, aarch64 or armv7, not '$arch'" >&2
	exit 2
	;;
esac
binary=${BINARY:-$binary}
[ -x "$binary" ] || { echo "$binary is not there yet: make build${ARCH:+ ARCH=$ARCH}" >&2; exit 1; }
# A copy of the source without its history has the time of its newest change on file.
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)}
export SOURCE_DATE_EPOCH=$epoch LC_ALL=C TZ=UTC
umask 022
maintainer=${MAINTAINER:-nodeprobe maintainers <maintainers@nodeprobe.example>}
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$dist"

put() { install -D -m "$1" "$2" "$tree/$root/$3"; }
packed() { gzip -9 -n; }
all_of_one_time() { find "$tree" -exec touch -h -d "@$epoch" {} +; }
# The newest first, all for one version; a file that is there twice would be checked twice.
sums() {
	(cd "$dist" && find . -maxdepth 1 -name 'nodeprobe[-_]*' \( -name '*.deb' -o -name '*.tar.gz' \) -printf '%P\n' |
		sort | xargs sha256sum >SHA256SUMS.new && mv SHA256SUMS.new SHA256SUMS)
}

deb() {
	local root=deb docs=usr/share/doc/nodeprobe out=$dist/nodeprobe_${version}_$debian.deb
	put 755 "$binary" usr/bin/nodeprobe
	put 644 deploy/nodeprobe.env etc/default/nodeprobe
	put 644 deploy/nodeprobe.socket usr/lib/systemd/system/nodeprobe.socket
	sed 's#/usr/local/bin/#/usr/bin/#' deploy/nodeprobe.service >"$tree/$root/usr/lib/systemd/system/nodeprobe.service"
	put 644 README.md $docs/README.md
	for name in METRICS FLAGS CONFIG PROGRAMS CONTAINERS; do
		[ ! -e docs/$name.md ] || put 644 docs/$name.md $docs/$name.md
	done
	packed <CHANGELOG.md >"$tree/$root/$docs/NEWS.md.gz"
	packed >"$tree/$root/$docs/changelog.gz" <<-END
		nodeprobe ($version) unstable; urgency=medium

		  * What changed is in NEWS.md.gz.

		 -- $maintainer  $(date -R -d "@$epoch")
	END
	{
		cat deploy/deb/copyright
		echo
		sed 's/^$/./; s/^/ /' vendor/NOTICES
	} >"$tree/$root/$docs/copyright"
	install -d "$tree/$root/DEBIAN"
	for script in postinst prerm postrm; do install -m 755 deploy/deb/$script "$tree/$root/DEBIAN/$script"; done
	echo /etc/default/nodeprobe >"$tree/$root/DEBIAN/conffiles"
	(cd "$tree/$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$tree/md5sums"
	mv "$tree/md5sums" "$tree/$root/DEBIAN/md5sums"
	local size
	size=$(find "$tree/$root/usr" "$tree/$root/etc" -type f -printf '%s\n' | awk '{ kib += int(($1 + 1023) / 1024) } END { print kib }')
	sed "s/@VERSION@/$version/; s/@ARCH@/$debian/; s/@SIZE@/$size/; s/@MAINTAINER@/$maintainer/" deploy/deb/control \
		>"$tree/$root/DEBIAN/control"
	all_of_one_time
	dpkg-deb --root-owner-group -Zxz --build "$tree/$root" "$out" >/dev/null
	echo "$out: $(stat -c %s "$out") bytes"
}

tarball() {
	local root=nodeprobe-$version-$arch out=$dist/nodeprobe-$version-$arch.tar.gz
	put 755 "$binary" nodeprobe
	for file in deploy/nodeprobe.service deploy/nodeprobe.socket deploy/nodeprobe.env README.md CHANGELOG.md LICENSE vendor/NOTICES; do
		put 644 $file "${file##*/}"
	done
	for file in docs/*.md; do put 644 "$file" "$file"; done
	for file in vendor/licenses/*; do put 644 "$file" "licenses/${file##*/}"; done
	tar --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner --format=ustar -C "$tree" -cf - "$root" | packed >"$out.new"
	mv "$out.new" "$out"
	echo "$out: $(stat -c %s "$out") bytes"
}

case $what in
deb | tarball) $what ;;
*)
	echo "deploy/package.sh deb|tarball" >&2
	exit 2
	;;
esac
sums
