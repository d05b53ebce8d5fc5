//! [`Route`]: what a path of the protocol means.

use tiroir_core::mac::Mac;
use tiroir_core::store::StoreResource;

/// What a path means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Route {
    /// `/`
    Config,
    /// `/resources/KIND`
    List(StoreResource),
    /// `/resources/KIND/NAME`
    Named(StoreResource, Mac),
}

impl Route {
    /// Nothing is unescaped, joined or cleaned: a path is one of the protocol's,
    /// letter by letter, or none.
    pub(crate) fn parse(target: &str) -> Option<Self> {
        if target == "/" {
            return Some(Self::Config);
        }
        let rest = target.strip_prefix("/resources/")?;
        let (kind, name) = match rest.split_once('/') {
            Some((kind, name)) => (kind, Some(name)),
            None => (rest, None),
        };
        let resource = match kind {
            "packfiles" => StoreResource::Packfile,
            "states" => StoreResource::State,
            "locks" => StoreResource::Lock,
            _ => return None,
        };
        match name {
            None => Some(Self::List(resource)),
            Some(name) => Some(Self::Named(resource, Mac::from_hex(name.as_bytes())?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let name = "ab".repeat(32);
        assert_eq!(Route::parse("/"), Some(Route::Config));
        assert_eq!(Route::parse("/resources/states"), Some(Route::List(StoreResource::State)));
        assert_eq!(
            Route::parse(&format!("/resources/locks/{name}")),
            Some(Route::Named(StoreResource::Lock, Mac([0xab; 32])))
        );
        for path in [
            "",
            "//",
            "/?",
            "/CONFIG",
            "/resources",
            "/resources/",
            "/resources//",
            "/resources/states/",
            "/resources/states?x",
            "/resources/eccstates",
            "/resources/STATES",
            "/resources/../",
            "/resources/packfiles/..",
            "/resources/packfiles/../../CONFIG",
            "/resources/packfiles/%2e%2e",
            &format!("/resources/packfiles/{}", name.to_uppercase()),
            &format!("/resources/packfiles/{name}/"),
            &format!("/resources/packfiles/{name}0"),
            &format!("/resources/packfiles/./{name}"),
            &format!("/x/resources/packfiles/{name}"),
        ] {
            assert_eq!(Route::parse(path), None, "{path}");
        }
    }
}
