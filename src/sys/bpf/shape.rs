//! What an object file says about its maps and variables, before anything is loaded.

use std::ffi::CStr;
use std::ptr::NonNull;

use libbpf_sys as raw;

use super::Object;

/// A map's type, by its number in the kernel's `enum bpf_map_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapType(pub u32);

impl MapType {
    /// `BPF_MAP_TYPE_PERF_EVENT_ARRAY`.
    pub const PERF_EVENT_ARRAY: MapType = MapType(raw::BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    /// `BPF_MAP_TYPE_ARRAY`.
    pub const ARRAY: MapType = MapType(raw::BPF_MAP_TYPE_ARRAY);
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`.
    pub const PERCPU_ARRAY: MapType = MapType(raw::BPF_MAP_TYPE_PERCPU_ARRAY);
    /// `BPF_MAP_TYPE_HASH`.
    pub const HASH: MapType = MapType(raw::BPF_MAP_TYPE_HASH);
    /// `BPF_MAP_TYPE_LRU_HASH`.
    pub const LRU_HASH: MapType = MapType(raw::BPF_MAP_TYPE_LRU_HASH);
    /// `BPF_MAP_TYPE_STRUCT_OPS`.
    pub const STRUCT_OPS: MapType = MapType(raw::BPF_MAP_TYPE_STRUCT_OPS);
    /// `BPF_MAP_TYPE_CGRP_STORAGE`.
    pub const CGRP_STORAGE: MapType = MapType(raw::BPF_MAP_TYPE_CGRP_STORAGE);

    /// Whether an entry has a value per processor.
    pub fn is_per_cpu(self) -> bool {
        matches!(
            self.0,
            raw::BPF_MAP_TYPE_PERCPU_HASH
                | raw::BPF_MAP_TYPE_PERCPU_ARRAY
                | raw::BPF_MAP_TYPE_LRU_PERCPU_HASH
        )
    }

    /// Whether it is a table of keys and values that can be listed.
    pub fn is_table(self) -> bool {
        matches!(
            self.0,
            raw::BPF_MAP_TYPE_HASH
                | raw::BPF_MAP_TYPE_ARRAY
                | raw::BPF_MAP_TYPE_LRU_HASH
                | raw::BPF_MAP_TYPE_LPM_TRIE
        ) || self.is_per_cpu()
    }

    /// Whether every key from 0 on always has an entry.
    pub fn is_array(self) -> bool {
        matches!(self.0, raw::BPF_MAP_TYPE_ARRAY | raw::BPF_MAP_TYPE_PERCPU_ARRAY)
    }

    /// Its name, as people write it in the object's source without the prefix.
    pub fn word(self) -> String {
        let known = match self.0 {
            raw::BPF_MAP_TYPE_HASH => "HASH",
            raw::BPF_MAP_TYPE_ARRAY => "ARRAY",
            raw::BPF_MAP_TYPE_PERF_EVENT_ARRAY => "PERF_EVENT_ARRAY",
            raw::BPF_MAP_TYPE_PERCPU_HASH => "PERCPU_HASH",
            raw::BPF_MAP_TYPE_PERCPU_ARRAY => "PERCPU_ARRAY",
            raw::BPF_MAP_TYPE_LRU_HASH => "LRU_HASH",
            raw::BPF_MAP_TYPE_LRU_PERCPU_HASH => "LRU_PERCPU_HASH",
            raw::BPF_MAP_TYPE_LPM_TRIE => "LPM_TRIE",
            raw::BPF_MAP_TYPE_RINGBUF => "RINGBUF",
            raw::BPF_MAP_TYPE_CGRP_STORAGE => "CGRP_STORAGE",
            raw::BPF_MAP_TYPE_SK_STORAGE => "SK_STORAGE",
            raw::BPF_MAP_TYPE_TASK_STORAGE => "TASK_STORAGE",
            other => return format!("type {other}"),
        };
        known.to_owned()
    }
}

/// What an object says of one of its maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapShape {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: MapType,
    /// Bytes of a key.
    pub key_size: usize,
    /// Bytes of a value (of one processor).
    pub value_size: usize,
    /// How many entries it can hold.
    pub max_entries: u32,
    /// Whether room for all of them is taken at once, as it is unless the object says otherwise.
    pub is_preallocated: bool,
    /// What the key consists of, by the object's BTF; one field without a name if it is no struct, none if not known.
    pub key: Vec<Field>,
}

impl MapShape {
    /// Bytes of kernel memory that it takes from the start, at least: none where entries take theirs as they come.
    pub fn least_bytes(&self, cpus: usize) -> u64 {
        /// What stands beside each entry of a hash map (`struct htab_elem`).
        const ENTRY: usize = 48;
        let copies = if self.kind.is_per_cpu() { cpus } else { 1 };
        let values = self.value_size.next_multiple_of(8) * copies;
        let entry = match self.kind {
            MapType(raw::BPF_MAP_TYPE_RINGBUF) => 1,
            kind if kind.is_array() => values,
            kind if kind.is_table() && self.is_preallocated => ENTRY + self.key_size + values,
            // Stacks have a header each (`struct stack_map_bucket`); they, and what has no keys, take all at once in any case.
            MapType(raw::BPF_MAP_TYPE_STACK_TRACE) => 24 + values,
            MapType(raw::BPF_MAP_TYPE_QUEUE | raw::BPF_MAP_TYPE_STACK) => values,
            // Some bits for each, however large it is.
            MapType(raw::BPF_MAP_TYPE_BLOOM_FILTER) => 1,
            _ => 0,
        };
        entry as u64 * u64::from(self.max_entries)
    }
}

/// A piece of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The member's name.
    pub name: String,
    /// Bytes from the start of the key.
    pub offset: usize,
    /// Bytes it has.
    pub size: usize,
}

impl Object {
    /// Its maps, in file order.
    pub fn maps(&self) -> Vec<MapShape> {
        let types = self.types();
        let describe = |map: NonNull<raw::bpf_map>| {
            // SAFETY: the map belongs to this live object, and so does its name.
            unsafe {
                MapShape {
                    name: CStr::from_ptr(raw::bpf_map__name(map.as_ptr())).to_string_lossy().into_owned(),
                    kind: MapType(raw::bpf_map__type(map.as_ptr())),
                    key_size: raw::bpf_map__key_size(map.as_ptr()) as usize,
                    value_size: raw::bpf_map__value_size(map.as_ptr()) as usize,
                    max_entries: raw::bpf_map__max_entries(map.as_ptr()),
                    is_preallocated: raw::bpf_map__map_flags(map.as_ptr()) & raw::BPF_F_NO_PREALLOC == 0,
                    key: types
                        .map(|types| types.fields(raw::bpf_map__btf_key_type_id(map.as_ptr())))
                        .unwrap_or_default(),
                }
            }
        };
        self.each_map().map(describe).collect()
    }

    fn types(&self) -> Option<Types<'_>> {
        // SAFETY: the object is alive; its types live as long.
        let types = unsafe { raw::bpf_object__btf(self.as_ptr()) };
        NonNull::new(types).map(|raw| Types { raw, _object: self })
    }

    /// Bytes of the global variable `name`, if there is one.
    pub fn variable_size(&self, name: &str) -> Option<usize> {
        self.variable(name).map(|(_, _, size)| size)
    }

    /// Section, offset and size of the global variable `name`.
    pub(super) fn variable(&self, name: &str) -> Option<(String, usize, usize)> {
        self.types()?.variable(name)
    }
}

/// An object's BTF.
#[derive(Clone, Copy)]
struct Types<'a> {
    raw: NonNull<raw::btf>,
    _object: &'a Object,
}

/// A type with what follows it.
struct Type<'a> {
    types: Types<'a>,
    raw: &'a raw::btf_type,
}

impl<'a> Types<'a> {
    fn get(self, id: u32) -> Option<Type<'a>> {
        // SAFETY: the types are alive; libbpf checks the id, and has checked that every type is whole.
        let raw = unsafe { raw::btf__type_by_id(self.raw.as_ptr(), id).as_ref() }?;
        Some(Type { types: self, raw })
    }

    fn name(self, offset: u32) -> String {
        // SAFETY: the types are alive; libbpf gives null for a bad offset.
        unsafe { super::object::owned(raw::btf__name_by_offset(self.raw.as_ptr(), offset)) }
    }

    fn size(self, id: u32) -> usize {
        // SAFETY: the types are alive; libbpf checks the id.
        usize::try_from(unsafe { raw::btf__resolve_size(self.raw.as_ptr(), id) }).unwrap_or(0)
    }

    /// The pieces of type `id`.
    fn fields(self, id: u32) -> Vec<Field> {
        // SAFETY: the types are alive; libbpf checks the id and the length of a chain of names.
        let resolved = unsafe { raw::btf__resolve_type(self.raw.as_ptr(), id) };
        let Some(found) = u32::try_from(resolved).ok().filter(|&id| id != 0).and_then(|id| self.get(id))
        else {
            return Vec::new();
        };
        if found.kind() != raw::BTF_KIND_STRUCT {
            return vec![Field { name: String::new(), offset: 0, size: self.size(id) }];
        }
        let describe = |member: &raw::btf_member| Field {
            name: self.name(member.name_off),
            // With bit fields in the struct the upper byte is the field's size.
            offset: if found.flag() { member.offset & 0xff_ffff } else { member.offset } as usize / 8,
            size: self.size(member.type_),
        };
        // SAFETY: a struct is followed by its members.
        unsafe { found.rest::<raw::btf_member>() }.iter().map(describe).collect()
    }

    fn variable(self, name: &str) -> Option<(String, usize, usize)> {
        // SAFETY: the types are alive.
        let count = unsafe { raw::btf__type_cnt(self.raw.as_ptr()) };
        let sections = (1..count).filter_map(|id| self.get(id));
        sections.filter(|found| found.kind() == raw::BTF_KIND_DATASEC).find_map(|section| {
            // SAFETY: a section is followed by its variables.
            let variables = unsafe { section.rest::<raw::btf_var_secinfo>() };
            let is_wanted = |variable: &&raw::btf_var_secinfo| {
                self.get(variable.type_).is_some_and(|found| self.name(found.raw.name_off) == name)
            };
            let found = variables.iter().find(is_wanted)?;
            Some((self.name(section.raw.name_off), found.offset as usize, found.size as usize))
        })
    }
}

impl<'a> Type<'a> {
    fn kind(&self) -> u32 {
        self.raw.info >> 24 & 0x1f
    }

    fn flag(&self) -> bool {
        self.raw.info >> 31 != 0
    }

    /// The records behind it.
    ///
    /// # Safety
    /// The type's kind must be one that is followed by records of this type.
    unsafe fn rest<T>(&self) -> &'a [T] {
        let _ = self.types;
        let count = (self.raw.info & 0xffff) as usize;
        // SAFETY: libbpf has checked that the records are there; all of them consist of u32.
        unsafe { std::slice::from_raw_parts((&raw const *self.raw).add(1).cast(), count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_maps_take_at_once() {
        let least = |kind, is_preallocated| {
            let (name, key) = (String::new(), Vec::new());
            let kind = MapType(kind);
            MapShape { name, kind, key_size: 4, value_size: 12, max_entries: 1_000, is_preallocated, key }
                .least_bytes(8)
        };
        assert_eq!(least(raw::BPF_MAP_TYPE_HASH, true), 68_000);
        assert_eq!(least(raw::BPF_MAP_TYPE_HASH, false), 0);
        assert_eq!(least(raw::BPF_MAP_TYPE_PERCPU_ARRAY, true), 128_000);
        assert_eq!(least(raw::BPF_MAP_TYPE_RINGBUF, true), 1_000);
        assert_eq!(least(raw::BPF_MAP_TYPE_STACK_TRACE, true), 40_000);
        assert_eq!(least(raw::BPF_MAP_TYPE_QUEUE, true), 16_000);
        assert_eq!(least(raw::BPF_MAP_TYPE_BLOOM_FILTER, true), 1_000);
        assert_eq!(least(raw::BPF_MAP_TYPE_CGRP_STORAGE, true), 0);
    }
}
