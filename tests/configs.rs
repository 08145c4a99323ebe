//! Config files as people write them, right and wrong: what is wrong is found at its line and column, and said so that one
//! knows what to do.

use std::time::{Duration, Instant};

use nodeprobe::programs::config::{Config, Finding, Kind, Scale};
use nodeprobe::programs::parse::parse;
use nodeprobe::programs::schema;

const COUNTERS: &str = include_str!("fixtures/configs/counters.yaml");
const HISTOGRAMS: &str = include_str!("fixtures/configs/histograms.yaml");
const EVERYTHING: &str = include_str!("fixtures/configs/everything.yaml");

/// How bad a mistake is.
#[derive(Debug, PartialEq)]
enum Cost {
    /// It is told.
    Odd,
    /// So many metrics.
    Metrics(usize),
    /// The whole config.
    Config,
}

use Cost::{Config as All, Metrics, Odd};

const ONE: Cost = Metrics(1);

fn read(text: &[u8]) -> (Option<Config>, Vec<Finding>) {
    parse("x", "/etc/nodeprobe/x.yaml", text)
}

#[track_caller]
fn right(text: &str) -> Config {
    let (config, findings) = read(text.as_bytes());
    let findings: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert_eq!(findings, [""; 0]);
    config.expect("a config")
}

fn metrics(text: &str) -> usize {
    right(text).metrics.len()
}

#[test]
fn correct_configs_are_read_without_a_word() {
    assert_eq!((metrics(COUNTERS), metrics(HISTOGRAMS), metrics(EVERYTHING)), (4, 4, 5));
    let crlf = COUNTERS.replace('\n', "\r\n");
    assert_eq!(right(&crlf), right(COUNTERS));
    assert_eq!(right(&format!("\u{feff}{HISTOGRAMS}")), right(HISTOGRAMS));
}

#[test]
fn all_that_yaml_has_is_understood() {
    let config = right(EVERYTHING);
    assert!(config.has_tracing && config.cgroup_id_map.is_none());
    assert_eq!(config.kaddrs.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["tcp_prot", "udp_prot"]);
    let metric = |name: &str| config.metrics.iter().find(|metric| &*metric.name == name).expect("a metric");
    assert_eq!(&*metric("syscalls_total").help, "How many system calls\nhave been made");
    assert_eq!(&*metric("slow_syscalls_total").help, "How many of them took long");
    assert_eq!(&*metric("errors_total").help, "2001");
    for name in ["syscalls_total", "slow_syscalls_total", "sizes"] {
        let labels = &metric(name).labels;
        assert_eq!(
            labels.iter().map(|label| (&*label.name, label.size)).collect::<Vec<_>>(),
            [("code", 8), ("cpu", 8)]
        );
        assert_eq!(
            labels[0].decoders.iter().map(|decoder| &*decoder.name).collect::<Vec<_>>(),
            ["uint", "syscall"]
        );
    }
    let events = metric("events_total");
    assert_eq!(events.kind, Kind::Events { flush_interval_ns: 3_900_000_000_000 });
    let label = &events.labels[0];
    assert_eq!((label.size, label.padding), (10, 6));
    let map = label.decoders[1].static_map.as_ref().expect("a map");
    let map: Vec<_> = map.iter().map(|(key, value)| (&**key, &**value)).collect();
    assert_eq!(map, [("0", "no"), ("0x1", "yes"), ("", ""), ("3", "four"), ("5", "6.0")]);
    let regexps = label.decoders[2].regexps.as_ref().expect("regexps");
    let regexps: Vec<_> = regexps.iter().map(|(text, mark)| (&**text, mark.line, mark.column)).collect();
    assert_eq!(regexps, [("1", 38, 21), ("^a:b", 38, 24), ("^it's", 38, 32), ("", 38, 42)]);
    let Kind::Histogram(buckets) = &metric("sizes").kind else { panic!("no histogram") };
    assert_eq!((&buckets.scale, buckets.multiplier), (&Scale::Linear { min: 0, max: 3 }, 50.0));
}

/// A file; what in it is replaced (its first occurrence) by what; then where the finding is, a word of it, and its cost.
type Mutation = (&'static str, &'static str, &'static str, &'static str, &'static str, Cost);

#[rustfmt::skip]
const MUTATIONS: &[Mutation] = &[
    // Not YAML.
    (COUNTERS, "  counters:", "\tcounters:", "2:2", "tab", All),
    (COUNTERS, "metrics:", "metrics: [", "60:1", "not valid YAML", All),
];

#[test]
fn every_mistake_is_found_where_it_is() {
    for (base, find, replace, place, word, cost) in MUTATIONS {
        assert!(base.contains(find), "{find:?} is not in its base");
        let text = base.replacen(find, replace, 1);
        let shown = format!("{find:?} -> {replace:?}");
        let (config, findings) = read(text.as_bytes());
        let texts: Vec<String> = findings.iter().map(Finding::to_string).collect();
        let wanted = format!("/etc/nodeprobe/x.yaml:{place}: ");
        let found = texts.iter().position(|text| text.starts_with(&wanted) && text.contains(word));
        let found = found.unwrap_or_else(|| panic!("{shown}: no {word:?} at {place} in {texts:#?}"));
        assert_eq!(findings[found].fatal, *cost != Odd, "{shown}: {texts:#?}");
        let left = match cost {
            Odd => Some(metrics(base)),
            Metrics(lost) => Some(metrics(base) - lost),
            All => None,
        };
        assert_eq!(config.map(|config| config.metrics.len()), left, "{shown}: {texts:#?}");
        assert!(texts.len() <= 2, "{shown}: {texts:#?}");
    }
}
