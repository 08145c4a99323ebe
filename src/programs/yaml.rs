//! YAML text to a tree whose nodes know where they stand, with aliases and merge keys resolved.
//!
//! What is read is bounded: bytes, depth, and values after aliases are replaced. The parser underneath keeps its state on
//! the heap, so depth costs no stack.

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

use std::collections::BTreeMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, StrInput, Tag};

use super::config::Mark;
use super::scalar::Scalar;
use crate::limits;

/// How deep values may nest; configs need 8.
const MAX_DEPTH: usize = 64;

/// Bytes of text that count as one more value.
const BYTES_PER_VALUE: usize = 16;

/// A document.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its one value.
    pub root: Node,
    /// What was read although it is probably not meant.
    pub notes: Vec<Remark>,
}

/// Something about a place in the text: why it cannot be read, or what is odd about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// The place.
    pub mark: Mark,
    /// What is wrong with it.
    pub message: String,
}

/// A value and where it begins. What an alias stands for is where the anchor is.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub mark: Mark,
    /// What it is.
    pub value: Value,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text that may mean a number.
    Scalar(Scalar),
    /// A list.
    Sequence(Vec<Node>),
    /// A mapping, without repeated keys.
    Mapping(Vec<Pair>),
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// The key's source text.
    pub key: Box<str>,
    /// Where the key is.
    pub mark: Mark,
    /// The value.
    pub value: Node,
}

impl Node {
    /// An empty value, or a word for one.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.is_null())
    }

    /// What it is, for messages.
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Sequence(_) => "a list".to_owned(),
            Value::Mapping(_) => "a mapping".to_owned(),
            Value::Scalar(scalar) => scalar.describe(),
        }
    }
}

/// Reads the first document of `text`.
///
/// # Errors
/// When it is no YAML, or too big; the message says what was expected.
pub fn parse(text: &[u8]) -> Result<Document, Remark> {
    if text.len() > limits::CONFIG_BYTES {
        return Err(remark(START, format!("too big: expected at most {} bytes", limits::CONFIG_BYTES)));
    }
    let text = std::str::from_utf8(text).map_err(|error| not_text(text, error.valid_up_to()))?;
    let mut builder = Builder::default();
    match builder.read(&mut Parser::new_from_str(text)) {
        Ok(root) => Ok(Document { root, notes: builder.notes }),
        Err(stop) => Err(explain(stop, text)),
    }
}

const START: Mark = Mark { line: 1, column: 1 };

/// Where the text stops being UTF-8.
fn not_text(text: &[u8], valid: usize) -> Remark {
    let before = String::from_utf8_lossy(text.get(..valid).unwrap_or_default());
    let line = before.matches('\n').count();
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
    let byte = text.get(valid).copied().unwrap_or_default();
    let mark = Mark { line: narrow(line.saturating_add(1)), column: narrow(column.saturating_add(1)) };
    remark(mark, format!("not UTF-8: expected text, found the byte 0x{byte:02x}"))
}

/// Points at a tab that YAML is not indented with; the parser names the value in front of it.
fn explain(stop: Remark, text: &str) -> Remark {
    let first = (stop.mark.line as usize).saturating_sub(1);
    let is_about_tabs = stop.message.contains("tab");
    for (at, line) in text.lines().enumerate().skip(first).take(if is_about_tabs { usize::MAX } else { 1 }) {
        let indent = line.find(|c| c != ' ').unwrap_or_default();
        if line.get(indent..).is_some_and(|rest| rest.starts_with('\t')) {
            let mark = Mark { line: narrow(at.saturating_add(1)), column: narrow(indent.saturating_add(1)) };
            return remark(mark, "not valid YAML: expected spaces, found a tab".to_owned());
        }
    }
    stop
}

fn remark(mark: Mark, message: String) -> Remark {
    Remark { mark, message }
}

fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn mark_of(marker: Marker) -> Mark {
    Mark { line: narrow(marker.line()), column: narrow(marker.col().saturating_add(1)) }
}

impl From<ScanError> for Remark {
    fn from(error: ScanError) -> Remark {
        remark(mark_of(*error.marker()), format!("not valid YAML: {}", error.info()))
    }
}

/// A list or a mapping that has not ended yet.
struct Open {
    mark: Mark,
    anchor: usize,
    kind: Unfinished,
}

enum Unfinished {
    Sequence(Vec<Node>),
    /// With a key that waits for its value.
    Mapping(Vec<(Node, Node)>, Option<Node>),
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    /// What is anchored, by the parser's number for it; what has not ended yet is not here.
    anchored: BTreeMap<usize, Node>,
    /// See [`limits::CONFIG_VALUES`].
    weight: usize,
    notes: Vec<Remark>,
}

impl Builder {
    fn read(&mut self, parser: &mut Parser<'_, StrInput<'_>>) -> Result<Node, Remark> {
        loop {
            let Some(next) = parser.next_event() else { return Err(nothing()) };
            let (event, span) = next?;
            let mark = mark_of(span.start);
            let done = match event {
                Event::StreamEnd => return Err(nothing()),
                Event::Alias(anchor) => self.alias(anchor, mark)?,
                Event::Scalar(text, style, anchor, tag) => {
                    let plain = is_plain(style, tag.as_deref());
                    let scalar = Scalar { source: text.into(), plain };
                    self.anchor(anchor, Node { mark, value: Value::Scalar(scalar) })?
                }
                Event::SequenceStart(anchor, _) => {
                    self.begin(mark, anchor, Unfinished::Sequence(Vec::new()))?;
                    continue;
                }
                Event::MappingStart(anchor, _) => {
                    self.begin(mark, anchor, Unfinished::Mapping(Vec::new(), None))?;
                    continue;
                }
                Event::SequenceEnd | Event::MappingEnd => self.end()?,
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {
                    continue;
                }
            };
            if let Some(root) = self.place(done) {
                return self.finish(parser).map(|()| root);
            }
        }
    }

    /// Only the first document counts, and who wrote more should know.
    fn finish(&mut self, parser: &mut Parser<'_, StrInput<'_>>) -> Result<(), Remark> {
        // The end of the document; errors in front of it are its own.
        parser.next_event().transpose()?;
        let mut rest = match parser.next_event() {
            Some(Ok((Event::DocumentStart(_), span))) => {
                remark(mark_of(span.start), "a second one".to_owned())
            }
            Some(Err(error)) => error.into(),
            _ => return Ok(()),
        };
        rest.message.insert_str(0, "only the first document is read, and here is more: ");
        self.notes.push(rest);
        Ok(())
    }

    fn begin(&mut self, mark: Mark, anchor: usize, kind: Unfinished) -> Result<(), Remark> {
        self.deepen(mark, 1)?;
        self.open.push(Open { mark, anchor, kind });
        Ok(())
    }

    fn deepen(&self, mark: Mark, height: usize) -> Result<(), Remark> {
        if self.open.len().saturating_add(height) <= MAX_DEPTH {
            return Ok(());
        }
        Err(remark(mark, format!("too deep: expected at most {MAX_DEPTH} levels of lists and mappings")))
    }

    fn spend(&mut self, mark: Mark, weight: usize) -> Result<(), Remark> {
        self.weight = self.weight.saturating_add(weight);
        if self.weight <= limits::CONFIG_VALUES {
            return Ok(());
        }
        let most = limits::CONFIG_VALUES;
        Err(remark(mark, format!("too big: expected at most {most} values with what aliases stand for")))
    }

    fn end(&mut self) -> Result<Node, Remark> {
        let Some(Open { mark, anchor, kind }) = self.open.pop() else { return Err(nothing()) };
        let value = match kind {
            Unfinished::Sequence(nodes) => Value::Sequence(nodes),
            Unfinished::Mapping(pairs, _) => Value::Mapping(self.mapping(pairs)?),
        };
        self.anchor(anchor, Node { mark, value })
    }

    /// Counts a finished node, and keeps a copy if it has an anchor.
    fn anchor(&mut self, anchor: usize, node: Node) -> Result<Node, Remark> {
        let own = match &node.value {
            Value::Scalar(scalar) => weight_of_text(&scalar.source),
            _ => 1,
        };
        self.spend(node.mark, own)?;
        if anchor != 0 {
            self.spend(node.mark, measure(&node).0)?;
            self.anchored.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, anchor: usize, mark: Mark) -> Result<Node, Remark> {
        let Some(node) = self.anchored.get(&anchor) else {
            return Err(remark(mark, "the alias stands for something that contains it".to_owned()));
        };
        let node = node.clone();
        let (weight, height) = measure(&node);
        self.spend(mark, weight)?;
        self.deepen(mark, height)?;
        Ok(node)
    }

    /// Puts a finished node where it belongs; gives it back if it belongs nowhere, being the root.
    fn place(&mut self, node: Node) -> Option<Node> {
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => return Some(node),
            Some(Unfinished::Sequence(nodes)) => nodes.push(node),
            Some(Unfinished::Mapping(pairs, key)) => match key.take() {
                None => *key = Some(node),
                Some(key) => pairs.push((key, node)),
            },
        }
        None
    }

    /// Merges what `<<` names below the mapping's own keys; of a key that is there twice the last one counts.
    fn mapping(&mut self, given: Vec<(Node, Node)>) -> Result<Vec<Pair>, Remark> {
        let (mut pairs, mut own) = (Vec::new(), Vec::new());
        for (key, value) in given {
            match key.value {
                Value::Scalar(Scalar { source, plain: true }) if &*source == "<<" => {
                    merge(value, &mut pairs)?
                }
                Value::Scalar(scalar) => own.push(Pair { key: scalar.text().into(), mark: key.mark, value }),
                _ => {
                    return Err(remark(
                        key.mark,
                        format!("expected text as a key, found {}", key.describe()),
                    ));
                }
            }
        }
        let merged = pairs.len();
        pairs.append(&mut own);
        let mut unused = vec![false; pairs.len()];
        for (earlier, later) in repeated(&pairs) {
            if let Some(flag) = unused.get_mut(earlier) {
                *flag = true;
            }
            if let (true, Some(first), Some(last)) = (earlier >= merged, pairs.get(earlier), pairs.get(later))
            {
                let message = format!(
                    "the key {:?} was given in line {} already; the last one counts",
                    last.key, first.mark.line
                );
                self.notes.push(remark(last.mark, message));
            }
        }
        let mut unused = unused.into_iter();
        pairs.retain(|_| !unused.next().unwrap_or_default());
        Ok(pairs)
    }
}

/// Appends the pairs of a mapping, or those of a list of mappings, of which an earlier one counts more.
fn merge(from: Node, pairs: &mut Vec<Pair>) -> Result<(), Remark> {
    match from.value {
        Value::Mapping(mut more) => pairs.append(&mut more),
        Value::Sequence(nodes) if nodes.iter().all(|node| matches!(node.value, Value::Mapping(_))) => {
            for node in nodes.into_iter().rev() {
                merge(node, pairs)?;
            }
        }
        _ => {
            let found = from.describe();
            return Err(remark(
                from.mark,
                format!("<<: expected a mapping or a list of mappings, found {found}"),
            ));
        }
    }
    Ok(())
}

/// Pairs of places of which the second repeats the key of the first.
fn repeated(pairs: &[Pair]) -> Vec<(usize, usize)> {
    let mut order: Vec<(&str, usize)> = pairs.iter().enumerate().map(|(at, pair)| (&*pair.key, at)).collect();
    order.sort_unstable();
    let neighbours = order.iter().zip(order.iter().skip(1));
    neighbours
        .filter(|(first, second)| first.0 == second.0)
        .map(|(first, second)| (first.1, second.1))
        .collect()
}

/// An explicit tag overrides quotes: `!!str 5` is text, `!!int "5"` is a number.
fn is_plain(style: ScalarStyle, tag: Option<&Tag>) -> bool {
    match tag {
        None => style == ScalarStyle::Plain,
        Some(tag) => {
            tag.is_yaml_core_schema() && matches!(tag.suffix.as_str(), "int" | "float" | "bool" | "null")
        }
    }
}

fn nothing() -> Remark {
    remark(START, "EOF: expected a mapping with metrics, found nothing".to_owned())
}

fn weight_of_text(text: &str) -> usize {
    (text.len() / BYTES_PER_VALUE).saturating_add(1)
}

/// The weight and the height of a node with all that is in it.
fn measure(node: &Node) -> (usize, usize) {
    let (mut weight, mut height) = (1_usize, 0_usize);
    let mut add = |key: usize, child: &Node| {
        let (more, below) = measure(child);
        weight = weight.saturating_add(key).saturating_add(more);
        height = height.max(below);
    };
    match &node.value {
        Value::Scalar(scalar) => return (weight_of_text(&scalar.source), 0),
        Value::Sequence(nodes) => nodes.iter().for_each(|child| add(0, child)),
        Value::Mapping(pairs) => pairs.iter().for_each(|pair| add(weight_of_text(&pair.key), &pair.value)),
    }
    (weight, height.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(text: &str) -> Value {
        parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error:?} in {text:?}")).root.value
    }

    /// The tree in one line: texts with `'` when they are not plain.
    fn shape(value: &Value) -> String {
        let join = |parts: Vec<String>| parts.join(" ");
        match value {
            Value::Scalar(Scalar { source, plain }) => format!("{}{source}", if *plain { "" } else { "'" }),
            Value::Sequence(nodes) => {
                format!("[{}]", join(nodes.iter().map(|node| shape(&node.value)).collect()))
            }
            Value::Mapping(pairs) => {
                let pairs = pairs.iter().map(|pair| format!("{}={}", pair.key, shape(&pair.value.value)));
                format!("{{{}}}", join(pairs.collect()))
            }
        }
    }

    fn error(text: &[u8]) -> (u32, u32, String) {
        match parse(text) {
            Ok(document) => panic!("{:?} was read as {document:?}", String::from_utf8_lossy(text)),
            Err(Remark { mark, message }) => (mark.line, mark.column, message),
        }
    }

    #[test]
    fn trees_are_what_the_text_says() {
        for (text, expected) in [
            ("a: 1\nb:\n  - x\n  - 'y'\n", "{a=1 b=[x 'y]}"),
            ("a:\n- x\n-\n- ~\n", "{a=[x  ~]}"),
            ("{a: [1, {b: c}], \"d\": e,}", "{a=[1 {b=c}] d=e}"),
            ("\u{feff}a: 1", "{a=1}"),
            ("a: 1\r\nb: 2\r\n", "{a=1 b=2}"),
            ("# c\n--- # c\na: 1 # c\n...\n", "{a=1}"),
            ("%YAML 1.1\n---\na: 1", "{a=1}"),
            ("a: |\n  one\n  two\nb: >\n  one\n  two\n", "{a='one\ntwo\n b='one two\n}"),
            ("a: one\n  two", "{a=one two}"),
            ("a: !!str 5\nb: !!int '5'\nc: !own 5\nd: ! 5", "{a='5 b=5 c='5 d='5}"),
            ("~: a\n'~': b", "{=a ~=b}"),
            ("a: &x [1]\nb: *x\nc: &x 2\nd: *x", "{a=[1] b=[1] c=2 d=2}"),
            ("---\n", ""),
            ("'\\x41 \"'", "'\\x41 \""),
            (r#""\x41\u00e9\t""#, "'A\u{e9}\t"),
        ] {
            assert_eq!(shape(&root(text)), expected, "{text:?}");
        }
    }

    #[test]
    fn merge_keys_stand_below_own_keys() {
        for (text, expected) in [
            ("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}", "{a={x=1 y=2} b={x=1 y=3}}"),
            ("a: &a {x: 1, y: 2}\nb: {y: 3, <<: *a}", "{a={x=1 y=2} b={x=1 y=3}}"),
            ("b: {<<: [{x: 1}, {x: 2, y: 2}]}", "{b={y=2 x=1}}"),
            ("b: {'<<': {x: 1}}", "{b={<<={x=1}}}"),
        ] {
            let document = parse(text.as_bytes()).unwrap();
            assert_eq!(shape(&document.root.value), expected, "{text:?}");
            assert_eq!(document.notes, [], "{text:?}");
        }
        assert!(error(b"a: {<<: 1}").2.contains("<<: expected a mapping"));
    }

    #[test]
    fn of_repeated_keys_the_last_one_counts_and_it_is_noted() {
        let document = parse(b"a: 1\nb: 2\na: 3\na: 4\n").unwrap();
        assert_eq!(shape(&document.root.value), "{b=2 a=4}");
        let notes: Vec<_> = document.notes.iter().map(|note| (note.mark.line, &*note.message)).collect();
        let text = |line| format!("the key \"a\" was given in line {line} already; the last one counts");
        assert_eq!(notes, [(3, &*text(1)), (4, &*text(3))]);
    }

    #[test]
    fn only_the_first_document_is_read() {
        for (text, mark) in [("a: 1\n---\nb: 2\n", 2), ("{a: 1}\nb\n", 2), ("a: 1\n...\nb: 2\n", 3)] {
            let document = parse(text.as_bytes()).unwrap();
            assert_eq!(shape(&document.root.value), "{a=1}", "{text:?}");
            assert_eq!(document.notes.len(), 1, "{text:?}");
            assert!(document.notes[0].message.starts_with("only the first document"), "{text:?}");
            assert_eq!(document.notes[0].mark.line, mark, "{text:?}");
        }
    }

    #[test]
    fn marks_are_lines_and_columns_from_one() {
        let Value::Mapping(pairs) = root("# c\n\u{e9}a: b\n  \nc:\n  - d: [e]\n") else { panic!() };
        let at = |mark: Mark| (mark.line, mark.column);
        assert_eq!((at(pairs[0].mark), at(pairs[0].value.mark)), ((2, 1), (2, 5)));
        let Value::Sequence(items) = &pairs[1].value.value else { panic!() };
        assert_eq!((at(pairs[1].value.mark), at(items[0].mark)), ((5, 3), (5, 5)));
        let Value::Mapping(inner) = &items[0].value else { panic!() };
        assert_eq!((at(inner[0].mark), at(inner[0].value.mark)), ((5, 5), (5, 8)));
    }

    #[test]
    fn what_is_no_yaml_is_refused_with_its_place() {
        #[rustfmt::skip]
        let table: &[(&[u8], u32, u32, &str)] = &[
            (b"", 1, 1, "EOF"),
            (b"# only a comment\n", 1, 1, "EOF"),
            (b"\xef\xbb\xbf", 1, 1, "EOF"),
            (b"a: 1\nb: \xff\n", 2, 4, "0xff"),
            (b"a:\n\tb: 1\n", 2, 1, "tab"),
            (b"a: b\n \tc: 1\n", 2, 2, "tab"),
            (b"a: [1\nb: 2\n", 2, 2, "not valid YAML"),
            (b"a: b: c\n", 1, 5, "not valid YAML"),
            (b"a: 1\n b: 2\n", 2, 3, "not valid YAML"),
            (b"a: 'x\n", 1, 4, "not valid YAML"),
            (b"a: *x\n", 1, 4, "unknown anchor"),
            (b"a: &x [*x]\n", 1, 8, "contains it"),
            (b"a: \x00\n", 1, 4, "not valid YAML"),
            (b"? [a]\n: b\n", 1, 3, "as a key"),
            (b"a: @b\n", 1, 4, "not valid YAML"),
            (b"a: \"\\q\"\n", 1, 4, "escape"),
        ];
        for &(text, line, column, word) in table {
            let (found_line, found_column, message) = error(text);
            let shown = String::from_utf8_lossy(text);
            assert!(message.contains(word), "{shown:?}: {message}");
            assert_eq!((found_line, found_column), (line, column), "{shown:?}: {message}");
        }
    }

    #[test]
    fn depth_size_and_aliases_are_bounded() {
        let mut laughs = "a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]\n".to_owned();
        for level in 1..20 {
            let above = format!("*a{}, ", level - 1).repeat(9);
            laughs.push_str(&format!("a{level}: &a{level} [{above}]\n"));
        }
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let mut ladder = format!("a0: &a0 {}\n", deep(40));
        ladder.push_str("a1: [[[[[[[[[[[[[[[[[[[[[[[[[*a0]]]]]]]]]]]]]]]]]]]]]]]]]\n");
        let long = format!("a: &a \"{}\"\nb: [{}]", "x".repeat(50_000), "*a,".repeat(1_000));
        for (text, word) in [
            (laughs, "too big"),
            (ladder, "too deep"),
            (long, "too big"),
            (deep(65), "too deep"),
            (deep(300), "not valid YAML"),
            ("- ".repeat(10_000), "too deep"),
            ("? ".repeat(10_000), "too deep"),
            (" ".repeat(limits::CONFIG_BYTES + 1), "too big"),
        ] {
            let message = error(text.as_bytes()).2;
            assert!(message.contains(word), "{message}");
        }
        root(&deep(MAX_DEPTH));
    }

    #[test]
    fn damaged_text_neither_panics_nor_hangs() {
        let sample = b"%YAML 1.1\n---\na: &x [1, 'b', \"c\\u0041\", {d: e}]\n? f\n: |2-\n    g\n<<: [{h: *x}]\ni: !!str >+\n  j\n...\n";
        crate::procfs::fuzz::hammer(sample, |bytes| drop(parse(bytes)));
    }
}
