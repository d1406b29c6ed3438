//! The readers of certificates and keys under trial: what `fuzzing` gives bytes to. Only with the feature `failpoints`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::der::SEQUENCE;
use super::leaf::Leaf;
use super::{pem, pfx};

/// Rounds of key derivation that a file may cost here: a fuzzer's time is for the walk, not for the hashes.
const ROUNDS: u32 = 2_000;
/// That of the corpus, and one that opens none of it.
const PASSWORDS: [&str; 3] = ["x", "", "another"];

/// A password opens a file or not; it never decides what is in it. What comes out is no longer than what went in.
pub(crate) fn opened(bytes: &[u8]) {
    let mut seen: Option<pfx::Contents> = None;
    for password in PASSWORDS {
        let Ok(contents) = pfx::read_within(bytes, password, ROUNDS) else { continue };
        assert_eq!(bytes.first(), Some(&SEQUENCE), "read and no PFX file");
        let keys = contents.keys.iter().map(|key| key.len());
        let length: usize = contents.certificates.iter().map(Vec::len).chain(keys).sum();
        assert!(length <= bytes.len(), "more comes out than went in");
        if let Some(seen) = &seen {
            assert!(
                seen.certificates == contents.certificates && seen.keys == contents.keys,
                "another password, other contents"
            );
        }
        seen = Some(contents);
    }
}

/// A certificate that is read is whole and holds the key that it is said to hold, and the blocks of a PEM file written
/// again are read as the same.
pub(crate) fn certificate(bytes: &[u8]) {
    if let Some(leaf) = Leaf::read(bytes) {
        assert_eq!(leaf.der, bytes, "another certificate");
        let is_inside = leaf.public_key.is_empty() || memchr::memmem::find(bytes, &leaf.public_key).is_some();
        assert!(is_inside, "a key that was not there");
        // Four digits of a year.
        assert!(leaf.not_before.abs().max(leaf.not_after.abs()) < 300_000_000_000, "{leaf:?}");
        assert_eq!(leaf.thumbprint().len(), 40);
    }
    let Ok(blocks) = pem::blocks(bytes) else { return };
    assert!(pem::is_pem(bytes) || blocks.is_empty(), "blocks of no PEM file");
    for block in blocks {
        if block.label.contains(char::REPLACEMENT_CHARACTER) {
            continue;
        }
        let label = &block.label;
        let text = format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(&*block.der));
        let again = pem::blocks(text.as_bytes()).unwrap_or_default();
        let is_same = again.iter().any(|again| again.label == block.label && again.der == block.der);
        assert!(is_same, "written and not readable: {label}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Or a fuzzer would not get beyond the first element.
    #[test]
    fn the_corpus_is_opened_to_the_last_bag() {
        for (name, certificates, keys) in [("keys", 1, 2), ("legacy", 1, 0), ("modern", 1, 0), ("windows", 1, 0)] {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/pfx").join(name);
            let contents = pfx::read_within(&std::fs::read(path).unwrap(), PASSWORDS[0], ROUNDS);
            let contents = contents.unwrap_or_else(|trouble| panic!("{name}: {trouble:?}"));
            assert_eq!((contents.certificates.len(), contents.keys.len()), (certificates, keys), "{name}");
            assert!(contents.certificates.iter().all(|der| Leaf::read(der).is_some()), "{name}");
        }
    }
}
