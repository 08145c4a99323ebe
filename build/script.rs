//! Makes the scripts of the page short: no comments, no blanks, and short names for our own variables.
//!
//! It knows as much JavaScript as `src/page` has, and ends the build with a line of the source where it is in doubt. Each
//! statement ends with a semicolon or a block, each variable is declared on its own, there are no classes, methods, labels
//! or `switch`, and strings, templates and regular expressions end on their line.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Words of the language.
const LANGUAGE: &str = "async await break catch const continue delete else false finally for function if in let new null of \
                        return throw true try typeof undefined while Infinity NaN";
/// What the scripts use of the browser; whatever else they name must be declared in them.
const BROWSER: &str = "AbortSignal Boolean Date Error JSON Map Math Number Object Set String \
                       clearTimeout console document fetch getComputedStyle isFinite \
                       performance requestAnimationFrame setTimeout window";
/// Our own that keep their names, since `tests/page.rs` asks for them.
const KEPT: &str = "all ask asking filter heard known only shown size sum turn";

#[derive(Clone)]
struct Token {
    text: String,
    line: usize,
    role: Role,
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    /// A name in a place where it stands for a variable.
    Variable,
    /// A variable in an object or a pattern that is the key too.
    Shorthand,
    /// A brace that begins or ends statements. Nothing has to follow the one that ends them.
    Block,
    /// The same, of an arrow function, which is an expression.
    Body,
    Other,
}

/// The script in short.
pub fn squeeze(text: &str) -> String {
    let mut tokens = as_arrows(split(text));
    let declared = assign_roles(&mut tokens);
    let names = short_names(&tokens, &declared);
    let mut script = String::new();
    // For each open bracket, whether a declaration is what goes on in it.
    let mut declaring = vec![false];
    for (at, token) in tokens.iter().enumerate() {
        let last = at.checked_sub(1).map(|at| &tokens[at]);
        let next = tokens.get(at + 1).map_or("", |token| &token.text);
        if let Some(last) = last.filter(|last| last.line != token.line) {
            let goes_on = last.text != "++"
                && ("{;,([=&|?:+>".contains(tail(&last.text)) || "}).?:&|+]".contains(head(&token.text)));
            assert!(goes_on || last.role == Role::Block, "no semicolon in front of {}", place(token));
        }
        if is_end(token) {
            declaring.pop();
        }
        let written = match token.text.as_str() {
            "const" | "let" => {
                *declaring.last_mut().expect("balanced") = true;
                // The last declaration goes on.
                if script.ends_with(',') && last.is_some_and(|last| last.text == ";") { "" } else { "let" }
            }
            ";" if next == "}" => "",
            ";" if *declaring.last().expect("balanced") && matches!(next, "const" | "let") => ",",
            ";" => {
                *declaring.last_mut().expect("balanced") = false;
                ";"
            }
            "true" => "!0",
            "false" => "!1",
            text if text.starts_with("0.") => &text[1..],
            text => names[at].as_deref().unwrap_or(text),
        };
        if token.role == Role::Shorthand && written != token.text {
            script += &format!("{}:", token.text);
        }
        if let (Some(last), false) = (script.chars().next_back(), written.is_empty()) {
            let next = head(written);
            if (is_word(last) && is_word(next)) || (last == next && "+-".contains(last)) {
                script.push(' ');
            }
        }
        script += written;
        if is_begin(token) {
            declaring.push(false);
        }
    }
    script + "\n"
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$')
}

fn head(text: &str) -> char {
    text.chars().next().expect("not empty")
}

fn tail(text: &str) -> char {
    text.chars().next_back().expect("not empty")
}

fn is_begin(token: &Token) -> bool {
    matches!(&*token.text, "(" | "[" | "{") || token.text.ends_with("${")
}

fn is_end(token: &Token) -> bool {
    matches!(&*token.text, ")" | "]") || token.text.starts_with('}')
}

fn is_variable(token: &Token) -> bool {
    matches!(token.role, Role::Variable | Role::Shorthand)
}

fn place(token: &Token) -> String {
    format!("{:?} in line {} of the scripts", token.text, token.line)
}

fn split(text: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    // Of each open brace whether it is in a template.
    let mut braces = Vec::new();
    for (line, text) in text.lines().enumerate() {
        let mut rest = text.trim();
        while !rest.is_empty() && !rest.starts_with("//") {
            let first = head(rest);
            let is_operand = tokens
                .last()
                .is_some_and(|last| is_word(tail(&last.text)) || ")]`'\"".contains(tail(&last.text)));
            let in_template = first == '`' || (first == '}' && braces.pop() == Some(true));
            let length = if in_template {
                let length = quoted(rest, |rest| rest.starts_with('`') || rest.starts_with("${"));
                if rest[length - 1..].starts_with('`') {
                    length
                } else {
                    braces.push(true);
                    length + 1
                }
            } else if is_word(first) {
                let in_word = |c: char| is_word(c) || (c == '.' && first.is_ascii_digit());
                rest.find(|c| !in_word(c)).unwrap_or(rest.len())
            } else if matches!(first, '\'' | '"') {
                quoted(rest, |rest| rest.starts_with(first))
            } else if first == '/' && !is_operand {
                let mut in_class = false;
                let length = quoted(rest, |rest| {
                    in_class = if in_class { !rest.starts_with(']') } else { rest.starts_with('[') };
                    !in_class && rest.starts_with('/')
                });
                length + rest[length..].find(|c| !is_word(c)).unwrap_or(rest.len() - length)
            } else {
                if first == '{' {
                    braces.push(false);
                }
                let long = ["...", "=>", "?.", "++", "--"].into_iter().find(|sign| rest.starts_with(sign));
                long.map_or(first.len_utf8(), str::len)
            };
            tokens.push(Token { text: rest[..length].to_owned(), line: line + 1, role: Role::Other });
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

/// Makes each `function name(a) {}` a `const name = a => {};`, which is shorter. What the top level calls while the scripts
/// load must then be further up.
fn as_arrows(tokens: Vec<Token>) -> Vec<Token> {
    let mut arrows = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let is_async = tokens[at].text == "async" && tokens[at + 1].text == "function";
        let name = at + 1 + usize::from(is_async);
        if tokens[name - 1].text != "function" {
            arrows.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let sign = |text: &str| Token { text: text.to_owned(), ..tokens[at].clone() };
        let body = end_of(&tokens, name + 1) + 1;
        let end = end_of(&tokens, body);
        let has_another = tokens[body..end].iter().any(|token| token.text == "function");
        assert!(!has_another, "a function in {}", place(&tokens[name]));
        arrows.extend([sign("const"), tokens[name].clone(), sign("=")]);
        arrows.extend(is_async.then(|| sign("async")));
        // One argument needs no parentheses.
        let arguments = if body - name == 4 { name + 2..name + 3 } else { name + 1..body };
        arrows.extend_from_slice(&tokens[arguments]);
        arrows.push(sign("=>"));
        arrows.extend_from_slice(&tokens[body..=end]);
        arrows.push(Token { text: ";".to_owned(), ..tokens[end].clone() });
        at = end + 1;
    }
    arrows
}

/// Where the bracket ends that begins there.
fn end_of(tokens: &[Token], begin: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(begin) {
        depth += i32::from(is_begin(token)) - i32::from(is_end(token));
        if depth == 0 {
            return at;
        }
    }
    panic!("begins and does not end: {}", place(&tokens[begin]));
}

/// The length of what begins with one character and goes on to where it ends; a backslash hides what follows it.
fn quoted(text: &str, mut is_end: impl FnMut(&str) -> bool) -> usize {
    let mut hidden = false;
    for (at, c) in text.char_indices().skip(1) {
        if hidden {
            hidden = false;
        } else if c == '\\' {
            hidden = true;
        } else if is_end(&text[at..]) {
            return at + c.len_utf8();
        }
    }
    panic!("does not end on its line: {text}");
}

/// Says of each token what it is, and returns which of them declare the variable they name.
fn assign_roles(tokens: &mut [Token]) -> BTreeSet<usize> {
    let language: BTreeSet<&str> = LANGUAGE.split_whitespace().collect();
    let mut declared = BTreeSet::new();
    // Where the brackets that are open began.
    let mut open: Vec<usize> = Vec::new();
    let mut ends = BTreeMap::new();
    for at in 0..tokens.len() {
        let (last, next) = (
            at.checked_sub(1).map_or(";", |at| &*tokens[at].text),
            tokens.get(at + 1).map_or("", |token| &*token.text),
        );
        let token = &tokens[at];
        let mut role = Role::Other;
        if is_end(token) {
            let begin = open.pop().unwrap_or_else(|| panic!("ends nothing: {}", place(token)));
            role = tokens[begin].role;
            ends.insert(begin, at);
        }
        // Neither a block nor a body is around: an object or a pattern, or a list.
        let in_object =
            open.last().is_some_and(|&at| tokens[at].text == "{" && tokens[at].role == Role::Other);
        if token.text == "{" {
            role = match last {
                ")" | "else" | "try" | "finally" | ";" => Role::Block,
                "=>" => Role::Body,
                "(" | "[" | "," | "=" | ":" | "?" | "return" | "const" | "let" | "|" => Role::Other,
                _ => panic!("a block or an object: {}", place(token)),
            };
        } else if is_word(head(&token.text)) && !head(&token.text).is_ascii_digit() {
            let is_key = in_object && matches!(last, "{" | ",");
            role = match next {
                _ if language.contains(&*token.text) || matches!(last, "." | "?.") => Role::Other,
                ":" if is_key => Role::Other,
                "," | "}" | "=" if is_key => Role::Shorthand,
                _ if is_key => panic!("a method or what: {}", place(token)),
                _ => Role::Variable,
            };
        }
        if is_begin(token) {
            open.push(at);
        }
        tokens[at].role = role;
    }
    assert!(open.is_empty(), "a bracket is open at the end of the scripts");
    for at in 1..tokens.len() {
        let end = ends.get(&at).copied().unwrap_or(at);
        let is_declared = matches!(&*tokens[at - 1].text, "const" | "let" | "catch");
        if is_declared || tokens.get(end + 1).is_some_and(|token| token.text == "=>") {
            declared.extend((at..=end).filter(|&at| is_variable(&tokens[at])));
        }
    }
    declared
}

/// For each token the name it gets, if it gets one: the shortest for what is there most often. Top level variables have
/// one name everywhere, and so has a variable in all of a top level statement: what hides what does not change. Variables of
/// different statements share names, by how often their statement has them.
fn short_names(tokens: &[Token], declared: &BTreeSet<usize>) -> Vec<Option<String>> {
    let browser: BTreeSet<&str> = BROWSER.split_whitespace().collect();
    let kept: BTreeSet<&str> = KEPT.split_whitespace().collect();
    let renamed =
        |token: &Token| is_variable(token) && !browser.contains(&*token.text) && !kept.contains(&*token.text);
    let statements = statements(tokens);
    let top: BTreeSet<&str> = statements.iter().flat_map(|range| top_level(&tokens[range.clone()])).collect();
    // What needs a name: a top level variable, or the variable that is the nth most frequent one in its statement.
    let mut wants: Vec<Option<String>> = vec![None; tokens.len()];
    for range in statements {
        let own: BTreeSet<&str> = declared.range(range.clone()).map(|&at| &*tokens[at].text).collect();
        for token in tokens[range.clone()].iter().filter(|token| is_variable(token)) {
            let name = &*token.text;
            let is_ours = own.contains(name) || top.contains(name);
            assert!(is_ours != browser.contains(name), "declared, or of the browser: {}", place(token));
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for token in
            tokens[range.clone()].iter().filter(|token| renamed(token) && !top.contains(&*token.text))
        {
            *counts.entry(&token.text).or_default() += 1;
        }
        let mut local: Vec<&str> = counts.keys().copied().collect();
        local.sort_by_key(|name| Reverse(counts[name]));
        for at in range.filter(|&at| renamed(&tokens[at])) {
            let rank = local.iter().position(|name| *name == tokens[at].text);
            wants[at] = Some(rank.map_or_else(|| tokens[at].text.clone(), |rank| rank.to_string()));
        }
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for want in wants.iter().flatten() {
        *counts.entry(want).or_default() += 1;
    }
    let mut wanted: Vec<&str> = counts.keys().copied().collect();
    wanted.sort_by_key(|want| Reverse(counts[want]));
    let letters: Vec<String> = ('a'..='z').chain('A'..='Z').map(String::from).collect();
    let pairs = letters.iter().flat_map(|first| letters.iter().map(move |second| first.clone() + second));
    let is_free = |name: &String| !LANGUAGE.split_whitespace().chain(["do"]).any(|word| word == name);
    let names: BTreeMap<&str, String> =
        wanted.into_iter().zip(letters.iter().cloned().chain(pairs).filter(is_free)).collect();
    wants.iter().map(|want| names.get(want.as_deref()?).cloned()).collect()
}

/// The statements of the top level.
fn statements(tokens: &[Token]) -> Vec<Range<usize>> {
    let (mut ranges, mut begin, mut depth) = (Vec::new(), 0, 0);
    for (at, token) in tokens.iter().enumerate() {
        depth -= i32::from(is_end(token));
        depth += i32::from(is_begin(token));
        if depth == 0 && (token.text == ";" || (token.text == "}" && token.role == Role::Block)) {
            ranges.push(begin..at + 1);
            begin = at + 1;
        }
    }
    assert!(begin == tokens.len(), "the last statement has no end");
    ranges
}

/// What a statement declares outside of its blocks and functions.
fn top_level(statement: &[Token]) -> Vec<&str> {
    let is_declaration = matches!(&*statement[0].text, "const" | "let");
    let end = statement.iter().position(|token| token.text == "=").unwrap_or(statement.len());
    statement[..if is_declaration { end } else { 0 }]
        .iter()
        .filter(|token| is_variable(token))
        .map(|token| &*token.text)
        .collect()
}
