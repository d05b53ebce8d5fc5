//! Replies of a server: what their bytes mean, without any IO.

use std::net::Ipv4Addr;

use tiroir_core::host::HostErrorKind;

/// Longest reply that is taken in, of however many lines, in bytes.
pub(super) const REPLY_BYTES_MAX: usize = 64 * 1024;

/// What is kept of it, in bytes: any path, and any list of features.
pub(super) const REPLY_TEXT_BYTES_MAX: usize = 16 * 1024;

/// What a server replied to a command.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reply {
    /// Three digits.
    pub code: u16,
    /// The words, without code; lines end with `\n`.
    pub text: Vec<u8>,
}

impl Reply {
    /// Whether more replies follow: 1xx.
    pub(super) fn is_preliminary(&self) -> bool {
        self.code / 100 == 1
    }

    /// Whether it is done: 2xx.
    pub(super) fn is_done(&self) -> bool {
        self.code / 100 == 2
    }

    /// Whether it asks for the next command of a series: 3xx.
    pub(super) fn is_going_on(&self) -> bool {
        self.code / 100 == 3
    }

    /// Whether the server does not know the command, or not with that argument.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self.code, 500..=504)
    }

    /// Code and words, to be shown.
    pub(super) fn words(&self) -> String {
        format!("{} {}", self.code, String::from_utf8_lossy(&self.text).trim())
    }

    /// The lines of the text.
    pub(super) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
    }

    /// Whether Pure-FTPd says so that a file of which it was asked is missing: to
    /// look further would cost a pause that it makes. Of a directory that it does
    /// not list it says the same.
    pub(super) fn is_of_existence(&self) -> bool {
        self.code == 550 && self.text.starts_with(b"Can't check for file existence")
    }

    /// What is wrong, as far as code and words tell. Servers have one code for
    /// nearly everything, 550, and words of their own.
    pub(super) fn kind(&self) -> HostErrorKind {
        let words = self.text.to_ascii_lowercase();
        let has = |part: &[u8]| words.windows(part.len()).any(|window| window == part);
        let has_any = |parts: &[&[u8]]| parts.iter().any(|part| has(part));
        match self.code {
            452 | 552 => HostErrorKind::NoSpace,
            530 | 532 | 534 => HostErrorKind::PermissionDenied,
            _ if has_any(&[b"no space", b"disk full", b"quota"]) => HostErrorKind::NoSpace,
            450 | 550 | 553 | 521 | 451 => {
                if has_any(&[b"no such", b"not found", b"not exist", b"cannot find", b"can't find"])
                {
                    HostErrorKind::NotFound
                } else if has_any(&[b"exists", b"not empty"]) {
                    HostErrorKind::AlreadyExists
                } else if has_any(&[b"permission", b"denied", b"not permitted", b"read-only"]) {
                    HostErrorKind::PermissionDenied
                } else {
                    HostErrorKind::Other
                }
            }
            _ => HostErrorKind::Other,
        }
    }
}

/// Puts lines together to a reply.
#[derive(Debug, Default)]
pub struct ReplyParser {
    reply: Reply,
    started: bool,
    taken_bytes: usize,
}

impl ReplyParser {
    /// Takes a line without its end, and returns the reply if that was its last.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn line(&mut self, line: &[u8]) -> Result<Option<Reply>, &'static str> {
        self.taken_bytes = self.taken_bytes.saturating_add(line.len() + 1);
        if self.taken_bytes > REPLY_BYTES_MAX {
            return Err("the server's reply does not end");
        }
        let head = head_of(line);
        if !self.started {
            let (code, last, text) = head.ok_or("what the server replied is not FTP")?;
            self.started = true;
            self.reply.code = code;
            self.keep(text);
            return Ok(last.then(|| std::mem::take(self).reply));
        }
        match head {
            Some((code, true, text)) if code == self.reply.code => {
                self.keep(text);
                Ok(Some(std::mem::take(self).reply))
            }
            // Some servers put the code before every line.
            Some((code, false, text)) if code == self.reply.code => {
                self.keep(text);
                Ok(None)
            }
            _ => {
                self.keep(line);
                Ok(None)
            }
        }
    }

    fn keep(&mut self, text: &[u8]) {
        let room = REPLY_TEXT_BYTES_MAX - self.reply.text.len().min(REPLY_TEXT_BYTES_MAX);
        if text.len() < room {
            self.reply.text.extend_from_slice(text);
            self.reply.text.push(b'\n');
        }
    }
}

/// Code, whether no line follows, and words of a line.
fn head_of(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (digits, rest) = line.split_at_checked(3)?;
    if !(b'1'..=b'6').contains(&digits[0]) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    match rest {
        [] => Some((code, true, rest)),
        [b' ', text @ ..] => Some((code, true, text)),
        [b'-', text @ ..] => Some((code, false, text)),
        _ => None,
    }
}

/// Host and port that a reply to `PASV` announces.
#[must_use]
pub fn parse_passive(text: &[u8]) -> Option<(Ipv4Addr, u16)> {
    // Not all servers have the parentheses: it is the first six numbers.
    let is_part = |byte: &u8| byte.is_ascii_digit() || *byte == b',';
    for candidate in text.split(|byte| !is_part(byte)) {
        let mut parts = candidate.split(|byte| *byte == b',').map(super::when::digits);
        let mut numbers = [0u8; 6];
        let filled = numbers.iter_mut().all(|number| {
            let part = parts.next().flatten().and_then(|part| u8::try_from(part).ok());
            part.is_some_and(|part| {
                *number = part;
                true
            })
        });
        if filled && parts.next().is_none() {
            let [a, b, c, d, high, low] = numbers;
            let port = u16::from_be_bytes([high, low]);
            return (port != 0).then_some((Ipv4Addr::new(a, b, c, d), port));
        }
    }
    None
}

/// Port that a reply to `EPSV` announces: `(|||port|)`, with whatever letter
/// for the bar.
#[must_use]
pub fn parse_extended_passive(text: &[u8]) -> Option<u16> {
    let start = text.iter().position(|byte| *byte == b'(')? + 1;
    let end = start + text[start..].iter().position(|byte| *byte == b')')?;
    let [bar, second, third, digits @ .., last] = &text[start..end] else { return None };
    if bar.is_ascii_digit() || [second, third, last] != [bar; 3] {
        return None;
    }
    let port = super::when::digits(digits)?;
    u16::try_from(port).ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&str]) -> Result<Option<Reply>, &'static str> {
        let mut parser = ReplyParser::default();
        for (index, line) in lines.iter().enumerate() {
            if let Some(reply) = parser.line(line.as_bytes())? {
                assert_eq!(index + 1, lines.len(), "it ended too early");
                return Ok(Some(reply));
            }
        }
        Ok(None)
    }

    #[test]
    fn replies_of_one_and_many_lines() {
        let reply = |lines: &[&str]| {
            let reply = parse(lines).unwrap().unwrap();
            (reply.code, String::from_utf8(reply.text).unwrap())
        };
        assert_eq!(reply(&["220 Welcome"]), (220, "Welcome\n".into()));
        assert_eq!(reply(&["220"]), (220, "\n".into()));
        let features = ["211-Features:", " MDTM", "211 is no end: ", "211 End"];
        assert_eq!(parse(&features[..2]), Ok(None));
        assert_eq!(
            reply(&["211-Features:", " MDTM", "220 other", "211 End"]),
            (211, "Features:\n MDTM\n220 other\nEnd\n".into())
        );
        assert_eq!(reply(&["230-a", "230-b", "230 c"]), (230, "a\nb\nc\n".into()));
    }

    #[test]
    fn what_is_no_reply() {
        for line in ["", "22", "abc", "2200 x", "999 x", "SSH-2.0-OpenSSH", "220x", "\u{0}\u{0}"] {
            assert!(parse(&[line]).is_err(), "{line}");
        }
        let mut parser = ReplyParser::default();
        assert_eq!(parser.line(b"220-start"), Ok(None));
        let line = [b'x'; 1000];
        let count = (0..1000).take_while(|_| parser.line(&line).is_ok()).count();
        assert_eq!(count, REPLY_BYTES_MAX / 1001);
        assert!(parser.reply.text.len() <= REPLY_TEXT_BYTES_MAX);
    }

    #[test]
    fn kinds() {
        for (line, kind) in [
            ("550 No such file or directory", HostErrorKind::NotFound),
            ("550 The system cannot find the file specified.", HostErrorKind::NotFound),
            ("550 /a: File exists", HostErrorKind::AlreadyExists),
            ("550 Permission denied.", HostErrorKind::PermissionDenied),
            ("530 Login incorrect.", HostErrorKind::PermissionDenied),
            ("552 Quota", HostErrorKind::NoSpace),
            ("451 /a: No space left on device", HostErrorKind::NoSpace),
            ("550 Failed to open file.", HostErrorKind::Other),
            ("500 no such command", HostErrorKind::Other),
        ] {
            assert_eq!(parse(&[line]).unwrap().unwrap().kind(), kind, "{line}");
        }
    }

    #[test]
    fn passive_ports() {
        let elsewhere = Some((Ipv4Addr::new(10, 0, 0, 7), 4 * 256 + 1));
        assert_eq!(parse_passive(b"Entering Passive Mode (10,0,0,7,4,1)."), elsewhere);
        assert_eq!(parse_passive(b"ok 1,2 10,0,0,7,4,1"), elsewhere);
        assert_eq!(parse_passive(b"=10,0,0,7,4,1"), elsewhere);
        for text in
            [&b""[..], b"(1,2,3,4,5)", b"(1,2,3,4,5,256)", b"(1,2,3,4,0,0)", b"(1,2,3,4,5,6,7)"]
        {
            assert_eq!(parse_passive(text), None, "{}", text.escape_ascii());
        }
        assert_eq!(parse_extended_passive(b"Extended (|||1025|)"), Some(1025));
        assert_eq!(parse_extended_passive(b"(!!!21!)"), Some(21));
        for text in
            [&b"(|||0|)"[..], b"(|||70000|)", b"(||||)", b"(|||1", b"|||1|", b"(||!1|)", b"()"]
        {
            assert_eq!(parse_extended_passive(text), None, "{}", text.escape_ascii());
        }
    }
}
