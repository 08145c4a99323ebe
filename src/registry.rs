//! The metrics of one scrape, from `collect` to text: constant labels, escaping, duplicates, caps, rendering.
//!
//! Each family has one buffer into which its series are written in their final form, so a body is the list of those buffers
//! and no series is copied a second time. Format: Prometheus text 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

mod escape;
mod family;
mod seen;

use std::borrow::Cow;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::rc::Rc;

use crate::metric::{Desc, DynamicDesc, Scope};
use crate::number;
use escape::escape_label;
use family::{Family, Key};
pub(crate) use seen::hash;

/// Label pairs rendered once and put in front of many series: `machine_id="…",system_uuid="…"`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConstLabels(Vec<u8>);

impl ConstLabels {
    /// Renders `pairs` behind the pairs of `self`.
    pub fn with(&self, pairs: &[(&str, &str)]) -> ConstLabels {
        let mut text = self.0.clone();
        for (name, value) in pairs {
            if !text.is_empty() {
                text.push(b',');
            }
            text.extend_from_slice(name.as_bytes());
            text.extend_from_slice(b"=\"");
            escape_label(&mut text, value);
            text.push(b'"');
        }
        ConstLabels(text)
    }
}

/// A piece of a body. The registry keeps a share of it and writes the next scrape into the same memory once nobody else has
/// one: a new buffer would cost the kernel more, page by page, than it takes to fill it.
#[derive(Debug, Clone, Default)]
pub struct Piece(Rc<Vec<u8>>);

impl From<Vec<u8>> for Piece {
    fn from(text: Vec<u8>) -> Piece {
        Piece(Rc::new(text))
    }
}

impl std::ops::Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl std::borrow::Borrow<[u8]> for Piece {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// A rendered scrape: pieces to be sent one after the other.
#[derive(Debug, Default)]
pub struct Body {
    /// One piece of text per family.
    pub pieces: Vec<Piece>,
}

impl Body {
    /// Bytes in all pieces.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(|piece| piece.len()).sum()
    }

    /// True when nothing was collected.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
}

/// Collects the series of one scrape after the other.
#[derive(Debug)]
pub struct Registry {
    families: Vec<Family>,
    /// Families that configs declare, in the order in which they were first met.
    dynamic: Vec<Family>,
    node_labels: ConstLabels,
    series_limit: u32,
    seed: u64,
}

/// What a family held in this scrape, for the metrics about metrics.
#[derive(Debug, Clone)]
pub struct FamilyCount {
    /// The family's name.
    pub name: Cow<'static, str>,
    /// Series in this scrape.
    pub series: u32,
    /// Series refused since the start because the family was at its cap, or for want of memory; all of a histogram's.
    pub dropped: u64,
}

impl Registry {
    /// A registry for the families of `descs`; a scrape has them in that order.
    ///
    /// # Panics
    /// When two families have one name: a mistake in the collector table, caught by every test.
    pub fn new(
        descs: impl IntoIterator<Item = &'static Desc>,
        node_labels: ConstLabels,
        series_limit: u32,
    ) -> Registry {
        let mut families: Vec<Family> = Vec::new();
        for desc in descs {
            assert!(
                families.iter().all(|family| family.name != desc.name),
                "{} is declared twice",
                desc.name
            );
            desc.set_slot(families.len());
            families.push(Family::new(desc));
        }
        let seed = RandomState::new().build_hasher().finish();
        Registry { families, dynamic: Vec::new(), node_labels, series_limit, seed }
    }

    /// The family that a config declares; `None` when it was declared otherwise in this scrape. `unique`: no label set will
    /// be added twice in this scrape, so none is looked for.
    pub fn dynamic(&mut self, desc: &DynamicDesc, unique: bool) -> Option<Writer<'_>> {
        let known = self.dynamic.iter().position(|family| *family.name == *desc.name);
        let at = known.unwrap_or_else(|| {
            self.dynamic.push(Family::dynamic(desc));
            self.dynamic.len() - 1
        });
        let family = &mut self.dynamic[at];
        if !family.is_declared_as(desc) {
            if !family.text.is_empty() {
                return None;
            }
            // Another config took the name over.
            let mut new = Family::dynamic(desc);
            new.succeed(family);
            *family = new;
        }
        Some(Writer { family, constant: &[], limit: self.series_limit, seed: self.seed, unique })
    }

    /// Adds a series of a `node_*` family or of nodeprobe itself. `labels` are the values of the `Desc`'s labels, in order.
    pub fn add(&mut self, desc: &'static Desc, labels: &[&str], value: f64) {
        debug_assert!(desc.scope() != Scope::Container, "{} needs a container", desc.name);
        self.series(desc, None, labels, value);
    }

    /// Adds a series of a `container_*` family; `container` are the container's constant labels.
    pub fn container(&mut self, container: &ConstLabels, desc: &'static Desc, labels: &[&str], value: f64) {
        debug_assert!(desc.scope() == Scope::Container, "{} is not about containers", desc.name);
        self.series(desc, Some(container), labels, value);
    }

    /// Adds a histogram: `buckets` are upper bounds with **cumulative** counts, without `+Inf`, which is `count`.
    pub fn histogram(
        &mut self,
        desc: &'static Desc,
        labels: &[&str],
        buckets: &[(f64, u64)],
        sum: f64,
        count: u64,
    ) {
        if let Some(mut writer) = self.writer(desc, None) {
            writer.histogram(labels, buckets.iter().copied(), sum, count);
        }
    }

    /// What every family with series, or with refused ones, holds by now.
    pub fn counts(&self) -> Vec<FamilyCount> {
        let families = self.families.iter().chain(&self.dynamic);
        families
            .filter(|family| family.series > 0 || family.dropped() > 0)
            .map(|family| FamilyCount {
                name: family.name.clone(),
                series: family.series,
                dropped: family.dropped(),
            })
            .collect()
    }

    /// Ends the scrape: hands the text out and starts anew.
    pub fn finish(&mut self) -> Body {
        self.dynamic.retain(|family| !family.text.is_empty() || family.dropped() > 0);
        let families = self.families.iter_mut().chain(&mut self.dynamic);
        Body { pieces: families.filter_map(Family::take).collect() }
    }

    fn series(&mut self, desc: &'static Desc, container: Option<&ConstLabels>, labels: &[&str], value: f64) {
        if let Some(mut writer) = self.writer(desc, container) {
            writer.add(labels, value);
        }
    }

    fn writer<'a>(
        &'a mut self,
        desc: &'static Desc,
        container: Option<&'a ConstLabels>,
    ) -> Option<Writer<'a>> {
        let family = self
            .families
            .get_mut(desc.slot())
            .filter(|family| family.desc.is_some_and(|known| std::ptr::eq(known, desc)));
        debug_assert!(family.is_some(), "{} is in no collector's metrics", desc.name);
        let constant = match (container, desc.scope()) {
            (Some(container), _) => &container.0,
            (None, Scope::Node) => &self.node_labels.0,
            (None, _) => &[][..],
        };
        Some(Writer { family: family?, constant, limit: self.series_limit, seed: self.seed, unique: false })
    }
}

/// Adds series to one family.
pub struct Writer<'a> {
    family: &'a mut Family,
    /// Labels in front of all others.
    constant: &'a [u8],
    limit: u32,
    seed: u64,
    unique: bool,
}

impl Writer<'_> {
    /// Adds a series; `labels` are the values of the family's labels, in order.
    #[inline]
    pub fn add(&mut self, labels: &[&str], value: f64) {
        self.line("", labels, None, value, false);
    }

    /// Adds a histogram: upper bounds with **cumulative** counts, without `+Inf`, which is `count`. It is added whole or not at
    /// all: without `+Inf` it would be none.
    pub fn histogram(
        &mut self,
        labels: &[&str],
        buckets: impl ExactSizeIterator<Item = (f64, u64)>,
        sum: f64,
        count: u64,
    ) {
        let Writer { constant, limit, seed, unique, .. } = *self;
        let (lines, key) = (buckets.len() as u32 + 3, Key { suffix: "_count", constant, labels, le: None });
        let Some(reserved) = self.family.reserve(lines, key, limit, seed, unique) else {
            return;
        };
        let mut le = Vec::with_capacity(24);
        for (bound, cumulative) in buckets.chain([(f64::INFINITY, count)]) {
            le.clear();
            number::write(&mut le, bound);
            let le = std::str::from_utf8(&le).unwrap_or("");
            self.line("_bucket", labels, Some(le), cumulative as f64, reserved);
        }
        self.line("_sum", labels, None, sum, reserved);
        self.line("_count", labels, None, count as f64, reserved);
    }

    /// Says how many series were left out before they came here: all since the start, not only new ones, so that it may be
    /// said in every scrape.
    pub fn refused_total(&mut self, total: u64) {
        self.family.refused_total(total);
    }

    #[inline]
    fn line(&mut self, suffix: &str, labels: &[&str], le: Option<&str>, value: f64, reserved: bool) {
        let Writer { constant, limit, seed, unique, .. } = *self;
        let key = Key { suffix, constant, labels, le };
        self.family.add(key, value, limit, seed, unique, reserved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;
    use crate::metric::Kind;

    static REQUESTS: Desc = Desc::counter("test_requests_total", "Requests \\ of\nall kinds.", &["path"]);
    static USED: Desc = Desc::gauge("node_test_used_bytes", "Bytes.", &[]);
    static LIMIT: Desc = Desc::state("container_test_limit_bytes", "Limit.", &["device"]);
    static TIMES: Desc = Desc::histogram("test_time_seconds", "Times.", &["kind"]);

    /// Families live in statics, which one registry at a time may number: tests that use one run one after the other.
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

    fn check(limit: u32, fill: impl Fn(&mut Registry), expected: &str) {
        let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let node = ConstLabels::default().with(&[("machine_id", "m")]);
        let mut registry = Registry::new([&REQUESTS, &USED, &LIMIT, &TIMES], node, limit);
        for _ in 0..2 {
            fill(&mut registry);
            let text = String::from_utf8(registry.finish().pieces.concat()).unwrap();
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn families_are_contiguous_and_escaped() {
        check(
            10,
            |out| {
                out.add(&REQUESTS, &["a\\b\"c\nd"], 1.0);
                out.add(&USED, &[], 2.5);
                out.add(&REQUESTS, &["é"], 2e6);
            },
            "# HELP test_requests_total Requests \\\\ of\\nall kinds.\n# TYPE test_requests_total counter\n\
             test_requests_total{path=\"a\\\\b\\\"c\\nd\"} 1\ntest_requests_total{path=\"é\"} 2e+06\n\
             # HELP node_test_used_bytes Bytes.\n# TYPE node_test_used_bytes gauge\n\
             node_test_used_bytes{machine_id=\"m\"} 2.5\n",
        );
    }

    #[test]
    fn duplicates_add_or_take_the_larger() {
        let container = ConstLabels::default().with(&[("container_id", "/a b")]);
        check(
            10,
            |out| {
                for value in [1.0, 2.0, 4.0] {
                    out.add(&REQUESTS, &["x y"], value);
                    out.container(&container, &LIMIT, &["sda"], value);
                }
                out.add(&REQUESTS, &["z"], 7.0);
            },
            "# HELP test_requests_total Requests \\\\ of\\nall kinds.\n# TYPE test_requests_total counter\n\
             test_requests_total{path=\"x y\"} 7\ntest_requests_total{path=\"z\"} 7\n\
             # HELP container_test_limit_bytes Limit.\n# TYPE container_test_limit_bytes gauge\n\
             container_test_limit_bytes{container_id=\"/a b\",device=\"sda\"} 4\n",
        );
    }

    #[test]
    fn a_family_at_its_cap_refuses_and_counts() {
        let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut registry = Registry::new([&REQUESTS], ConstLabels::default(), 2);
        for scrape in 1..=2u64 {
            for path in ["a", "b", "c", "d"] {
                registry.add(&REQUESTS, &[path], 1.0);
            }
            registry.add(&REQUESTS, &["a"], 1.0);
            let counts = registry.counts();
            assert_eq!((counts[0].series, counts[0].dropped), (2, 2 * scrape));
            registry.finish();
        }
    }

    #[test]
    fn histograms_end_with_infinity() {
        check(
            10,
            |out| out.histogram(&TIMES, &["k"], &[(0.5, 1), (1.0, 3)], 2.25, 4),
            "# HELP test_time_seconds Times.\n# TYPE test_time_seconds histogram\n\
             test_time_seconds_bucket{kind=\"k\",le=\"0.5\"} 1\ntest_time_seconds_bucket{kind=\"k\",le=\"1\"} 3\n\
             test_time_seconds_bucket{kind=\"k\",le=\"+Inf\"} 4\ntest_time_seconds_sum{kind=\"k\"} 2.25\n\
             test_time_seconds_count{kind=\"k\"} 4\n",
        );
    }

    fn text(registry: &mut Registry) -> String {
        String::from_utf8(registry.finish().pieces.concat()).unwrap()
    }

    /// A family of a config; `name` is one of its own per test.
    fn declared(name: &str, kind: Kind) -> DynamicDesc {
        DynamicDesc { name: name.into(), help: "H.".into(), kind, labels: ["k".into()].into() }
    }

    /// Gives `label` a histogram with two buckets: five lines.
    fn observe(registry: &mut Registry, desc: &DynamicDesc, label: &str, unique: bool) {
        let mut writer = registry.dynamic(desc, unique).unwrap();
        writer.histogram(&[label], [(0.5, 1), (1.0, 3)].into_iter(), 2.0, 4);
    }

    /// Five lines for each label there is, or none; gives the labels with their counts.
    fn whole(text: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        for lines in samples.chunks(5) {
            let ends = ["0.5\"", "1\"", "+Inf\"", "_sum{", "_count{"];
            assert!(
                lines.len() == 5 && lines.iter().zip(ends).all(|(line, end)| line.contains(end)),
                "{text}"
            );
            let label = lines[4].split('"').nth(1).unwrap();
            assert!(lines.iter().all(|line| line.contains(&format!("k=\"{label}\""))), "{text}");
            found.push((label.to_owned(), lines[4].rsplit(' ').next().unwrap().to_owned()));
        }
        found
    }

    #[test]
    fn histograms_are_whole_or_absent_at_the_cap() {
        let desc = declared("x_seconds", Kind::Histogram);
        for (limit, unique, fits) in
            [(4, true, 0), (5, true, 1), (12, false, 2), (14, true, 2), (15, false, 3)]
        {
            let mut registry = Registry::new([], ConstLabels::default(), limit);
            for scrape in 1..=2 {
                ["a", "b", "c"].iter().for_each(|label| observe(&mut registry, &desc, label, unique));
                let counts = registry.counts();
                assert_eq!(
                    (counts[0].series, counts[0].dropped),
                    (5 * fits, scrape * u64::from(15 - 5 * fits))
                );
                let found = whole(&text(&mut registry));
                let expected =
                    [("a", "4"), ("b", "4"), ("c", "4")].map(|(k, n)| (k.to_owned(), n.to_owned()));
                assert_eq!(found, expected[..fits as usize]);
            }
        }
    }

    #[test]
    fn what_stands_at_the_cap_is_added_to() {
        let desc = declared("x_seconds", Kind::Histogram);
        let mut registry = Registry::new([], ConstLabels::default(), 12);
        for scrape in 1..=2 {
            // Two configs, which together have more than there is room for.
            ["a", "b"].iter().for_each(|label| observe(&mut registry, &desc, label, false));
            ["b", "c"].iter().for_each(|label| observe(&mut registry, &desc, label, false));
            // Other buckets: those that stand are added to; there is room for one, but not for two.
            let mut writer = registry.dynamic(&desc, false).unwrap();
            writer.histogram(&["a"], [(0.5, 1)].into_iter(), 1.0, 1);
            // A smaller one would have room, and in the next scrape perhaps another part of its value.
            writer.histogram(&["c"], [].into_iter(), 1.0, 1);
            assert_eq!((registry.counts()[0].series, registry.counts()[0].dropped), (10, scrape * 8));
            let expected = [("a", "5"), ("b", "8")].map(|(k, n)| (k.to_owned(), n.to_owned()));
            assert_eq!(whole(&text(&mut registry)), expected);
        }
    }

    #[test]
    fn histograms_are_whole_or_absent_when_memory_is_short() {
        for unique in [true, false] {
            // Refused from the first line on, from each of the lines of a histogram, and late.
            for before in [0, 1, 50, 100, 101, 102, 103, 200] {
                let desc = declared("x_seconds", Kind::Histogram);
                let mut registry = Registry::new([], ConstLabels::default(), 100_000);
                (0..before).for_each(|label| observe(&mut registry, &desc, &format!("k{label}"), unique));
                family::NO_MEMORY.set(true);
                (before..400).for_each(|label| observe(&mut registry, &desc, &format!("k{label}"), unique));
                if !unique && before > 0 {
                    observe(&mut registry, &desc, "k0", false);
                }
                family::NO_MEMORY.set(false);
                // There is memory again, but what has been left out stays out until the next scrape.
                observe(&mut registry, &desc, "late", unique);
                let counts = registry.counts();
                let found = whole(&text(&mut registry));
                assert_eq!(counts[0].series as usize, 5 * found.len());
                assert_eq!(counts[0].dropped as usize, 5 * (401 - found.len()));
                // The small ones have their place.
                assert!((1..400).contains(&found.len()) && found.len() >= before, "{before} {}", found.len());
                if !unique && before > 0 {
                    assert_eq!(found[0], ("k0".to_owned(), "8".to_owned()));
                }
                observe(&mut registry, &desc, "next", unique);
                assert_eq!(whole(&text(&mut registry)).len(), 1);
            }
        }
    }

    #[test]
    fn without_memory_what_stands_is_added_to() {
        let desc = declared("x_total", Kind::Counter);
        let mut registry = Registry::new([], ConstLabels::default(), 100_000);
        let label = |number: u32| format!("{number:0100}");
        let mut dropped = 0;
        for _ in 0..2 {
            let mut writer = registry.dynamic(&desc, false).unwrap();
            (0..500).for_each(|number| writer.add(&[&label(number)], 1.0));
            family::NO_MEMORY.set(true);
            (0..1000).for_each(|number| writer.add(&[&label(number)], 2.0));
            family::NO_MEMORY.set(false);
            (0..1000).for_each(|number| writer.add(&[&label(number)], 4.0));
            let series = registry.counts()[0].series;
            assert!((500..1000).contains(&series), "{series}");
            dropped += u64::from(1000 - series) * 2;
            assert_eq!(registry.counts()[0].dropped, dropped);
            let text = text(&mut registry);
            for (number, line) in text.lines().skip(2).enumerate() {
                let value = if number < 500 { 7 } else { 6 };
                assert_eq!(line, format!("x_total{{k=\"{}\"}} {value}", label(number as u32)));
            }
            assert_eq!(text.lines().count(), series as usize + 2);
        }
    }

    #[test]
    fn many_series_stay_apart() {
        let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut registry = Registry::new([&REQUESTS], ConstLabels::default(), 100_000);
        for round in 0..2 {
            for path in 0..20_000 {
                registry.add(&REQUESTS, &[&format!("p{path}")], f64::from(round));
            }
        }
        assert_eq!(registry.counts()[0].series, 20_000);
        let text = String::from_utf8(registry.finish().pieces.concat()).unwrap();
        assert!(text.lines().skip(2).all(|line| line.ends_with(" 1")), "every series added its two values");
    }

    #[test]
    fn families_of_configs_come_and_go() {
        let mut registry = Registry::new([], ConstLabels::default(), 3);
        let desc = |help: &str, labels: &[&str]| DynamicDesc {
            name: "x_total".into(),
            help: help.into(),
            kind: Kind::Counter,
            labels: labels.iter().map(|&label| label.into()).collect(),
        };
        let text = |registry: &mut Registry| String::from_utf8(registry.finish().pieces.concat()).unwrap();
        registry.dynamic(&desc("One.", &["a", "b"]), true).unwrap().add(&["1", "2"], 3.0);
        assert_eq!(
            text(&mut registry),
            "# HELP x_total One.\n# TYPE x_total counter\nx_total{a=\"1\",b=\"2\"} 3\n"
        );
        // Another config has the name now; two of them share it.
        for value in [1.0, 4.0] {
            let mut writer = registry.dynamic(&desc("Two.", &["c"]), false).unwrap();
            writer.add(&["1"], value);
            writer.refused_total(2);
        }
        assert!(registry.dynamic(&desc("Two.", &["d"]), false).is_none(), "one name, one meaning");
        assert_eq!((registry.counts()[0].series, registry.counts()[0].dropped), (1, 4));
        assert_eq!(text(&mut registry), "# HELP x_total Two.\n# TYPE x_total counter\nx_total{c=\"1\"} 5\n");
        // The same total again is nothing new; nobody's word changes nothing; a series at the cap is one more.
        for (told, series, dropped) in [(Some(4), 0, 4), (Some(4), 3, 4), (None, 3, 4), (Some(5), 4, 6)] {
            let mut writer = registry.dynamic(&desc("Two.", &["c"]), true).unwrap();
            (0..series).for_each(|label| writer.add(&[&label.to_string()], 1.0));
            told.into_iter().for_each(|total| writer.refused_total(total));
            assert_eq!(registry.counts()[0].dropped, dropped);
            text(&mut registry);
        }
        assert_eq!(text(&mut registry), "");
    }

    #[test]
    fn every_place_of_a_value_is_escaped() {
        for length in 0..40 {
            for (byte, escaped) in [("\\", "\\\\"), ("\"", "\\\""), ("\n", "\\n"), ("\u{8a}", "\u{8a}")] {
                for at in 0..length {
                    let (before, after) = ("x".repeat(at), "y".repeat(length - at - 1));
                    let mut out = Vec::new();
                    escape_label(&mut out, &format!("{before}{byte}{after}"));
                    assert_eq!(String::from_utf8(out).unwrap(), format!("{before}{escaped}{after}"));
                }
            }
        }
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let long = "é".repeat(limits::LABEL_BYTES);
        let mut out = Vec::new();
        escape_label(&mut out, &long);
        assert_eq!(out.len(), limits::LABEL_BYTES);
        assert!(std::str::from_utf8(&out).is_ok());
    }
}
