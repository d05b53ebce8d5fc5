//! [`Warnings`]: where a connector says what the user should know.

use std::fmt;

/// Takes the text of a warning.
type Receiver = dyn FnMut(&str) + Send;

/// Receives warnings: things that are not errors, and worth a line in a log.
#[derive(Default)]
pub(crate) struct Warnings {
    receiver: Option<Box<Receiver>>,
}

impl Warnings {
    pub(crate) fn new(receiver: impl FnMut(&str) + Send + 'static) -> Self {
        Self { receiver: Some(Box::new(receiver)) }
    }

    pub(crate) fn warn(&mut self, text: &str) {
        if let Some(receiver) = &mut self.receiver {
            receiver(text);
        }
    }
}

impl fmt::Debug for Warnings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Warnings")
    }
}
