//! Files of OpenSSH, and addresses of servers.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_hosts::address::Address;
use tiroir_hosts::sftp::{config, known_hosts};

fuzz_target!(|data: &[u8]| {
    if let Ok(address) = Address::parse(data) {
        // What is shown without a password is an address again.
        if address.path.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'/')
            && address.user.is_none()
            && address.password.is_none()
        {
            let again = Address::parse(address.to_string().as_bytes());
            assert!(again.is_ok_and(|again| again == address));
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    for line in text.lines() {
        let _ = known_hosts::parse_line(line, "[nas.local]:2222");
        let words = config::words(line);
        assert!(words.iter().map(String::len).sum::<usize>() <= line.len());
        if let [pattern, name, ..] = words.as_slice() {
            let _ = config::matches_pattern(pattern, name);
            assert!(config::matches_pattern("*", name));
        }
    }
});
