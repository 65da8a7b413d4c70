//! Explains why a program with file capabilities was not executed: the kernel refuses one with a capability outside of
//! the bounding set, see capabilities(7). Pure.

use std::path::{Path, PathBuf};

use crate::fs::file_capabilities::FileCapabilities;
use crate::model::{Capability, DEFAULT_CAPABILITIES, PROGRAM_PATH};

/// EPERM in the words of the C library and of runc, in small letters.
const REFUSED: &str = "operation not permitted";

/// Returns a hint with the program that the kernel refused, and its capabilities that the container lacks. `words` are
/// the failure's text and the step's last output; `file` returns the `security.capability` of a file inside.
pub fn hint(capabilities: &[Capability], words: &str, file: impl Fn(&Path) -> Option<Vec<u8>>) -> Option<String> {
    let had: Vec<String> = capabilities.iter().map(|capability| format!("CAP_{capability}")).collect();
    let refused = words.lines().filter(|line| line.to_lowercase().contains(REFUSED));
    refused.flat_map(programs).find_map(|path| {
        let of_file = FileCapabilities::parse(&file(&path)?)?;
        let lacks = names(of_file).into_iter().filter(|name| !had.contains(name));
        let lacks: Vec<String> = lacks.map(|name| name.trim_start_matches("CAP_").to_owned()).collect();
        (of_file.is_effective && !lacks.is_empty()).then(|| {
            let (dropped, other): (Vec<&str>, Vec<&str>) = lacks.iter().map(String::as_str).partition(|name| is_default(name));
            let mut fixes = Vec::new();
            if !dropped.is_empty() {
                fixes.push(format!("leave {} out of `drop` under its `capabilities`", dropped.join(", ")));
            }
            if !other.is_empty() {
                fixes.push(format!("write `capabilities: {{ add: [{}] }}` in it", other.join(", ")));
            }
            format!(
                "{} has the file capability {}, which the container does not have, so the kernel does not execute it; {}",
                path.display(),
                lacks.join(", "),
                fixes.join(" and ")
            )
        })
    })
}

/// Whether a container has the capability by default.
fn is_default(name: &str) -> bool {
    DEFAULT_CAPABILITIES.iter().any(|capability| capability.to_string() == name)
}

/// Returns the possible paths of the programs that a line names.
fn programs(line: &str) -> Vec<PathBuf> {
    let names = line.split(|c: char| c.is_whitespace() || "'\"`‘’:;,()".contains(c)).filter(|name| !name.is_empty());
    let paths = |name: &str| match name.starts_with('/') {
        true => vec![PathBuf::from(name)],
        false if name.contains('/') => Vec::new(),
        false => PROGRAM_PATH.iter().map(|directory| Path::new(directory).join(name)).collect(),
    };
    names.flat_map(paths).collect()
}

/// Returns the names of those that the process gets, such as `CAP_CHOWN`.
fn names(of_file: FileCapabilities) -> Vec<String> {
    let mut all: Vec<_> = caps::all().into_iter().filter(|each| of_file.permitted & each.bitmask() != 0).collect();
    all.sort_by_key(caps::Capability::index);
    all.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns version 2 with these bits.
    fn data(flags: u8, permitted: u64) -> Vec<u8> {
        let [low, high] = [permitted, permitted >> 32].map(|half| (half & 0xffff_ffff) as u32);
        [u32::from(flags) | 0x0200_0000, low, 0, high, 0].iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn hinted(words: &str, file: &str, data: &[u8]) -> Option<String> {
        hint(&[Capability::Chown], words, |path| (path == Path::new(file)).then(|| data.to_vec()))
    }

    const PING: &str = "sh: 1: ping: Operation not permitted";

    #[test]
    fn a_program_with_more_capabilities_than_the_container_is_named_with_the_fix() {
        let of_file = data(1, 1 << 13 | 1 | 1 << 39);
        let expected = "/usr/bin/ping has the file capability NET_RAW, BPF, which the container does not have, so the kernel \
                        does not execute it; write `capabilities: { add: [NET_RAW, BPF] }` in it";
        assert_eq!(hinted(PING, "/usr/bin/ping", &of_file).as_deref(), Some(expected));
        for words in [
            "cannot start: /opt/tool cannot be executed: Operation not permitted",
            "exec /opt/tool: operation not permitted",
            "first\n/bin/sh: line 3: '/opt/tool': Operation not permitted\nlast",
        ] {
            assert!(hinted(words, "/opt/tool", &of_file).is_some(), "{words}");
        }
    }

    #[test]
    fn no_hint_for_a_program_that_the_kernel_executes_or_no_refusal_names() {
        for (flags, permitted) in [(1, 1), (0, 1 << 13), (1, 0)] {
            assert_eq!(hinted(PING, "/usr/bin/ping", &data(flags, permitted)), None);
        }
        assert_eq!(hinted("ping: no\nOperation not permitted", "/usr/bin/ping", &data(1, 1 << 13)), None);
        for length in 0..8 {
            assert_eq!(hinted(PING, "/usr/bin/ping", &data(1, 1 << 13)[..length]), None);
        }
    }
}
