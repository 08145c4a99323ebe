/* Process 1 of tests/vm/smallbox.sh: makes the machine as poor as it is to be, starts nodeprobe in it, has a container live and
 * connect, scrapes again and again, and prints what came of it. Static, with no library but libc, so that nothing else takes room.
 *
 * Everything goes to the one serial line that the machine has: words for the script, the last scrape, and what the kernel said. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DESCRIPTORS 16
#define SCRAPES 100
#define CONNECTS 5
#define SILENT_PORT 18082
#define CONTAINER \
	"/sys/fs/cgroup/docker/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static char page[1 << 20];

static void end(const char *why)
{
	int length = klogctl(3, page, sizeof(page) - 1);

	page[length < 0 ? 0 : length] = 0;
	printf("\nbox: kernel\n%s\nbox: %s\n", page, why);
	fflush(stdout);
	sync();
	/* What is written to the serial line has to leave it. */
	sleep(1);
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static int dial(const char *address, int port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET, address, &to.sin_addr);
	if (fd >= 0 && connect(fd, (void *)&to, sizeof(to))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* Bytes of the answer, with its head; 0 when there is none. */
static size_t get(const char *path)
{
	char request[128];
	size_t length = 0;
	ssize_t got;
	int fd = dial("127.0.0.1", 9435);

	if (fd < 0)
		return 0;
	snprintf(request, sizeof(request), "GET %s HTTP/1.0\r\n\r\n", path);
	if (write(fd, request, strlen(request)) < 0) {
		close(fd);
		return 0;
	}
	while ((got = read(fd, page + length, sizeof(page) - 1 - length)) > 0)
		length += got;
	close(fd);
	page[length] = 0;
	return length;
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		printf("box: cannot write %s: %s\n", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

/* Kilobytes of the process that are in memory. */
static long resident(pid_t pid, const char *field)
{
	char path[64], line[256];
	long value = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, field, strlen(field)))
			value = atol(line + strlen(field));
	if (file)
		fclose(file);
	return value;
}

static int descriptors(pid_t pid)
{
	char path[64];
	struct dirent *entry;
	int count = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir)))
		count += entry->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return count;
}

static void loopback_up(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (ioctl(fd, SIOCSIFFLAGS, &request))
		printf("box: lo: %s\n", strerror(errno));
	close(fd);
}

static pid_t run(char *const arguments[])
{
	struct rlimit few = { DESCRIPTORS, DESCRIPTORS };
	pid_t pid = fork();

	if (pid)
		return pid;
	setrlimit(RLIMIT_NOFILE, &few);
	execv(arguments[0], arguments);
	_exit(127);
}

/* A process in a container: connects where nobody listens, then stays. */
static pid_t live(void)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	put(CONTAINER "/cgroup.procs", "0");
	for (int i = 0; i < CONNECTS; i++)
		dial("127.0.0.1", SILENT_PORT);
	for (;;)
		pause();
}

int main(void)
{
	char *const doctor[] = { "/nodeprobe", "doctor", NULL };
	char *const agent[] = { "/nodeprobe", "--interval=1s", "--state-dir=/var/lib/nodeprobe",
				NULL };
	long first = 0, last = 0;
	int status = 0, answers = 0, out;
	pid_t pid;

	mount("dev", "/dev", "devtmpfs", 0, NULL);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sys", "/sys", "sysfs", 0, NULL);
	/* ttyS0 is there on ARM too, and goes nowhere. */
	out = open("/dev/ttyAMA0", O_RDWR | O_NOCTTY);
	if (out < 0)
		out = open("/dev/ttyS0", O_RDWR | O_NOCTTY);
	if (out >= 0) {
		dup2(out, 1);
		dup2(out, 2);
		close(out);
	}
	mount("cgroup", "/sys/fs/cgroup", "cgroup2", 0, NULL);
	mount("trace", "/sys/kernel/tracing", "tracefs", 0, NULL);
	loopback_up();
	put("/sys/fs/cgroup/cgroup.subtree_control", "+cpu +memory +pids");
	mkdir("/sys/fs/cgroup/docker", 0755);
	put("/sys/fs/cgroup/docker/cgroup.subtree_control", "+cpu +memory +pids");
	if (mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL))
		end("the root cannot be made read-only");
	printf("box: writing to / gives %s\n",
	       open("/x", O_CREAT | O_WRONLY, 0600) < 0 ? strerror(errno) : "no error");
	fflush(stdout);

	waitpid(run(doctor), &status, 0);
	printf("box: doctor ended with %d\n",
	       WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
	fflush(stdout);
	pid = run(agent);
	for (int i = 0; i < 600 && !get("/metrics"); i++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			end("the agent is gone");
		usleep(200 * 1000);
	}
	mkdir(CONTAINER, 0755);
	live();
	for (int i = 0; i < SCRAPES; i++) {
		answers += get("/metrics") > 0 && strstr(page, " 200 OK") != NULL;
		/* What is allocated once is there by then. */
		if (i == SCRAPES / 4)
			first = resident(pid, "VmRSS:");
		usleep(50 * 1000);
	}
	sleep(3);
	get("/metrics");
	last = resident(pid, "VmRSS:");
	if (waitpid(pid, &status, WNOHANG) == pid)
		end("the agent is gone");
	printf("box: %d of %d scrapes answered\n", answers, SCRAPES);
	printf("box: resident %ld kB, then %ld kB, peak %ld kB\n", first, last,
	       resident(pid, "VmHWM:"));
	printf("box: descriptors %d of %d\n", descriptors(pid), DESCRIPTORS);
	printf("box: metrics\n%s", page);
	/* A clock without a battery may say anything, and 32 bits of seconds end in 2038. */
	clock_settime(CLOCK_REALTIME, &(struct timespec){ .tv_sec = 2209032000 });
	get("/metrics");
	sleep(2);
	if (!get("/metrics") || !strstr(page, " 2040 ") || waitpid(pid, &status, WNOHANG) == pid)
		end("no answer in 2040");
	end("done");
}
