//! Patterns for names, as Go's `path.Match` takes them.

/// The pattern is malformed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct BadPattern;

/// Whether `name` matches `pattern`: `*` and `?` stand for anything but `/`,
/// `[a-z]` and `[^a-z]` for one character, `\` takes the meaning from the next.
///
/// # Errors
///
/// [`BadPattern`], also where the name would not have got so far.
pub(crate) fn matches(pattern: &[u8], name: &[u8]) -> Result<bool, BadPattern> {
    check(pattern)?;
    let (mut at, mut place) = (0, 0);
    // Where to go on after a mismatch: behind the last star, one character on.
    let mut retry = None;
    loop {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            retry = Some((at, place));
            continue;
        }
        if at == pattern.len() && place == name.len() {
            return Ok(true);
        }
        if let Some((next, length)) = one(&pattern[at..], &name[place..])? {
            at += next;
            place += length;
            continue;
        }
        match retry {
            Some((star, from)) if name.get(from).is_some_and(|byte| *byte != b'/') => {
                retry = Some((star, from + 1));
                (at, place) = (star, from + 1);
            }
            _ => return Ok(false),
        }
    }
}

/// Checks the whole pattern.
fn check(pattern: &[u8]) -> Result<(), BadPattern> {
    let mut at = 0;
    while at < pattern.len() {
        at += match pattern[at] {
            b'[' => class(&pattern[at..], 'x')?.1,
            b'\\' if at + 1 == pattern.len() => return Err(BadPattern),
            b'\\' => 2,
            _ => 1,
        };
    }
    Ok(())
}

/// The first character of some bytes and its length; a byte that is not UTF-8
/// is one character.
fn first(bytes: &[u8]) -> Option<(char, usize)> {
    let chunk = bytes.utf8_chunks().next()?;
    match chunk.valid().chars().next() {
        Some(c) => Some((c, c.len_utf8())),
        None => Some((char::REPLACEMENT_CHARACTER, 1)),
    }
}

/// Matches one element of the pattern, which is no star, with the start of the
/// name: how much of each it takes.
fn one(pattern: &[u8], name: &[u8]) -> Result<Option<(usize, usize)>, BadPattern> {
    let (Some(element), Some((c, length))) = (pattern.first(), first(name)) else {
        return Ok(None);
    };
    Ok(match element {
        b'?' => (c != '/').then_some((1, length)),
        b'[' => {
            let (is_in, taken) = class(pattern, c)?;
            is_in.then_some((taken, length))
        }
        b'\\' => (pattern.get(1) == name.first()).then_some((2, 1)),
        _ => (element == &name[0]).then_some((1, 1)),
    })
}

/// Whether `c` is in the class that the pattern starts with, and its length.
fn class(pattern: &[u8], c: char) -> Result<(bool, usize), BadPattern> {
    let mut at = 1;
    let is_negated = pattern.get(at) == Some(&b'^');
    at += usize::from(is_negated);
    let (mut found, mut ranges) = (false, 0);
    loop {
        if ranges > 0 && pattern.get(at) == Some(&b']') {
            return Ok((found != is_negated, at + 1));
        }
        let low = class_char(pattern, &mut at)?;
        let mut high = low;
        if pattern.get(at) == Some(&b'-') {
            at += 1;
            high = class_char(pattern, &mut at)?;
        }
        found |= (low..=high).contains(&c);
        ranges += 1;
    }
}

/// The next character of a class.
fn class_char(pattern: &[u8], at: &mut usize) -> Result<char, BadPattern> {
    let start = pattern.get(*at).ok_or(BadPattern)?;
    if matches!(start, b'-' | b']') {
        return Err(BadPattern);
    }
    *at += usize::from(*start == b'\\');
    let (c, length) = first(pattern.get(*at..).unwrap_or_default()).ok_or(BadPattern)?;
    *at += length;
    // A class that is not closed.
    if *at < pattern.len() { Ok(c) } else { Err(BadPattern) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the tests of Go's `path` package.
    #[test]
    fn as_go_matches() {
        for (pattern, name, wanted) in [
            ("abc", "abc", Ok(true)),
            ("*", "abc", Ok(true)),
            ("*c", "abc", Ok(true)),
            ("a*", "a", Ok(true)),
            ("a*", "abc", Ok(true)),
            ("a*", "ab/c", Ok(false)),
            ("a*/b", "abc/b", Ok(true)),
            ("a*/b", "a/c/b", Ok(false)),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", Ok(true)),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", Ok(true)),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", Ok(false)),
            ("a*b?c*x", "abxbbxdbxebxczzx", Ok(true)),
            ("a*b?c*x", "abxbbxdbxebxczzy", Ok(false)),
            ("ab[c]", "abc", Ok(true)),
            ("ab[b-d]", "abc", Ok(true)),
            ("ab[e-g]", "abc", Ok(false)),
            ("ab[^c]", "abc", Ok(false)),
            ("ab[^e-g]", "abc", Ok(true)),
            ("a\\*b", "a*b", Ok(true)),
            ("a\\*b", "ab", Ok(false)),
            ("a?b", "a☺b", Ok(true)),
            ("a[^a]b", "a☺b", Ok(true)),
            ("a???b", "a☺b", Ok(false)),
            ("[a-ζ]*", "α", Ok(true)),
            ("*[a-ζ]", "A", Ok(false)),
            ("a?b", "a/b", Ok(false)),
            ("a*b", "a/b", Ok(false)),
            ("[\\]a]", "]", Ok(true)),
            ("[\\-]", "-", Ok(true)),
            ("[x\\-]", "x", Ok(true)),
            ("[]a]", "]", Err(BadPattern)),
            ("[-]", "-", Err(BadPattern)),
            ("[x-]", "x", Err(BadPattern)),
            ("\\", "a", Err(BadPattern)),
            ("[a-b-c]", "a", Err(BadPattern)),
            ("[", "a", Err(BadPattern)),
            ("[^bc", "a", Err(BadPattern)),
            ("a[", "ab", Err(BadPattern)),
            ("*x", "xxx", Ok(true)),
            ("", "", Ok(true)),
            ("", "a", Ok(false)),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), wanted, "{pattern} {name}");
        }
        assert_eq!(matches(b"a?b", b"a\xffb"), Ok(true));
    }
}
