/* What gcc's unwinder, built for glibc, needs to work in a static musl program. sysroot.sh adds this to it. */
#define _GNU_SOURCE
#include <link.h>
#include <pthread.h>
#include <stdint.h>

/*
 * The unwinder refers to these weakly and takes one of them being there as "all are there". A static link brings only
 * what somebody refers to strongly, and a call to a missing one is a call to address 0.
 */
int __pthread_key_create(pthread_key_t *, void (*)(void *));
__attribute__((used)) static void *const keep[] = {
	pthread_getspecific, pthread_key_create, __pthread_key_create, pthread_mutex_lock,
	pthread_mutex_unlock, pthread_once, pthread_setspecific,
};

#ifndef __arm__ /* where the unwinder finds its table by the linker's symbols */
/* glibc's answer to "which object holds this address, and where is its unwind table?" */
struct found {
	unsigned long long flags;
	void *start, *end, *link_map, *eh_frame;
};

struct question {
	uintptr_t address;
	struct found *found;
};

static int look(struct dl_phdr_info *info, size_t size, void *data)
{
	struct question *q = data;
	int inside = 0;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		uintptr_t start = info->dlpi_addr + p->p_vaddr;

		if (p->p_type == PT_LOAD && q->address - start < p->p_memsz) {
			inside = 1;
			q->found->start = (void *)start;
			q->found->end = (void *)(start + p->p_memsz);
		} else if (p->p_type == PT_GNU_EH_FRAME) {
			q->found->eh_frame = (void *)start;
		}
	}
	return inside && q->found->eh_frame;
}

int _dl_find_object(void *address, struct found *found)
{
	struct question q = { (uintptr_t)address, found };

	*found = (struct found){ 0 };
	return dl_iterate_phdr(look, &q) ? 0 : -1;
}
#endif
