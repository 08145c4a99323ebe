// SPDX-License-Identifier: Apache-2.0
/* Makes processes that wait for a processor, and says how long they did by the kernel's own count (run_delay in
 * /proc/thread-self/schedstat): `waited NANOSECONDS`.
 *
 *   waits brief COUNT AT_ONCE THREADS MS      COUNT processes, each of THREADS threads that use MS of processor time each
 *   waits spin PROCESSES THREADS              busy until killed; says `ready`
 *   waits write FILE TICKS                    writes until that many ticks (10 ms) were waited for block I/O; says `ticks N`
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static unsigned long long *waited_ns;
static long use_ns;

static long long used_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* The last thing a thread does. */
static void note(void)
{
	char text[128] = "";
	unsigned long long waited = 0;
	int fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		_exit(3);
	close(fd);
	sscanf(text, "%*u %llu", &waited);
	__sync_fetch_and_add(waited_ns, waited);
}

static void *use(void *unused)
{
	while (used_ns() < use_ns)
		;
	note();
	return unused;
}

static void *spin(void *unused)
{
	for (;;)
		__asm__ volatile("");
	return unused;
}

static void start(pthread_t *thread, void *(*work)(void *))
{
	if (pthread_create(thread, NULL, work, NULL))
		_exit(4);
}

static void one(int threads)
{
	pthread_t others[64];

	for (int i = 1; i < threads; i++)
		start(&others[i], use);
	while (used_ns() < use_ns)
		;
	for (int i = 1; i < threads; i++)
		pthread_join(others[i], NULL);
	note();
	_exit(0);
}

static int brief(int count, int at_once, int threads, int ms)
{
	int running = 0, status, bad = 0;

	use_ns = ms * 1000000L;
	for (int i = 0; i < count || running;) {
		if (i < count && running < at_once) {
			pid_t child = fork();

			if (child < 0)
				return 5;
			if (!child)
				one(threads);
			i++;
			running++;
			continue;
		}
		wait(&status);
		bad |= status;
		running--;
	}
	note();
	printf("waited %llu\n", *waited_ns);
	return bad ? 6 : 0;
}

/* delayacct_blkio_ticks of /proc/self/stat. */
static long io_ticks(void)
{
	char text[1024] = "", *field;
	long ticks = 0;
	int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		exit(3);
	close(fd);
	field = strrchr(text, ')');
	for (int i = 2; field && i < 42; i++)
		field = strchr(field + 1, ' ');
	if (field)
		ticks = atol(field + 1);
	return ticks;
}

static int write_until(const char *path, long enough)
{
	static char block[1 << 16];
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	time_t end = time(NULL) + 20;
	long ticks = 0;

	for (int i = 0; fd >= 0 && time(NULL) < end && (ticks = io_ticks()) < enough; i++) {
		memset(block, i, sizeof(block));
		if (pwrite(fd, block, sizeof(block), (i % 256) * sizeof(block)) < 0 || fsync(fd))
			return 7;
	}
	printf("ticks %ld\n", ticks);
	return 0;
}

/* However many processors there are: with more of them nobody would wait. */
static void stay_on_two(void)
{
	cpu_set_t all, two;
	int kept = 0;

	CPU_ZERO(&two);
	if (sched_getaffinity(0, sizeof(all), &all))
		return;
	for (int cpu = 0; cpu < CPU_SETSIZE && kept < 2; cpu++)
		if (CPU_ISSET(cpu, &all)) {
			CPU_SET(cpu, &two);
			kept++;
		}
	sched_setaffinity(0, sizeof(two), &two);
}

int main(int argc, char **argv)
{
	stay_on_two();
	waited_ns = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (waited_ns == MAP_FAILED)
		return 2;
	if (argc == 6 && !strcmp(argv[1], "brief"))
		return brief(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]), atoi(argv[5]));
	if (argc == 4 && !strcmp(argv[1], "write"))
		return write_until(argv[2], atol(argv[3]));
	if (argc == 4 && !strcmp(argv[1], "spin")) {
		for (int i = 1; i < atoi(argv[2]); i++)
			if (!fork())
				break;
		puts("ready");
		fflush(stdout);
		for (int i = 1; i < atoi(argv[3]); i++)
			start(&(pthread_t){ 0 }, spin);
		spin(NULL);
	}
	return 1;
}
