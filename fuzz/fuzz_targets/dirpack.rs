//! The frames of a directory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_core::limits::ENTRY_BYTES_MAX;
use tiroir_core::wire::dirpack::{FRAME_BYTES_MAX, FRAME_HEAD_BYTES, Frame, frame_head};

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while let Ok(Some(length)) = Frame::length_bytes(rest) {
        assert!((FRAME_HEAD_BYTES..=FRAME_BYTES_MAX).contains(&length));
        let Some((bytes, after)) = rest.split_at_checked(length) else {
            assert!(Frame::parse(rest).is_err());
            break;
        };
        let frame = Frame::parse(bytes).expect("a frame of the length that it says");
        assert!((1..=ENTRY_BYTES_MAX).contains(&frame.entry.len()));
        let head = frame_head(bytes[0] == 1, frame.entry.len().try_into().unwrap());
        assert_eq!(head[1..], bytes[1..FRAME_HEAD_BYTES]);
        let mut again = head.to_vec();
        again.extend_from_slice(frame.entry);
        again.extend_from_slice(&frame.mac.0);
        assert_eq!(Frame::parse(&again), Ok(frame));
        if after.is_empty() {
            break;
        }
        assert!(Frame::parse(rest).is_err());
        rest = after;
    }
});
