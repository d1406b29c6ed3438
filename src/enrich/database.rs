//! One database in MaxMind's format (maxmind.github.io/MaxMind-DB). Comes in: the path of a file that somebody else keeps
//! up to date. Goes out: a reader of a copy that nobody can change, or why there is none. The file itself is never mapped: whoever
//! writes over it in place would take the process with it (docs/decisions/015).

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use maxminddb::{MaxMindDbError, Reader};
use serde::Deserialize;

use super::schema::{AsRecord, GeoRecord};
use crate::disk::map::{Map, NamelessCopy};

/// Far above the largest of MaxMind's (GeoIP2 Enterprise, below 500 MB), far below what a disk is for.
const LARGEST: u64 = 2 << 30;
/// Addresses that are looked up before a database is believed, spread over all of them.
const PROBES: u32 = 1024;

/// What a database tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// City or country.
    City,
    /// Autonomous systems.
    Asn,
}

impl Kind {
    /// The key in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::City => "city",
            Kind::Asn => "asn",
        }
    }
}

/// How a file looked. Another look is another content, and the same look of a file that lies still is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    device: u64,
    inode: u64,
    length: u64,
    /// Nanoseconds since 1970.
    modified: i128,
}

impl Look {
    /// Of no file.
    pub const NEVER: Look = Look { device: 0, inode: 0, length: 0, modified: i128::MIN };

    /// `None`: there is no such file. A symbolic link is followed.
    pub fn at(path: &Path) -> Option<Look> {
        std::fs::metadata(path).ok().map(|about| Look::of(&about))
    }

    fn of(about: &std::fs::Metadata) -> Look {
        let modified = i128::from(about.mtime()) * 1_000_000_000 + i128::from(about.mtime_nsec());
        Look { device: about.dev(), inode: about.ino(), length: about.len(), modified }
    }
}

/// Why a file is not read from. Each names what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("it cannot be opened ({0}); put the file there, or correct the path")]
    Missing(io::Error),
    #[error("it is no file; give the path of the `.mmdb` file itself")]
    NoFile,
    #[error("it has {0} bytes, more than any such database; check what it is")]
    TooLarge(u64),
    #[error("it changed while it was read; write it under another name and rename it")]
    Changed,
    #[error("it cannot be copied to `{dir}` ({error}); it takes as much room there as the file has bytes", dir = .0.display(), error = .1)]
    NoRoom(std::path::PathBuf, io::Error),
    #[error("it is damaged or cut short ({0}); fetch it again")]
    Damaged(MaxMindDbError),
    #[error("it is a database of type `{found}`, which has nothing of `{wanted}`; check which path belongs to which key", wanted = .wanted.as_str())]
    OtherKind { found: String, wanted: Kind },
}

/// A database that is read from.
#[derive(Debug)]
pub(super) struct Database {
    reader: Reader<Map>,
}

impl Database {
    /// Copies the file to a nameless one below `copies` and reads that. Blocking.
    ///
    /// # Errors
    /// Whatever keeps it from being believed; nothing is kept of it then.
    pub fn open(path: &Path, kind: Kind, copies: &Path) -> Result<(Database, Look), Fault> {
        let mut source = File::open(path).map_err(Fault::Missing)?;
        let about = source.metadata().map_err(Fault::Missing)?;
        if !about.is_file() {
            return Err(Fault::NoFile);
        }
        if about.len() > LARGEST {
            return Err(Fault::TooLarge(about.len()));
        }
        let look = Look::of(&about);
        let no_room = |error| Fault::NoRoom(copies.to_owned(), error);
        let copy = NamelessCopy::of(&mut source, copies).map_err(no_room)?;
        let after = source.metadata().map(|about| Look::of(&about)).map_err(Fault::Missing)?;
        if after != look || copy.length().map_err(no_room)? != look.length {
            return Err(Fault::Changed);
        }
        if look.length == 0 {
            return Err(Fault::Damaged(MaxMindDbError::invalid_database("it is empty")));
        }
        let reader = Reader::from_source(copy.map().map_err(no_room)?).map_err(Fault::Damaged)?;
        let database = Database { reader };
        database.probe(kind)?;
        Ok((database, look))
    }

    /// One of those that are part of the program.
    pub fn embedded(bytes: &'static [u8]) -> Result<Database, MaxMindDbError> {
        Reader::from_source(Map::of_static(bytes)).map(|reader| Database { reader })
    }

    /// Seconds since 1970.
    pub fn built(&self) -> i64 {
        i64::try_from(self.reader.metadata().build_epoch).unwrap_or(0)
    }

    pub fn database_type(&self) -> &str {
        &self.reader.metadata().database_type
    }

    /// What is known of the place; `None`: nothing, or not of this kind of address.
    pub fn geo(&self, ip: IpAddr) -> Result<Option<GeoRecord<'_>>, MaxMindDbError> {
        self.lookup(ip)
    }

    /// What is known of the autonomous system.
    pub fn autonomous_system(&self, ip: IpAddr) -> Result<Option<AsRecord<'_>>, MaxMindDbError> {
        self.lookup(ip)
    }

    fn lookup<'a, T: Deserialize<'a>>(&'a self, ip: IpAddr) -> Result<Option<T>, MaxMindDbError> {
        // A file with IPv4 alone answers a question for IPv6 with an error.
        if ip.is_ipv6() && self.reader.metadata().ip_version == 4 {
            return Ok(None);
        }
        self.reader.lookup(ip)?.decode()
    }

    /// Looks up addresses all over: an error is damage, and of the wrong kind is what knows nothing of the right one.
    fn probe(&self, kind: Kind) -> Result<(), Fault> {
        let (mut records, mut fit) = (0, 0);
        let is_v4 = self.reader.metadata().ip_version == 4;
        for n in 0..PROBES {
            // The top bits count through; those below are mixed.
            let bits = n << 22 | n.wrapping_mul(0x9E37_79B1) >> 10;
            let v4 = IpAddr::V4(Ipv4Addr::from_bits(bits));
            // Global unicast, 2000::/3, where all that is given out lies in 2000::/6.
            let v6 = IpAddr::V6(Ipv6Addr::from_bits(0x2 << 124 | u128::from(bits) << 90));
            for ip in [Some(v4), Some(v6).filter(|_| !is_v4)].into_iter().flatten() {
                let known = match kind {
                    Kind::City => self.geo(ip).map(|found| found.map(|record| record != GeoRecord::default())),
                    Kind::Asn => {
                        self.autonomous_system(ip).map(|found| found.map(|record| record != AsRecord::default()))
                    }
                };
                let known = known.map_err(Fault::Damaged)?;
                records += u32::from(known.is_some());
                fit += u32::from(known == Some(true));
            }
        }
        if records > 0 && fit == 0 {
            return Err(Fault::OtherKind { found: self.database_type().to_owned(), wanted: kind });
        }
        Ok(())
    }
}
