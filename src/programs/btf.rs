//! Whether an object's types fit together, as far as libbpf takes it for granted.
//!
//! The format is that of `Documentation/bpf/btf.rst` in the kernel's sources. Names are not looked at: libbpf checks them.

use super::elf::Bytes;

/// Bytes of the header's fixed part, of a type, of a member of a struct, of a variable of a section, of a
/// parameter.
const HEADER_BYTES: u32 = 24;
const TYPE_BYTES: usize = 12;
const MEMBER_BYTES: usize = 12;
const VARIABLE_BYTES: usize = 12;
const PARAMETER_BYTES: usize = 8;

const MAGIC: u16 = 0xeb9f;

const INTEGER: u32 = 1;
const POINTER: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FORWARD: u32 = 7;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNCTION: u32 = 12;
const PROTOTYPE: u32 = 13;
const VARIABLE: u32 = 14;
const SECTION: u32 = 15;
const FLOAT: u32 = 16;
const DECLARATION_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM_64: u32 = 19;

/// Names, qualifiers and arrays between a type and what it is of; libbpf follows 32.
const DEPTH: usize = 32;

/// Types within types: libbpf calls itself for each, and would for ever for a struct that is a member of itself. The kernel
/// allows 32.
const NESTING: u8 = 128;

const POINTER_BYTES: u64 = 8;

/// A type and what follows it.
#[derive(Clone, Copy)]
struct Type<'a> {
    kind: u32,
    count: usize,
    flag: bool,
    /// Its size or the type it is of.
    size_or_type: u32,
    rest: Bytes<'a>,
}

/// Checks the content of a section `.BTF`.
///
/// # Errors
/// What is wrong.
pub(super) fn check(section: Bytes<'_>) -> Result<(), String> {
    let types = read(section)?;
    let mut heights = vec![0; types.len()];
    for (found, number) in types.iter().zip(1..) {
        let problem = |line: String| format!("type {number}: {line}");
        check_references(&types, found).map_err(problem)?;
        height(&types, number, NESTING, &mut heights)
            .ok_or_else(|| problem("is within itself, or too much is within it".to_owned()))?;
        match found.kind {
            STRUCT | UNION => check_members(&types, found).map_err(problem)?,
            SECTION => check_variables(&types, found).map_err(problem)?,
            _ => {}
        }
    }
    Ok(())
}

/// All types, of which the first one has number 1.
fn read(section: Bytes<'_>) -> Result<Vec<Type<'_>>, String> {
    let parse = || {
        let header = section.u32(4)?;
        let (offset, size) = (section.u32(8)?, section.u32(12)?);
        let (string_offset, string_size) = (section.u32(16)?, section.u32(20)?);
        (section.u16(0)? == MAGIC && header >= HEADER_BYTES).then_some(())?;
        let types = section.part(u64::from(header) + u64::from(offset), size.into())?;
        let strings = section.part(u64::from(header) + u64::from(string_offset), string_size.into())?;
        strings.text(0).map(|_| types)
    };
    let mut rest = parse().ok_or("no header, or one that does not fit")?;
    let mut types = Vec::new();
    while !rest.0.is_empty() {
        let (found, after) = split(rest).ok_or_else(|| format!("type {} is not whole", types.len() + 1))?;
        types.push(found);
        rest = after;
    }
    Ok(types)
}

/// The first type and what is behind it.
fn split(bytes: Bytes<'_>) -> Option<(Type<'_>, Bytes<'_>)> {
    let info = bytes.u32(4)?;
    let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
    let length = match kind {
        INTEGER | VARIABLE | DECLARATION_TAG => 4,
        ARRAY => 12,
        STRUCT | UNION => count * MEMBER_BYTES,
        SECTION => count * VARIABLE_BYTES,
        PROTOTYPE => count * PARAMETER_BYTES,
        ENUM => count * 8,
        ENUM_64 => count * 12,
        POINTER | FORWARD | TYPEDEF | VOLATILE | CONST | RESTRICT | FUNCTION | FLOAT | TYPE_TAG => 0,
        _ => return None,
    };
    let (whole, after) = bytes.0.split_at_checked(TYPE_BYTES + length)?;
    let size_or_type = bytes.u32(8)?;
    let rest = Bytes(&whole[TYPE_BYTES..]);
    Some((Type { kind, count, flag: info >> 31 != 0, size_or_type, rest }, Bytes(after)))
}

impl Type<'_> {
    /// Bytes of each record behind it, and where in one the number of a type is.
    fn records(&self) -> Option<(usize, usize)> {
        match self.kind {
            STRUCT | UNION => Some((MEMBER_BYTES, 4)),
            SECTION => Some((VARIABLE_BYTES, 0)),
            PROTOTYPE => Some((PARAMETER_BYTES, 4)),
            _ => None,
        }
    }

    /// Numbers of the types it refers to, 0 for void.
    fn references(&self) -> impl Iterator<Item = u32> {
        let own = match self.kind {
            INTEGER | ARRAY | STRUCT | UNION | ENUM | ENUM_64 | FORWARD | SECTION | FLOAT => None,
            _ => Some(self.size_or_type),
        };
        // Of an array, those of its elements and of its index.
        let array = (self.kind == ARRAY).then(|| [self.rest.u32(0), self.rest.u32(4)]);
        let (size, place) = self.records().unwrap_or((1, 0));
        let count = if self.records().is_some() { self.count } else { 0 };
        let records = (0..count).filter_map(move |at| self.rest.u32(at * size + place));
        own.into_iter().chain(array.into_iter().flatten().flatten()).chain(records)
    }
}

/// Not even libbpf looks at what a function returns before it relies on it.
fn check_references(types: &[Type<'_>], found: &Type<'_>) -> Result<(), String> {
    match found.references().find(|number| *number as usize > types.len()) {
        Some(number) => Err(format!("no type {number}")),
        None => Ok(()),
    }
}

/// How deep what is in type `number` goes, pointers not followed; `None` for more than `limit`. `heights` are those that are
/// known.
fn height(types: &[Type<'_>], number: u32, limit: u8, heights: &mut [u8]) -> Option<u8> {
    let Some(at) = (number as usize).checked_sub(1).filter(|at| *at < types.len()) else { return Some(0) };
    if matches!(types[at].kind, POINTER | FUNCTION | PROTOTYPE) {
        return Some(1);
    }
    if heights[at] == 0 {
        let below = limit.checked_sub(1)?;
        let mut highest = 0;
        for number in types[at].references() {
            highest = highest.max(height(types, number, below, heights)?);
        }
        heights[at] = highest + 1;
    }
    Some(heights[at]).filter(|height| *height <= limit)
}

/// Bytes of type `number`; `None` for what has no size, which libbpf refuses where it needs one.
fn size(types: &[Type<'_>], mut number: u32) -> Option<u64> {
    let mut elements = 1u64;
    for _ in 0..DEPTH {
        let found = types.get(usize::try_from(number.checked_sub(1)?).ok()?)?;
        match found.kind {
            INTEGER | STRUCT | UNION | ENUM | ENUM_64 | FLOAT | SECTION => {
                return elements.checked_mul(found.size_or_type.into());
            }
            POINTER => return elements.checked_mul(POINTER_BYTES),
            TYPEDEF | VOLATILE | CONST | RESTRICT | VARIABLE | DECLARATION_TAG | TYPE_TAG => {
                number = found.size_or_type;
            }
            ARRAY => {
                elements = elements.checked_mul(found.rest.u32(8)?.into())?;
                number = found.rest.u32(0)?;
            }
            _ => return None,
        }
    }
    None
}

/// libbpf copies members of structs by their offsets.
fn check_members(types: &[Type<'_>], found: &Type<'_>) -> Result<(), String> {
    for at in 0..found.count {
        let read = || Some((found.rest.u32(at * MEMBER_BYTES + 4)?, found.rest.u32(at * MEMBER_BYTES + 8)?));
        let (member, offset) = read().ok_or("not whole")?;
        // With bit fields in the struct the upper byte is the field's size in bits, 0 for what is none.
        let (offset, bits) = if found.flag { (offset & 0xff_ffff, offset >> 24) } else { (offset, 0) };
        let end = match bits {
            0 => size(types, member).map(|size| u64::from(offset / 8).saturating_add(size)),
            bits => Some((u64::from(offset) + u64::from(bits)).div_ceil(8)),
        };
        if end.is_some_and(|end| end > found.size_or_type.into()) {
            return Err(format!("member {at} is outside of its struct"));
        }
    }
    Ok(())
}

/// libbpf adds offsets and sizes of variables in 32 bits, and the offsets may also come from symbols.
fn check_variables(types: &[Type<'_>], found: &Type<'_>) -> Result<(), String> {
    for at in 0..found.count {
        let field = |number: usize| found.rest.u32(at * VARIABLE_BYTES + number * 4);
        let read = || Some((field(0)?, field(1)?, field(2)?));
        let (variable, offset, declared) = read().ok_or("not whole")?;
        let most = size(types, variable).unwrap_or(0).max(declared.into()).max(offset.into());
        if i32::try_from(most).is_err() {
            return Err(format!("variable {at} is larger than any section"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A section of types of so many words, with no names.
    fn section(types: &[u32]) -> Vec<u8> {
        let size = types.len() as u32 * 4;
        let magic = u32::from(MAGIC) | 1 << 16;
        let mut words = vec![magic, HEADER_BYTES, 0, size, size, 4];
        words.extend(types);
        words.push(0);
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn problem(types: &[u32]) -> String {
        check(Bytes(&section(types))).err().unwrap_or_default()
    }

    fn info(kind: u32, count: u32) -> u32 {
        kind << 24 | count
    }

    /// Type 1 of the tests below: four bytes.
    const INT: [u32; 4] = [0, INTEGER << 24, 4, 32];

    fn behind_int(types: &[u32]) -> String {
        problem(&[&INT, types].concat())
    }

    #[test]
    fn headers_fit() {
        assert_eq!(problem(&[]), "");
        assert_eq!(problem(&INT), "");
        let whole = section(&INT);
        let none = "no header, or one that does not fit";
        for end in 0..whole.len() {
            assert_eq!(check(Bytes(&whole[..end])), Err(none.to_owned()));
        }
        for word in 1..6 {
            let mut odd = whole.clone();
            odd[word * 4..][..4].copy_from_slice(&u32::MAX.to_ne_bytes());
            assert_eq!(check(Bytes(&odd)), Err(none.to_owned()), "word {word}");
        }
        assert_eq!(problem(&INT[..3]), "type 1 is not whole");
        assert_eq!(behind_int(&[0, info(31, 0), 0]), "type 2 is not whole");
        assert_eq!(behind_int(&[0, info(STRUCT, 2), 4, 0, 1, 0]), "type 2 is not whole");
    }

    #[test]
    fn members_are_inside() {
        assert_eq!(behind_int(&[0, info(STRUCT, 2), 8, 0, 1, 0, 0, 1, 32]), "");
        let outside = "type 2: member 1 is outside of its struct";
        assert_eq!(behind_int(&[0, info(STRUCT, 2), 7, 0, 1, 0, 0, 1, 32]), outside);
        assert_eq!(behind_int(&[0, info(STRUCT, 2), 8, 0, 1, 0, 0, 1, u32::MAX]), outside);
        let bits = |offset: u32| behind_int(&[0, info(STRUCT, 1) | 1 << 31, 1, 0, 1, 3 << 24 | offset]);
        assert_eq!((bits(5).as_str(), bits(6).as_str()), ("", "type 2: member 0 is outside of its struct"));
        // An array without elements at the end is C's way to say "and more".
        let open = [0, info(ARRAY, 0), 0, 1, 1, 0, 0, info(STRUCT, 2), 4, 0, 1, 0, 0, 2, 32];
        assert_eq!(behind_int(&open), "");
    }

    #[test]
    fn references_exist_and_end() {
        assert_eq!(behind_int(&[0, info(POINTER, 0), 2]), "");
        assert_eq!(behind_int(&[0, info(POINTER, 0), 3]), "type 2: no type 3");
        assert_eq!(behind_int(&[0, info(PROTOTYPE, 1), 9, 0, 1]), "type 2: no type 9");
        assert_eq!(behind_int(&[0, info(PROTOTYPE, 1), 0, 0, 9]), "type 2: no type 9");
        let within = "type 2: is within itself, or too much is within it";
        for kind in [CONST, TYPEDEF, VOLATILE, RESTRICT, TYPE_TAG] {
            assert_eq!(behind_int(&[0, info(kind, 0), 2]), within);
        }
        assert_eq!(behind_int(&[0, info(ARRAY, 0), 0, 2, 1, 0]), within);
        assert_eq!(behind_int(&[0, info(STRUCT, 1), 0, 0, 2, 0]), within);
        // A long chain without a circle, from either end.
        let chain = |next: fn(u32) -> u32| {
            let types: Vec<u32> = (2..1000).flat_map(|at| [0, info(CONST, 0), next(at)]).collect();
            behind_int(&types)
        };
        assert!(chain(|at| at - 1).contains("too much is within it"));
        assert!(chain(|at| if at == 999 { 1 } else { at + 1 }).contains("too much is within it"));
    }

    #[test]
    fn variables_are_small_enough_to_add() {
        let variable = |offset, size| {
            let types = [0, info(VARIABLE, 0), 1, 0, 0, info(SECTION, 1), 0, 2, offset, size];
            behind_int(&types)
        };
        assert_eq!(variable(8, 4), "");
        let large = "type 3: variable 0 is larger than any section";
        assert_eq!(variable(1 << 31, 4), large);
        assert_eq!(variable(0, u32::MAX), large);
    }
}
