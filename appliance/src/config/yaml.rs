//! Reads the part of YAML that configurations are written in: mappings in
//! mappings, with text in them.
//!
//! Text is plain, in quotes, or a block (`|`, `>`). Numbers and truth values are
//! text as well, as they stand. Lists, anchors, tags, braces other than `{}`,
//! and text over several lines that is no block are refused, with the line: to
//! guess would be worse.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

use super::settings::{
    SETTING_ENTRIES_MAX, SETTING_NAME_BYTES_MAX, SETTING_VALUE_BYTES_MAX, SETTINGS_NODES_MAX, Value,
};

/// Most mappings in each other.
const DEPTH_MAX: usize = 4;

/// What a file holds.
#[derive(Eq, PartialEq)]
pub(crate) enum Node {
    /// A text; what is nothing in YAML is an empty one.
    Text(Value),
    /// A mapping.
    Map(BTreeMap<String, Self>),
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // It may be a secret.
            Self::Text(_) => f.write_str("…"),
            Self::Map(map) => map.fmt(f),
        }
    }
}

/// What a file has that is not understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct SyntaxError {
    /// Number of the line, from 1.
    pub(crate) line: usize,
    /// What it is, without its text: that may be a secret.
    pub(crate) what: &'static str,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

type Result<T> = std::result::Result<T, SyntaxError>;

/// Reads a file.
///
/// # Errors
///
/// For what is no such YAML, with the line; also for what is too deep, too long
/// or too much.
pub(crate) fn parse(text: &str) -> Result<Node> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    refuse_odd_line_ends(text)?;
    let mut reader = Reader { rest: text, number: 0, nodes: 0 };
    if let Some(line) = reader.peek()?
        && is_marker(line.whole, "---")
    {
        reader.next_line();
        if !is_end(&line.content[3..]) {
            return Err(reader.error("nothing may follow `---` on its line"));
        }
    }
    match reader.peek()? {
        None => Ok(Node::Map(BTreeMap::new())),
        Some(line) if line.content == "{}" => {
            reader.next_line();
            reader.finish(Node::Map(BTreeMap::new()))
        }
        Some(line) => {
            let node = reader.map(line.indent, 1)?;
            reader.finish(node)
        }
    }
}

/// Refuses line ends that YAML has beside the usual two, and that nobody sees.
fn refuse_odd_line_ends(text: &str) -> Result<()> {
    for (index, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.contains(['\r', '\u{85}', '\u{2028}', '\u{2029}']) {
            return Err(SyntaxError { line: index + 1, what: "it has an odd line end in it" });
        }
    }
    Ok(())
}

/// A line that is neither empty nor a comment.
#[derive(Clone, Copy)]
struct Line<'t> {
    /// Blanks in front of it.
    indent: usize,
    /// Without blanks on either side.
    content: &'t str,
    /// With them.
    whole: &'t str,
}

struct Reader<'t> {
    /// What was not read yet; starts at the beginning of a line.
    rest: &'t str,
    /// Number of the line that was read last, or looked at.
    number: usize,
    /// Texts and mappings so far.
    nodes: usize,
}

/// Whether nothing but blanks and a comment is left of a line.
fn is_end(rest: &str) -> bool {
    let trimmed = rest.trim_start_matches([' ', '\t']);
    trimmed.is_empty() || (trimmed.len() < rest.len() && trimmed.starts_with('#'))
}

/// Whether a line is `---` or `...`, the mark of a document.
fn is_marker(line: &str, mark: &str) -> bool {
    line.strip_prefix(mark).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}

impl<'t> Reader<'t> {
    fn error(&self, what: &'static str) -> SyntaxError {
        SyntaxError { line: self.number, what }
    }

    fn count(&mut self) -> Result<()> {
        self.nodes += 1;
        if self.nodes > SETTINGS_NODES_MAX {
            return Err(self.error("there are too many values"));
        }
        Ok(())
    }

    /// The next line, whatever it is.
    fn next_line(&mut self) -> Option<&'t str> {
        if self.rest.is_empty() {
            return None;
        }
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.number += 1;
        Some(line.strip_suffix('\r').unwrap_or(line))
    }

    /// The next line that says something: what stands before it is read. The
    /// line itself is not, but errors name it.
    fn peek(&mut self) -> Result<Option<Line<'t>>> {
        loop {
            let (rest, number) = (self.rest, self.number);
            let Some(whole) = self.next_line() else { return Ok(None) };
            let content = whole.trim_start_matches(' ');
            let trimmed = content.trim_matches([' ', '\t']);
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            if content.starts_with('\t') {
                return Err(self.error("a tab cannot indent"));
            }
            self.rest = rest;
            let line = Line { indent: whole.len() - content.len(), content: trimmed, whole };
            // As the line that errors name; reading it counts it once.
            self.number = number;
            return Ok(Some(line));
        }
    }

    /// Sees that nothing follows.
    fn finish(&mut self, node: Node) -> Result<Node> {
        while let Some(line) = self.peek()? {
            self.next_line();
            if !is_marker(line.whole, "...") || !is_end(&line.content[3..]) {
                return Err(self.error("it does not belong to what is before it"));
            }
        }
        Ok(node)
    }

    /// A mapping whose lines have `indent` blanks in front.
    fn map(&mut self, indent: usize, depth: usize) -> Result<Node> {
        self.count()?;
        let mut map = BTreeMap::new();
        while let Some(line) = self.peek()? {
            if line.indent < indent || is_marker(line.whole, "...") {
                break;
            }
            self.next_line();
            if line.indent > indent {
                return Err(self.error("it is indented more than what it belongs to"));
            }
            if depth > DEPTH_MAX {
                return Err(self.error("there are too many mappings in each other"));
            }
            let (key, rest) = self.key(line)?;
            let node = self.value(rest, indent, depth)?;
            if map.insert(key, node).is_some() {
                return Err(self.error("its name is there twice"));
            }
            if map.len() > SETTING_ENTRIES_MAX {
                return Err(self.error("there are too many names"));
            }
        }
        Ok(Node::Map(map))
    }

    /// The name that a line begins with, and what follows its colon.
    fn key(&self, line: Line<'t>) -> Result<(String, &'t str)> {
        let content = line.content;
        if is_marker(line.whole, "---") {
            return Err(self.error("a file is one document"));
        }
        let (key, rest) = if content.starts_with(['"', '\'']) {
            let (key, rest) = self.quoted(content)?;
            let rest = rest.trim_start_matches([' ', '\t']);
            (String::from(key.as_str()), rest.strip_prefix(':'))
        } else {
            self.refuse_indicators(content)?;
            let end = content.match_indices(':').map(|(at, _)| at);
            let mut ends = end.filter(|at| is_blank_or_end(&content[at + 1..]));
            let end = ends.next().ok_or_else(|| self.error("there is no colon with a blank"))?;
            let key = content[..end].trim_end();
            // A comment begins before the colon.
            let is_whole = !key.contains(" #") && !key.contains("\t#");
            (key.to_owned(), Some(&content[end + 1..]).filter(|_| is_whole))
        };
        match rest {
            Some(rest) if is_blank_or_end(rest) => {
                if key.len() > SETTING_NAME_BYTES_MAX {
                    return Err(self.error("a name is too long"));
                }
                Ok((key, rest))
            }
            _ => Err(self.error("there is no colon with a blank")),
        }
    }

    /// What a name stands for: the rest of its line, or what is below it.
    fn value(&mut self, rest: &'t str, indent: usize, depth: usize) -> Result<Node> {
        if is_end(rest) {
            return match self.peek()? {
                Some(line) if line.indent > indent => self.map(line.indent, depth + 1),
                _ => self.text(String::new()),
            };
        }
        let rest = rest.trim_matches([' ', '\t']);
        match rest.as_bytes()[0] {
            b'"' | b'\'' => {
                let (text, rest) = self.quoted(rest)?;
                if !is_end(rest) {
                    return Err(self.error("something follows the closing quote"));
                }
                self.count()?;
                Ok(Node::Text(text))
            }
            b'|' | b'>' => self.block(rest, indent),
            b'{' => match rest.strip_prefix("{}") {
                Some(rest) if is_end(rest) => {
                    self.count()?;
                    Ok(Node::Map(BTreeMap::new()))
                }
                _ => Err(self.error("braces other than `{}` are not understood")),
            },
            _ => {
                self.refuse_indicators(rest)?;
                let end = rest.match_indices('#').map(|(at, _)| at);
                let mut ends = end.filter(|at| rest[..*at].ends_with([' ', '\t']));
                let plain = rest[..ends.next().unwrap_or(rest.len())].trim_end();
                if plain.ends_with(':') || plain.contains(": ") || plain.contains(":\t") {
                    return Err(self.error("text with a colon and a blank is put in quotes"));
                }
                let is_nothing = matches!(plain, "~" | "null" | "Null" | "NULL");
                self.text(if is_nothing { String::new() } else { plain.to_owned() })
            }
        }
    }

    fn text(&mut self, text: String) -> Result<Node> {
        self.count()?;
        let text = Zeroizing::new(text);
        if text.len() > SETTING_VALUE_BYTES_MAX {
            return Err(self.error("a value is too long"));
        }
        Ok(Node::Text(text))
    }

    /// Refuses what plain text cannot start with.
    fn refuse_indicators(&self, text: &str) -> Result<()> {
        let what = match text.as_bytes() {
            [b'-' | b'?' | b':'] | [b'-' | b'?' | b':', b' ' | b'\t', ..] => {
                "lists and complex names are not understood"
            }
            [b'[' | b']' | b'{' | b'}' | b',', ..] => "brackets and braces are not understood",
            [b'&' | b'*' | b'!', ..] => "anchors and tags are not understood",
            [b'%' | b'@' | b'`' | b'|' | b'>' | b'#', ..] => "text that starts so is put in quotes",
            _ => return Ok(()),
        };
        Err(self.error(what))
    }

    /// Text in quotes, and what follows it on the line.
    fn quoted(&self, text: &'t str) -> Result<(Value, &'t str)> {
        // Room for all: a buffer that grows leaves copies of secrets behind.
        let mut out = Zeroizing::new(String::with_capacity(text.len()));
        let open = || self.error("the closing quote is not on the same line");
        let is_single = text.starts_with('\'');
        let mut rest = &text[1..];
        loop {
            let stops: &[char] = if is_single { &['\''] } else { &['"', '\\'] };
            let stop = rest.find(stops).ok_or_else(open)?;
            out.push_str(&rest[..stop]);
            let mark = rest.as_bytes()[stop];
            rest = &rest[stop + 1..];
            if mark == b'\\' {
                rest = self.escape(rest, &mut out)?;
            } else if is_single && rest.starts_with('\'') {
                out.push('\'');
                rest = &rest[1..];
            } else {
                break;
            }
        }
        if out.len() > SETTING_VALUE_BYTES_MAX {
            return Err(self.error("a value is too long"));
        }
        Ok((out, rest))
    }

    /// What follows a backslash.
    fn escape(&self, rest: &'t str, out: &mut String) -> Result<&'t str> {
        let unknown = || self.error("a backslash is followed by what is not understood");
        let mut chars = rest.chars();
        let digits = match chars.next().ok_or_else(unknown)? {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            letter => {
                out.push(match letter {
                    '0' => '\0',
                    'a' => '\u{7}',
                    'b' => '\u{8}',
                    't' | '\t' => '\t',
                    'n' => '\n',
                    'v' => '\u{b}',
                    'f' => '\u{c}',
                    'r' => '\r',
                    'e' => '\u{1b}',
                    'N' => '\u{85}',
                    '_' => '\u{a0}',
                    'L' => '\u{2028}',
                    'P' => '\u{2029}',
                    ' ' | '"' | '/' | '\\' => letter,
                    _ => return Err(unknown()),
                });
                return Ok(chars.as_str());
            }
        };
        let code = chars.as_str().get(..digits).ok_or_else(unknown)?;
        if !code.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(unknown());
        }
        let code = u32::from_str_radix(code, 16).ok().and_then(char::from_u32);
        out.push(code.ok_or_else(unknown)?);
        Ok(&chars.as_str()[digits..])
    }

    /// A block of text below a line that ends with `|` or `>`.
    fn block(&mut self, header: &str, parent: usize) -> Result<Node> {
        let is_folded = header.starts_with('>');
        let mut marks = header[1..].chars();
        let (mut indent, mut chomp) = (None, None);
        let rest = loop {
            let rest = marks.as_str();
            match marks.next() {
                Some(digit @ '1'..='9') if indent.is_none() => {
                    indent = digit.to_digit(10).map(|digit| parent + digit as usize);
                }
                Some(mark @ ('+' | '-')) if chomp.is_none() => chomp = Some(mark),
                _ => break rest,
            }
        };
        if !is_end(rest) {
            return Err(self.error("only digits, `+` and `-` follow `|` and `>`"));
        }
        let mut block = Block::new(is_folded);
        let mut widest = 0;
        while let Some(line) = self.block_line(parent, &mut indent, &mut widest)? {
            block.add(line.text, line.is_ended);
            if block.text.len() + block.breaks > SETTING_VALUE_BYTES_MAX {
                return Err(self.error("a value is too long"));
            }
            (self.rest, self.number) = line.after;
        }
        self.count()?;
        Ok(Node::Text(block.finish(chomp)))
    }

    /// The next line of a block. Where its indent is not known yet, the first line
    /// with text says it; `widest` is that of the empty ones before.
    fn block_line(
        &self,
        parent: usize,
        indent: &mut Option<usize>,
        widest: &mut usize,
    ) -> Result<Option<BlockLine<'t>>> {
        let mut ahead = Self { rest: self.rest, number: self.number, nodes: 0 };
        let Some(line) = ahead.next_line() else { return Ok(None) };
        let content = line.trim_start_matches(' ');
        let blanks = line.len() - content.len();
        let after = (ahead.rest, ahead.number);
        let read_bytes = self.rest.len() - ahead.rest.len();
        let is_ended = self.rest.as_bytes()[read_bytes - 1] == b'\n';
        if indent.is_none() && content.starts_with('\t') {
            return Err(ahead.error("a tab cannot indent"));
        }
        if content.is_empty() {
            *widest = blanks.max(*widest);
            let start = indent.unwrap_or(blanks).min(blanks);
            return Ok(Some(BlockLine { text: &line[start..], is_ended, after }));
        }
        let is_first = indent.is_none();
        let start = *indent.get_or_insert(blanks);
        if blanks < start || blanks <= parent {
            // It belongs to what the block is in, or to nothing.
            return Ok(None);
        }
        if is_first && *widest > start {
            return Err(ahead.error("an empty line before it is indented more"));
        }
        Ok(Some(BlockLine { text: &line[start..], is_ended, after }))
    }
}

/// A line of a block.
struct BlockLine<'t> {
    /// Without its indent.
    text: &'t str,
    /// It has a line end: the last of a file may not.
    is_ended: bool,
    /// Where reading goes on after it: what is left, and the number of the line.
    after: (&'t str, usize),
}

fn is_blank_or_end(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with([' ', '\t'])
}

/// A block of text as it is put together.
struct Block {
    text: Value,
    is_folded: bool,
    /// Line ends since the last line with text.
    breaks: usize,
    /// Whether that line was indented more, which keeps its line ends.
    was_deeper: bool,
}

impl Block {
    fn new(is_folded: bool) -> Self {
        let text = Zeroizing::new(String::new());
        Self { text, is_folded, breaks: 0, was_deeper: false }
    }

    fn add(&mut self, line: &str, is_ended: bool) {
        if line.is_empty() {
            self.breaks += usize::from(is_ended);
            return;
        }
        let is_deeper = line.starts_with([' ', '\t']);
        // The line end of the last line with text is one of `breaks`.
        let ends = self.breaks;
        if self.is_folded && !self.text.is_empty() && !self.was_deeper && !is_deeper {
            if ends == 1 { self.push(" ", 1) } else { self.push("\n", ends - 1) }
        } else {
            self.push("\n", ends);
        }
        self.push(line, 1);
        (self.breaks, self.was_deeper) = (usize::from(is_ended), is_deeper);
    }

    /// Adds text; what is left behind where it has to move is erased.
    fn push(&mut self, text: &str, times: usize) {
        let wanted = self.text.len() + text.len() * times;
        if wanted > self.text.capacity() {
            let mut grown = Zeroizing::new(String::with_capacity(2 * wanted));
            grown.push_str(&self.text);
            self.text = grown;
        }
        for _ in 0..times {
            self.text.push_str(text);
        }
    }

    fn finish(mut self, chomp: Option<char>) -> Value {
        match chomp {
            Some('-') => {}
            Some(_) => self.push("\n", self.breaks),
            None if self.text.is_empty() => {}
            None => self.push("\n", self.breaks.min(1)),
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Node {
        Node::Text(Zeroizing::new(text.to_owned()))
    }

    fn map<const N: usize>(pairs: [(&str, Node); N]) -> Node {
        Node::Map(pairs.into_iter().map(|(name, node)| (name.to_owned(), node)).collect())
    }

    fn value(yaml: &str) -> String {
        match parse(yaml).unwrap_or_else(|error| panic!("{yaml:?}: {error}")) {
            Node::Map(mut map) => match map.remove("a") {
                Some(Node::Text(text)) => text.to_string(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn as_stock_writes_it() {
        let yaml = "version: v1.0.0\n# why\nstores:\n    nas:\n        location: sftp://nas/srv\n\
                    \x20       port: \"2222\" # odd\n\n    usb: {}\nempty:\n";
        let nas = map([("location", text("sftp://nas/srv")), ("port", text("2222"))]);
        let wanted = map([
            ("version", text("v1.0.0")),
            ("stores", map([("nas", nas), ("usb", map([]))])),
            ("empty", text("")),
        ]);
        assert_eq!(parse(yaml), Ok(wanted));
        for nothing in ["", "\n\n", "# nothing\n", "---\n", "{}\n", "---\n...\n"] {
            assert_eq!(parse(nothing), Ok(map([])), "{nothing:?}");
        }
        assert_eq!(parse("a:\n b:\n  c: d\ne: f"), {
            Ok(map([("a", map([("b", map([("c", text("d"))]))])), ("e", text("f"))]))
        });
        assert_eq!(parse("\"a: b\" : c\r\n'it''s': d\r\n"), {
            Ok(map([("a: b", text("c")), ("it's", text("d"))]))
        });
    }

    #[test]
    fn texts() {
        for (yaml, wanted) in [
            ("a: b c", "b c"),
            ("a: b # c", "b"),
            ("a: b#c", "b#c"),
            ("a: /x:y", "/x:y"),
            ("a: ~", ""),
            ("a: null", ""),
            ("a: true", "true"),
            ("a: 0x10", "0x10"),
            ("a: -x", "-x"),
            ("a: 'it''s # b'  # c", "it's # b"),
            ("a: \"b\\n\\\"\\\\ \\x41\\u00e9\\U0001F600\"", "b\n\"\\ Aé😀"),
            ("a: |\n    b\n    c\n", "b\nc\n"),
            ("a: |-\n  b\n\n   c\n\n", "b\n\n c"),
            ("a: |+\n  b\n\n", "b\n\n"),
            ("a: |4\n     b\n    c\n", " b\nc\n"),
            ("a: |4-\n    \n    b", "\nb"),
            ("a: |\n  b", "b"),
            ("a: |\n  b\n  c", "b\nc"),
            ("a: | # note\n  # no note\nb: c", "# no note\n"),
            ("a: |\n", ""),
            ("a: >\n  b\n  c\n\n  d\n   e\n  f\n", "b c\nd\n e\nf\n"),
            ("a: >-\n  b\n  c\n", "b c"),
        ] {
            assert_eq!(value(yaml), wanted, "{yaml:?}");
        }
    }

    #[test]
    fn what_is_refused() {
        for (yaml, line) in [
            ("a", 1),
            ("a:b", 1),
            ("a: b\n- c", 2),
            ("a: - b", 1),
            ("a: [b]", 1),
            ("a: {b: c}", 1),
            ("a: &b c", 1),
            ("a: *b", 1),
            ("a: !!binary b", 1),
            ("%YAML 1.1", 1),
            ("a: b: c", 1),
            ("a: b:", 1),
            ("a: 'b", 1),
            ("a: 'b' c", 1),
            ("a: \"\\q\"", 1),
            ("a: \"\\ud800\"", 1),
            ("a: \"\\x4\"", 1),
            ("\n# c\na: b\n  c: d", 4),
            ("a:\n    b: c\n  d: e", 3),
            ("  a: b\nc: d", 2),
            ("a:\n\tb: c", 2),
            ("a: b\na: c", 2),
            ("a: b\n---\na: b", 2),
            ("--- a\n", 1),
            ("a: |x\n b", 1),
            ("a:\n b:\n  c:\n   d:\n    e: f", 5),
            ("a: @b", 1),
            ("...\n...\na: b", 3),
            ("a: b\nc: d\re: f", 2),
            ("a: b\u{2028}c", 1),
            ("a: |\n   \n  b", 3),
            ("a: |\n \tb", 2),
        ] {
            let error = parse(yaml).expect_err(yaml);
            assert_eq!(error.line, line, "{yaml:?}: {error}");
        }
    }

    #[test]
    fn bounds() {
        let long = "x".repeat(SETTING_VALUE_BYTES_MAX + 1);
        for yaml in [
            format!("a: {long}"),
            format!("a: '{long}'"),
            format!("a: |\n  {long}"),
            format!("a: |+\n b\n{}", "\n".repeat(SETTING_VALUE_BYTES_MAX + 1)),
            format!("{}: b", "x".repeat(SETTING_NAME_BYTES_MAX + 1)),
            (0..=SETTING_ENTRIES_MAX).map(|number| format!("k{number}: v\n")).collect(),
        ] {
            assert!(parse(&yaml).is_err(), "{}", &yaml[..20]);
        }
        let many: String = (0..20)
            .map(|entry| {
                let pairs: String = (0..900).map(|pair| format!(" k{pair}: v\n")).collect();
                format!("e{entry}:\n{pairs}")
            })
            .collect();
        assert!(parse(&many).is_err());
    }

    #[test]
    fn nothing_of_a_text_is_shown() {
        let error = parse("password: 'hunter2").unwrap_err();
        assert_eq!(error.to_string(), "line 1: the closing quote is not on the same line");
        assert!(!format!("{:?}", parse("password: hunter2")).contains("hunter2"));
    }
}
