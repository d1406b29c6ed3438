//! PFX (PKCS#12, RFC 7292): the certificates and the key of a file as Windows, Key Vault and openssl write it. Comes
//! in: bytes and a password. Goes out: DER. Checks the file's own check before anything is decrypted, so that a
//! wrong password is called one.

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use super::der::{CONTEXT_0, CONTEXT_0_PLAIN, Der, INTEGER, OCTET_STRING, OID, SEQUENCE};
use super::pbe::{MOST_ROUNDS, Password, Purpose, Trouble, decrypt, derive, hash_of};

const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
const ENCRYPTED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 6];
/// Followed by which: 1 a key, 2 an encrypted key, 3 a certificate.
const BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1];

/// What a file holds.
#[derive(Default)]
pub struct Contents {
    pub certificates: Vec<Vec<u8>>,
    /// PKCS#8.
    pub keys: Vec<Zeroizing<Vec<u8>>>,
}

/// Whether these bytes look like a PFX file: a sequence that begins with version 3.
pub fn is_pfx(bytes: &[u8]) -> bool {
    bytes.first() == Some(&SEQUENCE) && {
        let start = match bytes.get(1) {
            Some(length @ 0x81..=0x84) => 2 + usize::from(length & 0x7f),
            _ => 2,
        };
        bytes.get(start..start + 3) == Some(&[INTEGER, 1, 3])
    }
}

/// Everything in the file.
pub fn read(bytes: &[u8], password: &str) -> Result<Contents, Trouble> {
    read_within(bytes, password, MOST_ROUNDS)
}

/// The same, with a limit to the rounds of key derivation.
pub fn read_within(bytes: &[u8], password: &str, rounds: u32) -> Result<Contents, Trouble> {
    let mut trouble = Trouble::Malformed;
    for password in Password::spellings(password).into_iter().map(|password| password.limited(rounds)) {
        match read_with(bytes, &password) {
            Ok(contents) => return Ok(contents),
            Err(error) => trouble = error,
        }
    }
    Err(trouble)
}

fn read_with(bytes: &[u8], password: &Password<'_>) -> Result<Contents, Trouble> {
    const BAD: Trouble = Trouble::Malformed;
    let mut file = Der(bytes).inside(SEQUENCE).ok_or(BAD)?;
    file.element(INTEGER).ok_or(BAD)?;
    let mut safe = file.inside(SEQUENCE).ok_or(BAD)?;
    if safe.element(OID) != Some(DATA) {
        return Err(Trouble::Unknown("a signature in place of a password"));
    }
    let content = safe.inside(CONTEXT_0).and_then(|mut inside| inside.element(OCTET_STRING)).ok_or(BAD)?;
    if let Some(check) = file.inside(SEQUENCE)
        && !is_genuine(check, content, password)?
    {
        return Err(Trouble::Password);
    }
    let mut contents = Contents::default();
    let mut parts = Der(content).inside(SEQUENCE).ok_or(BAD)?;
    while !parts.is_empty() {
        let mut part = parts.inside(SEQUENCE).ok_or(BAD)?;
        let kind = part.element(OID).ok_or(BAD)?;
        let mut inside = part.inside(CONTEXT_0).ok_or(BAD)?;
        if kind == DATA {
            bags(inside.element(OCTET_STRING).ok_or(BAD)?, password, &mut contents)?;
        } else if kind == ENCRYPTED_DATA {
            let mut encrypted = inside.inside(SEQUENCE).ok_or(BAD)?;
            encrypted.element(INTEGER).ok_or(BAD)?;
            let mut encrypted = encrypted.inside(SEQUENCE).ok_or(BAD)?;
            encrypted.element(OID).ok_or(BAD)?;
            let algorithm = encrypted.inside(SEQUENCE).ok_or(BAD)?;
            let bytes = encrypted.element(CONTEXT_0_PLAIN).ok_or(BAD)?;
            bags(&decrypt(algorithm, password, bytes)?, password, &mut contents)?;
        } else {
            return Err(Trouble::Unknown("a part for the holder of another key"));
        }
    }
    Ok(contents)
}

/// Whether the file's own check (RFC 7292 section 4, MacData) holds; one of a kind that is not known is passed over: a
/// wrong password then shows in what is decrypted.
fn is_genuine(mut check: Der<'_>, content: &[u8], password: &Password<'_>) -> Result<bool, Trouble> {
    const BAD: Trouble = Trouble::Malformed;
    let mut digest = check.inside(SEQUENCE).ok_or(BAD)?;
    let hash = hash_of(digest.inside(SEQUENCE).and_then(|mut hash| hash.element(OID)).ok_or(BAD)?);
    let expected = digest.element(OCTET_STRING).ok_or(BAD)?;
    let salt = check.element(OCTET_STRING).ok_or(BAD)?;
    let rounds = if check.is_empty() { Some(1) } else { check.number() };
    let Some(hash) = hash else { return Ok(true) };
    let rounds = password.rounds(rounds)?;
    let key = derive(hash, password, salt, rounds, Purpose::Mac, hash.output_len());
    let algorithm = match hash.output_len() {
        20 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        32 => hmac::HMAC_SHA256,
        48 => hmac::HMAC_SHA384,
        _ => hmac::HMAC_SHA512,
    };
    Ok(hmac::verify(&hmac::Key::new(algorithm, &key), content, expected).is_ok())
}

fn bags(bytes: &[u8], password: &Password<'_>, contents: &mut Contents) -> Result<(), Trouble> {
    const BAD: Trouble = Trouble::Malformed;
    // Padding may look right by accident; that these are bags cannot.
    let mut bags = Der(bytes).inside(SEQUENCE).ok_or(Trouble::Password)?;
    while !bags.is_empty() {
        let mut bag = bags.inside(SEQUENCE).ok_or(BAD)?;
        let which = bag.element(OID).ok_or(BAD)?.strip_prefix(BAG);
        let mut value = bag.inside(CONTEXT_0).ok_or(BAD)?;
        match which {
            Some([1]) => contents.keys.push(Zeroizing::new(value.0.to_vec())),
            Some([2]) => contents.keys.push(encrypted_key(value, password)?),
            Some([3]) => {
                let mut certificate = value.inside(SEQUENCE).ok_or(BAD)?;
                certificate.element(OID).ok_or(BAD)?;
                let der = certificate.inside(CONTEXT_0).and_then(|mut inside| inside.element(OCTET_STRING));
                contents.certificates.push(der.ok_or(BAD)?.to_vec());
            }
            // Revocation lists, secrets, nested bags: nothing to sign with.
            _ => {}
        }
    }
    Ok(())
}

/// An `EncryptedPrivateKeyInfo` (RFC 5958 3), as PEM has it too.
pub fn encrypted_key(mut der: Der<'_>, password: &Password<'_>) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    let mut key = der.inside(SEQUENCE).ok_or(Trouble::Malformed)?;
    let algorithm = key.inside(SEQUENCE).ok_or(Trouble::Malformed)?;
    decrypt(algorithm, password, key.element(OCTET_STRING).ok_or(Trouble::Malformed)?)
}
