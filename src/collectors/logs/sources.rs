//! What is counted: a pipeline for each source of each container.

use std::collections::{BTreeMap, HashMap};

use crate::args::logs::Settings;
use crate::containers::IdentityId;
use crate::limits;
use crate::logs::formats::{Format, plain};
use crate::logs::pattern::{Caps, Patterns};
use crate::logs::pipeline::Pipeline;
use crate::sys::clock::MonotonicNs;

/// The number of a source; no other one ever has it.
pub type SourceId = u64;

/// One source.
pub struct Source {
    /// Label `source`.
    pub label: Box<str>,
    /// Whose.
    pub identity: IdentityId,
    /// Its counts.
    pub pipeline: Pipeline,
}

/// All sources.
pub struct Sources {
    caps: Caps,
    /// Boxed: the table keeps the room it once had.
    all: HashMap<SourceId, Box<Source>>,
    last: SourceId,
    by_name: BTreeMap<(IdentityId, Box<str>), SourceId>,
    /// Those of journald, which are asked for with each entry.
    journals: HashMap<IdentityId, SourceId>,
    /// Patterns of an earlier life, by container and label, until they are asked for.
    saved: HashMap<(Box<str>, Box<str>), Box<str>>,
    is_frozen: bool,
    /// Memory of the patterns, in bytes, at the last look.
    pub bytes: usize,
}

impl Sources {
    /// None, with the patterns of an earlier life.
    pub fn new(settings: &Settings, saved: HashMap<(Box<str>, Box<str>), Box<str>>) -> Sources {
        Sources {
            caps: settings.caps(),
            all: HashMap::new(),
            last: 0,
            by_name: BTreeMap::new(),
            journals: HashMap::new(),
            saved,
            is_frozen: false,
            bytes: 0,
        }
    }

    /// The source of a container, made if there is none. `container` is its `container_id`.
    pub fn of(
        &mut self,
        identity: IdentityId,
        container: &str,
        label: &str,
        format: &'static Format,
        now_ns: MonotonicNs,
    ) -> SourceId {
        let name = (identity, Box::from(label));
        let name = if self.by_name.contains_key(&name) || self.count(identity) < limits::LOG_SOURCES {
            name
        } else {
            (identity, Box::from("~other"))
        };
        if let Some(&id) = self.by_name.get(&name) {
            if let Some(source) = self.all.get_mut(&id) {
                source.pipeline.set_format(format);
            }
            return id;
        }
        let saved = self.saved.remove(&(Box::from(container), name.1.clone()));
        let patterns = match saved {
            Some(text) => Patterns::restore(self.caps, &text, now_ns / 1_000_000_000),
            None => Patterns::new(self.caps),
        };
        let mut pipeline = Pipeline::with_patterns(format, patterns);
        pipeline.freeze(self.is_frozen);
        let source = Source { label: name.1.clone(), identity, pipeline };
        self.last += 1;
        self.all.insert(self.last, Box::new(source));
        self.by_name.insert(name, self.last);
        self.last
    }

    fn count(&self, identity: IdentityId) -> usize {
        let first = (identity, Box::from(""));
        self.by_name.range(first..).take_while(|((known, _), _)| *known == identity).count()
    }

    /// The source of a container that journald has the messages of.
    pub fn of_journal(&mut self, identity: IdentityId, container: &str, now_ns: MonotonicNs) -> SourceId {
        if let Some(&id) = self.journals.get(&identity) {
            return id;
        }
        let id = self.of(identity, container, "journald", &plain::FORMAT, now_ns);
        self.journals.insert(identity, id);
        id
    }

    /// The pipeline of a source.
    pub fn pipeline(&mut self, id: SourceId) -> Option<&mut Pipeline> {
        self.all.get_mut(&id).map(|source| &mut source.pipeline)
    }

    /// All of them, by container and label.
    pub fn iter(&self) -> impl Iterator<Item = &Source> {
        self.by_name.values().filter_map(|id| self.get(*id))
    }

    /// A source.
    pub fn get(&self, id: SourceId) -> Option<&Source> {
        self.all.get(&id).map(Box::as_ref)
    }

    /// Ends messages that wait for more lines.
    pub fn flush(&mut self, now_ns: MonotonicNs) {
        self.all.values_mut().for_each(|source| source.pipeline.flush(now_ns));
    }

    /// Looks how much memory patterns take; true when it is so much that no more are learned.
    pub fn weigh(&mut self) -> bool {
        self.bytes = self.iter().map(|source| source.pipeline.bytes()).sum();
        let limit =
            if self.is_frozen { limits::LOG_PATTERN_BYTES / 10 * 9 } else { limits::LOG_PATTERN_BYTES };
        let is_frozen = self.bytes >= limit;
        if is_frozen != self.is_frozen {
            self.is_frozen = is_frozen;
            self.all.values_mut().for_each(|source| source.pipeline.freeze(is_frozen));
        }
        is_frozen
    }

    /// Forgets the sources of a container.
    pub fn end(&mut self, identity: IdentityId) {
        let first = (identity, Box::from(""));
        while let Some((name, &id)) = self.by_name.range(first.clone()..).next() {
            if name.0 != identity {
                break;
            }
            let name = name.clone();
            self.by_name.remove(&name);
            self.all.remove(&id);
        }
        self.journals.remove(&identity);
    }

    /// What an earlier life has left and nobody asked for.
    pub fn saved(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.saved.iter().map(|((container, label), text)| (&**container, &**label, &**text))
    }

    /// Forgets what an earlier life has left.
    pub fn forget_saved(&mut self) {
        self.saved = HashMap::new();
    }
}
