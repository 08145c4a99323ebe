//! What the embedded objects need of a kernel, read from the objects themselves, against what Linux 4.16, 4.19 and 5.4 have:
//! kernels that nobody could boot here. `tests/fixtures/objects.txt` has it by object; `NODEPROBE_UPDATE=1` writes it anew.
//!
//! Versions are those in which mainline got a feature, from kernel/bpf and include/uapi/linux/bpf.h; distributions add
//! features to older kernels.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Kernels the objects are held against.
const KERNELS: &[Version] = &[(4, 16), (4, 19), (5, 4)];

type Version = (u32, u32);
/// A version and what came with it.
type Need = (Version, String);

/// Programs of fewer instructions load everywhere (`BPF_MAXINSNS`); later the verifier's million counts.
const MOST_INSTRUCTIONS: usize = 4096;

/// Binding of a symbol that need not be there (STB_WEAK): where the kernel lacks it, the program goes without.
const WEAK: u8 = 2;

/// Sections: how a name begins, since when there are such programs, whether the kernel must have type information.
const SECTIONS: &[(&str, Version, bool)] = &[
    ("kprobe", (4, 1), false),
    ("kretprobe", (4, 1), false),
    ("uprobe", (4, 1), false),
    ("uretprobe", (4, 1), false),
    ("usdt", (4, 1), false),
    ("tracepoint/", (4, 7), false),
    ("tp/", (4, 7), false),
    ("xdp", (4, 8), false),
    ("perf_event", (4, 9), false),
    ("raw_tp", (4, 17), false),
    ("raw_tracepoint", (4, 17), false),
    ("tp_btf/", (5, 5), true),
    ("fentry/", (5, 5), true),
    ("fexit/", (5, 5), true),
    ("iter/", (5, 8), true),
];

/// Types of maps by `enum bpf_map_type`.
const MAPS: &[(u32, &str, Version)] = &[
    (1, "hash", (3, 19)),
    (2, "array", (3, 19)),
    (4, "perf_event_array", (4, 3)),
    (5, "percpu_hash", (4, 6)),
    (6, "percpu_array", (4, 6)),
    (7, "stack_trace", (4, 6)),
    (9, "lru_hash", (4, 10)),
    (10, "lru_percpu_hash", (4, 10)),
    (11, "lpm_trie", (4, 11)),
    (22, "queue", (4, 20)),
    (23, "stack", (4, 20)),
    (24, "sk_storage", (5, 2)),
    (27, "ringbuf", (5, 8)),
    (29, "task_storage", (5, 11)),
    (32, "cgrp_storage", (6, 2)),
];

/// Functions of the kernel by `enum bpf_func_id`. Of those marked 4.1 behind 5.5's name libbpf calls the old one where the
/// kernel does not have them.
const HELPERS: &[(i32, &str, Version)] = &[
    (1, "map_lookup_elem", (3, 19)),
    (2, "map_update_elem", (3, 19)),
    (3, "map_delete_elem", (3, 19)),
    (4, "probe_read", (4, 1)),
    (5, "ktime_get_ns", (4, 1)),
    (6, "trace_printk", (4, 1)),
    (7, "get_prandom_u32", (4, 1)),
    (8, "get_smp_processor_id", (4, 1)),
    (14, "get_current_pid_tgid", (4, 2)),
    (15, "get_current_uid_gid", (4, 2)),
    (16, "get_current_comm", (4, 2)),
    (25, "perf_event_output", (4, 4)),
    (27, "get_stackid", (4, 6)),
    (35, "get_current_task", (4, 8)),
    (45, "probe_read_str", (4, 11)),
    (46, "get_socket_cookie", (4, 12)),
    (55, "perf_event_read_value", (4, 15)),
    (56, "perf_prog_read_value", (4, 15)),
    (67, "get_stack", (4, 18)),
    (80, "get_current_cgroup_id", (4, 18)),
    (87, "map_push_elem", (4, 20)),
    (88, "map_pop_elem", (4, 20)),
    (89, "map_peek_elem", (4, 20)),
    (93, "spin_lock", (5, 1)),
    (94, "spin_unlock", (5, 1)),
    (107, "sk_storage_get", (5, 2)),
    (108, "sk_storage_delete", (5, 2)),
    (112, "probe_read_user", (4, 1)),
    (113, "probe_read_kernel", (4, 1)),
    (114, "probe_read_user_str", (4, 11)),
    (115, "probe_read_kernel_str", (4, 11)),
    (118, "jiffies64", (5, 6)),
    (123, "get_current_ancestor_cgroup_id", (5, 6)),
    (125, "ktime_get_boot_ns", (5, 8)),
    (126, "seq_printf", (5, 7)),
    (127, "seq_write", (5, 7)),
    (128, "sk_cgroup_id", (5, 8)),
    (130, "ringbuf_output", (5, 8)),
    (131, "ringbuf_reserve", (5, 8)),
    (132, "ringbuf_submit", (5, 8)),
    (133, "ringbuf_discard", (5, 8)),
    (134, "ringbuf_query", (5, 8)),
    (136, "skc_to_tcp6_sock", (5, 9)),
    (137, "skc_to_tcp_sock", (5, 9)),
    (138, "skc_to_tcp_timewait_sock", (5, 9)),
    (139, "skc_to_tcp_request_sock", (5, 9)),
    (141, "get_task_stack", (5, 9)),
    (147, "d_path", (5, 10)),
    (153, "per_cpu_ptr", (5, 10)),
    (154, "this_cpu_ptr", (5, 10)),
    (156, "task_storage_get", (5, 11)),
    (157, "task_storage_delete", (5, 11)),
    (158, "get_current_task_btf", (5, 11)),
    (160, "ktime_get_coarse_ns", (5, 11)),
    (161, "ima_inode_hash", (5, 11)),
    (162, "sock_from_file", (5, 11)),
    (164, "for_each_map_elem", (5, 13)),
    (173, "get_func_ip", (5, 15)),
    (174, "get_attach_cookie", (5, 15)),
    (181, "loop", (5, 17)),
    (195, "map_lookup_percpu_elem", (5, 19)),
    (210, "cgrp_storage_get", (6, 2)),
    (211, "cgrp_storage_delete", (6, 2)),
];

/// Little-endian numbers of a file; what is beyond its end is a failure of the test.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.0[at..at + 2].try_into().unwrap())
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    fn u64(&self, at: usize) -> usize {
        u64::from_le_bytes(self.0[at..at + 8].try_into().unwrap()) as usize
    }

    fn text(&self, at: usize) -> &'a str {
        let end = self.0[at..].iter().position(|byte| *byte == 0).unwrap();
        std::str::from_utf8(&self.0[at..at + end]).unwrap()
    }
}

#[derive(Debug, Clone, Copy)]
struct Section<'a> {
    name: &'a str,
    kind: u32,
    is_code: bool,
    link: usize,
    info: usize,
    data: &'a [u8],
}

fn sections(file: &[u8]) -> Vec<Section<'_>> {
    let bytes = Bytes(file);
    let (table, count, names) = (bytes.u64(40), bytes.u16(60), usize::from(bytes.u16(62)));
    let strings = bytes.u64(table + names * 64 + 24);
    let headers = (0..usize::from(count)).map(|number| table + number * 64);
    let section = |at: usize| {
        let kind = bytes.u32(at + 4);
        let (offset, size) = (bytes.u64(at + 24), bytes.u64(at + 32));
        Section {
            name: bytes.text(strings + bytes.u32(at) as usize),
            kind,
            is_code: bytes.u64(at + 8) & 4 != 0 && size > 0,
            link: bytes.u32(at + 40) as usize,
            info: bytes.u32(at + 44) as usize,
            // Those without content in the file, as .bss.
            data: if kind == 8 { &[] } else { &file[offset..offset + size] },
        }
    };
    headers.map(section).collect()
}

/// The map types that `.BTF` declares: members `type` of variables in `.maps`, each a pointer to an array as long as the number.
fn map_types(btf: &[u8]) -> Vec<u32> {
    let bytes = Bytes(btf);
    let header = bytes.u32(4) as usize;
    let (types, types_length) = (header + bytes.u32(8) as usize, bytes.u32(12) as usize);
    let strings = header + bytes.u32(16) as usize;
    // Offsets of types by their ids, of which 0 is void.
    let mut places = vec![0];
    let mut at = types;
    while at < types + types_length {
        places.push(at);
        let info = bytes.u32(at + 4);
        let (count, kind) = ((info & 0xffff) as usize, info >> 24 & 0x1f);
        at += 12
            + match kind {
                1 | 14 | 17 => 4,
                3 => 12,
                4 | 5 | 15 | 19 => 12 * count,
                6 | 13 => 8 * count,
                _ => 0,
            };
    }
    let name = |place: usize| bytes.text(strings + bytes.u32(place) as usize);
    let kind = |place: usize| bytes.u32(place + 4) >> 24 & 0x1f;
    let referred = |place: usize| places[bytes.u32(place + 8) as usize];
    let mut found = Vec::new();
    let all = places.iter().skip(1);
    for maps in all.filter(|place| kind(**place) == 15 && name(**place) == ".maps") {
        for variable in 0..(bytes.u32(maps + 4) & 0xffff) as usize {
            let variable = places[bytes.u32(maps + 12 + variable * 12) as usize];
            let mut structure = referred(variable);
            // A map's struct may be behind typedefs.
            while kind(structure) == 8 {
                structure = referred(structure);
            }
            for member in 0..(bytes.u32(structure + 4) & 0xffff) as usize {
                let member = structure + 12 + member * 12;
                if name(member) == "type" {
                    let array = referred(places[bytes.u32(member + 4) as usize]);
                    found.push(bytes.u32(array + 12 + 8));
                }
            }
        }
    }
    found
}

/// What an object needs of a kernel.
#[derive(Default)]
struct Needs {
    /// What its source asks for; the same from every compiler.
    declared: BTreeSet<Need>,
    /// What the compiler made of it.
    compiled: BTreeSet<Need>,
    /// Of the largest program.
    instructions: usize,
}

fn needs(object: &str, file: &[u8]) -> Needs {
    let mut needs = Needs::default();
    let sections = sections(file);
    let mut declare = |version: Version, what: String| needs.declared.insert((version, what));
    // build.rs: -mcpu=v3, whose jumps compare 32 bits.
    declare((5, 1), "instructions of -mcpu=v3".to_owned());
    let code: Vec<&Section<'_>> = sections.iter().filter(|section| section.is_code).collect();
    let of_functions =
        code.iter().find(|section| section.name == ".text").map_or(0, |section| section.data.len());
    for section in &code {
        let name = section.name.trim_start_matches('?');
        if name == ".text" {
            continue;
        }
        let known = SECTIONS.iter().find(|(start, ..)| name.starts_with(start));
        let (start, version, with_types) =
            known.unwrap_or_else(|| panic!("{object}: what is section {name}?"));
        declare(*version, format!("{} programs", start.trim_end_matches('/')));
        if *with_types {
            declare((5, 4), "type information of the kernel".to_owned());
        }
        needs.instructions = needs.instructions.max((section.data.len() + of_functions) / 8);
    }
    for section in &sections {
        match section.name {
            ".BTF" => {
                for kind in map_types(section.data) {
                    let known = MAPS.iter().find(|(number, ..)| *number == kind);
                    let (_, name, version) =
                        known.unwrap_or_else(|| panic!("{object}: what is map type {kind}?"));
                    declare(*version, format!("{name} maps"));
                }
            }
            // Its header ends with the place and length of the relocations that ask for the kernel's types.
            ".BTF.ext" if Bytes(section.data).u32(4) >= 32 && Bytes(section.data).u32(28) > 4 => {
                declare((5, 4), "type information of the kernel".to_owned());
            }
            _ => {}
        }
    }
    // Relocations of code: to variables, which are maps whose values are addressed, and to what the kernel has.
    for relocations in sections.iter().filter(|section| section.kind == 9) {
        if !sections[relocations.info].is_code {
            continue;
        }
        let symbols = sections[relocations.link];
        for entry in relocations.data.chunks_exact(16).map(Bytes) {
            let symbol = Bytes(&symbols.data[entry.u32(12) as usize * 24..]);
            let target = usize::from(symbol.u16(6));
            let target = sections.get(target).map_or("", |section| section.name);
            if [".rodata", ".data", ".bss"].iter().any(|start| target.starts_with(start)) {
                declare((5, 2), "global variables".to_owned());
            } else if target.is_empty() && symbol.0[4] >> 4 != WEAK {
                declare((5, 10), "variables or functions of the kernel".to_owned());
            }
        }
    }
    for section in &code {
        let instructions: Vec<Bytes<'_>> = section.data.chunks_exact(8).map(Bytes).collect();
        let mut is_wide = false;
        for instruction in &instructions {
            // The second half of a constant of 64 bits.
            if std::mem::take(&mut is_wide) {
                continue;
            }
            let (code, source) = (instruction.0[0], instruction.0[1] >> 4);
            let (offset, immediate) = (instruction.u16(2).cast_signed(), instruction.u32(4).cast_signed());
            is_wide = code == 0x18;
            let (class, operation) = (code & 7, code & 0xf0);
            match (class, operation) {
                (5, 0x80) if source == 0 => {
                    let known = HELPERS.iter().find(|(number, ..)| *number == immediate);
                    let (_, name, version) = known
                        .unwrap_or_else(|| panic!("{object}: since when is there function {immediate}?"));
                    needs.declared.insert((*version, format!("bpf_{name}")));
                }
                (5, 0x80) if source == 1 => {
                    needs.declared.insert(((4, 16), "functions".to_owned()));
                }
                (5, 0x80 | 0x90) => {}
                (5 | 6, _) if offset < 0 => {
                    needs.compiled.insert(((5, 3), "loops".to_owned()));
                }
                // Atomic addition is old, but not one that gives the value back, nor others.
                (3, _) if code & 0xe0 == 0xc0 && immediate != 0 => {
                    needs.compiled.insert(((5, 12), "atomic instructions that give a value".to_owned()));
                }
                _ => {}
            }
        }
    }
    if needs.instructions > MOST_INSTRUCTIONS {
        needs.compiled.insert(((5, 2), "more than 4096 instructions".to_owned()));
    }
    needs
}

/// All objects in the binary: those of collectors, then the programs that come along.
fn objects() -> Vec<(String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(env!("OUT_DIR"));
    let mut objects = Vec::new();
    for (sources, compiled) in [("bpf", out.clone()), ("bpf/programs", out.join("programs"))] {
        let files = fs::read_dir(root.join(sources)).unwrap();
        let names = files.filter_map(|file| file.unwrap().file_name().into_string().ok());
        let mut names: Vec<String> =
            names.filter_map(|name| Some(name.strip_suffix(".bpf.c")?.to_owned())).collect();
        names.sort();
        for name in names {
            let file = fs::read(compiled.join(format!("{name}.bpf.o"))).unwrap();
            let label = if sources == "bpf" { format!("({name})") } else { name };
            objects.push((label, file));
        }
    }
    objects
}

fn text(version: Version) -> String {
    format!("{}.{}", version.0, version.1)
}

#[test]
fn objects_need_of_a_kernel_what_the_table_says() {
    let mut table = String::from(
        "# What the objects in the binary need of a kernel, read from them by tests/objects.rs: object ((name): of a collector),\n\
         # the first kernel that has all of it, and what older ones than that miss, beyond Linux 4.16.\n\
         # Object-checked, not run. NODEPROBE_UPDATE=1 make test T=objects writes it anew.\n",
    );
    for (name, file) in objects() {
        let needs = needs(&name, &file);
        // Of what the compiler chose only that is told which makes a difference: another one chooses otherwise.
        let mut all = needs.declared;
        let mut first = all.iter().map(|(version, _)| *version).max().unwrap();
        for need in needs.compiled {
            if need.0 > first {
                first = need.0;
                all.insert(need);
            }
        }
        assert!(needs.instructions > 0, "{name} has no program");
        let newer = all.iter().filter(|(version, _)| *version > KERNELS[0]);
        let newer: Vec<String> = newer.map(|(version, what)| format!("{} {what}", text(*version))).collect();
        let _ = writeln!(table, "{name:27} {:5} {}", text(first), newer.join(", "));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/objects.txt");
    if env::var_os("NODEPROBE_UPDATE").is_some() {
        fs::write(&path, &table).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    for (old, new) in expected.lines().zip(table.lines()) {
        assert_eq!(old, new);
    }
    assert_eq!(expected, table);
}
