//! Compiles the seccomp filter of a container's steps, once for a set of rules, and says when a step can load it.

use std::io;
use std::sync::Mutex;

use oci_spec::runtime::{LinuxSeccomp, Spec};

use crate::poison::lock;
use crate::seccomp::{
    Architecture, SETUP_CALLS, STEP_CALLS, Split, StepCallError, always_allows, compile, compile_split, may_allow,
    number, starts_steps,
};

/// A compiled filter in the kernel's form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The part that init loads and all its descendants inherit: for the calls that are not used to set a step up. Each instruction
    /// has eight bytes; empty for a container without a filter.
    pub inherited: Vec<u8>,
    /// The part that each step loads; empty where it would permit everything.
    pub own: Vec<u8>,
    /// Whether the filter permits all calls that turn a preforked process into a step: then that process loads its part before a
    /// request arrives.
    pub is_loaded_first: bool,
    /// Whether the filter permits mount(2): a step that mounts reaches more than its root.
    pub mounts: bool,
    /// Whether the filter permits a step to make a user and a mount namespace, in which it may unmount.
    pub namespaces: bool,
    /// The calls that turn a preforked process into a step, and that the filter does not permit with all their arguments.
    pub refused: Vec<&'static str>,
}

/// The filters compiled so far: most containers of a build have the same rules.
static COMPILED: Mutex<Vec<(LinuxSeccomp, Filter)>> = Mutex::new(Vec::new());

/// Returns the filter that config.json requests.
///
/// # Errors
/// Where its rules exceed the kernel's limits, or are for another machine.
pub fn of(spec: &Spec) -> io::Result<Filter> {
    let rules = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    rules.map_or_else(|| Ok(Filter::default()), compiled)
}

/// Returns the filter of these rules, which is compiled once; another caller waits meanwhile.
///
/// # Errors
/// Those of [`of`].
pub fn compiled(rules: &LinuxSeccomp) -> io::Result<Filter> {
    let mut compiled = lock(&COMPILED);
    if let Some((_, filter)) = compiled.iter().find(|(other, _)| other == rules) {
        return Ok(filter.clone());
    }
    let program = compile(rules).map_err(io::Error::other)?;
    let native = Architecture::native().ok_or_else(|| io::Error::other("no seccomp filter for this machine"))?;
    let cannot = |error: StepCallError| io::Error::other(format!("the seccomp profile cannot be used: {error}"));
    starts_steps(&program, native).map_err(cannot)?;
    let refused = refused(&program, native);
    let Split { others, split } = compile_split(rules, native, &SETUP_CALLS).map_err(io::Error::other)?;
    let filter = Filter {
        is_loaded_first: refused.is_empty(),
        mounts: number(native, "mount").is_some_and(|mount| may_allow(&program, native, mount)),
        namespaces: makes_namespaces(&program, native),
        refused,
        inherited: bytes(&others),
        own: bytes(split.as_deref().unwrap_or_default()),
    };
    compiled.push((rules.clone(), filter.clone()));
    Ok(filter)
}

fn bytes(program: &[u64]) -> Vec<u8> {
    program.iter().flat_map(|instruction| instruction.to_le_bytes()).collect()
}

/// Returns whether a step with this filter can get a mount namespace of its own: a filter can check the flags of clone(2), but
/// not those of clone3(2), which lie in memory.
fn makes_namespaces(program: &[u64], native: Architecture) -> bool {
    const FLAGS: u64 = (libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::SIGCHLD) as u64;
    let may = |name: &str| number(native, name).is_some_and(|number| may_allow(program, native, number));
    let clones = number(native, "clone").is_some_and(|number| always_allows(program, native, number, &[(0, FLAGS)]));
    may("unshare") || may("clone3") || may("setns") || clones
}

fn refused(program: &[u64], native: Architecture) -> Vec<&'static str> {
    let is_refused = |name: &str, known: &[(u8, u64)]| {
        // A call that this architecture does not have is never made.
        number(native, name).is_some_and(|number| !always_allows(program, native, number, known))
    };
    let mut names: Vec<_> =
        STEP_CALLS.iter().filter(|(name, known)| is_refused(name, known)).map(|(name, _)| *name).collect();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{LinuxBuilder, SpecBuilder};

    use super::*;
    use crate::seccomp::{Kernel, Profile};

    fn filter(profile: &Profile) -> Filter {
        let native = Architecture::native().unwrap();
        let kernel = Kernel::of_release("6.1.0").unwrap();
        let rules = profile.resolve(&[], native, kernel).unwrap();
        let linux = LinuxBuilder::default().seccomp(rules).build().unwrap();
        of(&SpecBuilder::default().linux(linux).build().unwrap()).unwrap()
    }

    #[test]
    fn the_default_profile_is_loaded_before_a_request_arrives() {
        let filter = filter(Profile::standard());
        assert!(!filter.mounts && !filter.namespaces);
        assert!(filter.is_loaded_first && filter.inherited.len() > 800 && !filter.own.is_empty());
        assert!(filter.inherited.len().is_multiple_of(8) && filter.own.len().is_multiple_of(8));
    }

    #[test]
    fn a_profile_that_refuses_calls_that_start_a_step_is_loaded_last() {
        for (call, first) in [("setresuid", false), ("prctl", false), ("keyctl", true)] {
            let text = format!(
                r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["{call}"],"action":"SCMP_ACT_ERRNO"}}]}}"#
            );
            assert_eq!(filter(&Profile::parse(text.as_bytes()).unwrap()).is_loaded_first, first, "{call}");
        }
    }

    #[test]
    fn a_profile_that_refuses_a_call_with_some_arguments_is_loaded_last_and_names_the_call() {
        for (call, index, value) in [("sendmsg", 0, 3), ("write", 0, 1), ("execve", 2, 0), ("prctl", 1, 7)] {
            let text = format!(
                r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["{call}"],"action":"SCMP_ACT_ERRNO",
                "args":[{{"index":{index},"value":{value},"op":"SCMP_CMP_EQ"}}]}}]}}"#
            );
            let filter = filter(&Profile::parse(text.as_bytes()).unwrap());
            assert_eq!((filter.is_loaded_first, filter.refused.as_slice()), (false, &[call][..]));
        }
        // The operations of prctl(2) that no preforked process uses.
        let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["prctl"],"action":"SCMP_ACT_ERRNO",
            "args":[{"index":0,"value":22,"op":"SCMP_CMP_EQ"}]}]}"#;
        assert!(filter(&Profile::parse(text.as_bytes()).unwrap()).is_loaded_first);
    }

    #[test]
    fn a_profile_that_permits_any_call_that_makes_namespaces_permits_namespaces() {
        let calls = ["clone", "clone3", "setns", "unshare"];
        let all = |names: &[&str]| {
            let names = names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(",");
            let text = format!(
                r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":[{names}],"action":"SCMP_ACT_ERRNO"}}]}}"#
            );
            filter(&Profile::parse(text.as_bytes()).unwrap()).namespaces
        };
        assert!(!all(&calls));
        for call in calls {
            let others: Vec<&str> = calls.into_iter().filter(|other| *other != call).collect();
            assert!(all(&others), "{call}");
        }
    }

    #[test]
    fn a_profile_that_refuses_execve_is_refused() {
        let profile = Profile::parse(br#"{"defaultAction":"SCMP_ACT_ERRNO"}"#).unwrap();
        let native = Architecture::native().unwrap();
        let rules = profile.resolve(&[], native, Kernel::of_release("6.1.0").unwrap()).unwrap();
        let linux = LinuxBuilder::default().seccomp(rules).build().unwrap();
        let error = of(&SpecBuilder::default().linux(linux).build().unwrap()).unwrap_err();
        assert!(error.to_string().contains("refuses `execve`"), "{error}");
    }

    #[test]
    fn a_profile_that_fakes_success_of_a_call_that_sets_a_step_up_is_refused() {
        for (call, code, is_right) in [("setresuid", 0, false), ("setresuid", 1, true), ("mount", 0, true)] {
            let rule = format!(r#"{{"names":["{call}"],"action":"SCMP_ACT_ERRNO","errnoRet":{code}}}"#);
            let text = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#);
            let profile = Profile::parse(text.as_bytes()).unwrap();
            let native = Architecture::native().unwrap();
            let rules = profile.resolve(&[], native, Kernel::of_release("6.1.0").unwrap()).unwrap();
            let filter = compiled(&rules);
            assert_eq!(filter.is_ok(), is_right, "{call} {code}: {filter:?}");
        }
    }

    #[test]
    fn a_container_without_rules_has_no_filter() {
        let linux = LinuxBuilder::default().build().unwrap();
        assert_eq!(of(&SpecBuilder::default().linux(linux).build().unwrap()).unwrap(), Filter::default());
    }
}
