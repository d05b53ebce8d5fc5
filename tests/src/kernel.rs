//! Older kernels: a filter of system calls that answers as they would.

use std::collections::BTreeMap;
use std::thread;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

/// The first call that came after Linux 3.2. Numbers of 64-bit architectures only
/// grow: this is `kcmp`, of Linux 3.5.
pub const FIRST_NEWER: i64 = if cfg!(target_arch = "x86_64") { 312 } else { 272 };

/// One past the last call that is denied: some forty more than there are.
const END: i64 = 512;

/// A kernel that lacks something.
#[derive(Clone, Debug)]
pub struct Kernel {
    filters: Vec<BpfProgram>,
}

impl Kernel {
    /// The one at hand.
    #[must_use]
    pub fn new() -> Self {
        Self { filters: Vec::new() }
    }

    /// Linux 3.2, as far as a filter can say so: no newer call, no `O_TMPFILE`.
    #[must_use]
    pub fn oldest() -> Self {
        // `rseq` stays: glibc ends a program that had it and has it no more, as the
        // threads of a test would. Last what denies `seccomp` itself.
        let newer = (FIRST_NEWER..END).filter(|call| *call != libc::SYS_rseq);
        Self::new().without_tmpfile(libc::EISDIR).without(newer)
    }

    /// Without some system calls: they answer `ENOSYS`.
    #[must_use]
    pub fn without(self, calls: impl IntoIterator<Item = i64>) -> Self {
        let rules = calls.into_iter().map(|call| (call, Vec::new())).collect();
        self.with(rules, libc::ENOSYS)
    }

    /// Without files that have no name: opening one answers `errno`.
    #[must_use]
    pub fn without_tmpfile(self, errno: i32) -> Self {
        let flags = u64::from(libc::O_TMPFILE.unsigned_abs());
        let rule = |argument| {
            let equal = SeccompCmpOp::MaskedEq(flags);
            let is_tmpfile = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, equal, flags);
            let is_tmpfile = is_tmpfile.expect("a condition");
            vec![SeccompRule::new(vec![is_tmpfile]).expect("a rule")]
        };
        let mut rules = BTreeMap::from([(libc::SYS_openat, rule(2))]);
        #[cfg(target_arch = "x86_64")]
        rules.insert(libc::SYS_open, rule(1));
        self.with(rules, errno)
    }

    fn with(mut self, rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> Self {
        let arch = TargetArch::try_from(std::env::consts::ARCH).expect("a 64-bit machine");
        let answer = SeccompAction::Errno(errno.unsigned_abs());
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, arch);
        self.filters.push(filter.and_then(TryInto::try_into).expect("a filter"));
        self
    }

    /// Does something, and lets every program that it starts meet this kernel.
    ///
    /// # Panics
    ///
    /// As the work does, and when the kernel at hand has no such filters.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        // A filter is for a thread and what it starts, and stays.
        let on_it = || {
            for filter in &self.filters {
                apply_filter(filter).expect("a filter of system calls");
            }
            work()
        };
        thread::scope(|scope| {
            scope.spawn(on_it).join().unwrap_or_else(|cause| std::panic::resume_unwind(cause))
        })
    }
}

impl Default for Kernel {
    fn default() -> Self {
        Self::new()
    }
}
