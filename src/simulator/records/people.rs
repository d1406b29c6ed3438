//! Who acts in a tenant: users, their devices' addresses, the attacker of the story. Addresses come
//! from the ranges reserved for documentation (RFC 5737, RFC 3849) and from private ones.

use super::super::chance::{Chance, guid};

/// Somebody with a mailbox.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub upn: String,
    pub display: String,
    pub object_id: String,
    /// The 16 hex digits of `UserKey`.
    pub puid: String,
    pub sid: String,
    pub mailbox: String,
    pub address: String,
}

const PEOPLE: [(&str, &str); 48] = [
    ("adele.vance", "Adele Vance"),
    ("alex.wilber", "Alex Wilber"),
    ("bjoern.mueller", "Björn Müller"),
    ("chloe.lefevre", "Chloé Lefèvre"),
    ("daisuke.tanaka", "田中 大輔"),
    ("diego.nunez", "Diego Núñez"),
    ("elif.sahin", "Elif Şahin"),
    ("frantisek.dvorak", "František Dvořák"),
    ("grady.archie", "Grady Archie"),
    ("henrietta.mueller", "Henrietta Mueller"),
    ("irini.papadaki", "Ειρήνη Παπαδάκη"),
    ("isaiah.langer", "Isaiah Langer"),
    ("jing.wang", "王 静"),
    ("joni.sherman", "Joni Sherman"),
    ("jose.garcia", "José García"),
    ("katarzyna.wojcik", "Katarzyna Wójcik"),
    ("laszlo.nagy", "László Nagy"),
    ("lee.gu", "Lee Gu"),
    ("lidia.holloway", "Lidia Holloway"),
    ("lynne.robbins", "Lynne Robbins"),
    ("megan.bowen", "Megan Bowen"),
    ("miriam.graham", "Miriam Graham"),
    ("nestor.wilke", "Nestor Wilke"),
    ("noura.alharbi", "نورة الحربي"),
    ("olga.ivanova", "Ольга Иванова"),
    ("patti.fernandez", "Patti Fernandez"),
    ("pradeep.gupta", "Pradeep Gupta"),
    ("priya.sharma", "प्रिया शर्मा"),
    ("rasmus.oestergaard", "Rasmus Østergaard"),
    ("raul.razo", "Raul Razo"),
    ("siobhan.obrien", "Siobhán O'Brien"),
    ("soren.kjaer", "Søren Kjær"),
    ("thuy.nguyen", "Nguyễn Thị Thùy"),
    ("tomasz.kowalski", "Tomasz Kowalski"),
    ("vlad.popescu", "Vlad Popescu"),
    ("yael.levi", "יעל לוי"),
    ("yuki.sato", "佐藤 ゆき"),
    ("zoe.adams", "Zoë Adams"),
    ("ana.silva", "Ana Conceição Silva"),
    ("ben.walters", "Ben Walters"),
    ("cecil.folk", "Cecil Folk"),
    ("debra.berger", "Debra Berger"),
    ("emily.braun", "Emily Braun"),
    ("enrico.cattaneo", "Enrico Cattaneo"),
    ("gerhart.moller", "Gerhart Møller"),
    ("hugo.tremblay", "Hugo Tremblay"),
    ("ivan.sayers", "Ivan \"Van\" Sayers"),
    ("jordan.miller", "Jordan Miller 🦊"),
];

/// The people of a tenant.
pub(crate) fn make_users(chance: &mut Chance, domain: &str) -> Vec<User> {
    PEOPLE
        .iter()
        .map(|(name, display)| User {
            upn: format!("{name}@{domain}"),
            display: (*display).to_owned(),
            object_id: guid(chance.next(), chance.next()),
            puid: format!("1003200{:09X}", chance.below(1 << 36)),
            sid: format!(
                "S-1-5-21-{}-{}-{}-{}",
                chance.below(1 << 31),
                chance.below(1 << 31),
                chance.below(1 << 31),
                chance.between(1000, 99_999)
            ),
            mailbox: guid(chance.next(), chance.next()),
            address: match chance.below(4) {
                0 => format!("203.0.113.{}", chance.between(1, 255)),
                1 => format!("198.51.100.{}", chance.between(1, 255)),
                2 => format!(
                    "2001:db8:{:x}:{:x}::{:x}",
                    chance.below(0xffff),
                    chance.below(0xffff),
                    chance.below(0xffff)
                ),
                _ => format!("203.0.113.{}", chance.between(1, 255)),
            },
        })
        .collect()
}

/// Where the attacker of the story sits (RFC 5737, TEST-NET-1).
pub(crate) const ATTACKER: &str = "192.0.2.66";

pub(crate) const USER_AGENTS: [&str; 7] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36 Edg/141.0.0.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/537.36",
    "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.18129; Pro)",
    "OneDriveMpc-Transform_Thumbnail/1.0",
    "Microsoft SkyDriveSync 25.199.1012.0002 ship; Windows NT 10.0 (26100)",
];
