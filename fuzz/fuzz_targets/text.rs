//! Durations, sizes and times: what is shown is understood, and what cannot be
//! printed is not shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tiroir_appliance::fuzzing::{
    json_text, parse_duration, parse_size, parse_time, printable, show_duration, show_mode,
    show_size, show_time,
};
use tiroir_core::time::Timestamp;
use tiroir_fuzz::Input;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let number = input.u64();
    numbers(number);
    let time = Timestamp { secs: number.cast_signed(), nanos: input.u32() % 1_000_000_000 };
    for text in show_time(time) {
        assert!(!text.is_empty() && text.is_ascii());
    }
    // Years that have four digits come back.
    if (-62_167_219_200..253_402_300_800).contains(&time.secs) {
        let [text, ..] = show_time(time);
        assert_eq!(parse_time(&text, time), Some(Timestamp { nanos: 0, ..time }));
    }
    names(input.0);
    let Ok(text) = std::str::from_utf8(input.0) else { return };
    if let Some(nanos) = parse_duration(text) {
        assert!(nanos >= 0);
        assert_eq!(parse_duration(&text.to_ascii_uppercase()), Some(nanos));
    }
    if let Some(bytes) = parse_size(text) {
        assert_eq!(parse_size(&bytes.to_string()), Some(bytes));
    }
    if let Some(found) = parse_time(text, time) {
        assert!(found.nanos < 1_000_000_000);
    }
});

fn numbers(number: u64) {
    assert_eq!(parse_size(&number.to_string()), Some(number));
    assert!(show_size(number).len() <= 9, "{}", show_size(number));
    let nanos = number.cast_signed();
    let text = show_duration(nanos);
    assert_eq!(text.starts_with('-'), nanos < 0);
    assert!(show_mode(u32::try_from(number >> 32).unwrap()).len() >= 10);
}

fn names(bytes: &[u8]) {
    let (shown, written) = printable(bytes);
    for text in [&shown, &String::from_utf8_lossy(&written).into_owned()] {
        assert!(!text.contains(|c: char| c.is_control()), "{text:?}");
        assert!(!text.contains(['\u{202e}', '\u{2028}', '\u{200b}']));
    }
    if written != bytes {
        assert_eq!(written, shown.as_bytes());
    }
    let line = json_text(bytes);
    assert_eq!(line.iter().filter(|byte| **byte < b' ').count(), 1, "only the end of the line");
    let text = std::str::from_utf8(&line).expect("JSON is UTF-8");
    let value: serde_json::Value = serde_json::from_str(text).expect("it is JSON");
    assert_eq!(value["name"], String::from_utf8_lossy(bytes).into_owned());
}
