//! What somebody may have meant: the nearest of the known words.

/// `, did you mean X?` for the nearest of `known`, or nothing when none is near.
pub fn did_you_mean<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> String {
    did_you_mean_with(given, known, "")
}

/// The same with `prefix` in front of the word.
pub fn did_you_mean_with<'a>(given: &str, known: impl Iterator<Item = &'a str>, prefix: &str) -> String {
    let given: Vec<char> = given.chars().take(64).collect();
    known
        .map(|name| (distance(&given, name), name))
        .min()
        .filter(|&(distance, name)| distance <= 2.max(name.len() / 3))
        .map_or_else(String::new, |(_, name)| format!(", did you mean {prefix}{name}?"))
}

/// Edit distance (Levenshtein).
fn distance(given: &[char], name: &str) -> usize {
    let mut row: Vec<usize> = (0..=given.len()).collect();
    for (index, wanted) in name.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for column in 0..given.len() {
            let substituted = diagonal + usize::from(given[column] != wanted);
            diagonal = row[column + 1];
            row[column + 1] = substituted.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested_and_a_distant_one_is_not() {
        let known = || ["size", "padding", "decoders"].into_iter();
        for (given, expected) in [
            ("siz", ", did you mean size?"),
            ("decoder", ", did you mean decoders?"),
            ("pading", ", did you mean padding?"),
            ("regexps", ""),
            ("", ""),
        ] {
            assert_eq!(did_you_mean(given, known()), expected, "{given}");
        }
        assert_eq!(did_you_mean_with("siz", known(), "--"), ", did you mean --size?");
    }
}
