//! The client of stock's `plakar server`.

use tiroir_core::host::{HostError as _, HostErrorKind};
use tiroir_core::mac::Mac;
use tiroir_core::store::{Store, StoreResource};
use tiroir_hosts::address::Address;
use tiroir_hosts::contract::store_contract;
use tiroir_hosts::error::{HostsError, Result};
use tiroir_hosts::hand_on;
use tiroir_hosts::http::HttpStore;
use tiroir_hosts::options::Options;
use tiroir_tests::servers::plakar::PlakarServer;

fn client(server: &PlakarServer) -> HttpStore {
    let address = format!("127.0.0.1:{}", server.port);
    let address = Address::parse(address.as_bytes()).expect("an address");
    let options: Options = [("timeout", "20")].into_iter().collect();
    HttpStore::open(&address, false, &options, std::env::temp_dir()).expect("options")
}

/// A store that is made by stock, since a server serves one that is there.
struct Served {
    server: PlakarServer,
    client: HttpStore,
    is_created: bool,
}

impl Served {
    fn new() -> Self {
        let server = PlakarServer::new();
        let client = client(&server);
        Self { server, client, is_created: false }
    }
}

fn rule(kind: HostErrorKind) -> HostsError {
    HostsError::rule(kind, "use", b"the store", "it is for tests")
}

impl Store for Served {
    type Error = HostsError;

    hand_on!(client);

    fn read_config(&mut self, into: &mut [u8]) -> Result<usize> {
        if !self.is_created {
            return Err(rule(HostErrorKind::NotFound));
        }
        self.client.read_config(into)
    }

    fn create(&mut self, bytes: &[u8]) -> Result<()> {
        if self.is_created {
            return Err(rule(HostErrorKind::AlreadyExists));
        }
        self.is_created = true;
        self.server.create(true);
        std::fs::write(self.server.store().join("CONFIG"), bytes).expect("CONFIG");
        Ok(())
    }
}

#[test]
fn stocks_server_keeps_the_contract() {
    store_contract(Served::new);
}

#[test]
fn long_packfiles_come_back() {
    let mut served = Served::new();
    served.create(b"config").expect("create");
    let content: Vec<u8> = (0..u32::MAX).flat_map(u32::to_be_bytes).take(9_000_001).collect();
    let name = Mac([6; 32]);
    let upload = served.begin(StoreResource::Packfile).expect("begin");
    served.write(upload, &content).expect("write");
    served.commit(upload, &name).expect("commit");
    assert_eq!(served.size(StoreResource::Packfile, &name).expect("size"), Some(9_000_001));
    let mut into = vec![0; 64 * 1024];
    for at in (0..content.len()).step_by(into.len()) {
        let read = served.get(StoreResource::Packfile, &name, at as u64, &mut into).expect("get");
        assert!(
            into[..read] == content[at..at + read] && read == into.len().min(content.len() - at)
        );
    }
    let mut other = client(&served.server);
    let read = other.get(StoreResource::Packfile, &name, 5_000_000, &mut into).expect("get");
    assert!(into[..read] == content[5_000_000..5_000_000 + read]);
}

#[test]
fn without_the_right_to_remove() {
    let mut server = PlakarServer::new();
    server.create(false);
    let mut client = client(&server);
    let upload = client.begin(StoreResource::Lock).expect("begin");
    client.write(upload, b"lock").expect("write");
    client.commit(upload, &Mac([1; 32])).expect("commit");
    let error = client.delete(StoreResource::Lock, &Mac([1; 32])).expect_err("not allowed");
    assert_eq!(error.kind(), HostErrorKind::PermissionDenied, "{error}");
    let error = client.create(b"config").expect_err("not possible");
    assert!(error.to_string().contains("on the server's machine"), "{error}");
}
