//! The capabilities of a file: the attribute `security.capability`, `struct vfs_cap_data` of linux/capability.h. Pure.

/// The attribute.
pub const ATTRIBUTE: &str = "security.capability";

/// The bits of the first word: the revision, and the flag that the capabilities are effective at once.
const REVISION: u32 = 0xff00_0000;
const EFFECTIVE: u32 = 1;

/// The capabilities that a file gives, as sets of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileCapabilities {
    /// Whether they are effective as soon as the program runs.
    pub is_effective: bool,
    /// Those that the process gets.
    pub permitted: u64,
    /// Those that it gets if its caller passes them on.
    pub inheritable: u64,
    /// The user whose namespace they count in; none for the first one's.
    pub root: Option<u32>,
}

impl FileCapabilities {
    /// Reads the attribute's value, in each of its three revisions; none for one that the kernel does not take.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let word = |index: usize| value.get(4 * index..)?.first_chunk().copied().map(u32::from_le_bytes);
        let first = word(0)?;
        let (pairs, length) = match (first & REVISION) >> 24 {
            1 => (1, 12),
            2 => (2, 20),
            3 => (2, 24),
            _ => return None,
        };
        if value.len() != length {
            return None;
        }
        let set = |which: usize| -> Option<u64> {
            let high = if pairs == 2 { word(3 + which)? } else { 0 };
            Some(u64::from(high) << 32 | u64::from(word(1 + which)?))
        };
        let root = word(5).filter(|root| *root != 0);
        Some(Self { is_effective: first & EFFECTIVE != 0, permitted: set(0)?, inheritable: set(1)?, root })
    }
}
