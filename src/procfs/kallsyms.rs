//! `/proc/kallsyms`: the symbols of the kernel and its modules.
//!
//! Megabytes long, so it is read and parsed line by line. Who may not see addresses finds them all 0
//! (Documentation/admin-guide/sysctl/kernel.rst, "kptr_restrict").

use super::text;

/// One symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// Where it is.
    pub address: u64,
    /// Its name; with a tab and `[module]` behind it unless it is the kernel's own.
    pub name: &'a [u8],
}

/// The symbol of a line, which comes without its newline: `ffffffffc0c2f000 t commit_timeout\t[jbd2]`.
pub fn parse(line: &[u8]) -> Option<Symbol<'_>> {
    let mut fields = line.split(|byte| *byte == b' ');
    let address = hexadecimal(fields.next()?)?;
    let _kind = fields.next()?;
    let name = fields.next().filter(|name| text::utf8(name).is_some_and(|name| !name.is_empty()))?;
    Some(Symbol { address, name })
}

/// A hexadecimal number that fills the whole field and fits 64 bits.
fn hexadecimal(field: &[u8]) -> Option<u64> {
    if field.is_empty() || field.len() > 16 {
        return None;
    }
    field.iter().try_fold(0, |value: u64, byte| {
        Some(value.wrapping_shl(4) | u64::from(char::from(*byte).to_digit(16)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    #[test]
    fn reads_lines() {
        let symbol = |address, name| Some(Symbol { address, name });
        assert_eq!(parse(b"0000000000000000 A fixed_percpu_data"), symbol(0, b"fixed_percpu_data"));
        assert_eq!(
            parse(b"ffffffffc0c2f000 t commit_timeout\t[jbd2]"),
            symbol(0xffff_ffff_c0c2_f000, b"commit_timeout\t[jbd2]")
        );
        assert_eq!(parse(b"c0008000 T _stext"), symbol(0xc000_8000, b"_stext"));
    }

    #[test]
    fn lines_that_do_not_fit_are_none() {
        for bad in ["", "ffff", "ffff T", "ffff T ", "fffg T a", "10000000000000000 T a", " T a"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parse(b"ff T \xff"), None);
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(b"ffffffffc0c2f000 t commit_timeout\t[jbd2]", |bytes| {
            let _ = parse(bytes);
        });
    }
}
