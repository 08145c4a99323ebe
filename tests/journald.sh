#!/bin/bash
# tests/journald.sh DIR: a real journald without systemd, in a mount namespace of its own, until its stdin ends. Its files are in
# DIR/var (once DIR/var exists and SIGUSR1 has come) and DIR/run, its socket is DIR/systemd/journal/socket, its pid in DIR/pid.
# Lines for journald.conf come from the environment variable JCONF.
set -eu
export D=$1
mkdir -p "$D"/{run,systemd/journal,etc/systemd,log}
printf '[Journal]\nStorage=auto\nRateLimitIntervalSec=0\nReadKMsg=no\nAudit=no\n%s\n' "${JCONF:-}" >"$D/etc/systemd/journald.conf"
exec unshare -m --propagation private bash -euc '
mkdir -p /run/systemd /run/log /etc/systemd
mount --bind "$D/systemd" /run/systemd
mount --bind "$D/run" /run/log
mount --bind "$D/log" /var/log
mount --bind "$D/etc/systemd" /etc/systemd
echo 0123456789abcdef0123456789abcdef >"$D/machine-id"
[ -e /etc/machine-id ] || touch /etc/machine-id
mount --bind "$D/machine-id" /etc/machine-id
/lib/systemd/systemd-journald &
journald=$!
trap "kill -TERM $journald; wait $journald" EXIT
echo $journald >"$D/pid"
cat >/dev/null'
