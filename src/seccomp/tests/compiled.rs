//! Compares a compiled filter's answer with that of its rules, evaluated one by one.

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompBuilder,
    LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};
use proptest::prelude::*;

use super::standard;
use crate::seccomp::assembler::{Instruction, code};
use crate::seccomp::numbers::{X32_BIT, table};
use crate::seccomp::{
    Action, Architecture, CompileError, MAX_INSTRUCTIONS, SETUP_CALLS, Split, compile, compile_split, interpreter,
    number, status,
};

const ACTIONS: [LinuxSeccompAction; 8] = [
    LinuxSeccompAction::ScmpActAllow,
    LinuxSeccompAction::ScmpActErrno,
    LinuxSeccompAction::ScmpActKill,
    LinuxSeccompAction::ScmpActKillProcess,
    LinuxSeccompAction::ScmpActKillThread,
    LinuxSeccompAction::ScmpActLog,
    LinuxSeccompAction::ScmpActTrace,
    LinuxSeccompAction::ScmpActTrap,
];

const OPERATORS: [LinuxSeccompOperator; 7] = [
    LinuxSeccompOperator::ScmpCmpEq,
    LinuxSeccompOperator::ScmpCmpGe,
    LinuxSeccompOperator::ScmpCmpGt,
    LinuxSeccompOperator::ScmpCmpLe,
    LinuxSeccompOperator::ScmpCmpLt,
    LinuxSeccompOperator::ScmpCmpMaskedEq,
    LinuxSeccompOperator::ScmpCmpNe,
];

/// Calls of all kinds: low, high, of x32 alone, of arm alone, through socketcall(2), on no architecture.
const NAMES: [&str; 20] = [
    "read",
    "write",
    "open",
    "close",
    "stat",
    "socket",
    "bind",
    "socketcall",
    "ipc",
    "semget",
    "shmat",
    "clone",
    "clone3",
    "execve",
    "ioctl",
    "file_getattr",
    "futex_waitv",
    "set_tls",
    "pwritev2",
    "no_such_call",
];

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Action {
    let errno = errno.unwrap_or(1) as u16;
    match action {
        LinuxSeccompAction::ScmpActAllow => Action::Allow,
        LinuxSeccompAction::ScmpActErrno => Action::Errno(errno),
        LinuxSeccompAction::ScmpActKillProcess => Action::KillProcess,
        LinuxSeccompAction::ScmpActLog => Action::Log,
        LinuxSeccompAction::ScmpActTrace => Action::Trace(errno),
        LinuxSeccompAction::ScmpActTrap => Action::Trap,
        _ => Action::KillThread,
    }
}

fn is_true(argument: &LinuxSeccompArg, of: Architecture, arguments: &[u64; 6]) -> bool {
    let is_narrow = matches!(of, Architecture::X86 | Architecture::X32 | Architecture::Arm);
    let cut = |value: u64| if is_narrow { value & 0xffff_ffff } else { value };
    let (got, value) = (cut(arguments[argument.index()]), cut(argument.value()));
    match argument.op() {
        LinuxSeccompOperator::ScmpCmpEq => got == value,
        LinuxSeccompOperator::ScmpCmpNe => got != value,
        LinuxSeccompOperator::ScmpCmpLt => got < value,
        LinuxSeccompOperator::ScmpCmpLe => got <= value,
        LinuxSeccompOperator::ScmpCmpGe => got >= value,
        LinuxSeccompOperator::ScmpCmpGt => got > value,
        LinuxSeccompOperator::ScmpCmpMaskedEq => got & value == cut(argument.value_two().unwrap()),
    }
}

fn rule_is_true(rule: &LinuxSyscall, of: Architecture, arguments: &[u64; 6], but_the_first: bool) -> bool {
    let all = rule.args().as_deref().unwrap_or_default();
    let mut indices: Vec<usize> = all.iter().map(LinuxSeccompArg::index).collect();
    indices.sort_unstable();
    let is_doubled = indices.windows(2).any(|two| two[0] == two[1]);
    let is_true =
        |argument: &LinuxSeccompArg| but_the_first && argument.index() == 0 || is_true(argument, of, arguments);
    if is_doubled { all.iter().any(is_true) } else { all.iter().all(is_true) }
}

/// Returns the answer by the rules as `seccomp/mod.rs` describes them.
fn expected(filter: &LinuxSeccomp, of: Architecture, called: u32, arguments: &[u64; 6]) -> Action {
    // The number alone distinguishes x32 and x86-64.
    let of = match of {
        Architecture::X86_64 | Architecture::X32 if called == u32::MAX || called < X32_BIT => Architecture::X86_64,
        Architecture::X86_64 | Architecture::X32 => Architecture::X32,
        other => other,
    };
    if !filter.architectures().as_ref().unwrap().contains(&of.oci()) {
        return Action::KillProcess;
    }
    let default = action(filter.default_action(), filter.default_errno_ret());
    let rules: Vec<&LinuxSyscall> =
        filter.syscalls().iter().flatten().filter(|rule| action(rule.action(), rule.errno_ret()) != default).collect();
    let has_arguments = |rule: &LinuxSyscall| rule.args().as_ref().is_some_and(|args| !args.is_empty());
    let is_named = |rule: &LinuxSyscall| rule.names().iter().any(|name| number(of, name) == Some(called));
    let answer = |rule: &&LinuxSyscall| action(rule.action(), rule.errno_ret());
    if let Some(rule) = rules.iter().find(|rule| is_named(rule) && !has_arguments(rule)) {
        return answer(rule);
    }
    let through = |rule: &LinuxSyscall, name: &str, way: &str, value: u64, mask: u64| {
        of == Architecture::X86
            && number(of, way) == Some(called)
            && rule.names().iter().any(|named| named == name)
            && arguments[0] & mask & 0xffff_ffff == value
            && rule_is_true(rule, of, arguments, true)
    };
    for rule in &rules {
        let is_way = through(rule, "socket", "socketcall", 1, u64::MAX)
            || through(rule, "bind", "socketcall", 2, u64::MAX)
            || through(rule, "semget", "ipc", 2, 0xffff)
            || through(rule, "shmat", "ipc", 21, 0xffff);
        if is_way || is_named(rule) && rule_is_true(rule, of, arguments, false) {
            return answer(rule);
        }
    }
    let apart = |number: u32| match of {
        Architecture::X32 => (512..548).contains(&(number & !X32_BIT)),
        Architecture::Arm => number >= 0xf0001,
        _ => false,
    };
    let named = filter.syscalls().iter().flatten().flat_map(LinuxSyscall::names);
    let newest = named.filter_map(|name| number(of, name)).filter(|number| !apart(*number)).max();
    let lets_through = matches!(default, Action::Allow | Action::Log | Action::Trace(_));
    match newest {
        Some(newest) if called > newest && !apart(called) && !lets_through => Action::Errno(38),
        _ => default,
    }
}

/// Generates values near the limits of comparisons of halves.
fn any_value() -> impl Strategy<Value = u64> {
    let half = || prop_oneof![Just(0_u32), Just(1), Just(2), Just(0xffff_ffff), Just(0x8000_0000), 0..30_u32];
    (half(), half()).prop_map(|(high, low)| u64::from(high) << 32 | u64::from(low))
}

fn any_argument() -> impl Strategy<Value = LinuxSeccompArg> {
    (0..6_usize, any_value(), any_value(), prop::sample::select(&OPERATORS[..])).prop_map(|(index, value, two, op)| {
        let builder = LinuxSeccompArgBuilder::default().index(index).value(value).op(op);
        let is_masked = op == LinuxSeccompOperator::ScmpCmpMaskedEq;
        if is_masked { builder.value_two(two) } else { builder }.build().unwrap()
    })
}

fn any_rule() -> impl Strategy<Value = LinuxSyscall> {
    let names = prop::collection::vec(prop::sample::select(&NAMES[..]).prop_map(String::from), 1..4);
    let arguments = prop::option::of(prop::collection::vec(any_argument(), 0..4));
    (names, prop::sample::select(&ACTIONS[..]), prop::option::of(0..4095_u32), arguments).prop_map(
        |(names, action, errno, arguments)| {
            let mut builder = LinuxSyscallBuilder::default().names(names).action(action);
            if let Some(errno) = errno {
                builder = builder.errno_ret(errno);
            }
            if let Some(arguments) = arguments {
                builder = builder.args(arguments);
            }
            builder.build().unwrap()
        },
    )
}

fn any_filter() -> impl Strategy<Value = LinuxSeccomp> {
    let architectures = prop::sample::subsequence(Architecture::ALL.to_vec(), 1..=5);
    let rules = prop::collection::vec(any_rule(), 0..20);
    (architectures, rules, prop::sample::select(&ACTIONS[..]), prop::option::of(0..100_u32)).prop_map(
        |(architectures, rules, action, errno)| {
            let mut list: Vec<Arch> = architectures.into_iter().map(Architecture::oci).collect();
            list.push(Arch::ScmpArchS390x);
            let builder = LinuxSeccompBuilder::default().default_action(action).architectures(list).syscalls(rules);
            match errno {
                Some(errno) => builder.default_errno_ret(errno).build().unwrap(),
                None => builder.build().unwrap(),
            }
        },
    )
}

/// Generates a call that the rules name, or one next to it.
fn any_call() -> impl Strategy<Value = (Architecture, u32)> {
    let of = prop::sample::select(&Architecture::ALL[..]);
    let near = (of.clone(), prop::sample::select(&NAMES[..]), -1..=1_i32)
        .prop_map(|(of, name, by)| (of, number(of, name).unwrap_or(1000).wrapping_add_signed(by)));
    let any = (of, prop_oneof![any::<u32>(), 0..600_u32, (0..600_u32).prop_map(|n| n | X32_BIT), Just(u32::MAX)]);
    prop_oneof![near, any]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn a_compiled_filter_answers_as_its_rules_say(
        filter in any_filter(),
        calls in prop::collection::vec((any_call(), prop::array::uniform6(any_value())), 20),
    ) {
        let program = compile(&filter).unwrap();
        for ((of, called), arguments) in calls {
            let got = status(&program, of, called, &arguments);
            prop_assert_eq!(got, expected(&filter, of, called, &arguments), "{:?} {} {:?}", of, called, arguments);
        }
    }

    #[test]
    fn a_split_filter_answers_as_the_whole_one_and_one_part_allows_the_call(
        filter in any_filter(),
        split in prop::collection::vec(prop::sample::select(&NAMES[..]), 0..8),
        calls in prop::collection::vec((any_call(), prop::array::uniform6(any_value())), 20),
    ) {
        let both = compile_split(&filter, Architecture::X86_64, &split).unwrap();
        for ((of, called), arguments) in calls {
            let others = status(&both.others, of, called, &arguments);
            let split = both.split.as_ref().map_or(Action::Allow, |program| status(program, of, called, &arguments));
            let expected = expected(&filter, of, called, &arguments);
            prop_assert!(
                (others, split) == (expected, Action::Allow) || (others, split) == (Action::Allow, expected)
                    // Neither program is for that architecture.
                    || (others, split) == (Action::KillProcess, Action::KillProcess) && expected == others,
                "{:?} {} {:?}: {:?} {:?} {:?}", of, called, arguments, others, split, expected,
            );
        }
    }

    #[test]
    fn the_interpreter_ends_on_any_program(program in prop::collection::vec(any::<u64>(), 0..50)) {
        status(&program, Architecture::X86_64, 0, &[0; 6]);
    }
}

#[test]
fn the_default_filter_answers_every_number_of_a_call_as_its_rules_say() {
    let filter = standard(&[]);
    let program = compile(&filter).unwrap();
    let values = [0, 8, 39, 40, 1 << 32 | 40, 0x1000_0000];
    for of in Architecture::ALL {
        let bit = if of == Architecture::X32 { X32_BIT } else { 0 };
        for called in (0..560).map(|number| number | bit) {
            for value in values {
                let arguments = [value, 0, 0, 0, 0, 0];
                let got = status(&program, of, called, &arguments);
                assert_eq!(got, expected(&filter, of, called, &arguments), "{of:?} {called} {value}");
            }
        }
    }
}

#[test]
fn each_step_loads_a_small_part_of_the_default_filter() {
    let both = compile_split(&standard(&[]), Architecture::X86_64, &SETUP_CALLS).unwrap();
    let own = both.split.unwrap();
    assert!(own.len() < 60 && both.others.len() > 250, "{} {}", own.len(), both.others.len());
    let answer = |program: &[u64], name| {
        status(program, Architecture::X86_64, number(Architecture::X86_64, name).unwrap(), &[0; 6])
    };
    assert_eq!([answer(&both.others, "fsopen"), answer(&own, "fsopen")], [Action::Allow, Action::Errno(1)]);
    assert_eq!([answer(&both.others, "bpf"), answer(&own, "bpf")], [Action::Errno(1), Action::Allow]);
    let open = LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActAllow)
        .architectures([Arch::ScmpArchX86_64])
        .build()
        .unwrap();
    let Split { split, .. } = compile_split(&open, Architecture::X86_64, &SETUP_CALLS).unwrap();
    assert_eq!(split, None);
}

#[test]
fn the_default_filter_is_short_and_costs_a_call_few_instructions() {
    let program = compile(&standard(&[])).unwrap();
    assert!(program.len() < 330, "{}", program.len());
    for number in table(Architecture::X86_64).values() {
        let mut input = [0; 16];
        (input[0], input[1]) = (*number, Architecture::X86_64.audit());
        let (_, steps) = interpreter::run(&program, &input).unwrap();
        assert!(steps <= 24, "{number}: {steps}");
    }
}

#[test]
fn jumps_over_255_instructions_reach_their_target() {
    // Each with arguments of its own, so that no two answers are one.
    let rule = |n: usize, (name, _): (&&'static str, &u32)| {
        let argument = |index: usize| LinuxSeccompArgBuilder::default().index(index).value(n as u64).build().unwrap();
        let arguments = (0..2).map(argument).collect::<Vec<_>>();
        let builder = LinuxSyscallBuilder::default().names(vec![(*name).to_owned()]).args(arguments);
        builder.action(LinuxSeccompAction::ScmpActErrno).errno_ret(n as u32 % 4000).build().unwrap()
    };
    let calls = table(Architecture::X86_64);
    let rules: Vec<LinuxSyscall> = calls.iter().enumerate().map(|(n, call)| rule(n, call)).collect();
    let builder = LinuxSeccompBuilder::default().default_action(LinuxSeccompAction::ScmpActAllow);
    let filter = builder.architectures(vec![Arch::ScmpArchX86_64]).syscalls(rules.clone()).build().unwrap();
    let program = compile(&filter).unwrap();
    assert!(program.len() > 2000 && program.len() <= MAX_INSTRUCTIONS, "{}", program.len());
    assert!(program.iter().any(|packed| Instruction::unpack(*packed).code == code::JUMP));
    for (n, number) in calls.values().enumerate() {
        let of = |value: u64| status(&program, Architecture::X86_64, *number, &[value, value, 0, 0, 0, 0]);
        assert_eq!((of(n as u64), of(n as u64 + 1)), (Action::Errno(n as u16 % 4000), Action::Allow));
    }
    let both = [Arch::ScmpArchX86_64, Arch::ScmpArchX86];
    let builder = LinuxSeccompBuilder::default().default_action(LinuxSeccompAction::ScmpActAllow);
    let filter = builder.architectures(both.to_vec()).syscalls(rules).build().unwrap();
    assert!(matches!(compile(&filter), Err(CompileError::TooLong(_))));
}

#[test]
fn instructions_are_packed_in_the_kernels_layout() {
    let packed = Instruction { code: 0x0615, yes: 2, no: 3, constant: 0x0a0b_0c0d }.pack();
    assert_eq!(packed.to_le_bytes(), [0x15, 0x06, 2, 3, 0x0d, 0x0c, 0x0b, 0x0a]);
}

#[test]
fn invalid_filters_are_refused() {
    let base = || LinuxSeccompBuilder::default().default_action(LinuxSeccompAction::ScmpActErrno);
    let with = |rule: LinuxSyscall| base().architectures(vec![Arch::ScmpArchArm]).syscalls(vec![rule]).build().unwrap();
    let rule = || LinuxSyscallBuilder::default().names(vec!["read".to_owned()]);
    let argument = LinuxSeccompArgBuilder::default().index(6_usize).build().unwrap();
    let refused = [
        (base().build().unwrap(), CompileError::Architecture),
        (base().architectures(vec![Arch::ScmpArchS390]).build().unwrap(), CompileError::Architecture),
        (with(rule().action(LinuxSeccompAction::ScmpActNotify).build().unwrap()), CompileError::Notify),
        (with(rule().args(vec![argument]).build().unwrap()), CompileError::Argument(6)),
        (
            with(rule().action(LinuxSeccompAction::ScmpActErrno).errno_ret(65536_u32).build().unwrap()),
            CompileError::Errno(65536),
        ),
    ];
    for (filter, error) in refused {
        assert_eq!(compile(&filter), Err(error));
    }
}
