//! [`Range`]: which part of a resource is asked for, in stock's words or HTTP's.
//!
//! Stock's clients ask for `bytes=O-E` and mean the bytes before `E`, of packfiles
//! only, and take a status 200 for them; HTTP means the byte `E` too, and says 206.
//! Stock's clients say `Content-Type: application/json` in every request, also in
//! those that have no content, which nobody else does: so they are known, and ours
//! says the same when it asks in stock's words.

use super::super::server::Request;

/// Longest part that stock's server gives, in bytes.
const STOCK_LENGTH_MAX: u64 = u32::MAX as u64;

/// What is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Range {
    /// Everything.
    Whole,
    /// So many bytes from there on, or as many as there are.
    Stock { offset: u64, length: u64 },
    /// From the first to the last of these bytes, or to the end.
    From { first: u64, last: Option<u64> },
    /// So many bytes at the end.
    Last(u64),
}

/// A part of a resource that is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Part {
    pub(super) offset: u64,
    pub(super) length: u64,
    /// Status 206 goes with it.
    pub(super) is_partial: bool,
}

impl Range {
    /// What a request asks for. Of what is no packfile stock gives everything.
    pub(super) fn of(request: &Request, is_packfile: bool) -> Result<Self, &'static str> {
        let Some(value) = request.header("range") else { return Ok(Self::Whole) };
        let is_stock = request.header("content-type") == Some("application/json");
        match parse(value, is_stock) {
            Some(Self::Stock { .. }) if !is_packfile => Ok(Self::Whole),
            Some(range) => Ok(range),
            None if is_stock => Err("Invalid range"),
            // As HTTP has it for what is not understood.
            None => Ok(Self::Whole),
        }
    }

    /// The part that it is of a resource of that size; nothing if there is none.
    pub(super) fn within(self, size: u64) -> Option<Part> {
        let part = |offset: u64, length: u64| Part { offset, length, is_partial: true };
        match self {
            Self::Whole => Some(Part { offset: 0, length: size, is_partial: false }),
            Self::Stock { offset, length } => {
                let length = length.min(size.saturating_sub(offset));
                Some(Part { offset, length, is_partial: false })
            }
            Self::From { first, last } => {
                let end = last.map_or(size, |last| last.saturating_add(1).min(size));
                (first < end).then(|| part(first, end - first))
            }
            Self::Last(count) => {
                let count = count.min(size);
                (count > 0).then(|| part(size - count, count))
            }
        }
    }
}

/// Reads the header; nothing if it is not understood, as several ranges are not.
pub(crate) fn parse(value: &str, is_stock: bool) -> Option<Range> {
    let (start, end) = value.strip_prefix("bytes=")?.split_once('-')?;
    if is_stock {
        let (offset, end) = (number(start)?, number(end)?);
        let length =
            end.checked_sub(offset).filter(|length| (1..=STOCK_LENGTH_MAX).contains(length))?;
        return Some(Range::Stock { offset, length });
    }
    if start.is_empty() {
        return number(end).map(Range::Last);
    }
    let first = number(start)?;
    let last = if end.is_empty() { None } else { Some(number(end)?) };
    last.is_none_or(|last| first <= last).then_some(Range::From { first, last })
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(value: &str, is_stock: bool, size: u64) -> Option<(u64, u64)> {
        parse(value, is_stock)?.within(size).map(|part| (part.offset, part.length))
    }

    #[test]
    fn stocks() {
        assert_eq!(part("bytes=3-5", true, 10), Some((3, 2)));
        assert_eq!(part("bytes=3-50", true, 10), Some((3, 7)));
        assert_eq!(part("bytes=30-50", true, 10), Some((30, 0)));
        for value in [
            "bytes=3-3",
            "bytes=5-3",
            "bytes=-3",
            "bytes=3-",
            "bytes=+1-3",
            "bytes=0-4294967296",
            "x=1-2",
        ] {
            assert_eq!(parse(value, true), None, "{value}");
        }
    }

    #[test]
    fn those_of_http() {
        assert_eq!(part("bytes=3-5", false, 10), Some((3, 3)));
        assert_eq!(part("bytes=3-3", false, 10), Some((3, 1)));
        assert_eq!(part("bytes=3-", false, 10), Some((3, 7)));
        assert_eq!(part("bytes=3-50", false, 10), Some((3, 7)));
        assert_eq!(part("bytes=-4", false, 10), Some((6, 4)));
        assert_eq!(part("bytes=-40", false, 10), Some((0, 10)));
        assert_eq!(part("bytes=0-18446744073709551615", false, 10), Some((0, 10)));
        for value in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
            assert!(parse(value, false).is_some() && part(value, false, 10).is_none(), "{value}");
        }
        for value in ["bytes=5-3", "bytes=0-1,3-4", "bytes=-", "bytes=a-b", "lines=1-2"] {
            assert_eq!(parse(value, false), None, "{value}");
        }
        assert_eq!(part("bytes=0-", false, 0), None);
    }
}
