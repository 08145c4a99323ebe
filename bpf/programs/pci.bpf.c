// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Reads of PCI configuration space by programs, by device. */
#include "../probes.h"
#include "../maps.h"

struct pci_dev {
	unsigned short vendor;
	unsigned short device;
	unsigned int class;
} __ksym_type;

/* What a device's and a subclass's names are looked up by holds those of the vendor and the class. */
struct key {
	__u32 vendor;
	__u32 device;
	__u32 class;
	__u32 subclass;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct key);
	__type(value, __u64);
} pci_config_reads_total SEC(".maps");

__hidden __noinline int count(struct pci_dev *device)
{
	__u32 class = BPF_CORE_READ(device, class);
	struct key key;

	key.vendor = BPF_CORE_READ(device, vendor);
	key.device = key.vendor << 16 | BPF_CORE_READ(device, device);
	key.class = class >> 16 & 0xff;
	key.subclass = class >> 8 & 0xffff;
	add(&pci_config_reads_total, &key, 1);
	return 0;
}

SEC("kprobe/pci_user_read_config_byte")
int BPF_KPROBE(on_byte, struct pci_dev *device)
{
	return count(device);
}

SEC("kprobe/pci_user_read_config_word")
int BPF_KPROBE(on_word, struct pci_dev *device)
{
	return count(device);
}

SEC("kprobe/pci_user_read_config_dword")
int BPF_KPROBE(on_dword, struct pci_dev *device)
{
	return count(device);
}

char LICENSE[] SEC("license") = "GPL";
