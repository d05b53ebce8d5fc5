//! [`SeveralImporter`]: backs up several directories and files at once.
//!
//! As in stock, they come into one snapshot, whose root is the directory that
//! leads to all of them. What lies in more than one of them comes in once.

use std::fmt;
use std::path::Path;

use tiroir_core::importer::{Attributes, Each, Importer};

use super::importer::{FsImporter, Position, outside};
use crate::error::{HostsError, Result};

/// [`Importer`] of several places of a local file system.
///
/// Takes what one [`FsImporter`] takes, and for each place its paths and a
/// descriptor.
pub struct SeveralImporter {
    places: Vec<FsImporter>,
    root: Vec<u8>,
    /// The place whose file is open.
    reading: Option<usize>,
}

impl SeveralImporter {
    /// Backs up what the paths name, each as [`FsImporter::open`] understands
    /// it; `set_up` is given each of them.
    ///
    /// # Errors
    ///
    /// Of the system, for the first that cannot be opened; what `set_up`
    /// returns.
    pub fn open<P: AsRef<Path>>(
        paths: &[P],
        mut set_up: impl FnMut(FsImporter) -> Result<FsImporter>,
    ) -> Result<Self> {
        let open = |path: &P| FsImporter::open(path).and_then(&mut set_up);
        let places = paths.iter().map(open).collect::<Result<Vec<_>>>()?;
        let root = places.iter().map(|place| place.root().to_vec()).reduce(common_directory);
        Ok(Self { places, root: root.unwrap_or_else(|| b"/".to_vec()), reading: None })
    }

    /// The place that `path` is asked of: of those it lies in the deepest, else
    /// one whose link it is, else one that it leads to.
    fn place_of(&self, path: &[u8]) -> Result<usize> {
        let rank = |place: &FsImporter| match place.position(path) {
            Position::Below(rest) => Some((0, rest.len())),
            Position::Link => Some((1, 0)),
            Position::Above => Some((2, 0)),
            Position::Outside => None,
        };
        let ranked =
            self.places.iter().enumerate().filter_map(|(at, place)| Some((rank(place)?, at)));
        ranked.min().map(|(_, at)| at).ok_or_else(|| outside(path))
    }

    /// Lists a directory above the roots: what leads on to any of them.
    fn list_above(&mut self, directory: &[u8], each: &mut Each<'_, HostsError>) -> Result<()> {
        let mut names = std::collections::BTreeSet::new();
        for place in &mut self.places {
            if place.position(directory) == Position::Above {
                place.list(directory, &mut |name, _| {
                    names.insert(name.to_vec());
                    Ok(())
                })?;
            }
        }
        names.iter().try_for_each(|name| each(name, &[]))
    }
}

/// The deepest directory that leads to both.
fn common_directory(one: Vec<u8>, other: Vec<u8>) -> Vec<u8> {
    let components = |path: &[u8]| {
        let parts = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty());
        parts.map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    let (one, other) = (components(&one), components(&other));
    let common = one.iter().zip(&other).take_while(|(one, other)| one == other);
    let path: Vec<u8> = common.flat_map(|(part, _)| [b"/", &part[..]].concat()).collect();
    if path.is_empty() { b"/".to_vec() } else { path }
}

impl Importer for SeveralImporter {
    type Error = HostsError;

    fn kind(&self) -> &str {
        "fs"
    }

    fn origin(&self) -> &str {
        self.places.first().map_or("", Importer::origin)
    }

    fn root(&self) -> &[u8] {
        &self.root
    }

    fn list(&mut self, directory: &[u8], each: &mut Each<'_, HostsError>) -> Result<()> {
        let at = self.place_of(directory)?;
        if self.places[at].position(directory) == Position::Above {
            return self.list_above(directory, each);
        }
        let listed = self.places[at].list(directory, each);
        // There may be many places: what one would keep is given back.
        self.places[at].forget_listing();
        listed
    }

    fn stat(&mut self, path: &[u8], hint: &[u8], into: &mut Attributes) -> Result<()> {
        let at = self.place_of(path)?;
        self.places[at].stat(path, hint, into)
    }

    fn open(&mut self, path: &[u8], expected: &Attributes) -> Result<()> {
        self.close();
        let at = self.place_of(path)?;
        self.places[at].open(path, expected)?;
        self.reading = Some(at);
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let at = self.reading.ok_or_else(|| outside(b""))?;
        self.places[at].read(into)
    }

    fn changed(&mut self) -> Result<bool> {
        let at = self.reading.ok_or_else(|| outside(b""))?;
        self.places[at].changed()
    }

    fn close(&mut self) {
        if let Some(at) = self.reading.take() {
            self.places[at].close();
        }
    }

    fn xattr_names(&mut self, path: &[u8], into: &mut [u8]) -> Result<usize> {
        let at = self.place_of(path)?;
        self.places[at].xattr_names(path, into)
    }

    fn xattr(&mut self, path: &[u8], name: &[u8], into: &mut [u8]) -> Result<usize> {
        let at = self.place_of(path)?;
        self.places[at].xattr(path, name, into)
    }
}

impl fmt::Debug for SeveralImporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.places).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;

    #[test]
    fn directories_in_common() {
        let common = |one: &str, other: &str| {
            let path = common_directory(one.as_bytes().to_vec(), other.as_bytes().to_vec());
            String::from_utf8(path).unwrap()
        };
        assert_eq!(common("/a/b/c", "/a/b/d"), "/a/b");
        assert_eq!(common("/a/b", "/a/b"), "/a/b");
        assert_eq!(common("/a/b", "/a/bc"), "/a");
        assert_eq!(common("/a", "/a/b/c"), "/a");
        assert_eq!(common("/a", "/b"), "/");
        assert_eq!(common("/", "/b"), "/");
    }

    /// Everything below `path`, as the engine would walk it.
    fn walk(importer: &mut SeveralImporter, path: &[u8], seen: &mut Vec<String>) {
        let mut attributes = Attributes::default();
        importer.stat(path, &[], &mut attributes).unwrap();
        if attributes.mode & tiroir_core::wire::mode::DIRECTORY == 0 {
            seen.push(String::from_utf8_lossy(path).into_owned());
            return;
        }
        let mut names = Vec::new();
        importer
            .list(path, &mut |name, _| {
                names.push(name.to_vec());
                Ok(())
            })
            .unwrap();
        names.sort();
        for name in names {
            let slash: &[u8] = if path == b"/" { b"" } else { b"/" };
            walk(importer, &[path, slash, &name].concat(), seen);
        }
    }

    #[test]
    fn each_entry_once() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().canonicalize().unwrap();
        for name in ["a/sub/two", "a/one", "b/three", "b/four", "b/five", "c/six"] {
            fs::create_dir_all(top.join(name).parent().unwrap()).unwrap();
            fs::write(top.join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("c", top.join("link")).unwrap();
        let seen = |paths: &[&str]| {
            let paths: Vec<_> = paths.iter().map(|path| top.join(path)).collect();
            let mut importer = SeveralImporter::open(&paths, Ok).unwrap();
            let mut seen = Vec::new();
            walk(&mut importer, b"/", &mut seen);
            let prefix = format!("{}/", top.display());
            let seen: Vec<_> =
                seen.iter().map(|path| path.strip_prefix(&prefix).unwrap().to_owned()).collect();
            (importer.root().to_vec(), seen.join(" "))
        };
        let root = |below: &str| top.join(below).as_os_str().as_bytes().to_vec();
        let all = root("").strip_suffix(b"/").unwrap().to_vec();
        assert_eq!(
            seen(&["a", "b"]),
            (all.clone(), "a/one a/sub/two b/five b/four b/three".into())
        );
        assert_eq!(seen(&["a/sub", "a"]), (root("a"), "a/one a/sub/two".into()));
        assert_eq!(seen(&["b/four", "b/three"]), (root("b"), "b/four b/three".into()));
        assert_eq!(seen(&["a/one", "b/three"]), (all.clone(), "a/one b/three".into()));
        assert_eq!(seen(&["link", "a/one"]), (all, "a/one c/six link".into()));

        let mut importer = SeveralImporter::open(&[top.join("a"), top.join("b")], Ok).unwrap();
        let (path, mut attributes) = (root("b/three"), Attributes::default());
        importer.stat(&path, &[], &mut attributes).unwrap();
        importer.open(&path, &attributes).unwrap();
        let mut content = [0; 16];
        assert_eq!(importer.read(&mut content).unwrap(), 7);
        assert_eq!((&content[..7], importer.changed().unwrap()), (&b"b/three"[..], false));
        importer.close();
        assert!(importer.read(&mut content).is_err());
        assert!(importer.stat(&root("c/six"), &[], &mut attributes).is_err());
        assert!(SeveralImporter::open(&[top.join("a"), top.join("no")], Ok).is_err());
    }
}
