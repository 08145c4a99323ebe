//! The kernel's symbols by address, read when first asked for and again when there may be new ones.

use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, BufRead, BufReader};

use super::names::{Collector, SymbolNames};
use crate::host::{Host, read_bounded};
use crate::limits;
use crate::memory::{self, Use};
use crate::procfs::kallsyms;
use crate::sys::clock::MonotonicNs;
use crate::warning;

/// What is kept of /proc/kallsyms between refreshes.
#[derive(Debug, Default)]
pub struct KernelSymbols {
    table: SymbolTable,
    /// When it was read; `None`: never yet.
    read_ns: Option<MonotonicNs>,
    /// When the list of modules was compared last, and what it was.
    compared_ns: MonotonicNs,
    modules: u64,
    /// How long what is missing must wait for another read: longer each time one brought nothing.
    pause_ns: u64,
    version: u32,
}

impl KernelSymbols {
    /// Changes whenever answers may have changed.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The same, after a look for news if anybody has asked for symbols yet.
    pub fn current(&mut self, host: &Host, now_ns: MonotonicNs) -> u32 {
        if self.read_ns.is_some() {
            self.renew(host, now_ns);
        }
        self.version
    }

    /// The symbol at exactly `address`.
    pub fn at(&mut self, host: &Host, now_ns: MonotonicNs, address: u64) -> Option<Found<'_>> {
        self.renew(host, now_ns);
        if self.table.at(address).is_none() && !self.table.is_in_kernel(address) {
            self.missed(host, now_ns);
        }
        self.table.at(address)
    }

    /// The last symbol at or in front of `address`.
    pub fn in_front_of(&mut self, host: &Host, now_ns: MonotonicNs, address: u64) -> Option<Found<'_>> {
        self.renew(host, now_ns);
        if self.table.in_front_of(address).is_none_or(|found| found.is_last()) {
            self.missed(host, now_ns);
        }
        self.table.in_front_of(address)
    }

    /// Reads the symbols at first, and when a module came or went, which is looked at once a minute.
    fn renew(&mut self, host: &Host, now_ns: MonotonicNs) {
        let interval_ns = limits::KERNEL_SYMBOLS_INTERVAL.as_nanos() as u64;
        let is_first = self.read_ns.is_none();
        if !is_first && now_ns.abs_diff(self.compared_ns) < interval_ns {
            return;
        }
        self.compared_ns = now_ns;
        let modules = modules(host);
        if is_first || modules != self.modules {
            (self.modules, self.pause_ns) = (modules, interval_ns);
            self.read(host, now_ns);
        }
    }

    /// Something may be newer than the table: BPF programs and trampolines are no modules.
    fn missed(&mut self, host: &Host, now_ns: MonotonicNs) {
        if self.read_ns.is_some_and(|read_ns| now_ns.abs_diff(read_ns) < self.pause_ns) {
            return;
        }
        let before = self.table.fingerprint;
        self.read(host, now_ns);
        let interval_ns = limits::KERNEL_SYMBOLS_INTERVAL.as_nanos() as u64;
        let is_news = self.table.fingerprint != before;
        self.pause_ns = if is_news { interval_ns } else { (self.pause_ns * 2).min(60 * interval_ns) };
    }

    fn read(&mut self, host: &Host, now_ns: MonotonicNs) {
        self.read_ns = Some(now_ns);
        match SymbolTable::read(host) {
            Ok(table) if table.is_hidden() => {
                warning!(
                    "addresses in /proc/kallsyms are hidden: kernel symbols have no names (needs CAP_SYSLOG)"
                );
            }
            Ok(table) if table.fingerprint == self.table.fingerprint => {}
            Ok(table) => {
                self.table = table;
                self.version = self.version.wrapping_add(1);
            }
            // What was read before is better than nothing.
            Err(error) => warning!("{}: {error}", host.proc("kallsyms").display()),
        }
    }
}

/// Which modules there are; nothing when the kernel knows none.
fn modules(host: &Host) -> u64 {
    let mut hasher = DefaultHasher::new();
    if let Ok(text) = read_bounded(&host.proc("modules"), limits::KERNEL_FILE_BYTES) {
        // Name and address; how often a module is used changes all the time.
        for line in text.split(|byte| *byte == b'\n') {
            let mut fields = line.split(|byte| *byte == b' ');
            hasher.write(fields.next().unwrap_or_default());
            hasher.write(fields.nth(4).unwrap_or_default());
        }
    }
    hasher.finish()
}

/// A symbol of the table.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    table: &'a SymbolTable,
    index: usize,
}

impl Found<'_> {
    /// Appends its name, with a tab and the module in brackets unless it is the kernel's own.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.table.names.write(self.index, out);
    }

    fn is_last(&self) -> bool {
        self.index + 1 == self.table.offsets.len()
    }
}

/// Addresses and names, sorted.
#[derive(Debug, Default)]
pub struct SymbolTable {
    /// Addresses as distances from the base of the range they are in: all of a kernel's are within 4 GiB, but for those that
    /// are no addresses.
    offsets: Vec<u32>,
    ranges: Vec<Range>,
    names: SymbolNames,
    /// First and last address of the kernel itself, whose symbols do not change.
    kernel: (u64, u64),
    /// Of the text it was read from.
    fingerprint: u64,
}

#[derive(Debug)]
struct Range {
    base: u64,
    /// The place of its first symbol.
    first: usize,
}

impl SymbolTable {
    /// Reads /proc/kallsyms. Of several symbols at one address the one listed last stays, which the peer prints too.
    ///
    /// # Errors
    /// Those of opening and reading it; no memory for it. Half a table would give addresses other names than the whole.
    pub fn read(host: &Host) -> io::Result<SymbolTable> {
        let mut names = Collector::new();
        let mut symbols: Vec<(u64, u32)> = Vec::with_capacity(1 << 17);
        let mut kernel = (u64::MAX, 0);
        let mut hasher = DefaultHasher::new();
        let mut is_cut = false;
        for_each_line(host, |line| {
            hasher.write(line);
            is_cut = is_cut || !memory::admits(Use::Keys);
            let Some(symbol) =
                kallsyms::parse(line).filter(|_| symbols.len() < limits::KERNEL_SYMBOLS && !is_cut)
            else {
                return;
            };
            symbols.push((symbol.address, names.add(symbol.name)));
            // Offsets in per-CPU data are listed too, as low addresses.
            let is_low = symbol.address >> (usize::BITS - 1) == 0;
            if !is_low && memchr::memchr(b'\t', symbol.name).is_none() {
                kernel = (kernel.0.min(symbol.address), kernel.1.max(symbol.address));
            }
        })?;
        if is_cut {
            return Err(io::Error::other("no memory for symbols below --memory-limit"));
        }
        // Stable, and quick for what is sorted already, as the kernel's own symbols are.
        symbols.sort_by_key(|(address, _)| *address);
        symbols.reverse();
        symbols.dedup_by_key(|(address, _)| *address);
        symbols.reverse();

        let mut table = SymbolTable {
            offsets: Vec::with_capacity(symbols.len()),
            names: names.finish(symbols.iter().map(|(_, handle)| *handle)),
            kernel,
            fingerprint: hasher.finish(),
            ..SymbolTable::default()
        };
        for (first, &(address, _)) in symbols.iter().enumerate() {
            let offset = table.ranges.last().and_then(|range| u32::try_from(address - range.base).ok());
            table.offsets.push(offset.unwrap_or_else(|| {
                table.ranges.push(Range { base: address, first });
                0
            }));
        }
        Ok(table)
    }

    /// Who may not see addresses sees zeros.
    fn is_hidden(&self) -> bool {
        self.offsets.len() == 1 && self.ranges.first().is_some_and(|range| range.base == 0)
    }

    fn is_in_kernel(&self, address: u64) -> bool {
        (self.kernel.0..=self.kernel.1).contains(&address)
    }

    fn at(&self, address: u64) -> Option<Found<'_>> {
        let found = self.in_front_of(address)?;
        let range = self.range_of(address)?;
        (range.base + u64::from(self.offsets[found.index]) == address).then_some(found)
    }

    fn in_front_of(&self, address: u64) -> Option<Found<'_>> {
        let range = self.range_of(address)?;
        let at = self.ranges.partition_point(|other| other.base <= address);
        let end = self.ranges.get(at).map_or(self.offsets.len(), |next| next.first);
        let offset = u32::try_from(address - range.base).unwrap_or(u32::MAX);
        let count = self.offsets[range.first..end].partition_point(|other| *other <= offset);
        Some(Found { table: self, index: (range.first + count).checked_sub(1)? })
    }

    fn range_of(&self, address: u64) -> Option<&Range> {
        let at = self.ranges.partition_point(|range| range.base <= address);
        self.ranges.get(at.checked_sub(1)?)
    }

    /// Bytes it takes.
    #[cfg(test)]
    fn size(&self) -> usize {
        4 * self.offsets.capacity() + self.names.size()
    }
}

/// The addresses of a few symbols, in one pass that keeps nothing: `None` for those that are not there. Of several symbols
/// of one name the last one counts; those of modules do not go by their plain names.
///
/// # Errors
/// Those of opening and reading /proc/kallsyms.
pub fn kernel_addresses(host: &Host, names: &[&str]) -> io::Result<Vec<Option<u64>>> {
    let mut found = vec![None; names.len()];
    for_each_line(host, |line| {
        // Most lines are none of these: compare ends before parsing.
        for (name, address) in names.iter().zip(&mut found) {
            if line.ends_with(name.as_bytes())
                && let Some(symbol) = kallsyms::parse(line).filter(|symbol| symbol.name == name.as_bytes())
            {
                *address = Some(symbol.address);
            }
        }
    })?;
    Ok(found)
}

fn for_each_line(host: &Host, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut file = BufReader::with_capacity(1 << 16, File::open(host.proc("kallsyms"))?);
    let mut line = Vec::with_capacity(512);
    while file.read_until(b'\n', &mut line)? > 0 {
        // What has no end was cut.
        if let Some(line) = line.strip_suffix(b"\n") {
            each(line);
        }
        line.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::test::Bed;

    /// As kernels list them: per-CPU offsets first, then themselves, then modules and BPF in no order.
    pub const LIST: &str = "0000000000000000 A fixed_percpu_data\n0000000000001000 A cpu_debug_store\n\
        ffffffff81000000 T startup_64\nffffffff81000000 T _stext\nffffffff81000000 T _text\n\
        ffffffff81000100 t __pfx_do_one\nffffffff81000110 t do_one\nffffffff82000000 D _edata\n\
        ffffffffc0c2f000 t commit_timeout\t[jbd2]\nffffffffc0001000 t bpf_prog_6deef7357e7b4530_x\t[bpf]\n\
        ffffffffc0c2f100 t do_one\t[jbd2]\nffffffff81000110 t alias\ncut";

    fn table(list: &str) -> SymbolTable {
        let bed = Bed::new();
        bed.write("proc/kallsyms", list);
        SymbolTable::read(&bed.host).unwrap()
    }

    fn name(found: Option<Found<'_>>) -> String {
        let mut out = Vec::new();
        found.inspect(|found| found.write(&mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn exact_and_nearest() {
        let table = table(LIST);
        for (address, exact, nearest) in [
            (0, "fixed_percpu_data", "fixed_percpu_data"),
            (0xfff, "", "fixed_percpu_data"),
            (0x1_0000_0000, "", "cpu_debug_store"),
            (0xffff_ffff_80ff_ffff, "", "cpu_debug_store"),
            (0xffff_ffff_8100_0000, "_text", "_text"),
            (0xffff_ffff_8100_0100, "__pfx_do_one", "__pfx_do_one"),
            (0xffff_ffff_8100_0110, "alias", "alias"),
            (0xffff_ffff_8100_0111, "", "alias"),
            (
                0xffff_ffff_c000_1000,
                "bpf_prog_6deef7357e7b4530_x\t[bpf]",
                "bpf_prog_6deef7357e7b4530_x\t[bpf]",
            ),
            (0xffff_ffff_c0c2_f001, "", "commit_timeout\t[jbd2]"),
            (u64::MAX, "", "do_one\t[jbd2]"),
        ] {
            assert_eq!((&*name(table.at(address)), &*name(table.in_front_of(address))), (exact, nearest));
        }
        assert!(table.is_in_kernel(0xffff_ffff_8100_0005) && !table.is_in_kernel(0xffff_ffff_c000_0000));
        let empty = SymbolTable::default();
        assert!(empty.at(0).is_none() && empty.in_front_of(u64::MAX).is_none());
    }

    #[test]
    fn a_sorted_map_agrees() {
        use std::collections::BTreeMap;
        use std::fmt::Write;
        let mut random = crate::procfs::fuzz::numbers(11);
        // Close by, 4 GiB apart, and all over the place.
        let spread = [12, 34, 63];
        for round in 0..30 {
            let mut address = || {
                let bits = spread[random() % spread.len()];
                (random() as u64 & ((1 << bits) - 1)) | if bits < 63 { 0xffff_ff00_0000_0000 } else { 0 }
            };
            let (mut list, mut model) = (String::new(), BTreeMap::new());
            for number in 0..round * 20 {
                let (address, name) = (address(), format!("name_{}", number % 50));
                let _ = writeln!(list, "{address:016x} t {name}");
                model.insert(address, name);
            }
            let table = table(&list);
            for asked in (0..500).map(|_| address()).chain(model.keys().copied()) {
                let exact = model.get(&asked).cloned().unwrap_or_default();
                let nearest =
                    model.range(..=asked).next_back().map(|(_, name)| name.clone()).unwrap_or_default();
                assert_eq!((name(table.at(asked)), name(table.in_front_of(asked))), (exact, nearest));
            }
        }
    }

    #[test]
    fn hidden_addresses_are_no_symbols() {
        let hidden = "0000000000000000 T _stext\n0000000000000000 T _text\n0000000000000000 t a\t[m]\n";
        assert!(table(hidden).is_hidden());
        let mut bed = Bed::new();
        bed.write("proc/kallsyms", hidden);
        assert!(bed.tables.symbols.at(&bed.host, 1, 0).is_none());
        assert!(bed.tables.symbols.in_front_of(&bed.host, 1, 5).is_none());
    }

    #[test]
    fn read_again_for_modules_and_for_what_is_missing() {
        const MINUTE: u64 = 60_000_000_000;
        let bed = Bed::new();
        let module = |name: &str| format!("{name} 16384 1 - Live 0xffffffffc0c2f000\n");
        bed.write("proc/modules", module("jbd2"));
        bed.write("proc/kallsyms", LIST);
        let mut symbols = KernelSymbols::default();
        let mut at = |now_ns, address| {
            let name = name(symbols.at(&bed.host, now_ns, address));
            (name, symbols.version())
        };
        let new = 0xffff_ffff_c000_2000;
        assert_eq!(at(1, new), (String::new(), 1));
        let more = LIST.replace("cut", "ffffffffc0002000 t fresh\t[bpf]\nffffffff81000120 t odd\n");
        bed.write("proc/kallsyms", &more);
        assert_eq!(at(MINUTE, new), (String::new(), 1));
        assert_eq!(
            at(MINUTE + 1, 0xffff_ffff_8100_0120),
            (String::new(), 1),
            "the kernel itself has no new ones"
        );
        assert_eq!(at(MINUTE + 1, new), ("fresh\t[bpf]".to_owned(), 2));
        // Nothing new twice: the next time is further away.
        bed.write("proc/modules", module("jbd2").replace("1 -", "7 -"));
        assert_eq!(at(2 * MINUTE + 1, new + 1).1, 2);
        bed.write("proc/kallsyms", more.replace("fresh", "other"));
        assert_eq!(at(3 * MINUTE + 1, new + 1).1, 2);
        assert_eq!(at(4 * MINUTE + 1, new + 1).1, 3);
        // A module came.
        bed.write("proc/kallsyms", LIST);
        bed.write("proc/modules", module("nf_nat"));
        assert_eq!(at(5 * MINUTE + 1, new), (String::new(), 4));
        bed.remove("proc/kallsyms");
        bed.write("proc/modules", "");
        assert_eq!(at(6 * MINUTE + 1, 0xffff_ffff_c0c2_f000), ("commit_timeout\t[jbd2]".to_owned(), 4));
    }

    #[test]
    fn addresses_of_a_few() {
        let bed = Bed::new();
        assert!(kernel_addresses(&bed.host, &["a"]).is_err());
        bed.write("proc/kallsyms", LIST.replace("cut", "ffffffff81000200 t do_one\n"));
        let found =
            kernel_addresses(&bed.host, &["do_one", "nothing", "_stext", "commit_timeout", "one"]).unwrap();
        assert_eq!(found, [Some(0xffff_ffff_8100_0200), None, Some(0xffff_ffff_8100_0000), None, None]);
    }

    #[test]
    fn symbols_of_this_kernel_take_little() {
        let bed = Bed::live();
        let mut lines = 0;
        for_each_line(&bed.host, |_| lines += 1).unwrap();
        let began = std::time::Instant::now();
        let table = SymbolTable::read(&bed.host).unwrap();
        let took = began.elapsed();
        if table.is_hidden() || table.offsets.len() < 1000 {
            println!("skipped: no addresses in /proc/kallsyms");
            return;
        }
        let (size, count) = (table.size(), table.offsets.len());
        println!("{lines} symbols, {count} addresses, {size} bytes, {took:?}");
        assert!(size < 16 * count, "{size} bytes for {count}");
        for_each_line(&bed.host, |line| {
            let symbol = kallsyms::parse(line).unwrap();
            assert!(table.at(symbol.address).is_some());
        })
        .unwrap();
        let start = kernel_addresses(&bed.host, &["_stext"]).unwrap()[0].unwrap();
        assert_ne!(name(table.at(start)), "");
    }
}
