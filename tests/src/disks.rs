//! File systems of other sorts, mounted for a script.
//!
//! Each script has a namespace of mounts and processes of its own, with the disk
//! at `$D`, a fresh tmpfs at `$N`, and the program as `t NAME ARGS…`, which takes
//! note of what it says and how it ends. What the kernel does not know is mounted
//! by FUSE, or in a kernel of user mode, which boots in seconds.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::oracle;
use crate::sandbox::Sandbox;

/// A sort of file system.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// FAT with long names.
    Vfat,
    /// exFAT.
    Exfat,
    /// In memory.
    Tmpfs,
    /// One layer over another.
    Overlay,
}

/// How it is mounted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    Kernel,
    /// A program does it.
    Fuse,
    /// Another kernel does it.
    UserMode,
}

/// A file system that scripts can have.
#[derive(Debug)]
pub struct Disk<'s> {
    sandbox: &'s Sandbox,
    kind: Kind,
    way: Way,
    image: PathBuf,
}

/// How one call of the program ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    /// Its exit status.
    pub status: i32,
    /// What it wrote, to either output.
    pub text: String,
}

impl Step {
    /// Asserts how it ended.
    ///
    /// # Panics
    ///
    /// When it ended in another way.
    #[track_caller]
    pub fn ended(&self, status: i32) -> &Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    /// How many lines hold all of these words.
    #[must_use]
    pub fn lines_with(&self, words: &[&str]) -> usize {
        self.text.lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
    }
}

/// Bytes of a disk: FAT of 32 bits begins at some 33 MB.
const IMAGE_BYTES: u64 = 80 << 20;

const TIMEOUT: Duration = Duration::from_secs(600);

impl<'s> Disk<'s> {
    /// A new, empty one; nothing where this machine has no way to mount it.
    ///
    /// # Panics
    ///
    /// When that is not said to be fine: in CI it should be there.
    #[must_use]
    pub fn new(sandbox: &'s Sandbox, kind: Kind) -> Option<Self> {
        let way = match way(kind) {
            Ok(way) => way,
            Err(lack) => {
                assert!(std::env::var_os("CI").is_none(), "{kind:?}: {lack}");
                eprintln!("skipped: no {kind:?} here: {lack}");
                return None;
            }
        };
        let image = sandbox.path(format!("{kind:?}.img"));
        let make: &[&str] = match kind {
            Kind::Vfat => &["mkfs.vfat", "-F", "32"],
            Kind::Exfat => &["mkfs.exfat"],
            Kind::Tmpfs | Kind::Overlay => &[],
        };
        if let [program, args @ ..] = make {
            fs::File::create(&image).and_then(|file| file.set_len(IMAGE_BYTES)).expect("an image");
            let made = Command::new(program).args(args).arg(&image).output().expect("mkfs");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        fs::create_dir_all(sandbox.path("disk")).expect("a mount point");
        fs::create_dir_all(sandbox.path("near")).expect("a mount point");
        Some(Self { sandbox, kind, way, image })
    }

    /// Runs a script, and tells of each call of the program, and of each `say NAME
    /// COMMAND…`, by name.
    ///
    /// # Panics
    ///
    /// When the disk cannot be mounted, or the script does not come to its end.
    pub fn run(&self, script: &str) -> BTreeMap<String, Step> {
        let whole = format!("{}{}\n{script}\necho '@@ end'\n", self.prelude(), self.mounts());
        let path = self.sandbox.path("script");
        fs::write(&path, whole).expect("a script");
        let text = match self.way {
            Way::UserMode => self.run_in_user_mode(&path),
            Way::Kernel | Way::Fuse => {
                let mut run = self.sandbox.program("unshare");
                run.args(["-mpf", "--kill-child", "--mount-proc", "sh"]).arg(&path);
                let outcome = run.timeout(TIMEOUT).run();
                outcome.text().to_owned()
            }
        };
        assert!(text.ends_with("@@ end\n"), "the script did not end:\n{text}");
        steps(&text)
    }

    fn prelude(&self) -> String {
        let (sandbox, program) = (self.sandbox.path(""), oracle::tiroir());
        format!(
            "exec 2>&1\nexport B='{}' PATH=/usr/sbin:/usr/bin:/sbin:/bin TZ=UTC LC_ALL=C.UTF-8\n\
             D=$B/disk N=$B/near\n\
             say() {{ printf '@@ %s\\n' $1; shift; \"$@\"; printf '\\n@= %s\\n' $?; }}\n\
             t() {{ name=$1; shift; say $name '{}' \"$@\"; }}\n\
             mount -t tmpfs near $N\n\
             export HOME=$N/home XDG_CACHE_HOME=$N/cache TMPDIR=$N/tmp\n\
             mkdir $HOME $XDG_CACHE_HOME $TMPDIR\n",
            sandbox.display().to_string().trim_end_matches('/'),
            program.display()
        )
    }

    fn mounts(&self) -> String {
        let image = self.image.display();
        let mount = match (self.kind, self.way) {
            (Kind::Vfat, Way::UserMode) => "mount -t vfat -o utf8 /dev/ubda $D".to_owned(),
            (Kind::Vfat, _) => format!("mount -t vfat -o loop,utf8 '{image}' $D"),
            (Kind::Exfat, Way::Kernel) => format!("mount -t exfat -o loop '{image}' $D"),
            (Kind::Exfat, _) => format!(
                "L=$(losetup -f --show '{image}'); mount.exfat-fuse $L $D >/dev/null; losetup -d $L"
            ),
            (Kind::Tmpfs, _) => "mount -t tmpfs disk $D".to_owned(),
            (Kind::Overlay, _) => "mkdir $N/lower $N/upper $N/work; mount -t overlay \
                -o lowerdir=$N/lower,upperdir=$N/upper,workdir=$N/work over $D"
                .to_owned(),
        };
        format!("{mount} || exit\ngrep -q \" $D \" /proc/mounts || exit")
    }

    fn run_in_user_mode(&self, script: &Path) -> String {
        let (init, output) = (self.sandbox.path("init"), self.sandbox.path("output"));
        let modules = "/usr/lib/uml/modules/$(uname -r)/kernel/fs";
        // What is not there is built in.
        let text = format!(
            "#!/bin/sh\nexport PATH=/usr/sbin:/usr/bin:/sbin:/bin\nmount -t proc proc /proc\n\
             for m in fat/fat nls/nls_cp437 nls/nls_iso8859-1 fat/vfat; do\n\
             busybox insmod {modules}/$m.ko 2>/dev/null; done\n\
             sh '{}' >'{}' </dev/null\nsync\nexec busybox halt -f\n",
            script.display(),
            output.display()
        );
        fs::write(&init, text).expect("the first program");
        crate::tree::chmod(&init, 0o755);
        let mut run = self.sandbox.program("linux.uml");
        run.args(["mem=512M", "rootfstype=hostfs", "rootflags=/", "rw", "quiet", "con=null"]);
        run.args(["con0=null,fd:1", "ssl=null"]);
        run.arg(format!("ubd0={}", self.image.display())).arg(format!("init={}", init.display()));
        let outcome = run.timeout(TIMEOUT).run();
        let text = fs::read(&output).unwrap_or_else(|_| panic!("{}", outcome.report()));
        String::from_utf8(text).expect("output in UTF-8")
    }
}

/// How a sort can be mounted, or what is missing.
fn way(kind: Kind) -> Result<Way, &'static str> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root mounts");
    }
    let known = fs::read_to_string("/proc/filesystems").expect("file systems of the kernel");
    let name = format!("{kind:?}").to_lowercase();
    if known.split_whitespace().any(|word| word == name) {
        return Ok(Way::Kernel);
    }
    let is_there = |program: &str| {
        ["/usr/bin", "/usr/sbin"].iter().any(|f| Path::new(f).join(program).exists())
    };
    match kind {
        Kind::Vfat if is_there("linux.uml") => Ok(Way::UserMode),
        Kind::Vfat => Err("neither the kernel has it, nor is there one of user mode"),
        Kind::Exfat if is_there("mount.exfat-fuse") && Path::new("/dev/fuse").exists() => {
            Ok(Way::Fuse)
        }
        Kind::Exfat => Err("neither the kernel has it, nor FUSE"),
        Kind::Tmpfs | Kind::Overlay => Err("the kernel has none"),
    }
}

fn steps(text: &str) -> BTreeMap<String, Step> {
    let mut steps = BTreeMap::new();
    for part in text.split("@@ ").skip(1) {
        let (name, rest) = part.split_once('\n').expect("a name");
        if let Some((said, status)) = rest.rsplit_once("\n@= ") {
            let status = status.split_whitespace().next().expect("a status");
            let status = status.parse().expect("a status");
            let step = Step { status, text: said.to_owned() };
            assert!(steps.insert(name.to_owned(), step).is_none(), "{name} twice");
        }
    }
    steps
}
