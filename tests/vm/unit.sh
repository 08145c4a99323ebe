#!/bin/bash
# What run.sh has a virtual machine do when this script is named: the shipped unit under systemd as PID 1, its sandbox, reload,
# restart, watchdog, socket, end. Ends with 0 when everything is right; says each.
set -u
cd "$(dirname "$0")"
bad=0
ok() { echo "ok: $*"; }
wrong() {
	echo "BAD: $*"
	bad=1
}
# until SECONDS COMMAND...
until_true() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.25
	done
}
check() {
	local what=$1
	shift
	if "$@"; then ok "$what"; else wrong "$what"; fi
}
metrics() { curl -sf -m 20 "http://127.0.0.1:${1:-9435}/metrics"; }
sum() { metrics | awk -v family="$1{" -v more="${2:-}" 'index($0, family) == 1 && index($0, more) { sum += $NF } END { print sum + 0 }'; }
# Collectors, doors and reasons, and which families there are of the container.
seen() {
	metrics "$1" | awk '/^nodeprobe_(collector_info|.*door_info|cgroup_watch_info|nat_info|delayacct_info)/ { print $1 }
		/container_id="\/docker\/web"/ { sub(/[{ ].*/, ""); print "web: " $0 }
		/^node_/ { sub(/[{ ].*/, ""); print }' | sort -u
}
has_logs() { [ "$(sum container_log_messages_total '"/docker/web"')" -ge "$1" ]; }
main_pid() { systemctl show -p MainPID --value nodeprobe.service; }
is_active() { [ "$(systemctl is-active nodeprobe.service)" = active ]; }

uname -r
systemctl --version | head -1
echo "kernel.perf_event_paranoid=$(cat /proc/sys/kernel/perf_event_paranoid)"
mkdir -p root/{bin,etc,proc,sys,dev,tmp,run,www} /etc/nodeprobe.d
cp /bin/busybox root/bin/
for name in sh sleep echo httpd; do ln -s busybox root/bin/$name; done
echo hello >root/www/index.html
tar -C root -cf rootfs.tar .
install -m 755 nodeprobe /usr/local/bin/nodeprobe
install -m 644 nodeprobe.service nodeprobe.socket /etc/systemd/system/
printf 'NODEPROBE_CONFIG_DIR=/etc/nodeprobe.d\n' >/etc/default/nodeprobe
docker import rootfs.tar test/busybox:1 >/dev/null || bad=1
docker run -d --name web -p 8080:80 -v /var/data:/data test/busybox:1 sh -c \
	'httpd -p 80 -h /www; n=0; while sleep 1; do n=$((n + 1)); echo "error: request $n failed"; done' >/dev/null || bad=1

# The printed unit is the shipped one, and systemd has nothing to say of it.
/usr/local/bin/nodeprobe unit | diff - nodeprobe.service && ok "the printed unit is the shipped one" || wrong "the unit"
systemctl daemon-reload
check "systemd-analyze verify is silent" [ -z "$(systemd-analyze verify --man=no /etc/systemd/system/nodeprobe.service /etc/systemd/system/nodeprobe.socket 2>&1 | grep nodeprobe)" ]
systemd-analyze security nodeprobe.service --no-pager | tail -1
tight() { systemd-analyze security --threshold=40 nodeprobe.service >/dev/null; }
check "exposure is 4.0 at most" tight

# What is seen without any sandbox, and with it.
systemctl start --no-block docker.service
began=$(date +%s%N)
systemctl start nodeprobe.service || wrong "systemctl start"
echo "systemctl start: $((($(date +%s%N) - began) / 1000000)) ms, $(systemctl show -p StatusText --value nodeprobe.service)"
serves() { metrics "$@" >/dev/null; }
check "it serves when systemctl start returns" serves
systemd-run -q --unit=bare -p LimitNOFILE=65536 -p LimitMEMLOCK=infinity -E NODEPROBE_CONFIG_DIR=/etc/nodeprobe.d \
	/usr/local/bin/nodeprobe --listen=127.0.0.1:9436
same() {
	seen 9436 >bare.txt
	seen 9435 >boxed.txt
	local family
	for family in container_log_messages_total container_net_tcp_listen_info container_resources_disk_size_bytes; do
		grep -q "web: $family" bare.txt || return
	done
	diff -q bare.txt boxed.txt >/dev/null
}
if until_true 60 same; then
	ok "the sandbox hides nothing: $(grep -c 'reason="ok"' boxed.txt) collectors, $(grep -c ^web: boxed.txt) families of the container"
else
	wrong "seen without (<) and with (>) the sandbox:"
	diff bare.txt boxed.txt
	grep ^web: boxed.txt
fi
grep -E '_info' boxed.txt
systemctl stop bare

# Reload: a new program.
check "no program of ours yet" [ "$(sum ebpf_exporter_vm_execs_total)" = 0 ]
cp execs.bpf.o execs.yaml /etc/nodeprobe.d/
pid=$(main_pid)
systemctl reload nodeprobe.service || wrong "systemctl reload"
counted() { [ "$(sum ebpf_exporter_vm_execs_total)" -ge 3 ]; }
check "systemctl reload brings a new program" until_true 30 counted
check "the same process serves" [ "$(main_pid)" = "$pid" ]
check "it is active after the reload" is_active

# Restart: positions outlive it.
until_true 30 has_logs 5 || wrong "logs of the container"
docker pause web >/dev/null
sleep 3
lines() { cat /var/lib/docker/containers/*/*-json.log | wc -l; }
first=$(sum container_log_messages_total '"/docker/web"') written=$(lines)
began=$(date +%s%N)
systemctl stop nodeprobe.service
took=$((($(date +%s%N) - began) / 1000000))
# Two seconds on a machine; an emulated one takes its time to let go of BPF programs.
limit=$([ "$(systemd-detect-virt)" = qemu ] && echo 20000 || echo 2000)
check "systemctl stop took $took ms, less than $limit" [ $took -lt "$limit" ]
check "and was no kill" [ "$(systemctl show -p Result --value nodeprobe.service)" = success ]
check "nothing is left of it" [ -z "$(pgrep -x nodeprobe)" ]
check "its state is there" [ -s "$(find /var/lib/nodeprobe -type f | head -1)" ]
docker unpause web >/dev/null
sleep 4
more=$(($(lines) - written))
systemctl start nodeprobe.service
# Counts go on where they were. The container goes on meanwhile: not one less than then, not one more than by now.
caught_up() {
	local got
	got=$(($(sum container_log_messages_total '"/docker/web"') - first))
	[ "$got" -ge "$more" ] && [ "$got" -le $(($(lines) - written)) ]
}
check "after $written lines ($first messages counted) the $more of meanwhile are counted, and no others" until_true 60 caught_up
caught_up || metrics | grep -E '^(container_log_messages_total|nodeprobe_log_)'

check "nothing went wrong" [ -z "$(journalctl -o cat -u nodeprobe.service -p warning)" ]
journalctl -o cat -u nodeprobe.service | grep -iE 'error|warning|fail|denied|not permitted|sandbox' | head

# Watchdog: a process that stands still is killed and started anew.
mkdir -p /etc/systemd/system/nodeprobe.service.d
printf '[Service]\nWatchdogSec=10\nRestartSec=200ms\n' >/etc/systemd/system/nodeprobe.service.d/test.conf
systemctl daemon-reload
systemctl restart nodeprobe.service
pid=$(main_pid)
sleep 25
check "the watchdog is fed: the same process after 25 s" [ "$(main_pid)" = "$pid" ]
kill -STOP "$pid"
is_another() { [ "$(main_pid)" != "$pid" ] && [ "$(main_pid)" != 0 ] && is_active; }
check "a stopped process is replaced" until_true 60 is_another
check "because of the watchdog" grep -q 'Watchdog timeout' <(journalctl -o cat -u nodeprobe.service)
check "the new one serves" until_true 60 serves

# Socket activation: nobody is refused during restarts.
systemctl stop nodeprobe.service
systemctl start nodeprobe.socket
check "the socket starts the service" until_true 60 serves
systemctl is-active nodeprobe.service
(
	while [ ! -e stop ]; do
		curl -s -m 60 -o /dev/null http://127.0.0.1:9435/metrics
		echo $? >>codes
	done
) &
for _ in 1 2 3; do
	systemctl restart nodeprobe.service
	sleep 1
done
touch stop
wait
refused=$(grep -cvx 0 codes)
# 56 and 52: a connection the old process had taken when it ended.
check "of $(wc -l <codes) scrapes during 3 restarts none was refused" [ "$(grep -cx 7 codes)" = 0 ]
echo "not answered: $refused ($(sort codes | uniq -c | tr '\n' ' '))"
systemctl stop nodeprobe.socket nodeprobe.service

# A unit for less: what it allows is enough for it.
flags="--collector.programs=off --collector.tcp=off --collector.oom=off --collector.processes=off --collector.delays=off --collector.containers=off --collector.logs=off"
# shellcheck disable=SC2086
/usr/local/bin/nodeprobe unit $flags >/etc/systemd/system/less.service
grep -E '^(Capab|Protect)' /etc/systemd/system/less.service
systemctl daemon-reload
systemctl start less.service || wrong "the unit for less"
systemd-analyze security less.service --no-pager | tail -1
metrics | grep -E '^nodeprobe_collector_info' | grep -v disabled
check "all of them work" [ -z "$(metrics | grep -E '^nodeprobe_collector_info' | grep -vE 'reason="(ok|disabled)"')" ]
systemctl stop less.service
exit $bad
