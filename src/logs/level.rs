//! How serious a message is, and the words programs have for it.

use super::pattern::class::{Words, trim};

/// How serious a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Level {
    /// It does not say.
    #[default]
    Unknown,
    /// Emergencies, alerts, panics, fatal and critical errors.
    Critical,
    /// Errors.
    Error,
    /// Warnings.
    Warning,
    /// Notices and information.
    Info,
    /// What developers want to know.
    Debug,
}

impl Level {
    /// How many there are.
    pub const COUNT: usize = 6;

    /// All of them, in the order of their numbers.
    pub const ALL: [Level; Level::COUNT] =
        [Level::Unknown, Level::Critical, Level::Error, Level::Warning, Level::Info, Level::Debug];

    /// The word for labels.
    pub fn word(self) -> &'static str {
        ["unknown", "critical", "error", "warning", "info", "debug"][self as usize]
    }

    /// The level of a priority of syslog (RFC 5424, 6.2.1), which journald has in `PRIORITY`; the facility, if there is one, is
    /// left out.
    pub fn of_priority(priority: u32) -> Level {
        use Level::{Critical, Debug, Error, Info, Warning};
        [Critical, Critical, Critical, Error, Warning, Info, Info, Debug][(priority & 7) as usize]
    }

    /// The level of a number as pino, bunyan and Python's logging of JSON have it: `None` outside of 10 to 99.
    pub fn of_number(number: u32) -> Option<Level> {
        match number {
            10..=29 => Some(Level::Debug),
            30..=39 => Some(Level::Info),
            40..=49 => Some(Level::Warning),
            50..=59 => Some(Level::Error),
            60..=99 => Some(Level::Critical),
            _ => None,
        }
    }

    /// The level of a word where a word for a level is expected, such as the value of `level=`.
    pub fn of_value(value: &[u8]) -> Option<Level> {
        let value = trim(value, b" \t\"[]");
        if let Some(level) = Level::of_word(value) {
            return Some(level);
        }
        if !value.is_empty() && value.len() <= 2 && value.iter().all(u8::is_ascii_digit) {
            return Level::of_number(value.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')));
        }
        match value {
            // mongod's: D1 to D5 are debug of growing detail.
            [letter] | [letter, b'1'..=b'5'] => Level::of_letter(*letter),
            _ if value.eq_ignore_ascii_case(b"information")
                || value.eq_ignore_ascii_case(b"informational") =>
            {
                Some(Level::Info)
            }
            _ if value.eq_ignore_ascii_case(b"emergency") => Some(Level::Critical),
            _ => None,
        }
    }

    /// The level a word names, without case.
    pub fn of_word(word: &[u8]) -> Option<Level> {
        if word.len() < 3 {
            return None;
        }
        WORDS.position(word).map(|position| WORD_LEVELS[position])
    }

    /// The level of what stands alone in brackets: `[error]`, `[core:error]` of Apache, `[Note]` and `[System]` of MySQL.
    pub fn of_group(inside: &[u8]) -> Option<Level> {
        let last = inside.rsplit(|&byte| byte == b':').next()?;
        Level::of_word(last).or_else(|| IN_BRACKETS.contains(last).then_some(Level::Info))
    }

    /// The level of glog's, logcat's and serilog's letters.
    pub fn of_letter(letter: u8) -> Option<Level> {
        Some(match letter {
            b'V' | b'D' | b'T' => Level::Debug,
            b'I' | b'N' => Level::Info,
            b'W' => Level::Warning,
            b'E' => Level::Error,
            b'F' | b'C' => Level::Critical,
            _ => return None,
        })
    }

    /// The level of the words PostgreSQL has besides the usual ones; they are words of other texts too, and count only in
    /// capitals with a colon.
    pub fn of_postgres(word: &[u8]) -> Option<Level> {
        POSTGRES.contains(&word).then_some(Level::Info)
    }
}

const POSTGRES: [&[u8]; 6] = [b"LOG:", b"DETAIL:", b"HINT:", b"STATEMENT:", b"CONTEXT:", b"QUERY:"];

macro_rules! words {
    ($($word:literal => $level:ident,)*) => {
        const WORD_COUNT: usize = [$($word),*].len();
        static WORDS: Words<WORD_COUNT> = Words::new([$($word),*]);
        static WORD_LEVELS: [Level; WORD_COUNT] = [$(Level::$level),*];
    };
}

words! {
    "info" => Info,
    "error" => Error,
    "warn" => Warning,
    "warning" => Warning,
    "debug" => Debug,
    "trace" => Debug,
    "notice" => Info,
    "err" => Error,
    "severe" => Error,
    "fatal" => Critical,
    "critical" => Critical,
    "crit" => Critical,
    "alert" => Critical,
    "emerg" => Critical,
    "panic" => Critical,
    "dpanic" => Critical,
    "failure" => Error,
    "dbg" => Debug,
    "inf" => Info,
    "wrn" => Warning,
    "ftl" => Critical,
    "trc" => Debug,
    "ntc" => Info,
    "fine" => Debug,
    "finer" => Debug,
    "finest" => Debug,
    "verbose" => Debug,
    "debug1" => Debug,
    "debug2" => Debug,
    "debug3" => Debug,
    "debug4" => Debug,
    "debug5" => Debug,
}

/// Words that name a level, information, only in brackets.
static IN_BRACKETS: Words<2> = Words::new(["note", "system"]);

/// Words in front of a message's first colon that name a level only there.
static BEFORE_COLON: Words<5> = Words::new(["fail", "dbug", "trce", "vrb", "note"]);
static BEFORE_COLON_LEVELS: [Level; 5] =
    [Level::Error, Level::Debug, Level::Debug, Level::Debug, Level::Info];

/// The level of `line`, whose header has been looked at without finding one: what stands at its very start.
pub fn at_start(line: &[u8], message: &[u8]) -> Level {
    if let Some(level) = redis(line) {
        return level;
    }
    let head = &message[..message.len().min(12)];
    let Some(end) = head.iter().position(|&byte| !byte.is_ascii_alphanumeric()) else {
        return Level::Unknown;
    };
    let word = &head[..end];
    if head[end] != b':' || word.is_empty() {
        return Level::Unknown;
    }
    let of_colon = || BEFORE_COLON.position(word).map(|position| BEFORE_COLON_LEVELS[position]);
    Level::of_word(word).or_else(of_colon).unwrap_or_default()
}

/// The mark of redis: `1:M 02 Jan 2026 10:00:00.000 * Ready`. The letter is the role, the mark comes after the clock.
fn redis(line: &[u8]) -> Option<Level> {
    let colon = line.iter().take(10).position(|byte| !byte.is_ascii_digit()).filter(|&at| at > 0)?;
    let [b':', b'M' | b'S' | b'C' | b'X', b' ', rest @ ..] = &line[colon..] else {
        return None;
    };
    let mut fields = rest[..rest.len().min(60)].split(|&byte| byte == b' ').filter(|field| !field.is_empty());
    let mark = fields.find(|field| field.len() == 1 && !field[0].is_ascii_digit())?;
    Some(match mark {
        b"." => Level::Debug,
        b"-" => Level::Info,
        b"*" => Level::Info,
        b"#" => Level::Warning,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_numbers_and_letters_have_levels() {
        for (value, expected) in [
            ("info", Some(Level::Info)),
            ("WARN", Some(Level::Warning)),
            ("Information", Some(Level::Info)),
            ("50", Some(Level::Error)),
            ("9", None),
            ("D2", Some(Level::Debug)),
            ("E", Some(Level::Error)),
            ("EMERGENCY", Some(Level::Critical)),
            ("", None),
            ("happy", None),
        ] {
            assert_eq!(Level::of_value(value.as_bytes()), expected, "{value}");
        }
        assert_eq!(Level::of_priority(134), Level::Info);
        assert_eq!(Level::of_priority(3), Level::Error);
        for (number, level) in Level::ALL.into_iter().enumerate() {
            assert_eq!(level as usize, number);
        }
    }
}
