// SPDX-License-Identifier: Apache-2.0
/* File systems that never answer, in a mount namespace of its own:
 *
 *   hang DIR LOCAL COUNT
 *
 * mounts FUSE on DIR (served here, on /dev/fuse itself), LOCAL on DIR/local and a tmpfs on DIR/memory, and makes COUNT
 * processes whose command line lies in a page of the file DIR/page; Linux 4.17 and later refuse to read it (CVE-2018-1120),
 * older ones hang. This process has DIR/memory/own.log open for writing. Then it says `ready` and answers nothing any more,
 * although it goes on taking requests: who waits for one of those cannot even be killed until this process ends. Ends with
 * its stdin.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROOT = 1, PAGE, LOCAL, MEMORY };

static void must(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "hang: %s: %s\n", what, strerror(errno));
	exit(1);
}

static struct fuse_attr attr_of(uint64_t node)
{
	struct fuse_attr attr = { .ino = node, .nlink = 1, .blksize = 4096 };

	attr.mode = node == PAGE ? S_IFREG | 0644 : S_IFDIR | 0755;
	attr.size = node == PAGE ? 4096 : 0;
	return attr;
}

static void reply(int fuse, uint64_t unique, int error, const void *data, size_t size)
{
	static char buffer[1 << 16];
	struct fuse_out_header *head = (void *)buffer;

	*head = (struct fuse_out_header){ .len = sizeof(*head) + size, .error = error, .unique = unique };
	if (size)
		memcpy(head + 1, data, size);
	if (write(fuse, buffer, head->len) < 0 && errno != ENOENT)
		must(0, "reply");
}

static void answer(int fuse, const struct fuse_in_header *in, const void *body)
{
	switch (in->opcode) {
	case FUSE_INIT: {
		struct fuse_init_out out = { .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION };

		out.max_write = 4096;
		reply(fuse, in->unique, 0, &out, sizeof(out));
		break;
	}
	case FUSE_GETATTR: {
		struct fuse_attr_out out = { .attr = attr_of(in->nodeid) };

		reply(fuse, in->unique, 0, &out, sizeof(out));
		break;
	}
	case FUSE_LOOKUP: {
		const char *names[] = { 0, 0, "page", "local", "memory" };
		struct fuse_entry_out out = { .nodeid = 0 };

		for (uint64_t node = PAGE; node <= MEMORY; node++)
			if (strcmp(body, names[node]) == 0)
				out = (struct fuse_entry_out){ .nodeid = node, .attr = attr_of(node) };
		reply(fuse, in->unique, out.nodeid ? 0 : -ENOENT, &out, out.nodeid ? sizeof(out) : 0);
		break;
	}
	case FUSE_OPEN:
	case FUSE_OPENDIR: {
		struct fuse_open_out out = { .fh = 0 };

		reply(fuse, in->unique, 0, &out, sizeof(out));
		break;
	}
	case FUSE_READ:
		/* Whoever wants a command line waits from here on. */
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		break;
	default:
		reply(fuse, in->unique, -ENOSYS, 0, 0);
	}
}

/* Answers until `silent` becomes readable, then takes requests and says nothing. */
static void serve(int fuse, int silent)
{
	static char buffer[1 << 17];
	struct pollfd fds[] = { { .fd = fuse, .events = POLLIN }, { .fd = silent, .events = POLLIN } };

	for (;;) {
		ssize_t got;

		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[1].revents)
			fds[1].fd = -1, silent = -1;
		if (!(fds[0].revents & POLLIN))
			continue;
		got = read(fuse, buffer, sizeof(buffer));
		if (got < 0 && errno == ENODEV)
			exit(0);
		if (got >= (ssize_t)sizeof(struct fuse_in_header) && silent >= 0)
			answer(fuse, (void *)buffer, buffer + sizeof(struct fuse_in_header));
	}
}

/* Has the command line be at `at`: with one call for all addresses, which needs no capability (PR_SET_MM_MAP, prctl(2)). */
static void move_arguments(unsigned long at, size_t size)
{
	struct prctl_mm_map map = { .exe_fd = -1 };
	unsigned long long field[53];
	char text[4096], *next;
	int fd = open("/proc/self/stat", O_RDONLY);
	ssize_t got = read(fd, text, sizeof(text) - 1);

	must(got > 0, "/proc/self/stat");
	close(fd);
	text[got] = 0;
	next = strrchr(text, ')') + 4;
	for (int number = 4; number < 53; number++)
		field[number] = strtoull(next, &next, 10);
	map.start_code = field[26], map.end_code = field[27];
	map.start_data = field[45], map.end_data = field[46];
	map.start_brk = field[47], map.brk = (uintptr_t)sbrk(0);
	map.start_stack = field[28];
	map.arg_start = at, map.arg_end = at + size;
	map.env_start = field[50], map.env_end = field[51];
	must(prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof(map), 0) == 0, "PR_SET_MM_MAP");
}

static void victim(const char *page, int ready)
{
	int fd = open(page, O_RDONLY);
	unsigned long at;

	must(fd >= 0, page);
	at = (unsigned long)mmap(0, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	must(at != (unsigned long)MAP_FAILED, "mmap");
	move_arguments(at, 4000);
	must(write(ready, "x", 1) == 1, "pipe");
	for (;;)
		pause();
}

static pid_t child(void)
{
	pid_t pid = fork();

	must(pid >= 0, "fork");
	if (pid == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

int main(int argc, char **argv)
{
	char path[4096], options[128], byte;
	int fuse, silent[2], ready[2], count, log;

	if (argc != 4)
		return 2;
	count = atoi(argv[3]);
	must(unshare(CLONE_NEWNS) == 0, "unshare");
	must(mount("none", "/", 0, MS_REC | MS_PRIVATE, 0) == 0, "private mounts");
	fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	must(fuse >= 0, "/dev/fuse");
	must(pipe2(silent, O_CLOEXEC) == 0 && pipe2(ready, O_CLOEXEC) == 0, "pipe");
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fuse);
	must(mount("hang", argv[1], "fuse", MS_NOSUID | MS_NODEV, options) == 0, "mount fuse");
	if (child() == 0)
		serve(fuse, silent[0]);
	close(fuse);
	snprintf(path, sizeof(path), "%s/local", argv[1]);
	must(mount(argv[2], path, 0, MS_BIND, 0) == 0, "mount local");
	snprintf(path, sizeof(path), "%s/memory", argv[1]);
	must(mount("memory", path, "tmpfs", 0, 0) == 0, "mount memory");
	snprintf(path, sizeof(path), "%s/memory/own.log", argv[1]);
	log = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
	must(log >= 0 && write(log, "first\n", 6) == 6, path);
	snprintf(path, sizeof(path), "%s/page", argv[1]);
	for (int number = 0; number < count; number++) {
		if (child() == 0)
			victim(path, ready[1]);
		must(read(ready[0], &byte, 1) == 1, "a process that hangs its readers");
	}
	must(write(silent[1], "x", 1) == 1, "pipe");
	puts("ready");
	fflush(stdout);
	while (read(0, &byte, 1) > 0)
		;
	return 0;
}
