#!/bin/bash
# deploy/image.sh BINARY ARCHITECTURE ARCHIVE: writes what deploy/Dockerfile describes as an archive that `docker load`,
# `podman load` and `ctr images import` read. Needs no daemon and no root; equal binaries give equal bytes.
#   ARCHITECTURE is amd64, arm64 or arm, as images name them; NAME the image's name and tag.
set -eu
binary=$1 architecture=$2 archive=$3 name=${NAME:-nodeprobe:latest}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
layout=$work/layout blobs=$work/layout/blobs/sha256
mkdir -p "$blobs" "$work/files"

# A tar that depends on the contents alone.
pack() { tar --create --format=ustar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --directory="$1" "${@:2}"; }
digest() { sha256sum "$1" | cut -d' ' -f1; }
# Keeps a file as a blob; its digest and size, as JSON that describes it.
keep() { # MEDIA_TYPE FILE
	local sum
	sum=$(digest "$2")
	printf '{"mediaType":"application/vnd.oci.image.%s","digest":"sha256:%s","size":%s' "$1" "$sum" "$(stat -c %s "$2")"
	mv "$2" "$blobs/$sum"
}

install -m 755 "$binary" "$work/files/nodeprobe"
pack "$work/files" nodeprobe >"$work/layer.tar"
uncompressed=$(digest "$work/layer.tar")
gzip -9 -n "$work/layer.tar"
compressed=$(stat -c %s "$work/layer.tar.gz")
layer=$(keep layer.v1.tar+gzip "$work/layer.tar.gz")

variant=
[ "$architecture" != arm ] || variant='"variant":"v7",'
cat >"$work/config.json" <<END
{"architecture":"$architecture",$variant"os":"linux","created":"1970-01-01T00:00:00Z","config":{"Env":["NODEPROBE_LISTEN=0.0.0.0:9435"],\
"Entrypoint":["/nodeprobe"],"ExposedPorts":{"9435/tcp":{}},"Labels":{"org.opencontainers.image.title":"nodeprobe",\
"org.opencontainers.image.description":"Node, container and eBPF metrics for Prometheus",\
"org.opencontainers.image.licenses":"Apache-2.0"}},"rootfs":{"type":"layers","diff_ids":["sha256:$uncompressed"]}}
END
config=$(keep config.v1+json "$work/config.json")
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":%s},"layers":[%s}]}' \
	"$config" "$layer" >"$work/manifest.json"
manifest=$(keep manifest.v1+json "$work/manifest.json")

blob() { sed 's/.*"sha256:\([0-9a-f]*\)".*/blobs\/sha256\/\1/' <<<"$1"; }
printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
printf '{"schemaVersion":2,"manifests":[%s,"annotations":{"io.containerd.image.name":"docker.io/library/%s",%s}}]}' \
	"$manifest" "$name" "\"org.opencontainers.image.ref.name\":\"${name##*:}\"" >"$layout/index.json"
# For docker before version 25.
printf '[{"Config":"%s","RepoTags":["%s"],"Layers":["%s"]}]' "$(blob "$config")" "$name" "$(blob "$layer")" >"$layout/manifest.json"
mkdir -p "$(dirname "$archive")"
pack "$layout" . >"$work/archive.tar"
mv "$work/archive.tar" "$archive"
echo "$archive: $architecture, $compressed bytes to pull, $(stat -c %s "$binary") unpacked"
