//! The top-level fields of a record that we know by name, and sets of them.
//!
//! Comes in: the name as sent. Goes out: a [`Field`], or nothing for the many names we carry without
//! reading. Names are compared exactly, as the schema spells them. Adding a field is one line below.

macro_rules! fields {
    ($($name:ident,)*) => {
        /// A top-level field that some room reads (Management Activity API schema, "Common schema"
        /// and the schemas of the workloads).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Field { $($name,)* }

        impl Field {
            /// Every field, in the order of their numbers.
            pub const ALL: &'static [Field] = &[$(Field::$name,)*];

            /// The name as sent.
            pub const fn as_str(self) -> &'static str {
                match self { $(Field::$name => stringify!($name),)* }
            }
        }
    };
}

fields! {
    ActorIpAddress,
    ActorYammerUserId,
    AzureActiveDirectoryEventType,
    ClientIP,
    ClientIPAddress,
    CreationTime,
    ExtendedProperties,
    Id,
    InternalLogonType,
    ListBaseType,
    LogonType,
    Operation,
    OrganizationId,
    OrganizationName,
    RecordType,
    ResultStatus,
    UserAgent,
    UserId,
    UserType,
    Version,
    Workload,
    YammerNetworkId,
}

/// Slots of the name table. A power of two, sparse, so that a look-up is one probe and one comparison.
const SLOTS: usize = 256;
const NONE: u8 = u8::MAX;

const fn slot(name: &[u8]) -> usize {
    let last = name[name.len() - 1] as usize;
    let middle = name[name.len() / 2] as usize;
    (name.len() * 7 + name[0] as usize * 31 + last * 5 + middle * 13) % SLOTS
}

/// Open addressing, filled when compiling.
const TABLE: [u8; SLOTS] = {
    assert!(Field::ALL.len() <= FieldSet::CAPACITY, "widen FieldSet");
    let mut table = [NONE; SLOTS];
    let mut next = 0;
    while next < Field::ALL.len() {
        let mut at = slot(Field::ALL[next].as_str().as_bytes());
        while table[at] != NONE {
            at = (at + 1) % SLOTS;
        }
        table[at] = Field::ALL[next] as u8;
        next += 1;
    }
    table
};

impl Field {
    /// How many there are.
    pub const COUNT: usize = Field::ALL.len();

    /// The field of this name (unescaped), if we know it.
    pub fn of(name: &[u8]) -> Option<Field> {
        if name.is_empty() {
            return None;
        }
        let mut at = slot(name);
        while TABLE[at] != NONE {
            let field = Field::ALL[usize::from(TABLE[at])];
            if field.as_str().as_bytes() == name {
                return Some(field);
            }
            at = (at + 1) % SLOTS;
        }
        None
    }
}

/// A set of fields, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldSet(u128);

impl FieldSet {
    /// How many fields a set can hold.
    pub const CAPACITY: usize = 128;
    pub const EMPTY: FieldSet = FieldSet(0);

    /// The set of these fields.
    pub const fn of(fields: &[Field]) -> FieldSet {
        let mut bits = 0;
        let mut next = 0;
        while next < fields.len() {
            bits |= 1 << fields[next] as u8;
            next += 1;
        }
        FieldSet(bits)
    }

    pub const fn insert(&mut self, field: Field) {
        self.0 |= 1 << field as u8;
    }

    pub const fn contains(self, field: Field) -> bool {
        self.0 & (1 << field as u8) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_found_by_its_name_and_by_no_other() {
        for field in Field::ALL {
            assert_eq!(Field::of(field.as_str().as_bytes()), Some(*field));
            assert_eq!(Field::of(field.as_str().to_lowercase().as_bytes()), None);
        }
        assert_eq!((Field::of(b""), Field::of(b"Idd")), (None, None));
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        let mut set = FieldSet::of(&[Field::Id, Field::YammerNetworkId]);
        assert!(set.contains(Field::Id) && set.contains(Field::YammerNetworkId) && !set.contains(Field::UserId));
        set.insert(Field::UserId);
        assert!(set.contains(Field::UserId));
    }
}
