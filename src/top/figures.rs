//! Figures and names in few columns: units people read, and nothing a terminal would take for an order.

/// An amount in at most four columns: `0`, `<0.1`, `1.5`, `99.9`, `340`, `1.2k`, `34M`. The letters are powers of 1,000.
pub fn amount(value: f64) -> String {
    match value {
        ..=0.0 => "0".to_owned(),
        ..0.05 => "<0.1".to_owned(),
        ..99.95 => tenths(value, ""),
        _ => scaled(value, 1000.0, &["", "k", "M", "G", "T", "P", "E"]),
    }
}

/// A time in at most five columns, of microseconds: `85us`, `1.2ms`, `340ms`, `12s`.
pub fn time(us: f64) -> String {
    if us < 0.5 { "<1us".to_owned() } else { scaled(us, 1000.0, &["us", "ms", "s"]) }
}

/// The value in the first unit that leaves less than `step`; with a tenth where there is room, but in the first unit.
fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let last = units.len().saturating_sub(1);
    for (at, unit) in units.iter().enumerate() {
        if at > 0 && value < 9.95 {
            return tenths(value, unit);
        }
        if value < step - 0.5 || at == last {
            let whole = value.round().min(step - 1.0) as u64;
            return format!("{whole}{unit}");
        }
        value /= step;
    }
    String::new()
}

fn tenths(value: f64, unit: &str) -> String {
    let tenths = (value * 10.0).round() as u64;
    match tenths % 10 {
        0 => format!("{}{unit}", tenths / 10),
        tenth => format!("{}.{tenth}{unit}", tenths / 10),
    }
}

/// Text of somebody else's: printable ASCII, so that it has one column for each character and says nothing to a terminal.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect()
}

/// At most `width` columns of `text`, which is plain, shortened in the middle: names differ at their ends.
pub fn fit(text: &str, width: usize) -> String {
    if text.len() <= width {
        return text.to_owned();
    }
    let Some(kept) = width.checked_sub(1) else {
        return String::new();
    };
    let part = |range| text.get(range).unwrap_or_default();
    [part(0..kept.div_ceil(2)), "…", part(text.len() - kept / 2..text.len())].concat()
}

/// The time of day in UTC, of seconds since 1970.
pub fn time_of_day(wall_s: u64) -> String {
    let second = wall_s % 86_400;
    format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_four_columns() {
        for (value, expected) in [
            (0.0, "0"),
            (-1.0, "0"),
            (0.04, "<0.1"),
            (0.05, "0.1"),
            (0.5, "0.5"),
            (2.0, "2"),
            (12.34, "12.3"),
            (99.94, "99.9"),
            (99.96, "100"),
            (999.4, "999"),
            (999.5, "1k"),
            (1234.0, "1.2k"),
            (9949.0, "9.9k"),
            (9951.0, "10k"),
            (999_499.0, "999k"),
            (999_500.0, "1M"),
            (3.4e6, "3.4M"),
            (1e18, "1E"),
            (1e30, "999E"),
            (f64::INFINITY, "999E"),
        ] {
            assert_eq!(amount(value), expected, "{value}");
        }
        let mut value = 0.001;
        while value < 1e25 {
            assert!(amount(value).len() <= 4, "{value}: {}", amount(value));
            assert!(time(value).len() <= 5, "{value}: {}", time(value));
            value *= 1.0137;
        }
        assert!(amount(f64::NAN).len() <= 4);
    }

    #[test]
    fn times_have_five_columns() {
        for (us, expected) in [
            (0.0, "<1us"),
            (1.0, "1us"),
            (85.4, "85us"),
            (999.6, "1ms"),
            (1_234.0, "1.2ms"),
            (12_340.0, "12ms"),
            (340_000.0, "340ms"),
            (1_500_000.0, "1.5s"),
            (127e6, "127s"),
            (1e12, "999s"),
        ] {
            assert_eq!(time(us), expected, "{us}");
        }
    }

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        assert_eq!(
            plain("/docker/web\x1b]0;owned\x07\r\n\u{9b}2J\u{202e}\u{7f}é"),
            "/docker/web?]0;owned????2J???"
        );
        let mut state = 1u64;
        for _ in 0..2_000 {
            let mut text = String::new();
            for _ in 0..20 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.extend(char::from_u32((state >> 43) as u32));
            }
            let shown = plain(&text);
            assert!(shown.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text:?}");
            assert_eq!(shown.chars().count(), text.chars().count());
        }
    }

    #[test]
    fn names_are_shortened_in_the_middle() {
        assert_eq!(fit("/docker/web", 11), "/docker/web");
        assert_eq!(fit("/docker/web", 10), "/dock…/web");
        assert_eq!(fit("/docker/web", 2), "/…");
        assert_eq!(fit("/docker/web", 1), "…");
        assert_eq!(fit("/docker/web", 0), "");
    }

    #[test]
    fn the_time_of_day() {
        assert_eq!(time_of_day(0), "00:00:00");
        assert_eq!(time_of_day(86_400 * 20_000 + 45_296), "12:34:56");
    }
}
