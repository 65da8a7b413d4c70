//! The capabilities of a file as text.

use std::collections::BTreeMap;

use crate::fs::file_capabilities::FileCapabilities;

/// Returns the capabilities in the form of getcap(8), as `cap_net_raw=ep`; the bytes in hexadecimal, if they are not an
/// attribute that the kernel takes.
pub(super) fn text(value: &[u8]) -> String {
    decoded(value).unwrap_or_else(|| {
        let bytes: String = value.iter().take(32).map(|byte| format!("{byte:02x}")).collect();
        format!("unknown ({bytes})")
    })
}

fn decoded(value: &[u8]) -> Option<String> {
    let FileCapabilities { is_effective, permitted, inheritable, root } = FileCapabilities::parse(value)?;
    let mut by_flags: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for number in (0..64).filter(|number| (permitted | inheritable) >> number & 1 == 1) {
        let mut flags = String::new();
        if is_effective {
            flags.push('e');
        }
        if inheritable >> number & 1 == 1 {
            flags.push('i');
        }
        if permitted >> number & 1 == 1 {
            flags.push('p');
        }
        by_flags.entry(flags).or_default().push(name(number));
    }
    if by_flags.is_empty() {
        return Some("none".to_owned());
    }
    let sets: Vec<String> = by_flags.iter().map(|(flags, names)| format!("{}={flags}", names.join(","))).collect();
    Some(sets.join(" ") + &root.map_or(String::new(), |root| format!(" [rootid={root}]")))
}

fn name(number: u8) -> String {
    let known = caps::all().into_iter().find(|capability| capability.index() == number);
    known.map_or_else(|| format!("cap_{number}"), |known| known.to_string().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn capabilities_are_shown_as_getcap_shows_them() {
        for (words, shown) in [
            (&[0x0200_0001, 1 << 13, 0, 0, 0][..], "cap_net_raw=ep"),
            (&[0x0200_0000, 1 << 12 | 1 << 13, 0, 0, 0], "cap_net_admin,cap_net_raw=p"),
            (&[0x0200_0001, 1 << 13, 1 << 12, 1 << 6, 0], "cap_net_admin=ei cap_net_raw,cap_perfmon=ep"),
            (&[0x0300_0001, 1, 0, 0, 0, 1000], "cap_chown=ep [rootid=1000]"),
            (&[0x0100_0001, 1, 1], "cap_chown=eip"),
            (&[0x0200_0000, 0, 0, 1 << 31, 0], "cap_63=p"),
            (&[0x0200_0000, 0, 0, 0, 0], "none"),
            (&[0x0200_0000, 0, 0, 0], "unknown (00000002000000000000000000000000)"),
            (&[0x0900_0000], "unknown (00000009)"),
        ] {
            assert_eq!(text(&value(words)), shown);
        }
        assert_eq!(text(b""), "unknown ()");
    }
}
