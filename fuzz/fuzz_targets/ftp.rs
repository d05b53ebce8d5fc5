//! What a server of FTP says: listings, replies, and where it waits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_core::time::Timestamp;
use tiroir_hosts::ftp::{fuzzing, listing, reply};

const NOW: Timestamp = Timestamp { secs: 1_772_712_000, nanos: 0 };

fuzz_target!(|data: &[u8]| {
    let mut parser = reply::ReplyParser::default();
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(Some(listed)) = listing::parse_line(line, NOW) {
            assert!(!listed.name.is_empty());
            assert!(line.windows(listed.name.len()).any(|window| window == listed.name));
            assert!(listed.entry.permissions.is_none_or(|mode| mode <= 0o7777));
        }
        fuzzing::facts(line);
        if let Some((_, port)) = reply::parse_passive(line) {
            assert_ne!(port, 0);
        }
        if let Some(port) = reply::parse_extended_passive(line) {
            assert_ne!(port, 0);
        }
        match parser.line(line) {
            Ok(None) => {}
            Ok(Some(reply)) => assert!((100..700).contains(&reply.code)),
            Err(_) => parser = reply::ReplyParser::default(),
        }
    }
});
