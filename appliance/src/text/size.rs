//! Sizes: `27 MiB` for people, and back from what they type.

use std::fmt;

use tiroir_hosts::rate::BYTES_PER_SECOND_MIN;

/// A number of bytes, shown as go-humanize's `IBytes` shows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Size(pub(crate) u64);

/// Units, each 1024 times the one before.
const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

impl fmt::Display for Size {
    #[expect(clippy::cast_precision_loss, reason = "as go-humanize computes it")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 10 {
            return f.pad(&format!("{} B", self.0));
        }
        let steps = (0..UNITS.len() - 1).take_while(|step| self.0 >> (10 * (step + 1)) > 0).count();
        let scaled = self.0 as f64 / (1_u64 << (10 * steps)) as f64;
        let rounded = (scaled * 10.0 + 0.5).floor() / 10.0;
        let decimals = usize::from(rounded < 10.0);
        f.pad(&format!("{rounded:.decimals$} {}", UNITS[steps]))
    }
}

/// Reads a number of bytes: digits, and `K`, `M`, `G` or `T` for powers of
/// 1024, with or without `iB` or `B` after it.
///
/// # Errors
///
/// A text for people when it is none.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(String::from("not a size: digits, then K, M, G or T")),
    };
    let number: u64 =
        number.parse().map_err(|_| String::from("not a size: digits, then K, M, G or T"))?;
    number.checked_mul(1 << shift).ok_or_else(|| String::from("more bytes than 64 bits count"))
}

/// Reads a number of bytes in a second, in the words of [`parse`] or with `/s`
/// behind it; 0 for no limit.
///
/// # Errors
///
/// A text for people when it is none, or so low that it must be a mistake.
pub(crate) fn parse_rate(text: &str) -> Result<u64, String> {
    match parse(text.strip_suffix("/s").unwrap_or(text))? {
        1..BYTES_PER_SECOND_MIN => {
            Err(String::from("less than 1K, which is 1024 bytes in a second, gets nowhere"))
        }
        rate => Ok(rate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_stock_prints_them() {
        for (bytes, text) in [
            (0, "0 B"),
            (1, "1 B"),
            (9, "9 B"),
            (10, "10 B"),
            (999, "999 B"),
            (1000, "1000 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1076, "1.1 KiB"),
            (10_188, "9.9 KiB"),
            (10_189, "10 KiB"),
            (12_800, "12 KiB"),
            (13_824, "14 KiB"),
            (1_048_575, "1024 KiB"),
            (10 << 20, "10 MiB"),
            (3 << 29, "1.5 GiB"),
            (1 << 40, "1.0 TiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
        assert_eq!(format!("{:>8}|", Size(6)), "     6 B|");
    }

    #[test]
    fn as_people_type_them() {
        for (text, bytes) in [
            ("0", 0),
            ("25165824", 24 << 20),
            ("24M", 24 << 20),
            ("24m", 24 << 20),
            ("24 MiB", 24 << 20),
            ("512k", 512 << 10),
            ("1GB", 1 << 30),
            ("2T", 2 << 40),
        ] {
            assert_eq!(parse(text), Ok(bytes));
        }
        for text in ["", "M", "-1", "1.5M", "24X", "99999999999T", "18446744073709551616"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates() {
        for (text, wanted) in [("0", 0), ("1K", 1024), ("2M/s", 2 << 20), ("1500000", 1_500_000)] {
            assert_eq!(parse_rate(text), Ok(wanted), "{text}");
        }
        for wrong in ["100", "", "1Mbit", "/s", "-1"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
    }
}
