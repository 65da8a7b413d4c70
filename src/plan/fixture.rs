//! Builds for the tests of the plan.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;

use crate::model::{
    Action, Build, Checkpointing, Container, ContainerId, Limits, Network, Principal, Role, Rootfs, Scratch, Seccomp,
    Step, StepId, User,
};

/// Returns a build of `run: true` steps, each with its name, container and needs.
pub(crate) fn build(steps: &[(&str, usize, &[usize])]) -> Build {
    let containers = steps.iter().map(|(_, container, _)| container + 1).max().unwrap_or(0);
    Build {
        name: "test".into(),
        manifest: PathBuf::from("/work/build.yaml"),
        project: PathBuf::from("/work/build.yaml"),
        directory: PathBuf::from("/work"),
        source_date_epoch: None,
        containers: (0..containers).map(container).collect(),
        steps: steps
            .iter()
            .map(|(name, container, needs)| step(name, *container, needs.iter().copied().map(StepId).collect()))
            .collect(),
        absent_secrets: Vec::new(),
    }
}

/// Generates a build without cycles whose steps are in any order, and some of its steps.
pub(crate) fn any_build() -> impl Strategy<Value = (Build, Vec<StepId>)> {
    let steps = (1..40usize).prop_flat_map(|count| {
        let rank = Just((0..count).collect::<Vec<_>>()).prop_shuffle();
        let needs = prop::collection::vec(prop::collection::vec(0..count, 0..4), count);
        let containers = prop::collection::vec(0..4usize, count);
        let targets = prop::collection::vec((0..count).prop_map(StepId), 0..4);
        (rank, needs, containers, targets)
    });
    steps.prop_map(|(rank, needs, containers, targets)| {
        let mut build = build(&[]);
        build.containers = (0..4).map(container).collect();
        for (id, wanted) in needs.into_iter().enumerate() {
            // Edges lead only from a lower rank to a higher one, so there is no cycle.
            let mut needs: Vec<StepId> = wanted.into_iter().filter(|n| rank[*n] < rank[id]).map(StepId).collect();
            needs.sort();
            needs.dedup();
            build.steps.push(step(&format!("s{id}"), containers[id], needs));
        }
        (build, targets)
    })
}

fn container(id: usize) -> Container {
    Container {
        name: format!("c{id}"),
        rootfs: Rootfs::Scratch,
        hostname: format!("c{id}"),
        read_only: false,
        network: Network::None,
        user: User { user: Principal::Id(0), group: None },
        cwd: PathBuf::from("/"),
        env: BTreeMap::new(),
        capabilities: Vec::new(),
        no_new_privileges: true,
        seccomp: Seccomp::Default,
        mounts: Vec::new(),
        devices: Vec::new(),
        limits: Limits { nofile: None, memory: None, millicpus: None, pids: None },
        scratch: Scratch::Disk,
        unmask: Default::default(),
        shell: None,
        has_scripts: false,
        init: false,
        xino: true,
        checkpoint: Checkpointing::Off,
        variant_of: None,
    }
}

fn step(name: &str, container: usize, needs: Vec<StepId>) -> Step {
    Step {
        name: name.into(),
        container: ContainerId(container),
        action: Action::Run("true".into()),
        needs,
        env: BTreeMap::new(),
        cwd: None,
        user: None,
        shell: None,
        timeout: None,
        grace: Step::DEFAULT_GRACE,
        retries: 0,
        always: false,
        cache: false,
        role: Role::Build,
        settings: None,
    }
}
