//! [`store_contract`]: what every store connector must do, as code; and
//! [`remote_files_contract`]: what every protocol of servers with files must.
//!
//! The documentation of [`Store`] and of
//! [`RemoteFiles`](crate::remote::RemoteFiles) in words of its own; connectors of
//! other packages may call it too.

#![expect(clippy::unwrap_used, reason = "a test that others call")]

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::io::Write as _;
use std::ops::ControlFlow;

use tiroir_core::host::{HostError, HostErrorKind};
use tiroir_core::mac::Mac;
use tiroir_core::store::{Layout, Store, StoreResource};

mod remote_files;

pub use remote_files::remote_files_contract;

/// Says what was not checked, since the server at hand cannot do it: past what hides
/// the output of tests that pass, and with the name of the test.
fn skipped(what: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("contract");
    let _ = writeln!(std::io::stderr(), "{test}: skipped: {what}");
}

/// All kinds of resources.
const RESOURCES: [StoreResource; 3] =
    [StoreResource::Packfile, StoreResource::State, StoreResource::Lock];

/// Hands everything but CONFIG on to the store in a field: for stores that stand for a
/// server and a client of it.
#[macro_export]
macro_rules! hand_on {
    ($field:ident) => {
        fn layout(&self) -> ::tiroir_core::store::Layout {
            self.$field.layout()
        }

        $crate::hand_on! { $field:
            begin(resource: ::tiroir_core::store::StoreResource)
                -> Result<::tiroir_core::store::UploadId, Self::Error>;
            write(upload: ::tiroir_core::store::UploadId, bytes: &[u8])
                -> Result<(), Self::Error>;
            commit(upload: ::tiroir_core::store::UploadId, name: &::tiroir_core::mac::Mac)
                -> Result<(), Self::Error>;
            abort(upload: ::tiroir_core::store::UploadId) -> ();
            size(resource: ::tiroir_core::store::StoreResource, name: &::tiroir_core::mac::Mac)
                -> Result<Option<u64>, Self::Error>;
            get(
                resource: ::tiroir_core::store::StoreResource,
                name: &::tiroir_core::mac::Mac,
                offset_bytes: u64,
                into: &mut [u8]
            ) -> Result<usize, Self::Error>;
            list(
                resource: ::tiroir_core::store::StoreResource,
                each: &mut dyn FnMut(::tiroir_core::mac::Mac) -> ::core::ops::ControlFlow<()>
            ) -> Result<(), Self::Error>;
            delete(
                resource: ::tiroir_core::store::StoreResource,
                name: &::tiroir_core::mac::Mac
            ) -> Result<(), Self::Error>;
        }
    };
    ($field:ident: $($method:ident($($argument:ident: $kind:ty),*) -> $result:ty;)*) => {
        $(fn $method(&mut self, $($argument: $kind),*) -> $result {
            self.$field.$method($($argument),*)
        })*
    };
}

/// Checks that stores which `make` returns keep the contract. Each must be new:
/// nothing may exist where it lies.
///
/// # Panics
///
/// Where they do not.
pub fn store_contract<S>(mut make: impl FnMut() -> S)
where
    S: Store<Error: HostError + Debug>,
{
    nothing_before_create(&mut make());
    config_comes_back(&mut make());
    resources_come_back(&mut make());
    uploads_are_apart(&mut make());
    names_are_replaced(&mut make());
    ranges_end_at_the_end(&mut make());
    listing_stops_when_told(&mut make());
    deleting_twice_succeeds(&mut make());
}

/// Checks what holds between two users of one store. `make` returns a new
/// connection to the place of a number; nothing may exist there before.
///
/// # Panics
///
/// Where they do not keep it.
pub fn shared_store_contract<S>(mut make: impl FnMut(usize) -> S)
where
    S: Store<Error: HostError + Debug>,
{
    one_creates(&mut make(0), &mut make(0));
    each_sees_the_other(&mut make(1), &mut make(1));
    what_is_cut_off_is_not_there(make(2), &mut make(2));
    long_resources_come_back(&mut make(3), &mut make(3));
}

fn one_creates<S: Store<Error: HostError + Debug>>(first: &mut S, second: &mut S) {
    first.create(b"config").unwrap();
    assert_eq!(second.create(b"other").unwrap_err().kind(), HostErrorKind::AlreadyExists);
    let mut into = [0; 100];
    assert_eq!(second.read_config(&mut into).unwrap(), 6);
    assert_eq!(into[..6], *b"config");
}

fn each_sees_the_other<S: Store<Error: HostError + Debug>>(first: &mut S, second: &mut S) {
    created(first);
    for resource in RESOURCES {
        let uploads = [first.begin(resource).unwrap(), second.begin(resource).unwrap()];
        for round in 0..50u8 {
            first.write(uploads[0], &[round; 100]).unwrap();
            second.write(uploads[1], &[round; 200]).unwrap();
        }
        let own = [Mac([3; 32]), Mac([4; 32])];
        first.commit(uploads[0], &own[0]).unwrap();
        second.commit(uploads[1], &own[1]).unwrap();
        assert_eq!(names(second, resource), BTreeSet::from(own));
        assert_eq!(whole(second, resource, own[0]).len(), 5000);
        assert_eq!(whole(first, resource, own[1]).len(), 10_000);
        // The same name from two sides: whole, and one of the two.
        put(first, resource, own[0], b"first");
        put(second, resource, own[0], b"second, longer");
        assert_eq!(whole(first, resource, own[0]), b"second, longer");
        second.delete(resource, &own[1]).unwrap();
        assert_eq!(first.size(resource, &own[1]).unwrap(), None);
        first.delete(resource, &own[0]).unwrap();
        assert!(names(second, resource).is_empty());
    }
}

fn what_is_cut_off_is_not_there<S: Store<Error: HostError + Debug>>(mut first: S, second: &mut S) {
    created(&mut first);
    for resource in RESOURCES {
        let upload = first.begin(resource).unwrap();
        first.write(upload, &[7; 300_000]).unwrap();
    }
    drop(first);
    for resource in RESOURCES {
        assert!(names(second, resource).is_empty());
    }
    put(second, StoreResource::Packfile, Mac([8; 32]), b"later");
    assert_eq!(whole(second, StoreResource::Packfile, Mac([8; 32])), b"later");
}

fn long_resources_come_back<S: Store<Error: HostError + Debug>>(first: &mut S, second: &mut S) {
    const STEP: usize = 64 * 1024;
    created(first);
    let name = Mac([6; 32]);
    let content: Vec<u8> = (0..u32::MAX).flat_map(u32::to_be_bytes).take(9_000_001).collect();
    let upload = first.begin(StoreResource::Packfile).unwrap();
    for piece in content.chunks(100_000) {
        first.write(upload, piece).unwrap();
    }
    // Something short is written and read in between.
    put(first, StoreResource::State, Mac([1; 32]), b"state");
    first.commit(upload, &name).unwrap();
    let mut into = vec![0; STEP];
    let mut read = |store: &mut S, at: usize| {
        let offset_bytes = u64::try_from(at).unwrap();
        let count = store.get(StoreResource::Packfile, &name, offset_bytes, &mut into).unwrap();
        assert_eq!(count, STEP.min(content.len() - at), "at {at}");
        assert!(into[..count] == content[at..at + count], "at {at}");
    };
    for at in (0..content.len()).step_by(STEP) {
        read(second, at);
        if at % (16 * STEP) == 0 {
            assert_eq!(whole(second, StoreResource::State, Mac([1; 32])), b"state");
        }
    }
    for at in (0..content.len()).step_by(13 * STEP + 7).rev() {
        read(first, at);
    }
    for at in (1_000_000..1_300_000).step_by(STEP / 2) {
        read(second, at);
    }
    second.delete(StoreResource::Packfile, &name).unwrap();
    let gone = second.get(StoreResource::Packfile, &name, 70_000, &mut [0; 10]).unwrap_err();
    assert_eq!(gone.kind(), HostErrorKind::NotFound);
}

fn created<S: Store<Error: Debug>>(store: &mut S) -> &mut S {
    assert_eq!(store.layout(), Layout::Directory, "this contract is for stores of many files");
    store.create(b"config").unwrap();
    store
}

fn put<S: Store<Error: Debug>>(store: &mut S, resource: StoreResource, name: Mac, bytes: &[u8]) {
    let upload = store.begin(resource).unwrap();
    store.write(upload, bytes).unwrap();
    store.commit(upload, &name).unwrap();
}

fn whole<S: Store<Error: Debug>>(store: &mut S, resource: StoreResource, name: Mac) -> Vec<u8> {
    let size = store.size(resource, &name).unwrap().unwrap();
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    assert_eq!(store.get(resource, &name, 0, &mut bytes).unwrap(), bytes.len());
    bytes
}

fn names<S: Store<Error: Debug>>(store: &mut S, resource: StoreResource) -> BTreeSet<Mac> {
    let mut names = BTreeSet::new();
    store
        .list(resource, &mut |name| {
            assert!(names.insert(name), "listed twice");
            ControlFlow::Continue(())
        })
        .unwrap();
    names
}

fn nothing_before_create<S: Store<Error: HostError + Debug>>(store: &mut S) {
    let error = store.read_config(&mut [0; 100]).unwrap_err();
    assert_eq!(error.kind(), HostErrorKind::NotFound);
}

fn config_comes_back<S: Store<Error: HostError + Debug>>(store: &mut S) {
    let config: Vec<u8> = (0..=255).cycle().take(700).collect();
    store.create(&config).unwrap();
    let mut into = [0; 1000];
    assert_eq!(store.read_config(&mut into).unwrap(), 700);
    assert_eq!(into[..700], config);
    assert!(store.read_config(&mut into[..699]).unwrap() > 699);
    let error = store.create(b"again").unwrap_err();
    assert_eq!(error.kind(), HostErrorKind::AlreadyExists);
    assert_eq!(store.read_config(&mut into).unwrap(), 700);
}

fn resources_come_back<S: Store<Error: HostError + Debug>>(store: &mut S) {
    let store = created(store);
    for (index, resource) in RESOURCES.into_iter().enumerate() {
        assert!(names(store, resource).is_empty());
        let content: Vec<u8> = (0..=250).cycle().take(5000 * index + 17).collect();
        let name = Mac([0x42; 32]);
        let upload = store.begin(resource).unwrap();
        for piece in content.chunks(77) {
            store.write(upload, piece).unwrap();
        }
        assert!(names(store, resource).is_empty(), "there before it is committed");
        assert_eq!(store.size(resource, &name).unwrap(), None);
        let error = store.get(resource, &name, 0, &mut [0; 4]).unwrap_err();
        assert_eq!(error.kind(), HostErrorKind::NotFound);
        store.commit(upload, &name).unwrap();
        assert_eq!(whole(store, resource, name), content);
        assert_eq!(names(store, resource), BTreeSet::from([name]));
    }
}

fn uploads_are_apart<S: Store<Error: HostError + Debug>>(store: &mut S) {
    let store = created(store);
    let uploads = [0u8, 1, 2, 3].map(|_| store.begin(StoreResource::Packfile).unwrap());
    for round in 0..100 {
        for (upload, fill) in uploads.into_iter().zip(1u8..) {
            store.write(upload, &[fill; 300][..round]).unwrap();
        }
    }
    store.abort(uploads[1]);
    for (upload, fill) in uploads.into_iter().zip(1u8..) {
        if upload != uploads[1] {
            store.commit(upload, &Mac([fill; 32])).unwrap();
        }
    }
    let expected = BTreeSet::from([Mac([1; 32]), Mac([3; 32]), Mac([4; 32])]);
    assert_eq!(names(store, StoreResource::Packfile), expected);
    for name in expected {
        assert_eq!(whole(store, StoreResource::Packfile, name), vec![name.0[0]; 4950]);
    }
    assert!(store.write(uploads[1], b"late").is_err());
    assert!(store.commit(uploads[1], &Mac::ZERO).is_err());
}

fn names_are_replaced<S: Store<Error: HostError + Debug>>(store: &mut S) {
    let store = created(store);
    for resource in RESOURCES {
        let name = Mac([9; 32]);
        put(store, resource, name, b"first, and longer");
        assert_eq!(whole(store, resource, name), b"first, and longer");
        put(store, resource, name, b"second");
        assert_eq!(whole(store, resource, name), b"second");
    }
}

fn ranges_end_at_the_end<S: Store<Error: HostError + Debug>>(store: &mut S) {
    let store = created(store);
    let name = Mac([7; 32]);
    put(store, StoreResource::Packfile, name, b"0123456789");
    let mut into = [0; 6];
    for (offset_bytes, wanted) in [
        (0, &b"012345"[..]),
        (4, b"456789"),
        (7, b"789"),
        (10, b""),
        (11, b""),
        (1 << 40, b""),
        (u64::MAX, b""),
    ] {
        let count = store.get(StoreResource::Packfile, &name, offset_bytes, &mut into).unwrap();
        assert_eq!(&into[..count], wanted);
    }
    assert_eq!(store.get(StoreResource::Packfile, &name, 3, &mut []).unwrap(), 0);
}

fn listing_stops_when_told<S: Store<Error: HostError + Debug>>(store: &mut S) {
    let store = created(store);
    for first in 0..20 {
        put(store, StoreResource::State, Mac([first; 32]), b"state");
    }
    assert_eq!(names(store, StoreResource::State).len(), 20);
    let mut count = 0;
    store
        .list(StoreResource::State, &mut |_| {
            count += 1;
            if count == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!(count, 3);
}

fn deleting_twice_succeeds<S: Store<Error: HostError + Debug>>(store: &mut S) {
    let store = created(store);
    for resource in RESOURCES {
        let name = Mac([5; 32]);
        put(store, resource, name, b"content");
        assert_eq!(whole(store, resource, name), b"content");
        store.delete(resource, &name).unwrap();
        store.delete(resource, &name).unwrap();
        assert_eq!(store.size(resource, &name).unwrap(), None);
        assert!(names(store, resource).is_empty());
        let error = store.get(resource, &name, 0, &mut [0; 4]).unwrap_err();
        assert_eq!(error.kind(), HostErrorKind::NotFound);
    }
}
