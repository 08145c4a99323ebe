//! `--container-rules`: cgroups that are containers because the user says so, and labels by the path of a cgroup.
//!
//! ```yaml
//! rules:
//!   - match: ^/system\.slice/ssh\.service/(?<job>[^/]+)
//!     id: /jobs/$job
//!     labels: {team: ops}
//! ```
//!
//! A rule is about a cgroup, and what lies below that cgroup belongs to it. So each rule is tried on `/system.slice`, then on
//! `/system.slice/ssh.service` and so on: the outermost cgroup that it matches is the container. The first rule that matches
//! one decides, before [`super::classify`] is asked. A rule with labels alone decides nothing.

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

use std::path::Path;

use regex_lite::{Captures, Regex};

use super::classify::{self, Class, Runtime};
use super::identity::{bounded, unescape};
use super::labels::check_label;
use crate::host::read_bounded;
use crate::limits;
use crate::programs::config::{Finding, Mark};
use crate::programs::fields::{Fields, Reader};
use crate::programs::schema::{Object, Type, optional, required};
use crate::programs::yaml::{self, Node, Value};
use crate::warning;

/// The longest id that a rule makes, in bytes: as long as one made of four names.
const MAX_ID: usize = 1024;

/// The file.
static FILE: Object = Object {
    name: "file of container rules",
    keys: &[required(
        "rules",
        Type::Objects(&RULE),
        "which cgroups are containers; the first that matches decides",
    )],
};

/// One of `rules`.
static RULE: Object = Object {
    name: "rule",
    keys: &[
        required("match", Type::Text, "a regular expression for the path of a cgroup"),
        optional(
            "id",
            Type::Text,
            "the container_id, with $1 or $name for what groups of match have matched",
        ),
        optional("labels", Type::Map, "labels of container_info, with $1 or $name as in id"),
        optional("ignore", Type::Switch, "true: what matches is no container"),
    ],
};

/// What users say of cgroups; nothing by default.
#[derive(Debug, Clone, Default)]
pub struct Rules(Vec<Rule>);

#[derive(Debug, Clone)]
struct Rule {
    regex: Regex,
    /// The pattern says nothing of what is behind its match: where it matches no path, it matches no beginning of that path.
    open: bool,
    verdict: Verdict,
    labels: Vec<(Box<str>, Template)>,
}

#[derive(Debug, Clone)]
enum Verdict {
    Container(Template),
    Nothing,
    /// Only labels: what the cgroup is, others say.
    Open,
}

/// A text with the numbers of groups in it.
#[derive(Debug, Clone)]
struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Group(usize),
}

impl Rules {
    /// Reads the rules of a file, and prints what is odd about them.
    ///
    /// # Errors
    /// What makes the file useless, with its place.
    pub fn load(path: &Path) -> Result<Rules, String> {
        let text = read_bounded(path, limits::CONFIG_BYTES)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let (rules, findings) = Rules::parse(&path.display().to_string(), &text);
        let fatal = findings.iter().filter(|finding| finding.fatal).count();
        findings.iter().filter(|finding| !finding.fatal).for_each(|finding| warning!("{finding}"));
        match (rules, findings.iter().find(|finding| finding.fatal)) {
            (Some(rules), None) => Ok(rules),
            (_, Some(first)) if fatal > 1 => Err(format!("{first} (and {} more)", fatal.saturating_sub(1))),
            (_, Some(first)) => Err(first.to_string()),
            (None, None) => Ok(Rules::default()),
        }
    }

    /// The rules in the text of `path`, and what is wrong with it, in the order of the file.
    pub fn parse(path: &str, text: &[u8]) -> (Option<Rules>, Vec<Finding>) {
        let mut reader = Reader { config: path, path, findings: Vec::new(), errors: 0, unused: false };
        let rules = match yaml::parse(text) {
            Ok(document) => {
                document.notes.into_iter().for_each(|note| reader.warn(note.mark, note.message));
                rules(&mut reader, &document.root)
            }
            Err(stop) => {
                reader.error(stop.mark, stop.message);
                None
            }
        };
        reader.findings.sort_by(|a, b| (a.mark, &a.message).cmp(&(b.mark, &b.message)));
        reader.findings.truncate(limits::CONFIG_FINDINGS);
        (rules, reader.findings)
    }

    /// The container that the cgroup at `path` is or belongs to, by these rules or else by the built-in ones. `id` has room for
    /// what a rule calls it.
    pub fn classify<'a>(&self, path: &'a str, id: &'a mut String) -> Option<Class<'a>> {
        if self.0.is_empty() || !classify::is_from_root(path) {
            return classify::classify(path);
        }
        for rule in &self.0 {
            let Some((root, groups)) = rule.find(path) else { continue };
            let Verdict::Container(template) = &rule.verdict else { return None };
            *id = template.fill(&groups);
            return Some(Class { runtime: Runtime::Rule, root, id });
        }
        classify::classify(path)
    }

    /// Labels for the container whose own cgroup is at `path`; of two values for one label the first stands.
    pub fn labels(&self, path: &str, mut keep: impl FnMut(&str, String)) {
        let mut decided = false;
        for rule in
            self.0.iter().filter(|rule| !rule.labels.is_empty() || !matches!(rule.verdict, Verdict::Open))
        {
            let decides = !matches!(rule.verdict, Verdict::Open);
            if decides && decided {
                continue;
            }
            let Some(groups) = rule.regex.captures(path) else { continue };
            decided |= decides;
            for (name, template) in &rule.labels {
                keep(name, template.fill(&groups));
            }
        }
    }
}

impl Rule {
    /// The outermost cgroup on the way to `path` that the rule matches, if it decides what that is.
    fn find<'a>(&self, path: &'a str) -> Option<(&'a str, Captures<'a>)> {
        if matches!(self.verdict, Verdict::Open) || self.open && !self.regex.is_match(path) {
            return None;
        }
        let ends = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0).chain([path.len()]);
        ends.filter_map(|end| path.get(..end)).find_map(|root| Some((root, self.regex.captures(root)?)))
    }
}

impl Template {
    /// Reads `text`, whose groups are those of `regex`.
    fn parse(text: &str, regex: &Regex) -> Result<Template, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('$') {
            pieces.push(Piece::Text(before.to_owned()));
            if let Some(behind) = behind.strip_prefix('$') {
                pieces.push(Piece::Text("$".to_owned()));
                rest = behind;
                continue;
            }
            let (name, behind) = match behind.strip_prefix('{').and_then(|inside| inside.split_once('}')) {
                Some(braced) => braced,
                None => {
                    let end = behind.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                    behind.split_at_checked(end.unwrap_or(behind.len())).unwrap_or_default()
                }
            };
            let number = match name.parse::<usize>() {
                Ok(number) => (number < regex.captures_len()).then_some(number),
                Err(_) => regex.capture_names().position(|known| known == Some(name)),
            };
            let missing = || format!("match has no group {name:?} (a dollar sign itself is $$)");
            pieces.push(Piece::Group(number.ok_or_else(missing)?));
            rest = behind;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        Ok(Template(pieces))
    }

    /// The text, with what the groups have matched. What comes from a path is cut, and has no control characters.
    fn fill(&self, groups: &Captures<'_>) -> String {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(own) => text.push_str(own),
                Piece::Group(number) => {
                    let matched = groups.get(*number).map_or("", |group| group.as_str());
                    let matched = unescape(bounded(matched));
                    text.extend(matched.chars().map(|c| if c.is_control() { '_' } else { c }));
                }
            }
        }
        text.truncate(text.floor_char_boundary(MAX_ID));
        text
    }
}

fn rules(reader: &mut Reader<'_>, root: &Node) -> Option<Rules> {
    let fields = reader.fields(&FILE, root)?;
    let (_, nodes) = reader.nodes(&fields, "rules")?;
    if let Some(node) = nodes.get(limits::CONTAINER_RULES) {
        reader.error(node.mark, format!("rules: at most {}", limits::CONTAINER_RULES));
    }
    let rules: Vec<Rule> =
        nodes.iter().take(limits::CONTAINER_RULES).filter_map(|node| rule(reader, node)).collect();
    (reader.errors == 0).then_some(Rules(rules))
}

fn rule(reader: &mut Reader<'_>, node: &Node) -> Option<Rule> {
    let fields = reader.fields(&RULE, node)?;
    let pattern = reader.text(&fields, "match").filter(|pattern| !pattern.is_empty());
    let ignore = reader.switch(&fields, "ignore");
    let id = reader.text(&fields, "id");
    let mark = fields.mark_of("match");
    let regex = match Regex::new(pattern?) {
        Ok(regex) => regex,
        Err(error) => {
            reader.error(mark, format!("match: {error}"));
            return None;
        }
    };
    let id = id.and_then(|id| template(reader, &fields, "id", id, &regex));
    let labels = labels(reader, &fields, &regex);
    let verdict = match (id, ignore) {
        (Some(_), true) => {
            reader.error(fields.mark_of("ignore"), "a rule has either id or ignore".to_owned());
            return None;
        }
        (Some(id), false) => Verdict::Container(id),
        (None, true) => Verdict::Nothing,
        (None, false) if labels.is_empty() => {
            if reader.errors == 0 {
                reader.error(fields.mark, "a rule has id, labels or ignore: true".to_owned());
            }
            return None;
        }
        (None, false) => Verdict::Open,
    };
    // Classes and escapes that look at what follows: where one stands, the path is tried piece by piece.
    let open = !["$", r"\b", r"\B", r"\z", r"\<", r"\>"]
        .iter()
        .any(|anchor| pattern.is_some_and(|text| text.contains(anchor)));
    Some(Rule { regex, open, verdict, labels })
}

fn template(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    key: &str,
    text: &str,
    regex: &Regex,
) -> Option<Template> {
    let mark = fields.mark_of(key);
    if !text.starts_with('/') || text.len() > MAX_ID || text.chars().any(char::is_control) {
        reader.error(mark, format!("{key}: expected a text such as /jobs/$1, found {text:?}"));
        return None;
    }
    made(reader, mark, key, text, regex)
}

fn made(reader: &mut Reader<'_>, mark: Mark, key: &str, text: &str, regex: &Regex) -> Option<Template> {
    let made = Template::parse(text, regex);
    made.map_err(|problem| reader.error(mark, format!("{key}: {problem}"))).ok()
}

fn labels(reader: &mut Reader<'_>, fields: &Fields<'_>, regex: &Regex) -> Vec<(Box<str>, Template)> {
    let mut labels = Vec::new();
    let Some((key, node)) = fields.get("labels") else { return labels };
    let Value::Mapping(pairs) = &node.value else {
        reader.mismatch(key, node);
        return labels;
    };
    for pair in pairs {
        let Value::Scalar(value) = &pair.value.value else {
            reader.mismatch(key, &pair.value);
            continue;
        };
        if let Err(problem) = check_label(&pair.key) {
            reader.error(pair.mark, format!("labels: {problem}"));
        } else if labels.len() >= limits::CONTAINER_RULE_LABELS {
            reader.error(pair.mark, format!("labels: at most {}", limits::CONTAINER_RULE_LABELS));
            break;
        } else if let Some(made) = made(reader, pair.value.mark, &pair.key, value.text(), regex) {
            labels.push((pair.key.clone(), made));
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOBS: &str = r"
rules:
  - match: ^/system\.slice/ssh\.service/(?<job>[^/]+)
    id: /jobs/$job
    labels: {team: ops, part: '${job}s $$1'}
  - match: ^/system\.slice/(\w+)\.scope$
    id: /scopes/${1}
  - {match: '^/default/', ignore: true}
  - {match: web, labels: {kind: web, team: none}}
";

    fn rules(text: &str) -> Rules {
        let (rules, findings) = Rules::parse("r.yaml", text.as_bytes());
        assert_eq!(findings, []);
        rules.unwrap()
    }

    fn class(rules: &Rules, path: &str) -> Option<(Runtime, String, String)> {
        let mut id = String::new();
        rules.classify(path, &mut id).map(|class| (class.runtime, class.root.to_owned(), class.id.to_owned()))
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = rules(JOBS);
        let ruled = |path: &str, root: &str, id: &str| {
            let expected = Some((Runtime::Rule, root.to_owned(), id.to_owned()));
            assert_eq!(class(&rules, path), expected, "{path}");
            assert_eq!(class(&rules, root), expected, "{path}");
        };
        ruled("/system.slice/ssh.service/web/deeper/x", "/system.slice/ssh.service/web", "/jobs/web");
        ruled(r"/system.slice/ssh.service/a\x2db", r"/system.slice/ssh.service/a\x2db", "/jobs/a-b");
        ruled("/system.slice/night.scope/child", "/system.slice/night.scope", "/scopes/night");
        ruled("/system.slice/ssh.service/a\tb", "/system.slice/ssh.service/a\tb", "/jobs/a_b");
        let long = format!("/system.slice/ssh.service/{}", "é".repeat(200));
        ruled(&long, &long, &format!("/jobs/{}", "é".repeat(128)));
        let id = "0123456789abcdef".repeat(4);
        for path in
            [&*format!("/default/{id}"), "/default/x", "/nobody", "/../system.slice/night.scope", "", "/"]
        {
            assert_eq!(class(&rules, path), None, "{path}");
        }
        // What no rule is about, and what a rule only labels, is what it always was.
        for path in ["/system.slice/ssh.service", "/system.slice/web.service/x", &*format!("/docker/{id}")] {
            assert_eq!(class(&rules, path), class(&Rules::default(), path), "{path}");
            assert!(class(&rules, path).is_some());
        }
    }

    /// What the documentation shows works.
    #[test]
    fn three_services_below_sshd() {
        let text = include_str!("../../docs/CONTAINERS.md");
        let (_, example) = text.split_once("```yaml\n").unwrap();
        let rules = rules(example.split_once("```").unwrap().0);
        for job in ["a", "b", "c-1"] {
            let path = format!("/system.slice/ssh.service/{job}/child");
            let (runtime, _, id) = class(&rules, &path).unwrap();
            assert_eq!((runtime, id), (Runtime::Rule, format!("/jobs/{job}")));
        }
        let id = |path: &str| class(&rules, path).map(|class| class.2);
        assert_eq!(id("/system.slice/ssh.service").as_deref(), Some("/system.slice/ssh.service"));
        assert_eq!(id("/system.slice/night-run.scope/x").as_deref(), Some("/jobs/night-run"));
        assert_eq!(id("/default/redis").as_deref(), Some("/containerd/redis"));
        assert_eq!(id("/system.slice/fwupd.service"), None);
    }

    #[test]
    fn labels_come_from_the_deciding_rule_and_from_those_without_id() {
        let rules = rules(JOBS);
        let labels = |path: &str| {
            let mut labels = Vec::new();
            rules.labels(path, |name, value| labels.push(format!("{name}={value}")));
            labels
        };
        // The caller keeps the first of two values.
        assert_eq!(
            labels("/system.slice/ssh.service/web"),
            ["team=ops", "part=webs $1", "kind=web", "team=none"]
        );
        assert_eq!(labels("/system.slice/web.service"), ["kind=web", "team=none"]);
        assert_eq!(labels("/system.slice/nginx.service"), [""; 0]);
    }

    #[test]
    fn mistakes_have_their_places() {
        for (text, expected) in [
            ("rules: [", "2:1: not valid YAML: "),
            ("rules:\n  - match: a(\n    id: /x", "2:12: match: "),
            ("rules:\n  - match: a\n    id: x", "3:9: id: expected a text such as /jobs/$1, found \"x\""),
            ("rules:\n  - match: (a)\n    id: /$2", "3:9: id: match has no group \"2\""),
            ("rules:\n  - match: a\n    id: /$name/x", "3:9: id: match has no group \"name\""),
            ("rules:\n  - match: a\n    id: /a$", "3:9: id: match has no group \"\""),
            ("rules:\n  - id: /x", "2:5: rule \"\" in config \"r.yaml\" lacks match"),
            ("rules:\n  - match: a", "2:5: a rule has id, labels or ignore: true"),
            ("rules:\n  - {match: a, id: /x, ignore: true}", "2:32: a rule has either id or ignore"),
            ("rules:\n  - {match: a, ignore: maybe}", "2:24: ignore: expected "),
            (
                "rules:\n  - {match: a, labels: {image: x}}",
                "2:25: labels: container_info has a label image already",
            ),
            ("rules:\n  - {match: a, labels: [x]}", "2:24: labels: expected "),
            ("rules:\n  - {match: a, labels: {x: $1}}", "2:28: x: match has no group \"1\""),
            ("rules: {}", "1:8: rules: expected "),
            ("[]", "1:1: "),
        ] {
            let (rules, findings) = Rules::parse("r.yaml", text.as_bytes());
            let first = findings.iter().find(|finding| finding.fatal).expect(text).to_string();
            assert!(first.starts_with(&format!("r.yaml:{expected}")), "{text}: {first}");
            assert!(rules.is_none(), "{text}");
        }
        let (rules, findings) = Rules::parse("r.yaml", b"rules:\n  - {match: a, id: /a, lables: {}}");
        assert!(rules.is_some() && findings[0].to_string().contains("did you mean"), "{findings:?}");
        for empty in ["", "~", "# none", "rules: []"] {
            assert!(Rules::parse("r.yaml", empty.as_bytes()).0.is_none(), "{empty}");
        }
        let many = format!("rules:\n{}", "  - {match: a, id: /a}\n".repeat(limits::CONTAINER_RULES + 1));
        let (_, findings) = Rules::parse("r.yaml", many.as_bytes());
        assert_eq!(findings[0].to_string(), "r.yaml:66:5: rules: at most 64");
    }

    #[test]
    fn any_text_and_path_are_survived() {
        let pieces: &[&str] = &[
            "/",
            "a",
            "$",
            "{",
            "}",
            "$1",
            "(",
            ")",
            "[",
            "é",
            "^",
            "\\b",
            ".scope",
            "\\x2d",
            "\n  - match: ",
        ];
        let mut random = crate::procfs::fuzz::numbers(0x9e37_79b9_7f4a_7c15_u64);
        for _ in 0..5_000 {
            let mut made = || (0..random() % 12).map(|_| pieces[random() % pieces.len()]).collect::<String>();
            let (pattern, id, path) = (made(), made(), format!("/{}", made()));
            let text = format!("rules:\n  - match: '{pattern}'\n    id: '/{id}'\n");
            let (rules, _) = Rules::parse("r.yaml", text.as_bytes());
            let rules = rules.unwrap_or_default();
            if let Some((_, root, _)) = class(&rules, &path) {
                assert!(path.starts_with(&root), "{text} {path}");
                assert_eq!(
                    class(&rules, &root).map(|class| class.1).as_deref(),
                    Some(&*root),
                    "{text} {path}"
                );
            }
            rules.labels(&path, |_, _| {});
        }
        crate::procfs::fuzz::hammer(JOBS.as_bytes(), |data| drop(Rules::parse("r.yaml", data)));
    }
}
