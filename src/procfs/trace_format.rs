//! `events/*/*/format` of tracefs: where the fields of a tracepoint's record are (Documentation/trace/events.rst).

/// Where a field is in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// In bytes, from the start of the record.
    pub offset: u16,
    /// In bytes.
    pub size: u16,
}

/// The field called `name`, as `daddr` in a line that begins with `field:__u8 daddr[4];`.
pub fn field(format: &str, name: &str) -> Option<Field> {
    format.lines().find_map(|line| {
        let rest = line.trim_start().strip_prefix("field:")?;
        let mut parts = rest.split(';').map(str::trim);
        let declaration = parts.next()?;
        let declared = declaration.split('[').next()?.rsplit([' ', '*']).next()?;
        if declared != name {
            return None;
        }
        let number = |part: Option<&str>, key: &str| part?.strip_prefix(key)?.parse().ok();
        Some(Field { offset: number(parts.next(), "offset:")?, size: number(parts.next(), "size:")? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    const FORMAT: &str = "name: inet_sock_set_state
ID: 1478
format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;

	field:const void * skaddr;	offset:8;	size:8;	signed:0;
	field:int oldstate;	offset:16;	size:4;	signed:1;
	field:int newstate;	offset:20;	size:4;	signed:1;
	field:__u16 sport;	offset:24;	size:2;	signed:0;
	field:__u16 dport;	offset:26;	size:2;	signed:0;
	field:__u16 family;	offset:28;	size:2;	signed:0;
	field:__u16 protocol;	offset:30;	size:2;	signed:0;
	field:__u8 saddr[4];	offset:32;	size:4;	signed:0;
	field:__u8 daddr[4];	offset:36;	size:4;	signed:0;
	field:__u8 saddr_v6[16];	offset:40;	size:16;	signed:0;
	field:__u8 daddr_v6[16];	offset:56;	size:16;	signed:0;

print fmt: \"family=%s protocol=%s sport=%hu\"
";

    #[test]
    fn pointers_of_32_bit_kernels_are_short() {
        let format = "\tfield:const void * skaddr;\toffset:8;\tsize:4;\tsigned:0;
\tfield:int oldstate;\toffset:12;\tsize:4;\tsigned:1;
\tfield:int newstate;\toffset:16;\tsize:4;\tsigned:1;\n";
        assert_eq!(field(format, "skaddr"), Some(Field { offset: 8, size: 4 }));
        assert_eq!(field(format, "newstate"), Some(Field { offset: 16, size: 4 }));
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        assert_eq!(field(FORMAT, "skaddr"), Some(Field { offset: 8, size: 8 }));
        assert_eq!(field(FORMAT, "daddr"), Some(Field { offset: 36, size: 4 }));
        assert_eq!(field(FORMAT, "daddr_v6"), Some(Field { offset: 56, size: 16 }));
        assert_eq!(field(FORMAT, "protocol"), Some(Field { offset: 30, size: 2 }));
        for name in ["addr", "", "u16", "port", "offset:8"] {
            assert_eq!(field(FORMAT, name), None, "{name}");
        }
        assert_eq!(field("field:int x;\toffset:99999;\tsize:4;", "x"), None);
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(FORMAT.as_bytes(), |bytes| {
            let _ = field(&String::from_utf8_lossy(bytes), "daddr");
        });
    }
}
