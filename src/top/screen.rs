//! The screen as text: from rows, a width and a height to lines. Pure.

use std::collections::BinaryHeap;

use super::figures::{amount, fit, plain, time, time_of_day};
use super::rates::{Figures, Interval, Line};

/// What lines are sorted by, and what columns show: all but the first have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// Bytes moved, where a connect, failed or not, counts as much as 1,000 of them; then what is open.
    Activity,
    /// Connections established.
    Connects,
    /// Connects that failed.
    Failures,
    /// Connections established now.
    Active,
    /// The smallest round trip.
    RoundTrip,
    /// The average time a connect took.
    ConnectTime,
    /// Bytes sent.
    Sent,
    /// Bytes received.
    Received,
    /// Segments sent again.
    Retransmits,
}

/// All of them, in the order of `s`.
const SORTS: [Sort; 9] = [
    Sort::Activity,
    Sort::Connects,
    Sort::Failures,
    Sort::Active,
    Sort::RoundTrip,
    Sort::ConnectTime,
    Sort::Sent,
    Sort::Received,
    Sort::Retransmits,
];

impl Sort {
    /// The next one.
    pub fn next(self) -> Sort {
        let following = SORTS.iter().skip_while(|&&sort| sort != self).nth(1);
        following.copied().unwrap_or(Sort::Activity)
    }

    /// What is larger comes first.
    pub fn measure(self, figures: &Figures) -> u64 {
        match self {
            Sort::Activity => {
                let connects = figures.connects.saturating_add(figures.failures).saturating_mul(1000);
                let bytes = figures.sent.saturating_add(figures.received);
                // What moves nothing at all comes behind what does, whatever is open.
                let moved = bytes.saturating_add(connects);
                moved.saturating_mul(1 << 16).saturating_add(figures.active.min((1 << 16) - 1))
            }
            Sort::Connects => figures.connects,
            Sort::Failures => figures.failures,
            Sort::Active => figures.active,
            Sort::RoundTrip => figures.rtt_us.map_or(0, u64::from),
            Sort::ConnectTime => figures.connect_ns.checked_div(figures.connects).unwrap_or(0),
            Sort::Sent => figures.sent,
            Sort::Received => figures.received,
            Sort::Retransmits => figures.retransmits,
        }
    }

    /// All of them in the order wanted; in the order given where there is nothing between them.
    fn order<T>(self, all: &[T], figures: impl Fn(&T) -> &Figures) -> impl Iterator<Item = &T> {
        let order: BinaryHeap<(u64, usize)> =
            all.iter().enumerate().map(|(at, one)| (!self.measure(figures(one)), at)).collect();
        // A third of the code of `sort`, and fast enough for a screen.
        order.into_sorted_vec().into_iter().filter_map(|(_, at)| all.get(at))
    }

    /// Its column's head in few columns, in more, and how many those are.
    fn head(self) -> (&'static str, &'static str, usize) {
        match self {
            Sort::Activity => ("activity", "activity", 0),
            Sort::Connects => ("conn", "conn/s", 4),
            Sort::Failures => ("fail", "fail/s", 4),
            Sort::Active => ("act", "active", 4),
            Sort::RoundTrip => ("rtt", "rtt", 5),
            Sort::ConnectTime => ("ctime", "connect", 5),
            Sort::Sent => ("sent", "sent/s", 4),
            Sort::Received => ("recv", "recv/s", 4),
            Sort::Retransmits => ("retr", "retr/s", 4),
        }
    }

    fn cell(self, figures: &Figures, seconds: f64) -> String {
        let rate = |count: u64| amount(count as f64 / seconds);
        let time = |us: Option<f64>| us.map_or_else(|| "-".to_owned(), time);
        match self {
            Sort::Activity => String::new(),
            Sort::Connects => rate(figures.connects),
            Sort::Failures => rate(figures.failures),
            Sort::Active => amount(figures.active as f64),
            Sort::RoundTrip => time(figures.rtt_us.map(f64::from)),
            Sort::ConnectTime => {
                let connects = (figures.connects > 0).then_some(figures.connects as f64);
                time(connects.map(|connects| figures.connect_ns as f64 / 1e3 / connects))
            }
            Sort::Sent => rate(figures.sent),
            Sort::Received => rate(figures.received),
            Sort::Retransmits => rate(figures.retransmits),
        }
    }
}

/// What a screen is made of.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The host's name.
    pub host: &'a str,
    /// Now, in seconds since 1970.
    pub wall_s: u64,
    /// Since when connections are followed.
    pub since_s: u64,
    /// What does not work; empty when all does.
    pub problem: &'a str,
    /// What happened last; `None` before the first interval is over.
    pub interval: Option<&'a Interval>,
    /// What it is to be sorted by.
    pub sort: Sort,
    /// Columns and lines there are; `None` where there is no end to them, on paper.
    pub size: Option<(usize, usize)>,
}

/// From here on there is room for whole words in the heads.
const WIDE: usize = 90;

/// Columns a name should have at least; of the others those at the end go first.
const NAME: usize = 16;

/// Columns of names on paper, at least.
const PAPER_NAME: usize = 40;

/// In front of a destination.
const INDENT: &str = "  ";

struct Table {
    name: usize,
    columns: Vec<Sort>,
    is_wide: bool,
    seconds: f64,
}

impl Table {
    fn new(width: Option<usize>, longest: usize, seconds: f64) -> Table {
        let is_wide = width.is_none_or(|width| width >= WIDE);
        let mut table = Table { name: longest.max(PAPER_NAME), columns: Vec::new(), is_wide, seconds };
        let mut left = width.unwrap_or(usize::MAX);
        for sort in SORTS.into_iter().skip(1) {
            let needed = table.column(sort) + 1;
            if left < needed + NAME {
                break;
            }
            left -= needed;
            table.columns.push(sort);
        }
        if width.is_some() {
            table.name = left;
        }
        table
    }

    fn column(&self, sort: Sort) -> usize {
        let (_, long, least) = sort.head();
        if self.is_wide { least.max(long.len()) } else { least }
    }

    fn line(&self, name: &str, cell: impl Fn(Sort) -> String) -> String {
        let mut line = format!("{:1$}", fit(name, self.name), self.name);
        for &sort in &self.columns {
            line += &format!(" {:>1$}", cell(sort), self.column(sort));
        }
        line
    }

    fn figures(&self, name: &str, figures: &Figures) -> String {
        self.line(name, |sort| sort.cell(figures, self.seconds))
    }
}

/// The lines of a screen, none wider and no more than there is room for; all of them printable.
pub fn lines(view: &View<'_>) -> Vec<String> {
    let (width, height) = view.size.unzip();
    let mut lines = vec![title(view, width)];
    if !view.problem.is_empty() {
        lines.push(fit(&plain(view.problem), width.unwrap_or(usize::MAX)));
    }
    let (seconds, groups) =
        view.interval.map_or((1.0, &[][..]), |interval| (interval.seconds, &interval.groups));
    let mut names = Vec::new();
    for group in view.sort.order(groups, |group| &group.sum) {
        names.push((false, plain(&group.container), &group.sum));
        for line in view.sort.order(&group.lines, |line| &line.figures) {
            names.push((true, named(line), &line.figures));
        }
    }
    let longest = names.iter().map(|(_, name, _)| name.len()).max().unwrap_or(0);
    let table = Table::new(width, longest, seconds);
    let head = "container, destination";
    let head = if table.name < head.len() { "destination" } else { head };
    lines.push(table.line(head, |sort| {
        let (short, long, _) = sort.head();
        if table.is_wide { long } else { short }.to_owned()
    }));
    match view.interval {
        None => lines.push(fit("counting ...", table.name)),
        Some(interval) => {
            let (count, plural) = (groups.len(), if groups.len() == 1 { "" } else { "s" });
            lines.push(table.figures(&format!("{count} container{plural}"), &interval.sum));
        }
    }
    let height = height.unwrap_or(usize::MAX);
    let room = height.saturating_sub(lines.len());
    let shown = if names.len() > room { room.saturating_sub(1) } else { names.len() };
    lines.extend(names.iter().take(shown).map(|(_, name, figures)| table.figures(name, figures)));
    let hidden = names.iter().skip(shown).filter(|(is_destination, ..)| *is_destination).count();
    if shown < names.len() {
        let more =
            width.unwrap_or(usize::MAX).checked_sub(2).map(|left| fit(&format!("{hidden} more"), left));
        lines.push(more.map(|more| format!("… {more}")).unwrap_or_default());
    }
    lines.truncate(height);
    lines
}

/// A destination, and who answers there if that is somebody else.
fn named(line: &Line) -> String {
    let mut name = INDENT.to_owned() + &line.destination;
    if line.actual != line.destination {
        name += " -> ";
        name += if line.actual.is_empty() { "?" } else { &line.actual };
    }
    plain(&name)
}

/// Who, when, and how to read it; what there is no room for is left out from the end.
fn title(view: &View<'_>, width: Option<usize>) -> String {
    let width = width.unwrap_or(usize::MAX);
    let over = view.interval.map(|interval| {
        let tenths = (interval.seconds * 10.0).round() as u64;
        format!("over {}.{} s", tenths / 10, tenths % 10)
    });
    let (short, ..) = view.sort.head();
    let keys = if view.size.is_some() { "s: sort  q: quit" } else { "" };
    let pieces = [
        time_of_day(view.wall_s) + " UTC",
        over.unwrap_or_default(),
        format!("by {short}"),
        keys.to_owned(),
        format!("connections since {}", time_of_day(view.since_s)),
    ];
    let mut title = fit(&plain(view.host), width / 3);
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        if title.len() + piece.len() + 2 > width {
            break;
        }
        title += "  ";
        title += piece;
    }
    title
}

/// The lines as text, a blank one behind them.
pub fn paper(lines: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines {
        out.extend(line.trim_end().bytes());
        out.push(b'\n');
    }
    out.push(b'\n');
    out
}

/// What paints the lines over whatever the terminal shows; the heads, the last line of `heads`, stand out.
pub fn painted(lines: &[String], heads: usize) -> Vec<u8> {
    let mut out = b"\x1b[H".to_vec();
    for (at, line) in lines.iter().enumerate() {
        if at > 0 {
            out.extend(b"\r\n");
        }
        let is_head = at + 1 == heads;
        out.extend(if is_head { &b"\x1b[7m"[..] } else { b"" });
        out.extend(line.bytes());
        out.extend(if is_head { &b"\x1b[0m\x1b[K"[..] } else { b"\x1b[K" });
    }
    out.extend(b"\x1b[J");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::rates::Group;

    fn line(destination: &str, actual: &str, figures: Figures) -> Line {
        Line { destination: destination.to_owned(), actual: actual.to_owned(), figures }
    }

    /// Three containers in two seconds.
    fn interval() -> Interval {
        let none = Figures::default();
        let database = Figures { active: 12, sent: 24_680, received: 6_800_000, rtt_us: Some(420), ..none };
        let service = Figures {
            connects: 68,
            connect_ns: 68 * 1_234_000,
            active: 3,
            sent: 136_000,
            received: 2_100,
            retransmits: 3,
            ..none
        };
        let refused = Figures { failures: 4, ..none };
        let other = Figures { connects: 1, connect_ns: 85_000, active: 1, ..none };
        let mut interval = Interval { seconds: 2.0, sum: none, groups: Vec::new() };
        for (container, lines) in [
            ("/system.slice/sync.service", vec![line("[2001:db8::15:2]:443", "[2001:db8::15:2]:443", other)]),
            (
                "/docker/web",
                vec![
                    line("10.96.0.10:80", "", other),
                    line("10.0.0.9:9000", "10.0.0.9:9000", refused),
                    line("10.0.0.7:5432", "10.0.0.7:5432", database),
                    line("10.96.0.10:80", "192.168.14.3:8080", service),
                ],
            ),
            ("/docker/\x1b[31mred\n", vec![line("~other", "~other", refused)]),
        ] {
            let sum = lines.iter().fold(none, |sum, line| sum.plus(&line.figures));
            interval.sum = interval.sum.plus(&sum);
            interval.groups.push(Group { container: container.to_owned(), sum, lines });
        }
        interval
    }

    fn shown(interval: Option<&Interval>, size: Option<(usize, usize)>) -> Vec<String> {
        let lines = lines(&View {
            host: "web-1",
            wall_s: 45_296,
            since_s: 45_000,
            problem: "",
            interval,
            sort: Sort::Activity,
            size,
        });
        for line in &lines {
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
        lines
    }

    #[test]
    fn wide() {
        let expected = "\
web-1  12:34:56 UTC  over 2.0 s  by activity  s: sort  q: quit  connections since 12:30:00
container, destination                        conn/s fail/s active   rtt connect sent/s recv/s retr/s
3 containers                                      35      4     17 420us   1.2ms    80k   3.4M    1.5
/docker/web                                     34.5      2     16 420us   1.2ms    80k   3.4M    1.5
  10.0.0.7:5432                                    0      0     12 420us       -    12k   3.4M      0
  10.96.0.10:80 -> 192.168.14.3:8080              34      0      3     -   1.2ms    68k   1.1k    1.5
  10.0.0.9:9000                                    0      2      0     -       -      0      0      0
  10.96.0.10:80 -> ?                             0.5      0      1     -    85us      0      0      0
/docker/?[31mred?                                  0      2      0     -       -      0      0      0
  ~other                                           0      2      0     -       -      0      0      0
/system.slice/sync.service                       0.5      0      1     -    85us      0      0      0
  [2001:db8::15:2]:443                           0.5      0      1     -    85us      0      0      0";
        let lines = shown(Some(&interval()), Some((101, 24)));
        assert_eq!(lines.join("\n"), expected);
        // Paper has no keys and no end.
        let paper = shown(Some(&interval()), None);
        assert_eq!(paper[0], lines[0].replace("  s: sort  q: quit", ""));
        assert_eq!(paper[1..].len(), lines[1..].len());
    }

    #[test]
    fn sixty_columns_and_too_few_lines() {
        let expected = "\
web-1  12:34:56 UTC  over 2.0 s  by activity
destination        conn fail  act   rtt ctime sent recv retr
3 containers         35    4   17 420us 1.2ms  80k 3.4M  1.5
/docker/web        34.5    2   16 420us 1.2ms  80k 3.4M  1.5
  10.0.0.7:5432       0    0   12 420us     -  12k 3.4M    0
  10.96.0…4.3:8080   34    0    3     - 1.2ms  68k 1.1k  1.5
… 4 more";
        let lines = shown(Some(&interval()), Some((60, 7)));
        assert_eq!(lines.join("\n"), expected);
    }

    #[test]
    fn any_size_is_respected() {
        let interval = interval();
        for width in 0..200 {
            for height in 0..16 {
                for interval in [Some(&interval), None] {
                    let lines = shown(interval, Some((width, height)));
                    assert!(lines.len() <= height, "{width} x {height}: {lines:#?}");
                    let widest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
                    assert!(widest <= width, "{width} x {height}: {lines:#?}");
                }
            }
        }
    }

    #[test]
    fn every_column_can_be_sorted_by() {
        let interval = interval();
        let group = interval.groups.iter().find(|group| group.container == "/docker/web").unwrap();
        let mut sort = Sort::Activity;
        let mut first = Vec::new();
        for _ in SORTS {
            let line = sort.order(&group.lines, |line| &line.figures).next().unwrap();
            first.push(format!("{} {}", line.destination, line.actual));
            sort = sort.next();
        }
        assert_eq!(sort, Sort::Activity, "around once");
        let (database, service) = ("10.0.0.7:5432 10.0.0.7:5432", "10.96.0.10:80 192.168.14.3:8080");
        let refused = "10.0.0.9:9000 10.0.0.9:9000";
        let expected = [database, service, refused, database, database, service, service, database, service];
        assert_eq!(first, expected);
        let busy = Figures { sent: u64::MAX, failures: u64::MAX, ..Figures::default() };
        assert_eq!(Sort::Activity.measure(&busy), u64::MAX);
    }

    #[test]
    fn before_the_first_interval_and_with_a_problem() {
        let view = View {
            host: "a\x07b",
            wall_s: 0,
            since_s: 0,
            problem: "tcp: \x1b]0;x\x07",
            interval: None,
            sort: Sort::Sent,
            size: Some((80, 24)),
        };
        let lines = lines(&view);
        assert_eq!(lines[0], "a?b  00:00:00 UTC  by sent  s: sort  q: quit  connections since 00:00:00");
        assert_eq!(lines[1], "tcp: ?]0;x?");
        assert!(lines[2].starts_with("container, destination") && lines[3].starts_with("counting ..."));
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn paint_covers_what_was_there() {
        let lines = ["one".to_owned(), "two".to_owned(), "three  ".to_owned()];
        let painted = String::from_utf8(painted(&lines, 2)).unwrap();
        assert_eq!(painted, "\x1b[Hone\x1b[K\r\n\x1b[7mtwo\x1b[0m\x1b[K\r\nthree  \x1b[K\x1b[J");
        assert_eq!(paper(&lines), b"one\ntwo\nthree\n\n");
    }
}
