//! A certificate, as far as signing in needs it: until when it holds, whose key it is, and its thumbprints. Comes
//! in: DER. Goes out: a [`Leaf`]. Verifies nothing: the token endpoint knows which certificates it trusts.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};

use super::der::{BIT_STRING, CONTEXT_0, Der, GENERALIZED_TIME, INTEGER, SEQUENCE, UTC_TIME};
use crate::clock::Seconds;

/// What is known of a certificate.
#[derive(Clone, Debug)]
pub struct Leaf {
    pub der: Vec<u8>,
    /// The key that it certifies, as its bit string holds it: of RSA an `RSAPublicKey` (RFC 8017 A.1.1).
    pub public_key: Vec<u8>,
    /// Seconds since 1970 UTC.
    pub not_before: Seconds,
    pub not_after: Seconds,
}

impl Leaf {
    /// Reads a certificate (RFC 5280 4.1).
    pub fn read(der: &[u8]) -> Option<Leaf> {
        let mut signed = Der(der).inside(SEQUENCE)?.inside(SEQUENCE)?;
        signed.element(CONTEXT_0); // version, where it is not the first
        signed.element(INTEGER)?;
        signed.element(SEQUENCE)?; // signature algorithm
        signed.element(SEQUENCE)?; // issuer
        let mut validity = signed.inside(SEQUENCE)?;
        signed.element(SEQUENCE)?; // subject
        let mut key = signed.inside(SEQUENCE)?;
        key.element(SEQUENCE)?; // key algorithm
        let (unused_bits, public_key) = key.element(BIT_STRING)?.split_first()?;
        (*unused_bits == 0).then_some(())?;
        Some(Leaf {
            der: der.to_vec(),
            public_key: public_key.to_vec(),
            not_before: time(&mut validity)?,
            not_after: time(&mut validity)?,
        })
    }

    pub fn sha256(&self) -> impl AsRef<[u8]> + use<> {
        digest(&SHA256, &self.der)
    }

    pub fn sha1(&self) -> impl AsRef<[u8]> + use<> {
        digest(&SHA1_FOR_LEGACY_USE_ONLY, &self.der)
    }

    /// As the portal shows it.
    pub fn thumbprint(&self) -> String {
        self.sha1().as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
    }
}

/// A time of a certificate's validity (RFC 5280 4.1.2.5): two digits of the year count from 1950.
fn time(der: &mut Der<'_>) -> Option<Seconds> {
    let (tag, text, _) = der.any()?;
    let digits = |from: usize, count: usize| -> Option<i16> {
        let digits = text.get(from..from + count)?;
        digits.iter().all(u8::is_ascii_digit).then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
    };
    let (year, rest) = match tag {
        UTC_TIME => (digits(0, 2).map(|year| if year < 50 { 2000 + year } else { 1900 + year })?, 2),
        GENERALIZED_TIME => (digits(0, 4)?, 4),
        _ => return None,
    };
    let part = |at: usize| i8::try_from(digits(rest + 2 * at, 2)?).ok();
    let second = part(4)?;
    (text.len() == rest + 11 && text.ends_with(b"Z")).then_some(())?;
    let moment = jiff::civil::DateTime::new(year, part(0)?, part(1)?, part(2)?, part(3)?, second, 0).ok()?;
    Some(moment.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_says_until_when_it_holds_and_whose_key_it_is() {
        let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.not_before = rcgen::date_time_ymd(2021, 3, 4);
        // Beyond 2049 times are written in another form.
        params.not_after = rcgen::date_time_ymd(2051, 1, 2);
        let der = params.self_signed(&key).unwrap();
        let leaf = Leaf::read(der.der()).unwrap();
        assert_eq!((leaf.not_before, leaf.not_after), (1_614_816_000, 2_556_230_400));
        assert_eq!(leaf.public_key, key.public_key_raw());
        assert_eq!(leaf.thumbprint().len(), 40);
        for cut in 0..der.der().len() {
            assert!(Leaf::read(&der.der()[..cut]).is_none(), "{cut}");
        }
    }
}
