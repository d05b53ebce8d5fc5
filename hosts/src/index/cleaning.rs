//! What is removed from the cache directory when an index is opened: what
//! killed processes left, and indexes of other stores, those first that were not
//! used for longest, until the rest fits.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::files::{self, Hold};

/// Names of files that only have one for a moment: those older are left behind.
const TEMPORARY_PREFIXES: [&str; 2] = ["tiroir-index-", "tiroir-spool-"];

/// How long such a moment may take.
const TEMPORARY_AGE: Duration = Duration::from_secs(600);

/// An index of another store.
struct Other {
    directory: PathBuf,
    bytes: u64,
    used: SystemTime,
}

/// Removes temporary files whose process ended before it could hide them.
pub(super) fn remove_temporary(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_named = name
            .to_str()
            .is_some_and(|name| TEMPORARY_PREFIXES.iter().any(|start| name.starts_with(start)));
        let is_old = || {
            let data = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            let age = SystemTime::now().duration_since(data.modified().ok()?).ok()?;
            Some(age > TEMPORARY_AGE)
        };
        if is_named && is_old() == Some(true) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Removes indexes of other stores than that in `own`, until no more than
/// `limit_bytes` are left of all. Those that somebody uses are left alone.
/// Calls `left` with the directory of each that a process left without closing
/// it, if it stays.
pub(super) fn make_room(cache: &Path, own: &Path, limit_bytes: u64, left: &mut dyn FnMut(&Path)) {
    let mut others: Vec<Other> = Vec::new();
    let mut total = files::bytes_in(own);
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let directory = entry.path();
        let is_index = entry.file_name().to_str().is_some_and(files::is_directory_name)
            && entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_index || directory == own {
            continue;
        }
        let bytes = files::bytes_in(&directory);
        let used = entry.metadata().and_then(|data| data.modified());
        total = total.saturating_add(bytes);
        others.push(Other { directory, bytes, used: used.unwrap_or(SystemTime::UNIX_EPOCH) });
    }
    others.sort_by_key(|other| other.used);
    for other in others {
        let path = other.directory.join(files::DATABASE_NAME);
        if total > limit_bytes {
            let removed = Hold::without_users(&other.directory, || {
                let removed = files::remove_files(&path);
                removed.is_ok().then(|| fs::remove_dir(&other.directory))
            });
            if removed.flatten().is_some() {
                total -= other.bytes;
                continue;
            }
        }
        if files::is_left(&path) {
            Hold::without_users(&other.directory, || left(&path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    /// An index of `bytes`, last used so many seconds ago.
    fn index(cache: &Path, number: u8, bytes: usize, age_secs: u64) -> PathBuf {
        let path = files::path_of(cache, &[number; 16]);
        let directory = path.parent().unwrap().to_path_buf();
        fs::create_dir_all(&directory).unwrap();
        fs::write(&path, vec![0; bytes / 2]).unwrap();
        fs::write(directory.join("run-1"), vec![0; bytes - bytes / 2]).unwrap();
        set_age(&directory, age_secs);
        directory
    }

    fn set_age(path: &Path, age_secs: u64) {
        let time = SystemTime::now() - Duration::from_secs(age_secs);
        File::open(path).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn the_longest_unused_go_first_and_only_as_many_as_must() {
        let cache = tempfile::tempdir().unwrap();
        let own = index(cache.path(), 0, 1000, 9999);
        let old = index(cache.path(), 1, 1000, 500);
        let held = index(cache.path(), 2, 1000, 400);
        let newer = index(cache.path(), 3, 1000, 300);
        let newest = index(cache.path(), 4, 1000, 200);
        fs::write(cache.path().join("note"), [0; 5000]).unwrap();
        fs::create_dir(cache.path().join("folder")).unwrap();
        let clean = |limit| make_room(cache.path(), &own, limit, &mut |_| panic!("closed"));
        clean(5000);
        assert!([&old, &held, &newer, &newest].iter().all(|directory| directory.is_dir()));
        let hold = Hold::take(&held).unwrap();
        set_age(&held, 400);
        clean(3000);
        assert!(!old.exists() && held.is_dir() && !newer.exists() && newest.is_dir());
        clean(0);
        assert!(held.join("run-1").exists() && !newest.exists() && own.join("run-1").exists());
        drop(hold);
        clean(1000);
        assert!(!held.exists() && own.join("run-1").exists());
        assert!(cache.path().join("note").exists() && cache.path().join("folder").exists());
    }

    #[test]
    fn what_was_not_closed_is_told_unless_it_is_used() {
        let cache = tempfile::tempdir().unwrap();
        let own = index(cache.path(), 0, 10, 0);
        let other = index(cache.path(), 1, 10, 0);
        fs::write(other.join("index.sqlite-wal"), "").unwrap();
        let told = || {
            let mut told = 0;
            make_room(cache.path(), &own, 1000, &mut |path| {
                assert_eq!(path, other.join(files::DATABASE_NAME));
                told += 1;
            });
            told
        };
        assert_eq!(told(), 1);
        let hold = Hold::take(&other).unwrap();
        assert_eq!(told(), 0);
        drop(hold);
        assert_eq!(told(), 1);
    }

    #[test]
    fn temporary_files_of_the_past_go() {
        let spools = tempfile::tempdir().unwrap();
        for name in ["tiroir-index-1", "tiroir-spool-2", "tiroir-x", "other"] {
            fs::write(spools.path().join(name), "").unwrap();
            set_age(&spools.path().join(name), 3600);
        }
        fs::write(spools.path().join("tiroir-index-new"), "").unwrap();
        remove_temporary(spools.path());
        let mut names: Vec<_> =
            fs::read_dir(spools.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["other", "tiroir-index-new", "tiroir-x"]);
    }

    #[test]
    fn a_directory_that_goes_while_it_is_taken_is_made_again() {
        let cache = tempfile::tempdir().unwrap();
        let directory = index(cache.path(), 1, 10, 0);
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                Hold::without_users(&directory, || {
                    send.send(()).unwrap();
                    std::thread::sleep(Duration::from_millis(50));
                    fs::remove_dir_all(&directory).unwrap();
                })
            });
            receive.recv().unwrap();
            let hold = Hold::take(&directory).unwrap();
            assert!(directory.is_dir());
            assert!(Hold::without_users(&directory, || ()).is_none());
            drop(hold);
            assert!(Hold::without_users(&directory, || ()).is_some());
        });
    }
}
