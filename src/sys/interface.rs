//! Names of network interfaces by number, in this process's own network namespace.

/// The name of interface `index`; `None` when there is none.
pub fn name(index: u32) -> Option<Vec<u8>> {
    let mut name = [0u8; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the IF_NAMESIZE bytes the function may write, its ending zero included.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    let end = name.iter().position(|byte| *byte == 0)?;
    (!found.is_null()).then(|| name[..end].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_interface_is_the_loopback() {
        assert_eq!(name(1).as_deref(), Some(&b"lo"[..]));
        assert_eq!(name(0), None);
        assert_eq!(name(u32::MAX), None);
    }
}
