//! [`Globs`]: one pattern with wildcards, made ready to be matched with paths.
//!
//! The syntax is that of `globset`, which the tests of [`ignore`](super::ignore)
//! hold this against: `?`, `*`, `**` between slashes, `[a-z]`, `[!a]`, `{a,b}` and
//! `\` before a character. Everything counts in bytes. What it does by regular
//! expressions costs as much code as a twelfth of the program; here a set of places
//! in the pattern is followed along the path, so that no pattern takes longer than
//! its length times that of the path.

/// Patterns that the alternatives of one line may stand for, each beside the others.
const ALTERNATIVES: usize = 256;

/// Places in all of them together, while they are parsed: 512 KiB.
const TOKENS: usize = 32 * 1024;

/// Alternatives within alternatives.
const DEPTH: usize = 8;

/// A place in a pattern.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// This byte.
    Byte(u8),
    /// Any byte but a slash.
    Any,
    /// One of these bytes, a slash perhaps.
    Class(Box<Bytes>),
    /// Bytes without slashes, or none.
    Star,
    /// Nothing, or what ends with a slash.
    Folders,
    /// Whatever is left.
    Rest,
}

/// A set of bytes, a bit for each.
type Bytes = [u32; 8];

fn contains(set: &[u32], bit: usize) -> bool {
    set[bit / 32] & (1 << (bit % 32)) != 0
}

fn insert(set: &mut [u32], bit: usize) {
    set[bit / 32] |= 1 << (bit % 32);
}

impl Token {
    fn takes_slash(&self) -> bool {
        match self {
            Self::Byte(byte) => *byte == b'/',
            Self::Class(bytes) => contains(&bytes[..], usize::from(b'/')),
            Self::Folders | Self::Rest => true,
            Self::Any | Self::Star => false,
        }
    }
}

/// One pattern, as all that its alternatives stand for.
#[derive(Clone, Debug)]
pub(crate) struct Globs {
    globs: Box<[Glob]>,
}

/// A pattern without alternatives.
#[derive(Clone, Debug)]
struct Glob {
    /// Whether the last name of a path decides by itself.
    by_name: bool,
    /// What it begins with, what it ends with, and what lies between, which has
    /// wildcards or nothing.
    prefix: Box<[u8]>,
    middle: Box<[Token]>,
    suffix: Box<[u8]>,
}

impl Globs {
    /// The pattern, or none when it is no pattern, or stands for too many.
    pub(crate) fn parse(pattern: &str) -> Option<Self> {
        let mut parser = Parser { rest: pattern, previous: None, current: None, unclosed: false };
        let mut found = parser.sequences(0)?;
        if found.last == Some(Last::Prefix) {
            // `**` and nothing else.
            found.tokens = vec![vec![Token::Rest]];
        }
        let globs: Vec<Glob> = found.tokens.into_iter().map(Glob::new).collect();
        Some(Self { globs: globs.into_boxed_slice() })
    }

    /// Memory that it takes, in bytes.
    pub(crate) fn size_bytes(&self) -> usize {
        let of = |glob: &Glob| {
            let classes = glob.middle.iter().filter(|token| matches!(token, Token::Class(_)));
            size_of::<Glob>()
                + glob.prefix.len()
                + glob.suffix.len()
                + size_of_val(&*glob.middle)
                + classes.count() * size_of::<Bytes>()
        };
        size_of::<Self>() + self.globs.iter().map(of).sum::<usize>()
    }

    /// Whether a path, without the slash it begins with, is one of these.
    pub(crate) fn matches(&self, path: &[u8]) -> bool {
        self.globs.iter().any(|glob| glob.matches(path))
    }
}

impl Glob {
    fn new(mut tokens: Vec<Token>) -> Self {
        let by_name =
            tokens.first() == Some(&Token::Folders) && !tokens[1..].iter().any(Token::takes_slash);
        if by_name {
            tokens.remove(0);
        }
        let byte = |token: &Token| match token {
            Token::Byte(byte) => Some(*byte),
            _ => None,
        };
        let prefix: Box<[u8]> = tokens.iter().map_while(byte).collect();
        tokens.drain(..prefix.len());
        let mut suffix: Box<[u8]> = tokens.iter().rev().map_while(byte).collect();
        suffix.reverse();
        tokens.truncate(tokens.len() - suffix.len());
        Self { by_name, prefix, middle: tokens.into_boxed_slice(), suffix }
    }

    fn matches(&self, path: &[u8]) -> bool {
        let name = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let path = if self.by_name { &path[name..] } else { path };
        let Some(path) = path.strip_prefix(&*self.prefix) else { return false };
        let Some(path) = path.strip_suffix(&*self.suffix) else { return false };
        match &*self.middle {
            [] => path.is_empty(),
            [Token::Star] => !path.contains(&b'/'),
            middle => follow(middle, path),
        }
    }
}

/// Whether the tokens are all of a path: every way through them at once.
fn follow(tokens: &[Token], path: &[u8]) -> bool {
    let words = tokens.len() / 32 + 1;
    let mut now = vec![0_u32; words];
    let mut next = now.clone();
    enter(tokens, &mut now, 0);
    for byte in path {
        let (mut alive, slash) = (false, *byte == b'/');
        for (place, token) in tokens.iter().enumerate() {
            if !contains(&now, place) {
                continue;
            }
            let goes_on = match token {
                Token::Byte(wanted) => wanted == byte,
                Token::Class(bytes) => contains(&bytes[..], usize::from(*byte)),
                Token::Any => !slash,
                Token::Star | Token::Rest => {
                    // The place after it was entered along with it.
                    let stays = !slash || matches!(token, Token::Rest);
                    if stays {
                        enter(tokens, &mut next, place);
                        alive = true;
                    }
                    false
                }
                Token::Folders => {
                    insert(&mut next, place);
                    alive = true;
                    slash
                }
            };
            if goes_on {
                enter(tokens, &mut next, place + 1);
                alive = true;
            }
        }
        if !alive {
            return false;
        }
        std::mem::swap(&mut now, &mut next);
        next.fill(0);
    }
    contains(&now, tokens.len())
}

/// Adds a place, and those after it that can be reached with nothing.
fn enter(tokens: &[Token], places: &mut [u32], mut place: usize) {
    insert(places, place);
    while matches!(tokens.get(place), Some(Token::Star | Token::Folders | Token::Rest)) {
        place += 1;
        insert(places, place);
    }
}

/// What a pattern, or one of alternatives, stands for so far: a sequence of tokens
/// for each choice of what is in braces.
struct Sequences {
    tokens: Vec<Vec<Token>>,
    /// How many tokens these are, or were.
    count: usize,
    /// What was written last, if anything was.
    last: Option<Last>,
}

#[derive(Clone, Copy, PartialEq)]
enum Last {
    /// `**`, at the start.
    Prefix,
    /// `**`, after a slash.
    Folders,
    Other,
}

impl Sequences {
    fn new() -> Self {
        Self { tokens: vec![Vec::new()], count: 0, last: None }
    }

    fn push(&mut self, token: &Token) {
        self.tokens.iter_mut().for_each(|tokens| tokens.push(token.clone()));
        self.count += self.tokens.len();
        self.last = Some(Last::Other);
    }

    fn push_character(&mut self, character: char) {
        for byte in character.encode_utf8(&mut [0; 4]).bytes() {
            self.push(&Token::Byte(byte));
        }
    }

    /// Appends each of the others to each, or nothing when they are too many.
    fn multiply(&mut self, others: &[Vec<Token>]) -> Option<()> {
        self.last = Some(Last::Other);
        if others.is_empty() {
            return Some(());
        }
        let added: usize = others.iter().map(Vec::len).sum();
        let count = self.count * others.len() + added * self.tokens.len();
        if self.tokens.len() * others.len() > ALTERNATIVES || count > TOKENS {
            return None;
        }
        self.count = count;
        let pairs = self.tokens.iter().flat_map(|one| others.iter().map(move |other| (one, other)));
        self.tokens = pairs.map(|(one, other)| [&one[..], &other[..]].concat()).collect();
        Some(())
    }
}

struct Parser<'a> {
    rest: &'a str,
    previous: Option<char>,
    current: Option<char>,
    /// Whether a bracket was found that nothing closes: no further one is special.
    unclosed: bool,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        self.previous = self.current;
        self.current = characters.next();
        self.rest = characters.as_str();
        self.current
    }

    /// What stands before the end, or for one of alternatives before the comma or
    /// brace that ends it, which is the current character then.
    fn sequences(&mut self, depth: usize) -> Option<Sequences> {
        let mut found = Sequences::new();
        while let Some(character) = self.next() {
            match character {
                '?' => found.push(&Token::Any),
                '*' => self.star(&mut found, depth > 0),
                '[' if !self.unclosed => self.class(&mut found)?,
                '{' => self.alternatives(&mut found, depth + 1)?,
                '}' | ',' if depth > 0 => return Some(found),
                '}' => return None,
                '\\' => found.push_character(self.next()?),
                other => found.push_character(other),
            }
            if found.count > TOKENS {
                return None;
            }
        }
        (depth == 0).then_some(found)
    }

    fn alternatives(&mut self, found: &mut Sequences, depth: usize) -> Option<()> {
        if depth > DEPTH {
            return None;
        }
        let (mut all, mut count) = (Vec::new(), 0);
        loop {
            let branch = self.sequences(depth)?;
            count += branch.count;
            // Nothing is no alternative.
            all.extend(branch.tokens.into_iter().filter(|tokens| !tokens.is_empty()));
            if all.len() > ALTERNATIVES || count > TOKENS {
                return None;
            }
            if self.current == Some('}') {
                return found.multiply(&all);
            }
        }
    }

    fn star(&mut self, found: &mut Sequences, in_braces: bool) {
        let before = self.previous;
        if self.peek() != Some('*') {
            return found.push(&Token::Star);
        }
        self.next();
        let after = self.peek();
        let is_last = after.is_none() || in_braces && matches!(after, Some(',' | '}'));
        if found.last.is_none() && (after.is_none() || after == Some('/')) {
            found.push(&Token::Folders);
            found.last = Some(Last::Prefix);
        } else if found.last.is_some() && before == Some('/') && (is_last || after == Some('/')) {
            if found.last == Some(Last::Prefix) {
                // More of the same.
            } else {
                if found.last == Some(Last::Folders) {
                    found.tokens.iter_mut().for_each(|tokens| drop(tokens.pop()));
                }
                found.push(if is_last { &Token::Rest } else { &Token::Folders });
                found.last = Some(if is_last { Last::Other } else { Last::Folders });
            }
        } else {
            return found.push(&Token::Star);
        }
        if after == Some('/') {
            self.next();
        }
    }

    fn class(&mut self, found: &mut Sequences) -> Option<()> {
        let (rest, previous, current) = (self.rest, self.previous, self.current);
        let negated = matches!(self.peek(), Some('!' | '^'));
        if negated {
            self.next();
        }
        let mut ranges: Vec<(char, char)> = Vec::new();
        let mut in_range = false;
        loop {
            let Some(character) = self.next() else {
                // Nothing closes it: it is a character like others.
                (self.rest, self.previous, self.current) = (rest, previous, current);
                self.unclosed = true;
                found.push_character('[');
                return Some(());
            };
            match (character, ranges.last_mut()) {
                (']', Some(_)) => break,
                ('-', Some(_)) if !in_range => in_range = true,
                (end, Some(range)) if in_range => {
                    range.1 = end;
                    if end < range.0 {
                        return None;
                    }
                    in_range = false;
                }
                (other, _) => ranges.push((other, other)),
            }
        }
        if in_range {
            ranges.push(('-', '-'));
        }
        let mut bytes = bytes_of(&ranges)?;
        if negated {
            bytes.iter_mut().for_each(|word| *word = !*word);
        }
        found.push(&Token::Class(Box::new(bytes)));
        Some(())
    }
}

/// The bytes of ranges of characters. Those of several bytes are that many members;
/// a range is from the last of the one to the first of the other.
fn bytes_of(ranges: &[(char, char)]) -> Option<Bytes> {
    let mut bytes = [0; 8];
    for (first, last) in ranges {
        let (mut one, mut other) = ([0; 4], [0; 4]);
        let (one, other) = (first.encode_utf8(&mut one), last.encode_utf8(&mut other));
        let (from, to) = (*one.as_bytes().last()?, *other.as_bytes().first()?);
        if first != last {
            if to < from {
                return None;
            }
            (from..=to).for_each(|byte| insert(&mut bytes, usize::from(byte)));
        }
        one.bytes().chain(other.bytes()).for_each(|byte| insert(&mut bytes, usize::from(byte)));
    }
    Some(bytes)
}
