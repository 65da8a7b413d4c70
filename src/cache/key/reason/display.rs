//! The sentences of reasons, with short forms of long values.

use std::fmt;

use super::Reason;

/// The number of characters that are shown of a value.
const WIDTH: usize = 60;
/// The number of them, for a long value, that are shown before the difference.
const BEFORE: usize = 20;

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverBuilt => f.write_str("never built"),
            Self::StoreUnreadable { why } => {
                write!(f, "the contents of the store are unknown: {why}; run this as the owner of the store")
            }
            Self::StepChanged { step, field, old, new } => {
                write!(f, "step {step} changed: {field}: {}", change(old.as_deref(), new.as_deref()))
            }
            Self::SettingChanged { field, old, new } => {
                write!(f, "{field} changed: {}", change(old.as_deref(), new.as_deref()))
            }
            Self::InputChanged { target, files, more } => {
                write!(f, "the content of {target} changed{}", Files(files, *more))
            }
            Self::CopyChanged { step, source, files, more } => {
                write!(f, "the content of {source}, which {step} copies, changed{}", Files(files, *more))
            }
            Self::SourceMayChange { step } => write!(f, "runs if the files that it takes from {step} have changed"),
            Self::BelowChanged { what } => write!(f, "a layer below changed: {what}"),
            Self::BelowIsBuilt { step } => write!(f, "the layer below is built first: {step}"),
            Self::Collected => f.write_str("it was built, and is no longer in the store"),
            Self::Damaged { digest } => write!(f, "its layer was damaged: {digest}"),
            Self::ToolChanged { tool, old, new } => write!(f, "{tool} changed: {old} → {new}"),
            Self::WritableBind { target } => {
                write!(f, "the content of {target} cannot be known: writable and not `cache: ignore`")
            }
            Self::UnknownInput { target } => {
                write!(
                    f,
                    "the content of {target} cannot be known: its filesystem does not report changes, and it is not `cache: ignore`"
                )
            }
            Self::Always { step } => write!(f, "step {step} runs always"),
            Self::NotKept => f.write_str("no snapshot follows, and not every such step says `cache: true`"),
            Self::TmpfsNeeded { targets } => {
                write!(f, "later steps run, and could read its files in {}", targets.join(", "))
            }
            Self::InputUnsettled { steps } => {
                write!(f, "an input may still change before its later steps, which wait for {}", steps.join(", "))
            }
            Self::InputMayChange { steps, target } => {
                let verb = if steps.len() == 1 { "changes" } else { "change" };
                write!(f, "runs if {} {verb} {target}", steps.join(" or "))
            }
            Self::InputMayBeRestored { steps, target, files, more } => {
                write!(
                    f,
                    "runs unless {} restores the content of {target}, which changed{}",
                    steps.join(" or "),
                    Files(files, *more)
                )
            }
            Self::BelowMayChange { step } => write!(f, "runs if the layer of {step} changes"),
            Self::NoCache => f.write_str("--no-cache"),
        }
    }
}

/// The first files that differ, and the number of further ones.
struct Files<'a>(&'a [String], u64);

impl fmt::Display for Files<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(first, more) = self;
        let files: Vec<String> = first.iter().map(|file| shown(Some(file), 0)).collect();
        write!(f, "{}{}", if files.is_empty() { "" } else { ": " }, files.join(", "))?;
        if *more > 0 { write!(f, " and {more} more") } else { Ok(()) }
    }
}

/// Returns the old value and the new one; of long values, the part where they begin to differ.
fn change(old: Option<&str>, new: Option<&str>) -> String {
    let same = old.zip(new).map_or(0, |(old, new)| old.chars().zip(new.chars()).take_while(|(a, b)| a == b).count());
    let is_long = [old, new].into_iter().flatten().any(|value| value.chars().count() > WIDTH);
    let from = if is_long { same.saturating_sub(BEFORE) } else { 0 };
    format!("{} → {}", shown(old, from), shown(new, from))
}

/// Returns a value on one line, shortened, and without its first `from` characters.
fn shown(value: Option<&str>, from: usize) -> String {
    let Some(value) = value else { return "nothing".to_owned() };
    let before = (from > 0).then_some('…');
    let rest = value.chars().skip(from).map(|c| if c.is_control() { ' ' } else { c });
    let line: String = before.into_iter().chain(rest).collect();
    if line.chars().count() <= WIDTH {
        return line;
    }
    line.chars().take(WIDTH - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_shown_from_their_first_difference() {
        let long = |middle: &str| format!("{}\n{middle} {}", "a ".repeat(40), "z".repeat(80));
        let text = change(Some(&long("one")), Some(&long("two")));
        let cut = |middle: &str| format!("… a a a a a a a a a  {middle} {}…", "z".repeat(34));
        assert_eq!(text, format!("{} → {}", cut("one"), cut("two")));
        assert!(text.chars().count() <= 2 * WIDTH + 3, "{text}");
        assert_eq!(change(Some("a b"), Some("a c")), "a b → a c");
        assert_eq!(change(None, Some(&"é".repeat(61))), format!("nothing → {}…", "é".repeat(59)));
    }
}
