//! Docker's JSON of a profile, read strictly: every setting is used, or refused with its place.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr as _;

use oci_spec::runtime::{Arch, Capability, LinuxSeccompAction, LinuxSeccompOperator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use thiserror::Error;

use super::errno;
use super::profile::{self, Architectures, Condition, Kernel, Profile, Rule};

/// The greatest number of an error that the kernel returns for a call.
const MAX_ERRNO: u32 = 4095;

/// The number of a system call's arguments.
const ARGUMENTS: usize = 6;

/// The names that `arches` may have.
const MACHINES: [&str; 23] = [
    "386",
    "amd64",
    "arm",
    "arm64",
    "loong64",
    "loongarch64",
    "mips",
    "mips3l64n32",
    "mips64",
    "mips64n32",
    "mipsel",
    "mipsel64",
    "mipsel64n32",
    "mipsle",
    "parisc",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv64",
    "s390",
    "s390x",
    "x32",
    "x86",
];

/// The reason why a profile cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{place}{problem}")]
pub struct ProfileError {
    /// For example `syscalls[2].action: `; empty for the whole.
    place: String,
    problem: String,
}

impl ProfileError {
    fn new(place: impl Into<String>, problem: impl Into<String>) -> Self {
        // The last key or element of JSON that ends there, or is none, has no name: the line and the column show the place.
        let place = place.into();
        let place = match place.trim_end_matches('?').trim_end_matches('.') {
            "" => String::new(),
            known => format!("{known}: "),
        };
        Self { place, problem: problem.into() }
    }
}

/// A map alone: the deserializer that serde derives takes a list of the values too.
struct Map<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Map<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for MapVisitor<T> {
            type Value = Map<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Map)
            }
        }
        deserializer.deserialize_map(MapVisitor(PhantomData))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    default_errno: Option<String>,
    arch_map: Option<Vec<Map<Machine>>>,
    architectures: Option<Vec<Arch>>,
    syscalls: Option<Vec<Map<Calls>>>,
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Machine {
    architecture: Arch,
    sub_architectures: Option<Vec<Arch>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Calls {
    names: Option<Vec<String>>,
    name: Option<String>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    errno: Option<String>,
    args: Option<Vec<Map<Argument>>>,
    #[serde(rename = "comment")]
    _comment: Option<String>,
    includes: Option<Map<Filter>>,
    excludes: Option<Map<Filter>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Argument {
    index: usize,
    value: u64,
    value_two: Option<u64>,
    op: LinuxSeccompOperator,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Filter {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

pub(super) fn parse(text: &[u8]) -> Result<Profile, ProfileError> {
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let mut json = serde_json::Deserializer::from_slice(text);
    let Map(document): Map<Document> = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| ProfileError::new(error.path().to_string(), error.inner().to_string()))?;
    json.end().map_err(|error| ProfileError::new("", error.to_string()))?;
    document.check()
}

impl Document {
    fn check(self) -> Result<Profile, ProfileError> {
        let default_errno = errno(["defaultErrnoRet", "defaultErrno"], self.default_errno_ret, self.default_errno)?;
        action("defaultAction", self.default_action, "defaultErrnoRet", default_errno)?;
        for (n, flag) in self.flags.iter().flatten().enumerate() {
            check_flag(&format!("flags[{n}]"), flag)?;
        }
        for (key, value) in [("listenerPath", self.listener_path), ("listenerMetadata", self.listener_metadata)] {
            if value.is_some_and(|value| !value.is_empty()) {
                return Err(ProfileError::new(
                    key,
                    "it is for SCMP_ACT_NOTIFY, which runner has no program for; leave it out",
                ));
            }
        }
        let architectures = match (self.arch_map, self.architectures) {
            (Some(map), Some(list)) if !map.is_empty() && !list.is_empty() => {
                return Err(ProfileError::new("architectures", "it stands beside archMap; keep one of them"));
            }
            (Some(map), _) if !map.is_empty() => {
                let more =
                    |Map(machine): Map<Machine>| (machine.architecture, machine.sub_architectures.unwrap_or_default());
                Architectures::ByMachine(map.into_iter().map(more).collect())
            }
            (_, list) => Architectures::Listed(list.unwrap_or_default()),
        };
        let calls = self.syscalls.unwrap_or_default().into_iter().enumerate();
        let rules = calls.map(|(n, Map(calls))| calls.check(&format!("syscalls[{n}]"))).collect::<Result<_, _>>()?;
        Ok(Profile { default: self.default_action, default_errno, architectures, rules })
    }
}

impl Calls {
    fn check(self, at: &str) -> Result<Rule, ProfileError> {
        let errno_at = format!("{at}.errnoRet");
        let errno = errno([&errno_at, &format!("{at}.errno")], self.errno_ret, self.errno)?;
        action(&format!("{at}.action"), self.action, &errno_at, errno)?;
        let names = match (self.names.unwrap_or_default(), self.name.filter(|name| !name.is_empty())) {
            (names, None) => names,
            (names, Some(name)) if names.is_empty() => vec![name],
            _ => return Err(ProfileError::new(at, "it has both name and names; keep one of them")),
        };
        if names.is_empty() || names.iter().any(String::is_empty) {
            return Err(ProfileError::new(format!("{at}.names"), "the name of a system call is missing"));
        }
        let arguments = self.args.unwrap_or_default().into_iter().enumerate();
        Ok(Rule {
            includes: condition(self.includes, &format!("{at}.includes"))?,
            excludes: condition(self.excludes, &format!("{at}.excludes"))?,
            names,
            action: self.action,
            errno,
            arguments: arguments
                .map(|(n, Map(arg))| arg.check(&format!("{at}.args[{n}]")))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// Returns the error of a rule, which podman's profiles have as a name beside its number, or instead of it.
fn errno(
    [number_at, name_at]: [&str; 2],
    number: Option<u32>,
    name: Option<String>,
) -> Result<Option<u32>, ProfileError> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(number) };
    let named = errno::number(&name)
        .ok_or_else(|| ProfileError::new(name_at, format!("`{name}` is not the name of an error; see errno(3)")))?;
    match number {
        Some(number) if number != named => {
            let last = number_at.rsplit('.').next().unwrap_or(number_at);
            let problem = format!("`{name}` is {named}, and {last} is {number}; keep one of them");
            Err(ProfileError::new(name_at, problem))
        }
        _ => Ok(Some(named)),
    }
}

/// Refuses a flag of seccomp(2) that would change what a filter does.
fn check_flag(at: &str, flag: &str) -> Result<(), ProfileError> {
    match flag {
        // A step has one thread when it loads its filter.
        "SECCOMP_FILTER_FLAG_TSYNC" => Ok(()),
        "SECCOMP_FILTER_FLAG_LOG" | "SECCOMP_FILTER_FLAG_SPEC_ALLOW" | "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => {
            Err(ProfileError::new(at, format!("runner loads filters without {flag}; leave it out")))
        }
        other => Err(ProfileError::new(at, format!("`{other}` is not a flag of seccomp(2)"))),
    }
}

/// Checks an action with the error that a call fails with.
fn action(at: &str, action: LinuxSeccompAction, errno_at: &str, errno: Option<u32>) -> Result<(), ProfileError> {
    let has_errno = matches!(action, LinuxSeccompAction::ScmpActErrno | LinuxSeccompAction::ScmpActTrace);
    match errno {
        _ if action == LinuxSeccompAction::ScmpActNotify => {
            Err(ProfileError::new(at, "SCMP_ACT_NOTIFY needs a program that answers, and runner has none"))
        }
        Some(_) if !has_errno => {
            Err(ProfileError::new(errno_at, "only SCMP_ACT_ERRNO and SCMP_ACT_TRACE have one; leave it out"))
        }
        Some(errno) if errno > MAX_ERRNO => {
            Err(ProfileError::new(errno_at, format!("{errno} is not the number of an error; at most {MAX_ERRNO} is")))
        }
        _ => Ok(()),
    }
}

impl Argument {
    fn check(self, at: &str) -> Result<profile::Argument, ProfileError> {
        let Self { index, op, value, value_two } = self;
        if index >= ARGUMENTS {
            let problem = format!("a system call has {ARGUMENTS} arguments, counted from 0; write 0 to 5");
            return Err(ProfileError::new(format!("{at}.index"), problem));
        }
        let is_masked = op == LinuxSeccompOperator::ScmpCmpMaskedEq;
        let value_two = is_masked.then(|| value_two.unwrap_or_default());
        if value_two.is_some_and(|wanted| wanted & !value != 0) {
            let problem = "it has bits that value, the mask, has not: no argument is equal to it";
            return Err(ProfileError::new(format!("{at}.valueTwo"), problem));
        }
        Ok(profile::Argument { index, op, value, value_two })
    }
}

fn condition(filter: Option<Map<Filter>>, at: &str) -> Result<Condition, ProfileError> {
    filter.map_or_else(|| Ok(Condition::default()), |Map(filter)| filter.check(at))
}

impl Filter {
    fn check(self, at: &str) -> Result<Condition, ProfileError> {
        let mut capabilities = Vec::new();
        for (n, name) in self.caps.unwrap_or_default().into_iter().enumerate() {
            let known = name.strip_prefix("CAP_").and_then(|name| Capability::from_str(name).ok());
            let unknown = || ProfileError::new(format!("{at}.caps[{n}]"), format!("`{name}` is no capability"));
            capabilities.push(known.ok_or_else(unknown)?);
        }
        let architectures = self.arches.unwrap_or_default();
        if let Some(n) = architectures.iter().position(|name| !MACHINES.contains(&name.as_str())) {
            let problem = format!("`{}` is no architecture; write one of {}", architectures[n], MACHINES.join(", "));
            return Err(ProfileError::new(format!("{at}.arches[{n}]"), problem));
        }
        let kernel = match self.min_kernel.as_deref() {
            None | Some("") => None,
            Some(text) => {
                let number = |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<u8>().ok());
                let parts = text.split_once('.').and_then(|(one, two)| Some((number(one)??, number(two)??)));
                let Some((version, revision)) = parts else {
                    let problem = format!("`{text}` is no version of a kernel; write one such as 4.8");
                    return Err(ProfileError::new(format!("{at}.minKernel"), problem));
                };
                Some(Kernel { version: version.into(), revision: revision.into() })
            }
        };
        Ok(Condition { capabilities, architectures, kernel })
    }
}
