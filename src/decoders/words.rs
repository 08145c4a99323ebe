//! Names by number, kept as one text: words in the order of their numbers, `-` where a number has no name.

/// A table of names, made at compile time.
pub struct Words<const N: usize> {
    text: &'static str,
    /// Where the word of each number begins, and one place more.
    starts: [u16; N],
}

/// Room for the table of a text: its words and one more.
pub const fn room(text: &str) -> usize {
    let (mut at, mut count) = (0, 2);
    while at < text.len() {
        count += (text.as_bytes()[at] == b' ') as usize;
        at += 1;
    }
    count
}

impl<const N: usize> Words<N> {
    /// The table of `text`, whose words are separated by one space each; `N` is its [`room`].
    pub const fn new(text: &'static str) -> Words<N> {
        let mut starts = [0; N];
        let (mut at, mut word) = (0, 1);
        while at < text.len() {
            if text.as_bytes()[at] == b' ' {
                starts[word] = at as u16 + 1;
                word += 1;
            }
            at += 1;
        }
        assert!(word + 1 == N && at < u16::MAX as usize);
        // As if a space followed.
        starts[word] = at as u16 + 1;
        Words { text, starts }
    }

    /// The name of `number`.
    pub fn get(&self, number: u64) -> Option<&'static str> {
        let at = usize::try_from(number).ok()?;
        let start = usize::from(*self.starts.get(at)?);
        let end = usize::from(*self.starts.get(at.checked_add(1)?)?);
        self.text.get(start..end.checked_sub(1)?).filter(|name| *name != "-")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_by_number() {
        const TEXT: &str = "zero - two";
        static WORDS: Words<{ room(TEXT) }> = Words::new(TEXT);
        let all: Vec<_> = (0..5).map(|number| WORDS.get(number)).collect();
        assert_eq!(all, [Some("zero"), None, Some("two"), None, None]);
        assert_eq!(WORDS.get(u64::MAX), None);
    }
}
