//! Certificates and keys in every form that people have them in, written by openssl: that it can be read again by the
//! same hands would show little.

use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::secret::SecretSource;

struct Files {
    dir: tempfile::TempDir,
    leaf: Vec<u8>,
}

impl Files {
    /// `key.pem` (PKCS#8) and `cert.pem` of a new RSA key.
    fn new() -> Files {
        let dir = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
        let cert = rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap();
        std::fs::write(dir.path().join("key.pem"), key.serialize_pem()).unwrap();
        std::fs::write(dir.path().join("cert.pem"), cert.pem()).unwrap();
        Files { dir, leaf: cert.der().to_vec() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn openssl(&self, arguments: &str) {
        let ran = Command::new("openssl").args(arguments.split(' ')).current_dir(self.dir.path()).output();
        let ran = ran.expect("openssl is wanted: apt-get install openssl");
        assert!(ran.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&ran.stderr));
    }

    fn load(&self, file: &str, key_file: Option<&str>, password: Option<&str>) -> Result<KeyPair, CertificateError> {
        let config = CertificateConfig {
            file: self.path(file),
            key_file: key_file.map(|name| self.path(name)),
            password: password.map(|text| SecretSource::Value(text.into())),
        };
        load(&config, NOW)
    }
}

/// In 2027.
const NOW: Seconds = 1_800_000_000;

#[test]
fn every_form_of_a_certificate_and_its_key_is_read() {
    let files = Files::new();
    let other = Files::new();
    files.openssl("rsa -in key.pem -traditional -out pkcs1.pem");
    files.openssl("pkcs8 -topk8 -in key.pem -out locked.pem -passout pass:gehöim");
    files.openssl("pkcs8 -topk8 -in key.pem -v1 PBE-SHA1-3DES -out locked-old.pem -passout pass:gehöim");
    let chain = [other.path("cert.pem"), files.path("cert.pem"), files.path("key.pem")];
    let chain: Vec<u8> = chain.iter().flat_map(|path| std::fs::read(path).unwrap()).collect();
    std::fs::write(files.path("chain.pem"), [b"some text\n".as_slice(), &chain].concat()).unwrap();
    files.openssl("x509 -in cert.pem -trustout -addtrust serverAuth -setalias one -out trusted.pem");
    let export = "pkcs12 -export -inkey key.pem -in cert.pem";
    files.openssl(&format!("{export} -out modern.pfx -passout pass:gehöim"));
    files.openssl(&format!("{export} -out empty.pfx -passout pass:"));
    files.openssl(&format!("{export} -legacy -out legacy.pfx -passout pass:gehöim"));
    files.openssl(&format!(
        "{export} -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg sha1 -out vault.pfx -passout pass:"
    ));
    files.openssl(&format!(
        "{export} -keypbe PBE-SHA1-2DES -certpbe NONE -macalg sha512 -out mixed.pfx -passout pass:gehöim"
    ));
    files.openssl(&format!(
        "{export} -keypbe AES-128-CBC -certpbe AES-192-CBC -nomac -out nomac.pfx -passout pass:gehöim"
    ));
    // As Windows exports: Triple DES until 2016, AES-256 since, 2,000 rounds, the provider's name beside the key.
    let windows = format!("{export} -iter 2000 -LMK -CSP Microsoft_Software_Key_Storage_Provider -passout pass:gehöim");
    files
        .openssl(&format!("{windows} -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg sha1 -out windows-3des.pfx"));
    files.openssl(&format!("{windows} -keypbe AES-256-CBC -certpbe AES-256-CBC -macalg sha256 -out windows-aes.pfx"));
    for (file, key_file, password) in [
        ("windows-3des.pfx", None, Some("gehöim")),
        ("windows-aes.pfx", None, Some("gehöim")),
        ("cert.pem", Some("key.pem"), None),
        ("cert.pem", Some("pkcs1.pem"), None),
        ("cert.pem", Some("locked.pem"), Some("gehöim")),
        ("cert.pem", Some("locked-old.pem"), Some("gehöim")),
        ("chain.pem", None, None),
        ("trusted.pem", Some("key.pem"), None),
        ("modern.pfx", None, Some("gehöim")),
        ("empty.pfx", None, None),
        ("legacy.pfx", None, Some("gehöim")),
        ("vault.pfx", None, None),
        ("mixed.pfx", None, Some("gehöim")),
        ("nomac.pfx", None, Some("gehöim")),
    ] {
        let pair = files.load(file, key_file, password).unwrap_or_else(|error| panic!("{file} {key_file:?}: {error}"));
        assert_eq!(pair.leaf.der, files.leaf, "{file}");
    }
}

/// The old pair, that in use and the next, in whatever order they stand in the file.
#[test]
fn of_several_pairs_one_that_is_valid_now_is_taken_and_of_those_the_one_that_holds_longest() {
    let files = Files::new();
    let pair = |from, until| {
        let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(from, 1, 1), rcgen::date_time_ymd(until, 1, 1));
        let certificate = params.self_signed(&key).unwrap();
        (format!("{}{}", key.serialize_pem(), certificate.pem()), certificate.der().to_vec())
    };
    let mut pairs = [pair(2020, 2026), pair(2026, 2029), pair(2026, 2028), pair(2028, 2040)];
    let wanted = pairs[1].1.clone();
    for turn in 0..pairs.len() {
        pairs.rotate_left(1);
        std::fs::write(files.path("pairs.pem"), pairs.each_ref().map(|(pem, _)| pem.as_str()).concat()).unwrap();
        assert!(files.load("pairs.pem", None, None).unwrap().leaf.der == wanted, "turn {turn}");
    }
}

/// The file with as many rounds of its check as a number can say, which nobody may wait for.
fn with_rounds(pfx: &[u8]) -> Vec<u8> {
    let mut bytes = pfx.to_vec();
    // The check's rounds stand last in the file, here left out because 1 is the default.
    let rounds = [0x02, 0x04, 0x7f, 0xff, 0xff, 0xff];
    let mut at = 4;
    for _ in 0..2 {
        // Past the version, past what is checked.
        let mut rest = Der(&bytes[at..]);
        at += rest.any().unwrap().2.len();
    }
    let length = bytes[at + 1];
    assert!(bytes[at] == 0x30 && length < 0x70, "the check is short");
    bytes[at + 1] = length + rounds.len() as u8;
    bytes.truncate(at + 2 + usize::from(length));
    bytes.extend(rounds);
    let whole = u16::try_from(bytes.len() - 4).unwrap().to_be_bytes();
    bytes[2..4].copy_from_slice(&whole);
    bytes
}

#[test]
fn what_cannot_be_used_is_said_with_the_way_out() {
    let files = Files::new();
    let other = Files::new();
    std::fs::copy(other.path("key.pem"), files.path("other.pem")).unwrap();
    files.openssl("pkcs12 -export -inkey key.pem -in cert.pem -out locked.pfx -passout pass:canary");
    files.openssl("pkcs8 -topk8 -in key.pem -out locked.pem -passout pass:canary");
    files.openssl("ecparam -name prime256v1 -genkey -noout -out ec.pem");
    let export = "pkcs12 -export -inkey key.pem -in cert.pem -passout pass:canary";
    files.openssl(&format!("{export} -legacy -out legacy.pfx"));
    files.openssl(&format!("{export} -legacy -keypbe PBE-SHA1-RC4-128 -certpbe PBE-SHA1-RC4-40 -out rc4.pfx"));
    files.openssl(&format!("{export} -nomac -out nomac.pfx"));
    files.openssl(&format!("{export} -iter 1 -maciter -out once.pfx"));
    // Of unknown length: only the outermost sequence, in place of its four bytes of tag and length.
    let once = std::fs::read(files.path("once.pfx")).unwrap();
    assert_eq!(once[..2], [0x30, 0x82]);
    std::fs::write(files.path("ber.pfx"), [&[0x30, 0x80], &once[4..], &[0, 0]].concat()).unwrap();
    std::fs::write(files.path("slow.pfx"), with_rounds(&once)).unwrap();
    std::fs::write(files.path("text"), "not a certificate").unwrap();
    std::fs::write(files.path("cut.pfx"), &std::fs::read(files.path("locked.pfx")).unwrap()[..500]).unwrap();
    for (file, key_file, password, said) in [
        ("cert.pem", None, None, "holds no private key; put it"),
        ("key.pem", None, None, "holds no certificate"),
        ("cert.pem", Some("other.pem"), None, "belongs to none of the certificates"),
        ("cert.pem", Some("ec.pem"), None, "no RSA key of 2048"),
        ("cert.pem", Some("locked.pem"), None, "protected by a password; give it in `certificate.password`"),
        ("cert.pem", Some("locked.pem"), Some("wrong"), "with this password"),
        ("locked.pfx", None, None, "protected by a password"),
        ("locked.pfx", None, Some("wrong"), "with this password"),
        ("legacy.pfx", None, Some("wrong"), "with this password"),
        ("legacy.pfx", None, None, "protected by a password"),
        ("nomac.pfx", None, Some("wrong"), "with this password"),
        ("rc4.pfx", None, Some("canary"), "by RC4, which is not supported; write it anew: openssl"),
        (
            "ber.pfx",
            None,
            Some("canary"),
            "not DER (BER of unknown length, as browsers write it); write it anew: openssl",
        ),
        ("slow.pfx", None, Some("canary"), "by more than 10 million rounds of key derivation, which is not supported"),
        ("cut.pfx", None, Some("canary"), "broken PFX"),
        ("text", None, None, "neither PEM nor a PFX"),
        ("nowhere", None, None, "cannot read the certificate's file"),
    ] {
        let error = files.load(file, key_file, password).err().unwrap_or_else(|| panic!("{file} was read"));
        let text = format!("{error} {error:?}");
        assert!(text.contains(said) && !text.contains("canary"), "{file}: {text}");
    }
}

#[test]
fn no_byte_changed_in_a_pfx_file_makes_a_panic_or_another_key() {
    let files = Files::new();
    files.openssl("pkcs12 -export -inkey key.pem -in cert.pem -iter 1 -maciter -out small.pfx -passout pass:x");
    let whole = std::fs::read(files.path("small.pfx")).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..300 {
        let mut bytes = whole.clone();
        let at = random.usize(..bytes.len());
        bytes[at] ^= 1 << random.u8(..8);
        std::fs::write(files.path("changed.pfx"), &bytes).unwrap();
        if let Ok(pair) = files.load("changed.pfx", None, Some("x")) {
            assert_eq!(pair.leaf.der, files.leaf, "at {at}");
        }
    }
}
