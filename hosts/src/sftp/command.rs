//! [`CommandDial`]: a program whose input and output are SFTP.

use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use zeroize::Zeroizing;

use super::Dial;
use crate::error::{Context as _, Result};

/// Runs a program, and speaks SFTP with it. It is ended when this is dropped.
pub struct CommandDial {
    shown: String,
    program: String,
    arguments: Vec<String>,
    /// Variables of the environment, which may be secrets.
    variables: Vec<(String, Zeroizing<String>)>,
    child: Option<Child>,
}

impl fmt::Debug for CommandDial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandDial").field("shown", &self.shown).finish_non_exhaustive()
    }
}

impl CommandDial {
    /// A program and its arguments; `shown` is its name in messages.
    pub fn new(
        shown: impl Into<String>,
        program: &str,
        arguments: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self {
            shown: shown.into(),
            program: program.to_owned(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            variables: Vec::new(),
            child: None,
        }
    }

    /// A line for the shell.
    #[must_use]
    pub fn shell(shown: &str, line: &str) -> Self {
        Self::new(shown, "/bin/sh", ["-c".to_owned(), format!("exec {line}")])
    }

    /// With a variable of the environment.
    #[must_use]
    pub fn with_variable(mut self, name: String, value: &str) -> Self {
        self.variables.push((name, Zeroizing::new(value.to_owned())));
        self
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Dial for CommandDial {
    fn dial(&mut self) -> Result<UnixStream> {
        self.end();
        let (ours, theirs) = UnixStream::pair().at("run", &self.program)?;
        let output = theirs.try_clone().at("run", &self.program)?;
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value.as_str())))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(OwnedFd::from(output)))
            .spawn();
        self.child = Some(child.at("run", &self.program)?);
        Ok(ours)
    }

    fn shown(&self) -> &str {
        &self.shown
    }
}

impl Drop for CommandDial {
    fn drop(&mut self) {
        self.end();
    }
}
