//! [`write_unified`]: how two texts differ, as `patch` reads it.

use std::io::{self, Write};
use std::ops::Range;
use std::time::{Duration, Instant};

use similar::algorithms::{Capture, Compact, IdentifyDistinct, Replace, myers};
use similar::{DiffOp, group_diff_ops};

/// Lines of context.
const CONTEXT_LINES: usize = 3;

/// Time after which lines are no longer matched as well as can be.
const PATIENCE: Duration = Duration::from_secs(10);

/// Writes what was removed and added, with context, hunk by hunk, after a head of
/// both labels. Stock's has an empty line more at the end of each file, and no word
/// on line ends that are missing.
///
/// # Errors
///
/// Of `out`.
pub(super) fn write_unified(
    [old, new]: [&[u8]; 2],
    [left, right]: &[String; 2],
    out: &mut dyn Write,
) -> io::Result<()> {
    let [old, new] = [lines_of(old), lines_of(new)];
    writeln!(out, "--- {left}\n+++ {right}")?;
    for hunk in group_diff_ops(operations(&old, &new), CONTEXT_LINES) {
        let (Some(first), Some(last)) = (hunk.first(), hunk.last()) else { continue };
        let old_range = first.old_range().start..last.old_range().end;
        let new_range = first.new_range().start..last.new_range().end;
        writeln!(out, "@@ -{} +{} @@", shown(&old_range), shown(&new_range))?;
        for operation in &hunk {
            match operation {
                DiffOp::Equal { old_index, len, .. } => {
                    write_lines(b" ", &old[*old_index..][..*len], out)?;
                }
                changed => {
                    write_lines(b"-", &old[changed.old_range()], out)?;
                    write_lines(b"+", &new[changed.new_range()], out)?;
                }
            }
        }
    }
    Ok(())
}

/// Lines with their ends.
fn lines_of(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|byte| *byte == b'\n').collect()
}

/// What makes the new lines of the old ones. Lines are compared by number.
///
/// By the algorithm itself, and not by what the library has above it: that is all
/// of its algorithms, several times each, and half a mebibyte of program.
fn operations(old: &[&[u8]], new: &[&[u8]]) -> Vec<DiffOp> {
    let numbers = IdentifyDistinct::<u32>::new(old, 0..old.len(), new, 0..new.len());
    let (old, new) = (numbers.old_lookup(), numbers.new_lookup());
    let mut gathering = Compact::new(Replace::new(Capture::new()), old, new);
    let until = Instant::now().checked_add(PATIENCE);
    let (old_range, new_range) = (numbers.old_range(), numbers.new_range());
    // What gathers cannot fail.
    match myers::diff_deadline(&mut gathering, old, old_range, new, new_range, until) {
        Ok(()) => gathering.into_inner().into_inner().into_ops(),
        Err(never) => match never {},
    }
}

/// Number of the first line, and how many there are unless it is one. Of none, the
/// number of the line before.
fn shown(range: &Range<usize>) -> String {
    match range.len() {
        0 => format!("{},0", range.start),
        1 => format!("{}", range.start + 1),
        count => format!("{},{count}", range.start + 1),
    }
}

fn write_lines(sign: &[u8], lines: &[&[u8]], out: &mut dyn Write) -> io::Result<()> {
    for line in lines {
        out.write_all(sign)?;
        out.write_all(line)?;
        if !line.ends_with(b"\n") {
            out.write_all(b"\n\\ No newline at end of file\n")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(old: &str, new: &str) -> String {
        let mut out = Vec::new();
        let labels = [String::from("ed4c0049:/f"), String::from("/f")];
        write_unified([old.as_bytes(), new.as_bytes()], &labels, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn unified_diffs_can_be_applied() {
        assert_eq!(
            shown("1\n2\n3\n4\n5\n", "1\n2\n3\n4\nfive\n"),
            "--- ed4c0049:/f\n+++ /f\n@@ -2,4 +2,4 @@\n 2\n 3\n 4\n-5\n+five\n"
        );
        assert_eq!(
            shown("x\n", "y"),
            "--- ed4c0049:/f\n+++ /f\n@@ -1 +1 @@\n-x\n+y\n\\ No newline at end of file\n"
        );
        assert_eq!(shown("", "a\n"), "--- ed4c0049:/f\n+++ /f\n@@ -0,0 +1 @@\n+a\n");
        assert_eq!(shown("a\n", ""), "--- ed4c0049:/f\n+++ /f\n@@ -1 +0,0 @@\n-a\n");
    }

    #[test]
    fn a_carriage_return_ends_no_line() {
        assert_eq!(
            shown("a\rb\nc\n", "a\rb\nd\n"),
            "--- ed4c0049:/f\n+++ /f\n@@ -1,2 +1,2 @@\n a\rb\n-c\n+d\n"
        );
    }

    #[test]
    fn changes_that_are_far_apart_are_hunks() {
        let old: String = (1..=30).map(|line| format!("{line}\n")).collect();
        let new = old.replace("2\n3\n", "2\n").replace("28\n", "28\n28b\n");
        let text = shown(&old, &new);
        assert_eq!(text.matches("@@ -").count(), 2, "{text}");
        assert!(text.contains("@@ -26,5 +25,6 @@\n 26\n 27\n 28\n+28b\n 29\n 30\n"), "{text}");
    }
}
