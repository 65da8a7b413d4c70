//! Checks of mount options.

use crate::diagnostic::{Problem, Trail, nearest};
use crate::manifest::MountDef;
use crate::model::check::Check;
use crate::model::process::NO_CHANGE_ID;

impl Check<'_> {
    /// Checks the options of a mount of a known type: flags, and names that take a value.
    pub(super) fn options(&mut self, def: &MountDef, at: &Trail<'_>, flags: &[&[&str]], with_value: &[&str]) {
        let list = at.key("options");
        for (n, option) in def.options.iter().flatten().enumerate() {
            let at = list.index(n);
            if !self.option_text(&at, option) {
                continue;
            }
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (option.as_str(), None),
            };
            let is_flag = flags.iter().any(|names| names.contains(&name));
            let takes_value = with_value.contains(&name);
            match value {
                None if is_flag => {}
                Some(value) if takes_value => self.option_value(&at, name, value),
                None if takes_value => {
                    let problem =
                        Problem::new(&at, format!("the option `{name}` has no value")).label("a value is missing");
                    self.add(problem.help(format!("write `{name}=…`")));
                }
                Some(_) if is_flag => {
                    let problem = Problem::new(&at, format!("the option `{name}` takes no value")).label("has a value");
                    self.add(problem.help(format!("write `{name}`")));
                }
                _ => {
                    let known = flags.iter().copied().flatten().chain(with_value).copied();
                    let help = match nearest(name, known.clone()) {
                        Some(near) if with_value.contains(&near) => format!("did you mean `{near}=…`?"),
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("the options here are {}", known.collect::<Vec<_>>().join(", ")),
                    };
                    let problem = Problem::new(&at, format!("unknown mount option `{name}`")).label("not known here");
                    self.add(problem.help(help));
                }
            }
        }
    }

    fn option_value(&mut self, at: &Trail<'_>, name: &str, value: &str) {
        let help = match name {
            "mode" if crate::model::devices::octal(value).is_some() => return,
            "mode" => "write octal digits, such as mode=0755",
            "uid" | "gid" if value.parse().is_ok_and(|id: u32| id != NO_CHANGE_ID) => return,
            "uid" | "gid" => "write a number, at most 4294967294",
            "size" | "nr_inodes" if overflows(value) => "write a number that the kernel takes, such as 64m",
            _ if !value.is_empty() => return,
            _ => "write a value, such as size=64m",
        };
        self.add(Problem::new(at, format!("the option `{name}` cannot be {value:?}")).label("here").help(help));
    }

    /// Checks the rules of every option. Returns whether the option follows them.
    pub(super) fn option_text(&mut self, at: &Trail<'_>, option: &str) -> bool {
        self.no_nul(at, option);
        if option.is_empty() {
            self.add(Problem::new(at, "a mount option is empty").label("an option is missing").help("remove it"));
            return false;
        }
        if option.contains(',') {
            let parts: Vec<&str> = option.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
            let problem = Problem::new(at, "there is a comma in a mount option").label("one option, or more?");
            self.add(problem.help(format!("write each by itself: [{}]", parts.join(", "))));
            return false;
        }
        true
    }
}

/// Returns whether a number with one of the kernel's units, such as `64m`, is too large for the kernel, which would
/// drop its upper bits.
fn overflows(value: &str) -> bool {
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let shift = match value[digits.len()..].to_ascii_lowercase().as_str() {
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        "e" => 60,
        _ => 0,
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.is_none_or(|bytes| bytes > i64::MAX.cast_unsigned())
}
