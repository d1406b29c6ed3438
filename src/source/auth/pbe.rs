//! Encryption under a password, as private keys and PFX files bear it: PBES2 with AES (RFC 8018 6.2), and the older
//! forms of PKCS#12 with Triple DES and RC2 (RFC 7292 appendix C), which Windows and openssl before 3 write. Comes
//! in: an algorithm's DER, a password, bytes. Goes out: the plain bytes. Encrypts nothing.

use std::cell::Cell;
use std::num::NonZeroU32;

use aws_lc_rs::cipher::{AES_128, AES_192, AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest};
use aws_lc_rs::pbkdf2::{self, PBKDF2_HMAC_SHA1, PBKDF2_HMAC_SHA256, PBKDF2_HMAC_SHA384, PBKDF2_HMAC_SHA512};
use des::cipher::{Block, BlockCipherDecrypt, BlockSizeUser, KeyInit};
use zeroize::Zeroizing;

use super::der::{Der, OCTET_STRING, OID, SEQUENCE};

/// Rounds of all key derivations of one file beyond this are a mistake or an attack, and would keep a thread for many
/// seconds: openssl makes 2,048 a derivation, Windows 2,000, Java 10,000, and a careful person a million.
pub const MOST_ROUNDS: u32 = 10_000_000;

/// Object identifiers, without tag and length.
const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 13];
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 12];
/// Followed by which: 3 and 4 Triple DES with three and two keys, 5 and 6 RC2 with 128 and 40 bits.
const PKCS12_PBE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 1];
/// Followed by which: 7 HMAC with SHA-1, 9 SHA-256, 10 SHA-384, 11 SHA-512.
const HMAC: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2];
/// Followed by which: 2, 22, 42 CBC with 128, 192, 256 bits.
const AES: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1];
const DES_EDE3_CBC: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 3, 7];

/// Why something could not be decrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// By what came out, the password is another.
    Password,
    Unknown(&'static str),
    Malformed,
}

/// A password in the two spellings that are in use.
pub struct Password<'a> {
    pub text: &'a str,
    /// UTF-16 with a zero at the end (RFC 7292 appendix B.1); of an empty password some programs leave out the zero.
    pub wide: Zeroizing<Vec<u8>>,
    /// How many rounds of key derivation may still be spent on it.
    rounds_left: Cell<u32>,
}

impl<'a> Password<'a> {
    pub fn new(text: &'a str) -> Password<'a> {
        let wide: Vec<u8> = text.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect();
        Password { text, wide: Zeroizing::new(wide), rounds_left: Cell::new(MOST_ROUNDS) }
    }

    /// With no more than so many rounds for it.
    pub fn limited(self, rounds: u32) -> Password<'a> {
        self.rounds_left.set(rounds);
        self
    }

    /// The rounds of one derivation, off what is left.
    pub fn rounds(&self, number: Option<u32>) -> Result<NonZeroU32, Trouble> {
        let rounds = number.and_then(NonZeroU32::new).ok_or(Trouble::Malformed)?;
        let left = self.rounds_left.get().checked_sub(rounds.get());
        self.rounds_left.set(left.ok_or(Trouble::Unknown("more than 10 million rounds of key derivation"))?);
        Ok(rounds)
    }

    /// Every way in which programs spell `text`.
    pub fn spellings(text: &'a str) -> Vec<Password<'a>> {
        let mut all = vec![Password::new(text)];
        if text.is_empty() {
            all.push(Password { wide: Zeroizing::default(), ..Password::new(text) });
        }
        all
    }
}

/// Decrypts `bytes` by the algorithm (an `AlgorithmIdentifier`'s content).
pub fn decrypt(mut algorithm: Der<'_>, password: &Password<'_>, bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    let oid = algorithm.element(OID).ok_or(Trouble::Malformed)?;
    let parameters = algorithm.inside(SEQUENCE).ok_or(Trouble::Malformed)?;
    if oid == PBES2 {
        return pbes2(parameters, password, bytes);
    }
    match oid.strip_prefix(PKCS12_PBE) {
        Some([which @ 3..=6]) => pkcs12(*which, parameters, password, bytes),
        Some([1 | 2]) => Err(Trouble::Unknown("RC4")),
        _ => Err(Trouble::Unknown("an algorithm of its own")),
    }
}

fn pbes2(mut parameters: Der<'_>, password: &Password<'_>, bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    let mut derivation = parameters.inside(SEQUENCE).ok_or(Trouble::Malformed)?;
    let mut scheme = parameters.inside(SEQUENCE).ok_or(Trouble::Malformed)?;
    if derivation.element(OID) != Some(PBKDF2) {
        return Err(Trouble::Unknown("a key derivation other than PBKDF2"));
    }
    let mut derivation = derivation.inside(SEQUENCE).ok_or(Trouble::Malformed)?;
    let salt = derivation.element(OCTET_STRING).ok_or(Trouble::Malformed)?;
    let rounds = password.rounds(derivation.number())?;
    let _length = derivation.number();
    let prf = derivation.inside(SEQUENCE).and_then(|mut prf| prf.element(OID));
    let prf = match prf.map(|oid| oid.strip_prefix(HMAC)) {
        None | Some(Some([7])) => PBKDF2_HMAC_SHA1,
        Some(Some([9])) => PBKDF2_HMAC_SHA256,
        Some(Some([10])) => PBKDF2_HMAC_SHA384,
        Some(Some([11])) => PBKDF2_HMAC_SHA512,
        _ => return Err(Trouble::Unknown("a hash other than SHA")),
    };
    let cipher = scheme.element(OID).ok_or(Trouble::Malformed)?;
    let iv = scheme.element(OCTET_STRING).ok_or(Trouble::Malformed)?;
    let derive = |length: usize| {
        let mut key = Zeroizing::new(vec![0; length]);
        pbkdf2::derive(prf, rounds, salt, password.text.as_bytes(), &mut key);
        key
    };
    let (algorithm, length) = match cipher.strip_prefix(AES) {
        Some([2]) => (&AES_128, 16),
        Some([22]) => (&AES_192, 24),
        Some([42]) => (&AES_256, 32),
        _ if cipher == DES_EDE3_CBC => {
            return des::TdesEde3::new_from_slice(&derive(24))
                .map_err(|_| Trouble::Malformed)
                .and_then(|cipher| cbc(&cipher, iv, bytes));
        }
        _ => return Err(Trouble::Unknown("a cipher other than AES in CBC mode")),
    };
    let iv: [u8; 16] = iv.try_into().map_err(|_| Trouble::Malformed)?;
    let key = UnboundCipherKey::new(algorithm, &derive(length)).and_then(PaddedBlockDecryptingKey::cbc_pkcs7);
    let mut plain = Zeroizing::new(bytes.to_vec());
    let length = key
        .and_then(|key| Ok(key.decrypt(&mut plain, DecryptionContext::Iv128(iv.into()))?.len()))
        .map_err(|_| Trouble::Password)?;
    plain.truncate(length);
    Ok(plain)
}

fn pkcs12(
    which: u8,
    mut parameters: Der<'_>,
    password: &Password<'_>,
    bytes: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    let salt = parameters.element(OCTET_STRING).ok_or(Trouble::Malformed)?;
    let rounds = password.rounds(parameters.number())?;
    let derive =
        |purpose: Purpose, length: usize| derive(&SHA1_FOR_LEGACY_USE_ONLY, password, salt, rounds, purpose, length);
    let iv = derive(Purpose::Iv, 8);
    let bad = |_| Trouble::Malformed;
    match which {
        3 => cbc(&des::TdesEde3::new_from_slice(&derive(Purpose::Key, 24)).map_err(bad)?, &iv, bytes),
        4 => cbc(&des::TdesEde2::new_from_slice(&derive(Purpose::Key, 16)).map_err(bad)?, &iv, bytes),
        5 => cbc(&rc2::Rc2::new_with_eff_key_len(&derive(Purpose::Key, 16), 128), &iv, bytes),
        _ => cbc(&rc2::Rc2::new_with_eff_key_len(&derive(Purpose::Key, 5), 40), &iv, bytes),
    }
}

/// Cipher block chaining over blocks of 8 bytes, padded as PKCS#7 has it.
fn cbc<C: BlockCipherDecrypt + BlockSizeUser>(
    cipher: &C,
    iv: &[u8],
    bytes: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    if bytes.is_empty() || !bytes.len().is_multiple_of(8) || iv.len() != 8 {
        return Err(Trouble::Malformed);
    }
    let mut plain = Zeroizing::new(Vec::with_capacity(bytes.len()));
    let mut before = iv;
    for chunk in bytes.chunks_exact(8) {
        let mut block = Block::<C>::default();
        block.copy_from_slice(chunk);
        cipher.decrypt_block(&mut block);
        plain.extend(block.iter().zip(before).map(|(byte, before)| byte ^ before));
        before = chunk;
    }
    let padding = usize::from(plain.last().copied().unwrap_or(0));
    let length = plain.len().checked_sub(padding).ok_or(Trouble::Password)?;
    let is_padded = (1..=8).contains(&padding) && plain[length..].iter().all(|byte| usize::from(*byte) == padding);
    if !is_padded {
        return Err(Trouble::Password);
    }
    plain.truncate(length);
    Ok(plain)
}

/// What is derived (RFC 7292 appendix B.3).
#[derive(Clone, Copy)]
pub enum Purpose {
    Key = 1,
    Iv = 2,
    Mac = 3,
}

/// The hash of a PFX file's own check.
pub fn hash_of(oid: &[u8]) -> Option<&'static digest::Algorithm> {
    const SHA1: &[u8] = &[0x2b, 0x0e, 3, 2, 0x1a];
    const SHA2: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2];
    match oid.strip_prefix(SHA2) {
        Some([1]) => Some(&SHA256),
        Some([2]) => Some(&SHA384),
        Some([3]) => Some(&SHA512),
        _ => (oid == SHA1).then_some(&SHA1_FOR_LEGACY_USE_ONLY),
    }
}

/// The key derivation of PKCS#12 (RFC 7292 appendix B.2).
pub fn derive(
    hash: &'static digest::Algorithm,
    password: &Password<'_>,
    salt: &[u8],
    rounds: NonZeroU32,
    purpose: Purpose,
    length: usize,
) -> Zeroizing<Vec<u8>> {
    let block = hash.block_len();
    let fill = |bytes: &[u8]| -> Vec<u8> {
        let length = bytes.len().div_ceil(block) * block;
        bytes.iter().copied().cycle().take(length).collect()
    };
    let mut input = Zeroizing::new([fill(salt), fill(&password.wide)].concat());
    let mut out = Zeroizing::new(Vec::new());
    while out.len() < length {
        let mut mixed = digest(hash, &[vec![purpose as u8; block].as_slice(), input.as_slice()].concat());
        for _ in 1..rounds.get() {
            mixed = digest(hash, mixed.as_ref());
        }
        out.extend_from_slice(mixed.as_ref());
        let addend: Vec<u8> = mixed.as_ref().iter().copied().cycle().take(block).collect();
        for part in input.chunks_exact_mut(block) {
            let mut carry = 1u16;
            for (byte, add) in part.iter_mut().zip(&addend).rev() {
                carry += u16::from(*byte) + u16::from(*add);
                *byte = carry as u8;
                carry >>= 8;
            }
        }
    }
    out.truncate(length);
    out
}
