/* musl has no argp. elfutils' lib/ mentions these names; libelf itself calls none of them. Declarations only. */
#ifndef NODEPROBE_ARGP_H
#define NODEPROBE_ARGP_H
#include <stdio.h>
#include <errno.h>
typedef int error_t;
struct argp_state;
struct argp_option { const char *name; int key; const char *arg; int flags; const char *doc; int group; };
struct argp { const struct argp_option *options; error_t (*parser)(int, char *, struct argp_state *);
	const char *args_doc; const char *doc; const void *children;
	char *(*help_filter)(int, const char *, void *); const char *argp_domain; };
struct argp_state { const struct argp *root_argp; int argc; char **argv; int next; unsigned flags; unsigned arg_num;
	int quoted; void *input; void **child_inputs; void *hook; char *name; FILE *err_stream; FILE *out_stream; void *pstate; };
#define OPTION_ARG_OPTIONAL 0x1
#define OPTION_HIDDEN 0x2
#define ARGP_HELP_SEE 0x04
#define ARGP_HELP_EXIT_ERR 0x100
#define ARGP_ERR_UNKNOWN E2BIG
void argp_help(const struct argp *argp, FILE *stream, unsigned flags, char *name);
#endif
