//! [`S3`]: makes signed requests of one bucket, as often as it takes.

use std::fmt;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::credentials::{Environment, Source};
use super::place::Place;
use super::refusal::{REFUSAL_BYTES_MAX, Refusal, is_region};
use super::sign::{Signing, query_text};
use super::upload::Checksum;
use crate::address::Address;
use crate::env::now;
use crate::error::{HostsError, Result};
use crate::http::client::{Client, Payload, Request};
use crate::http::error::HttpError;
use crate::http::response::Response;
use crate::http::retry::{Attempts, asked_pause};
use crate::options::{Options, refused};
use crate::rate::Limits;

/// Where a bucket is when nobody says.
const REGION: &str = "us-east-1";

/// A request to the bucket or to an object in it.
pub(super) struct Call<'c> {
    /// A verb, for errors.
    pub(super) operation: &'static str,
    pub(super) method: &'static str,
    /// Nothing for the bucket itself.
    pub(super) key: Option<&'c [u8]>,
    pub(super) query: &'c [(&'c str, &'c [u8])],
    pub(super) headers: Vec<(String, Zeroizing<String>)>,
    pub(super) payload: Payload<'c>,
    /// SHA-256 of the payload, if there is one.
    pub(super) sha256: Option<[u8; 32]>,
}

impl<'c> Call<'c> {
    /// A request without a body.
    pub(super) fn new(
        operation: &'static str,
        method: &'static str,
        key: Option<&'c [u8]>,
    ) -> Self {
        Self {
            operation,
            method,
            key,
            query: &[],
            headers: Vec::new(),
            payload: Payload::None,
            sha256: None,
        }
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), Zeroizing::new(value.into())));
        self
    }
}

impl fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers may hold keys.
        f.debug_struct("Call").field("method", &self.method).finish_non_exhaustive()
    }
}

/// Why a call failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server said no.
    Refused(Box<Refusal>, HostsError),
    /// It said nothing that is understood.
    Broken(HostsError),
}

impl Failure {
    /// What the server said.
    pub(super) fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal, _) => Some(refusal),
            Self::Broken(_) => None,
        }
    }
}

impl From<Failure> for HostsError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(_, error) | Failure::Broken(error) => error,
        }
    }
}

/// A bucket.
pub(super) struct S3 {
    client: Client,
    pub(super) place: Place,
    credentials: Source,
    pub(super) region: String,
    /// Headers of the key that the server encrypts with, where one is given.
    encryption: Vec<(String, Zeroizing<String>)>,
    /// The server knows only the first version of listings.
    pub(super) lists_v1: bool,
    /// How uploads are checked.
    pub(super) checksum: Checksum,
}

impl S3 {
    /// The bucket that an address and options name. Nothing is asked yet.
    pub(super) fn new(address: &Address, options: &Options) -> Result<Self> {
        Self::with_environment(address, options, &|name| std::env::var_os(name))
    }

    pub(super) fn with_environment(
        address: &Address,
        options: &Options,
        environment: Environment<'_>,
    ) -> Result<Self> {
        let place = Place::new(address, options)?;
        let client = Client::new(place.endpoint.clone(), options)?;
        let text = |name: &str| environment(name).and_then(|value| value.into_string().ok());
        let region = match options.text("region") {
            Some(region) if is_region(region) => region.to_owned(),
            Some(_) => return Err(refused("region", "it is a word of letters, digits and dashes")),
            None => text("AWS_REGION")
                .or_else(|| text("AWS_DEFAULT_REGION"))
                .or_else(|| region_of_host(&place.host))
                .filter(|region| is_region(region))
                .unwrap_or_else(|| REGION.to_owned()),
        };
        let credentials = Source::from_options(options, environment)?;
        let encryption = super::encryption::headers(options)?;
        let checksum = match options.text("checksum") {
            None | Some("sha256") => Checksum::Sha256,
            Some("md5") => Checksum::Md5,
            Some("none") => Checksum::None,
            Some(_) => return Err(refused("checksum", "it is sha256, md5 or none")),
        };
        Ok(Self { client, place, credentials, region, encryption, lists_v1: false, checksum })
    }

    /// To count attempts with.
    pub(super) fn attempts(&self) -> Attempts {
        self.client.attempts()
    }

    /// Sets how fast bytes move.
    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.client.set_limits(limits);
    }

    /// Headers of the key that the server encrypts with.
    pub(super) fn encryption(&self) -> &[(String, Zeroizing<String>)] {
        &self.encryption
    }

    /// Makes a request until it succeeds, is refused, or was made often enough.
    /// The answer's status is one of success.
    pub(super) fn call(&mut self, call: &Call<'_>) -> std::result::Result<Response, Failure> {
        let mut attempts = self.client.attempts();
        let (mut may_move, mut may_renew) = (true, true);
        loop {
            let response = match self.send(call) {
                Ok(response) => response,
                Err(error) if error.is_transient() && attempts.again(None) => continue,
                Err(error) => return Err(Failure::Broken(self.broken(error, call))),
            };
            if matches!(response.status(), 200..=299) {
                return Ok(response);
            }
            let pause = asked_pause(response.head().header("retry-after"));
            let refusal = match self.refusal(response) {
                Ok(refusal) => refusal,
                Err(error) if error.is_transient() && attempts.again(None) => continue,
                Err(error) => return Err(Failure::Broken(self.broken(error, call))),
            };
            if self.moves(&refusal, &mut may_move) {
                continue;
            }
            if refusal.is_expired() && std::mem::take(&mut may_renew) && self.credentials.forget() {
                continue;
            }
            let pause = pause.filter(|pause| *pause > Duration::ZERO);
            if refusal.is_transient() && attempts.again(pause) {
                continue;
            }
            let error = refusal.at(call.operation, &self.place, call.key);
            return Err(Failure::Refused(Box::new(refusal), error));
        }
    }

    /// Makes a request whose answer says nothing beside its head.
    pub(super) fn call_without_content(
        &mut self,
        call: &Call<'_>,
    ) -> std::result::Result<(), Failure> {
        let response = self.call(call)?;
        self.finish(response);
        Ok(())
    }

    /// Takes back an answer whose content is not wanted, or was read.
    pub(super) fn finish(&mut self, response: Response) {
        self.client.finish(response);
    }

    /// An error of the connection in the course of a call.
    pub(super) fn broken(&self, error: HttpError, call: &Call<'_>) -> HostsError {
        error.at(call.operation, &self.place.shown(call.key))
    }

    /// Signs with the region that the server named. Once: and the request goes
    /// to the same host as before.
    fn moves(&mut self, refusal: &Refusal, may_move: &mut bool) -> bool {
        let is_of_region = matches!(refusal.status, 301 | 307 | 400 | 403);
        match &refusal.region {
            Some(region) if is_of_region && *region != self.region && *may_move => {
                *may_move = false;
                self.region.clone_from(region);
                true
            }
            _ => false,
        }
    }

    fn send(&mut self, call: &Call<'_>) -> std::result::Result<Response, HttpError> {
        let now_secs = now().secs;
        let path = self.place.target(call.key);
        let mut headers = call.headers.clone();
        // What concerns one object, and is not only to be removed.
        if call.key.is_some() && call.method != "DELETE" && is_of_content(call) {
            headers.extend(self.encryption.iter().cloned());
        }
        let credentials = self.credentials.get(now_secs).map_err(HttpError::Local)?;
        let signing = Signing {
            method: call.method,
            path: &path,
            query: call.query,
            headers: &headers,
            host: &self.client.endpoint().authority(),
            payload: &call.sha256.unwrap_or_else(|| Sha256::digest(b"").into()),
            region: &self.region,
            now_secs,
        };
        let added = signing.headers(credentials);
        headers.extend(added);
        let query = query_text(call.query);
        let mark = if query.is_empty() { "" } else { "?" };
        let target = format!("{path}{mark}{query}");
        let payload = call.payload.clone();
        self.client.send(&Request {
            method: call.method,
            target: &target,
            headers: &headers,
            payload,
        })
    }

    fn refusal(&mut self, mut response: Response) -> std::result::Result<Refusal, HttpError> {
        let content = response.read_start(REFUSAL_BYTES_MAX)?;
        let refusal = Refusal::parse(response.head(), &content);
        self.client.finish(response);
        Ok(refusal)
    }
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers may hold keys.
        f.debug_struct("S3").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Whether a call reads or writes content: those that begin or complete an
/// upload in parts carry the key too, but for the last one.
fn is_of_content(call: &Call<'_>) -> bool {
    call.method != "POST" || call.query.iter().any(|(name, _)| *name == "uploads")
}

/// The region in the name of a host of AWS: `s3.eu-west-1.amazonaws.com`.
fn region_of_host(host: &str) -> Option<String> {
    let rest =
        host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"))?;
    let rest = rest.strip_prefix("s3.").or_else(|| rest.strip_prefix("s3-"))?;
    let rest = rest.strip_prefix("dualstack.").unwrap_or(rest);
    (!rest.contains('.')).then(|| rest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_of_hosts() {
        let region = |host| region_of_host(host);
        assert_eq!(region("s3.eu-west-1.amazonaws.com").as_deref(), Some("eu-west-1"));
        assert_eq!(region("s3.dualstack.eu-west-1.amazonaws.com").as_deref(), Some("eu-west-1"));
        assert_eq!(region("s3.cn-north-1.amazonaws.com.cn").as_deref(), Some("cn-north-1"));
        assert_eq!(region("s3.amazonaws.com"), None);
        assert_eq!(region("nas.local"), None);
    }
}
