//! Config files as people write them, right and wrong: what is wrong is found at its line and column, and said so that one
//! knows what to do.

mod support;

use std::time::Duration;

use nodeprobe::programs::config::{Config, Finding, Kind, Scale};
use nodeprobe::programs::parse::parse;

use support::Dice;

const COUNTERS: &str = include_str!("fixtures/configs/counters.yaml");
const HISTOGRAMS: &str = include_str!("fixtures/configs/histograms.yaml");
const EVERYTHING: &str = include_str!("fixtures/configs/everything.yaml");

/// All metrics of a file, and the file with them.
const ALL: usize = usize::MAX;

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
    assert_eq!(regexps, [("1", 36, 21), ("^a:b", 36, 24), ("^it's", 36, 32), ("", 36, 42)]);
    let Kind::Histogram(buckets) = &metric("sizes").kind else { panic!("no histogram") };
    assert_eq!((&buckets.scale, buckets.multiplier), (&Scale::Linear { min: 0, max: 3 }, 50.0));
}

/// A file; what in it is replaced (where it comes first) by what; where that is found, and words of the message; whether that
/// is fatal, and how many metrics are lost.
type Mutation = (&'static str, &'static str, &'static str, &'static str, &'static str, bool, usize);

#[rustfmt::skip]
const MUTATIONS: &[Mutation] = &[
    // Not YAML, or not as a config is.
    (COUNTERS, "  counters:", "\tcounters:", "2:1", "tab", true, ALL),
    (COUNTERS, "      labels:", "\t    labels:", "5:1", "tab", true, ALL),
    (COUNTERS, "metrics:\n", "metrics: [\n", "3:5", "not valid YAML", true, ALL),
    (COUNTERS, "    - name: timer", "   - name: timer", "38:4", "not valid YAML", true, ALL),
    (COUNTERS, "          size: 4", "         size: 4", "7:10", "not valid YAML", true, ALL),
    (COUNTERS, "help: Total", "help: 'Total", "4:13", "not valid YAML", true, ALL),
    (COUNTERS, "help: Total number", "help: Total: number", "4:18", "not valid YAML", true, ALL),
    (COUNTERS, "name: oom_kills_total", "name: @oom_kills_total", "20:13", "not valid YAML", true, ALL),
    (COUNTERS, "name: oom_kills_total", "name: *oom_kills_total", "20:13", "unknown anchor", true, ALL),
    (COUNTERS, "name: oom_kills_total", "name: \"oom\\q\"", "20:13", "escape", true, ALL),
    (COUNTERS, "- ^bash$", "- [a-z", "38:11", "not valid YAML", true, ALL),
    (COUNTERS, "0: read", "? [0]\n                : read", "17:19", "as a key", true, ALL),
    (EVERYTHING, "<<: *first", "<<: 7", "16:11", "<<: expected a mapping", true, ALL),
    (EVERYTHING, "<<: *first", "<<: [7]", "16:11", "<<: expected a mapping", true, ALL),
    (EVERYTHING, "- &first", "- &first &second", "8:14", "not valid YAML", true, ALL),
    (EVERYTHING, "!!str 2001", "!e!str 2001", "21:34", "handle", true, ALL),
    (COUNTERS, "  - jiffies", "  - jiffies\0", "50:12", "unprintable", true, ALL),
    // What a config is made of.
    (COUNTERS, "metrics:\n", "metric:\n", "1:1", "unknown key \"metric\", did you mean metrics?", false, ALL),
    (COUNTERS, "kaddrs:", "kaddr:", "48:1", "did you mean kaddrs?", false, 0),
    (COUNTERS, "kaddrs:", "Kaddrs:", "48:1", "did you mean kaddrs?", false, 0),
    (COUNTERS, "kaddrs:\n  - cadvisor_symbol\n  - jiffies\n", "kaddrs: jiffies\n", "48:9", "kaddrs: expected a list of texts, found \"jiffies\"", true, ALL),
    (COUNTERS, "  - jiffies", "  - jiffies: 1", "50:5", "kaddrs: expected a list of texts, found a mapping", true, ALL),
    (COUNTERS, "  - jiffies", "  - [jiffies]", "50:5", "kaddrs: expected a list of texts, found a list", true, ALL),
    (COUNTERS, "  counters:", "  counter:", "2:3", "did you mean counters?", false, 3),
    (COUNTERS, "  gauges:", "  gauge:", "40:3", "did you mean gauges?", false, 1),
    (COUNTERS, "  gauges:\n    - name: queue_length\n      help: Requests that wait\n      labels:\n        - name: queue\n          size: 2\n          decoders:\n            - name: uint\n", "  gauges: yes\n", "40:11", "gauges: expected a list of mappings, one per gauge, found \"yes\"", true, 1),
    (COUNTERS, "    - name: timer_starts_total\n      help: Timers fired in the kernel\n", "    - timer_starts_total\n", "38:7", "counter: expected a mapping with name, help,", true, 1),
    (COUNTERS, "    - name: timer_starts_total\n      help: Timers fired in the kernel\n", "    -\n", "38:6", "found nothing", true, 1),
    (COUNTERS, "    - name: timer_starts_total\n      help: Timers fired in the kernel\n", "    - [name, help]\n", "38:7", "found a list", true, 1),
    (COUNTERS, "kaddrs:", "metrics: {counters: []}\nkaddrs:", "48:1", "the key \"metrics\" was given in line 1 already", false, 4),
    (COUNTERS, "kaddrs:", "---\nkaddrs:", "48:1", "only the first document is read", false, 0),
    (COUNTERS, "kaddrs:", "tracing: 7\nkaddrs:", "48:10", "tracing: expected a mapping with spans, found \"7\"", false, 0),
    (EVERYTHING, "perf_events:", "perf_event:", "4:1", "did you mean perf_events?", false, 0),
    (EVERYTHING, "name: not.used", "name: [not.used]", "3:7", "name: expected text, found a list", true, ALL),
    // cgroup_id_map.
    (COUNTERS, "cgroup_id_map:", "cgroup_id_maps:", "51:1", "did you mean cgroup_id_map?", false, 0),
    (COUNTERS, "type: cgrp_storage", "type: cgroup_storage", "53:9", "type: expected one of hash, cgrp_storage, found \"cgroup_storage\", did you mean cgrp_storage?", true, ALL),
    (COUNTERS, "type: cgrp_storage", "type: lru", "53:9", "one of hash, cgrp_storage, found \"lru\"", true, ALL),
    (COUNTERS, "type: cgrp_storage", "type: [hash]", "53:9", "one of hash, cgrp_storage, found a list", true, ALL),
    (COUNTERS, "type: cgrp_storage", "typ: hash", "53:3", "did you mean type?", false, 0),
    (COUNTERS, "  name: interesting_cgroups\n", "", "52:3", "lacks name, so no map is filled", false, 0),
    (COUNTERS, "  name: interesting_cgroups\n", "  name: ''\n", "52:3", "lacks name, so no map is filled", false, 0),
    (COUNTERS, "  regexps:\n    - ^/sys/fs/cgroup/system.slice/\n", "", "52:3", "lacks regexps, so no cgroup is in it", false, 0),
    (COUNTERS, "  regexps:\n    - ^/sys/fs/cgroup/system.slice/\n", "  regexps: ^/a\n", "54:12", "regexps: expected a list of texts, found \"^/a\"", true, ALL),
    (COUNTERS, "  regexps:\n    - ^/sys/", "  regexps:\n    - {a: b}\n    - ^/sys/", "55:7", "regexps: expected a list of texts, found a mapping", true, ALL),
    // Names and help of metrics.
    (COUNTERS, "    - name: timer_starts_total\n      help", "    - help", "38:7", "counter \"\" in config \"x\" lacks name: the name of the BPF map", true, 1),
    (COUNTERS, "- name: timer_starts_total", "- name:", "38:7", "counter \"\" in config \"x\" lacks name", true, 1),
    (COUNTERS, "- name: timer_starts_total", "- name: ''", "38:7", "lacks name", true, 1),
    (COUNTERS, "- name: timer_starts_total", "- name: ~", "38:7", "lacks name", true, 1),
    (COUNTERS, "name: timer_starts_total", "name: timer.starts", "38:13", "letters, digits, _ and :", true, 1),
    (COUNTERS, "name: timer_starts_total", "name: 'timer starts'", "38:13", "letters, digits, _ and :", true, 1),
    (COUNTERS, "name: timer_starts_total", "name: zähler", "38:13", "letters, digits, _ and :", true, 1),
    (COUNTERS, "name: timer_starts_total", "name: [timer]", "38:13", "name: expected text, found a list", true, 1),
    (COUNTERS, "      help: Timers fired in the kernel\n", "", "38:7", "counter \"timer_starts_total\" in config \"x\" lacks help", true, 1),
    (COUNTERS, "help: Timers fired in the kernel", "help: \"\"", "38:7", "lacks help", true, 1),
    (COUNTERS, "help: Timers fired in the kernel", "help: {a: b}", "39:13", "help: expected text, found a mapping", true, 1),
    (COUNTERS, "      help: Timers", "      hepl: Timers", "39:7", "did you mean help?", false, 1),
    (COUNTERS, "name: timer_starts_total", "name: oom_kills_total", "38:13", "series named \"oom_kills_total\" are made in line 20 already", true, 1),
    (COUNTERS, "name: queue_length", "name: oom_kills_total", "41:13", "series named \"oom_kills_total\" are made in line 20 already", true, 1),
    (HISTOGRAMS, "name: packet_bytes", "name: backlog", "39:13", "series named \"backlog\" are made in line 18 already", true, 1),
    (HISTOGRAMS, "metrics:\n", "metrics:\n  counters:\n    - {name: backlog_count, help: h}\n", "20:13", "series named \"backlog_count\" are made in line 3 already", true, 0),
    (COUNTERS, "      help: Requests that wait", "      help: Requests that wait\n      name: waiting", "43:7", "the key \"name\" was given in line 41 already", false, 0),
    (HISTOGRAMS, "      help: Length", "      holp: a\n      help: Length", "19:7", "unknown key \"holp\", did you mean help? (a histogram has name, help, bucket_type", false, 0),
    (HISTOGRAMS, "      help: Block IO latency histogram\n", "", "3:7", "histogram \"bio_latency_seconds\" in config \"x\" lacks help", true, 1),
    // Counters and gauges.
    (COUNTERS, "perf_event_array: true", "perf_event_array: 1", "22:25", "perf_event_array: expected true or false, found \"1\"", true, 1),
    (COUNTERS, "perf_event_array: true", "perf_event_array: \"true\"", "22:25", "true or false, found the text \"true\"", true, 1),
    (COUNTERS, "perf_event_array: true", "perf_event_array: tru", "22:25", "true or false, found \"tru\"", true, 1),
    (COUNTERS, "perf_event_array: true", "perf_events_array: true", "22:7", "did you mean perf_event_array?", false, 0),
    (COUNTERS, "perf_event_array: true", "perf_event_array: no", "23:23", "flush_interval: without effect", false, 0),
    (COUNTERS, "flush_interval: 10s", "flush_interval: 1d", "23:23", "a duration such as 30s, 5m or 1h30m, found \"1d\"", true, 1),
    (COUNTERS, "flush_interval: 10s", "flush_interval: 10 s", "23:23", "found \"10 s\"", true, 1),
    (COUNTERS, "flush_interval: 10s", "flush_interval: '10'", "23:23", "found the text \"10\"", true, 1),
    (COUNTERS, "flush_interval: 10s", "flush_interval: [10s]", "23:23", "found a list", true, 1),
    (COUNTERS, "flush_interval: 10s", "flush_interval: 10", "23:23", "nanoseconds", false, 0),
    (COUNTERS, "flush_interval: 10s", "flush_interval: 1e10", "23:23", "\"1e10\" is used as 10000000000", false, 0),
    (COUNTERS, "      help: Requests that wait", "      help: Requests that wait\n      perf_event_array: true", "43:7", "unknown key \"perf_event_array\"", false, 0),
    (COUNTERS, "      help: Timers", "      bucket_max: 5\n      help: Timers", "39:7", "unknown key \"bucket_max\" (a counter has", false, 0),
    // Labels.
    (COUNTERS, "- name: queue\n          size", "- size", "44:11", "label \"\" in config \"x\" lacks name", true, 1),
    (COUNTERS, "name: device", "name: de-vice", "6:17", "no digit first, found \"de-vice\"", true, 1),
    (COUNTERS, "name: device", "name: 2nd", "6:17", "no digit first, found \"2nd\"", true, 1),
    (COUNTERS, "name: device", "name: gerät", "6:17", "no digit first", true, 1),
    (COUNTERS, "name: device", "name: __name__", "6:17", "begins with __", true, 1),
    (COUNTERS, "name: operation", "name: device", "10:17", "another than that of the label in line 6", true, 1),
    (COUNTERS, "name: device", "name: {}", "6:17", "name: expected text, found a mapping", true, 1),
    (HISTOGRAMS, "name: operation", "name: le", "10:17", "another than le", true, 1),
    (COUNTERS, "          size: 4\n", "", "6:11", "label \"device\" in config \"x\" lacks size: bytes of the key", true, 1),
    (COUNTERS, "size: 4", "siz: 4", "7:11", "did you mean size?", false, 1),
    (COUNTERS, "size: 4", "size: 0", "7:17", "size: expected a whole number from 1 to 4096, found \"0\"", true, 1),
    (COUNTERS, "size: 4", "size: -4", "7:17", "found \"-4\"", true, 1),
    (COUNTERS, "size: 4", "size: 5000", "7:17", "from 1 to 4096, found \"5000\"", true, 1),
    (COUNTERS, "size: 4", "size: \"4\"", "7:17", "found the text \"4\"", true, 1),
    (COUNTERS, "size: 4", "size: four", "7:17", "found \"four\"", true, 1),
    (COUNTERS, "size: 4", "size: 99999999999999999999", "7:17", "found \"99999999999999999999\"", true, 1),
    (COUNTERS, "size: 4", "size: 4.5", "7:17", "size: \"4.5\" is used as 4", false, 0),
    (COUNTERS, "size: 4", "size: 08", "7:17", "size: \"08\" is used as 8", false, 0),
    (COUNTERS, "size: 4", "size:", "6:11", "lacks size", true, 1),
    (COUNTERS, "padding: 3", "pading: 3", "12:11", "did you mean padding?", false, 0),
    (COUNTERS, "padding: 3", "padding: -1", "12:20", "padding: expected a whole number from 0 to 4096, found \"-1\"", true, 1),
    (COUNTERS, "padding: 3", "padding: three", "12:20", "padding: expected a whole number", true, 1),
    (COUNTERS, "padding: 3", "padding: 4092", "6:9", "at most 4096 bytes together, found 4097", true, 1),
    (COUNTERS, "          decoders:\n            - name: majorminor\n", "", "6:11", "label \"device\" in config \"x\" lacks decoders: what turns the bytes into text", true, 1),
    (COUNTERS, "          decoders:\n            - name: majorminor\n", "          decoders: []\n", "6:11", "lacks decoders", true, 1),
    (COUNTERS, "          decoders:\n            - name: majorminor\n", "          decoders: majorminor\n", "8:21", "a list of mappings, one per decoder, found \"majorminor\"", true, 1),
    (COUNTERS, "          decoders:\n            - name: majorminor\n", "          decoders: {name: majorminor}\n", "8:21", "found a mapping", true, 1),
    (COUNTERS, "          decoders:\n            - name: majorminor\n", "          decoder: [{name: majorminor}]\n", "8:11", "did you mean decoders?", false, 1),
    (COUNTERS, "            - name: majorminor\n", "            - majorminor\n", "9:15", "decoder: expected a mapping with name, static_map", true, 1),
    (COUNTERS, "      labels:\n        - name: queue\n", "      labels: 5\n      x:\n        - name: queue\n", "43:15", "labels: expected a list of mappings, one per label, found \"5\"", true, 1),
    (EVERYTHING, "&code {name: code,", "&code {name: 'c d',", "14:24", "found \"c d\"", true, 4),
    (EVERYTHING, "    - {name: errors_total, help: !!str 2001, labels: [*code]}", "    - {name: errors_total, help: h, labels: [*code, *code]}", "14:24", "another than that of the label in line 14", true, 1),
    // Decoders.
    (COUNTERS, "- name: majorminor", "- nam: majorminor", "9:15", "did you mean name?", false, 1),
    (COUNTERS, "- name: majorminor", "- name: [majorminor]", "9:21", "name: expected text, found a list", true, 1),
    (COUNTERS, "- name: majorminor", "- name: ''", "9:15", "decoder \"\" in config \"x\" lacks name: which decoder", true, 1),
    (COUNTERS, "              static_map:", "              static-map:", "16:15", "did you mean static_map?", false, 0),
    (COUNTERS, "              static_map:\n                0: read\n                1: write\n", "              static_map: [read, write]\n", "16:27", "static_map: expected a mapping of texts to texts, found a list", true, 1),
    (COUNTERS, "                0: read", "                0: [read]", "17:20", "static_map: expected a mapping of texts to texts, found a list", true, 1),
    (COUNTERS, "                1: write", "                0: write", "18:17", "the key \"0\" was given in line 17 already", false, 0),
    (COUNTERS, "allow_unknown: true", "allow_unknown: maybe", "19:30", "allow_unknown: expected true or false, found \"maybe\"", true, 1),
    (COUNTERS, "allow_unknown: true", "allow_unknown: 0", "19:30", "true or false, found \"0\"", true, 1),
    (COUNTERS, "allow_unknown: true", "allow_unknwon: true", "19:15", "did you mean allow_unknown?", false, 0),
    (COUNTERS, "              regexps:\n                - ^bash$\n                - ^(kworker)/.*$\n", "              regexps: ^bash$\n", "35:24", "regexps: expected a list of texts, found \"^bash$\"", true, 1),
    (COUNTERS, "                - ^bash$", "                - {a: b}", "36:19", "regexps: expected a list of texts, found a mapping", true, 1),
    (COUNTERS, "              regexps:", "              regexp:", "35:15", "did you mean regexps?", false, 0),
    // Histograms.
    (HISTOGRAMS, "      bucket_type: exp2\n", "", "3:7", "histogram \"bio_latency_seconds\" in config \"x\" lacks bucket_type: how the number", true, 1),
    (HISTOGRAMS, "bucket_type: exp2\n", "bucket_type: exp10\n", "5:20", "bucket_type: expected one of exp2, exp2zero, linear, fixed, found \"exp10\", did you mean exp2?", true, 1),
    (HISTOGRAMS, "bucket_type: exp2\n", "bucket_type: log\n", "5:20", "one of exp2, exp2zero, linear, fixed, found \"log\"", true, 1),
    (HISTOGRAMS, "bucket_type: exp2\n", "bucket_type: Linear\n", "5:20", "did you mean linear?", true, 1),
    (HISTOGRAMS, "bucket_type: exp2\n", "bucket_type: [exp2]\n", "5:20", "found a list", true, 1),
    (HISTOGRAMS, "bucket_type: exp2\n", "bucket_typ: exp2\n", "5:7", "did you mean bucket_type?", false, 1),
    (HISTOGRAMS, "bucket_type: exp2\n", "bucket_type: fixed\n", "3:7", "histogram \"bio_latency_seconds\" in config \"x\" lacks bucket_keys", true, 1),
    (HISTOGRAMS, "      bucket_max: 26\n", "", "3:7", "lacks bucket_max: the last bucket", true, 1),
    (HISTOGRAMS, "bucket_max: 26", "bucket_max: ~", "3:7", "lacks bucket_max", true, 1),
    (HISTOGRAMS, "bucket_max: 26", "bucket_max: 64", "7:19", "at most 63, the highest bit of a number, found 64", true, 1),
    (HISTOGRAMS, "bucket_max: 26", "bucket_max: -1", "7:19", "from 0 to 9007199254740992, found \"-1\"", true, 1),
    (HISTOGRAMS, "bucket_max: 26", "bucket_max: many", "7:19", "bucket_max: expected a whole number", true, 1),
    (HISTOGRAMS, "bucket_max: 26", "bucket_max: '26'", "7:19", "found the text \"26\"", true, 1),
    (HISTOGRAMS, "bucket_max: 26", "bucket_max: 26.9", "7:19", "\"26.9\" is used as 26", false, 0),
    (HISTOGRAMS, "bucket_max: 26", "bucket_maximum: 26", "7:7", "unknown key \"bucket_maximum\"", false, 1),
    (HISTOGRAMS, "bucket_min: 0\n      bucket_max: 26", "bucket_min: 27\n      bucket_max: 26", "7:19", "at least bucket_min, which is 27, found 26", true, 1),
    (HISTOGRAMS, "bucket_min: 0\n      bucket_max: 26", "bucket_min: -3\n      bucket_max: 26", "6:19", "bucket_min: expected a whole number from 0", true, 1),
    (HISTOGRAMS, "bucket_max: 14", "bucket_max: 65", "22:19", "at most 64, the highest bit of a number, found 65", true, 1),
    (HISTOGRAMS, "bucket_max: 20", "bucket_max: 2000", "32:19", "at most 1024 buckets, found 2000", true, 1),
    (HISTOGRAMS, "bucket_max: 20", "bucket_max: 0", "32:19", "at least bucket_min, which is 1, found 0", true, 1),
    (HISTOGRAMS, "bucket_max: 20", "bucket_max: 1e300", "32:19", "bucket_max: expected a whole number", true, 1),
    (HISTOGRAMS, "bucket_max: 20", "bucket_max: 20\n      bucket_keys: [1]", "33:20", "bucket_keys: without effect on buckets of type linear", false, 0),
    (HISTOGRAMS, "bucket_multiplier: 50", "bucket_multiplier: -50", "33:26", "a number above 0, found -50", true, 1),
    (HISTOGRAMS, "bucket_multiplier: 50", "bucket_multiplier: 50us", "33:26", "bucket_multiplier: expected a number, found \"50us\"", true, 1),
    (HISTOGRAMS, "bucket_multiplier: 50", "bucket_multiplier: '50'", "33:26", "bucket_multiplier: expected a number, found the text \"50\"", true, 1),
    (HISTOGRAMS, "bucket_multiplier: 50", "bucket_multiplier: .inf", "33:26", "bucket_multiplier: expected a number", true, 1),
    (HISTOGRAMS, "bucket_multiplier: 50", "bucket_multiplicator: 50", "33:7", "did you mean bucket_multiplier?", false, 0),
    (HISTOGRAMS, "      bucket_keys:\n        - 64\n        - 512\n        - 1500\n", "", "39:7", "histogram \"packet_bytes\" in config \"x\" lacks bucket_keys", true, 1),
    (HISTOGRAMS, "      bucket_keys:\n        - 64\n        - 512\n        - 1500\n", "      bucket_keys: []\n", "39:7", "lacks bucket_keys", true, 1),
    (HISTOGRAMS, "      bucket_keys:\n        - 64\n        - 512\n        - 1500\n", "      bucket_keys: 64\n", "42:20", "bucket_keys: expected a list of numbers, found \"64\"", true, 1),
    (HISTOGRAMS, "        - 512\n", "        - big\n", "44:11", "bucket_keys: expected a list of numbers, found \"big\"", true, 1),
    (HISTOGRAMS, "        - 512\n", "        - '512'\n", "44:11", "found the text \"512\"", true, 1),
    (HISTOGRAMS, "        - 512\n", "        - 512.5\n", "44:11", "512.5 is no key a map can have", false, 0),
    (HISTOGRAMS, "        - 64\n", "        - -64\n", "43:11", "-64 is no key a map can have", false, 0),
    (HISTOGRAMS, "        - 64\n", "        - 640\n", "43:9", "they are sorted", false, 0),
    (HISTOGRAMS, "        - 64\n", "        - 512\n", "43:9", "each is used once", false, 0),
    (HISTOGRAMS, "bucket_type: fixed", "bucket_type: fixed\n      bucket_min: 1", "42:19", "bucket_min: without effect on buckets of type fixed", false, 0),
    (HISTOGRAMS, "bucket_type: fixed", "bucket_type: linear\n      bucket_max: 7", "44:9", "bucket_keys: without effect", false, 0),
    (HISTOGRAMS, "      labels:\n        - name: le\n          size: 8\n          decoders:\n            - name: uint\n", "", "28:7", "histogram \"tcp_window\" in config \"x\" lacks labels", true, 1),
    (HISTOGRAMS, "      labels:\n        - name: le\n          size: 8\n          decoders:\n            - name: uint\n", "      labels: []\n", "28:7", "the last one is the bucket", true, 1),
    // Spans are not exported, so nothing about them is fatal.
    (EVERYTHING, "ringbuf: spans", "ringbuff: spans", "44:7", "did you mean ringbuf?", false, 0),
    (EVERYTHING, "ringbuf: spans", "ringbuf: [spans]", "44:16", "ringbuf: expected text, found a list", false, 0),
    (EVERYTHING, "{name: trace_id, size: 16,", "{name: trace_id, size: sixteen,", "48:34", "size: expected a whole number", false, 0),
    (EVERYTHING, "  spans:\n", "  span:\n", "43:3", "did you mean spans?", false, 0),
    (EVERYTHING, "    - ringbuf: spans\n      name: span", "    - name: span", "44:7", "span \"span\" in config \"x\" lacks ringbuf", false, 0),
];

#[test]
fn every_mistake_is_found_where_it_is() {
    assert!(MUTATIONS.len() >= 100);
    let wrong: Vec<String> = MUTATIONS.iter().filter_map(|mutation| why_wrong(mutation).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn why_wrong(&(base, find, replace, place, words, fatal, lost): &Mutation) -> Result<(), String> {
    let (config, findings) = read(base.replacen(find, replace, 1).as_bytes());
    let texts: Vec<String> = findings.iter().map(Finding::to_string).collect();
    let fail = |why: String| Err(format!("{find:?} -> {replace:?}: {why} {texts:#?}"));
    let wanted = format!("/etc/nodeprobe/x.yaml:{place}: ");
    let found = texts.iter().position(|text| text.starts_with(&wanted) && text.contains(words));
    match found {
        _ if !base.contains(find) => fail("not in the base".to_owned()),
        None => fail(format!("no {words:?} at {place} in")),
        Some(at) if findings[at].fatal != fatal => fail(format!("fatal is not {fatal} in")),
        // One mistake may lead to others, but not to many.
        _ if texts.len() > 3 => fail("too many words:".to_owned()),
        _ => {
            let left = config.map(|config| config.metrics.len());
            let wanted = metrics(base).checked_sub(lost);
            if left == wanted { Ok(()) } else { fail(format!("{left:?} metrics left, expected {wanted:?}")) }
        }
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let text = COUNTERS.replace("size: ", "sise: ").replace("help: ", "hepl: ");
    let (config, findings) = read(text.as_bytes());
    assert_eq!(config.expect("a config").metrics, []);
    assert_eq!(findings.len(), 2 * (4 + 5), "{findings:#?}");
    assert!(findings.is_sorted_by_key(|finding| finding.mark));
}

#[test]
fn damaged_files_are_read_in_no_time() {
    for base in [COUNTERS, HISTOGRAMS, EVERYTHING] {
        let mut dice = Dice::new(7);
        for _ in 0..3_400 {
            let mut text = base.as_bytes().to_vec();
            for _ in 0..=dice.below(4) {
                damage(&mut text, &mut dice);
            }
            timed(&text);
        }
    }
    let mut dice = Dice::new(8);
    for _ in 0..10_000 {
        let length = dice.below(300);
        timed(&dice.bytes(length));
    }
}

/// What any text suffers, or a byte that means something in YAML where it does not belong.
fn damage(text: &mut Vec<u8>, dice: &mut Dice) {
    const MARKS: &[u8] = b"\n\t :-?[]{},&*!|>'\"%@`#<~.0x\\\r\xff\0";
    let (at, mark) = (dice.below(text.len().max(1)), MARKS[dice.below(MARKS.len())]);
    match dice.below(3) {
        0 if at < text.len() => text[at] = mark,
        1 => text.insert(at.min(text.len()), mark),
        _ => dice.mutate(text),
    }
}

fn cpu_time() -> Duration {
    // SAFETY: all zeroes are a time.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: writes the one structure it is given.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[track_caller]
fn timed(text: &[u8]) {
    // This thread's own time: others may have the processor.
    let began = cpu_time();
    let (config, findings) = read(text);
    let took = cpu_time() - began;
    let start = String::from_utf8_lossy(&text[..text.len().min(60)]);
    assert!(config.is_some() || findings.iter().any(|finding| finding.fatal), "no word about {start:?}...");
    assert!(took < Duration::from_secs(5), "{took:?} for {start:?}...");
}

#[test]
fn hostile_files_are_read_in_no_time() {
    const SIZE: usize = nodeprobe::limits::CONFIG_BYTES / 2;
    let fill =
        |before: &str, piece: &str| format!("{before}{}", piece.repeat((SIZE - before.len()) / piece.len()));
    for (before, piece) in [
        ("", "["),
        ("", "{"),
        ("", "- "),
        ("", "? "),
        ("", "a: "),
        ("", "!"),
        ("", "&a "),
        ("", "*a "),
        ("", "'"),
        ("", "\n"),
        ("", "\r"),
        ("", " "),
        ("", "#"),
        ("", "%"),
        ("", "%TAG ! a\n"),
        ("", "---\n"),
        ("", "...\n"),
        ("", "\u{feff}"),
        ("", "|\n"),
        ("", "a"),
        ("", "a\n"),
        ("", ","),
        ("", ":"),
        ("", "\""),
        ("", "-\n"),
        ("[", "a,"),
        ("[", "a: b,"),
        ("{", "a,"),
        ("{", "[a]: b,"),
        ("[", "[],"),
        ("[", "[a: "),
        ("{", "{a: "),
        ("a: |\n", " \n"),
        ("a: |9\n", "         b\n"),
        ("a: \"", "\\\n"),
        ("a: '", "''"),
        ("a: ", "b "),
        ("a: ", "b\n  "),
        ("a: &x 1\n", "a: *x\n"),
        ("x: &x {a: 1}\ny: {", "<<: *x,"),
        ("x: &x [", "{<<: {a: 1}},"),
        ("metrics: {counters: [", "{},"),
        ("metrics:\n  counters:\n", "  - {name: a, help: b}\n"),
        ("metrics: {counters: [{name: a, help: b, labels: [", "{name: a},"),
        ("metrics: {histograms: [{bucket_type: fixed, bucket_keys: [", "1,"),
        ("", "a: 1\n"),
        ("", "kaddr: 1\n"),
        (&"[".repeat(250), "a,"),
        (&"- ".repeat(60), "- a\n"),
        ("{", "\"a\": [b, {c: 'd'}], "),
    ] {
        let text = fill(before, piece);
        timed(text.as_bytes());
        // The same with everything closed again.
        let opened = before.chars().rev().filter(|c| matches!(c, '[' | '{'));
        let close: String = opened.map(|c| if c == '[' { ']' } else { '}' }).collect();
        if !close.is_empty() {
            timed(format!("{text}{close}").as_bytes());
        }
    }
}
