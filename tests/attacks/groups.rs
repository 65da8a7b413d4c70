//! Groups that attacks make on the host: one for a victim, one with limits for runner, one in which limits are enforced.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::attack::{Failure, not_tried, safe, tried};
use crate::lab::{Lab, Project};
use crate::leftovers::{hierarchies, remove_group};

/// A group in each hierarchy of the host, with a process in it.
pub struct Groups {
    pub name: String,
    pub process: Child,
    paths: Vec<PathBuf>,
}

impl Groups {
    pub fn make(name: String) -> Self {
        let process = Command::new("sleep").arg("86396").stdin(Stdio::null()).spawn().unwrap();
        let paths: Vec<_> = hierarchies().into_iter().map(|hierarchy| hierarchy.join(&name)).collect();
        for path in &paths {
            fs::create_dir_all(path).unwrap();
            let below = path.with_file_name("cgroup.subtree_control");
            for controller in ["+memory", "+pids", "+cpu"] {
                // Those of v1 are in hierarchies of their own.
                let _ = below.exists().then(|| fs::write(&below, controller));
            }
            // A group of cpuset takes no process until it has processors.
            let _ = fs::write(path.join("cgroup.procs"), process.id().to_string());
        }
        Self { name, process, paths }
    }

    /// Sets a limit, by its file in v1 or v2; returns whether there is such a file.
    pub fn limit(&self, names: [&str; 2], value: &str) -> bool {
        let files = self.paths.iter().flat_map(|path| names.map(|name| path.join(name)));
        files.filter(|file| file.exists()).any(|file| fs::write(file, value).is_ok())
    }

    /// Returns runner with these arguments, started in these groups.
    pub fn command(&self, project: &Project, arguments: &[&str]) -> Command {
        let join = self.paths.iter().map(|path| format!("echo $$ > {}/cgroup.procs 2> /dev/null; ", path.display()));
        project.command_in_bash(&format!("{} exec \"$@\"", join.collect::<String>()), arguments)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        for path in &self.paths {
            remove_group(path);
        }
    }
}

/// The group in which runner is started so that the limits of its containers are enforced.
pub struct Home(Option<Groups>);

impl Home {
    /// Returns runner with these arguments, started there.
    pub fn command(&self, project: &Project, arguments: &[&str]) -> Command {
        self.0.as_ref().map_or_else(|| project.command(arguments), |groups| groups.command(project, arguments))
    }
}

/// Returns the group of this suite, if the limits of the container `c` are enforced there. A group that is not delegated may lack
/// a controller, and runner moves no process in it for a default: the plan must say which limit is not enforced and what would
/// enforce it, and `apply` must build nothing without a limit of the manifest. They are enforced then in a group that is
/// delegated.
pub fn limits_home(lab: &Lab, project: &Project) -> Result<Home, Failure> {
    let plan = project.runner(&["plan", "--json"])?;
    let limits: Value = serde_json::from_str(&plan.stdout).map_err(|_| not_tried(plan.to_string()))?;
    let limits = limits["limits"]["c"].as_object().ok_or_else(|| not_tried(plan.to_string()))?;
    let lost: Vec<_> = limits.iter().filter(|(_, limit)| limit["holds"] != true).collect();
    if lost.is_empty() {
        return Ok(Home(None));
    }
    let words = project.runner(&["plan"])?.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for (key, limit) in &lost {
        let said = words.contains(&format!("{key} ")) && words.contains("is not enforced: ");
        safe(said, format!("`{key}` does not hold, and the plan does not say so: {words}"))?;
        if limit["default"] != true {
            let build = project.apply(&[])?;
            let refused = build.code == 3 && build.to_string().contains("systemd-run --scope -p Delegate=yes");
            safe(refused, format!("`{key}` does not hold, and runner builds, or does not say how it would: {build}"))?;
        }
    }
    let groups = delegated(lab)?;
    let plan = project.run(groups.command(project, &["plan", "--json"]))?;
    let are_enforced = serde_json::from_str::<Value>(&plan.stdout).is_ok_and(|plan| {
        let limits = plan["limits"]["c"].as_object();
        limits.is_some_and(|limits| limits.values().all(|limit| limit["holds"] == true))
    });
    tried(are_enforced, format!("this host has no controllers for all limits: {plan}"))?;
    Ok(Home(Some(groups)))
}

/// Returns a group of v2 as systemd makes one with `Delegate=yes`.
fn delegated(lab: &Lab) -> Result<Groups, Failure> {
    let groups = Groups::make(format!("attack-delegated-{}", lab.tag()));
    for path in &groups.paths {
        let marked = Command::new("setfattr").args(["-n", "trusted.delegate", "-v", "1"]).arg(path).status();
        tried(marked.is_ok_and(|status| status.success()), format!("setfattr on {}", path.display()))?;
    }
    Ok(groups)
}
