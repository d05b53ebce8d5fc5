//! Command lines without the secrets in them: they are recorded in snapshots.

/// Parts of the names of options whose values are secrets.
const SECRET_PARTS: [&str; 5] = ["pass", "secret", "token", "private_key", "access_key"];

/// Whether the value of an option is a secret, going by its name.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // What says where a secret comes from is none.
    let is_place = name.ends_with("_file") || name.ends_with("_cmd") || name.ends_with("-fd");
    !is_place && SECRET_PARTS.iter().any(|part| name.contains(part))
}

/// An argument of a command line without the secret in it: the password of a
/// location, or the value of `NAME=VALUE`.
pub(crate) fn redacted(argument: &[u8]) -> Vec<u8> {
    if let Some(at) = argument.iter().position(|byte| *byte == b'=') {
        let (name, value) = (&argument[..at], &argument[at + 1..]);
        let name = std::str::from_utf8(name).unwrap_or_default();
        let inner = redacted(value);
        if is_secret(name) && !value.is_empty() {
            return [name.as_bytes(), b"=********"].concat();
        }
        return [&argument[..=at], &inner].concat();
    }
    let Some(start) = find(argument, b"://").map(|at| at + 3) else { return argument.to_vec() };
    let end = argument[start..].iter().position(|byte| *byte == b'/');
    let authority = &argument[start..end.map_or(argument.len(), |at| start + at)];
    let Some(at) = authority.iter().rposition(|byte| *byte == b'@') else {
        return argument.to_vec();
    };
    match authority[..at].iter().position(|byte| *byte == b':') {
        None => argument.to_vec(),
        Some(colon) => [&argument[..start + colon], b":********", &argument[start + at..]].concat(),
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_and_all_else_stays() {
        for (argument, wanted) in [
            ("backup", "backup"),
            ("/a:b@c", "/a:b@c"),
            ("sftp://me@nas/x", "sftp://me@nas/x"),
            ("sftp://me:p@ss:word@nas:22/a@b", "sftp://me:********@nas:22/a@b"),
            ("-to=ftp://me:x@nas", "-to=ftp://me:********@nas"),
            ("password=x", "password=********"),
            ("-o=password=a=b", "-o=password=********"),
            ("secret_access_key=x", "secret_access_key=********"),
            ("passphrase_file=/x", "passphrase_file=/x"),
            ("port=22", "port=22"),
            ("password=", "password="),
        ] {
            assert_eq!(redacted(argument.as_bytes()), wanted.as_bytes(), "{argument}");
        }
    }
}
