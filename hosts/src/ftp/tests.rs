//! Against a server that is scripted, and mostly means no good. What honest
//! servers do is tested with honest servers.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::*;

/// What the server does when it is told something that starts so. After the
/// words of `reply`, `data` goes over the connection that was agreed on.
struct Step {
    verb: &'static str,
    reply: &'static str,
    data: Option<Vec<u8>>,
}

fn says(verb: &'static str, reply: &'static str) -> Step {
    Step { verb, reply, data: None }
}

fn sends(verb: &'static str, data: impl AsRef<[u8]>) -> Step {
    Step { verb, reply: "150 now", data: Some(data.as_ref().to_vec()) }
}

/// A server for some connections, one after the other. Commands without a step
/// have the replies of an honest server with nothing on it.
fn serve(steps: Vec<Step>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut steps: VecDeque<Step> = steps.into();
        while let Ok((stream, _)) = listener.accept() {
            let _ = session(&stream, &mut steps);
        }
    });
    port
}

fn session(mut stream: &TcpStream, steps: &mut VecDeque<Step>) -> io::Result<()> {
    let data = TcpListener::bind(("127.0.0.1", 0))?;
    let port = data.local_addr()?.port();
    stream.write_all(b"220 hello\r\n")?;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if let Some(step) = steps.pop_front_if(|step| line.starts_with(step.verb)) {
            if step.reply.is_empty() {
                return Ok(());
            }
            write!(stream, "{}\r\n", step.reply)?;
            if step.data.is_none() && ["REST", "RETR"].contains(&step.verb) {
                // Nothing comes over the connection that was agreed on.
                data.set_nonblocking(true)?;
                if !step.reply.starts_with('3') {
                    let _ = data.accept();
                }
                data.set_nonblocking(false)?;
            }
            if let Some(bytes) = step.data {
                let (mut to, _) = data.accept()?;
                let _ = to.write_all(&bytes);
                drop(to);
                stream.write_all(b"226 done\r\n")?;
            }
            continue;
        }
        match line.split(' ').next().unwrap_or_default() {
            "USER" => stream.write_all(b"331 and?\r\n")?,
            "PASS" => stream.write_all(b"230 in\r\n")?,
            "SYST" => stream.write_all(b"215 UNIX Type: L8\r\n")?,
            "EPSV" => write!(stream, "229 here (|||{port}|)\r\n")?,
            "TYPE" | "CWD" | "NOOP" => stream.write_all(b"200 fine\r\n")?,
            "SIZE" | "MDTM" | "STOR" | "RETR" => stream.write_all(b"550 No such file\r\n")?,
            _ => stream.write_all(b"502 what?\r\n")?,
        }
    }
    Ok(())
}

fn client(port: u16, more: &[(&str, &str)]) -> FtpFiles {
    let mut options: Options = more.iter().copied().collect();
    options.set("timeout", "1");
    options.set("connect_timeout", "1");
    let address = Address::parse(format!("me:hunter2@127.0.0.1:{port}/").as_bytes()).unwrap();
    FtpFiles::new(&address, false, &options).unwrap()
}

fn listing(steps: Vec<Step>) -> (Vec<String>, Result<()>) {
    let mut names = Vec::new();
    let mut files = client(serve(steps), &[]);
    let result = files.list(b"/x", &mut |name, _| {
        names.push(name.escape_ascii().to_string());
        Ok(())
    });
    (names, result)
}

#[test]
fn an_honest_listing() {
    let lines =
        "total 2\r\n-rw-r--r-- 1 0 0 7 Jan  1  2020 a\r\ndrwxr-xr-x 2 0 0 7 Jan 1 2020 .\r\n";
    let (names, result) = listing(vec![sends("LIST -a", lines)]);
    result.unwrap();
    assert_eq!(names, ["a"]);
}

#[test]
fn names_that_none_can_have_are_errors_and_the_others_are_told() {
    for bad in ["../../etc/passwd", "/etc/passwd", "a/b", "x\rrm -rf"] {
        let line = |name: &str| format!("-rw-r--r-- 1 0 0 7 Jan  1  2020 {name}\r\n");
        let (names, result) = listing(vec![sends("LIST -a", line("a") + &line(bad) + &line("b"))]);
        let error = result.unwrap_err().to_string();
        assert!(error.contains(&bad.escape_default().to_string()), "{error}");
        assert_eq!(names, ["a", "b"]);
    }
    let (names, result) = listing(vec![sends("LIST -a", "what is this\r\n")]);
    assert!(result.unwrap_err().to_string().contains("what is this"));
    assert!(names.is_empty());
}

#[test]
fn listings_that_do_not_end() {
    let line = "-rw-r--r-- 1 0 0 7 Jan  1  2020 a\r\n";
    let (_, result) = listing(vec![sends("LIST -a", line.repeat(30_000))]);
    assert!(result.unwrap_err().to_string().contains("does not end"));
    let (_, result) = listing(vec![sends("LIST -a", vec![b'x'; 100_000])]);
    assert!(result.unwrap_err().to_string().contains("too long"));
}

#[test]
fn directories_that_cannot_be_listed_are_errors() {
    let (_, result) = listing(vec![says("CWD", "550 Permission denied.")]);
    let error = result.unwrap_err();
    assert_eq!(error.kind(), HostErrorKind::PermissionDenied);
    assert!(error.to_string().contains("550 Permission denied."));
    let failed = Step { verb: "LIST -a", reply: "150 now", data: Some(Vec::new()) };
    let (_, result) = listing(vec![failed, says("LIST", "550 Failed to open it")]);
    assert!(result.is_err());
}

#[test]
fn replies_that_do_not_come_or_do_not_end() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let started = Instant::now();
    let error = client(silent.local_addr().unwrap().port(), &[]).describe().unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert!(error.io_error().is_some());
    for flood in ["220-more\r\n", "220-", "HTTP/1.1 400 Bad Request\r\n"] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                while stream.write_all(flood.as_bytes()).is_ok() {}
            }
        });
        let error = client(port, &[]).describe().unwrap_err().to_string();
        assert!(error.starts_with("cannot connect to 127.0.0.1:"), "{error}");
    }
}

#[test]
fn passwords_are_not_repeated() {
    let port = serve(vec![says("PASS", "530 hunter2 is not your password")]);
    let error = client(port, &[]).describe().unwrap_err();
    assert_eq!(error.kind(), HostErrorKind::PermissionDenied);
    assert!(!error.to_string().contains("hunter2") && !format!("{error:?}").contains("hunter2"));
}

#[test]
fn line_ends_are_not_sent() {
    let mut files = client(serve(vec![]), &[]);
    for path in [&b"/a\r\nDELE /b"[..], b"/a\n", b"/a\0"] {
        assert!(files.inspect(path).is_err());
        assert!(files.create(path).is_err());
        assert!(files.remove_file(path).is_err());
        assert!(files.rename(b"/x", path).is_err());
    }
    // What is refused here is no harm to the connection.
    assert_eq!(files.remove_directory(b"/x").unwrap_err().kind(), HostErrorKind::Other);
}

#[test]
fn files_that_end_too_early() {
    let mut files = client(serve(vec![says("SIZE", "213 100"), sends("RETR", "only this")]), &[]);
    let id = files.open(b"/x").unwrap();
    let error = files.read(id, 0, &mut [0; 200]).unwrap_err();
    assert!(error.to_string().contains("too early"), "{error}");
}

#[test]
fn reading_goes_on_where_the_link_broke() {
    let steps = vec![
        says("SIZE", "213 9"),
        says("REST 3", "350 go on"),
        says("RETR", "426 lost"),
        says("REST 3", "350 go on"),
        sends("RETR", "defghi"),
    ];
    let mut files = client(serve(steps), &[]);
    let id = files.open(b"/x").unwrap();
    let mut into = [0; 20];
    assert_eq!(files.read(id, 3, &mut into).unwrap(), 6);
    assert_eq!(&into[..6], b"defghi");
}

#[test]
fn servers_that_cannot_start_in_the_middle() {
    let steps = vec![says("SIZE", "213 9"), says("REST", "502 no"), sends("RETR", "abcdefghi")];
    let mut files = client(serve(steps), &[]);
    let id = files.open(b"/x").unwrap();
    let mut into = [0; 3];
    assert_eq!(files.read(id, 3, &mut into).unwrap(), 3);
    assert_eq!(&into, b"def");
}

#[test]
fn announced_hosts_are_not_believed() {
    // Were it believed, nobody would answer there.
    let elsewhere = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = elsewhere.local_addr().unwrap().port();
    let [high, low] = port.to_be_bytes();
    let reply = format!("227 ok (192,0,2,1,{high},{low})").leak();
    let steps = vec![says("EPSV", "500 what"), says("PASV", reply), says("LIST", "550 no")];
    let _ = client(serve(steps), &[]).list(b"/x", &mut |_, _| Ok(()));
    elsewhere.set_nonblocking(true).unwrap();
    assert!(elsewhere.accept().is_ok());
}
