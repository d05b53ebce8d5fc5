//! The connector against servers that do as they like.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use tiroir_core::exporter::Exporter as _;
use tiroir_core::host::{HostError as _, HostErrorKind};
use tiroir_core::importer::{Attributes, Importer as _};
use tiroir_core::mac::Mac;
use tiroir_core::store::{Store as _, StoreResource};

use super::{S3Exporter, S3Importer, S3Store};
use crate::address::Address;
use crate::http::scripted::{Answer, Scripted, Step};
use crate::options::Options;

const NAME: Mac = Mac([0xab; 32]);

fn address(server: &Scripted, path: &str) -> Address {
    Address::parse(format!("127.0.0.1:{}/{path}", server.port).as_bytes()).unwrap()
}

fn options(more: &[(&str, &str)]) -> Options {
    let mut options: Options = [
        ("access_key", "key"),
        ("secret_access_key", "hunter2"),
        ("region", "us-east-1"),
        ("use_tls", "false"),
        ("timeout", "1"),
    ]
    .into_iter()
    .collect();
    for (name, value) in more {
        options.set(*name, *value);
    }
    options
}

fn store(server: &Scripted, more: &[(&str, &str)]) -> S3Store {
    S3Store::open(&address(server, "b/p"), &options(more), std::env::temp_dir()).unwrap()
}

fn get(store: &mut S3Store, into: &mut [u8]) -> crate::error::Result<usize> {
    store.get(StoreResource::Packfile, &NAME, 0, into)
}

fn put(store: &mut S3Store, resource: StoreResource, length: usize) -> crate::error::Result<()> {
    let upload = store.begin(resource).unwrap();
    store.write(upload, &vec![7; length]).unwrap();
    store.commit(upload, &NAME)
}

fn names(store: &mut S3Store) -> crate::error::Result<usize> {
    let mut count = 0;
    store.list(StoreResource::Lock, &mut |_| {
        count += 1;
        ControlFlow::Continue(())
    })?;
    Ok(count)
}

fn send(bytes: impl AsRef<[u8]>) -> Step {
    Step::Send(bytes.as_ref().to_vec())
}

/// What a listing is made of.
fn page(inner: &str) -> String {
    format!("<ListBucketResult>{inner}</ListBucketResult>")
}

fn lock(number: u32) -> String {
    format!("<Contents><Key>p/locks/{number:064x}</Key><Size>1</Size></Contents>")
}

/// Where the part begins that is asked for.
fn from_of(head: &str) -> usize {
    let range = value_of(head, "Range").unwrap().strip_prefix("bytes=").unwrap();
    range.split_once('-').unwrap().0.parse().unwrap()
}

fn value_of<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[test]
fn secrets_are_not_shown() {
    let server = Scripted::new(|_, _| Answer::whole(200, "", ""));
    let key = super::encryption::base64(&[7; 32]);
    let options = [("sse_customer_key", key.as_str()), ("session_token", "hunter3")];
    let shown = format!("{:?}", store(&server, &options));
    assert!(!shown.contains("hunter") && !shown.contains(&key[..20]), "{shown}");
    put(&mut store(&server, &options), StoreResource::Lock, 1).unwrap();
    let head = &server.heads()[0];
    assert_eq!(value_of(head, "x-amz-server-side-encryption-customer-key"), Some(&*key));
    assert_eq!(value_of(head, "x-amz-security-token"), Some("hunter3"));
}

#[test]
fn who_hangs_is_given_up() {
    for steps in [0, 1, 2] {
        let server = Scripted::new(move |_, _| {
            Answer::of(match steps {
                0 => vec![Step::Hang],
                1 => vec![send("HTTP/1.1 206 X\r\nContent-"), Step::Hang],
                _ => vec![Step::Drip(vec![b'x'; 1000], Duration::from_millis(300))],
            })
        });
        let start = Instant::now();
        let error = store(&server, &[]).size(StoreResource::Lock, &NAME).unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        let text = error.to_string();
        assert!(text.contains("time-out") || text.contains("HTTP/1"), "{text}");
        assert!(!text.contains("hunter2"));
    }
}

#[test]
fn who_drips_is_given_up() {
    let server = Scripted::new(|head, _| {
        let from = from_of(head);
        let head = format!(
            "HTTP/1.1 206 X\r\nContent-Length: {}\r\nContent-Range: bytes {from}-999/1000\r\n\r\n",
            1000 - from
        );
        Answer::of(vec![send(head), Step::Drip(vec![b'x'; 1000], Duration::from_millis(200))])
    });
    let start = Instant::now();
    let error = get(&mut store(&server, &[]), &mut [0; 1000]).unwrap_err();
    assert!(error.to_string().contains("time-out"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_cut_answer_is_asked_for_again() {
    let content: Vec<u8> = (0..200).collect();
    let expected = content.clone();
    let server = Scripted::new(move |head, number| {
        let from = from_of(head);
        let rest = &content[from..];
        let head = format!(
            "HTTP/1.1 206 X\r\nContent-Length: {}\r\nContent-Range: bytes {from}-199/200\r\n\r\n",
            rest.len()
        );
        let sent = if number < 2 { &rest[..50] } else { rest };
        Answer::of(vec![send(head), send(sent), Step::Close])
    });
    let mut into = [0; 300];
    assert_eq!(get(&mut store(&server, &[]), &mut into).unwrap(), 200);
    assert_eq!(into[..200], expected);
    assert_eq!(server.heads().len(), 3);
}

#[test]
fn lies_about_lengths_are_found() {
    for (headers, rule) in [
        ("Content-Range: bytes 5-9/100\r\n", "another part"),
        ("Content-Range: bytes 0-9/*\r\n", "length is missing"),
        ("Content-Length: 11\r\nContent-Range: bytes 0-9/100\r\n", "length"),
        ("Transfer-Encoding: chunked\r\nContent-Range: bytes 0-9/100\r\n", "two ways"),
    ] {
        let server = Scripted::new(move |_, _| Answer::whole(206, headers, "0123456789"));
        let error = get(&mut store(&server, &[]), &mut [0; 10]).unwrap_err().to_string();
        assert!(error.contains(rule), "{error}");
    }
    // Shorter than what it says of the object.
    let server = Scripted::new(|head, _| {
        let from = from_of(head);
        Answer::whole(206, &format!("Content-Range: bytes {from}-99/100\r\n"), "0")
    });
    let error = get(&mut store(&server, &[]), &mut [0; 10]).unwrap_err().to_string();
    assert!(error.contains("shorter"), "{error}");
}

#[test]
fn endless_answers_end() {
    for (head, endless) in [
        ("HTTP/1.1 200 OK\r\n", "a: b\r\n"),
        ("HTTP/1.1 200 OK\r\n", "a"),
        ("", "HTTP/1.1 100 Continue\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\n\r\n", "<a>"),
        ("HTTP/1.1 200 OK\r\n\r\n<ListBucketResult>", "<Contents><Key>p/locks/x</Key></Contents>"),
        ("HTTP/1.1 200 OK\r\n\r\n<ListBucketResult><Contents><Key>", "x"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "a: b\r\n"),
        ("HTTP/1.1 400 X\r\n\r\n<Error>", "<Code>x</Code>"),
    ] {
        let server = Scripted::new(move |_, _| {
            Answer::of(vec![send(head), Step::Endless(endless.repeat(1000).into_bytes())])
        });
        assert!(names(&mut store(&server, &[])).is_err(), "{head}{endless}");
    }
}

#[test]
fn endless_pages_end() {
    let server = Scripted::new(|_, _| {
        let more =
            "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>";
        Answer::whole(200, "", page(&format!("{}{more}", lock(1))))
    });
    let error = names(&mut store(&server, &[])).unwrap_err().to_string();
    assert!(error.contains("never end"), "{error}");
    let server = Scripted::new(|_, number| {
        let more = format!(
            "<IsTruncated>true</IsTruncated><NextContinuationToken>{number}</NextContinuationToken>"
        );
        Answer::whole(200, "", page(&format!("{}{more}", lock(1))))
    });
    let error = names(&mut store(&server, &[])).unwrap_err().to_string();
    assert!(error.contains("never end") && server.heads().len() < 200, "{error}");
}

#[test]
fn bombs_are_not_lit() {
    let bomb =
        "<!DOCTYPE a [<!ENTITY b \"bbb\"><!ENTITY c \"&b;&b;\">]><Error><Code>&c;</Code></Error>";
    let server = Scripted::new(move |_, _| Answer::whole(418, "", bomb));
    let error = names(&mut store(&server, &[])).unwrap_err().to_string();
    assert!(error.contains("418"), "{error}");
    let server = Scripted::new(move |_, _| Answer::whole(200, "", page(bomb)));
    let error = names(&mut store(&server, &[])).unwrap_err().to_string();
    assert!(error.contains("document type"), "{error}");
    for content in ["", "<html><body>Welcome</body></html>", "{}", "<Error/>"] {
        let server = Scripted::new(move |_, _| Answer::whole(200, "", content));
        assert!(names(&mut store(&server, &[])).is_err(), "{content}");
    }
}

#[test]
fn nothing_is_sent_elsewhere() {
    for status in [301, 302, 307, 308] {
        let other = Scripted::new(|_, _| Answer::whole(200, "", "gotcha"));
        let location = format!("Location: http://127.0.0.1:{}/b/\r\n", other.port);
        let server = Scripted::new(move |_, _| Answer::whole(status, &location, ""));
        let error = store(&server, &[]).read_config(&mut [0; 10]).unwrap_err().to_string();
        assert!(error.contains("Nothing is sent there"), "{error}");
        assert!(put(&mut store(&server, &[]), StoreResource::State, 10).is_err());
        assert_eq!(other.heads(), [] as [String; 0]);
    }
}

#[test]
fn the_region_is_found_out() {
    for (status, header) in [(400, ""), (301, "x-amz-bucket-region: eu-west-9\r\n")] {
        let server = Scripted::new(move |_, number| {
            let text = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-9</Region></Error>";
            match number {
                0 => Answer::whole(status, header, text),
                _ => Answer::whole(200, "", "config"),
            }
        });
        let mut store = store(&server, &[]);
        assert_eq!(store.read_config(&mut [0; 10]).unwrap(), 6);
        let heads = server.heads();
        let scope = |head: &String| value_of(head, "Authorization").unwrap().to_owned();
        assert!(
            scope(&heads[0]).contains("/us-east-1/s3/")
                && scope(&heads[1]).contains("/eu-west-9/s3/")
        );
        assert_eq!(value_of(&heads[1], "Host").unwrap(), format!("127.0.0.1:{}", server.port));
    }
    // One that always says so is not asked for ever.
    let server = Scripted::new(|_, number| {
        Answer::whole(400, &format!("x-amz-bucket-region: r-{number}\r\n"), "")
    });
    assert!(store(&server, &[]).read_config(&mut [0; 10]).is_err());
    assert_eq!(server.heads().len(), 2);
}

#[test]
fn who_is_busy_is_asked_again() {
    let server = Scripted::new(|_, number| match number {
        0 => Answer::error(503, "SlowDown", "Reduce your request rate."),
        1 => Answer::of(vec![Step::Close]),
        2 => Answer::error(429, "", ""),
        _ => Answer::whole(200, "", "config"),
    });
    assert_eq!(store(&server, &[]).read_config(&mut [0; 10]).unwrap(), 6);
    let server = Scripted::new(|_, _| Answer::error(500, "InternalError", "We failed."));
    let error = store(&server, &[]).read_config(&mut [0; 10]).unwrap_err();
    assert!(error.to_string().contains("We failed"), "{error}");
    assert_eq!(server.heads().len(), 5);
}

#[test]
fn checksums_are_what_the_server_knows() {
    let server = Scripted::new(|head, _| match value_of(head, "x-amz-checksum-sha256") {
        Some(_) => {
            Answer::error(400, "InvalidArgument", "Unsupported header 'x-amz-checksum-sha256'")
        }
        None => Answer::whole(200, "", ""),
    });
    let mut store = store(&server, &[("retain_days", "30"), ("storage_class", "glacier")]);
    put(&mut store, StoreResource::Packfile, 100_000).unwrap();
    put(&mut store, StoreResource::State, 10).unwrap();
    put(&mut store, StoreResource::Lock, 10).unwrap();
    let heads = server.heads();
    assert_eq!(heads.len(), 4);
    let until = "x-amz-object-lock-retain-until-date";
    for (head, is_kept) in [(&heads[1], true), (&heads[2], true), (&heads[3], false)] {
        assert!(value_of(head, "Content-MD5").is_some(), "{head}");
        assert_eq!(value_of(head, until).is_some(), is_kept);
        assert_eq!(value_of(head, "x-amz-object-lock-mode").is_some(), is_kept);
        let names = value_of(head, "Authorization").unwrap();
        assert!(!is_kept || names.contains(until), "{names}");
    }
    // States are read by every backup.
    assert_eq!(value_of(&heads[1], "x-amz-storage-class"), Some("GLACIER"));
    assert_eq!(value_of(&heads[2], "x-amz-storage-class"), None);
}

#[test]
fn a_refusal_is_heard_while_sending() {
    let server = Scripted::new(|_, _| {
        let mut answer = Answer::error(403, "AccessDenied", "Not you.");
        answer.steps.push(Step::Close);
        Answer { reads_body: false, ..answer }
    });
    let error = put(&mut store(&server, &[]), StoreResource::Packfile, 20 << 20).unwrap_err();
    assert_eq!(error.kind(), HostErrorKind::PermissionDenied, "{error}");
    let server = Scripted::new(|_, _| {
        let mut answer = Answer::error(403, "AccessDenied", "Not you.");
        answer.steps.push(Step::Hang);
        Answer { reads_body: false, ..answer }
    });
    let error = put(&mut store(&server, &[]), StoreResource::Packfile, 20 << 20).unwrap_err();
    assert_eq!(error.kind(), HostErrorKind::PermissionDenied, "{error}");
}

#[test]
fn a_store_is_made_once() {
    // Without conditions, which not all servers know.
    let server = Scripted::new(|head, _| match head.split(' ').next() {
        Some("GET") => Answer::whole(200, "", page("")),
        Some("HEAD") => Answer::whole(404, "", ""),
        _ if value_of(head, "If-None-Match").is_some() => Answer::error(501, "NotImplemented", ""),
        _ => Answer::whole(200, "", ""),
    });
    store(&server, &[]).create(b"config").unwrap();
    // Somebody else was faster.
    let server = Scripted::new(|head, _| match head.split(' ').next() {
        Some("GET") => Answer::whole(200, "", page("")),
        _ => Answer::error(412, "PreconditionFailed", ""),
    });
    let error = store(&server, &[]).create(b"config").unwrap_err();
    assert_eq!(error.kind(), HostErrorKind::AlreadyExists, "{error}");
    // The bucket is made, where it has to be.
    let server = Scripted::new(|head, _| match head.split(' ').next() {
        Some("GET") => Answer::error(404, "NoSuchBucket", ""),
        _ => Answer::whole(200, "", ""),
    });
    store(&server, &[("region", "eu-west-1")]).create(b"config").unwrap();
    let heads = server.heads();
    assert!(heads[1].starts_with("PUT /b/ HTTP/1.1"), "{}", heads[1]);
    assert!(heads[2].starts_with("PUT /b/p/CONFIG HTTP/1.1"), "{}", heads[2]);
}

#[test]
fn old_listings_do() {
    let server = Scripted::new(|head, _| {
        let target = head.split(' ').nth(1).unwrap();
        if target.contains("list-type=2") {
            return Answer::error(501, "NotImplemented", "");
        }
        let last = format!("marker=p%2Flocks%2F{:064x}", 1);
        match target.contains(&last) {
            true => Answer::whole(200, "", page(&lock(2))),
            false => {
                Answer::whole(200, "", page(&format!("<IsTruncated>true</IsTruncated>{}", lock(1))))
            }
        }
    });
    assert_eq!(names(&mut store(&server, &[])).unwrap(), 2);
    let server = Scripted::new(|head, _| {
        let cut = format!("{}{}", lock(1), lock(2));
        match head.contains("continuation-token=t") {
            true => Answer::whole(200, "", page(&lock(3))),
            false => Answer::whole(
                200,
                "",
                page(&format!(
                    "{cut}<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
                )),
            ),
        }
    });
    assert_eq!(names(&mut store(&server, &[])).unwrap(), 3);
}

#[test]
fn a_listing_goes_on_where_it_broke() {
    let server = Scripted::new(|_, number| {
        let whole = page(&format!("{}{}{}", lock(1), lock(2), lock(3)));
        let head = format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\n", whole.len());
        let sent = if number == 0 { &whole[..whole.len() - 120] } else { &whole };
        Answer::of(vec![send(head), send(sent), Step::Close])
    });
    assert_eq!(names(&mut store(&server, &[])).unwrap(), 3);
    assert_eq!(server.heads().len(), 2);
}

#[test]
fn keys_that_are_no_paths_are_told() {
    let server = Scripted::new(|head, _| {
        let target = head.split(' ').nth(1).unwrap();
        if !target.contains("delimiter") {
            let item = "<Contents><Key>x</Key><Size>1</Size></Contents>";
            return Answer::whole(
                200,
                "",
                page(&format!("<EncodingType>url</EncodingType>{item}")),
            );
        }
        let key = |key: &str| {
            format!("<Contents><Key>{key}</Key><Size>1</Size><ETag>e</ETag></Contents>")
        };
        let prefix =
            |prefix: &str| format!("<CommonPrefixes><Prefix>{prefix}</Prefix></CommonPrefixes>");
        let keys = [key(".."), key("a%0Ab"), key("both"), key("good"), key("x%00")].concat();
        let prefixes = [prefix("%2F"), prefix("../"), prefix("both/"), prefix("dir/")].concat();
        Answer::whole(200, "", page(&format!("{keys}{prefixes}")))
    });
    let mut importer = S3Importer::open(&address(&server, "b"), &options(&[])).unwrap();
    let mut names = Vec::new();
    importer
        .list(b"/", &mut |name, hint| {
            names.push((String::from_utf8(name.to_vec()).unwrap(), hint.to_vec()));
            Ok(())
        })
        .unwrap();
    names.sort();
    let mut told = Vec::new();
    for (name, hint) in &names {
        let path = format!("/{name}");
        let stat = importer.stat(path.as_bytes(), hint, &mut Attributes::default());
        told.push(format!("{name} {}", stat.is_ok()));
    }
    let wanted = [
        "(..) false",
        "(..) false",
        "(empty name) false",
        "a\\nb false",
        "both true",
        "both false",
        "dir true",
        "good true",
        "x\\x00 false",
    ];
    assert_eq!(told, wanted);
}

#[test]
fn a_read_goes_on_where_it_broke() {
    let content: Vec<u8> = (0..250).cycle().take(100_000).collect();
    let expected = content.clone();
    let server = Scripted::new(move |head, _| {
        if head.contains("list-type") {
            return Answer::whole(200, "", page("<Contents><Key>file</Key></Contents>"));
        }
        let from = value_of(head, "Range").map_or(0, |range| {
            assert_eq!(value_of(head, "If-Match"), Some("\"tag\""));
            range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap()
        });
        let rest = &content[from..];
        let (status, range) = match from {
            0 => (200, String::new()),
            _ => (206, format!("Content-Range: bytes {from}-99999/100000\r\n")),
        };
        let head = format!(
            "HTTP/1.1 {status} X\r\nETag: \"tag\"\r\n{range}Content-Length: {}\r\n\r\n",
            rest.len()
        );
        let sent = rest.len().min(40_000);
        Answer::of(vec![send(head), send(&rest[..sent]), Step::Close])
    });
    let mut importer = S3Importer::open(&address(&server, "b"), &options(&[])).unwrap();
    let expected_attributes = Attributes { size: 100_000, ..Attributes::default() };
    importer.open(b"/file", &expected_attributes).unwrap();
    let (mut found, mut piece) = (Vec::new(), [0; 7000]);
    loop {
        let read = importer.read(&mut piece).unwrap();
        if read == 0 {
            break;
        }
        found.extend_from_slice(&piece[..read]);
    }
    assert!(found == expected && !importer.changed().unwrap());
}

#[test]
fn parts_are_given_up_when_one_fails() {
    let server = Scripted::new(|head, _| {
        let target = head.split(' ').nth(1).unwrap();
        if target.contains("list-type") {
            Answer::whole(200, "", page(""))
        } else if target.contains("uploads=") {
            let id = "<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>";
            Answer::whole(200, "", id)
        } else if head.starts_with("PUT") {
            Answer::error(403, "QuotaExceeded", "Full.")
        } else {
            Answer::whole(204, "", "")
        }
    });
    let place = address(&server, "b");
    let mut exporter = S3Exporter::open(&place, &options(&[]), std::env::temp_dir()).unwrap();
    exporter.begin_file(b"file", 100 << 20).unwrap();
    let piece = vec![1; 1 << 20];
    let error = (0..100).find_map(|_| exporter.write(&piece).err()).unwrap();
    assert_eq!(error.kind(), HostErrorKind::NoSpace, "{error}");
    exporter.abandon_file();
    let last = server.heads().pop().unwrap();
    assert!(last.starts_with("DELETE /b/file?uploadId=id "), "{last}");
    // An upload that is complete, and then is not.
    let server = Scripted::new(|head, _| {
        let target = head.split(' ').nth(1).unwrap();
        if target.contains("uploads=") {
            Answer::whole(200, "", "<X><UploadId>id</UploadId></X>")
        } else if head.starts_with("PUT") {
            Answer::whole(200, "ETag: \"t\"\r\n", "")
        } else {
            Answer::error(200, "InternalError", "Not after all.")
        }
    });
    let mut store = store(&server, &[]);
    let error = put(&mut store, StoreResource::Packfile, 65 << 20).unwrap_err().to_string();
    assert!(error.contains("Not after all"), "{error}");
    assert!(server.heads().pop().unwrap().starts_with("DELETE"));
}

#[test]
fn an_instance_lends_its_key() {
    let instance = Scripted::new(|head, _| {
        if head.starts_with("PUT /latest/api/token") {
            return Answer::whole(200, "", "session");
        }
        assert_eq!(value_of(head, "X-aws-ec2-metadata-token"), Some("session"));
        if head.contains("security-credentials/ ") {
            return Answer::whole(200, "", "role\n");
        }
        let key = "{\"AccessKeyId\" : \"lent\", \"SecretAccessKey\" : \"s\", \"Token\" : \"t\", \
                   \"Expiration\" : \"2099-01-01T00:00:00Z\"}";
        Answer::whole(200, "", key)
    });
    let server = Scripted::new(|_, _| Answer::whole(200, "", "config"));
    let service = format!("http://127.0.0.1:{}", instance.port);
    let look = move |name: &str| {
        (name == "AWS_EC2_METADATA_SERVICE_ENDPOINT").then(|| service.clone().into())
    };
    let options = [("credentials", "instance"), ("use_tls", "false")].into_iter().collect();
    let address = address(&server, "b");
    let mut s3 = super::client::S3::with_environment(&address, &options, &look).unwrap();
    for _ in 0..2 {
        let call = super::client::Call::new("read", "GET", Some(b"x"));
        s3.call_without_content(&call).unwrap();
    }
    assert_eq!(instance.heads().len(), 3);
    let head = &server.heads()[0];
    assert!(value_of(head, "Authorization").unwrap().contains("Credential=lent/"));
    assert_eq!(value_of(head, "x-amz-security-token"), Some("t"));
}
