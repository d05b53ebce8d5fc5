//! What the machine is: memory, processor, names.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit, setrlimit};

/// Memory of the machine, or of the control group that we run in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Memory {
    /// All of it, in bytes.
    pub(crate) total_bytes: u64,
    /// What can be had without swapping, in bytes.
    pub(crate) available_bytes: u64,
}

impl Memory {
    /// Asks the kernel. Nothing if it does not tell.
    pub(crate) fn read() -> Option<Self> {
        let machine = Self::parse(&fs::read_to_string("/proc/meminfo").ok()?)?;
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let limits = groups.lines().filter_map(group_memory);
        Some(limits.fold(machine, Self::smaller))
    }

    /// Reads `/proc/meminfo`. Kernels before 3.14 do not say what is
    /// available; what is free or holds files is near to it.
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
        };
        let total_bytes = field("MemTotal")?;
        let reclaimable = || Some(field("MemFree")?.saturating_add(field("Cached")?));
        let available_bytes = field("MemAvailable").or_else(reclaimable)?.min(total_bytes);
        Some(Self { total_bytes, available_bytes })
    }

    fn smaller(self, other: Self) -> Self {
        Self {
            total_bytes: self.total_bytes.min(other.total_bytes),
            available_bytes: self.available_bytes.min(other.available_bytes),
        }
    }
}

/// The memory that a line of `/proc/self/cgroup` allows, if it limits any.
fn group_memory(line: &str) -> Option<Memory> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, group) = (fields.next()?, fields.next()?);
    let (mount, files) = match controllers {
        "" => ("/sys/fs/cgroup", GROUP_FILES),
        _ if controllers.split(',').any(|name| name == "memory") => {
            ("/sys/fs/cgroup/memory", GROUP_FILES_V1)
        }
        _ => return None,
    };
    let directory = PathBuf::from(format!("{mount}{group}"));
    // A limit above applies below; in a container only the mount may be there.
    let above = directory.ancestors().take_while(|path| path.starts_with(mount));
    above.filter_map(|path| limits_of(path, &files)).reduce(Memory::smaller)
}

/// Files of a control group: limit, use, and the fields of `memory.stat` for
/// what of that holds files.
type GroupFiles = [&'static str; 4];

const GROUP_FILES: GroupFiles = ["memory.max", "memory.current", "inactive_file", "active_file"];

/// The same, in the first version of control groups.
const GROUP_FILES_V1: GroupFiles =
    ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file"];

fn limits_of(group: &Path, [limit, used, inactive, active]: &GroupFiles) -> Option<Memory> {
    let text = |name: &str| fs::read_to_string(group.join(name)).ok();
    let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
    let total_bytes = number(limit)?;
    let used_bytes = number(used).unwrap_or(0);
    // What was read of files is kept until somebody needs the memory: after a
    // backup that is all there is.
    let stat = text("memory.stat").unwrap_or_default();
    let field = |name: &str| {
        let value = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    let files_bytes = field(inactive).saturating_add(field(active));
    let held_bytes = used_bytes.saturating_sub(files_bytes);
    Some(Memory { total_bytes, available_bytes: total_bytes.saturating_sub(held_bytes) })
}

/// Descriptors that are open beside those of what is backed up, about.
const OTHER_DESCRIPTORS: u64 = 128;

/// Asks for as many descriptors as it takes to hold `places` open, as far as
/// that is allowed. Where it is not, opening them fails and says so.
pub(crate) fn allow_descriptors(places: usize) {
    let wanted = (places as u64).saturating_add(OTHER_DESCRIPTORS);
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// An extension of the processor that the program uses where it is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Extension {
    /// Its name.
    pub(crate) name: &'static str,
    /// The processor has it.
    pub(crate) is_there: bool,
}

/// Extensions by name, as the macro detects them.
#[cfg(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! extensions {
    ($detected:ident: $($name:literal = $feature:tt,)*) => {
        vec![$(Extension { name: $name, is_there: std::arch::$detected!($feature) },)*]
    };
}

/// The extensions that the program can use.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
pub(crate) fn extensions() -> Vec<Extension> {
    extensions![is_x86_feature_detected:
        "AES" = "aes", "PCLMULQDQ" = "pclmulqdq", "SHA" = "sha", "SSE4.1" = "sse4.1",
        "AVX2" = "avx2", "AVX-512" = "avx512vl",
    ]
}

/// The extensions that the program can use.
#[cfg(target_arch = "aarch64")]
pub(crate) fn extensions() -> Vec<Extension> {
    extensions![is_aarch64_feature_detected:
        "AES" = "aes", "PMULL" = "pmull", "SHA2" = "sha2", "NEON" = "neon",
    ]
}

/// None: what is written for 32-bit ARM, MIPS and RISC-V does without.
#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn extensions() -> Vec<Extension> {
    Vec::new()
}

/// Whether AES is done by instructions of the processor.
pub(crate) fn has_aes() -> bool {
    extensions().iter().any(|extension| extension.name == "AES" && extension.is_there)
}

/// Name of the machine.
pub(crate) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Identifier of the machine, as stock records it; empty where there is none.
pub(crate) fn machine_id() -> String {
    ["/var/lib/dbus/machine-id", "/etc/machine-id"]
        .iter()
        .find_map(|path| fs::read_to_string(path).ok())
        .map(|text| text.trim().to_ascii_lowercase())
        .unwrap_or_default()
}

/// Fields of the line of `/etc/passwd` of the user who runs us: name and home.
fn account() -> Option<(String, PathBuf)> {
    let uid = rustix::process::getuid().as_raw().to_string();
    let text = fs::read_to_string("/etc/passwd").ok()?;
    let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let fields = lines.find(|fields| fields.get(2) == Some(&uid.as_str()))?;
    Some(((*fields.first()?).to_owned(), PathBuf::from(fields.get(5)?)))
}

/// Name of the user who runs us, or the number.
pub(crate) fn username() -> String {
    account().map_or_else(|| rustix::process::getuid().as_raw().to_string(), |(name, _)| name)
}

/// Home directory, as stock finds it: that of the account, not of `$HOME`,
/// which is taken where there is no account.
pub(crate) fn home() -> Option<PathBuf> {
    let home = account().map(|(_, home)| home).filter(|home| !home.as_os_str().is_empty());
    home.or_else(|| std::env::var_os("HOME").map(PathBuf::from))
}

/// The processor's architecture, as Go names it.
pub(crate) fn architecture() -> String {
    // For tests that compare what several machines make.
    if let Ok(name) = std::env::var("TIROIR_ARCHITECTURE") {
        return name;
    }
    let is_little = cfg!(target_endian = "little");
    let name = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "mips" if is_little => "mipsle",
        "mips64" if is_little => "mips64le",
        "powerpc64" if is_little => "ppc64le",
        "powerpc64" => "ppc64",
        "loongarch64" => "loong64",
        other => other,
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_old_and_new_kernels() {
        let new = "MemTotal:  65536 kB\nMemFree: 1024 kB\nMemAvailable: 32768 kB\nCached: 9 kB\n";
        let memory = Memory { total_bytes: 64 << 20, available_bytes: 32 << 20 };
        assert_eq!(Memory::parse(new), Some(memory));
        let old = "MemTotal:  65536 kB\nMemFree: 1024 kB\nCached: 1024 kB\n";
        let memory = Memory { total_bytes: 64 << 20, available_bytes: 2 << 20 };
        assert_eq!(Memory::parse(old), Some(memory));
        assert_eq!(Memory::parse("MemTotal: many kB"), None);
    }

    #[test]
    fn groups() {
        assert_eq!(group_memory("3:cpu,cpuacct:/x"), None);
        assert_eq!(group_memory("nonsense"), None);
    }

    #[test]
    fn memory_that_holds_files_is_available() {
        let group = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(group.path().join(name), text).unwrap();
        assert_eq!(limits_of(group.path(), &GROUP_FILES), None);
        for [limit, used, inactive, active] in [GROUP_FILES, GROUP_FILES_V1] {
            write(limit, "1000\n");
            write(used, "990\n");
            write("memory.stat", &format!("anon 5\n{inactive} 700\n{active} 200\nother 7\n"));
        }
        let memory = Some(Memory { total_bytes: 1000, available_bytes: 910 });
        assert_eq!(limits_of(group.path(), &GROUP_FILES_V1), memory);
        write("memory.max", "max\n");
        assert_eq!(limits_of(group.path(), &GROUP_FILES), None);
    }
}
