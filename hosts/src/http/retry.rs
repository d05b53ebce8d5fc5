//! [`Attempts`]: how often something is tried, and with what pauses.

use std::time::Duration;

use crate::rate::Limits;

/// Times that a request is made again.
const RETRIES: u32 = 4;

/// First pause; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 250 });

/// Longest pause that a server may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Counts attempts.
#[derive(Debug)]
pub(crate) struct Attempts {
    limits: Limits,
    left: u32,
    pause: Duration,
}

impl Attempts {
    /// None yet, by one who keeps to these limits.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { limits: limits.clone(), left: RETRIES, pause: FIRST_PAUSE }
    }

    /// Waits before another attempt, for as long as the server asked if it did.
    /// Returns whether there is one: not if the work is to stop meanwhile.
    pub(crate) fn again(&mut self, asked: Option<Duration>) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let pause = asked.unwrap_or_default().max(self.pause).min(PAUSE_MAX);
        self.pause *= 2;
        self.limits.pause(jittered(pause))
    }
}

/// Between half and one and a half of `pause`: clients that were thrown out
/// together come back one by one.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0; 2];
    // Without entropy, no jitter.
    let random = getrandom::fill(&mut random).map_or(0x8000, |()| u16::from_le_bytes(random));
    pause / 2 + pause * u32::from(random) / 0x1_0000
}

/// What a server says of when to come back: a number of seconds.
pub(crate) fn asked_pause(value: Option<&str>) -> Option<Duration> {
    value?.trim().parse().ok().map(Duration::from_secs)
}
