//! Finds the known name that the user most likely meant by an unknown one.

/// Returns the candidate most similar to `word`, if the user may have meant it: a third of its letters may differ
/// (swapped neighbours count as one), and case does not matter. Of a short name that would be most of it,
/// so more than half of the letters must be the same, or all of them in another order.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let length = word.chars().count();
    // So long a name is no typing error, and the time of the distance is the product of both lengths.
    if length > 256 {
        return None;
    }
    let allowed = length.div_ceil(3);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        if candidate.len().abs_diff(word.len()) > allowed * 4 {
            continue;
        }
        let lower = candidate.to_lowercase();
        let distance = strsim::damerau_levenshtein(&word, &lower);
        let is_similar = 2 * distance < length.max(lower.chars().count()) || sorted(&word) == sorted(&lower);
        if distance <= allowed && is_similar && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

fn sorted(word: &str) -> Vec<char> {
    let mut letters: Vec<char> = word.chars().collect();
    letters.sort_unstable();
    letters
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_typing_error_finds_the_meant_name() {
        assert_eq!(nearest("contaner", ["container", "containers", "cwd"]), Some("container"));
        assert_eq!(nearest("ntework", ["network", "needs"]), Some("network"));
        assert_eq!(nearest("KVM", ["kvm"]), Some("kvm"));
    }

    #[test]
    fn a_short_name_finds_only_one_with_most_of_its_letters() {
        assert_eq!(nearest("x", ["a", "y", "xy", "run"]), None);
        assert_eq!(nearest("ab", ["a", "b", "ac", "zb", "z"]), None);
        assert_eq!(nearest("A", ["b", "a"]), Some("a"));
        assert_eq!(nearest("or", ["rw", "ro"]), Some("ro"));
        assert_eq!(nearest("su", ["run", "sub"]), Some("sub"));
        assert_eq!(nearest("runn", ["r", "run"]), Some("run"));
    }

    #[test]
    fn a_name_without_a_similar_one_finds_none() {
        assert_eq!(nearest("frobnicate", ["container", "run"]), None);
        assert_eq!(nearest("", ["a"]), None);
        assert_eq!(nearest(&"x".repeat(5000), ["x"]), None);
    }
}
