//! Numbers of an ELF file, replaced by numbers that are wrong in interesting ways. Bytes changed at random rarely hit the
//! few that say where things are.

/// Bytes of the file's header, of a section's, and of the words everything inside sections consists of.
const HEADER: usize = 64;
const SECTION: usize = 64;
const WORD: usize = 4;

/// Offset and size of the numbers of the file's header that are about sections, and of a section's header.
const HEADER_FIELDS: [(usize, usize); 7] = [(16, 2), (18, 2), (40, 8), (52, 2), (58, 2), (60, 2), (62, 2)];
const SECTION_FIELDS: [(usize, usize); 10] =
    [(0, 4), (4, 4), (8, 8), (16, 8), (24, 8), (32, 8), (40, 4), (44, 4), (48, 8), (56, 8)];

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end.max(1)
    }
}

/// Replaces one number, sometimes two.
pub fn spoil(data: &mut [u8], seed: u64) {
    let mut random = Random(seed);
    for _ in 0..=random.below(2) {
        spoil_one(data, &mut random);
    }
}

fn spoil_one(data: &mut [u8], random: &mut Random) {
    let sections = sections(data);
    let (at, size) = match (random.below(8), sections.len()) {
        (0, _) | (_, 0) => HEADER_FIELDS[random.below(HEADER_FIELDS.len())],
        (1..=3, count) => {
            let (field, size) = SECTION_FIELDS[random.below(SECTION_FIELDS.len())];
            (sections[random.below(count)] + field, size)
        }
        (_, count) => {
            let section = sections[random.below(count)];
            let start = read(data, section + 24, 8) as usize;
            let length = (read(data, section + 32, 8) as usize).min(data.len());
            (start.saturating_add(random.below(length / WORD) * WORD), [4, 4, 2, 8][random.below(4)])
        }
    };
    let before = read(data, at, size);
    let other = sections.get(random.below(sections.len())).map_or(0, |section| {
        let (field, size) = SECTION_FIELDS[random.below(SECTION_FIELDS.len())];
        read(data, section + field, size)
    });
    let after = match random.below(12) {
        0 => 0,
        1 => 1,
        2 => u64::MAX,
        3 => data.len() as u64,
        4 => before.wrapping_add(1),
        5 => before.wrapping_sub(1),
        6 => before ^ 1 << random.below(size * 8),
        7 => before.wrapping_neg(),
        8 => 1 << random.below(size * 8),
        9 => random.below(32) as u64,
        // What another section says, or what another word of the file does.
        10 => other,
        _ => read(data, random.below(data.len() / WORD) * WORD, size),
    };
    if let Some(place) = at.checked_add(size).and_then(|end| data.get_mut(at..end)) {
        place.copy_from_slice(&after.to_le_bytes()[..size]);
    }
}

/// Where the headers of the sections are.
fn sections(data: &[u8]) -> Vec<usize> {
    let start = read(data, 40, 8) as usize;
    let count = read(data, 60, 2) as usize;
    let starts = (0..count).map(|number| start.saturating_add(number * SECTION));
    starts.filter(|at| *at >= HEADER && at.saturating_add(SECTION) <= data.len()).collect()
}

/// A little-endian number; 0 outside of the file.
fn read(data: &[u8], at: usize, size: usize) -> u64 {
    let mut bytes = [0; 8];
    if let Some(place) = at.checked_add(size).and_then(|end| data.get(at..end)) {
        bytes[..size].copy_from_slice(place);
    }
    u64::from_le_bytes(bytes)
}
