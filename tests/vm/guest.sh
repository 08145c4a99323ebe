#!/bin/bash
# What run.sh has a virtual machine do: systemd, docker and podman with crun on cgroup v2, and nodeprobe under its unit.
# Ends with 0 when every figure is right; says each.
set -u
cd "$(dirname "$0")"
bad=0
linger=30

metrics() { curl -sf -m 20 http://127.0.0.1:9435/metrics; }
# value FAMILY CONTAINER [LABEL="VALUE"]: of the first such series; nothing if there is none.
value() {
	metrics | awk -v family="$1{" -v id="container_id=\"$2\"" -v more="${3:-}" \
		'index($0, family) == 1 && index($0, id) && (more == "" || index($0, more)) { print $NF; exit }'
}
# is FAMILY CONTAINER WANTED [LABEL="VALUE"]: waits until it is so. WANTED - is for no such series.
is() {
	local got
	for ((n = 0; n < 60; n++)); do
		got=$(value "$1" "$2" "${4:-}")
		[ "${got:--}" != "$3" ] || break
		sleep 0.5
	done
	if [ "${got:--}" = "$3" ]; then
		echo "ok: $1 of $2 ${4:-} is $3"
	else
		echo "BAD: $1 of $2 ${4:-} is ${got:-absent}, not $3"
		bad=1
	fi
}
# runs CONTAINER IMAGE PROCESSES
runs() {
	is container_info "$1" 1 "image=\"$2\""
	is container_processes "$1" "$3"
	is container_resources_pids "$1" "$3"
}

uname -r
stat -fc 'cgroups: %T' /sys/fs/cgroup
mkdir -p root/{bin,etc,proc,sys,dev,tmp,run}
cp /bin/busybox root/bin/
for name in sh sleep true tail; do ln -s busybox root/bin/$name; done
tar -C root -cf rootfs.tar .

# Units: a plain one, a template, one of podman's own.
unit() { printf '[Service]\nExecStart=/bin/busybox sleep 100000\n' >"/etc/systemd/system/$1"; }
unit plain.service
unit 'many@.service'
# One that systemd starts again, twice.
cat >/etc/systemd/system/failing.service <<-'END'
	[Service]
	ExecStart=/bin/sh -c 'echo x >>/run/failures; sleep 0.5; [ $$(wc -l </run/failures) -gt 2 ] && exec sleep 100000; exit 1'
	Restart=on-failure
	RestartSec=200ms
END
mkdir -p /etc/containers/systemd
cat >/etc/containers/systemd/boxed.container <<-END
	[Container]
	Image=localhost/test/busybox:2.1
	Network=host
	Exec=sleep 100000
END
install -m 755 nodeprobe /usr/local/bin/nodeprobe
echo "NODEPROBE_LINGER=${linger}s" >/etc/default/nodeprobe
install -m 644 nodeprobe.service /etc/systemd/system/nodeprobe.service
podman import -q rootfs.tar test/busybox:2.1 >/dev/null
docker import rootfs.tar test/busybox:2.1 >/dev/null
systemctl daemon-reload
docker run -d --name early test/busybox:2.1 sleep 100000 >/dev/null || bad=1
systemctl start plain.service many@1.service many@2.service boxed.service nodeprobe.service || bad=1
systemctl start failing.service || bad=1
systemctl is-active docker containerd plain failing many@1 many@2 boxed nodeprobe
podman version -f 'podman {{.Client.Version}}'
docker version -f 'docker {{.Server.Version}}'
docker info -f '{{.CgroupDriver}} driver, cgroup v{{.CgroupVersion}}, {{.Driver}}'

docker run -d --name web --memory 64m -p 8080:80 test/busybox:2.1 sleep 100000 >/dev/null || bad=1
podman run -d --name box --memory 64m --network host test/busybox:2.1 sleep 100000 >/dev/null || bad=1
podman info -f '{{.Host.OCIRuntime.Name}}, {{.Host.CgroupManager}} driver, cgroup {{.Host.CgroupsVersion}}'
for pid in $(pgrep -x sleep); do cat "/proc/$pid/cgroup"; done
metrics | grep -E '^nodeprobe_(cgroup_watch_info|oom_door_info|processes_door_info)'

runs /docker/early test/busybox:2.1 1
runs /docker/web test/busybox:2.1 1
runs /podman/box localhost/test/busybox:2.1 1
is container_resources_memory_limit_bytes /docker/web 6.7108864e+07
is container_resources_memory_limit_bytes /podman/box 6.7108864e+07
is container_processes /system.slice/plain.service 1
# The instances of a template are one.
is container_processes /system.slice/system-many.slice 2
# podman's watcher, and the container itself below the unit.
is container_processes /system.slice/boxed.service 2

docker restart -t0 web >/dev/null
podman restart -t0 box >/dev/null
is container_restarts_total /system.slice/failing.service 2
systemctl restart plain.service boxed.service
for id in /docker/web /podman/box /system.slice/plain.service; do
	is container_restarts_total "$id" 1
done
# What podman has systemd do after the container's end, ExecStopPost=, is a run of its own.
is container_restarts_total /system.slice/boxed.service 2
docker restart -t0 web >/dev/null && docker restart -t0 web >/dev/null
podman restart -t0 box >/dev/null && podman restart -t0 box >/dev/null
systemctl restart plain.service && systemctl restart plain.service
for id in /docker/web /podman/box /system.slice/plain.service; do is container_restarts_total "$id" 3; done
is container_restarts_total /docker/early 0
is container_restarts_total /system.slice/system-many.slice 0

# A life of milliseconds: the runtime's own process, which becomes the container's.
docker run --rm --name brief test/busybox:2.1 true
podman run --rm --name brief --network host test/busybox:2.1 true
for id in /docker/brief /podman/brief; do
	started=$(value container_processes_started_total $id)
	[ "${started:-0}" -ge 1 ] && echo "ok: $started processes started in $id" || { echo "BAD: nothing started in $id"; bad=1; }
	is container_info $id -
done

# Ten main processes killed, in containers that go at once; ten children, in one that stays.
for ((n = 0; n < 10; n++)); do
	docker run --rm --network host --name greedy --memory 16m test/busybox:2.1 tail /dev/zero
	[ $? = 137 ] || { echo "BAD: kill $n did not happen"; bad=1; }
done
is container_oom_kills_total /docker/greedy 10
podman run -d --name eater --network host --memory 16m test/busybox:2.1 \
	sh -c 'for n in 1 2 3 4 5 6 7 8 9 10; do tail /dev/zero; done; exec sleep 100000' >/dev/null || bad=1
is container_oom_kills_total /podman/eater 10
grep -h '^oom_kill ' /sys/fs/cgroup/machine.slice/libpod-"$(podman inspect -f '{{.Id}}' eater)".scope/memory.events
is container_processes /podman/eater 1
is container_restarts_total /podman/eater 0

# Gauges end with the container, counters with the linger time.
docker rm -f web >/dev/null
podman rm -f -t0 box >/dev/null
for id in /docker/web /podman/box; do
	for family in container_info container_processes container_resources_pids; do
		got=$(value $family $id)
		[ -z "$got" ] && echo "ok: $family of $id is gone" || { echo "BAD: $family of $id is still $got"; bad=1; }
	done
	is container_restarts_total $id 3
done
# No name was ever the start of an id, and neither a watcher nor a pod's own container had one.
odd=$(metrics | grep -oE 'container_id="/(docker|podman|containerd)/[^"]*"' | sort -u |
	grep -vE '/(docker/(early|web|brief|greedy)|podman/(box|brief|eater))"')
[ -z "$odd" ] || { echo "BAD: $odd"; bad=1; }
sleep $((linger + 5))
for id in /docker/web /podman/box; do is container_restarts_total $id -; done
systemctl show -p NRestarts,MemoryPeak,CPUUsageNSec nodeprobe.service
journalctl -o cat -u nodeprobe.service | tail -20
exit $bad
