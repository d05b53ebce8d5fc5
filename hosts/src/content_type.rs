//! [`content_type`]: what a file is, guessed from its first bytes.
//!
//! Stock records what Go's `mimetype` says of the first 3072 bytes; nothing
//! depends on the words, but those who search by them should find the same
//! files. So the names are that library's where `infer`, which knows the binary
//! formats here, has others, and the rules for text follow it closely.

/// Bytes that are looked at, as there.
const LOOK_BYTES: usize = 3072;

/// Bytes in which an encoding shows, as there.
const CHARSET_BYTES: usize = 1024;

/// Nesting of JSON that is followed.
const JSON_DEPTH_MAX: u32 = 64;

/// Content type of the file `name` that starts with `first`.
///
/// Looks at 3 KiB at most, and at the name only where the bytes say nothing.
#[must_use]
pub fn content_type(name: &[u8], first: &[u8]) -> &'static str {
    let first = &first[..first.len().min(LOOK_BYTES)];
    if first.is_empty() {
        return "text/plain";
    }
    if let Some(found) = binary(first) {
        return found;
    }
    if is_text(first) { text(first) } else { by_extension(name) }
}

/// What `infer` says, in the words of `mimetype`.
fn binary(first: &[u8]) -> Option<&'static str> {
    let found = infer::get(first)?;
    if found.matcher_type() == infer::MatcherType::Text {
        return None;
    }
    Some(match found.mime_type() {
        "application/java" => "application/x-java-applet",
        "application/font-woff" if first.starts_with(b"wOF2") => "font/woff2",
        "application/font-woff" => "font/woff",
        "application/font-sfnt" if first.starts_with(b"OTTO") => "font/otf",
        "application/font-sfnt" => "font/ttf",
        "application/x-nintendo-nes-rom" => "application/vnd.nintendo.snes.rom",
        "application/x-google-chrome-extension" => "application/x-chrome-extension",
        "application/x-unix-archive" => "application/x-archive",
        "application/x-lzip" => "application/lzip",
        "application/vnd.rar" => "application/x-rar-compressed",
        "application/rtf" => "text/rtf",
        "application/x-executable" => elf(first),
        // Certificates in PEM are text there; in DER they are nothing.
        "application/x-x509-ca-cert" if is_text(first) => return None,
        "application/x-x509-ca-cert" => "application/octet-stream",
        "audio/x-flac" => "audio/flac",
        "audio/x-wav" => "audio/wav",
        "audio/x-aiff" => "audio/aiff",
        "audio/x-ape" => "audio/ape",
        "audio/m4a" => "audio/x-m4a",
        "audio/opus" => "audio/ogg",
        "video/x-ms-wmv" => "video/x-ms-asf",
        "image/vnd.microsoft.icon" => "image/x-icon",
        "image/vnd.ms-photo" => "image/jxr",
        "image/x-canon-cr2" => "image/tiff",
        other => other,
    })
}

/// The kind of an ELF file, in its seventeenth byte or the one after.
fn elf(first: &[u8]) -> &'static str {
    if !first.starts_with(b"\x7fELF") {
        return "application/x-executable";
    }
    let big_endian = first.get(5) == Some(&2);
    match first.get(if big_endian { 17 } else { 16 }) {
        Some(1) => "application/x-object",
        Some(2) => "application/x-executable",
        Some(3) => "application/x-sharedlib",
        Some(4) => "application/x-coredump",
        _ => "application/x-elf",
    }
}

/// Encoding that a byte order mark tells.
fn byte_order_mark(first: &[u8]) -> Option<Charset> {
    const MARKS: [(&[u8], Charset); 5] = [
        (&[0xef, 0xbb, 0xbf], Charset::Utf8),
        (&[0, 0, 0xfe, 0xff], Charset::Utf32Be),
        (&[0xff, 0xfe, 0, 0], Charset::Utf32Le),
        (&[0xfe, 0xff], Charset::Utf16Be),
        (&[0xff, 0xfe], Charset::Utf16Le),
    ];
    MARKS.iter().find(|(mark, _)| first.starts_with(mark)).map(|&(_, charset)| charset)
}

/// Whether these bytes hold none that text never has.
fn is_text(first: &[u8]) -> bool {
    // Comparisons alone, so that many bytes are looked at together.
    let never = |byte: u8| {
        (byte < 0x20)
            & (byte != b'\t')
            & (byte != b'\n')
            & (byte != 0x0c)
            & (byte != b'\r')
            & (byte != 0x1b)
    };
    byte_order_mark(first).is_some() || !any(first, never)
}

/// Whether one of the bytes is such: whole pieces at a time, without an end in
/// them, so that many bytes are looked at together.
fn any(bytes: &[u8], is: impl Fn(u8) -> bool) -> bool {
    let (pieces, rest) = bytes.as_chunks::<64>();
    let found = |piece: &[u8; 64]| piece.iter().fold(0, |any, &byte| any | u8::from(is(byte))) != 0;
    pieces.iter().any(found) || rest.iter().any(|&byte| is(byte))
}

/// Encodings that are told apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Charset {
    Utf8,
    Utf16Be,
    Utf16Le,
    Utf32Be,
    Utf32Le,
    Latin1,
    Windows1252,
    Unknown,
}

impl Charset {
    fn of(first: &[u8]) -> Self {
        let first = &first[..first.len().min(CHARSET_BYTES)];
        if let Some(charset) = byte_order_mark(first) {
            return charset;
        }
        let ascii = |byte: u8| {
            (0x07..=0x0d).contains(&byte) | (byte == 0x1b) | (0x20..=0x7e).contains(&byte)
        };
        if !any(first, |byte| !ascii(byte)) {
            return Self::Utf8;
        }
        let cut_short = |error: std::str::Utf8Error| error.error_len().is_none();
        let utf8 = std::str::from_utf8(first).map_or_else(cut_short, |_| true);
        if utf8 && !first.is_ascii() {
            return Self::Utf8;
        }
        // 0x85, a line break, is the only control character of Latin 1 that text
        // may hold; nothing else below 0xa0 is a letter anywhere.
        if first.iter().all(|&byte| ascii(byte) || byte >= 0xa0) {
            Self::Latin1
        } else if first.iter().all(|&byte| ascii(byte) || byte >= 0xa0 || byte == 0x85) {
            Self::Windows1252
        } else {
            Self::Unknown
        }
    }
}

/// What sort of text it is.
fn text(first: &[u8]) -> &'static str {
    let body = first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first).trim_ascii_start();
    if is_html(body) {
        return match Charset::of(first) {
            Charset::Utf16Be => "text/html; charset=utf-16be",
            Charset::Utf16Le => "text/html; charset=utf-16le",
            Charset::Latin1 => "text/html; charset=iso-8859-1",
            Charset::Unknown => "text/html",
            _ => "text/html; charset=utf-8",
        };
    }
    if starts_with_tag(body, b"<?xml") {
        return xml(body, first);
    }
    if let Some(found) = script(first) {
        return found;
    }
    if is_json(first) {
        return "application/json";
    }
    const STARTS: [(&[u8], &str); 7] = [
        (b"{\\rtf", "text/rtf"),
        (b"BEGIN:VCARD\n", "text/vcard"),
        (b"BEGIN:VCARD\r\n", "text/vcard"),
        (b"BEGIN:VCALENDAR\n", "text/calendar"),
        (b"BEGIN:VCALENDAR\r\n", "text/calendar"),
        (b"WEBVTT\n", "text/vtt"),
        (b"<svg ", "image/svg+xml"),
    ];
    if let Some((_, found)) = STARTS.iter().find(|(start, _)| first.starts_with(start)) {
        return found;
    }
    match Charset::of(first) {
        Charset::Utf8 => "text/plain; charset=utf-8",
        Charset::Utf16Be => "text/plain; charset=utf-16be",
        Charset::Utf16Le => "text/plain; charset=utf-16le",
        Charset::Utf32Be => "text/plain; charset=utf-32be",
        Charset::Utf32Le => "text/plain; charset=utf-32le",
        Charset::Latin1 => "text/plain; charset=iso-8859-1",
        Charset::Windows1252 => "text/plain; charset=windows-1252",
        Charset::Unknown => "text/plain",
    }
}

/// Whether `body` starts with that tag, in whatever case, and the tag ends.
fn starts_with_tag(body: &[u8], tag: &[u8]) -> bool {
    let Some((start, rest)) = body.split_at_checked(tag.len()) else { return false };
    let ends = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'>';
    start.eq_ignore_ascii_case(tag) && rest.first().is_some_and(ends)
}

fn is_html(body: &[u8]) -> bool {
    const TAGS: [&[u8]; 17] = [
        b"<!doctype html",
        b"<html",
        b"<head",
        b"<script",
        b"<iframe",
        b"<h1",
        b"<div",
        b"<font",
        b"<table",
        b"<a",
        b"<style",
        b"<title",
        b"<b",
        b"<body",
        b"<br",
        b"<p",
        b"<!--",
    ];
    TAGS.iter().any(|tag| starts_with_tag(body, tag))
}

/// The few languages of XML that are met often.
fn xml(body: &[u8], first: &[u8]) -> &'static str {
    let holds = |needle: &[u8]| body.windows(needle.len()).any(|window| window == needle);
    if holds(b"<svg") {
        "image/svg+xml"
    } else if holds(b"<rss") {
        "application/rss+xml"
    } else if holds(b"<feed") && holds(b"http://www.w3.org/2005/Atom") {
        "application/atom+xml"
    } else if holds(b"<gpx") && holds(b"http://www.topografix.com/GPX/1/1") {
        "application/gpx+xml"
    } else if holds(b"<kml") {
        "application/vnd.google-earth.kml+xml"
    } else if holds(b"<!DOCTYPE html") || holds(b"<html xmlns=") {
        "application/xhtml+xml"
    } else {
        match Charset::of(first) {
            Charset::Utf16Be => "text/xml; charset=utf-16be",
            Charset::Utf16Le => "text/xml; charset=utf-16le",
            Charset::Latin1 => "text/xml; charset=iso-8859-1",
            Charset::Unknown => "text/xml",
            _ => "text/xml; charset=utf-8",
        }
    }
}

/// The language of a script, from its first line.
fn script(first: &[u8]) -> Option<&'static str> {
    if first.starts_with(b"<?php") || first.starts_with(b"<? ") || first.starts_with(b"<?\n") {
        return Some("text/x-php");
    }
    let line = first.strip_prefix(b"#!")?;
    let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let mut program = words.next()?;
    if program.ends_with(b"/env") {
        program = words.find(|word| *word != b"-S")?;
    }
    let program = program.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let end = program.iter().position(|byte| !byte.is_ascii_lowercase()).unwrap_or(program.len());
    Some(match &program[..end] {
        b"sh" | b"bash" | b"csh" | b"dash" | b"ksh" | b"tcsh" | b"zsh" => "text/x-shellscript",
        b"python" => "text/x-python",
        b"perl" => "text/x-perl",
        b"ruby" => "text/x-ruby",
        b"lua" => "text/x-lua",
        b"php" => "text/x-php",
        b"node" | b"nodejs" => "text/javascript",
        b"tcl" | b"tclsh" | b"wish" => "text/x-tcl",
        _ => return None,
    })
}

/// Whether these bytes are an object or an array of JSON, or its start if the
/// file is longer.
///
/// Follows the nesting and the strings, which tells JSON from other text with
/// braces well enough: only what stands between them is compared with what
/// numbers and words may look like.
fn is_json(first: &[u8]) -> bool {
    if !matches!(first.trim_ascii_start().first(), Some(b'{' | b'[')) {
        return false;
    }
    // One bit for each level, set for an object.
    let mut objects = 0u64;
    let mut depth = 0u32;
    let mut bytes = first.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' if depth == JSON_DEPTH_MAX => return false,
            b'{' | b'[' => {
                objects = objects << 1 | u64::from(byte == b'{');
                depth += 1;
            }
            b'}' | b']' => {
                if depth == 0 || (objects & 1 == 1) != (byte == b'}') {
                    return false;
                }
                objects >>= 1;
                depth -= 1;
                if depth == 0 {
                    return bytes.all(|byte| byte.is_ascii_whitespace());
                }
            }
            b'"' => match skip_string(&mut bytes) {
                Some(true) => {}
                Some(false) => return false,
                None => return first.len() == LOOK_BYTES,
            },
            b':' if objects & 1 == 0 => return false,
            b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' => {}
            b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'E' => {}
            _ => return false,
        }
    }
    // Only a file that goes on may stop in the middle.
    first.len() == LOOK_BYTES
}

/// Skips the rest of a string: whether it is one, or nothing if it does not end.
fn skip_string(bytes: &mut impl Iterator<Item = u8>) -> Option<bool> {
    loop {
        match bytes.next()? {
            b'"' => return Some(true),
            b'\\' => {
                bytes.next()?;
            }
            0..=0x1f => return Some(false),
            _ => {}
        }
    }
}

/// The last resort, for formats without a mark of their own.
fn by_extension(name: &[u8]) -> &'static str {
    let base = name.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let Some(dot) = base.iter().rposition(|&byte| byte == b'.') else {
        return "application/octet-stream";
    };
    const EXTENSIONS: [(&[u8], &str); 12] = [
        (b"mp3", "audio/mpeg"),
        (b"mpg", "video/mpeg"),
        (b"mpeg", "video/mpeg"),
        (b"ts", "video/mp2t"),
        (b"m2ts", "video/mp2t"),
        (b"tga", "image/x-tga"),
        (b"iso", "application/x-iso9660-image"),
        (b"dbf", "application/x-dbf"),
        (b"pyc", "application/x-python-code"),
        (b"lzma", "application/x-lzma"),
        (b"br", "application/x-brotli"),
        (b"mo", "application/x-gettext-translation"),
    ];
    let extension = &base[dot + 1..];
    let known = EXTENSIONS.iter().find(|(known, _)| extension.eq_ignore_ascii_case(known));
    known.map_or("application/octet-stream", |(_, found)| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pairs taken from what `mimetype` 1.4.13 says.
    #[test]
    fn says_what_stock_says() {
        let cases: &[(&[u8], &str)] = &[
            (b"", "text/plain"),
            (b"hello world\n", "text/plain; charset=utf-8"),
            ("gr\u{fc}n\n".as_bytes(), "text/plain; charset=utf-8"),
            (b"gr\xfcn\n", "text/plain; charset=iso-8859-1"),
            (b"\xff\xfeh\0i\0", "text/plain; charset=utf-16le"),
            (b"\xfe\xff\0h\0i", "text/plain; charset=utf-16be"),
            (b"\0\x01\x02\x03", "application/octet-stream"),
            (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "image/png"),
            (b"\xff\xd8\xff\xe0\0\x10JFIF", "image/jpeg"),
            (b"\x1f\x8b\x08\0", "application/gzip"),
            (b"<!DOCTYPE html>\n<html>", "text/html; charset=utf-8"),
            (b"  <HTML ><p>", "text/html; charset=utf-8"),
            (b"<htmlx>", "text/plain; charset=utf-8"),
            (b"<?xml version=\"1.0\"?><a/>", "text/xml; charset=utf-8"),
            (b"{\"a\": [1, 2.5e3, true, null]}", "application/json"),
            (b"[1, 2]\n", "application/json"),
            (b"{a) b}", "text/plain; charset=utf-8"),
            (b"{\"a\": 1", "text/plain; charset=utf-8"),
            (b"[\"a\": 1]", "text/plain; charset=utf-8"),
            (b"#!/bin/sh\necho\n", "text/x-shellscript"),
            (b"#! /usr/bin/env python3\n", "text/x-python"),
            (b"#!/usr/bin/env -S perl -w\n", "text/x-perl"),
            (b"#!/usr/bin/awk\n", "text/plain; charset=utf-8"),
            (b"-----BEGIN CERTIFICATE-----\nMIIB\n", "text/plain; charset=utf-8"),
        ];
        for (first, wanted) in cases {
            assert_eq!(content_type(b"/file", first), *wanted, "{}", first.escape_ascii());
        }
    }

    #[test]
    fn names_help_where_bytes_do_not() {
        assert_eq!(content_type(b"/a/b.ISO", b"\0\0\0\0"), "application/x-iso9660-image");
        assert_eq!(content_type(b"/a.iso/b", b"\0\0\0\0"), "application/octet-stream");
        assert_eq!(content_type(b"/a/b.iso", b"text"), "text/plain; charset=utf-8");
    }

    #[test]
    fn json_may_go_on_after_what_is_looked_at() {
        let long = format!("[{}", "\"word\", ".repeat(1000));
        assert_eq!(content_type(b"x", long.as_bytes()), "application/json");
        assert_eq!(content_type(b"x", "[".repeat(5000).as_bytes()), "text/plain; charset=utf-8");
    }

    #[test]
    fn no_bytes_make_it_panic_or_return_nothing() {
        let mut random = crate::testing::Random::new(1);
        for _ in 0..2000 {
            let length = usize::try_from(random.below(200)).unwrap();
            let found = content_type(b"x", &random.bytes(length));
            assert!(
                !found.is_empty() && found.len() <= tiroir_core::limits::CONTENT_TYPE_BYTES_MAX
            );
        }
    }
}
