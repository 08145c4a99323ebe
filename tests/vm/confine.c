// confine [caps=N,N] [uid=N] [nobpf] [nogeneric] -- PROGRAM ...: the program as container runtimes start theirs, without the right to
// most things. Static, for the small machines of tests/vm/matrix.sh.
//   caps=38,39  the capabilities that are left, as numbers of linux/capability.h; "caps=" leaves none
//   uid=65534   another user, after that without any
//   nogeneric   there is no generic netlink, over which taskstats are asked for
//   nobpf       bpf(2) is refused with EPERM, as docker's and podman's seccomp profile refuses it
#include <errno.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CHECK(call)                    \
	do {                           \
		if ((call) != 0) {     \
			perror(#call); \
			exit(126);     \
		}                      \
	} while (0)

static uint64_t bits(const char *list)
{
	uint64_t set = 0;
	while (*list) {
		char *end;
		set |= 1ull << strtoul(list, &end, 10);
		list = *end == ',' ? end + 1 : "";
	}
	return set;
}

static void keep(uint64_t set)
{
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
		if (!(set >> cap & 1)) {
			CHECK(prctl(PR_CAPBSET_DROP, cap, 0, 0, 0));
		}
	}
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	for (int half = 0; half < 2; half++) {
		data[half].effective = data[half].permitted = data[half].inheritable =
			(uint32_t)(set >> 32 * half);
	}
	CHECK(syscall(SYS_capset, &header, data));
}

static void install(struct sock_filter *filter, size_t bytes)
{
	struct sock_fprog program = { .len = bytes / sizeof *filter, .filter = filter };
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

static void refuse_bpf(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_bpf, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	install(filter, sizeof filter);
}

// socket(AF_NETLINK, any, NETLINK_GENERIC) as on a kernel that does not have that protocol.
static void refuse_generic(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 5),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 16, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 16, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPROTONOSUPPORT),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	install(filter, sizeof filter);
}

int main(int argc, char **argv)
{
	for (argv++; argc-- > 1 && strcmp(*argv, "--") != 0; argv++) {
		if (strncmp(*argv, "caps=", 5) == 0) {
			keep(bits(*argv + 5));
		} else if (strncmp(*argv, "uid=", 4) == 0) {
			CHECK(setgid(atoi(*argv + 4)));
			CHECK(setuid(atoi(*argv + 4)));
		} else if (strcmp(*argv, "nobpf") == 0) {
			refuse_bpf();
		} else if (strcmp(*argv, "nogeneric") == 0) {
			refuse_generic();
		} else {
			fprintf(stderr, "what is %s?\n", *argv);
			return 2;
		}
	}
	if (*argv == NULL || argv[1] == NULL) {
		return 2;
	}
	execv(argv[1], argv + 1);
	perror(argv[1]);
	return 127;
}
