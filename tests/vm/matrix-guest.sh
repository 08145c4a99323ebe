#!/bin/busybox sh
# The first process of the machines that tests/vm/matrix.sh starts: makes containers by hand, starts the agent, has things
# happen in the containers, and writes what the agent says of them to the second serial line. tests/matrix.rs reads it.
# /variant, a shell file, says what this machine is to do without, and how the agent is started.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t securityfs security /sys/kernel/security
mount -t debugfs debug /sys/kernel/debug
mount -t tracefs trace /sys/kernel/tracing
chmod 755 /sys/kernel/debug 2>/dev/null
ip link set lo up
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
	echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done
# Machines for ARM have one serial line: the kernel is then quiet, but for its last words, and says all at the end.
out=/dev/ttyS1
[ "$(uname -m)" = x86_64 ] || { out=/dev/ttyAMA0; dmesg -n 1; }
stty -F $out raw -echo -opost 2>/dev/null
exec 3>&1 >$out 2>&1 </dev/null

run="" enter=""
. /variant

agent=/bin/nodeprobe containers=/var/lib/docker/containers
site=http://127.0.0.1:9435

section() { printf '\n@@@ %s\n' "$1"; }
now() { cut -d' ' -f1 /proc/uptime; }
scrape() { $enter wget -q -O /tmp/metrics $site/metrics; }
id_of() { echo "$1" | md5sum | cut -c1-32 | sed 's/.*/&&/'; }

# A container as docker makes it: its cgroup, its description, its log.
container() {
	id=$(id_of "$1")
	mkdir -p "$containers/$id" /sys/fs/cgroup/docker
	for controller in $(cat /sys/fs/cgroup/docker/cgroup.controllers); do
		echo "+$controller" >/sys/fs/cgroup/docker/cgroup.subtree_control
	done
	mkdir "/sys/fs/cgroup/docker/$id"
	log=$containers/$id/$id-json.log
	: >"$log"
	cat >"$containers/$id/config.v2.json" <<-END
		{"ID":"$id","Name":"/$1","Config":{"Image":"image:1","Env":[],"Labels":{}},"HostConfig":{"LogConfig":{"Type":"json-file"}},
		"State":{"Running":true},"NetworkSettings":{"Ports":{}},"LogPath":"$log"}
	END
}
# A process in it, which is one from its first instruction on as far as the kernel's events tell.
inside() {
	procs=/sys/fs/cgroup/docker/$(id_of "$1")/cgroup.procs
	shift
	sh -c "echo \$\$ >$procs; exec $*"
}
# Waits until the agent answers, or for $1 seconds.
served() {
	for _ in $(seq $(($1 * 5))); do
		scrape 2>/dev/null && return
		[ -d /proc/$pid ] || break
		sleep 0.2
	done
	echo "it does not answer"
	return 1
}
# True when all of $wanted, see events() in tests/matrix.rs, stands in the scrape.
complete() {
	while read -r pattern; do
		[ -z "$pattern" ] || grep -Eq "$pattern" /tmp/metrics || return 1
	done </wanted
}
ends() {
	kill -TERM $pid
	for _ in $(seq 100); do
		[ -d /proc/$pid ] || break
		sleep 0.1
	done
	wait $pid
	echo "exit $?"
}

finish() {
	section kernel
	dmesg | grep -E 'WARNING|BUG|Oops|[Pp]anic[^=]|Call Trace|stall|soft lockup|hung task|cut here'
	section booted-to-end
	now
	section end
	sync
	exec >&3 2>&3
	poweroff -f
}

section uname
uname -r -m
section booted
now

section before
while read -r module; do insmod "/modules/$module"; done </modules/list
for file in /proc/sys/kernel/perf_event_paranoid /proc/sys/kernel/unprivileged_bpf_disabled /sys/kernel/security/lockdown; do
	echo "$file $(cat $file 2>&1)"
done
if [ -n "${tests:-}" ]; then
	section tests
	# A disk, because tests want to see what is written to one.
	mkdir /disk
	mke2fs /dev/vda >/dev/null && mount -t ext4 /dev/vda /disk || echo "error: no disk"
	rm -f /bin/ip /bin/tc /bin/nsenter /bin/unshare /bin/mount /bin/sysctl
	export PATH=/usr/local/bin:/usr/bin:/bin TMPDIR=/disk
	ln -s /usr/local/bin/bash /bin/bash
	mkdir -p /var/tmp /var/run/netns
	cd "$here"
	for test in /tests/*; do
		echo "program ${test##*/}"
		timeout 3000 $test --test-threads=1 --show-output
	done
	finish
fi
for name in web batch greedy; do container $name; done
ulimit -n 1024
$run $agent --listen=127.0.0.1:9435 $flags 2>/tmp/said &
pid=$!
served 60

section events
inside web httpd -f -p 127.0.0.1:8080 -h /tmp &
for name in web greedy; do inside $name sleep 1000 & done
for _ in $(seq 50); do
	wget -q -O /dev/null http://127.0.0.1:8080/metrics && break
	sleep 0.2
done
for _ in 1 2 3 4 5; do inside web wget -q -O /dev/null http://127.0.0.1:8080/metrics; done
for _ in 1 2 3; do inside web wget -q -O /dev/null http://127.0.0.1:8081/ 2>/dev/null; done
for _ in 1 2 3 4; do inside batch env true; done
limit=/sys/fs/cgroup/docker/$(id_of greedy)/memory.max
[ ! -e $limit ] || { echo 8388608 >$limit; inside greedy dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null; }
for _ in 1 2 3; do inside web timeout 2 yes >/dev/null 2>&1 & done
log=$containers/$(id_of web)/$(id_of web)-json.log
# A pattern of fewer than three messages is not told for its first minute.
for _ in 1 2 3 4; do
	printf '{"log":"ERROR cannot reach the other side\\n","stream":"stderr","time":"2026-11-20T09:14:03.987654321Z"}\n' >>$log
done
sleep 2.5
for _ in $(seq ${patience:-60}); do
	scrape && complete && break
	sleep 0.5
done

section metrics
scrape && cat /tmp/metrics
section health
$enter wget -S -q -O /dev/null $site/metrics 2>&1 | grep HTTP
section agent
ends
section said
cat /tmp/said

section doctor
$run $agent doctor --json $flags 2>&1
echo "exit $?"

if [ -z "${without_programs:-}" ]; then
	section programs
	$run $agent --listen=127.0.0.1:9435 --log-burst=10000 $flags "--programs=$(cat /programs)" 2>/tmp/said &
	pid=$!
	served 120 && cat /tmp/metrics
	section programs-agent
	ends
	section programs-said
	cat /tmp/said
fi
finish
