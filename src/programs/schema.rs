//! The keys of a config file: one table, from which files are checked and a JSON schema for editors is printed.
//!
//! A new key is a row here, and a line where [`super::parse`] takes its value.

use std::fmt::{self, Display, Formatter};

use crate::json::write_string;
use crate::limits;

/// A mapping with known keys.
#[derive(Debug)]
pub struct Object {
    /// What it is called in messages and in the schema.
    pub name: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
}

/// A key.
#[derive(Debug)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What its value is.
    pub kind: Type,
    /// Neither absent nor empty.
    pub required: bool,
    /// What it is for, without a full stop.
    pub help: &'static str,
}

/// What a value is.
#[derive(Debug)]
pub enum Type {
    /// Text; a number is its source text.
    Text,
    /// A boolean.
    Switch,
    /// An integer from the first to the second.
    Whole(i64, i64),
    /// A number.
    Real,
    /// Text as Go reads it, or nanoseconds.
    Duration,
    /// One of these words.
    Word(&'static [&'static str]),
    /// The name of a decoder.
    Decoder,
    /// A list of texts.
    Texts,
    /// A list of numbers.
    Reals,
    /// A mapping of texts to texts.
    Map,
    /// A mapping.
    Object(&'static Object),
    /// A list of mappings.
    Objects(&'static Object),
    /// Nobody looks at it.
    Anything,
}

/// Beyond it not every integer is a float.
const EXACT: i64 = 1 << 53;

pub(crate) const fn required(name: &'static str, kind: Type, help: &'static str) -> Key {
    Key { name, kind, required: true, help }
}

pub(crate) const fn optional(name: &'static str, kind: Type, help: &'static str) -> Key {
    Key { name, kind, required: false, help }
}

const METRIC_NAME: Key =
    required("name", Type::Text, "the name of the BPF map; the metric is called ebpf_exporter_NAME");
const METRIC_HELP: Key = required("help", Type::Text, "what the metric counts, in a sentence");
const METRIC_LABELS: Key =
    optional("labels", Type::Objects(&LABEL), "how the map's key becomes labels, in the order of its bytes");

/// A file.
pub static CONFIG: Object = Object {
    name: "config",
    keys: &[
        optional("metrics", Type::Object(&METRICS), "what is exported"),
        optional("tracing", Type::Object(&TRACING), "spans; they are not exported"),
        optional("kaddrs", Type::Texts, "kernel symbols whose addresses the variables kaddr_SYMBOL get"),
        optional(
            "cgroup_id_map",
            Type::Object(&CGROUP_ID_MAP),
            "a map that is kept filled with ids of cgroups",
        ),
        optional("name", Type::Text, "without effect: a config is named for its file"),
        optional(
            "perf_events",
            Type::Anything,
            "without effect: programs are attached as their sections say",
        ),
    ],
};

/// `metrics`.
pub static METRICS: Object = Object {
    name: "metrics",
    keys: &[
        optional("counters", Type::Objects(&COUNTER), "numbers that only grow"),
        optional("gauges", Type::Objects(&GAUGE), "numbers that go up and down; ebpf_exporter has none"),
        optional("histograms", Type::Objects(&HISTOGRAM), "counts per bucket"),
    ],
};

/// One of `metrics.counters`.
pub static COUNTER: Object = Object {
    name: "counter",
    keys: &[
        METRIC_NAME,
        METRIC_HELP,
        optional("perf_event_array", Type::Switch, "the map is a perf event array; every event counts one"),
        optional(
            "flush_interval",
            Type::Duration,
            "when a series without events ends, for perf_event_array; 1h",
        ),
        METRIC_LABELS,
    ],
};

/// One of `metrics.gauges`.
pub static GAUGE: Object = Object { name: "gauge", keys: &[METRIC_NAME, METRIC_HELP, METRIC_LABELS] };

/// One of `metrics.histograms`.
pub static HISTOGRAM: Object = Object {
    name: "histogram",
    keys: &[
        METRIC_NAME,
        METRIC_HELP,
        required(
            "bucket_type",
            Type::Word(BUCKET_TYPES),
            "how the number of a bucket becomes its upper bound",
        ),
        optional("bucket_multiplier", Type::Real, "by what bounds and sum are multiplied; 1"),
        optional("bucket_min", Type::Whole(0, EXACT), "the first bucket; 0"),
        optional("bucket_max", Type::Whole(0, EXACT), "the last bucket; the one behind it is the sum"),
        optional(
            "bucket_keys",
            Type::Reals,
            "the buckets of bucket_type fixed; the one behind the last is the sum",
        ),
        required(
            "labels",
            Type::Objects(&LABEL),
            "how the map's key becomes labels; the last one is the bucket",
        ),
    ],
};

/// `bucket_type`.
pub const BUCKET_TYPES: &[&str] = &["exp2", "exp2zero", "linear", "fixed"];

/// One of `labels`.
pub static LABEL: Object = Object {
    name: "label",
    keys: &[
        required("name", Type::Text, "the label's name"),
        required("size", Type::Whole(1, limits::MAP_KEY_BYTES), "bytes of the key"),
        optional("padding", Type::Whole(0, limits::MAP_KEY_BYTES), "bytes behind them that mean nothing; 0"),
        required("decoders", Type::Objects(&DECODER), "what turns the bytes into text, one after the other"),
    ],
};

/// One of `decoders`.
pub static DECODER: Object = Object {
    name: "decoder",
    keys: &[
        required("name", Type::Decoder, "which decoder"),
        optional("static_map", Type::Map, "for static_map: from what to what"),
        optional("regexps", Type::Texts, "for regexp: regular expressions, tried in this order"),
        optional("allow_unknown", Type::Switch, "for static_map: what is not in it stays as it is"),
    ],
};

/// `cgroup_id_map`.
pub static CGROUP_ID_MAP: Object = Object {
    name: "cgroup_id_map",
    keys: &[
        optional("name", Type::Text, "the name of the BPF map; without one there is nothing to fill"),
        optional("type", Type::Word(CGROUP_ID_MAP_TYPES), "what it is keyed by; hash"),
        optional(
            "regexps",
            Type::Texts,
            "a cgroup whose full path one of these regular expressions matches is in",
        ),
    ],
};

/// `cgroup_id_map.type`.
pub const CGROUP_ID_MAP_TYPES: &[&str] = &["hash", "cgrp_storage"];

/// `tracing`.
pub static TRACING: Object = Object {
    name: "tracing",
    keys: &[optional("spans", Type::Objects(&SPAN), "spans from ring buffers; they are not exported")],
};

/// One of `tracing.spans`.
pub static SPAN: Object = Object {
    name: "span",
    keys: &[
        required("ringbuf", Type::Text, "the name of the ring buffer"),
        optional("name", Type::Text, "the span's name; that of the ring buffer"),
        optional("service", Type::Text, "the service's name"),
        optional(
            "labels",
            Type::Objects(&LABEL),
            "how a record becomes attributes, in the order of its bytes",
        ),
    ],
};

/// In the order of the schema's definitions.
static OBJECTS: &[&Object] =
    &[&CONFIG, &METRICS, &COUNTER, &GAUGE, &HISTOGRAM, &LABEL, &DECODER, &CGROUP_ID_MAP, &TRACING, &SPAN];

impl Object {
    /// The row of a key.
    pub fn key(&'static self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The names of its keys.
    pub fn names(&'static self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.name)
    }
}

/// What is expected, for messages.
impl Display for Type {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Type::Whole(least, most) => return write!(out, "a whole number from {least} to {most}"),
            Type::Word(words) => {
                out.write_str("one of ")?;
                return out.write_str(&words.join(", "));
            }
            Type::Object(object) => {
                out.write_str("a mapping with ")?;
                return out.write_str(&object.names().collect::<Vec<_>>().join(", "));
            }
            Type::Text | Type::Decoder => "text",
            Type::Switch => "true or false",
            Type::Real => "a number",
            Type::Duration => "a duration such as 30s, 5m or 1h30m",
            Type::Texts => "a list of texts",
            Type::Reals => "a list of numbers",
            Type::Map => "a mapping of texts to texts",
            Type::Objects(object) => return write!(out, "a list of mappings, one per {}", object.name),
            Type::Anything => "anything",
        })
    }
}

/// A JSON schema (draft 7, which editors know) of config files; `decoders` are the names of the known ones.
pub fn schema(decoders: &[&str]) -> String {
    let mut out = Writer { text: Vec::new(), decoders };
    out.put("{\n  \"$schema\": \"http://json-schema.org/draft-07/schema#\",\n  \"title\": ");
    out.string("nodeprobe eBPF config");
    out.put(",\n  \"allOf\": [{\"$ref\": \"#/definitions/config\"}],\n  \"definitions\": {");
    out.list(OBJECTS, |out, object| out.object(object));
    out.put("\n  }\n}\n");
    String::from_utf8(out.text).unwrap_or_default()
}

struct Writer<'a> {
    text: Vec<u8>,
    decoders: &'a [&'a str],
}

impl Writer<'_> {
    fn put(&mut self, text: &str) {
        self.text.extend(text.as_bytes());
    }

    fn string(&mut self, text: &str) {
        write_string(&mut self.text, text);
    }

    /// `items` with commas between them.
    fn list<T>(&mut self, items: &[T], write: impl Fn(&mut Self, &T)) {
        for (at, item) in items.iter().enumerate() {
            self.put(if at == 0 { "" } else { "," });
            write(self, item);
        }
    }

    fn strings(&mut self, key: &str, texts: &[&str]) {
        self.put(", ");
        self.string(key);
        self.put(": [");
        self.list(texts, |out, text| out.string(text));
        self.put("]");
    }

    fn object(&mut self, object: &Object) {
        self.put("\n    ");
        self.string(object.name);
        self.put(": {\"type\": \"object\", \"additionalProperties\": false");
        let required: Vec<&str> = object.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
        if !required.is_empty() {
            self.strings("required", &required);
        }
        self.put(", \"properties\": {");
        self.list(object.keys, |out, key| out.key(key));
        self.put("\n    }}");
    }

    fn key(&mut self, key: &Key) {
        self.put("\n      ");
        self.string(key.name);
        self.put(": {\"description\": ");
        self.string(key.help);
        self.kind(&key.kind);
        self.put(match (key.required, &key.kind) {
            (true, Type::Text) => ", \"minLength\": 1",
            (true, Type::Objects(_) | Type::Texts) => ", \"minItems\": 1",
            _ => "",
        });
        self.put("}");
    }

    fn kind(&mut self, kind: &Type) {
        match kind {
            Type::Whole(least, most) => self.put(&format!(", \"type\": \"integer\", \"minimum\": {least}, \"maximum\": {most}")),
            Type::Word(words) => self.strings("enum", words),
            Type::Decoder => self.strings("enum", self.decoders),
            // In draft 7 nothing beside a $ref counts, hence allOf.
            Type::Object(object) => self.put(&format!(", \"allOf\": [{{\"$ref\": \"#/definitions/{}\"}}]", object.name)),
            Type::Objects(object) => {
                self.put(&format!(", \"type\": \"array\", \"items\": {{\"$ref\": \"#/definitions/{}\"}}", object.name));
            }
            Type::Text => self.put(", \"type\": \"string\""),
            Type::Switch => self.put(", \"type\": \"boolean\""),
            Type::Real => self.put(", \"type\": \"number\""),
            Type::Duration => self.put(", \"type\": [\"string\", \"integer\"]"),
            Type::Texts => self.put(", \"type\": \"array\", \"items\": {\"type\": \"string\"}"),
            Type::Reals => self.put(", \"type\": \"array\", \"items\": {\"type\": \"number\"}"),
            Type::Map => self.put(
                ", \"type\": \"object\", \"additionalProperties\": {\"type\": [\"string\", \"number\", \"boolean\", \"null\"]}",
            ),
            Type::Anything => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Json;

    /// The strings of a list, or the keys of an object, behind `path`.
    fn names(text: &str, path: &[&str]) -> Vec<String> {
        let (mut json, mut word, mut found) = (Json::new(text.as_bytes()), String::new(), Vec::new());
        for step in path {
            json.begin_object().unwrap();
            while json.next_key(&mut word).unwrap() && word != *step {
                json.skip().unwrap();
            }
        }
        if json.array_or_skip().unwrap() {
            while json.next_element().unwrap() {
                json.string(&mut word).unwrap();
                found.push(word.clone());
            }
        }
        found
    }

    #[test]
    fn the_schema_is_json_and_names_every_key() {
        let text = schema(&["uint", "static_map"]);
        let mut json = Json::new(text.as_bytes());
        json.skip().unwrap_or_else(|error| panic!("{error}\n{text}"));
        json.end().unwrap();
        for object in OBJECTS {
            assert!(
                text.contains(&format!("\"{}\": {{\"type\": \"object\"", object.name)),
                "{}",
                object.name
            );
            for key in object.keys {
                assert!(text.contains(&format!("\"{}\": {{\"description\"", key.name)), "{}", key.name);
            }
        }
        let found = names(&text, &["definitions", "decoder", "properties", "name", "enum"]);
        assert_eq!(found, ["uint", "static_map"]);
        assert_eq!(names(&text, &["definitions", "label", "required"]), ["name", "size", "decoders"]);
    }

    #[test]
    fn every_object_is_defined_and_every_key_explained_once() {
        for object in OBJECTS {
            let mut names: Vec<_> = object.names().collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), object.keys.len(), "{}", object.name);
            for key in object.keys {
                assert!(!key.help.is_empty() && !key.help.ends_with('.'), "{}", key.name);
                if let Type::Object(inner) | Type::Objects(inner) = &key.kind {
                    assert!(OBJECTS.iter().any(|known| known.name == inner.name), "{}", inner.name);
                }
            }
        }
    }
}
