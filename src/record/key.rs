//! The record key: 128 bits by which a record is known everywhere (delivered map, `auditferry.key`,
//! HEC `fields`, `_id`).

use std::fmt;

/// 128-bit hash of (tenant, Id, CreationTime, RecordType, Operation).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordKey(pub [u8; 16]);

impl RecordKey {
    /// 32 lower-case hexadecimal digits, as written into events.
    pub fn to_hex(self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; 32];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        hex
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_hex().iter().try_for_each(|digit| fmt::Write::write_char(f, char::from(*digit)))
    }
}
