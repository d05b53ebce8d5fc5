//! [`Namespace`]: a network of a test's own, at the end of a cable that can be
//! pulled out, or carry nothing.
//!
//! A network namespace and a pair of virtual interfaces, one of them here. Only
//! `ip` and `nsenter` are needed, and a kernel with both: neither packet filters nor
//! disciplines of queues.

use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::program;

/// Where the kernel shows namespaces that have names.
const NAMES: &str = "/run/netns";

/// Start of the names of ours; the number of the process and another one follow.
const PREFIX: &str = "tiroir-";

/// Where nobody is: packets to it are dropped by whoever gets them.
const NOBODY: &str = "02:00:00:00:00:01";

/// Says that namespaces are not to be tested.
const WITHOUT: &str = "TIROIR_NO_NETNS";

/// How a link can be lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Loss {
    /// The cable is pulled out: whoever sends is told, sooner or later.
    Unplugged,
    /// Packets vanish on the way, in both directions, and nobody is told.
    Silent,
}

/// A network namespace with a cable to this machine. It goes, with the processes
/// in it, when this is dropped, also by a panic.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    /// Interface on this machine.
    near: String,
    /// Interface in the namespace.
    far: String,
    here: Ipv4Addr,
    there: Ipv4Addr,
}

/// Tells them apart in one process.
static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Namespace {
    /// Makes one; none where the variable `TIROIR_NO_NETNS` is `1`, which is said
    /// where `cargo test` does not hide it.
    ///
    /// # Panics
    ///
    /// When it cannot be made: without the rights of root, or where the kernel has
    /// neither namespaces nor virtual interfaces.
    #[must_use]
    pub fn new() -> Option<Self> {
        if std::env::var_os(WITHOUT).is_some_and(|value| value == "1") {
            let _ = writeln!(std::io::stderr(), "\nSKIPPED, {WITHOUT}=1: links that are lost");
            return None;
        }
        remove_abandoned();
        let (process, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        // Those of 198.18.0.0/15 are for tests of networks (RFC 2544); four each.
        let first = 0xc612_0000 + (process.wrapping_mul(64).wrapping_add(number) & 0x7fff) * 4;
        let namespace = Self {
            name: format!("{PREFIX}{process}-{number}"),
            near: format!("tn{process}-{number}"),
            far: format!("tf{process}-{number}"),
            here: Ipv4Addr::from(first + 1),
            there: Ipv4Addr::from(first + 2),
        };
        namespace.make();
        Some(namespace)
    }

    fn make(&self) {
        let Self { name, near, far, here, there } = self;
        ip(&format!("netns add {name}"));
        ip(&format!("link add {near} type veth peer name {far} netns {name}"));
        ip(&format!("address add {here}/30 dev {near}"));
        ip(&format!("-netns {name} address add {there}/30 dev {far}"));
        ip(&format!("-netns {name} link set lo up"));
        ip(&format!("-netns {name} link set {far} up"));
        ip(&format!("link set {near} up"));
        // Both ends see the cable before anything is sent.
        let state = format!("/sys/class/net/{near}/operstate");
        let until = Instant::now() + Duration::from_secs(10);
        while fs::read_to_string(&state).is_ok_and(|state| state.trim() != "up") {
            assert!(Instant::now() < until, "{near} does not come up");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Address of what is in it.
    #[must_use]
    pub fn host(&self) -> IpAddr {
        self.there.into()
    }

    /// The same command, to be run in it.
    #[must_use]
    pub fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new(program(&["nsenter"]));
        inside.arg(format!("--net={NAMES}/{}", self.name));
        inside.arg(command.get_program()).args(command.get_args());
        inside
    }

    /// Bytes that have gone over the cable, in both directions.
    ///
    /// # Panics
    ///
    /// When the kernel does not tell.
    #[must_use]
    pub fn moved_bytes(&self) -> u64 {
        let counter = |name: &str| -> u64 {
            let path = format!("/sys/class/net/{}/statistics/{name}", self.near);
            let text = fs::read_to_string(path).expect("a counter of an interface");
            text.trim().parse().expect("a number")
        };
        counter("rx_bytes") + counter("tx_bytes")
    }

    /// Loses the link.
    ///
    /// # Panics
    ///
    /// When that fails.
    pub fn lose(&self, loss: Loss) {
        let Self { name, near, far, here, there } = self;
        match loss {
            Loss::Unplugged => ip(&format!("-netns {name} link set {far} down")),
            Loss::Silent => {
                let nobody = format!("lladdr {NOBODY} nud permanent");
                ip(&format!("neighbour replace {there} dev {near} {nobody}"));
                ip(&format!("-netns {name} neighbour replace {here} dev {far} {nobody}"));
            }
        }
    }

    /// Has it again.
    ///
    /// # Panics
    ///
    /// When that fails.
    pub fn restore(&self, loss: Loss) {
        let Self { name, near, far, here, there } = self;
        match loss {
            Loss::Unplugged => ip(&format!("-netns {name} link set {far} up")),
            Loss::Silent => {
                ip(&format!("neighbour del {there} dev {near}"));
                ip(&format!("-netns {name} neighbour del {here} dev {far}"));
            }
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Ends what runs in a namespace, and removes it with its cable. Servers have
/// processes that outlive them: sessions whose other end said nothing any more.
fn remove(name: &str) {
    let pids = Command::new("ip").args(["netns", "pids", name]).output();
    let pids = pids.map(|output| output.stdout).unwrap_or_default();
    let numbers = str::from_utf8(&pids).unwrap_or_default().split_whitespace();
    for pid in numbers.filter_map(|number| rustix::process::Pid::from_raw(number.parse().ok()?)) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    // Both interfaces go with it. An error has nobody to be told to.
    let _ = Command::new("ip").args(["netns", "del", name]).output();
}

/// Removes those of tests that were killed.
fn remove_abandoned() {
    let Ok(names) = fs::read_dir(NAMES) else { return };
    for name in names.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-'));
        if process.is_some_and(|(process, _)| !Path::new("/proc").join(process).exists()) {
            remove(&name);
        }
    }
}

fn ip(arguments: &str) {
    let command = Command::new(program(&["ip"])).args(arguments.split(' ')).output();
    let output = command.expect("ip");
    assert!(
        output.status.success(),
        "ip {arguments}: {}\nLinks that are lost are tested as root, where the kernel has network \
         namespaces; {WITHOUT}=1 leaves these tests out",
        String::from_utf8_lossy(&output.stderr)
    );
}
