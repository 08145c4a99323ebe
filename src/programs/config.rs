//! What a config file says, once it is known to be right: types only. [`super::parse`] makes them.

/// A place in a file, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mark {
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

impl Mark {
    /// `PATH:LINE:COLUMN`, as editors and compilers write it.
    pub fn in_file(self, path: &str) -> String {
        format!("{path}:{}:{}", self.line, self.column)
    }
}

/// One `NAME.yaml`.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file's stem; label `config`.
    pub name: Box<str>,
    /// The file, for messages.
    pub path: Box<str>,
    /// `metrics.counters`, `metrics.gauges` and `metrics.histograms`, in that order.
    pub metrics: Vec<Metric>,
    /// Kernel symbols whose addresses the object wants in its variables `kaddr_NAME`.
    pub kaddrs: Vec<(Box<str>, Mark)>,
    /// A map that is kept filled with the ids of matching cgroups.
    pub cgroup_id_map: Option<CgroupIdMap>,
    /// `tracing:` is there: spans are not exported.
    pub has_tracing: bool,
}

impl Config {
    /// Names of the kernel symbols in `kaddrs`.
    pub fn kaddr_names(&self) -> impl Iterator<Item = &str> {
        self.kaddrs.iter().map(|(name, _)| &**name)
    }

    /// True when it fills the same variables and the same map of its object as `other` does.
    pub fn uses_object_like(&self, other: &Config) -> bool {
        let ids = |config: &Config| {
            let unmarked = |ids: &CgroupIdMap| {
                let regexps = ids.regexps.iter().map(|(text, _)| (text.clone(), Mark::default())).collect();
                CgroupIdMap { mark: Mark::default(), regexps, ..ids.clone() }
            };
            config.cgroup_id_map.as_ref().map(unmarked)
        };
        self.kaddr_names().eq(other.kaddr_names()) && ids(self) == ids(other)
    }
}

/// One metric, made from the BPF map of the same name.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// The map's name, and the metric's behind `ebpf_exporter_`.
    pub name: Box<str>,
    /// The help line.
    pub help: Box<str>,
    /// What the map's values are.
    pub kind: Kind,
    /// How a key becomes labels, in the order of its bytes. A histogram's last one is the bucket.
    pub labels: Vec<Label>,
    /// Where `name` is.
    pub mark: Mark,
}

impl Metric {
    /// True when it is the same but for its place in the file.
    pub fn is_like(&self, other: &Metric) -> bool {
        let unmarked = |metric: &Metric| {
            let mut metric = Metric { mark: Mark::default(), ..metric.clone() };
            for label in &mut metric.labels {
                label.mark = Mark::default();
                for decoder in &mut label.decoders {
                    decoder.mark = Mark::default();
                    let regexps = decoder.regexps.iter_mut().flatten();
                    regexps.for_each(|(_, mark)| *mark = Mark::default());
                }
            }
            metric
        };
        unmarked(self) == unmarked(other)
    }
}

/// What a map's values are.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Numbers that only grow.
    Counter,
    /// A counter whose map is a `BPF_MAP_TYPE_PERF_EVENT_ARRAY`: every event adds one to the series of its labels.
    Events {
        /// After this many nanoseconds without an event a series ends.
        flush_interval_ns: u64,
    },
    /// Numbers that go up and down.
    Gauge,
    /// Counts per bucket.
    Histogram(Buckets),
}

impl Kind {
    /// True for a counter of perf events.
    pub fn is_events(&self) -> bool {
        matches!(self, Kind::Events { .. })
    }
}

/// How bucket numbers become upper bounds: `bound(number) x multiplier`.
#[derive(Debug, Clone, PartialEq)]
pub struct Buckets {
    /// The rule.
    pub scale: Scale,
    /// `bucket_multiplier`; 1 unless given.
    pub multiplier: f64,
}

/// How a bucket number becomes a bound before it is multiplied.
#[derive(Debug, Clone, PartialEq)]
pub enum Scale {
    /// 2^k for k from min to max, both included.
    Exp2 {
        /// First bucket.
        min: i64,
        /// Last bucket.
        max: i64,
    },
    /// 0 for 0, 2^(k-1) for k >= 1.
    Exp2Zero {
        /// First bucket.
        min: i64,
        /// Last bucket.
        max: i64,
    },
    /// k.
    Linear {
        /// First bucket.
        min: i64,
        /// Last bucket.
        max: i64,
    },
    /// The listed bounds.
    Fixed(Vec<f64>),
}

/// One label: a piece of the key and how it becomes text.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// The label's name.
    pub name: Box<str>,
    /// Bytes of the key.
    pub size: usize,
    /// Bytes behind them that mean nothing.
    pub padding: usize,
    /// What turns them into text, one after the other.
    pub decoders: Vec<Decoder>,
    /// Where `name` is.
    pub mark: Mark,
}

/// One step from bytes to text.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decoder {
    /// Which: a name of the table in [`crate::decoders`].
    pub name: Box<str>,
    /// `static_map`: source texts of keys and values; `None` when the key is absent or null.
    pub static_map: Option<Vec<(Box<str>, Box<str>)>>,
    /// `allow_unknown`: what is not in `static_map` stays as it is.
    pub allow_unknown: bool,
    /// `regexps`, with their places; `None` when the key is absent or null.
    pub regexps: Option<Vec<(Box<str>, Mark)>>,
    /// Where `name` is.
    pub mark: Mark,
}

/// `cgroup_id_map`.
#[derive(Debug, Clone, PartialEq)]
pub struct CgroupIdMap {
    /// The map.
    pub name: Box<str>,
    /// What the map is keyed by.
    pub kind: CgroupIdMapKind,
    /// A cgroup whose full path one of them matches is in.
    pub regexps: Vec<(Box<str>, Mark)>,
    /// Where `name` is.
    pub mark: Mark,
}

/// What a `cgroup_id_map` is keyed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupIdMapKind {
    /// The cgroup's id, in a hash map.
    Hash,
    /// A descriptor of its directory, in cgroup storage.
    CgroupStorage,
}

/// Something to say about a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub path: Box<str>,
    /// Where in it.
    pub mark: Mark,
    /// Whether the config cannot be used for it; otherwise it can, and `check` still fails.
    pub fatal: bool,
    /// What is wrong, and what was expected.
    pub message: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.mark.in_file(&self.path), self.message)
    }
}
