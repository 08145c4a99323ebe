//! Whether an object file is sound enough for libelf and libbpf, which are C and trust some of its numbers.
//!
//! Everything compilers and `bpftool gen object` write passes; of hostile files those that would have libbpf read or write
//! where it must not are refused, with a line that says what is wrong. `make fuzz` looks for what is missing here.

use super::btf;
use crate::error::{Error, Reason, Result};

/// Bytes of the file's header, of a section's header and of a symbol. All numbers below are those of ELF for 64 bits.
const HEADER_BYTES: usize = 64;
const SECTION_BYTES: usize = 64;
const SYMBOL_BYTES: u64 = 24;
const RELOCATION_BYTES: u64 = 16;

const RELOCATABLE: u16 = 1;
const MACHINE_BPF: u16 = 247;

const SYMBOL_TABLE: u32 = 2;
const STRING_TABLE: u32 = 3;
const NO_BITS: u32 = 8;
const RELOCATIONS: u32 = 9;

/// Bytes of a section and of what is in it: libbpf adds two such numbers in 32 bits.
const MOST: u64 = i32::MAX as u64;

/// Section numbers from here on mean something else.
const RESERVED: u16 = 0xff00;

/// Numbers in the byte order of this machine, which the header is checked for.
#[derive(Clone, Copy)]
pub(super) struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    fn take<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }

    pub fn u16(self, at: usize) -> Option<u16> {
        self.take(at).map(u16::from_ne_bytes)
    }

    pub fn u32(self, at: usize) -> Option<u32> {
        self.take(at).map(u32::from_ne_bytes)
    }

    fn u64(self, at: usize) -> Option<u64> {
        self.take(at).map(u64::from_ne_bytes)
    }

    /// The part from `at` on that has `length` bytes.
    pub fn part(self, at: u64, length: u64) -> Option<Bytes<'a>> {
        let start = usize::try_from(at).ok()?;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        self.0.get(start..end).map(Bytes)
    }

    /// The string at `at` in this table of strings.
    pub fn text(self, at: u32) -> Option<&'a [u8]> {
        self.0.get(at as usize..)?.split_inclusive(|byte| *byte == 0).next()?.strip_suffix(&[0])
    }
}

/// The header of a section.
struct Section {
    name: u32,
    kind: u32,
    offset: u64,
    size: u64,
    link: u32,
    info: u32,
    entry_size: u64,
}

impl Section {
    fn read(header: Bytes<'_>) -> Option<Section> {
        Some(Section {
            name: header.u32(0)?,
            kind: header.u32(4)?,
            offset: header.u64(24)?,
            size: header.u64(32)?,
            link: header.u32(40)?,
            info: header.u32(44)?,
            entry_size: header.u64(56)?,
        })
    }
}

/// Checks the object file `elf`.
///
/// # Errors
/// A line that says what is wrong.
pub fn check(elf: &[u8]) -> Result<()> {
    check_file(Bytes(elf)).map_err(|line| Error::new(Reason::Failed, line))
}

fn check_file(file: Bytes<'_>) -> Result<(), String> {
    let header = file.part(0, HEADER_BYTES as u64).filter(|header| header.0.starts_with(b"\x7fELF"));
    let header = header.ok_or("not an ELF file")?;
    let order = if cfg!(target_endian = "little") { 1 } else { 2 };
    if header.0[4] != 2 || header.0[5] != order {
        return Err("an ELF file, but not of 64 bits in this machine's byte order: compile with -target bpf"
            .to_owned());
    }
    if header.u16(16) != Some(RELOCATABLE) || header.u16(18) != Some(MACHINE_BPF) {
        return Err("an ELF file, but not an object for BPF: compile with -target bpf -c".to_owned());
    }
    let sections = sections(file, header)?;
    let strings = |number: u32| {
        let table = sections.get(number as usize).filter(|section| section.kind == STRING_TABLE)?;
        file.part(table.offset, table.size)
    };
    let names = header.u16(62).and_then(|number| strings(number.into())).ok_or("sections have no names")?;
    let mut types = None;
    for (number, section) in sections.iter().enumerate().skip(1) {
        check_section(file, number, section, &sections)?;
        let name = names.text(section.name).ok_or_else(|| format!("section {number} has no name"))?;
        if name == b".BTF" && types.replace(section).is_some() {
            return Err("two sections .BTF".to_owned());
        }
    }
    match types.and_then(|section| file.part(section.offset, section.size)) {
        Some(types) => btf::check(types).map_err(|line| format!("section .BTF: {line}")),
        None => Ok(()),
    }
}

/// The headers of all sections, of which the first one is none.
fn sections(file: Bytes<'_>, header: Bytes<'_>) -> Result<Vec<Section>, String> {
    let read = || Some((header.u64(40)?, header.u16(58)?, header.u16(60)?));
    let (offset, size, count) = read().ok_or("cut off")?;
    if usize::from(size) != SECTION_BYTES || count == 0 || count >= RESERVED {
        return Err(format!("{count} sections with headers of {size} bytes"));
    }
    let table = file.part(offset, u64::from(count) * SECTION_BYTES as u64);
    let table = table.ok_or("cut off: its sections are listed beyond its end")?;
    Ok(table.0.chunks_exact(SECTION_BYTES).filter_map(|header| Section::read(Bytes(header))).collect())
}

fn check_section(file: Bytes<'_>, number: usize, section: &Section, all: &[Section]) -> Result<(), String> {
    let Section { kind, offset, size, link, info, entry_size, .. } = *section;
    let wrong = |what: &str| Err(format!("section {number}: {what}"));
    if kind == NO_BITS {
        return if size <= MOST { Ok(()) } else { wrong("larger than 2 GiB") };
    }
    let Some(content) = file.part(offset, size) else { return wrong("beyond the end of the file") };
    let has_entries_of = |bytes| entry_size == bytes && size % bytes == 0;
    let is_linked_to = |kind| all.get(link as usize).is_some_and(|linked| linked.kind == kind);
    match kind {
        STRING_TABLE if content.0.last().is_some_and(|last| *last != 0) => {
            wrong("strings that do not end with NUL")
        }
        SYMBOL_TABLE if !has_entries_of(SYMBOL_BYTES) || !is_linked_to(STRING_TABLE) => {
            wrong("not a table of symbols")
        }
        RELOCATIONS
            if !has_entries_of(RELOCATION_BYTES)
                || !is_linked_to(SYMBOL_TABLE)
                || info as usize >= all.len() =>
        {
            wrong("not a table of relocations")
        }
        SYMBOL_TABLE => check_symbols(content, all).map_err(|line| format!("section {number}: {line}")),
        _ => Ok(()),
    }
}

/// libbpf takes the places of variables from here.
fn check_symbols(content: Bytes<'_>, all: &[Section]) -> Result<(), String> {
    for (number, symbol) in content.0.chunks_exact(SYMBOL_BYTES as usize).map(Bytes).enumerate() {
        let read = || Some((symbol.u16(6)?, symbol.u64(8)?, symbol.u64(16)?));
        let (section, start, size) = read().ok_or("cut off")?;
        // libbpf does not ask which section it is in before it takes it for a place in the one it looks at.
        let most = match section {
            0 | RESERVED.. => Some(MOST),
            _ => all.get(usize::from(section)).map(|section| section.size),
        };
        if start.checked_add(size).is_none_or(|end| most.is_none_or(|most| end > most)) {
            return Err(format!("symbol {number} is outside of its section"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &[u8] = include_bytes!("../../fuzz/corpus/object/maps.bpf.o");

    fn problem(elf: &[u8]) -> String {
        check(elf).err().map(|error| error.to_string()).unwrap_or_default()
    }

    /// `MAPS` with `bytes` at `at`.
    fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut elf = MAPS.to_vec();
        elf[at..at + bytes.len()].copy_from_slice(bytes);
        elf
    }

    /// Where the header of the first section of this kind is.
    fn header(kind: u32) -> usize {
        let file = Bytes(MAPS);
        let table = file.u64(40).unwrap() as usize;
        let mut headers =
            (0..usize::from(file.u16(60).unwrap())).map(|number| table + number * SECTION_BYTES);
        headers.find(|at| file.u32(at + 4) == Some(kind)).unwrap()
    }

    #[test]
    fn what_compilers_write_passes() {
        for object in [
            MAPS,
            include_bytes!("../../fuzz/corpus/object/kernel.bpf.o"),
            include_bytes!("../../fuzz/corpus/object/ops.bpf.o"),
            include_bytes!("../../fuzz/corpus/object/tiny.bpf.o"),
            include_bytes!(concat!(env!("OUT_DIR"), "/tcp.bpf.o")),
            include_bytes!(concat!(env!("OUT_DIR"), "/cgroups.bpf.o")),
        ] {
            assert_eq!(problem(object), "");
        }
    }

    #[test]
    fn what_is_no_object_is_told() {
        let cut = "cut off: its sections are listed beyond its end";
        assert_eq!(problem(b""), "not an ELF file");
        assert_eq!(problem(&MAPS[..63]), "not an ELF file");
        assert_eq!(problem(&MAPS[..64]), cut);
        assert_eq!(problem(&MAPS[..MAPS.len() - 1]), cut);
        let not_here =
            "an ELF file, but not of 64 bits in this machine's byte order: compile with -target bpf";
        assert_eq!(problem(&with(4, &[1])), not_here);
        assert_eq!(problem(&with(5, &[3 - MAPS[5]])), not_here);
        let program = std::fs::read("/proc/self/exe").unwrap();
        let not_bpf = "an ELF file, but not an object for BPF: compile with -target bpf -c";
        assert_eq!(problem(&program), if cfg!(target_pointer_width = "64") { not_bpf } else { not_here });
        assert_eq!(problem(&with(40, &u64::MAX.to_ne_bytes())), cut);
        assert_eq!(problem(&with(60, &[0, 0])), "0 sections with headers of 64 bytes");
        assert_eq!(problem(&with(62, &[0xff, 0xff])), "sections have no names");
    }

    #[test]
    fn sections_fit() {
        let symbols = header(SYMBOL_TABLE);
        let number = (symbols - Bytes(MAPS).u64(40).unwrap() as usize) / SECTION_BYTES;
        let said = |what: &str| format!("section {number}: {what}");
        for place in [24, 32] {
            for value in [MAPS.len() as u64, u64::MAX] {
                assert_eq!(
                    problem(&with(symbols + place, &value.to_ne_bytes())),
                    said("beyond the end of the file")
                );
            }
        }
        let table = said("not a table of symbols");
        assert_eq!(problem(&with(symbols + 56, &16u64.to_ne_bytes())), table);
        assert_eq!(problem(&with(symbols + 32, &25u64.to_ne_bytes())), table);
        assert_eq!(problem(&with(symbols + 40, &2u32.to_ne_bytes())), table);
        assert_eq!(problem(&with(symbols + 40, &99u32.to_ne_bytes())), table);
        let relocations = header(RELOCATIONS);
        for (place, value) in [(40, 1u32), (44, 99), (56, 24)] {
            assert!(
                problem(&with(relocations + place, &value.to_ne_bytes()))
                    .ends_with("not a table of relocations")
            );
        }
        assert!(
            problem(&with(header(NO_BITS) + 32, &(MOST + 1).to_ne_bytes())).ends_with("larger than 2 GiB")
        );
        assert!(
            problem(&with(header(STRING_TABLE) + 32, &1u64.to_ne_bytes())).contains("has no name"),
            "only the empty name is left"
        );
        assert_eq!(problem(&with(symbols, &u32::MAX.to_ne_bytes())), format!("section {number} has no name"));
    }

    #[test]
    fn symbols_are_inside_of_their_sections() {
        let content = Bytes(MAPS).u64(header(SYMBOL_TABLE) + 24).unwrap() as usize;
        let symbols = (1..).map(|number| content + number * SYMBOL_BYTES as usize);
        let at = symbols
            .into_iter()
            .find(|at| !matches!(Bytes(MAPS).u16(at + 6).unwrap(), 0 | RESERVED..))
            .unwrap();
        for (place, value) in [(8, u64::MAX), (8, 1 << 40), (16, 1 << 20)] {
            assert!(problem(&with(at + place, &value.to_ne_bytes())).ends_with("is outside of its section"));
        }
        assert!(problem(&with(at + 6, &[0xf0, 0xfe])).ends_with("is outside of its section"));
    }

    #[test]
    fn any_bytes_are_survived() {
        crate::procfs::fuzz::hammer(&MAPS[..512], |bytes| drop(check(bytes)));
        for at in 0..MAPS.len() {
            for value in [0, 0xff] {
                let _ = check(&with(at, &[value]));
            }
        }
    }
}
