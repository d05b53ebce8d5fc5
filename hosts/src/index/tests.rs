//! The index against a plain model, reopened, shared and damaged.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use tiroir_core::host::HostError as _;

use super::*;
use crate::testing::Random;

const REPOSITORY: [u8; 16] = [0xa5; 16];

/// What an index should know, in the plainest form.
#[derive(Clone, Debug, Default)]
struct Model {
    locations: BTreeMap<(u8, Mac, Mac), (u64, u32)>,
    declared: BTreeMap<Mac, (Mac, Timestamp)>,
    deleted: BTreeSet<Mac>,
    colours: BTreeMap<(u8, Mac), Timestamp>,
    added: BTreeSet<(u8, Mac)>,
}

impl Model {
    fn is_usable(&self, packfile: &Mac) -> bool {
        self.declared.contains_key(packfile) && self.is_kept(packfile)
    }

    fn is_kept(&self, packfile: &Mac) -> bool {
        !self.deleted.contains(packfile)
            && !self.colours.contains_key(&(ResourceKind::PACKFILE.0, *packfile))
    }

    /// All usable locations of a blob.
    fn find(&self, kind: ResourceKind, mac: &Mac) -> Vec<Location> {
        let range = (kind.0, *mac, Mac::ZERO)..=(kind.0, *mac, Mac([255; 32]));
        let all =
            self.locations.range(range).filter(|((_, _, packfile), _)| self.is_usable(packfile));
        all.map(|((_, _, packfile), (offset_bytes, length_bytes))| Location {
            packfile: *packfile,
            offset_bytes: *offset_bytes,
            length_bytes: *length_bytes,
        })
        .collect()
    }

    fn snapshots(&self) -> BTreeSet<Mac> {
        let kind = ResourceKind::SNAPSHOT.0;
        let usable = self.locations.keys().filter(|(k, mac, packfile)| {
            *k == kind && self.is_usable(packfile) && !self.colours.contains_key(&(kind, *mac))
        });
        usable.map(|(_, mac, _)| *mac).collect()
    }
}

fn options(directory: &Path) -> IndexOptions {
    IndexOptions::new(directory)
        .with_page_cache(64 * 1024)
        .with_filter(8192)
        .with_lock_wait(Duration::from_millis(50))
}

fn open(directory: &Path) -> SqliteIndex {
    SqliteIndex::open(directory, &REPOSITORY, options(directory)).unwrap()
}

fn name(space: u8, number: u64) -> Mac {
    // Far apart, as MACs are.
    let mut random = Random::new(number << 8 | u64::from(space));
    Mac::from_slice(&random.bytes(32)).unwrap()
}

const KINDS: [ResourceKind; 4] =
    [ResourceKind::CHUNK, ResourceKind::OBJECT, ResourceKind::SNAPSHOT, ResourceKind::PACKFILE];

/// What lies in packfiles, in its order.
fn compare_located(index: &mut SqliteIndex, model: &Model) {
    for packfile in (0..20).map(|number| name(2, number)) {
        let mut found = Vec::new();
        let note = &mut |kind: ResourceKind, mac: &Mac, at: &Location| {
            assert_eq!(at.packfile, packfile);
            found.push((at.offset_bytes, kind.0, *mac, at.length_bytes));
            ControlFlow::Continue(())
        };
        index.each_located(&packfile, note).unwrap();
        let all = model.locations.iter().filter(|((_, _, place), _)| *place == packfile);
        let mut wanted: Vec<_> = all
            .map(|((kind, mac, _), (offset, length))| (*offset, *kind, *mac, *length))
            .filter(|_| model.is_usable(&packfile))
            .collect();
        wanted.sort_unstable();
        assert_eq!(found, wanted);
    }
}

/// Whether all of some blobs are there: of many, and of few.
fn compare_needed(index: &mut SqliteIndex, model: &Model) {
    let kind = ResourceKind::CHUNK;
    let there: Vec<Mac> = (0..300)
        .map(|number| name(1, number))
        .filter(|mac| !model.find(kind, mac).is_empty())
        .collect();
    let absent = (0..320).map(|number| name(1, number)).find(|mac| !there.contains(mac)).unwrap();
    for count in [there.len(), 1] {
        for lacks in [false, true] {
            for mac in there.iter().take(count).chain(there.iter().take(count)) {
                index.need(kind, mac).unwrap();
            }
            if lacks {
                index.need(kind, &absent).unwrap();
            }
            assert_eq!(index.has_needed().unwrap(), !lacks);
        }
    }
    assert!(index.has_needed().unwrap());
}

/// One random entry of a state, to the index and to the model.
fn random_entry(random: &mut Random, index: &mut SqliteIndex, model: &mut Model) {
    let kind = KINDS[usize::try_from(random.below(3)).unwrap()];
    let mac = name(1, random.below(300));
    let packfile = name(2, random.below(20));
    let when = Timestamp::from_unix_nanos(random.below(1 << 60).cast_signed());
    match random.below(100) {
        0..60 => {
            let location = Location {
                packfile,
                offset_bytes: random.next(),
                length_bytes: 1 + u32::from(kind.0),
            };
            index.location(kind, &mac, &location).unwrap();
            let place = (location.offset_bytes, location.length_bytes);
            model.locations.entry((kind.0, mac, packfile)).or_insert(place);
        }
        60..75 => {
            index.packfile(&packfile, &name(3, 1), when).unwrap();
            model.declared.entry(packfile).or_insert((name(3, 1), when));
        }
        75..82 => {
            index.coloured(kind, &mac, when).unwrap();
            model.colours.entry((kind.0, mac)).or_insert(when);
        }
        82..85 => {
            index.coloured(ResourceKind::PACKFILE, &packfile, when).unwrap();
            model.colours.entry((ResourceKind::PACKFILE.0, packfile)).or_insert(when);
        }
        85..90 => {
            index.delete_location(kind, &mac, &packfile).unwrap();
            model.locations.remove(&(kind.0, mac, packfile));
        }
        90..95 => {
            index.delete_colour(kind, &mac).unwrap();
            model.colours.remove(&(kind.0, mac));
        }
        95..99 => {
            index.delete_colour(ResourceKind::PACKFILE, &packfile).unwrap();
            model.colours.remove(&(ResourceKind::PACKFILE.0, packfile));
        }
        _ => {
            index.delete_packfile(&packfile).unwrap();
            model.deleted.insert(packfile);
        }
    }
}

fn compare(index: &mut SqliteIndex, model: &Model) {
    compare_located(index, model);
    compare_needed(index, model);
    for number in 0..320 {
        let mac = name(1, number);
        for kind in &KINDS[..3] {
            let found = index.find(*kind, &mac).unwrap();
            let wanted = model.find(*kind, &mac);
            assert_eq!(found.is_some(), !wanted.is_empty());
            assert!(found.is_none_or(|found| wanted.contains(&found)));
            let is_added = model.added.contains(&(kind.0, mac));
            assert_eq!(index.contains(*kind, &mac).unwrap(), is_added || found.is_some());
            let colour = model.colours.get(&(kind.0, mac)).copied();
            assert_eq!(index.colour(*kind, &mac).unwrap(), colour);
        }
    }
    let mut snapshots = BTreeSet::new();
    let mut after = None;
    while let Some(snapshot) = index.next_snapshot(after.as_ref()).unwrap() {
        assert!(after.is_none_or(|after| after < snapshot));
        snapshots.insert(snapshot);
        after = Some(snapshot);
    }
    assert_eq!(snapshots, model.snapshots());
    compare_packfiles(index, model);
}

fn compare_packfiles(index: &mut SqliteIndex, model: &Model) {
    let mut after = None;
    let there = model.declared.iter().filter(|(packfile, _)| !model.deleted.contains(packfile));
    let mut usable = BTreeSet::new();
    let mut last = None;
    while let Some(packfile) = index.next_packfile(last.as_ref()).unwrap() {
        assert!(model.is_usable(&packfile.name) && usable.insert(packfile.name));
        assert!(last < Some(packfile));
        assert_eq!(model.declared[&packfile.name].1, packfile.declared);
        last = Some(packfile);
    }
    let mut blob_count = 0;
    let mut packfile_count = 0;
    for (packfile, (state, declared)) in there {
        let found = index.next_known_packfile(after.as_ref()).unwrap().unwrap();
        let coloured = model.colours.get(&(ResourceKind::PACKFILE.0, *packfile)).copied();
        assert_eq!(usable.contains(packfile), coloured.is_none());
        let wanted = Packfile { name: *packfile, state: *state, declared: *declared, coloured };
        assert_eq!(found, wanted);
        assert_eq!(index.find_packfile(packfile).unwrap(), Some(wanted));
        after = Some(*packfile);
        packfile_count += 1;

        let mut blobs = BTreeSet::new();
        let mut last: Option<PackedBlob> = None;
        while let Some(blob) = index.next_in_packfile(packfile, last.as_ref()).unwrap() {
            let offset = |blob: &PackedBlob| blob.location.offset_bytes;
            assert!(last.is_none_or(|last| offset(&last) <= offset(&blob)));
            blobs.insert((blob.kind.0, blob.mac, blob.location.offset_bytes));
            last = Some(blob);
        }
        let wanted = model.locations.iter().filter(|((_, _, p), _)| p == packfile);
        let wanted: BTreeSet<_> =
            wanted.map(|((k, m, _), (offset, _))| (*k, *m, *offset)).collect();
        assert_eq!(blobs, wanted);
        blob_count += blobs.len() as u64;
    }
    assert_eq!(index.next_known_packfile(after.as_ref()).unwrap(), None);
    let totals = index.totals().unwrap();
    assert_eq!((totals.packfiles, totals.blobs), (packfile_count, blob_count));
}

#[test]
fn random_states_match_the_model() {
    for seed in 0..6 {
        let directory = tempfile::tempdir().unwrap();
        let mut random = Random::new(seed);
        let mut model = Model::default();
        let mut index = open(directory.path());
        assert!(!index.is_temporary());
        for refresh in 0..8 {
            index.begin_refresh().unwrap();
            for _ in 0..random.below(200) {
                random_entry(&mut random, &mut index, &mut model);
            }
            index.state_read(&name(3, refresh)).unwrap();
            index.end_refresh().unwrap();
            compare(&mut index, &model);
            if random.below(2) == 0 {
                drop(index);
                index = open(directory.path());
                model.added.clear();
                compare(&mut index, &model);
            }
            for _ in 0..random.below(30) {
                let mac = name(1, random.below(320));
                index.add(ResourceKind::CHUNK, &mac).unwrap();
                model.added.insert((ResourceKind::CHUNK.0, mac));
            }
            compare(&mut index, &model);
        }
    }
}

#[test]
fn a_refresh_that_fails_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    for mut index in
        [open(directory.path()), SqliteIndex::temporary(options(directory.path())).unwrap()]
    {
        let location = Location { packfile: name(2, 1), offset_bytes: 1, length_bytes: 2 };
        for round in 0..2 {
            index.begin_refresh().unwrap();
            assert!(!index.state_listed(&name(3, 1)).unwrap(), "round {round}");
            index.location(ResourceKind::CHUNK, &name(1, 1), &location).unwrap();
            index.packfile(&name(2, 1), &name(3, 1), Timestamp::default()).unwrap();
            index.state_read(&name(3, 1)).unwrap();
        }
        index.end_refresh().unwrap();
        assert_eq!(index.find(ResourceKind::CHUNK, &name(1, 1)).unwrap(), Some(location));
        assert_eq!(index.newest_state().unwrap(), Some((Version(0), name(3, 1))));
    }
}

/// Notes states with their parents, and returns the order in which they come.
fn reading_order(index: &mut SqliteIndex, states: &[(u64, Option<u64>)]) -> Vec<u64> {
    let parent = |parent: Option<u64>| parent.map_or(Mac::ZERO, |parent| name(3, parent));
    index.begin_refresh().unwrap();
    for (state, of) in states {
        assert!(!index.state_listed(&name(3, *state)).unwrap());
        index.state_header(&name(3, *state), Version::V1_1_0, &parent(*of)).unwrap();
    }
    let mut order = Vec::new();
    while let Some((state, version)) = index.next_unread_state().unwrap() {
        assert_eq!(version, Version::V1_1_0);
        let number = states.iter().find(|(number, _)| name(3, *number) == state).unwrap().0;
        assert!(!order.contains(&number));
        order.push(number);
        index.state_read(&state).unwrap();
        assert!(index.state_listed(&state).unwrap());
    }
    index.end_refresh().unwrap();
    order
}

#[test]
fn parents_come_before_children() {
    let directory = tempfile::tempdir().unwrap();
    let mut index = open(directory.path());
    assert_eq!(index.newest_state().unwrap(), None);
    // A chain, a fork, a parent that is nowhere, and a root.
    let states: Vec<(u64, Option<u64>)> = (1..200)
        .map(|number| (number, Some(number - 1)))
        .chain([(300, Some(50)), (301, Some(999)), (302, None)])
        .collect();
    let order = reading_order(&mut index, &states);
    assert_eq!(order.len(), states.len());
    let place = |number: u64| order.iter().position(|state| *state == number).unwrap();
    for number in 2..200 {
        assert!(place(number - 1) < place(number));
    }
    assert!(place(50) < place(300));
    let last = *order.last().unwrap();
    assert_eq!(index.newest_state().unwrap(), Some((Version::V1_1_0, name(3, last))));
    assert_eq!(reading_order(&mut index, &[(400, Some(5)), (401, Some(400))]), [400, 401]);

    // Only what was listed last is there.
    let mut listed: Vec<Mac> = [400, 401].map(|number| name(3, number)).into();
    listed.sort();
    assert_eq!(index.next_state(None).unwrap(), Some(listed[0]));
    assert_eq!(index.next_state(Some(&listed[0])).unwrap(), Some(listed[1]));
    assert_eq!(index.next_state(Some(&listed[1])).unwrap(), None);
}

/// A store put back from a copy lacks what the index knows of later states.
#[test]
fn states_that_are_gone_take_everything_with_them() {
    let directory = tempfile::tempdir().unwrap();
    for mut index in
        [open(directory.path()), SqliteIndex::temporary(options(directory.path())).unwrap()]
    {
        let location = Location { packfile: name(2, 1), offset_bytes: 1, length_bytes: 2 };
        index.begin_refresh().unwrap();
        for state in [1, 2] {
            assert!(!index.state_listed(&name(3, state)).unwrap());
        }
        index.all_states_listed().unwrap();
        index.packfile(&name(2, 1), &name(3, 1), Timestamp::default()).unwrap();
        index.location(ResourceKind::CHUNK, &name(1, 1), &location).unwrap();
        index.state_read(&name(3, 1)).unwrap();
        index.state_read(&name(3, 2)).unwrap();
        index.end_refresh().unwrap();
        // One more state is no harm; one that is gone is.
        index.begin_refresh().unwrap();
        for state in [1, 2, 3] {
            assert_eq!(index.state_listed(&name(3, state)).unwrap(), state < 3);
        }
        index.all_states_listed().unwrap();
        index.end_refresh().unwrap();
        index.begin_refresh().unwrap();
        assert!(index.state_listed(&name(3, 2)).unwrap());
        let error = index.all_states_listed().unwrap_err();
        assert_eq!(error.kind(), HostErrorKind::Lost);
        index.begin_refresh().unwrap();
        assert!(!index.state_listed(&name(3, 2)).unwrap());
        index.all_states_listed().unwrap();
        index.state_read(&name(3, 2)).unwrap();
        index.end_refresh().unwrap();
        assert_eq!(index.find(ResourceKind::CHUNK, &name(1, 1)).unwrap(), None);
    }
}

#[test]
fn states_that_cannot_be_read_are_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let mut index = open(directory.path());
    assert!(index.state_listed(&name(3, 1)).is_err());
    for known in [false, true] {
        index.begin_refresh().unwrap();
        assert_eq!(index.state_listed(&name(3, 1)).unwrap(), known);
        assert!(!index.state_listed(&name(3, 2)).unwrap());
        while let Some(state) = index.next_unverified_state().unwrap() {
            if state == name(3, 2) {
                index.state_unreadable(&state).unwrap();
            } else {
                assert!(!known);
                index.state_header(&state, Version::V1_1_0, &name(3, 2)).unwrap();
            }
        }
        let unread = index.next_unread_state().unwrap();
        assert_eq!(unread.is_some(), !known);
        if let Some((state, _)) = unread {
            index.state_read(&state).unwrap();
        }
        index.end_refresh().unwrap();
        assert_eq!(index.next_state(None).unwrap(), Some(name(3, 1)));
        assert_eq!(index.next_state(Some(&name(3, 1))).unwrap(), None);
    }
    assert!(index.next_unverified_state().is_err());
    let location = Location { packfile: name(2, 1), offset_bytes: 1, length_bytes: 2 };
    assert!(index.location(ResourceKind::CHUNK, &name(1, 1), &location).is_err());
}

#[test]
fn marks_last_as_long_as_the_index() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let mut index = open(directory.path());
        assert!(!index.is_marked(ResourceKind::OBJECT, &name(1, 1)).unwrap());
        assert!(!index.mark(ResourceKind::OBJECT, &name(1, 1)).unwrap());
        assert!(index.mark(ResourceKind::OBJECT, &name(1, 1)).unwrap());
        assert!(index.is_marked(ResourceKind::OBJECT, &name(1, 1)).unwrap());
        assert!(!index.is_marked(ResourceKind::CHUNK, &name(1, 1)).unwrap());
        reading_order(&mut index, &[]);
        assert!(index.is_marked(ResourceKind::OBJECT, &name(1, 1)).unwrap());
    }
}

#[test]
fn parents_in_a_circle_end() {
    let directory = tempfile::tempdir().unwrap();
    let mut index = open(directory.path());
    let circle = [(1, Some(3)), (2, Some(1)), (3, Some(2)), (4, Some(3)), (5, Some(5))];
    assert_eq!(reading_order(&mut index, &circle).len(), 5);
}

#[test]
fn two_processes_share_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = open(directory.path());
    let mut second = open(directory.path());
    assert!(!first.is_temporary() && !second.is_temporary());
    let mut model = Model::default();
    let mut random = Random::new(9);
    for round in 0..6 {
        let (writer, reader) =
            if round % 2 == 0 { (&mut first, &mut second) } else { (&mut second, &mut first) };
        writer.begin_refresh().unwrap();
        for _ in 0..100 {
            random_entry(&mut random, writer, &mut model);
        }
        writer.state_read(&name(3, round)).unwrap();
        // Nothing is blocked meanwhile, once there is something to read.
        if round > 0 {
            reader.find(ResourceKind::CHUNK, &name(1, 1)).unwrap();
        }
        writer.end_refresh().unwrap();
        compare(writer, &model);
        reader.begin_refresh().unwrap();
        reader.end_refresh().unwrap();
        compare(reader, &model);
    }
}

#[test]
fn a_locked_file_is_done_without() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = open(directory.path());
    let mut second = open(directory.path());
    first.begin_refresh().unwrap();
    let location = Location { packfile: name(2, 1), offset_bytes: 1, length_bytes: 2 };
    second.add(ResourceKind::CHUNK, &name(1, 7)).unwrap();
    second.begin_refresh().unwrap();
    assert!(second.is_temporary());
    second.location(ResourceKind::CHUNK, &name(1, 1), &location).unwrap();
    second.packfile(&name(2, 1), &name(3, 1), Timestamp::default()).unwrap();
    second.end_refresh().unwrap();
    assert_eq!(second.find(ResourceKind::CHUNK, &name(1, 1)).unwrap(), Some(location));
    assert!(second.contains(ResourceKind::CHUNK, &name(1, 7)).unwrap());
    first.end_refresh().unwrap();
}

#[test]
fn other_files_are_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = path_of(directory.path(), &REPOSITORY);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    for content in [&b"not a database, but long enough to be taken for one"[..], &[0; 5000]] {
        fs::write(&path, content).unwrap();
        let mut index = open(directory.path());
        assert!(!index.is_temporary());
        assert_eq!(index.next_snapshot(None).unwrap(), None);
    }
    for change in ["PRAGMA user_version=99", "PRAGMA application_id=1", "DROP TABLE colours"] {
        drop(open(directory.path()));
        Connection::open(&path).unwrap().execute_batch(change).unwrap();
        let mut index = open(directory.path());
        assert!(!index.is_temporary());
        reading_order(&mut index, &[(1, None)]);
    }
    SqliteIndex::discard(directory.path(), &REPOSITORY).unwrap();
    SqliteIndex::discard(directory.path(), &REPOSITORY).unwrap();
    assert!(!path.exists());
}

/// Fills an index and leaves it closed.
fn fill(directory: &Path, model: &mut Model) {
    fill_index(&mut open(directory), model);
}

fn fill_index(index: &mut SqliteIndex, model: &mut Model) {
    let mut random = Random::new(77);
    index.begin_refresh().unwrap();
    for _ in 0..1200 {
        random_entry(&mut random, index, model);
    }
    index.state_read(&name(3, 1)).unwrap();
    index.end_refresh().unwrap();
}

/// Asks everything; stops at the first error. Answers must be right.
fn ask(index: &mut SqliteIndex, model: &Model) -> Result<()> {
    for number in 0..320 {
        let mac = name(1, number);
        let (found, wanted) =
            (index.find(ResourceKind::CHUNK, &mac)?, model.find(ResourceKind::CHUNK, &mac));
        assert_eq!(found.is_some(), !wanted.is_empty(), "{number}");
        assert!(found.is_none_or(|found| wanted.contains(&found)));
    }
    let mut after = None;
    let mut snapshots = BTreeSet::new();
    loop {
        after = index.next_snapshot(after.as_ref())?;
        let Some(snapshot) = after else { break };
        assert!(snapshots.insert(snapshot));
    }
    assert_eq!(snapshots, model.snapshots());
    index.totals()?;
    Ok(())
}

/// Adds something.
fn refresh(index: &mut SqliteIndex) -> Result<()> {
    index.begin_refresh()?;
    index.state_listed(&name(3, 1))?;
    let location = Location { packfile: name(2, 1000), offset_bytes: 0, length_bytes: 1 };
    index.location(ResourceKind::CHUNK, &name(1, 1000), &location)?;
    index.end_refresh()
}

#[test]
fn damage_ends_in_a_new_index_or_in_right_answers() {
    let origin = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    fill(origin.path(), &mut model);
    let origin = path_of(origin.path(), &REPOSITORY);
    let whole: Vec<(OsString, Vec<u8>)> = fs::read_dir(origin.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap()))
        .collect();
    let is_run = |name: &OsString| name.to_str().unwrap().starts_with(NAME_PREFIX);
    assert!(whole.iter().any(|(name, _)| is_run(name)));
    let mut random = Random::new(13);
    let mut noticed = [0, 0];
    for round in 0..240 {
        let directory = tempfile::tempdir().unwrap();
        let path = path_of(directory.path(), &REPOSITORY);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let in_run = round % 4 == 3;
        for (name, bytes) in &whole {
            let mut bytes = bytes.clone();
            let length = bytes.len() as u64;
            if is_run(name) == in_run {
                for _ in 0..=random.below(3) {
                    // Headers of pages are small, and the most interesting part.
                    let page = random.below((length / 4096).max(1)) * 4096;
                    let part = if round % 4 == 0 { 100 } else { 4096 };
                    let position = page + random.below(part.min(length - page));
                    bytes[usize::try_from(position).unwrap()] ^= 1 << random.below(8);
                }
                if round % 10 < 2 {
                    bytes.truncate(usize::try_from(random.below(length)).unwrap());
                }
            }
            fs::write(path.with_file_name(name), &bytes).unwrap();
        }
        let mut index = open(directory.path());
        let is_new = index.newest_state().is_ok_and(|newest| newest.is_none());
        if is_new {
            noticed[usize::from(in_run)] += 1;
        } else if let Err(error) = ask(&mut index, &model) {
            assert!(
                error.is_damaged_database(),
                "{error}: {:?}",
                std::error::Error::source(&error)
            );
            assert_eq!(error.kind(), HostErrorKind::Other);
            assert!(!path.exists());
            noticed[usize::from(in_run)] += 1;
            drop(index);
            index = open(directory.path());
        }
        match refresh(&mut index) {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error.kind(), HostErrorKind::Lost);
                assert!(!index.is_temporary(), "new files");
                assert_eq!(index.newest_state().unwrap(), None);
                refresh(&mut index).unwrap();
            }
        }
        drop(index);
        refresh(&mut open(directory.path())).unwrap();
    }
    assert!(noticed[0] > 20 && noticed[1] > 40, "{noticed:?}");
}

/// What the files in the cache fail to answer is answered by an index that is
/// made anew, of which nobody notices anything.
#[test]
fn questions_are_answered_whatever_happens_to_the_files() {
    let origin = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    fill(origin.path(), &mut model);
    let origin = path_of(origin.path(), &REPOSITORY);
    let names: Vec<OsString> = fs::read_dir(origin.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    let mut random = Random::new(14);
    let mut remade = 0;
    for round in 0..60 {
        let directory = tempfile::tempdir().unwrap();
        let path = path_of(directory.path(), &REPOSITORY);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        for name in &names {
            fs::copy(origin.with_file_name(name), path.with_file_name(name)).unwrap();
        }
        let mut index = open(directory.path());
        let spools = tempfile::tempdir().unwrap();
        index.set_remake(Remake::new(|mut index| {
            let mut model = Model::default();
            assert!(index.is_temporary());
            fill_index(&mut index, &mut model);
            Ok(index)
        }));
        index.add(ResourceKind::CHUNK, &name(1, 5000)).unwrap();
        // While it is open.
        for name in &names {
            let path = path.with_file_name(name);
            let mut bytes = fs::read(&path).unwrap();
            let length = bytes.len() as u64;
            for _ in 0..40 {
                let at = usize::try_from(random.below(length)).unwrap();
                bytes[at] ^= 1 << random.below(8);
            }
            if round % 3 == 0 {
                bytes.truncate(usize::try_from(random.below(length)).unwrap());
            }
            std::os::unix::fs::FileExt::write_all_at(
                &fs::OpenOptions::new().write(true).open(&path).unwrap(),
                &bytes,
                0,
            )
            .unwrap();
            if round % 3 == 0 {
                fs::OpenOptions::new()
                    .write(true)
                    .open(&path)
                    .unwrap()
                    .set_len(bytes.len() as u64)
                    .unwrap();
            }
        }
        drop(spools);
        for number in 0..320 {
            let mac = name(1, number);
            let wanted = model.find(ResourceKind::CHUNK, &mac);
            let found = index.find(ResourceKind::CHUNK, &mac).unwrap();
            assert_eq!(found.is_some(), !wanted.is_empty());
            assert!(found.is_none_or(|found| wanted.contains(&found)));
        }
        assert!(index.contains(ResourceKind::CHUNK, &name(1, 5000)).unwrap());
        remade += u32::from(index.is_temporary());
        ask(&mut index, &model).unwrap();
    }
    assert!(remade > 30, "{remade}");
}

/// That a blob is nowhere is asked of the states once more.
#[test]
fn what_is_missing_is_looked_for_in_the_states() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    let mut index = open(directory.path());
    index.set_remake(Remake::new(|mut index| {
        fill_index(&mut index, &mut Model::default());
        Ok(index)
    }));
    let mut model = Model::default();
    fill(tempfile::tempdir().unwrap().path(), &mut model);
    let known = (0..320).map(|number| name(1, number));
    let known = { known }.find(|mac| !model.find(ResourceKind::CHUNK, mac).is_empty()).unwrap();
    assert!(!index.contains(ResourceKind::CHUNK, &known).unwrap() && !index.is_temporary());
    assert!(index.find(ResourceKind::CHUNK, &known).unwrap().is_some());
    assert!(index.is_temporary());
    assert_eq!(index.find(ResourceKind::CHUNK, &name(9, 9)).unwrap(), None);
    assert!(!path_of(directory.path(), &REPOSITORY).exists());

    // Nor is it lost for good where the states cannot be read.
    let mut index = open(directory.path());
    index.set_remake(Remake::new(|index| {
        index.in_refresh()?;
        Ok(index)
    }));
    assert_eq!(index.find(ResourceKind::CHUNK, &name(9, 9)).unwrap(), None);
}

thread_local! {
    static TOLD: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
}

fn note_fallback(why: &Fallback) {
    TOLD.with_borrow_mut(|told| told.push(format!("{why:?}")));
}

#[test]
fn an_index_that_is_too_large_is_temporary_until_the_limit_is_raised() {
    let directory = tempfile::tempdir().unwrap();
    let with_limit = |bytes| {
        let options = options(directory.path()).with_fallback(note_fallback).with_limit(bytes);
        SqliteIndex::open(directory.path(), &REPOSITORY, options).unwrap()
    };
    let told = || TOLD.take().len();
    fill(directory.path(), &mut Model::default());
    let own = path_of(directory.path(), &REPOSITORY);
    let little = files::bytes_in(own.parent().unwrap()) - 2000;
    remove_files(&own).unwrap();
    let mut index = with_limit(little);
    let mut model = Model::default();
    index.begin_refresh().unwrap();
    let mut random = Random::new(77);
    for _ in 0..1200 {
        random_entry(&mut random, &mut index, &mut model);
    }
    index.state_read(&name(3, 1)).unwrap();
    assert_eq!((index.end_refresh().unwrap_err().kind(), told()), (HostErrorKind::Lost, 1));
    assert!(index.is_temporary());
    fill_index(&mut index, &mut Model::default());
    ask(&mut index, &model).unwrap();
    assert!(index.written_bytes() > 0);
    drop(index);
    // The next run knows beforehand.
    assert!(with_limit(little).is_temporary() && told() == 1);
    assert!(with_limit(0).is_temporary() && told() == 0);
    let mut index = with_limit(600_000);
    assert!(!index.is_temporary() && told() == 0);
    fill_index(&mut index, &mut Model::default());
    ask(&mut index, &model).unwrap();
    drop(index);
    // An index that got too large goes.
    assert!(path_of(directory.path(), &REPOSITORY).exists());
    assert!(with_limit(little).is_temporary() && told() == 1);
    assert!(!path_of(directory.path(), &REPOSITORY).exists());
}

/// What a refresh that was cut has left goes when the index is opened, and not
/// while another process is at it.
#[test]
fn runs_that_nobody_lists_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    fill(directory.path(), &mut model);
    let own = path_of(directory.path(), &REPOSITORY);
    let stray = own.with_file_name("run-stray");
    fs::write(&stray, "cut").unwrap();
    let mut busy = open(directory.path());
    assert!(!stray.exists());
    busy.begin_refresh().unwrap();
    fs::write(&stray, "on its way").unwrap();
    let mut other = open(directory.path());
    assert!(stray.exists() && !other.is_temporary());
    busy.end_refresh().unwrap();
    ask(&mut other, &model).unwrap();
    drop((busy, other));
    // Of another store, as a process leaves it that is killed.
    for name in [stray.clone(), own.with_file_name("index.sqlite-wal")] {
        fs::write(name, "").unwrap();
    }
    let next = SqliteIndex::open(directory.path(), &[1; 16], options(directory.path())).unwrap();
    assert!(!stray.exists() && !next.is_temporary());
    ask(&mut open(directory.path()), &model).unwrap();
}

/// What lies in the place of files and is none gives way.
#[test]
fn directories_links_and_pipes_give_way() {
    let directory = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    fill(directory.path(), &mut model);
    let own = path_of(directory.path(), &REPOSITORY);
    let precious = directory.path().join("precious");
    let entries = fs::read_dir(own.parent().unwrap()).unwrap();
    let mut names: Vec<OsString> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.extend(["index.sqlite-wal".into(), "index.sqlite-shm".into(), "".into()]);
    for name in names {
        for kind in 0..4 {
            fs::remove_dir_all(own.parent().unwrap()).unwrap();
            fill(directory.path(), &mut Model::default());
            fs::write(&precious, b"").unwrap();
            let entries: Vec<_> = fs::read_dir(own.parent().unwrap()).unwrap().collect();
            let prefix = name.to_str().unwrap().get(..4);
            // Runs have other names each time.
            let there = entries.into_iter().map(|entry| entry.unwrap().path());
            let run = { there }.find(|path| path.to_str().unwrap().contains("/run-")).unwrap();
            let place = match prefix {
                None => own.parent().unwrap().to_path_buf(),
                Some(NAME_PREFIX) => run,
                _ => own.with_file_name(&name),
            };
            if place.is_dir() { fs::remove_dir_all(&place) } else { fs::remove_file(&place) }.ok();
            match kind {
                0 => fs::create_dir(&place).unwrap(),
                1 => std::os::unix::fs::symlink(&precious, &place).unwrap(),
                2 => std::os::unix::fs::symlink("nowhere", &place).unwrap(),
                _ => rustix::fs::mknodat(
                    rustix::fs::CWD,
                    &place,
                    rustix::fs::FileType::Fifo,
                    rustix::fs::Mode::RWXU,
                    0,
                )
                .unwrap(),
            }
            let mut index = open(directory.path());
            assert!(!index.is_temporary(), "{} {kind}", place.display());
            refresh(&mut index).unwrap();
            assert_eq!(fs::read(&precious).unwrap(), b"");
        }
    }
}
