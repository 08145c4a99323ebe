// SPDX-License-Identifier: Apache-2.0
/* Makes COUNT processes that do nothing, says how many it got, and waits; they end with it. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int made = 0;

	for (int count = argc > 1 ? atoi(argv[1]) : 0; made < count; made++) {
		pid_t pid = fork();

		if (pid < 0)
			break;
		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				pause();
		}
	}
	printf("%d\n", made);
	fflush(stdout);
	for (;;)
		pause();
}
