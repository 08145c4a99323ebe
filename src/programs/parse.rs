//! From the text of a `NAME.yaml` to a [`Config`]: everything that can be said without the object file is checked here, and
//! all that is wrong with a file is reported at once.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

use std::collections::HashMap;

use super::config::{
    Buckets, CgroupIdMap, CgroupIdMapKind, Config, Decoder, Finding, Kind, Label, Metric, Scale,
};
use super::fields::{Fields, Reader};
use super::schema::{self, Object, Type};
use super::yaml::{self, Node};
use crate::limits;

/// When a series without events ends, unless `flush_interval` says otherwise.
const FLUSH_INTERVAL_NS: u64 = 3_600_000_000_000;

/// A `flush_interval` below this was hardly meant as nanoseconds.
const SUSPICIOUS_INTERVAL_NS: i64 = 1_000_000;

/// What the series of a histogram are named by, behind its own name.
const HISTOGRAM_SUFFIXES: &[&str] = &["", "_bucket", "_count", "_sum"];

/// Reads the config `name` from `text`, the content of `path`. There is no config if something outside of single metrics is
/// wrong; otherwise it has the metrics that are right. Findings are in the order of the file.
pub fn parse(name: &str, path: &str, text: &[u8]) -> (Option<Config>, Vec<Finding>) {
    let mut reader = Reader { config: name, path, findings: Vec::new(), errors: 0, unused: false };
    let config = match yaml::parse(text) {
        Ok(document) => {
            document.notes.into_iter().for_each(|note| reader.warn(note.mark, note.message));
            reader.config(&document.root)
        }
        Err(stop) => {
            reader.error(stop.mark, stop.message);
            None
        }
    };
    (config, in_order(reader.findings))
}

/// Sorts the findings, and says so when there are too many of them.
fn in_order(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by(|a, b| (a.mark, &a.message).cmp(&(b.mark, &b.message)));
    // An alias brings its mistakes to every place it is used in.
    findings.dedup();
    let rest = findings.split_off(findings.len().min(limits::CONFIG_FINDINGS));
    if let Some(first) = rest.first() {
        let fatal = rest.iter().any(|finding| finding.fatal);
        let message = format!("from here on there are {} more findings", rest.len());
        findings.push(Finding { path: first.path.clone(), mark: first.mark, fatal, message });
    }
    findings
}

impl Reader<'_> {
    fn config(&mut self, root: &Node) -> Option<Config> {
        let fields = match root.is_null() {
            true => Fields::none(&schema::CONFIG, root.mark),
            false => self.fields(&schema::CONFIG, root)?,
        };
        self.text(&fields, "name");
        let kaddrs = self.texts(&fields, "kaddrs").unwrap_or_default();
        let cgroup_id_map = self.cgroup_id_map(&fields);
        let has_tracing = self.tracing(&fields);
        let lists = self.object(&fields, "metrics");
        let has_metrics =
            lists.as_ref().is_some_and(|lists| schema::METRICS.names().any(|name| lists.get(name).is_some()));
        if !has_metrics && !has_tracing && self.errors == 0 {
            let config = self.config;
            self.error(fields.mark, format!("neither metrics nor tracing are defined for config {config:?}"));
        }
        let usable = self.errors == 0;
        let metrics = lists.map(|lists| self.metrics(&lists)).unwrap_or_default();
        let (name, path) = (self.config.into(), self.path.into());
        usable.then_some(Config { name, path, metrics, kaddrs, cgroup_id_map, has_tracing })
    }

    fn cgroup_id_map(&mut self, fields: &Fields<'_>) -> Option<CgroupIdMap> {
        let fields = self.object(fields, "cgroup_id_map")?;
        let kind = match self.word(&fields, "type") {
            Some("cgrp_storage") => CgroupIdMapKind::CgroupStorage,
            _ => CgroupIdMapKind::Hash,
        };
        let regexps = self.texts(&fields, "regexps").unwrap_or_default();
        let name = self.text(&fields, "name").unwrap_or_default();
        if name.is_empty() {
            self.warn(fields.mark, "cgroup_id_map lacks name, so no map is filled".to_owned());
            return None;
        }
        if regexps.is_empty() {
            self.warn(fields.mark, format!("cgroup_id_map {name:?} lacks regexps, so no cgroup is in it"));
        }
        Some(CgroupIdMap { name: name.into(), kind, regexps, mark: fields.mark_of("name") })
    }

    /// Looks at spans, which nobody uses: no mistake in them is fatal.
    fn tracing(&mut self, fields: &Fields<'_>) -> bool {
        self.unused = true;
        let tracing = self.object(fields, "tracing");
        let spans = tracing.as_ref().and_then(|tracing| self.nodes(tracing, "spans"));
        for node in spans.map(|(_, nodes)| nodes).unwrap_or_default() {
            if let Some(span) = self.fields(&schema::SPAN, node) {
                self.text(&span, "ringbuf");
                self.text(&span, "name");
                self.text(&span, "service");
                self.labels(&span);
            }
        }
        self.unused = false;
        tracing.is_some_and(|tracing| tracing.get("spans").is_some())
    }

    fn metrics(&mut self, lists: &Fields<'_>) -> Vec<Metric> {
        let mut metrics = Vec::new();
        let mut taken = HashMap::new();
        for list in schema::METRICS.names() {
            let Some((key, nodes)) = self.nodes(lists, list) else { continue };
            let Type::Objects(object) = key.kind else { continue };
            for node in nodes {
                let before = self.errors;
                let metric = self.metric(object, node);
                metrics
                    .extend(metric.filter(|metric| self.errors == before && self.is_new(metric, &mut taken)));
            }
        }
        metrics
    }

    /// Two metrics whose series have the same name cannot both be exported.
    fn is_new(&mut self, metric: &Metric, taken: &mut HashMap<String, u32>) -> bool {
        let suffixes = match metric.kind {
            Kind::Histogram(_) => HISTOGRAM_SUFFIXES,
            _ => &[""],
        };
        let names = suffixes.iter().map(|suffix| format!("{}{suffix}", metric.name));
        let names: Vec<String> = names.collect();
        let clash = names.iter().find_map(|name| Some((name, *taken.get(name)?)));
        if let Some((name, line)) = clash {
            let message =
                format!("expected a name of its own: series named {name:?} are made in line {line} already");
            self.error(metric.mark, message);
            return false;
        }
        taken.extend(names.into_iter().map(|name| (name, metric.mark.line)));
        true
    }

    fn metric(&mut self, object: &'static Object, node: &Node) -> Option<Metric> {
        let fields = self.fields(object, node)?;
        let name = self.text(&fields, "name").unwrap_or_default();
        let mark = fields.mark_of("name");
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':')) {
            self.error(mark, format!("name: expected letters, digits, _ and : only, found {name:?}"));
        }
        let help = self.text(&fields, "help").unwrap_or_default();
        let labels = self.labels(&fields);
        let histogram = object.key("bucket_type").is_some();
        let named = if histogram { labels.len().saturating_sub(1) } else { labels.len() };
        self.label_names(labels.get(..named).unwrap_or_default(), histogram);
        let kind = match histogram {
            true => Kind::Histogram(self.buckets(&fields)?),
            false if object.key("perf_event_array").is_some() => self.counter(&fields),
            false => Kind::Gauge,
        };
        Some(Metric { name: name.into(), help: help.into(), kind, labels, mark })
    }

    fn counter(&mut self, fields: &Fields<'_>) -> Kind {
        let interval = self.duration(fields, "flush_interval");
        let mark = fields.mark_of("flush_interval");
        if !self.switch(fields, "perf_event_array") {
            if interval.is_some() {
                self.warn(
                    mark,
                    "flush_interval: without effect, since perf_event_array is not true".to_owned(),
                );
            }
            return Kind::Counter;
        }
        if interval.is_some_and(|ns| (1..SUSPICIOUS_INTERVAL_NS).contains(&ns)) {
            self.warn(
                mark,
                "flush_interval: a number without a unit is nanoseconds; expected 30s or the like".to_owned(),
            );
        }
        let given = interval.and_then(|ns| u64::try_from(ns).ok()).filter(|ns| *ns > 0);
        Kind::Events { flush_interval_ns: given.unwrap_or(FLUSH_INTERVAL_NS) }
    }

    fn labels(&mut self, fields: &Fields<'_>) -> Vec<Label> {
        let mut labels: Vec<Label> = Vec::new();
        for node in self.nodes(fields, "labels").map(|(_, nodes)| nodes).unwrap_or_default() {
            let Some(fields) = self.fields(&schema::LABEL, node) else { continue };
            let name = self.text(&fields, "name").unwrap_or_default().into();
            let size = self.whole(&fields, "size").map_or(0, bytes);
            let padding = self.whole(&fields, "padding").map_or(0, bytes);
            let decoders = self.decoders(&fields);
            labels.push(Label { name, size, padding, decoders, mark: fields.mark_of("name") });
        }
        let total = labels
            .iter()
            .fold(0_usize, |sum, label| sum.saturating_add(label.size).saturating_add(label.padding));
        if total > bytes(limits::MAP_KEY_BYTES) {
            let most = limits::MAP_KEY_BYTES;
            self.error(
                fields.mark_of("labels"),
                format!("labels: expected at most {most} bytes together, found {total}"),
            );
        }
        labels
    }

    fn decoders(&mut self, fields: &Fields<'_>) -> Vec<Decoder> {
        let mut decoders = Vec::new();
        for node in self.nodes(fields, "decoders").map(|(_, nodes)| nodes).unwrap_or_default() {
            let Some(fields) = self.fields(&schema::DECODER, node) else { continue };
            decoders.push(Decoder {
                name: self.text(&fields, "name").unwrap_or_default().into(),
                static_map: self.map(&fields, "static_map"),
                allow_unknown: self.switch(&fields, "allow_unknown"),
                regexps: self.texts(&fields, "regexps"),
                mark: fields.mark_of("name"),
            });
        }
        decoders
    }

    /// Checks the names of labels that are exported: all but the last one of a histogram, whose `le` is made here.
    fn label_names(&mut self, labels: &[Label], histogram: bool) {
        let mut lines = HashMap::new();
        for Label { name, mark, .. } in labels.iter().filter(|label| !label.name.is_empty()) {
            let mut refuse = |message: &str| self.error(*mark, format!("{message}, found {name:?}"));
            if name.starts_with(|first: char| first.is_ascii_digit())
                || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            {
                refuse("name: expected letters, digits and _ only, and no digit first");
            } else if name.starts_with("__") {
                refuse("name: expected none that begins with __, which Prometheus keeps to itself");
            } else if histogram && &**name == "le" {
                refuse("name: expected another than le, which is the bucket's own");
            } else if let Some(line) = lines.insert(name, mark.line) {
                refuse(&format!("name: expected another than that of the label in line {line}"));
            }
        }
    }

    fn buckets(&mut self, fields: &Fields<'_>) -> Option<Buckets> {
        let multiplier = self.multiplier(fields);
        let min = self.whole(fields, "bucket_min").unwrap_or(0);
        let max = self.whole(fields, "bucket_max");
        let keys = self.bucket_keys(fields);
        let kind = self.word(fields, "bucket_type")?;
        let useless = if kind == "fixed" { &["bucket_min", "bucket_max"][..] } else { &["bucket_keys"] };
        for key in useless.iter().filter(|key| fields.get(key).is_some()) {
            self.warn(fields.mark_of(key), format!("{key}: without effect on buckets of type {kind}"));
        }
        if kind == "fixed" {
            // What is there and wrong has been found already, here and below.
            if fields.is_empty("bucket_keys") {
                self.lacks(fields, "bucket_keys");
            }
            return Some(Buckets { scale: Scale::Fixed(keys), multiplier });
        }
        let Some(max) = max else {
            if fields.get("bucket_max").is_none() {
                self.lacks(fields, "bucket_max");
            }
            return None;
        };
        let scale = match kind {
            "exp2" => Scale::Exp2 { min, max },
            "exp2zero" => Scale::Exp2Zero { min, max },
            _ => Scale::Linear { min, max },
        };
        self.range(fields, &scale, min, max);
        Some(Buckets { scale, multiplier })
    }

    fn multiplier(&mut self, fields: &Fields<'_>) -> f64 {
        let given = self.real(fields, "bucket_multiplier").unwrap_or(0.0);
        if given < 0.0 {
            let mark = fields.mark_of("bucket_multiplier");
            self.error(mark, format!("bucket_multiplier: expected a number above 0, found {given}"));
        }
        if given == 0.0 { 1.0 } else { given }
    }

    fn range(&mut self, fields: &Fields<'_>, scale: &Scale, min: i64, max: i64) {
        let mark = fields.mark_of("bucket_max");
        let most = match scale {
            Scale::Exp2 { .. } => 63,
            Scale::Exp2Zero { .. } => 64,
            _ => i64::MAX,
        };
        let count = max.saturating_sub(min).saturating_add(1);
        if max < min {
            self.error(
                mark,
                format!("bucket_max: expected at least bucket_min, which is {min}, found {max}"),
            );
        } else if max > most {
            self.error(
                mark,
                format!("bucket_max: expected at most {most}, the highest bit of a number, found {max}"),
            );
        } else if usize::try_from(count).is_ok_and(|count| count > limits::BUCKETS) {
            self.error(
                mark,
                format!("bucket_max: expected at most {} buckets, found {count}", limits::BUCKETS),
            );
        }
    }

    /// The listed keys in their order as numbers, each once.
    fn bucket_keys(&mut self, fields: &Fields<'_>) -> Vec<f64> {
        let given = self.reals(fields, "bucket_keys").unwrap_or_default();
        let mark = fields.mark_of("bucket_keys");
        if given.len() > limits::BUCKETS {
            let found = given.len();
            self.error(
                mark,
                format!("bucket_keys: expected at most {} numbers, found {found}", limits::BUCKETS),
            );
        }
        for (key, mark) in given.iter().filter(|(key, _)| key.fract() != 0.0 || *key < 0.0) {
            self.warn(*mark, format!("bucket_keys: {key} is no key a map can have; expected a whole number"));
        }
        let mut sorted: Vec<f64> = given.iter().map(|(key, _)| *key).collect();
        sorted.sort_by(f64::total_cmp);
        sorted.dedup();
        if !sorted.iter().eq(given.iter().map(|(key, _)| key)) {
            self.warn(
                mark,
                "bucket_keys: expected rising numbers; they are sorted, and each is used once".to_owned(),
            );
        }
        sorted
    }
}

/// Sizes are small, as the table in [`schema`] has it.
fn bytes(size: i64) -> usize {
    usize::try_from(size).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::config::Mark;
    use super::*;

    /// The config and `LINE:COLUMN fatal|odd MESSAGE` of each finding.
    fn read(text: &str) -> (Option<Config>, Vec<String>) {
        let (config, findings) = parse("x", "/etc/x.yaml", text.as_bytes());
        let kind = |fatal| if fatal { "fatal" } else { "odd" };
        let line = |finding: Finding| {
            let Mark { line, column } = finding.mark;
            format!("{line}:{column} {} {}", kind(finding.fatal), finding.message)
        };
        (config, findings.into_iter().map(line).collect())
    }

    #[track_caller]
    fn right(text: &str) -> Config {
        let (config, findings) = read(text);
        assert_eq!(findings, [""; 0], "{text}");
        config.expect("a config")
    }

    /// What `decoder`, a flow mapping, becomes.
    #[track_caller]
    fn decoder(decoder: &str) -> Decoder {
        let label = format!("{{name: l, size: 8, decoders: [{decoder}]}}");
        let mut config = right(&format!("metrics: {{counters: [{{name: m, help: h, labels: [{label}]}}]}}"));
        config.metrics.remove(0).labels.remove(0).decoders.remove(0)
    }

    /// What a histogram with these keys becomes, and what there is to say about it.
    fn histogram(keys: &str) -> (Option<Buckets>, Vec<String>) {
        let label = "{name: bucket, size: 8, decoders: [{name: uint}]}";
        let text = format!("metrics: {{histograms: [{{name: m, help: h, labels: [{label}], {keys}}}]}}");
        let (config, findings) = read(&text);
        let kind = config.and_then(|mut config| config.metrics.pop()).map(|metric| metric.kind);
        (kind.map(|kind| if let Kind::Histogram(buckets) = kind { buckets } else { panic!() }), findings)
    }

    #[test]
    fn texts_keep_their_source() {
        let map = "{0x2: a, 007: b, 1.0: yes, ~: true, yes: 0x10, '2': ~, 3: }";
        let found = decoder(&format!("{{name: static_map, static_map: {map}, allow_unknown: on}}"));
        let map =
            [("0x2", "a"), ("007", "b"), ("1.0", "yes"), ("", "true"), ("yes", "0x10"), ("2", ""), ("3", "")];
        assert_eq!(found.static_map.unwrap(), map.map(|(key, value)| (key.into(), value.into())));
        assert!(found.allow_unknown);
        let texts = decoder("{name: 5, regexps: [1.0, yes, ~, 'a b']}");
        let regexps: Vec<_> = texts.regexps.iter().flatten().map(|(text, _)| &**text).collect();
        assert_eq!((&*texts.name, regexps), ("5", vec!["1.0", "yes", "", "a b"]));
    }

    #[test]
    fn an_absent_list_is_not_an_empty_one() {
        for (text, map, regexps) in [
            ("{name: a}", None, None),
            ("{name: a, static_map: , regexps: ~}", None, None),
            ("{name: a, static_map: {}, regexps: []}", Some(0), Some(0)),
        ] {
            let found = decoder(text);
            assert_eq!(found.static_map.map(|map| map.len()), map, "{text}");
            assert_eq!(found.regexps.map(|regexps| regexps.len()), regexps, "{text}");
        }
    }

    #[test]
    fn numbers_are_those_of_yaml_1_1() {
        for (text, size) in [("0x10", 16), ("010", 8), ("1_0", 10), ("0b11", 3), ("+4", 4)] {
            let labels = format!("[{{name: l, size: {text}, padding: {text}, decoders: [{{name: hex}}]}}]");
            let config = right(&format!("metrics: {{gauges: [{{name: m, help: h, labels: {labels}}}]}}"));
            let label = &config.metrics[0].labels[0];
            assert_eq!((label.size, label.padding), (size, size), "{text}");
        }
    }

    #[test]
    fn flush_intervals_are_go_s() {
        for (keys, expected) in [
            ("", Kind::Counter),
            ("perf_event_array: off", Kind::Counter),
            ("perf_event_array: yes", Kind::Events { flush_interval_ns: FLUSH_INTERVAL_NS }),
            ("perf_event_array: y, flush_interval: 30s", Kind::Events { flush_interval_ns: 30_000_000_000 }),
            (
                "perf_event_array: on, flush_interval: '5m'",
                Kind::Events { flush_interval_ns: 300_000_000_000 },
            ),
            (
                "perf_event_array: true, flush_interval: 60000000000",
                Kind::Events { flush_interval_ns: 60_000_000_000 },
            ),
            (
                "perf_event_array: true, flush_interval: 0",
                Kind::Events { flush_interval_ns: FLUSH_INTERVAL_NS },
            ),
            (
                "perf_event_array: true, flush_interval: -5s",
                Kind::Events { flush_interval_ns: FLUSH_INTERVAL_NS },
            ),
        ] {
            let config = right(&format!("metrics: {{counters: [{{name: m, help: h, {keys}}}]}}"));
            assert_eq!(config.metrics[0].kind, expected, "{keys}");
        }
    }

    #[test]
    fn buckets_are_what_the_keys_say() {
        for (keys, scale, multiplier) in [
            ("bucket_type: exp2, bucket_max: 63", Scale::Exp2 { min: 0, max: 63 }, 1.0),
            (
                "bucket_type: exp2zero, bucket_min: 3, bucket_max: 64",
                Scale::Exp2Zero { min: 3, max: 64 },
                1.0,
            ),
            ("bucket_type: linear, bucket_max: 1023", Scale::Linear { min: 0, max: 1023 }, 1.0),
            ("bucket_type: linear, bucket_min: 5, bucket_max: 5", Scale::Linear { min: 5, max: 5 }, 1.0),
            ("bucket_type: exp2, bucket_max: 1, bucket_multiplier: 0", Scale::Exp2 { min: 0, max: 1 }, 1.0),
            (
                "bucket_type: exp2, bucket_max: 1, bucket_multiplier: 1e-6",
                Scale::Exp2 { min: 0, max: 1 },
                1e-6,
            ),
            ("bucket_type: fixed, bucket_keys: [1, 0x5, 10.0]", Scale::Fixed(vec![1.0, 5.0, 10.0]), 1.0),
        ] {
            let expected = (Some(Buckets { scale, multiplier }), Vec::new());
            assert_eq!(histogram(keys), expected, "{keys}");
        }
    }

    #[test]
    fn odd_bucket_keys_are_put_in_order() {
        let (buckets, findings) = histogram("bucket_type: fixed, bucket_keys: [10, 1, 2.5, 10, -1]");
        assert_eq!(buckets.unwrap().scale, Scale::Fixed(vec![-1.0, 1.0, 2.5, 10.0]));
        assert_eq!(findings.len(), 3, "{findings:?}");
        for (finding, word) in findings.iter().zip(["sorted", "2.5", "-1"]) {
            assert!(finding.contains("odd") && finding.contains(word), "{findings:?}");
        }
    }

    #[test]
    fn a_bad_metric_costs_only_itself() {
        let (config, findings) = read(
            "metrics:\n  counters:\n    - {name: a, help: h}\n    - {name: b-c, help: h}\n    - {help: h}\n  \
             gauges: 5\n  histograms:\n    - {name: a_sum, help: h, bucket_type: exp2}\n    - 7\n",
        );
        let names: Vec<_> = config.unwrap().metrics.into_iter().map(|metric| metric.name).collect();
        assert_eq!(names, ["a".into()]);
        let places: Vec<_> = findings.iter().map(|finding| finding.split(' ').next().unwrap()).collect();
        assert_eq!(places, ["4:14", "5:7", "6:11", "8:7", "8:7", "9:7"], "{findings:#?}");
        assert!(findings.iter().all(|finding| finding.contains("fatal")), "{findings:#?}");
    }

    #[test]
    fn what_is_wrong_outside_of_metrics_costs_the_config() {
        for text in [
            "metrics: []",
            "metrics: {counters: []}\nkaddrs: x",
            "metrics: {counters: []}\nkaddrs: [[]]",
            "metrics: {counters: []}\ncgroup_id_map: {name: m, type: lru, regexps: [a]}",
            "kaddrs: [a]",
            "metrics: {counters: }",
            "tracing: {}",
            "metrics: {counters: []",
            "[]",
            "~",
        ] {
            let (config, findings) = read(text);
            assert_eq!((config, findings.len()), (None, 1), "{text}: {findings:?}");
            assert!(findings[0].contains("fatal"), "{text}: {findings:?}");
        }
    }

    #[test]
    fn an_empty_list_is_something() {
        for text in ["metrics: {counters: []}", "metrics: {gauges: []}", "metrics: {histograms: []}"] {
            assert_eq!(right(text).metrics, []);
        }
        assert!(right("tracing: {spans: []}").has_tracing);
    }

    #[test]
    fn spans_are_looked_at_and_never_fatal() {
        let (config, findings) = read(
            "tracing:\n  spans:\n    - ringbuf: r\n      name: n\n      servce: s\n      labels: [{name: a, size: -1}]\n",
        );
        assert!(config.unwrap().has_tracing);
        assert_eq!(findings.len(), 3, "{findings:?}");
        assert!(findings.iter().all(|finding| finding.contains("odd")), "{findings:?}");
    }

    #[test]
    fn a_mistake_in_shared_labels_is_told_once() {
        let (config, findings) = read(
            "metrics:\n  counters:\n    - {name: a, help: h, labels: &l [{name: 'x y', size: 8, decoders: [{name: hex}]}]}\n    \
             - {name: b, help: h, labels: *l}\n    - {name: c, help: h}\n",
        );
        assert_eq!(config.unwrap().metrics.len(), 1);
        assert_eq!(findings.len(), 1, "{findings:?}");
    }

    #[test]
    fn findings_are_bounded_and_a_fatal_one_still_shows() {
        for (last, fatal) in [("metrics: {counters: []}", false), ("metrics: []", true)] {
            let (config, findings) = parse("x", "x", format!("{}{last}", "a: 1\n".repeat(1_000)).as_bytes());
            assert_eq!((config.is_none(), findings.len()), (fatal, limits::CONFIG_FINDINGS + 1));
            let more = findings.last().unwrap();
            assert_eq!((more.fatal, more.mark.line), (fatal, 102), "{more}");
            assert!(more.message.contains("more findings"), "{more}");
        }
    }

    #[test]
    fn damaged_configs_neither_panic_nor_hang() {
        let sample = b"metrics:\n  counters:\n    - name: a\n      help: &h b\n      perf_event_array: yes\n      \
            flush_interval: 1h\n      labels: &l\n        - {name: l, size: 0x8, decoders: [{name: uint}]}\n  \
            histograms:\n    - {<<: {help: *h}, name: c, bucket_type: fixed, bucket_keys: [1, 2.5], labels: *l}\n";
        crate::procfs::fuzz::hammer(sample, |bytes| drop(parse("x", "x", bytes)));
    }
}
