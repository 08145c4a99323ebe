//! JSON as a tree: written for Grafana, and read again to see what is in the files.

use nodeprobe::json::{Json, Kind, write_string};

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    Null,
    Bool(bool),
    /// As it is written.
    Number(String),
    Text(String),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

impl From<&str> for Tree {
    fn from(text: &str) -> Tree {
        Tree::Text(text.to_owned())
    }
}

impl From<String> for Tree {
    fn from(text: String) -> Tree {
        Tree::Text(text)
    }
}

impl From<bool> for Tree {
    fn from(value: bool) -> Tree {
        Tree::Bool(value)
    }
}

impl From<f64> for Tree {
    fn from(value: f64) -> Tree {
        Tree::Number(value.to_string())
    }
}

impl From<usize> for Tree {
    fn from(value: usize) -> Tree {
        Tree::Number(value.to_string())
    }
}

impl From<Vec<Tree>> for Tree {
    fn from(list: Vec<Tree>) -> Tree {
        Tree::List(list)
    }
}

impl<const N: usize> From<[Tree; N]> for Tree {
    fn from(list: [Tree; N]) -> Tree {
        Tree::List(list.into())
    }
}

/// `map! { "key": value, ... }`.
#[macro_export]
macro_rules! map {
    ($($key:literal : $value:expr),* $(,)?) => {
        $crate::json::Tree::Map(vec![$(($key.to_owned(), $crate::json::Tree::from($value))),*])
    };
}

impl Tree {
    /// The member of a mapping.
    pub fn get(&self, key: &str) -> Option<&Tree> {
        let Tree::Map(members) = self else { return None };
        members.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// The elements of a list; nothing of all else.
    pub fn list(&self) -> &[Tree] {
        if let Tree::List(list) = self { list } else { &[] }
    }

    /// The text; empty of all else.
    pub fn text(&self) -> &str {
        if let Tree::Text(text) = self { text } else { "" }
    }

    /// The number.
    pub fn number(&self) -> Option<u64> {
        if let Tree::Number(number) = self { number.parse().ok() } else { None }
    }

    /// Every text in it.
    pub fn texts<'a>(&'a self, each: &mut dyn FnMut(&'a str)) {
        match self {
            Tree::Text(text) => each(text),
            Tree::List(list) => list.iter().for_each(|value| value.texts(each)),
            Tree::Map(members) => members.iter().for_each(|(_, value)| value.texts(each)),
            _ => {}
        }
    }

    /// With two blanks for each depth, as Grafana exports it.
    pub fn write(&self, out: &mut String, depth: usize) {
        let line = |out: &mut String, depth: usize| {
            out.push('\n');
            out.push_str(&"  ".repeat(depth));
        };
        let text = |out: &mut String, text: &str| {
            let mut bytes = Vec::new();
            write_string(&mut bytes, text);
            out.push_str(std::str::from_utf8(&bytes).expect("UTF-8"));
        };
        match self {
            Tree::Null => out.push_str("null"),
            Tree::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Tree::Number(number) => out.push_str(number),
            Tree::Text(value) => text(out, value),
            Tree::List(list) if list.is_empty() => out.push_str("[]"),
            Tree::Map(members) if members.is_empty() => out.push_str("{}"),
            Tree::List(list) => {
                out.push('[');
                for (at, value) in list.iter().enumerate() {
                    out.push_str(if at > 0 { "," } else { "" });
                    line(out, depth + 1);
                    value.write(out, depth + 1);
                }
                line(out, depth);
                out.push(']');
            }
            Tree::Map(members) => {
                out.push('{');
                for (at, (key, value)) in members.iter().enumerate() {
                    out.push_str(if at > 0 { "," } else { "" });
                    line(out, depth + 1);
                    text(out, key);
                    out.push_str(": ");
                    value.write(out, depth + 1);
                }
                line(out, depth);
                out.push('}');
            }
        }
    }

    /// Reads a document.
    #[track_caller]
    pub fn read(text: &str) -> Tree {
        let mut json = Json::new(text.as_bytes());
        let tree = value(&mut json);
        json.end().expect("the end");
        tree
    }
}

fn value(json: &mut Json<'_>) -> Tree {
    let mut text = String::new();
    match json.peek().expect("a value") {
        Kind::Object => {
            json.begin_object().expect("a mapping");
            let mut members = Vec::new();
            while json.next_key(&mut text).expect("a key") {
                let key = text.clone();
                assert!(!members.iter().any(|(known, _)| *known == key), "{key} twice");
                members.push((key, value(json)));
            }
            Tree::Map(members)
        }
        Kind::Array => {
            json.begin_array().expect("a list");
            let mut list = Vec::new();
            while json.next_element().expect("an element") {
                list.push(value(json));
            }
            Tree::List(list)
        }
        Kind::String => {
            json.string(&mut text).expect("a text");
            Tree::Text(text)
        }
        Kind::Number => Tree::Number(json.number().expect("a number").to_owned()),
        Kind::Bool => Tree::Bool(json.bool().expect("true or false")),
        Kind::Null => {
            json.skip().expect("null");
            Tree::Null
        }
    }
}
