//! `auth:` and `signature:` of sinks that speak HTTP, as written → as meant: exactly one way to log in. Comes in: the
//! sections of a sink. Goes out: [`LoginConfig`] and [`SignatureConfig`], or faults. Opens nothing, asks nobody.

use super::check::warn_of_literal;
use super::check_token::{EntraFile, TokenEndpointFile, entra, token_endpoint};
use super::faults::{Place, Reader};
use super::schema::{self, Schema};
use super::section::{Field, Section, entries, field, refuse_unknown, section};
use super::tree::{Entry, Node};
use super::values::{At, Cloud, FromNode, Secret};
use crate::config::login::{API_KEY, BEARER};
use crate::config::{LoginConfig, SecretHeader, SignatureAlgorithm, SignatureConfig};

const SECRET: &str = "best as \"${file:/run/secrets/…}\"";

section! {
    /// By what right the sink asks: at most one of these.
    LoginFile in "`auth` of the sink" {
        /// A token, shown as `Authorization: Bearer …`. Best as "${file:/run/secrets/…}", like all secrets here.
        bearer: Secret,
        /// A name and a password.
        basic: BasicFile,
        /// A key in its base64 form, shown as `Authorization: ApiKey …`: what Elasticsearch gives.
        api_key: Secret,
        /// A header of any name that holds a key, as `X-Api-Key`.
        header: HeaderSecretFile,
        /// OAuth2 client credentials: a token from an endpoint of your own.
        oauth2: TokenEndpointFile,
        /// An application in Microsoft Entra: OAuth2 client credentials from Microsoft's login hosts.
        entra: EntraFile,
    } later {}
}

section! {
    BasicFile in "`basic`" {
        /// The name.
        username: String,
        /// Best as "${file:/run/secrets/…}".
        password: Secret,
    } later {}
}

section! {
    HeaderSecretFile in "`auth.header`" {
        /// Name of the header.
        name: String,
        /// Best as "${file:/run/secrets/…}".
        value: Secret,
    } later {}
}

section! {
    /// A keyed signature of each body (HMAC).
    SignatureFile in "`signature`" {
        /// Header that holds it, as `sha256=<hexadecimal digits>`. Default X-Signature.
        header: String,
        /// sha256 (the default) or sha512.
        algorithm: Algorithm,
        /// The key, best as "${file:/run/secrets/…}".
        secret: Secret,
        /// Header that holds the seconds since 1970; then `<seconds>.<body>` is signed. Default: none.
        timestamp_header: String,
    } later {}
}

/// The sections with their keys, for [`super::file::ALL_KEYS`].
pub(super) const SECTIONS: [(&str, &[&str]); 4] = [
    (LoginFile::TITLE, LoginFile::KEYS),
    (BasicFile::TITLE, BasicFile::KEYS),
    (HeaderSecretFile::TITLE, HeaderSecretFile::KEYS),
    (SignatureFile::TITLE, SignatureFile::KEYS),
];

/// How a body is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Algorithm(SignatureAlgorithm);

impl FromNode for Algorithm {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Algorithm> {
        let value = String::from_node(node, reader)?;
        let found = SignatureAlgorithm::ALL.into_iter().find(|algorithm| algorithm.as_str() == value);
        if found.is_none() {
            reader.fault(&node.place, "this is not an algorithm for signatures", "use `sha256` or `sha512`");
        }
        found.map(Algorithm)
    }

    fn schema() -> Schema {
        schema::one_of(SignatureAlgorithm::ALL.map(SignatureAlgorithm::as_str))
    }
}

/// How to log in; `Some(LoginConfig::None)` where nothing was written. `scope`: of an Entra application that is
/// given none.
pub(super) fn login(
    written: Field<LoginFile>,
    scope: Option<&dyn Fn(Cloud) -> String>,
    reader: &mut Reader<'_>,
) -> Option<LoginConfig> {
    let At { value: file, place } = match written {
        Field::Absent => return Some(LoginConfig::None),
        Field::Faulty => return None,
        Field::Given(at) => at,
    };
    let kinds = [
        ("bearer", place_of(&file.bearer, &place)),
        ("basic", place_of(&file.basic, &place)),
        ("api_key", place_of(&file.api_key, &place)),
        ("header", place_of(&file.header, &place)),
        ("oauth2", place_of(&file.oauth2, &place)),
        ("entra", place_of(&file.entra, &place)),
    ];
    let given: Vec<_> = kinds.into_iter().filter_map(|(key, place)| Some((key, place?))).collect();
    match given.as_slice() {
        [] => {
            let hint = "give one of `bearer`, `basic`, `api_key`, `header`, `oauth2`, `entra`, or leave `auth` out";
            reader.fault(&place, "`auth` of the sink names no way to log in", hint);
            return None;
        }
        [_] => {}
        [(first, _), (second, place), ..] => {
            reader.fault(
                place,
                format!("`auth` of the sink has both `{first}` and `{second}`"),
                "give one: a request is logged in one way; remove the other",
            );
            return None;
        }
    }
    if let Some(token) = file.bearer.given() {
        return Some(LoginConfig::Token { scheme: BEARER, token: secret(token, "bearer token", reader) });
    }
    if let Some(key) = file.api_key.given() {
        return Some(LoginConfig::Token { scheme: API_KEY, token: secret(key, "API key", reader) });
    }
    if let Some(At { value: file, place }) = file.basic.given() {
        let title = BasicFile::TITLE;
        let username = file.username.required("username", title, &place, "the name", reader);
        let password = file.password.required("password", title, &place, SECRET, reader);
        let (username, password) = (username?, secret(password?, "password", reader));
        if username.value.contains(':') {
            reader.fault(&username.place, "a name with a colon cannot be sent", "remove the colon (RFC 7617, 2)");
            return None;
        }
        return Some(LoginConfig::Basic { username: username.value, password });
    }
    if let Some(At { value: file, place }) = file.header.given() {
        let title = HeaderSecretFile::TITLE;
        let name = file.name.required("name", title, &place, "for instance `X-Api-Key`", reader);
        let value = file.value.required("value", title, &place, SECRET, reader);
        let (name, value) = (header_name(name?, reader)?, secret(value?, "key", reader));
        return Some(LoginConfig::Header(SecretHeader { name, value, is_secret: true }));
    }
    if let Some(At { value: file, place }) = file.oauth2.given() {
        return token_endpoint(file, &place, reader).map(Box::new).map(LoginConfig::OAuth2);
    }
    let At { value: file, place } = file.entra.given()?;
    entra(file, &place, scope, reader).map(Box::new).map(LoginConfig::OAuth2)
}

/// `signature:` of a sink; `None` where it is wrong, and said so.
pub(super) fn signature(written: Field<SignatureFile>, reader: &mut Reader<'_>) -> Option<Option<SignatureConfig>> {
    let At { value: file, place } = match written {
        Field::Absent => return Some(None),
        Field::Faulty => return None,
        Field::Given(at) => at,
    };
    let key = file.secret.required("secret", SignatureFile::TITLE, &place, SECRET, reader);
    let header = match file.header {
        Field::Absent => Some("X-Signature".to_owned()),
        written => written.given().and_then(|name| header_name(name, reader)),
    };
    let timestamp_header = match file.timestamp_header {
        Field::Absent => Some(None),
        written => written.given().and_then(|name| header_name(name, reader)).map(Some),
    };
    Some(Some(SignatureConfig {
        header: header?,
        algorithm: file.algorithm.value().map_or(SignatureAlgorithm::Sha256, |algorithm| algorithm.0),
        secret: secret(key?, "signature's key", reader),
        timestamp_header: timestamp_header?,
    }))
}

/// Further headers that `auth` or `signature` sets too: one of both would be lost without a word.
pub(super) fn refuse_twice(
    headers: &[At<String>],
    login: Option<&LoginConfig>,
    signature: Option<&SignatureConfig>,
    reader: &mut Reader<'_>,
) {
    let of_login = match login {
        None | Some(LoginConfig::None) => None,
        Some(LoginConfig::Header(header)) => Some(header.name.as_str()),
        Some(LoginConfig::Token { .. } | LoginConfig::Basic { .. } | LoginConfig::OAuth2(_)) => Some("authorization"),
    };
    let of_signature = signature.map(|signature| signature.header.as_str());
    let of_time = signature.and_then(|signature| signature.timestamp_header.as_deref());
    let set = [("auth", of_login), ("signature", of_signature), ("signature", of_time)];
    for header in headers {
        let twice = set.iter().find(|(_, name)| name.is_some_and(|name| name.eq_ignore_ascii_case(&header.value)));
        if let Some((section, _)) = twice {
            let text = format!("`{section}` of the sink sets the header `{}` too", header.value);
            reader.fault(&header.place, text, format!("remove it here, or `{section}`"));
        }
    }
}

/// Where a kind was written; one that was written wrong counts too.
fn place_of<T>(field: &Field<T>, section: &Place) -> Option<Place> {
    match field {
        Field::Absent => None,
        Field::Faulty => Some(section.clone()),
        Field::Given(at) => Some(at.place.clone()),
    }
}

fn secret(written: At<Secret>, what: &str, reader: &mut Reader<'_>) -> crate::secret::SecretSource {
    if written.value.literal {
        warn_of_literal(&written.place, what, reader);
    }
    written.value.source
}

/// A name that HTTP allows (RFC 9110, 5.1), and that is not ours to set.
pub(super) fn header_name(name: At<String>, reader: &mut Reader<'_>) -> Option<String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    const OURS: [&str; 6] =
        ["content-length", "content-encoding", "host", "connection", "transfer-encoding", "idempotency-key"];
    if name.value.is_empty() || !name.value.bytes().all(is_token) {
        reader.fault(&name.place, "this is no name of a header", "letters, digits and `-`, as `X-Api-Key`");
        return None;
    }
    if OURS.iter().any(|ours| name.value.eq_ignore_ascii_case(ours)) {
        reader.fault(&name.place, "this header is set by the request itself", "leave it out");
        return None;
    }
    Some(name.value)
}
