// SPDX-License-Identifier: Apache-2.0
/* Makes connections as fast as the machine goes, and says what it made: `made SUCCESSES FAILURES`.
 *
 *   storm serve PORT                          accepts and closes, on all addresses, until it is killed; says `ready`
 *   storm connect ADDRESS PORT SECONDS        one after the other
 *   storm brief ADDRESS PORT COUNT            each by a process of its own that ends at once
 *   storm spread FIRST COUNT PORT             one to each of COUNT addresses from FIRST on
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in address_of(const char *address, int port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };

	if (inet_pton(AF_INET, address, &to.sin_addr) != 1)
		exit(2);
	return to;
}

/* Closed with RST: no port waits afterwards. */
static int one(const struct sockaddr_in *to)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int ok;

	if (fd < 0)
		exit(3);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	ok = connect(fd, (const struct sockaddr *)to, sizeof(*to)) == 0;
	close(fd);
	return ok;
}

static int serve(int port)
{
	struct sockaddr_in to = address_of("0.0.0.0", port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1, client;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(fd, (struct sockaddr *)&to, sizeof(to)) || listen(fd, 4096))
		return 4;
	puts("ready");
	fflush(stdout);
	for (;;) {
		client = accept(fd, NULL, NULL);
		if (client >= 0)
			close(client);
	}
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	unsigned long made = 0, failed = 0, count;
	struct sockaddr_in to;
	double end;
	int status;

	if (argc == 3 && !strcmp(argv[1], "serve"))
		return serve(atoi(argv[2]));
	if (argc != 5)
		return 2;
	if (!strcmp(argv[1], "connect")) {
		to = address_of(argv[2], atoi(argv[3]));
		end = now() + atof(argv[4]);
		while (now() < end)
			one(&to) ? made++ : failed++;
	} else if (!strcmp(argv[1], "brief")) {
		to = address_of(argv[2], atoi(argv[3]));
		for (count = strtoul(argv[4], NULL, 10); count; count--) {
			pid_t pid = fork();

			if (pid < 0)
				return 5;
			if (!pid)
				_exit(!one(&to));
			if (waitpid(pid, &status, 0) != pid)
				return 6;
			status == 0 ? made++ : failed++;
		}
	} else if (!strcmp(argv[1], "spread")) {
		to = address_of(argv[2], atoi(argv[4]));
		for (count = strtoul(argv[3], NULL, 10); count; count--) {
			one(&to) ? made++ : failed++;
			to.sin_addr.s_addr = htonl(ntohl(to.sin_addr.s_addr) + 1);
		}
	} else {
		return 2;
	}
	printf("made %lu %lu\n", made, failed);
	return 0;
}
